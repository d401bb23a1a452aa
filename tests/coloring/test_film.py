import errno
import os
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from fake_films import SOUND_RATE, photograph, write_film
from PIL import Image

from tinct.coloring.files import colorize
from tinct.coloring.film import OPTIONS, colorize_film, frame_count
from tinct.coloring.film_sound import decoded
from tinct.colorize import Colorizer
from tinct.errors import PictureError, TinctError
from tinct.pictures.render import lightness


class Network(torch.nn.Module):
    """Reddish, by another amount for each frame that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0

    def forward(self, l: torch.Tensor) -> torch.Tensor:
        ab = torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)
        for one in ab:
            one[0] = 20 + 10 * (self.shown % 2)
            self.shown += 1
        return ab


@pytest.fixture
def colorizer() -> Colorizer:
    return Colorizer(Network(), 64, "fake", "cpu")


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(path) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def levels(path: Path, low: int, high: int) -> np.ndarray:
    """The samples of a film's first frame, (H, W) luma between its black and white, as shares of 255."""
    with av.open(path) as film:
        frame = next(film.decode(video=0))
        plane = frame.planes[0]
        luma = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : frame.width]
    return (luma.astype(float) - low) / (high - low) * 255


def redness(pixels: np.ndarray) -> float:
    return float((pixels[..., 0].astype(float) - pixels[..., 1]).mean())


def packets(path: Path) -> list[bytes]:
    with av.open(path) as film:
        return [bytes(packet) for packet in film.demux(audio=0) if packet.size]


@pytest.mark.parametrize(("codec", "layout"), [("ffv1", "yuv420p"), ("libx265", "gray"), ("mpeg4", "yuv420p")])
def test_lightness_comes_through_without_a_bias(tmp_path, codec, layout):
    grey = Colorizer(lambda l: torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4), 64, "grey", "cpu")
    ramp = np.tile(np.linspace(0, 255, 256).round().astype(np.uint8), (64, 1))
    source = write_film(tmp_path / "old.mkv", [ramp] * 2, codec=codec, sound=None, layout=layout, of_video=True)
    colorize_film(source, tmp_path / "new.mp4", grey)
    off = levels(tmp_path / "new.mp4", 16, 235) - levels(source, 16, 235)
    assert abs(off.mean()) < 0.15
    assert np.abs(off).max() < 3


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_frames_sound_times_and_lightness_are_kept(tmp_path, colorizer, ending):
    times = [0, 100, 200, 250, 300, 500, 700, 701, 702, 1000]  # milliseconds: no steady rate
    still = photograph()
    source = write_film(tmp_path / "old.mkv", [still] * 10, codec="ffv1", times=times, lasting=1000)
    result = tmp_path / f"new.{ending}"
    ticks = []
    assert colorize_film(source, result, colorizer, batch_size=4, after_frame=lambda: ticks.append(1)) == (10, 0)
    assert len(ticks) == 10
    with av.open(result) as film:
        assert {key.lower(): value for key, value in film.metadata.items()}["title"] == "Arrival"
        context = film.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == ("h264", "yuv420p", 1, 1)
        frames = list(film.decode(video=0))
    assert [round(1000 * frame.time) for frame in frames] == times
    assert packets(result) == packets(source)
    for pixels in pictures(result):
        assert redness(pixels) > 20
        assert np.abs(lightness(pixels) - lightness(still)).mean() < 1.5


def end_of(path: Path) -> float:
    """When a film ends in seconds, by its header; of MP4, FFmpeg adds up the steps between decoding times instead."""
    header = path.read_bytes().partition(b"mvhd")[2]
    if header:
        clock, duration = struct.unpack_from(">2I", header, 12)
        return duration / clock
    with av.open(path) as film:
        return film.duration / 1_000_000


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_film_of_varying_rate_ends_when_it_did(tmp_path, colorizer, ending, codec):
    times = [0, 33, 66, 100, 700, 733, 1900, 2000, 2033]
    source = write_film(tmp_path / "old.mp4", [photograph()] * 9, codec=codec, times=times, lasting=1000, sound=None)
    assert end_of(source) == pytest.approx(2.034, abs=0.002)
    result = tmp_path / f"new.{ending}"
    colorize_film(source, result, colorizer)
    assert end_of(result) == pytest.approx(2.034, abs=0.002)
    with av.open(result) as film:
        assert [round(1000 * frame.time) for frame in film.decode(video=0)] == times


def test_other_kinds_become_mp4_and_their_sound_aac(tmp_path, colorizer, monkeypatch):
    write_film(tmp_path / "old.avi", [photograph()] * 12, sound="pcm_s16le")
    write_film(tmp_path / "web.webm", [photograph()] * 12, codec="libvpx-vp9", sound="libopus")
    monkeypatch.setattr(Colorizer, "load", lambda model, device: colorizer)
    assert colorize([str(tmp_path)], out=tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["old.mp4", "web.mp4"]
    for name in ("old", "web"):
        with av.open(tmp_path / "out" / f"{name}.mp4") as film:
            assert film.streams.audio[0].codec_context.name == "aac"
            assert float(film.duration / 1e6) == pytest.approx(1, abs=0.1)
            loudness = [np.abs(frame.to_ndarray().astype(float)).max() for frame in film.decode(audio=0)]
        assert np.median(loudness) == pytest.approx(8000 / 32768, rel=0.1)


def spans(path: Path) -> list[tuple[float, float]]:
    """When pictures and sound begin and end, in seconds."""
    found = []
    for kind in ("video", "audio"):
        with av.open(path) as film:
            times = [float(frame.time) for frame in film.decode(**{kind: 0})]
            found.append((min(times), max(times)))
    return found


@pytest.mark.parametrize(
    ("name", "sound", "rate", "becomes"),
    [
        ("old.avi", "libmp3lame", 44_100, "mp3float"),
        ("old.avi", "libmp3lame", 11_025, "aac"),
        ("old.mov", "pcm_s16be", 22_254, "aac"),
        ("old.mov", "pcm_s16be", 192_000, "aac"),
    ],
)
def test_sound_of_any_rate_comes_through(tmp_path, colorizer, name, sound, rate, becomes):
    source = write_film(tmp_path / name, [photograph()] * 24, sound=sound, sound_rate=rate)
    colorize_film(source, tmp_path / "new.mp4", colorizer)
    with av.open(tmp_path / "new.mp4") as film:
        assert film.streams.audio[0].codec_context.name == becomes
    assert spans(tmp_path / "new.mp4")[1] == pytest.approx(spans(source)[1], abs=0.15)


def test_a_gap_in_sound_stays_as_long_as_it_was(tmp_path, colorizer):
    source = write_film(tmp_path / "old.mkv", [photograph()] * 36, sound="pcm_s16le", silent=(1, 2))
    colorize_film(source, tmp_path / "new.mp4", colorizer)
    assert spans(tmp_path / "new.mp4")[1] == pytest.approx(spans(source)[1], abs=0.1)
    with av.open(tmp_path / "new.mp4") as film:
        assert np.diff([frame.time for frame in film.decode(audio=0)]).max() == pytest.approx(1, abs=0.1)


def test_a_film_joined_to_another_goes_on_where_that_ends(tmp_path, colorizer):
    source = write_film(tmp_path / "one.mpg", [photograph()] * 50, codec="mpeg1video", sound="ac3", lasting=25)
    (tmp_path / "two.mpg").write_bytes(2 * source.read_bytes())
    colorize_film(source, tmp_path / "one.mp4", colorizer)
    assert colorize_film(tmp_path / "two.mpg", tmp_path / "two.mp4", colorizer)[0] == 100
    for one, two in zip(spans(tmp_path / "one.mp4"), spans(tmp_path / "two.mp4"), strict=True):
        assert two[1] - two[0] == pytest.approx(2 * (one[1] - one[0]), abs=0.3)


@pytest.mark.parametrize("fall", [26, 40])
def test_sound_whose_times_stand_still_or_fall_back_is_kept(tmp_path, colorizer, fall):
    source = write_film(tmp_path / "old.flv", [photograph()] * 24, codec="flv1", sound="libmp3lame", sound_rate=44_100)
    content, place, sounds = bytearray(source.read_bytes()), 13, 0
    while place < len(content):
        if content[place] == 8:  # a packet of sound
            sounds += 1
            time = int.from_bytes(content[place + 4 : place + 7])
            content[place + 4 : place + 7] = (time - fall * (sounds % 10 == 9)).to_bytes(3)
        place += 15 + int.from_bytes(content[place + 1 : place + 4])
    source.write_bytes(content)
    assert colorize_film(source, tmp_path / "new.mp4", colorizer) == (24, 0)
    assert packets(tmp_path / "new.mp4") == packets(source)
    assert spans(tmp_path / "new.mp4")[1] == pytest.approx(spans(source)[1], abs=0.05)


def test_sound_that_was_cut_away_stays_away(tmp_path, colorizer):
    source = write_film(tmp_path / "phone.mp4", [photograph()] * 24)
    content, place = bytearray(source.read_bytes()), 0
    while (place := content.find(b"elst", place + 1)) > 0:  # for how long and from when on each track is played
        clock = struct.unpack_from(">I", content, content.index(b"mdhd", place) + 16)[0]
        lasting, begin = struct.unpack_from(">Ii", content, place + 12)
        struct.pack_into(">Ii", content, place + 12, lasting - 1000, begin + clock)
    source.write_bytes(content)
    assert colorize_film(source, tmp_path / "new.mkv", colorizer) == (12, 0)
    for begin, end in spans(tmp_path / "new.mkv"):
        assert begin < 0.15
        assert end == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("clock", ["1200", "95443"])  # the second one starts anew after less than a second
def test_a_part_of_a_disc_or_a_broadcast_begins_at_once(tmp_path, colorizer, ending, clock):
    for name, begin in (("now", "0"), ("later", clock)):
        source = write_film(tmp_path / f"{name}.mts", [photograph()] * 24, sound="mp2", clock=begin)
        colorize_film(source, tmp_path / f"{name}.{ending}", colorizer)
    now, later = (spans(tmp_path / f"{name}.{ending}") for name in ("now", "later"))
    assert np.array(later) == pytest.approx(np.array(now), abs=0.05)
    with av.open(tmp_path / f"later.{ending}") as film:
        assert film.duration / 1e6 == pytest.approx(2, abs=0.3)


@pytest.mark.parametrize("ending", ["ts", "MTS", "m2ts", "m2t"])
def test_transport_streams_in_folders_are_coloured(tmp_path, colorizer, monkeypatch, ending):
    monkeypatch.setattr(Colorizer, "load", lambda model, device: colorizer)
    write_film(tmp_path / "old.ts", [photograph()] * 3, codec="mpeg2video", sound=None, lasting=25).rename(
        tmp_path / f"old.{ending}"
    )
    assert colorize([str(tmp_path)], out=tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old.mp4"]


def test_what_ffmpeg_does_not_decode_is_said(tmp_path, colorizer, caplog):
    source = write_film(tmp_path / "old.mkv", [photograph()] * 3)
    content = source.read_bytes()
    assert b"A_AAC" in content
    source.write_bytes(content.replace(b"A_AAC", b"A_QQQ"))
    assert colorize_film(source, tmp_path / "silent.mkv", colorizer) == (3, 0)
    assert "old.mkv: its sound is of a kind that this FFmpeg does not decode, and is left out" in caplog.text
    with av.open(tmp_path / "silent.mkv") as film:
        assert not film.streams.audio
    source.write_bytes(content.replace(b"V_MPEG4/ISO/ASP", b"V_QQQQQ/ISO/ASP"))
    with pytest.raises(PictureError, match=r"old\.mkv: its pictures are of a kind that this FFmpeg does not decode"):
        colorize_film(source, tmp_path / "new.mkv", colorizer)


def test_a_cover_before_the_film_is_not_the_film(tmp_path, colorizer):
    with av.open(tmp_path / "old.mkv", "w") as film:
        cover, track = film.add_stream("mjpeg", rate=25), film.add_stream("libx264", rate=25)
        for stream, pixel_format in ((cover, "yuvj420p"), (track, "yuv420p")):
            stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        for stream, count in ((cover, 1), (track, 30)):
            for number in range(count):
                frame = av.VideoFrame.from_ndarray(photograph(), "gray")
                frame.pts = number
                film.mux(stream.encode(frame))
            film.mux(stream.encode(None))
    assert colorize_film(tmp_path / "old.mkv", tmp_path / "new.mkv", colorizer) == (30, 0)


def test_black_at_the_sides_is_left_out_and_night_is_not(tmp_path):
    seen = []

    def network(l: torch.Tensor) -> torch.Tensor:
        seen.extend([tuple(l.shape[2:])] * len(l))
        return torch.full((len(l), 2, l.shape[2] // 4, l.shape[3] // 4), 20.0)

    still = np.pad(photograph(96, 96), ((0, 0), (48, 48)))
    night = still.copy()
    night[:, 48:80] = 0  # the picture's own dark
    frames = [np.zeros_like(still), still, still, night, still]
    source = write_film(tmp_path / "old.mkv", frames, codec="ffv1", sound=None)
    colorize_film(source, tmp_path / "new.mkv", Colorizer(network, 96, "fake", "cpu"), batch_size=1)
    assert seen == [(96, 192), *[(96, 96)] * 4]
    for pixels in pictures(tmp_path / "new.mkv")[1:]:
        assert abs(redness(pixels[:, :44])) < 1
        assert redness(pixels[:, 84:140]) > 15


def test_a_white_card_with_a_picture_in_it_leaves_no_border_behind(tmp_path, colorizer):
    card = np.full((64, 96), 235, np.uint8)
    card[16:48, 24:72] = photograph(32, 48)
    source = write_film(tmp_path / "old.mkv", [card, card, *[photograph()] * 3], codec="ffv1", sound=None)
    colorize_film(source, tmp_path / "new.mkv", colorizer)
    last = pictures(tmp_path / "new.mkv")[-1]
    assert min(redness(side) for side in (last[:14], last[-14:], last[:, :22], last[:, -22:])) > 10


def test_frames_that_grow_on_the_way_are_refused(tmp_path, colorizer, monkeypatch):
    small, large = (
        write_film(tmp_path / f"{side}.mts", [photograph(side, 96)] * 12, codec="mpeg2video", sound=None, lasting=25)
        for side in (64, 100)
    )
    (tmp_path / "both.mts").write_bytes(small.read_bytes() + large.read_bytes())
    monkeypatch.setattr("tinct.coloring.film.MAX_PIXELS", 8_000)
    with pytest.raises(PictureError, match=r"both\.mts: frames of 96x100; at most 8000 pixels"):
        colorize_film(tmp_path / "both.mts", tmp_path / "new.mp4", colorizer)
    assert not (tmp_path / "new.mp4").exists()


def test_frames_that_grow_on_the_way_are_scaled(tmp_path, colorizer):
    whole = photograph(96, 96)
    small = write_film(tmp_path / "small.mts", [whole[::2, ::2]] * 12, codec="mpeg2video", sound=None, lasting=25)
    large = write_film(tmp_path / "large.mts", [whole] * 12, codec="mpeg2video", sound=None, lasting=25)
    (tmp_path / "both.mts").write_bytes(small.read_bytes() + large.read_bytes())
    done, _ = colorize_film(tmp_path / "both.mts", tmp_path / "new.mp4", colorizer)
    first, *_, last = (pixels.astype(float) for pixels in pictures(tmp_path / "new.mp4"))
    assert done > 20
    assert first.shape == last.shape == (48, 48, 3)
    assert np.corrcoef(first[..., 1].ravel(), last[..., 1].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mpg"])
def test_damaged_headers_are_read_or_one_sentence(tmp_path, colorizer, ending):
    codec = "mpeg1video" if ending == "mpg" else "mpeg4"
    whole = write_film(tmp_path / f"whole.{ending}", [photograph()] * 3, codec=codec, sound="mp2", lasting=25)
    content, draw = whole.read_bytes(), np.random.default_rng(0)
    header = content.index(b"moov") if ending == "mp4" else 0
    refused = []
    for number in range(25):
        damaged = bytearray(content)
        for place in draw.integers(header, min(header + 1500, len(damaged)), 6):
            damaged[place] = draw.integers(256)
        (tmp_path / f"old.{ending}").write_bytes(damaged)
        out = tmp_path / f"new-{number}.mp4"
        try:
            colorize_film(tmp_path / f"old.{ending}", out, colorizer)
            assert out.exists()
        except PictureError as error:
            refused.append(str(error))
            assert not out.exists()
    assert 0 < len(refused) < 25
    assert all("\n" not in message and f"old.{ending}" in message for message in refused)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_names_with_colons_and_settings_out_of_range(tmp_path, colorizer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_film(tmp_path / "12:30.mkv", [photograph()] * 2, sound=None)
    assert colorize_film("12:30.mkv", "12:31.mkv", colorizer) == (2, 0)
    with pytest.raises(TinctError, match="batch_size is 0"):
        colorize_film("12:30.mkv", "none.mkv", colorizer, batch_size=0)
    with pytest.raises(TinctError, match="saturation is 5; expected 0 to 4"):
        colorize_film("12:30.mkv", "none.mkv", colorizer, saturation=5)
    assert not (tmp_path / "none.mkv").exists()


def test_colours_hold_still(tmp_path, colorizer):
    source = write_film(tmp_path / "old.mkv", [photograph()] * 24, codec="ffv1")
    assert frame_count(source) == pytest.approx(24, abs=1)
    colorize_film(source, tmp_path / "new.mkv", colorizer)
    settled = [redness(pixels) for pixels in pictures(tmp_path / "new.mkv")][8:]
    by_itself = [redness(colorizer(photograph())) for _ in range(2)]
    assert np.abs(np.diff(settled)).max() < 0.35 * abs(by_itself[1] - by_itself[0])


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "turn"),
    [
        (0, 1, -1, 0, lambda pixels: np.rot90(pixels, -1)),  # a quarter, clockwise
        (-1, 0, 0, 1, np.fliplr),
        (1, 0, 0, -1, np.flipud),
        (0, 1, 1, 0, lambda pixels: pixels.swapaxes(0, 1)),
        (0, -1, -1, 0, lambda pixels: np.rot90(pixels.swapaxes(0, 1), 2)),
    ],
)
def test_a_turned_film_of_odd_size_comes_upright_and_even(tmp_path, colorizer, a, b, c, d, turn):
    source = write_film(tmp_path / "phone.mp4", [photograph(63, 97)[:, :95]] * 3, sound=None)
    content = bytearray(source.read_bytes())
    matrix = content.index(b"tkhd") + 44
    turned = (np.array([a, b, 0, c, d, 0, 0, 0, 1 << 14]) << 16).astype(">i4").tobytes()
    content[matrix : matrix + 36] = turned
    source.write_bytes(content)
    colorize_film(source, tmp_path / "new.mp4", colorizer)
    upright = turn(photograph(63, 97)[:, :95])
    upright = upright[: len(upright) // 2 * 2, : upright.shape[1] // 2 * 2]
    for pixels in pictures(tmp_path / "new.mp4"):
        assert pixels.shape == (*upright.shape, 3)
        assert np.abs(lightness(pixels) - lightness(np.ascontiguousarray(upright))).mean() < 3


@pytest.mark.parametrize(("ending", "sound"), [("avi", "pcm_s16le"), ("mkv", None), ("mp4", None)])
def test_a_film_that_breaks_off_is_coloured_up_to_there_which_is_said(tmp_path, colorizer, caplog, ending, sound):
    frames = [np.roll(photograph(), 3 * number, 1) for number in range(40)]
    source = write_film(tmp_path / f"old.{ending}", frames, sound=sound, header_first=True)
    assert colorize_film(source, tmp_path / "whole.mp4", colorizer) == (40, 0)
    assert not caplog.text
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    done, damaged = colorize_film(source, tmp_path / "new.mp4", colorizer)
    assert 0 < done < 30
    assert len(pictures(tmp_path / "new.mp4")) == done
    assert damaged > 0
    assert re.search(rf"old\.{ending} breaks off at [012]\.\d of 3\.[34] s", caplog.text)


def test_a_film_that_breaks_off_after_a_frame_says_so_once(tmp_path, colorizer, caplog):
    frames = [np.roll(photograph(), 3 * number, 1) for number in range(40)]
    source = write_film(tmp_path / "old.mp4", frames, sound=None, header_first=True)
    with av.open(source) as film:
        first = next(film.demux(video=0))
    source.write_bytes(source.read_bytes()[: first.pos + first.size])
    assert colorize_film(source, tmp_path / "new.mp4", colorizer)[0] == 1
    assert caplog.text.count("breaks off") == 1


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_a_film_with_tracks_that_are_not_read_breaks_off_too(tmp_path, colorizer, caplog, ending):
    source = tmp_path / f"old.{ending}"
    with av.open(source, "w", container_options={"movflags": "faststart"}) as film:
        track = film.add_stream("mpeg4", rate=12)
        track.width, track.height, track.pix_fmt = 96, 64, "yuv420p"
        short, long = (film.add_stream("aac", rate=SOUND_RATE) for _ in range(2))
        for number in range(96):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 4000), np.int16), "s16", "stereo")
            sound.rate, sound.pts = SOUND_RATE, 4000 * number
            film.mux(long.encode(sound))  # as a comment may go on after the end
            if number < 48:
                film.mux(track.encode(av.VideoFrame.from_ndarray(np.roll(photograph(), 3 * number, 1), "gray")))
                film.mux(short.encode(sound))
        for one in (track, short, long):
            film.mux(one.encode(None))
    assert colorize_film(source, tmp_path / "whole.mp4", colorizer) == (48, 0)
    assert not caplog.text
    content = source.read_bytes()
    source.write_bytes(content[: len(content) // 2])
    assert colorize_film(source, tmp_path / "new.mp4", colorizer)[1] > 0
    assert caplog.text.count("breaks off") == 1
    assert re.search(rf"old\.{ending} breaks off at [0-2]\.\d of 4\.\d s", caplog.text)


@pytest.mark.parametrize("ending", ["avi", "mkv", "mp4"])
@pytest.mark.parametrize("shift", [0, 5000, -1500])
def test_whole_films_of_varying_rate_do_not_break_off(tmp_path, colorizer, caplog, ending, shift):
    times = [shift + time for time in (0, 33, 66, 2100, 4000, 4033, 6000, 9000)]
    source = write_film(tmp_path / f"old.{ending}", [photograph()] * 8, times=times, lasting=1000, sound="mp3")
    assert colorize_film(source, tmp_path / "new.mp4", colorizer)[1] == 0
    assert not caplog.text


def test_frames_with_what_was_missing_made_up_are_counted(tmp_path, colorizer):
    frames = [np.roll(photograph(), 3 * number, 1) for number in range(40)]
    source = write_film(tmp_path / "old.mkv", frames, codec="libx264", sound=None)
    content = bytearray(source.read_bytes())
    half = len(content) // 2
    content[half : half + 400] = bytes(byte ^ 0x55 for byte in content[half : half + 400])
    source.write_bytes(content)
    assert colorize_film(source, tmp_path / "new.mp4", colorizer)[1] > 0


def test_places_that_cannot_be_decoded_are_counted(tmp_path, colorizer):
    frames = [np.roll(photograph(), 3 * number, 1) for number in range(40)]
    source = write_film(tmp_path / "old.avi", frames, codec="libx264", sound=None)
    with av.open(source) as film:
        places = [(packet.pos + 8, packet.size) for packet in film.demux(video=0) if packet.size][10:14]
    content = bytearray(source.read_bytes())
    for begin, size in places:
        content[begin : begin + size] = b"\xff" * size
    source.write_bytes(content)
    done, damaged = colorize_film(source, tmp_path / "new.mp4", colorizer)
    assert damaged > 0
    assert len(pictures(tmp_path / "new.mp4")) == done
    assert 30 <= done < 40


@pytest.mark.parametrize("error", [av.error.PermissionError, av.error.PatchWelcomeError, av.error.UndefinedError])
def test_whatever_a_decoder_says_costs_that_place_alone(error):
    def decode():
        raise error(1, "cannot")

    damaged = []
    assert decoded(SimpleNamespace(decode=decode), damaged) == []
    assert len(damaged) == 1


def test_a_film_to_which_tracks_are_added_on_the_way_is_coloured(tmp_path, colorizer, monkeypatch):
    monkeypatch.setitem(OPTIONS, "probesize", "100000")  # or FFmpeg would find them all before it begins
    parts = []
    for number, voices in enumerate((1, 6, 1)):
        parts.append(tmp_path / f"{number}.vob")
        with av.open(parts[-1], "w") as film:
            picture = film.add_stream("mpeg2video", rate=25)
            picture.width, picture.height, picture.pix_fmt, picture.bit_rate = 96, 64, "yuv420p", 8_000_000
            tracks = [film.add_stream("mp2", rate=48_000) for _ in range(voices)]
            for n in range(50):
                noise = np.random.default_rng(n).integers(0, 256, (64, 96, 3)).astype(np.uint8)
                film.mux(picture.encode(av.VideoFrame.from_ndarray(noise, "rgb24")))
                for track in tracks:
                    sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1920), np.int16), "s16", "stereo")
                    sound.rate, sound.pts = 48_000, 1920 * n
                    film.mux(track.encode(sound))
            for track in (picture, *tracks):
                film.mux(track.encode(None))
    (tmp_path / "disc.vob").write_bytes(b"".join(part.read_bytes() for part in parts))
    done, _ = colorize_film(tmp_path / "disc.vob", tmp_path / "new.mp4", colorizer)
    assert done == len(pictures(tmp_path / "new.mp4")) > 140


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected a film"),
        (b"nothing of the kind" * 100, "expected a film"),
        (b"#EXTM3U\n#EXTINF:1,\nhttp://localhost/a.ts\n", "expected a film"),
        (b"ffconcat version 1.0\nfile other.mkv\n", "expected a film"),
        (None, "No such file"),
    ],
)
def test_what_is_no_film_is_said_in_a_sentence_and_nothing_is_written(tmp_path, colorizer, content, message):
    write_film(tmp_path / "other.mkv", [photograph()])
    source = tmp_path / "old.mp4"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(PictureError, match=message):
        colorize_film(source, tmp_path / "out" / "new.mp4", colorizer)
    assert not (tmp_path / "out").exists()


def test_sound_alone_other_endings_and_huge_frames_are_refused(tmp_path, colorizer, monkeypatch):
    with av.open(tmp_path / "song.mp4", "w") as song:
        voice = song.add_stream("aac", rate=SOUND_RATE)
        part = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), "s16", "stereo")
        part.sample_rate = SOUND_RATE
        song.mux([*voice.encode(part), *voice.encode(None)])
    with pytest.raises(PictureError, match="there are no pictures in it"):
        colorize_film(tmp_path / "song.mp4", tmp_path / "new.mp4", colorizer)
    source = write_film(tmp_path / "old.mp4", [photograph()])
    with pytest.raises(TinctError, match=r"new\.avi; expected a file ending in \.mp4, \.mov, \.mkv"):
        colorize_film(source, tmp_path / "new.avi", colorizer)
    with pytest.raises(TinctError, match=r"old\.mp4 is the film itself"):
        colorize_film(source, tmp_path / "old.mp4", colorizer)
    monkeypatch.setattr("tinct.coloring.film.MAX_PIXELS", 1000)
    with pytest.raises(PictureError, match="frames of 96x64; at most 1000 pixels"):
        colorize_film(source, tmp_path / "new.mp4", colorizer)
    assert not (tmp_path / "new.mp4").exists()


def test_a_failure_half_way_leaves_nothing(tmp_path, colorizer, monkeypatch):
    source = write_film(tmp_path / "old.mkv", [photograph()] * 6)
    monkeypatch.setattr(colorizer, "network", lambda l: torch.full((len(l), 2, 8, 8), torch.nan))
    with pytest.raises(PictureError, match="frame 0: fake gave colours that are not finite"):
        colorize_film(source, tmp_path / "new.mkv", colorizer)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mkv"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, colorizer, monkeypatch):
    source = write_film(tmp_path / "old.mkv", [photograph()] * 6)

    def full(frame, *rest):
        raise av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tinct.coloring.film._encodable", full)
    with pytest.raises(TinctError, match=r"cannot write .*new\.mkv: No space left on device; free some space"):
        colorize_film(source, tmp_path / "new.mkv", colorizer)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mkv"]


class Particular(torch.nn.Module):
    """One colour a film, which hangs on the size at which it is seen and on the seed."""

    samples = True

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, l: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        self.batches.append(len(l))
        colour = torch.tensor([l.shape[2] / 2 - 20, 20.0 * (seed or 0)]).view(1, 2, 1, 1)
        return colour.expand(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)


@pytest.mark.parametrize("by_command", [True, False])
def test_films_are_coloured_with_the_settings_asked_for(tmp_path, monkeypatch, by_command):
    colorizer = Colorizer(Particular(), 64, "fake", "cpu")
    monkeypatch.setattr(Colorizer, "load", lambda model, device: colorizer)
    source = write_film(tmp_path / "old.mkv", [photograph()] * 5, codec="ffv1", sound=None)
    result = tmp_path / "new.mkv"
    settings = {"size": 96, "saturation": 0.5, "seed": 2}
    if by_command:
        assert colorize([str(source)], out=result, batch_size=3, **settings) == 0
    else:
        colorize_film(source, result, colorizer, batch_size=3, **settings)
    assert colorizer.network.batches == [3, 2]
    frames = np.array([pixels.mean((0, 1)) for pixels in pictures(result)])
    expected = colorizer(photograph(), **settings).mean((0, 1))
    assert frames == pytest.approx(np.tile(expected, (5, 1)), abs=2.5)
    for left_out in settings:
        others = {name: value for name, value in settings.items() if name != left_out}
        assert np.abs(colorizer(photograph(), **others).mean((0, 1)) - expected).max() > 6


def test_films_go_with_pictures(tmp_path, colorizer, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(Colorizer, "load", lambda model, device: colorizer)
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    write_film(folder / "deep" / "a.MP4", [photograph()] * 3)
    (folder / "bad.mkv").write_bytes(b"no film")
    Image.fromarray(photograph()).save(folder / "a.png")
    assert colorize([str(folder)], out=out) == 1
    said = capsys.readouterr().err
    assert "2 coloured" in said
    assert "bad.mkv" in said
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == ["a.png", "deep/a.MP4"]
    (folder / "bad.mkv").unlink()
    assert colorize([str(folder)], out=out) == 0
    assert "2 there already" in capsys.readouterr().err
    assert colorize([str(folder)], out=out, compare=True) == 1
    assert "a film is coloured without --samples, --compare, --keep-colour and --hints" in capsys.readouterr().err


def test_a_film_goes_to_a_file_of_its_kind(tmp_path, colorizer, monkeypatch):
    monkeypatch.setattr(Colorizer, "load", lambda model, device: colorizer)
    source = write_film(tmp_path / "old.avi", [photograph()] * 3)
    assert colorize([str(source)], out=tmp_path / "new.mkv") == 0
    with av.open(tmp_path / "new.mkv") as film:
        assert film.format.name == "matroska,webm"
    for out, message in (("new.png", r"ending in \.mp4"), ("new.avi", r"ending in \.mp4"), ("-", "standard output")):
        with pytest.raises(TinctError, match=message):
            colorize([str(source)], out=Path(out))


def test_without_pyav_a_sentence_says_what_to_install(tmp_path, colorizer, monkeypatch, capsys):
    source = write_film(tmp_path / "old.avi", [photograph()] * 3)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(TinctError, match=r"pip install 'tinct\[film\]'"):
        colorize_film(source, tmp_path / "new.mp4", colorizer)
    monkeypatch.setattr(Colorizer, "load", lambda model, device: colorizer)
    Image.fromarray(photograph()).save(tmp_path / "old.png")
    assert colorize([str(tmp_path)], out=tmp_path / "out") == 1
    assert (tmp_path / "out" / "old.png").exists()
    assert "pip install 'tinct[film]'" in " ".join(capsys.readouterr().err.split())


def test_interlaced_films_are_said(tmp_path, colorizer, caplog):
    path = tmp_path / "old.avi"
    with av.open(path, "w") as film:
        track = film.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
        track.height, track.width, track.pix_fmt = 64, 96, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(photograph(), "gray").reformat(format="yuv420p")
            frame.pts = number
            film.mux(track.encode(frame))
        film.mux(track.encode(None))
    colorize_film(path, tmp_path / "new.mp4", colorizer)
    assert "old.avi is interlaced" in caplog.text
    caplog.clear()
    write_film(tmp_path / "still.avi", [photograph()] * 3, sound=None)
    colorize_film(tmp_path / "still.avi", tmp_path / "still.mp4", colorizer)
    assert not caplog.text


@pytest.mark.parametrize(("ending", "codec"), [("mxf", "mpeg2video"), ("flv", "flv1")])
def test_archives_kinds_of_film_are_read(tmp_path, colorizer, ending, codec):
    source = write_film(tmp_path / f"old.{ending}", [photograph()] * 5, codec=codec, sound=None, lasting=25)
    assert colorize_film(source, tmp_path / "new.mp4", colorizer) == (5, 0)


def test_raw_dv_has_the_rate_of_its_frames(tmp_path, colorizer):
    still = np.full((576, 720), 90, np.uint8)
    source = write_film(tmp_path / "tape.dv", [still] * 3, codec="dvvideo", sound=None, lasting=25)
    assert frame_count(source) == 3
    assert colorize_film(source, tmp_path / "new.mp4", colorizer) == (3, 0)
    with av.open(tmp_path / "new.mp4") as film:
        assert film.streams.video[0].average_rate == 25
        assert [frame.time for frame in film.decode(video=0)] == [0, 0.04, 0.08]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_timecode_costs_no_film_of_an_old_rate(tmp_path, colorizer, ending):
    tags = {"timecode": "10:00:00:00"}
    source = write_film(tmp_path / "silent.mkv", [photograph()] * 4, codec="ffv1", sound=None, lasting=16, tags=tags)
    assert colorize_film(source, tmp_path / f"new.{ending}", colorizer) == (4, 0)
    with av.open(tmp_path / f"new.{ending}") as film:
        assert [stream.type for stream in film.streams] == ["video"]

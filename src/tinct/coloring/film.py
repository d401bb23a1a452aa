"""Films in colour: each frame as a photograph is, brought in line with those before it; the sound as it was."""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinct.coloring import upsample
from tinct.coloring.checks import check_number, checked_saturation
from tinct.coloring.film_sound import Onward, Sound, decodable, decoded, lasting, sound_track
from tinct.coloring.steady import Steady
from tinct.colorize import Colorizer, paint
from tinct.errors import PictureError, TinctError
from tinct.files import atomic_path, expanded
from tinct.pictures.borders import inside
from tinct.pictures.picture import FILM_FORMATS, Picture

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer, OutputContainer

__all__ = ["colorize_film", "frame_count"]

logger = logging.getLogger(__name__)

OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpeg,mpegts,mpegvideo,asf,ogg,m4v,mxf,dv,flv",
}
"""A film may be a list of addresses, whatever it is called: nothing is fetched, and no other file is read."""

ENCODER = {"crf": "16", "preset": "medium", "flags": "+frame_duration"}
"""Of x264: finer than its usual 23, as the result may be cut and written again; each frame lasts as long as is said."""

BT709 = 1
"""Primaries, curve and matrix of the result, in FFmpeg's numbers; these primaries are sRGB's."""

VIDEO_RANGE = 1
"""Black at 16 and white at 235, as players expect it, in FFmpeg's numbers."""

MAX_PIXELS = 1 << 26
"""Of a frame: twice 8K. More is a mistake in the header, or an attack."""

MISSING = 0.5
"""Seconds, beside its longest frame, by which a film that broke off ends too soon; less is a rounded time, or a cut."""


def colorize_film(
    source: str | Path,
    out: str | Path,
    colorizer: Colorizer,
    *,
    size: int | None = None,
    saturation: float = 1.0,
    seed: int | None = None,
    batch_size: int = 8,
    after_frame: Callable[[], object] = lambda: None,
) -> tuple[int, int]:
    """Colour a film. Frames keep their times; colours hold still where nothing moves (`Steady`).

    The result is H.264 of 8 bits, upright; a last odd row or column is left off. The first track of sound is copied, or
    becomes AAC where that is not common. Title and the like are kept; subtitles, chapters and further tracks are not.

    Args:
        source: the film: MP4, QuickTime, Matroska, WebM, AVI, MPEG, MXF, DV, ASF, Flash or Ogg.
        out: where to; ends in .mp4, .mov or .mkv.
        colorizer: what colours it.
        size: as for `Colorizer`.
        saturation: as for `Colorizer`.
        seed: as for `Colorizer`; one for the whole film.
        batch_size: frames that go through the network together.
        after_frame: called after each frame.

    Returns:
        The number of frames in the result, and of the film's damaged places: not decoded, patched, or its end missing.

    Raises:
        PictureError: the film cannot be read, or none of it decodes; nothing is written then.
        TinctError: PyAV is not installed, `out` has another ending, cannot be written, or a setting is impossible.
    """
    source, out = expanded(source), expanded(out)
    check_number("batch_size", batch_size)
    if batch_size < 1:
        raise TinctError(f"batch_size is {batch_size}; expected 1 or more")
    if out.suffix.lower() not in FILM_FORMATS:
        raise TinctError(f"out is {out}; expected a file ending in {', '.join(FILM_FORMATS)}")
    saturation = checked_saturation(saturation)
    height, width, turned = _shape(source)
    if out.exists() and out.samefile(source):
        raise TinctError(f"{out} is the film itself; choose another out")
    steady, done, damaged, lightest = Steady(), 0, list[str](), np.zeros((0, 0, 3), np.uint8)
    with _opened(source) as (film, video), atomic_path(out) as unfinished, _created(unfinished, film) as result:
        track = _picture_track(result, video, height, width, turned)
        frames = lasting(_frames(film, video, sound_track(film, result, damaged), damaged))
        while batch := list(itertools.islice(frames, batch_size)):
            pictures = [Picture(_upright(frame), name=f"{source}, frame {n}") for n, frame in enumerate(batch, done)]
            boxes = []
            for picture in pictures:  # what stayed black in all frames is a border, what is black in one may be night
                if lightest.shape != picture.pixels.shape:
                    lightest = np.zeros_like(picture.pixels)
                np.maximum(lightest, picture.pixels, out=lightest)
                boxes.append(inside(lightest, paper=False))  # else a white title card's would stay
            within = [picture.cut(box) for picture, box in zip(pictures, boxes, strict=True)]
            found = colorizer.coarse(within, size=size, seed=seed)
            if not done and batch[0].interlaced_frame:
                logger.warning("%s is interlaced; deinterlace it first, as its lines are of two moments", source)
            for frame, picture, box, (l, ab) in zip(batch, pictures, boxes, found, strict=True):
                coloured = paint(picture, upsample.fit(l, steady(l, ab) * saturation, box), in_place=True)
                result.mux(track.encode(_encodable(coloured.pixels, frame, height, width)))
                done += 1
                after_frame()
        result.mux(track.encode(None))
    return done, len(damaged)


def frame_count(source: Path) -> int | None:
    """About how many frames a film has, by its header; None where that does not say. Raises as `colorize_film`."""
    with _opened(source) as (film, video):
        return video.frames or round((film.duration or 0) / 1_000_000 * (_rate(video) or 0)) or None


def _rate(video: "VideoStream") -> Fraction | None:
    """Frames a second, by the header; of raw DV, FFmpeg (8) has its clock's as the average."""
    return min((rate for rate in (video.average_rate, video.guessed_rate) if rate), default=None)


@contextmanager
def _opened(source: Path) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """A film to read from, and its pictures; what goes wrong in reading is raised as `PictureError`."""
    try:
        import av
    except ImportError as error:
        raise TinctError(f"{source} is a film; pip install 'tinct[film]' to colour films") from error
    try:
        # A name may hold colons. PyAV 19 takes any bytes in what a film says of itself; before, it had to be told.
        lenient: Any = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
        film = av.open(f"file:{source}", "r", options=OPTIONS, **lenient)
    except (av.FFmpegError, OSError) as error:
        reason = error.strerror or "cannot be read"
        raise PictureError(f"{source}: {reason}; expected a film that FFmpeg reads") from error
    with film:
        video: Any = film.streams.best("video")  # the first one may be a cover
        if video is None:
            raise PictureError(f"{source}: there are no pictures in it")
        if not decodable(video):
            raise PictureError(f"{source}: its pictures are of a kind that this FFmpeg does not decode")
        _check_frame(str(source), video.width, video.height)
        video.thread_type = "AUTO"
        try:
            yield film, video
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # such as a full disk
                raise
            raise PictureError(f"{source}: {error.strerror or error}; this film cannot be coloured") from error


def _check_frame(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(f"{name}: frames of {width}x{height}; at most {MAX_PIXELS} pixels")


@contextmanager
def _created(path: Path, film: "InputContainer") -> Iterator["OutputContainer"]:
    """A film to write to, with the title and the like of another."""
    import av

    with av.open(f"file:{path}", "w", format=FILM_FORMATS[path.suffix.lower()]) as result:
        # a timecode would become a further track, and fail at rates that MP4 has none for, such as 16 frames a second
        result.metadata.update({key: value for key, value in film.metadata.items() if key.lower() != "timecode"})
        yield result


def _picture_track(
    result: "OutputContainer", like: "VideoStream", height: int, width: int, turned: bool
) -> "VideoStream":
    import av

    if "libx264" not in av.codecs_available:
        raise TinctError("this FFmpeg writes no H.264; pip install av brings one that does")
    track = result.add_stream("libx264", rate=_rate(like) or 25, options=ENCODER)
    track.width, track.height, track.pix_fmt = width, height, "yuv420p"
    context = track.codec_context
    if like.time_base:
        context.time_base = like.time_base
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = VIDEO_RANGE
    if like.sample_aspect_ratio:
        ratio = like.sample_aspect_ratio
        context.sample_aspect_ratio = 1 / ratio if turned else ratio
    return track


def _frames(
    film: "InputContainer", video: "VideoStream", sound: Sound | None, damaged: list[str]
) -> Iterator["VideoFrame"]:
    """The film's frames, their times rising; sound is passed on as it comes by, what is wrong is put in `damaged`."""
    import av

    lasts, onward = 0, Onward(film)
    for packet in _packets(film, video, sound, damaged):
        try:
            if sound is not None and packet.stream == sound.stream:
                sound.take(packet)
                continue
        except av.error.InvalidDataError as error:
            damaged.append(str(error))
            continue
        lasts = packet.duration or lasts
        for frame in decoded(packet, damaged):
            _check_frame(film.name.removeprefix("file:"), frame.width, frame.height)  # which may change on the way
            frame.pts = onward.next(frame.pts, float(frame.time_base or 1))
            frame.duration = lasts  # its own packet may say what is between decoding times
            yield frame
    if sound is not None:
        sound.take(None)


def _packets(
    film: "InputContainer", video: "VideoStream", sound: Sound | None, damaged: list[str]
) -> Iterator["Packet[Any]"]:
    """Pictures and sound as they come, up to where the file breaks off."""
    import av

    end, longest, promised = 0.0, 0.0, _promised(film, video, sound)
    try:
        for packet in film.demux(video, *([] if sound is None else [sound.stream])):
            if packet.pts is not None:
                lasts = float((packet.duration or 0) * packet.time_base)
                end, longest = max(end, float(packet.pts * packet.time_base) + lasts), max(longest, lasts)
            yield packet
    except av.FFmpegError as error:
        damaged.append(str(error))
    except IndexError:
        pass  # a track that began on the way, which PyAV (18.1) does not know at the end; all others have come by
    else:
        if end + longest + MISSING < promised:
            damaged.append("broken off")
            logger.warning("%s breaks off at %.1f of %.1f s", film.name.removeprefix("file:"), end, promised)


def _promised(film: "InputContainer", video: "VideoStream", sound: Sound | None) -> float:
    """How many seconds a film lasts by its header; 0 where that does not say it of the tracks that are read alone."""
    kind = film.format.name
    if kind == "avi" and video.average_rate:  # its duration FFmpeg guesses from what is there
        return float(video.frames / video.average_rate)
    read: list[Any] = [video] if sound is None else [video, sound.stream]
    if kind.startswith("mov"):  # which says it of each track
        return max(float((track.duration or 0) * track.time_base) for track in read)
    tracks = [stream for stream in film.streams if stream.type in ("video", "audio", "subtitle")]
    return (film.duration or 0) / 1_000_000 if kind.startswith("matroska") and len(tracks) == len(read) else 0.0


def _shape(source: Path) -> tuple[int, int, bool]:
    """Height and width of the result, both even for H.264, which halves colour; and whether it lay on its side."""
    with _opened(source) as (film, video):
        first = next(_frames(film, video, None, []), None)
        if first is None:
            raise PictureError(f"{source}: no frame of it can be decoded")
        height, width = (side // 2 * 2 for side in _upright(first).shape[:2])
    if not height or not width:
        raise PictureError(f"{source}: frames of {first.width}x{first.height}; expected at least 2 pixels a side")
    return height, width, first.rotation % 180 != 0


def _upright(frame: "VideoFrame") -> NDArray[np.uint8]:
    """(H, W, 3) sRGB samples, mirrored and turned as the film says."""
    samples = frame.to_ndarray(format="rgb24", interpolation=_exactly())
    if frame.format.name.startswith("gray") and int(frame.color_range) == VIDEO_RANGE:  # FFmpeg takes grey for full
        samples = np.rint((samples.clip(16, 235) - 16.0) * (255 / 219)).astype(np.uint8)
    sides: Any = frame.side_data
    if (matrix := sides.get("DISPLAYMATRIX")) is not None:
        a, b, _, c, d, *_ = map(int, np.frombuffer(matrix, np.int32))  # (x, y) goes to (ax + cy, bx + dy)
        if a * d < b * c:  # upside down, before the turn by which the matrix moves the x axis
            samples = samples[::-1]
    return np.ascontiguousarray(np.rot90(samples, frame.rotation // 90))


def _exactly() -> int:
    """The flags of a conversion that rounds: FFmpeg's default cuts off, which darkens halved colour by a step."""
    from av.video.reformatter import Interpolation as By

    return By.BILINEAR | By.ACCURATE_RND | By.FULL_CHR_H_INT | By.FULL_CHR_H_INP


def _encodable(pixels: NDArray[Any], like: "VideoFrame", height: int, width: int) -> "VideoFrame":
    """What the encoder takes, at the time of another frame."""
    from av import VideoFrame

    rows, columns = (side // 2 * 2 or 1 for side in pixels.shape[:2])  # which may change on the way
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:rows, :columns]), "rgb24")
    frame = frame.reformat(width, height, "yuv420p", None, BT709, _exactly(), dst_color_range=VIDEO_RANGE)
    frame.pts, frame.duration, frame.time_base = like.pts, like.duration, like.time_base
    return frame

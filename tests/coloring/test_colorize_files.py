import io
import operator
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

import tinct.coloring.work
from tinct.cli import main
from tinct.coloring.files import colorize
from tinct.coloring.jobs import Job, clashes, find_jobs
from tinct.colorize import Colorizer
from tinct.errors import TinctError
from tinct.pictures.readers import read

calls: list[tuple[int, ...]] = []


class Network(torch.nn.Module):
    samples = True

    def forward(self, l: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        calls.append(tuple(l.shape))
        red = 30.0 if seed is None else 10.0 * seed
        ab = torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)
        ab[:, 0] = red
        return ab


@pytest.fixture(autouse=True)
def _model(monkeypatch):
    calls.clear()
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(Colorizer, "load", lambda model, device: Colorizer(Network(), 64, model, "cpu"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep" / "er").mkdir(parents=True)
    grey = Image.fromarray(data.camera()[::8, ::8])
    grey.save(folder / "a.jpg")
    grey.save(folder / "deep" / "b.png", dpi=(300, 300))
    grey.save(folder / "deep" / "er" / "C.TIF")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def redness(path) -> float:
    pixels = read(path).pixels.astype(float)
    return float((pixels[..., 0] - pixels[..., 1]).mean()) if pixels.ndim == 3 else 0.0


def names(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_keeps_its_structure_and_formats(photos, tmp_path):
    out = tmp_path / "out"
    assert colorize([str(photos)], out=out) == 0
    assert names(out) == ["a.jpg", "deep/b.png", "deep/er/C.TIF"]
    assert all(redness(out / name) > 20 for name in names(out))
    assert [Image.open(out / name).format for name in names(out)] == ["JPEG", "PNG", "TIFF"]
    assert read(out / "deep/b.png").dpi == pytest.approx((300, 300), abs=0.01)


def test_what_is_done_is_skipped_unless_told(photos, tmp_path, capsys):
    out = tmp_path / "out"
    colorize([str(photos)], out=out)
    (out / "a.jpg").write_bytes(b"mine")
    assert colorize([str(photos)], out=out) == 0
    assert (out / "a.jpg").read_bytes() == b"mine"
    assert "3 there already (--overwrite colours them anew)" in capsys.readouterr().err
    assert colorize([str(photos)], out=out, overwrite=True) == 0
    assert redness(out / "a.jpg") > 20


def test_a_bad_file_is_reported_and_the_rest_goes_on(photos, tmp_path, capsys):
    content = (photos / "a.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(content[: len(content) // 2])
    (photos / "empty.png").touch()
    out = tmp_path / "out"
    assert colorize([str(photos), str(photos / "gone.jpg")], out=out) == 1
    assert names(out) == ["a.jpg", "deep/b.png", "deep/er/C.TIF"]
    table = capsys.readouterr().err
    assert "3 failed" in table
    for word in ("cut.jpg", "empty.png", "gone.jpg", "truncated", "No such file"):
        assert word in table
    assert "Traceback" not in table


def test_another_format(photos, tmp_path):
    out = tmp_path / "out"
    assert colorize([str(photos)], out=out, format="png") == 0
    assert names(out) == ["a.png", "deep/b.png", "deep/er/C.png"]
    assert {Image.open(out / name).format for name in names(out)} == {"PNG"}


def test_one_file_to_one_file_whose_suffix_says_the_format(photos, tmp_path):
    target = tmp_path / "new" / "x.webp"
    assert colorize([str(photos / "a.jpg")], out=target) == 0
    assert Image.open(target).format == "WEBP"
    assert colorize([str(photos / "a.jpg")], out=tmp_path / "folder") == 0
    assert names(tmp_path / "folder") == ["a.jpg"]


def test_globs(photos, tmp_path):
    assert colorize([str(photos / "**" / "*.[pP][nN]*")], out=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["deep/b.png"]


def test_globs_take_each_picture_once_though_links_go_round_in_circles(photos, tmp_path):
    (photos / "again").symlink_to(".")
    (photos / "deep" / "up").symlink_to(photos)
    assert colorize([str(photos / "**" / "*.*")], out=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.jpg", "deep/b.png", "deep/er/C.TIF"]
    everything = find_jobs([str(photos / "*")], tmp_path / "elsewhere", None)
    assert [job.source.relative_to(photos).as_posix() for job in everything] == ["a.jpg", "deep/b.png", "deep/er/C.TIF"]


def test_standard_input_to_standard_output(photos, monkeypatch):
    written = SimpleNamespace(buffer=io.BytesIO())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((photos / "a.jpg").read_bytes())))
    monkeypatch.setattr(sys, "stdout", written)
    assert colorize(["-"], out=Path("-"), format="png") == 0
    image = Image.open(written.buffer)
    assert (image.format, image.mode) == ("PNG", "RGB")


def test_pictures_of_one_size_share_a_batch(photos, tmp_path):
    colorize([str(photos)], out=tmp_path / "out", batch_size=2)
    assert [call[0] for call in calls] == [2, 1]


def test_large_pictures_go_alone(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tinct.coloring.jobs.BATCH_PIXELS", 5000)
    colorize([str(photos)], out=tmp_path / "out", batch_size=8)
    assert [call[0] for call in calls] == [1, 1, 1]


class Particular(torch.nn.Module):
    """Colours that hang on what is seen, its size and the seed."""

    samples = True

    def forward(self, l: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        calls.append(tuple(l.shape))
        seen = torch.nn.functional.avg_pool2d(l, 4) / 100
        return torch.cat((30 * torch.sin(6 * seen), seen * l.shape[2] / 4 - 8 * (seed or 0)), dim=1)


def test_the_command_colours_as_python_does_with_the_same_settings(photos, tmp_path, monkeypatch):
    loaded = []

    def load(model, device):
        loaded.append((model, device))
        return Colorizer(Particular(), 64, model, "cpu")

    monkeypatch.setattr(Colorizer, "load", load)
    Image.fromarray(data.astronaut()[::8, ::8]).save(photos / "deep" / "b.png")  # may be painted over, but not too soon
    pixels_before, colorizer = read(photos / "deep" / "b.png").pixels, load("reference", "cpu")
    words = ["colorize", str(photos), "-o", str(tmp_path / "out"), "--format", "png", "--model", "mine"]
    settings = ["--size", "96", "--saturation", "0.6", "--seed", "3", "--samples", "2", "--device", "cpu"]
    assert main([*words, *settings, "--batch-size", "3"]) == 0
    assert loaded[1:] == [("mine", "cpu")]
    assert [call[0] for call in calls] == [3, 3]  # one batch, drawn from twice
    expected = colorizer.samples(pixels_before, 2, seed=3, size=96, saturation=0.6)
    for number, pixels in enumerate(expected, 1):
        assert np.array_equal(read(tmp_path / "out" / "deep" / f"b-{number}.png").pixels, pixels)
    assert main(["colorize", str(photos / "deep" / "b.png"), "-o", str(tmp_path / "best.png")]) == 0
    assert np.array_equal(read(tmp_path / "best.png").pixels, colorizer(pixels_before))


def test_hints_are_those_of_python(photos, tmp_path):
    out = tmp_path / "b.png"
    given = {"hints": ["20,30=#2040a0", "50,9.5=tan"], "saturation": 0.5}
    assert colorize([str(photos / "deep" / "b.png")], out=out, **given) == 0
    colorizer = Colorizer(Network(), 64, "fake", "cpu")
    known = [(20, 30, "#2040a0"), (50, 9.5, "tan")]
    expected = colorizer.colour([read(photos / "deep" / "b.png")], hints=known, saturation=0.5)[0]
    assert np.array_equal(read(out).pixels, expected.pixels)
    assert colorize([str(photos / "a.jpg")], out=tmp_path / "two", samples=2, **given) == 0
    for number in (1, 2):
        pixels = read(tmp_path / "two" / f"a-{number}.jpg").pixels.astype(int)
        assert pixels[30, 20, 2] > pixels[30, 20, 0] + 20


def test_other_hints_are_not_taken_for_done(photos, tmp_path, capsys):
    out = tmp_path / "b.png"
    assert colorize([str(photos / "a.jpg")], out=out) == 0
    before = out.read_bytes()
    with pytest.raises(TinctError, match=r"b.png has a result already, maybe with other hints; give --overwrite"):
        colorize([str(photos / "a.jpg")], out=out, hints=["20,30=navy"])
    with pytest.raises(TinctError, match=r"b.png has a result already"):  # of which the sheet would show another
        colorize([str(photos / "a.jpg")], out=out, hints=["20,30=navy"], compare=True)
    assert out.read_bytes() == before
    assert colorize([str(photos / "a.jpg")], out=out, hints=["20,30=navy"], overwrite=True) == 0
    assert out.read_bytes() != before
    assert colorize([str(photos / "none.jpg")], out=tmp_path / "c.png", hints=["20,30=navy"]) == 1
    assert "No such file" in capsys.readouterr().err


def test_samples_and_a_sheet(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert colorize([str(photos / "a.jpg")], out=out, samples=2, seed=1, compare=True) == 0
    assert names(out) == ["a-1.jpg", "a-2.jpg", "a-compare.jpg"]
    assert redness(out / "a-2.jpg") > redness(out / "a-1.jpg") + 5
    height, width = read(photos / "a.jpg").size
    assert read(out / "a-compare.jpg").size == (height, 3 * width + 16)
    before = read(out / "a-compare.jpg").pixels[:, : width - 2].astype(int)
    assert np.ptp(before, axis=2).max() < 8
    assert read(out / "a-compare.jpg").pixels[:, width + 2 : width + 6].min() > 240  # white between
    calls.clear()
    assert colorize([str(photos / "a.jpg")], out=out, samples=2, seed=1, compare=True) == 0
    assert not calls
    assert colorize([str(photos / "a.jpg")], out=out, samples=3, seed=1, compare=True) == 0
    assert read(out / "a-compare.jpg").size == (height, 4 * width + 24)  # with the version that was added
    capsys.readouterr()
    assert colorize([str(photos / "a.jpg")], out=tmp_path / "b.png", samples=2) == 0
    assert f"see {tmp_path}\n" in capsys.readouterr().err  # where b-1.png is, and no b.png


def test_what_is_there_stays_where_another_result_is_missing(photos, tmp_path):
    out = tmp_path / "out"
    assert colorize([str(photos / "a.jpg")], out=out) == 0
    (out / "a-2.jpg").write_bytes(b"mine")
    kept = (out / "a.jpg").read_bytes()
    assert colorize([str(photos / "a.jpg")], out=out, saturation=0.2, compare=True) == 0
    assert (out / "a.jpg").read_bytes() == kept
    width = read(photos / "a.jpg").size[1]
    shown = read(out / "a-compare.jpg").pixels[:, width + 8 :]
    assert np.abs(shown.astype(int) - read(out / "a.jpg").pixels).mean() < 4  # what is there, not what would be
    assert colorize([str(photos / "a.jpg")], out=out, samples=2, overwrite=False) == 0
    assert (out / "a-1.jpg").exists()
    assert (out / "a-2.jpg").read_bytes() == b"mine"


def test_a_seed_alone_draws(photos, tmp_path):
    for name, seed in (("best", None), ("drawn", 1)):
        assert colorize([str(photos / "a.jpg")], out=tmp_path / f"{name}.png", seed=seed) == 0
    assert redness(tmp_path / "best.png") > redness(tmp_path / "drawn.png") + 5


@pytest.mark.parametrize("order", [1, -1])
def test_beside_a_folder_one_picture_goes_into_a_folder_in_either_order(photos, tmp_path, order):
    (tmp_path / "empty").mkdir()
    given = [str(photos / "a.jpg"), str(tmp_path / "empty")][::order]
    with pytest.raises(TinctError, match="1 pictures cannot go to"):
        colorize(given, out=tmp_path / "out.jpg")
    assert colorize(given, out=tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.jpg"]


def test_a_sheet_with_an_earlier_result_of_another_size_is_refused_and_the_rest_done(photos, tmp_path, capsys):
    colorize([str(photos)], out=tmp_path / "out")
    Image.fromarray(data.camera()[:40, :60]).save(photos / "a.jpg")
    assert colorize([str(photos)], out=tmp_path / "out", compare=True) == 1
    assert "is of a picture of another size; give --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "deep" / "b-compare.jpg").exists()


def test_what_failed_before_a_full_disk_is_said(photos, tmp_path, monkeypatch, capsys):
    def full(picture, path, form=None):
        raise TinctError("cannot write: no space left on device")

    (photos / "0.jpg").write_bytes(b"no picture")
    monkeypatch.setattr(tinct.coloring.work, "write", full)
    with pytest.raises(TinctError, match="no space left"):
        colorize([str(photos)], out=tmp_path / "out", batch_size=1)
    assert "0.jpg" in capsys.readouterr().err


def test_the_sheet_is_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(data.camera()[:100, :60]).save(tmp_path / "a.jpg", exif=exif)
    colorize([str(tmp_path / "a.jpg")], out=tmp_path / "out", compare=True)
    assert read(tmp_path / "out" / "a-compare.jpg").size == (60, 208)
    Image.new("RGB", (90, 60), "grey").save(tmp_path / "a.png")
    colorize([str(tmp_path / "a.png")], out=tmp_path / "out", compare=True)
    assert read(tmp_path / "out" / "a-compare.jpg").size == (60, 208)  # another picture's, which stays
    assert read(tmp_path / "out" / "a.jpg").orientation == 6


def test_colour_photographs_can_be_left_alone(photos, tmp_path, caplog):
    Image.fromarray(data.astronaut()).save(photos / "colour.jpg")
    sepia = (data.camera()[::2, ::2, None] * np.array([1, 0.85, 0.65])).astype(np.uint8)
    Image.fromarray(sepia).save(photos / "sepia.jpg")
    out = tmp_path / "out"
    assert colorize([str(photos)], out=out, keep_colour=True) == 0
    assert (out / "colour.jpg").read_bytes() == (photos / "colour.jpg").read_bytes()
    assert (out / "sepia.jpg").read_bytes() != (photos / "sepia.jpg").read_bytes()
    said = "is of one hue, taken for a toned print and coloured; if it is a colour photograph, copy it"
    assert caplog.messages == [f"{photos / 'sepia.jpg'} {said}"]
    assert colorize([str(photos)], out=tmp_path / "png", keep_colour=True, format="png") == 0
    assert np.array_equal(read(tmp_path / "png" / "colour.png").pixels, read(photos / "colour.jpg").pixels)


def test_kept_colour_photographs_never_take_the_place_of_an_input(photos, tmp_path, capsys):
    Image.fromarray(data.astronaut()[::4, ::4]).save(photos / "x.jpg")
    Image.open(photos / "a.jpg").save(photos / "x.png")
    before = {name: (photos / name).read_bytes() for name in names(photos)}
    everything = str(photos / "**" / "*")
    assert colorize([everything], out=photos, format="png", samples=2, keep_colour=True, overwrite=True) == 1
    assert {name: (photos / name).read_bytes() for name in before} == before
    out = tmp_path / "out"
    assert colorize([str(photos / "x.jpg")], out=out, compare=True, keep_colour=True) == 0
    written = (out / "x.jpg").stat().st_mtime_ns
    capsys.readouterr()
    assert colorize([str(photos / "x.jpg")], out=out, compare=True, keep_colour=True) == 0
    assert "1 there already" in capsys.readouterr().err
    assert (out / "x.jpg").stat().st_mtime_ns == written


def test_an_output_above_the_input(photos, tmp_path):
    assert colorize([str(photos)], out=tmp_path, format="webp") == 0
    assert {"a.webp", "deep/b.webp", "deep/er/C.webp"} <= set(names(tmp_path))


def test_paths_may_begin_at_home(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    for number, given in enumerate(("~", "~/*.jpg")):
        assert colorize([given], out=tmp_path / f"home{number}", size=64) == 0
        assert list((tmp_path / f"home{number}").iterdir())


def test_a_pattern_that_nothing_fits_is_named_like_a_missing_file(photos, tmp_path, capsys):
    empty = str(tmp_path / "nothing" / "*.png")
    assert colorize([str(photos / "**" / "*.jpg"), empty], out=tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "1 failed" in said
    assert "No such file or directory" in said
    assert "a.jpg" in names(tmp_path / "out")
    assert colorize([empty], out=tmp_path / "out") == 1


def test_globs_pass_over_earlier_results_and_hidden_files(photos):
    Image.open(photos / "a.jpg").save(photos / ".hidden.jpg")
    inputs = [str(photos / "**" / "*.jpg")]
    for _ in range(2):
        assert colorize(inputs, out=photos / "coloured") == 0
        assert names(photos / "coloured") == ["a.jpg"]


def test_one_source_named_twice_fails_only_where_it_clashes(photos, tmp_path, capsys):
    Image.open(photos / "a.jpg").save(photos / "deep" / "a.jpg")
    out = tmp_path / "out"
    assert colorize([str(photos), str(photos / "deep")], out=out) == 1
    assert names(out) == ["a.jpg", "b.png", "deep/a.jpg", "deep/b.png", "deep/er/C.TIF", "er/C.TIF"]
    assert "1 failed" in capsys.readouterr().err


def test_of_a_clash_the_picture_is_named_and_not_its_sheet(tmp_path):
    jobs = [Job(tmp_path / name, tmp_path / "out" / "a.png") for name in ("a.jpg", "a.tif")]
    assert clashes(jobs, compare=True)[jobs[1]].startswith(f"a.png would overwrite that of {tmp_path / 'a.jpg'}")


def test_a_result_whose_name_cannot_be_is_one_failure(photos, tmp_path, capsys):
    long = "a" * 251
    Image.open(photos / "a.jpg").save(photos / f"{long}.jpg")
    Image.open(photos / "a.jpg").save(photos / ("\N{FAMILY}" * 60 + ".jpg"))
    out = tmp_path / "out"
    (out / "a.jpg").mkdir(parents=True)
    assert colorize([str(photos)], out=out, compare=True) == 1
    error = capsys.readouterr().err
    assert "2 failed" in error
    assert "File name too long" in error
    assert "Is a directory" in error
    assert {"deep/b.png", "deep/b-compare.jpg", "\N{FAMILY}" * 60 + "-compare.jpg"} <= set(names(out))


def test_links_in_a_circle(photos, tmp_path, capsys):
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (photos / "deep" / "up").symlink_to(photos)
    for inputs in (photos, photos / "loop.jpg"):
        assert colorize([str(inputs)], out=tmp_path / "out") == 1
        assert "symbolic links" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.jpg", "deep/b.png", "deep/er/C.TIF"]


def test_links_are_followed_and_what_is_passed_over_is_counted(photos, tmp_path, capsys, caplog):
    apart = tmp_path / "apart"
    apart.mkdir()
    (photos / "deep" / "b.png").rename(apart / "b.png")
    (photos / "linked").symlink_to(apart)
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    Image.open(photos / "a.jpg").save(photos / "a.gif")
    for name in ("a.JXL", "b.cr2", "c.cr2", "notes.txt"):
        (photos / name).write_bytes(b"of another kind")
    assert colorize([str(photos)], out=tmp_path / "out") == 1
    assert names(tmp_path / "out") == ["a.jpg", "deep/er/C.TIF", "linked/b.png"]
    assert "gone.jpg" in capsys.readouterr().err
    counted = "2 .cr2, 1 .gif, 1 .jxl"
    assert caplog.messages == [f"{photos}: passed over pictures of formats that are not coloured: {counted}"]


def test_heif_is_coloured_by_the_name_that_cameras_give_it(tmp_path):
    pytest.importorskip("pillow_heif")
    (tmp_path / "in").mkdir()
    Image.fromarray(data.camera()[::8, ::8]).save(tmp_path / "in" / "A.HIF", "HEIF")
    assert colorize([str(tmp_path / "in")], out=tmp_path / "out") == 0
    assert read(tmp_path / "out" / "A.HIF").format == "HEIF"
    assert redness(tmp_path / "out" / "A.HIF") > 20


def test_pgm_and_ppm_become_png_of_the_same_depth(tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    grey, colour = data.camera()[::8, ::8], data.astronaut()[::8, ::8]
    for depth, kind in ((255, np.uint8), (65535, ">u2")):
        for name, pixels in (("grey.pgm", grey), ("colour.PPM", colour)):
            header = f"P{4 + pixels.ndim // 3 + 1} {pixels.shape[1]} {pixels.shape[0]} {depth}\n"
            (folder / f"{depth}-{name}").write_bytes(
                header.encode() + (pixels.astype(int) * (depth // 255)).astype(kind).tobytes()
            )
    assert colorize([str(folder)], out=out, keep_colour=True) == 0
    assert "2 coloured, 2 left as they are; see " in capsys.readouterr().err
    assert names(out) == [f"{depth}-{name}.png" for depth in (255, 65535) for name in ("colour", "grey")]
    for depth in (255, 65535):
        assert np.array_equal(read(out / f"{depth}-colour.png").pixels, colour * np.uint16(depth // 255))
        made = read(out / f"{depth}-grey.png")
        assert (made.format, made.pixels.dtype) == ("PNG", np.uint8 if depth == 255 else np.uint16)
        assert made.pixels.shape == (*grey.shape, 3)
    with pytest.raises(TinctError, match=r"out is .*x.pgm; expected a folder, or a file ending in .jpg"):
        colorize([str(folder / "255-grey.pgm")], out=tmp_path / "x.pgm")


def test_a_full_standard_output_is_one_sentence(photos, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(TinctError, match="cannot write to standard output: No space left"):
            colorize([str(photos / "a.jpg")], out=Path("-"))
        monkeypatch.setattr(sys, "stdin", None)
        with pytest.raises(TinctError, match="standard input is closed"):
            colorize(["-"], out=Path("-"))
        monkeypatch.undo()


def test_a_reader_that_leaves_is_for_the_command_line(photos, monkeypatch):
    theirs, ours = os.pipe()
    os.close(theirs)
    with os.fdopen(ours, "wb", buffering=0) as pipe:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe))
        with pytest.raises(BrokenPipeError):
            colorize([str(photos / "a.jpg")], out=Path("-"))
        monkeypatch.undo()


def test_inputs_are_never_overwritten(photos, tmp_path, capsys):
    before = {name: (photos / name).read_bytes() for name in names(photos)}
    assert colorize([str(photos / "**" / "*")], out=photos, overwrite=True) == 1
    assert colorize([str(photos / "a.jpg")], out=photos / "a.jpg", overwrite=True) == 1
    assert {name: (photos / name).read_bytes() for name in names(photos)} == before
    assert "overwrite the input" in capsys.readouterr().err.replace("\n", " ")


def test_an_input_under_another_name_is_not_overwritten_either(photos, tmp_path, capsys):
    """As where names may differ in case; a second link is the same file here."""
    name = sorted(path.name for path in photos.iterdir() if path.is_file())[0]
    (tmp_path / "Photos").mkdir()
    os.link(photos / name, tmp_path / "Photos" / name)
    before = (photos / name).read_bytes()
    assert colorize([str(photos / name)], out=tmp_path / "Photos", overwrite=True) == 1
    assert "overwrite the input" in capsys.readouterr().err.replace("\n", " ")
    assert (tmp_path / "Photos" / name).read_bytes() == before


def test_results_inside_the_input_folder_are_not_coloured_again(photos):
    assert colorize([str(photos)], out=photos / "coloured") == 0
    assert colorize([str(photos)], out=photos / "coloured", overwrite=True) == 0
    assert "coloured/coloured/a.jpg" not in names(photos)
    assert len(names(photos / "coloured")) == 3


def test_two_pictures_with_one_result_name(photos, tmp_path, capsys):
    Image.open(photos / "a.jpg").save(photos / "a.png")
    assert colorize([str(photos)], out=tmp_path / "out", format="webp") == 1
    assert "another format" in capsys.readouterr().err.replace("\n", " ")
    assert names(tmp_path / "out") == ["a.webp", "deep/b.webp", "deep/er/C.webp"]


@pytest.mark.parametrize(
    ("inputs", "settings", "says"),
    [
        (["nothing"], {}, "no picture"),
        (["-", "x.jpg"], {}, "alone"),
        (["photos"], {"format": "gif"}, "expected jpeg"),
        (["photos"], {"samples": 0}, "at least 1"),
        (["photos"], {"saturation": 9.0}, "saturation"),
        (["photos"], {"size": 3}, "working size"),
        (["photos"], {"size": 4_000_000}, "working size"),
        (["photos"], {"samples": 2, "seed": 1 << 64}, "seed is"),
        (["photos/a.jpg"], {"out": "x.png", "format": "webp"}, "leave one of them out"),
        (["photos"], {"out": "x.png"}, "name a folder"),
        (["photos"], {"out": "-"}, "name a folder"),
        (["photos"], {"out": "photos", "format": "png"}, "the folder of the pictures themselves"),
        (["photos/a.jpg"], {"out": "-", "compare": True}, "one picture"),
        (["photos/a.jpg"], {"hints": ["1,2"]}, "hint is '1,2'; expected COLUMN,ROW=COLOUR"),
        (["photos/a.jpg"], {"hints": ["1,2=blurple"]}, "a hint's colour is 'blurple'"),
        (
            ["photos/a.jpg"],
            {"hints": ["99,2=red"]},
            "hint at 99,2 is outside .*a.jpg; expected columns below 64 and rows below 64",
        ),
        (["photos/a.jpg"], {"hints": ["1,2=red"], "keep_colour": True}, "--hints change .*; leave one of them out"),
        (["photos"], {"hints": ["1,2=red"]}, "hints are of one picture, but there are 3; colour it alone"),
    ],
)
def test_mistakes_are_one_sentence(photos, tmp_path, monkeypatch, inputs, settings, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    settings = {"out": "out", **settings}
    with pytest.raises(TinctError, match=says) as caught:
        colorize(inputs, **{**settings, "out": Path(settings["out"])})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_nothing_half_written_remains(photos, tmp_path):
    transparent = Image.new("LA", (8, 8), (128, 100))
    transparent.save(photos / "t.png")
    out = tmp_path / "out"
    assert colorize([str(photos / "t.png")], out=out, format="jpeg") == 1
    assert not out.exists() or os.listdir(out) == []


def test_sheets_and_versions_never_overwrite_one_another(photos, tmp_path, capsys):
    Image.open(photos / "a.jpg").save(photos / "a.bmp")
    Image.open(photos / "a.jpg").save(photos / "a-2.jpg")
    out = tmp_path / "out"
    assert colorize([str(photos)], out=out, compare=True) == 0
    sheets = {"a.jpg-compare.jpg", "a.bmp-compare.jpg", "a-2-compare.jpg"}
    assert {"a.jpg", "a.bmp", "a-2.jpg"} | sheets <= set(names(out))
    before = (photos / "a-2.jpg").read_bytes()
    assert colorize([str(photos / "a.jpg"), str(photos / "a-2.jpg")], out=photos, samples=2) == 1
    assert "a-2.jpg would overwrite the input" in " ".join(capsys.readouterr().err.split())
    assert (photos / "a-2.jpg").read_bytes() == before


def test_a_format_that_cannot_be_written_is_said_before_any_work(photos, tmp_path, monkeypatch):
    with pytest.raises(TinctError, match=r"out is .*x.gif; expected a folder, or a file ending in .jpg"):
        colorize([str(photos / "a.jpg")], out=tmp_path / "x.gif")
    monkeypatch.delitem(Image.SAVE, "HEIF", raising=False)
    for wanted in ({"out": tmp_path / "x.heic"}, {"out": tmp_path, "format": "heic"}):
        with pytest.raises(TinctError, match=r"heic cannot be written here; pip install 'tinct\[heic\]'"):
            colorize([str(photos / "a.jpg")], **wanted)
    assert not calls


@pytest.mark.parametrize("given", ["photos", "photos/a.jpg"])
def test_an_output_that_is_a_file_is_said_before_any_work(photos, tmp_path, given):
    (tmp_path / "list").write_text("mine")
    with pytest.raises(TinctError, match=r"out is .*list, a file; expected a folder, or a file ending in .jpg"):
        colorize([str(tmp_path / given)], out=tmp_path / "list")
    assert not calls


@pytest.mark.parametrize("step", ["colorize.reduced", "coloring.work.paint", "coloring.work.view"])
@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes")])
def test_too_little_memory_for_one_picture_is_one_failure(photos, tmp_path, monkeypatch, capsys, step, error):
    short_of_memory(monkeypatch, step, error)
    assert colorize([str(photos)], out=tmp_path / "out", compare=step.endswith("view")) == 1
    assert "not enough memory" in capsys.readouterr().err
    made = [name for name in names(tmp_path / "out") if "compare" not in name]
    assert made == ["a.jpg", "deep/er/C.TIF"]


def short_of_memory(monkeypatch, step, error):
    """Let a step of the work fail on b.png."""
    work = operator.attrgetter(step)(tinct)

    def short(picture, *arguments, **options):
        if picture.name.endswith("b.png"):
            raise error
        return work(picture, *arguments, **options)

    monkeypatch.setattr(f"tinct.{step}", short)


def test_too_little_memory_to_tell_colour_from_grey_is_one_failure(photos, tmp_path, monkeypatch):
    short_of_memory(monkeypatch, "coloring.work.toning", RuntimeError("can't allocate memory"))
    assert colorize([str(photos)], out=tmp_path / "out", keep_colour=True) == 1
    assert names(tmp_path / "out") == ["a.jpg", "deep/er/C.TIF"]


def test_a_folder_that_may_not_be_read_is_said(photos, tmp_path, monkeypatch):
    scan = os.scandir

    def closed(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(TinctError, match="deep: Permission denied"):
        colorize([str(photos)], out=tmp_path / "out")


def test_a_name_that_is_too_long_fails_alone_twice(photos, tmp_path, capsys):
    (photos / f"{'x' * 251}.jpg").write_bytes((photos / "a.jpg").read_bytes())
    for said in ("3 coloured", "3 there already"):
        assert colorize([str(photos)], out=tmp_path / "out", compare=True) == 1
        shown = capsys.readouterr().err
        assert said in shown
        assert "1 failed" in shown


def test_another_picture_on_standard_input_is_not_taken_for_the_first(photos, tmp_path, monkeypatch):
    def colour(**settings):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((photos / "a.jpg").read_bytes())))
        return colorize(["-"], out=tmp_path / "out", **settings)

    assert colour() == 0
    assert names(tmp_path / "out") == ["stdin.jpg"]  # by what it holds
    with pytest.raises(TinctError, match="has a result already"):
        colour()
    assert colour(overwrite=True) == 0


def test_an_empty_word_is_not_the_current_folder(tmp_path):
    with pytest.raises(TinctError, match="an input is empty"):
        colorize([""], out=tmp_path / "out")


def test_an_interrupted_folder_goes_on_by_the_same_command(photos, tmp_path, capsys, monkeypatch):
    words = ["colorize", str(photos), "-o", str(tmp_path / "out"), "--batch-size", "1"]
    colour, done = Colorizer.chroma, []

    def interrupted(self, pictures, **settings):
        if done:
            raise KeyboardInterrupt
        done.append(pictures)
        return colour(self, pictures, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Colorizer, "chroma", interrupted)
        assert main(words) == 130
        assert capsys.readouterr().err.endswith("interrupted; the same command goes on from there\n")
        assert main([*words, "--overwrite"]) == 130
        assert capsys.readouterr().err.endswith("interrupted\n")
    assert names(tmp_path / "out") == ["a.jpg"]
    assert main(words) == 0
    assert "2 coloured, 1 there already" in capsys.readouterr().err


def test_a_format_is_not_of_films(tmp_path, capsys):
    (tmp_path / "film.mp4").touch()
    assert main(["colorize", str(tmp_path / "film.mp4"), "-o", str(tmp_path / "out"), "--format", "png"]) == 2
    said = "format is png, which is of pictures; leave it out: a film's is that of its file's name"
    assert capsys.readouterr().err == f"tinct colorize: {said}\n"


def test_results_of_one_name_are_found_before_any_work(photos, tmp_path):
    for name in ("a.jp2", "a.png"):
        Image.open(photos / "a.jpg").save(photos / name)
    jobs = find_jobs([str(photos)], tmp_path / "out", None)  # JPEG 2000 becomes PNG
    (clash,) = clashes(jobs).values()
    assert clash.startswith("a.png would overwrite that of")
    assert len(clashes(find_jobs([str(photos)], tmp_path / "out", "PNG"))) == 2

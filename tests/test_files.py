"""Nobody ever sees half a file."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from tinct import files
from tinct.cli import main
from tinct.config import read_yaml
from tinct.errors import TinctError
from tinct.export import staging
from tinct.files import (
    alone_in,
    as_plain,
    atomic_path,
    expanded,
    in_full,
    read_json,
    write_bytes,
    write_image,
    write_json,
)
from tinct.runs import Run


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "kept.bin"
    write_bytes(path, b"old")

    class Stop(Exception):
        pass

    def fail():
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(b"half")
            assert unfinished.suffix == path.suffix
            raise Stop

    with pytest.raises(Stop):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["kept.bin"]


def test_a_full_disk_is_one_line(tmp_path):
    path = tmp_path / "kept.bin"
    write_bytes(path, b"old")

    said = r"cannot write .*kept\.bin: No space left on device; free some space"
    with pytest.raises(TinctError, match=said), atomic_path(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["kept.bin"]


@pytest.mark.parametrize(("number", "remedy"), [(errno.EDQUOT, "free some space"), (errno.EROFS, "choose a folder")])
def test_a_full_disk_is_where_a_copy_goes_not_what_is_copied(tmp_path, number, remedy):
    with (
        pytest.raises(TinctError, match=rf"cannot write .*kept\.bin: .*; {remedy}"),
        atomic_path(tmp_path / "kept.bin"),
    ):
        raise OSError(number, os.strerror(number), "original.bin")  # as shutil.copyfile does


def test_yaml_that_holds_itself(tmp_path):
    (tmp_path / "a.yaml").write_text("terms: &loop {a: *loop}")
    with pytest.raises(TinctError, match=r"a\.yaml: an alias \(\*\) stands within its own anchor"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("file/below.bin", "File exists; choose another folder"),
        ("folder", "Is a directory; name a file, not a folder"),
        ("x" * 300, "File name too long; choose a shorter name"),
        ("closed/a.bin", "Permission denied; choose a folder you may write to"),
    ],
)
def test_what_cannot_be_written_is_said_with_what_to_do(tmp_path, monkeypatch, name, says):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    if name.startswith("closed"):  # to root nothing is closed

        def denied(**_):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("tempfile.mkstemp", denied)
    with pytest.raises(TinctError, match=rf"^cannot write {tmp_path / name}: {says}$"):
        write_bytes(tmp_path / name, b"")


def test_another_file_that_fails_is_named_in_its_place(tmp_path):
    def copy():
        with atomic_path(tmp_path / "out.bin") as unfinished:
            shutil.copyfile(tmp_path / "gone.bin", unfinished)

    def export():
        with staging(tmp_path / "out", single=False) as folder:
            shutil.copyfile(tmp_path / "gone.bin", folder / "a.bin")

    for written, write in (("out.bin", copy), ("out", export)):
        said = (
            f"{tmp_path / 'gone.bin'}: No such file or directory, while {tmp_path / written} was being written; check"
        )
        with pytest.raises(TinctError, match=f"^{said}"):
            write()
    assert not os.listdir(tmp_path)


class Crash(BaseException):
    """The end of a process, at a moment that a test chooses."""


@pytest.fixture
def disk(monkeypatch):
    """What the disk is told: ("sync", which file, its bytes) and ("move", what is moved, to which folder), in order."""
    told: list[tuple] = []
    crash_at: list[int] = []
    sync, moves = os.fsync, {name: getattr(os, name) for name in ("rename", "replace")}

    def tell(*event):
        told.append(event)
        if crash_at == [len(told) - 1]:
            raise Crash

    def synced(descriptor):
        tell("sync", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size)
        sync(descriptor)

    def moved(name):
        def move(source, target, **options):
            parts = [Path(source), *Path(source).rglob("*")] if Path(source).is_dir() else [Path(source)]
            sizes = {part.stat().st_ino: part.stat().st_size for part in parts}
            tell("move", sizes, Path(target).parent.stat().st_ino)
            moves[name](source, target, **options)

        return move

    monkeypatch.setattr(os, "fsync", synced)
    for name in moves:
        monkeypatch.setattr(os, name, moved(name))
    return told, crash_at


def save(folder: Path, step: int) -> None:
    Run(folder).save({"ema": nn.Linear(2, 2)}, {}, {"step": step}, best=step == 1)


def export(folder: Path, single: bool) -> None:
    with staging(folder / "model.bin", single) as beside:
        (beside / "model.bin").write_bytes(b"weights")
        (beside / "model.json").write_bytes(b"report")


@pytest.mark.parametrize(
    ("write", "moves"),
    [
        (lambda folder: write_bytes(folder / "a.bin", b"new"), 1),
        (lambda folder: write_image(folder / "a.png", Image.new("L", (9, 9))), 1),
        (lambda folder: save(folder, 1), 3),  # and two files name it
        (lambda folder: export(folder, single=False), 1),
        (lambda folder: export(folder, single=True), 2),
    ],
)
def test_what_is_moved_into_place_is_on_the_disk_before_and_its_folder_after(tmp_path, disk, write, moves):
    told, _ = disk
    write(tmp_path)
    places = [place for place, event in enumerate(told) if event[0] == "move"]
    assert len(places) == moves
    for place in places:
        before = {event[1]: event[2] for event in told[:place] if event[0] == "sync"}
        _, sizes, folder = told[place]
        assert before.items() >= sizes.items()  # as long as they are, so that nothing was written since
        assert folder in [event[1] for event in told[place + 1 :] if event[0] == "sync"]
    if write.__code__.co_names[0] == "save":  # what names it is moved only once it is there for good
        assert told[places[0] + 1][:2] == ("sync", told[places[0]][2])


def test_whenever_a_process_ends_the_old_file_is_whole_or_the_new(tmp_path, disk):
    told, crash_at = disk
    path = tmp_path / "a.bin"
    for event, expected in enumerate((b"old", b"old", b"new")):  # sync the file, move it, sync the folder
        write_bytes(path, b"old")
        crash_at[:] = [len(told) + event]
        with pytest.raises(Crash):
            write_bytes(path, b"new")
        assert path.read_bytes() == expected
        assert os.listdir(tmp_path) == ["a.bin"]


def test_whenever_a_process_ends_its_last_checkpoint_is_whole(tmp_path, disk):
    told, crash_at = disk
    save(tmp_path / "whole", 1)
    begun = len(told)
    save(tmp_path / "whole", 2)
    for event in range(len(told) - begun):
        folder = tmp_path / str(event)
        save(folder, 1)
        crash_at[:] = [len(told) + event]
        with pytest.raises(Crash):
            save(folder, 2)
        assert step_of(folder, "last") in (1, 2)
        assert step_of(folder, "best") == 1
        save(folder, 2)  # goes on
        assert (step_of(folder, "last"), step_of(folder, "best")) == (2, 1)


def step_of(folder: Path, name: str) -> int:
    """The step of a checkpoint that is whole."""
    found = Run(folder).checkpoint(name)
    assert load_file(found.folder / "ema.safetensors").keys() == {"weight", "bias"}
    return found.state["step"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_syncs_no_folders_is_written_to(tmp_path, monkeypatch, code):
    sync = os.fsync

    def refused(descriptor):
        if broken or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    broken = False
    write_bytes(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    broken = True
    with pytest.raises(TinctError, match="cannot write"):
        write_bytes(tmp_path / "b.bin", b"new")


def test_a_file_may_be_read_by_whom_other_files_may(tmp_path):
    write_bytes(tmp_path / "ours", b"")
    (tmp_path / "plain").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_json_comes_back_and_has_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 0.1, "é"]})
    assert read_json(tmp_path / "a.json", "") == {"x": [1, 0.1, "é"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_an_error_of_the_system_is_one_line_too(tmp_path, capsys):
    long = tmp_path / ("x" * 300)
    for words in (
        ["colorize", str(long), "-o", str(tmp_path / "out")],
        ["colorize", str(tmp_path), "-o", str(long / "x.png")],
        ["colorize", str(tmp_path), "-o", str(tmp_path / "out"), "--model", str(long)],
        ["export", "~nobody-of-that-name/run", str(tmp_path / "out"), "--to", "timm"],
        ["weights", "list", "--shelf", str(long)],
        ["serve", "--port", "99999"],
    ):
        assert main(words) == 2, words
        assert capsys.readouterr().err.count("\n") == 1, words


def test_checkpoints_and_exports_are_for_whom_the_umask_says(tmp_path):
    """safetensors writes files, and tempfile makes folders, that their owner alone may read."""
    run = Run(tmp_path / "run")
    run.save({"generator": nn.Linear(2, 2)}, {}, {"step": 1}, best=False)
    with staging(tmp_path / "export", single=False) as beside:
        save_file({"a": torch.zeros(2)}, beside / "model.safetensors")
    checkpoint = run.checkpoints / "step-1"
    for folder in (checkpoint, tmp_path / "export"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~files.UMASK
        for file in folder.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~files.UMASK, file


def test_settings_hold_plain_values():
    given = [Path("a"), np.int64(3), np.float32(0.5), True, None, "x", 2, (Path("b"),)]
    assert as_plain(given) == ["a", 3, 0.5, True, None, "x", 2, ("b",)]
    assert [type(one) for one in as_plain(given)[1:4]] == [int, float, bool]


def test_small_numbers_in_yaml_are_numbers_however_written(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1e-3\nb: 1.0e-3\nc: -2.5E+4\nd: 1e-3x\ne: '1e-3'\nf: 3\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": 1e-3, "b": 1e-3, "c": -25000.0, "d": "1e-3x", "e": "1e-3", "f": 3}


def test_bytes_are_no_path():
    with pytest.raises(TinctError, match=r"b'film.mp4' is a bytes; expected a path"):
        expanded(b"film.mp4")


def test_places_are_the_same_however_they_are_spelled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    whole = str(tmp_path / "photos")
    for way in ("photos", "photos/", "./photos", "link/", whole, whole + "/"):
        assert in_full(way) == in_full("photos")
        assert in_full([way, "photos:"]) == in_full(["photos", "photos:"])
        assert in_full(f"voc:{way}") == in_full("voc:photos") != in_full("photos")
        assert in_full(f"voc:{way}@2012") == in_full("voc:photos@2012") != in_full("voc:photos@2007")
    assert in_full("csv:/at/12:30/labels.csv") == "csv:/at/12:30/labels.csv"
    assert in_full("photos:") == "photos:" != in_full("photos")
    assert in_full(None) is None


class Windows:
    """The module `os` as far as files are concerned: no folder can be opened there."""

    name = "nt"

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        assert flags == os.O_RDWR  # what is read only cannot be synced there
        return os.open(path, flags)


def test_windows_which_opens_no_folder_takes_files_checkpoints_and_exports(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "os", Windows())
    write_json(tmp_path / "one" / "a.json", {"a": 1})
    run = Run(tmp_path / "run")
    run.save({"ema": torch.nn.Linear(1, 1)}, {}, {"step": 3}, best=True)
    assert run.checkpoint("best").state == {"step": 3}
    assert json.loads((run.folder / "last.json").read_text())["checkpoint"] == "checkpoints/step-3"
    (tmp_path / "out").mkdir()
    with staging(tmp_path / "out", single=False) as folder:
        (folder / "a").write_text("a")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    assert not list(tmp_path.rglob(".*"))


def test_a_drive_is_no_prefix():
    assert in_full(r"C:\pictures").startswith(":")  # so that it is the place that is called `pictures` there
    assert in_full(r"voc:C:\VOCdevkit@2012").startswith("voc:")


HELD = """
import sys
from pathlib import Path
from tinct.files import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_two_processes_do_not_write_one_folder(tmp_path):
    folder = tmp_path / "run"
    words = [sys.executable, "-c", HELD, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TinctError, match="run is being written by another process; wait"), alone_in(folder):
            pass
        other.kill()  # however it ends
    with alone_in(folder):
        assert os.listdir(folder) == []

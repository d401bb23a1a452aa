"""Processes that work for another."""

import gc
import os
import subprocess
import sys

import pytest

from tinct.data.parallel import each_picture
from tinct.data.photos import Photos

HASHING = """
import os
import sys
import time

from tinct.data.parallel import each_picture
from tinct.data.sources import open_sources


def work(source, index):
    os.write(1, b"begun\\n")  # at once: the other one's may come between a text and its end
    time.sleep(600)


if __name__ == "__main__":
    source = open_sources([sys.argv[1]])
    with each_picture(source, work, "working", 2) as results:
        list(results)
"""
READING = """
import os
import time

import numpy as np

from tinct.data.loader import Photographs, crops_loader
from tinct.data.photos import Photos


class Slow(Photos):
    def picture(self, index, min_side=None):
        os.write(1, b"begun\\n")
        time.sleep(600)


if __name__ == "__main__":
    photographs = Photographs(Slow(), np.arange(8, dtype=np.uint32), 32, 0)
    next(iter(crops_loader(photographs, 2, range(4), workers=2)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
@pytest.mark.parametrize("code", [HASHING, READING])
def test_workers_end_with_a_process_that_is_killed(tmp_path, code):
    (tmp_path / "names.txt").write_text("".join(f"{number}.png\n" for number in range(100)))
    (tmp_path / "program.py").write_text(code)
    words = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "names.txt")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        lines = [program.stdout.readline() for _ in range(2)]
        program.kill()  # before it is waited for
        assert lines == ["begun\n"] * 2
        program.communicate(timeout=60)  # which waits for all that could still write


class Many(Photos):
    def __len__(self):
        return 64


class Left:
    """Garbage that only a collection finds, and that says in which process it is freed."""

    def __init__(self, file):
        self.file, self.own = file, self

    def __del__(self):
        with self.file.open("a") as file:
            file.write(f"{os.getpid()}\n")


def collected(source, index):
    gc.collect()
    return index


def test_a_worker_frees_nothing_that_its_parent_left(tmp_path):
    gc.collect()
    gc.disable()
    try:
        Left(tmp_path / "freed")
        with each_picture(Many(), collected, "working", 2) as results:
            assert list(results) == list(range(64))
        assert not (tmp_path / "freed").exists()
    finally:
        gc.enable()
    gc.collect()
    assert (tmp_path / "freed").read_text() == f"{os.getpid()}\n"

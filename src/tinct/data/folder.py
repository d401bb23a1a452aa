"""Picture files on disk, unlabelled: a folder, a known dataset layout, or a text file of paths."""

import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import Source
from tinct.data.decode import PICTURE_SUFFIXES, decode
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded, stamp
from tinct.outputs import holds_results

__all__ = ["PathSource", "open_folder", "read_lines", "scan", "split_folders", "split_of"]

_SPLIT_FOLDERS = {"train": {"train", "training"}, "val": {"val", "valid", "validation"}, "test": {"test", "testing"}}
# Folders of masks hold PNGs that are no photographs. The second list also names things that can be photographed, so
# it counts only beside a folder that says it holds the pictures.
_ANNOTATIONS = re.compile(r".*annot|annotations?|segmentation(class|object)(aug)?|gtfine|gtcoarse", re.IGNORECASE)
_MASKS_BESIDE_IMAGES = re.compile(r"masks?|labels?|gt|ground_?truth", re.IGNORECASE)
_IMAGES = re.compile(r"images?|imgs?|jpegimages|leftimg8bit", re.IGNORECASE)
_COCO = re.compile(r"(train|val|test|unlabeled)(20\d\d)")
_CODEC = ("utf-8", "surrogateescape")  # file names are bytes; this is lossless for all of them


class PathSource(Source):
    """Picture files by path.

    Names are kept as one block of bytes and one array of offsets: ten million take their own length and 8 bytes each,
    where a list of strings would take over a gigabyte, once for every worker. They are relative to `root`, so that a
    set keeps its fingerprint when its folder moves.

    Args:
        names: paths relative to `root`, or absolute ones; bytes are a whole list, each name ended by a newline.
        root: the folder that relative names start from.
        spec: what the user wrote.
        split: which part of the set these are.

    Attributes:
        others: files among them whose names do not end as a picture's do, by what they end in.
        results: folders among them that tinct wrote, whose pictures are no photographs.
    """

    def __init__(
        self, names: Iterable[str | Path] | bytes, root: Path | None = None, spec: str = "", split: str = "train"
    ) -> None:
        self.root = root or Path()
        self.spec = spec
        self.split = split
        self.others = Counter[str]()
        self.results: list[str] = []
        if isinstance(names, bytes):
            self._names, self._offsets = names, _after_newlines(names)
        else:
            block, offsets = bytearray(), array("q", [0])
            for name in names:
                block += str(name).encode(*_CODEC) + b"\n"
                offsets.append(len(block))
            self._names, self._offsets = bytes(block), np.asarray(offsets, np.int64)

    def __len__(self) -> int:
        """The number of paths."""
        return len(self._offsets) - 1

    def name(self, index: int) -> str:
        """The path as the list has it, or relative to the folder that was scanned, with forward slashes."""
        start, end = self._offsets[index], self._offsets[index + 1]
        return self._names[start : end - 1].decode(*_CODEC)

    def path(self, index: int) -> Path:
        """The path to open."""
        return self.root / self.name(index)

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """Decode the file, see `Source.picture`."""
        return decode(self.path(index), min_side)

    def stamp(self, index: int) -> tuple[int, int]:
        """See `Source.stamp`."""
        return stamp(self.path(index))

    def fingerprint(self) -> str:
        """The digest of `fingerprint_of`, in one go: the block is exactly what that function hashes."""
        return hashlib.sha256(self._names).hexdigest()[:16]


def open_folder(spec: str, split: str = "train") -> PathSource:
    """Open the pictures of a folder (see `scan`), or those that a text file lists, a path a line.

    Relative paths in a list start from the folder that holds the list. A list has no splits: it is taken whole. Blanks
    at the end of a line, and lines of nothing else, are passed over; there are no comments.

    Raises:
        TinctError: nothing there, nothing readable, or no pictures in it.
    """
    path, walk = expanded(spec), _Walk()
    try:
        if path.is_dir():
            source = PathSource(walk.files(path, split), path, spec, split)
            source.others, source.results = walk.others, walk.results
        else:
            source = PathSource(_read_list(path), path.parent, spec, split)
    except OSError as error:
        where = error.filename or spec
        raise TinctError(
            f"{where}: {error.strerror or error}; expected a folder of pictures or a text file of paths"
        ) from error
    if not len(source):
        kinds = ", ".join(PICTURE_SUFFIXES[:4])
        remedy = "" if split == "all" else "; --split all takes the pictures of every split"
        raise AbsentSplitError(f"{spec}: no pictures of the {split} split (files such as *{kinds}) in it{remedy}")
    return source


def scan(folder: Path, split: str = "train") -> Iterator[str]:
    """List the picture files under a folder, recursively and in order, relative to it.

    Datasets are recognised wherever they lie in the tree, and give the pictures of `split` only: a year of a
    VOCdevkit by its `ImageSets`, a COCO root by `train2017` (the newest year), any folder that holds `train` beside
    `val` or `test`. Pictures outside any such layout belong to `train`. `all` takes every split. Hidden files, folders
    of annotations, and folders below this one that tinct wrote are passed over; links are followed.

    Raises:
        OSError: a folder cannot be read.
    """
    return _Walk().files(folder, split)


class _Walk:
    """A walk through folders, and what it passed over: see the attributes of `PathSource`."""

    def __init__(self) -> None:
        self.others, self.results = Counter[str](), list[str]()
        self._seen = set[tuple[int, int]]()

    def files(self, folder: Path, split: str, prefix: str = "") -> Iterator[str]:
        """See `scan`; `prefix` is what leads to this folder."""
        status = folder.stat()
        if (status.st_dev, status.st_ino) in self._seen:  # a link to a folder above, or a second way to the same one
            return
        self._seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listing:
            entries = sorted((entry.name, _is_folder(entry)) for entry in listing if not entry.name.startswith("."))
        folders = {name for name, is_folder in entries if is_folder}
        if prefix and holds_results(folder):
            self.results.append(prefix.rstrip("/"))
            return
        if {"ImageSets", "JPEGImages"} <= folders and split != "all":
            yield from (f"{prefix}JPEGImages/{name}.jpg" for name in _voc_names(folder / "ImageSets", split))
            return
        chosen = split_folders(folders, split)
        for name, is_folder in entries:
            if is_folder:
                if name in (_photographs(folders) if chosen is None else chosen):
                    yield from self.files(folder / name, split if chosen is None else "all", f"{prefix}{name}/")
            elif chosen is None and split in ("train", "all"):
                if name.lower().endswith(PICTURE_SUFFIXES):
                    yield prefix + name
                else:
                    self.others[os.path.splitext(name)[1].lower()] += 1


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """What it says itself; but a link that goes round in circles is none, where it would raise an error."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _photographs(folders: set[str]) -> set[str]:
    """The folders that do not look like annotations."""
    plain = {name for name in folders if not _ANNOTATIONS.fullmatch(name)}
    if any(_IMAGES.fullmatch(name) for name in plain):
        plain = {name for name in plain if not _MASKS_BESIDE_IMAGES.fullmatch(name)}
    return plain


def split_folders(folders: set[str], split: str) -> set[str] | None:
    """Which of the folders side by side are `split`; None where they are no splits, or all are wanted."""
    if split == "all":
        return None
    coco = [match for match in map(_COCO.fullmatch, folders) if match]
    if any(match[1] == "train" for match in coco):
        newest = max(match[2] for match in coco if match[1] == "train")
        return {f"{split}{newest}"} & folders
    lower = {name: name.lower() for name in folders}
    present = {part for part, names in _SPLIT_FOLDERS.items() if names & set(lower.values())}
    if "train" in present and len(present) > 1:
        return {name for name in folders if lower[name] in _SPLIT_FOLDERS[split]}
    return None


def split_of(word: str) -> str | None:
    """Which of train, val and test a word such as `Training` or `valid` means; None where it is no split's."""
    return next((split for split, words in _SPLIT_FOLDERS.items() if word.lower() in words), None)


def _voc_names(image_sets: Path, split: str) -> list[str]:
    """The pictures of a split of one VOC year, over its classification and segmentation lists.

    The two tasks split the year differently, so a picture that either holds out is kept out of `train`.
    """

    def listed(part: str) -> set[str]:
        lists = [image_sets / task / f"{part}.txt" for task in ("Main", "Segmentation")]
        return {line.split()[0] for path in lists if path.exists() for line in read_lines(path)}

    held_out = listed("val") | listed("test") if split == "train" else set()
    return sorted(listed(split) - held_out)


def read_lines(path: Path) -> list[str]:
    """The lines of a set's own list, blank ones dropped.

    Raises:
        OSError: it cannot be read.
        TinctError: it is not in UTF-8.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise TinctError(f"{path}: {error}; expected a list in UTF-8") from error


def _read_list(path: Path) -> bytes:
    """The lines of a text file without blanks at their ends, empty ones dropped, each ended by one newline."""
    if path.suffix.lower() in PICTURE_SUFFIXES and path.exists():
        raise TinctError(f"{path}: a single file; expected a folder of pictures or a text file of paths")
    if path.suffix.lower() == ".csv":
        raise TinctError(
            f"{path}: a table; expected a text file of paths, or csv:{path} for a table with a column path"
        )
    lines = path.read_bytes()
    if b"\0" in lines[:4096]:
        raise TinctError(f"{path}: not a text file; expected one path to a picture in each line")
    lines = lines.removeprefix(b"\xef\xbb\xbf")
    lines = lines if lines.endswith(b"\n") or not lines else lines + b"\n"
    if lines.startswith(b"\n") or any(end in lines for end in (b"\r", b"\n\n", b" \n", b"\t\n")):
        # a copy, made only when there is a need; in folders too, a name that ends in a blank has no picture's ending
        lines = re.sub(rb"[ \t\r\n]*[\r\n]", b"\n", lines).removeprefix(b"\n")
    return lines


def _after_newlines(block: bytes) -> NDArray[np.int64]:
    """Where each line starts, and where the last one ends; in steps, because a mask of the whole would double it."""
    offsets = np.zeros(block.count(b"\n") + 1, np.int64)
    data, step, found = np.frombuffer(block, np.uint8), 1 << 24, 1
    for start in range(0, len(data), step):
        ends = np.flatnonzero(data[start : start + step] == ord("\n")) + (start + 1)
        offsets[found : found + len(ends)] = ends
        found += len(ends)
    return offsets

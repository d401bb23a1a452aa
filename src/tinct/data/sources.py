"""From what the user writes to a source: `folder`, `list.txt`, `photos:`, `voc:DIR`, and several of them joined."""

import importlib
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tinct.data.base import VOID, LabelledSource, Source
from tinct.data.decode import PICTURE_SUFFIXES
from tinct.data.folder import PathSource, open_folder
from tinct.data.joined import Joined, files_of, without
from tinct.data.labelled import Task
from tinct.data.photos import Photos
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded
from tinct.plugins import brought, load

__all__ = [
    "check_split",
    "is_labelled",
    "open_evaluated",
    "open_labelled",
    "open_pictures",
    "open_sources",
    "results_in",
]

# prefix: module and class, imported when asked for because some need pycocotools or torchvision
_LABELLED = {
    "voc": ("voc", "Voc"),
    "coco": ("coco", "Coco"),
    "camvid": ("camvid", "CamVid"),
    "csv": ("table", "Table"),
    "folder": ("classfolders", "ClassFolders"),
    "mosaic": ("mosaic", "Mosaic"),
}
SPLITS = ("train", "val", "test", "all")
HELD_OUT = ("val", "test")


def open_sources(specs: Sequence[str | Path], split: str = "train") -> Source:
    """Open what the user wrote as one unlabelled source.

    Args:
        specs: each a folder, a text file of paths, `photos:`, or a labelled source such as `voc:DIR`, whose labels
            are left aside.
        split: `train`, `val`, `test` or `all`.

    Returns:
        The pictures, in a fixed order: `len(source)` of them, `source.name(i)`, and `source.picture(i)`, (H, W, 3)
        uint8 sRGB, upright, which raises `PictureError` where it cannot be had.

    Raises:
        TinctError: a path is wrong, a prefix or split unknown, a source empty, or `specs` no list.

    Example:
        >>> source = open_sources(["photos:"])
        >>> len(source), source.name(0), source.picture(0).dtype
        (512, 'photos:astronaut#0', dtype('uint8'))
    """
    if isinstance(specs, str | Path):  # text would be taken for one source a letter
        raise TinctError(f"sources is {str(specs)!r}; expected a list, such as [{str(specs)!r}]")
    if not specs:
        raise TinctError("no source given; name a folder of pictures, a text file of paths, or photos:")
    parts = [_open(str(spec), split) for spec in specs]
    return parts[0] if len(parts) == 1 else Joined(parts)


def open_pictures(words: Sequence[str]) -> Source:
    """What the user named, joined: files as they are, everything else as `open_sources` takes it.

    Raises:
        TinctError: see `open_sources`.
    """
    if not words:
        raise TinctError("no picture given; name files, folders of pictures, or text files of paths")
    parts: list[Source] = []
    for word in words:
        path = expanded(word)
        single = path.is_file() and path.suffix.lower() in PICTURE_SUFFIXES
        parts.append(PathSource([path], spec=word, split="all") if single else open_sources([word], "all"))
    return parts[0] if len(parts) == 1 else Joined(parts)


def results_in(source: Source) -> list[str]:
    """The folders that tinct wrote, and that were passed over in the folders of a source."""
    if isinstance(source, Joined):
        return [name for part in source.parts for name in results_in(part)]
    return [(source.root / name).as_posix() for name in source.results] if isinstance(source, PathSource) else []


def is_labelled(spec: str) -> bool:
    """Whether a spec has the prefix of a labelled source."""
    prefix, colon, _ = spec.partition(":")
    return bool(colon) and (prefix in _LABELLED or issubclass(_brought(prefix), LabelledSource))


def open_labelled(spec: str | Path, split: str, task: Task) -> LabelledSource:
    """Open a labelled source: `voc:DIR`, `coco:DIR`, `camvid:DIR`, `csv:FILE`, `folder:DIR` or `mosaic:`.

    Args:
        spec: what the user wrote.
        split: `train`, `val` or `test`.
        task: `multilabel` or `segmentation`; the source has that task's labels only.

    Returns:
        Pictures as of `open_sources`; for `multilabel` also `classes`, C names, and `labels()`, (N, C) float32 of 1, 0
        or NaN (unknown); for `segmentation` `mask_classes`, and `mask(i)`, (H, W) uint8 of their places, 255 for void.

    Raises:
        TinctError: the prefix, split or task is unknown, the path wrong, the labels unusable, or the source empty.

    Example:
        >>> source = open_labelled("mosaic:", "val", "multilabel")
        >>> source.classes[:3], source.labels().shape
        (('astronaut', 'cat', 'coffee'), (200, 8))
    """
    spec = str(spec)
    check_split(split)
    if task not in get_args(Task):
        raise TinctError(f"{task}: unknown task; choose one of {', '.join(get_args(Task))}")
    if not is_labelled(spec):
        kinds = [*_LABELLED, *(name for name in brought("sources") if is_labelled(f"{name}:"))]
        raise TinctError(f"{spec}: not a labelled source; write {', '.join(f'{known}:…' for known in kinds)}")
    prefix, _, path = spec.partition(":")
    if prefix in _LABELLED and prefix != "mosaic":
        _check_path(spec, re.sub(r"@20\d\d$", "", path) if prefix == "voc" else path)
    module, name = _LABELLED.get(prefix, ("", ""))
    kind = getattr(importlib.import_module(f"tinct.data.{module}"), name) if module else _brought(prefix)
    source: LabelledSource = kind(path, split, task)
    if not len(source):
        raise AbsentSplitError(f"{spec}: no pictures of the {split} split in it")
    if source.groups is not None:
        if len(source.groups) != len(source):
            raise TinctError(f"{spec}: {len(source.groups)} groups for {len(source)} pictures; expected one for each")
        source.groups = np.unique(source.groups, return_inverse=True)[1]
    if task == "segmentation" and len(source.mask_classes) > VOID:
        raise AbsentSplitError(
            f"{spec}: {len(source.mask_classes)} classes of masks; expected {VOID} at most, as masks are of 8 bits"
        )
    return source


def open_evaluated(spec: str) -> Source:
    """The pictures that a labelled source evaluates on: those of its val and test splits, whichever task has them.

    Raises:
        TinctError: it has no such split.
    """
    return Joined(_parts_of(spec, HELD_OUT))


def _open(spec: str, split: str) -> Source:
    check_split(split)
    if spec == "photos:":
        return Photos(split)
    if is_labelled(spec):
        return _pictures_of(spec, split)
    _check_path(spec, spec)
    prefix, colon, path = spec.partition(":")
    if colon and prefix in brought("sources"):
        source: Source = _brought(prefix)(path, split)
        if not len(source):
            raise AbsentSplitError(f"{spec}: no pictures of the {split} split in it")
        return source
    if colon and len(prefix) > 1 and not Path(spec).exists():  # C: is a drive
        known = ", ".join(f"{known}:" for known in ("photos", *_LABELLED, *brought("sources")))
        raise TinctError(f"{spec}: no such path, and {prefix}: is no kind of source; the kinds are {known}")
    return open_folder(spec, split)


def _pictures_of(spec: str, split: str) -> Source:
    """The pictures of a labelled source: each task's of that split, and for `all` those of every split.

    As in `folder.py`, a picture that either task holds out is kept out of `train`: VOC's tasks split it differently.
    """
    found = _parts_of(spec, SPLITS[:-1] if split == "all" else (split,))
    if split == "train":
        held: list[Source] = []
        with suppress(AbsentSplitError):
            held = _parts_of(spec, HELD_OUT)
        files = {file for source in held for file in files_of(source)}
        found = [left for source in found if len(left := without(source, files))]
        if not found:
            raise TinctError(f"{spec}: all pictures of the train split are in val or test too")
    return found[0] if len(found) == 1 else Joined(found)


def _parts_of(spec: str, splits: Sequence[str]) -> list[Source]:
    """The splits of a labelled source for either task, as far as they are there; each picture once.

    Raises:
        AbsentSplitError: none is.
    """
    found: list[Source] = []
    files: set[Path] = set()
    refusals = []
    for split in splits:
        for task in get_args(Task):
            try:
                source = open_labelled(spec, split, task)
            except AbsentSplitError as error:
                refusals.append(error)
                continue
            if not isinstance(source, PathSource):  # the same pictures for every task
                found.append(source)
                break
            left = without(source, files)
            files.update(files_of(left))
            found += [left] if len(left) else []
    if not found:
        raise refusals[0]
    return found


def _brought(prefix: str) -> Any:
    """The class of another package's source; `Source` itself where none brings that prefix."""
    return load("sources", prefix, Source) if prefix in brought("sources") else Source


def check_split(split: str) -> None:
    """Refuse a word that is no split.

    Raises:
        TinctError: it is none of train, val, test and all.
    """
    if split not in SPLITS:
        raise TinctError(f"{split}: unknown split; choose one of {', '.join(SPLITS)}")


def _check_path(spec: str, path: str) -> None:
    """Refuse a source without a path: with a variable that is unset, it would be the folder one happens to be in."""
    if not path.strip():
        raise TinctError(
            f"{spec!r} names no path (is a variable unset?); name a folder or a file, or . for the folder you are in"
        )

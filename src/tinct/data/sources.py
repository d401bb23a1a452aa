"""From what the user writes to a source: `folder`, `list.txt`, `photos:`, `voc:DIR`, and several of them joined."""

import importlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import VOID, LabelledSource, Source, fingerprint_of
from tinct.data.decode import PICTURE_SUFFIXES
from tinct.data.folder import PathSource, open_folder
from tinct.data.labelled import Task
from tinct.data.photos import Photos
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded

__all__ = ["Joined", "is_labelled", "open_held_out", "open_labelled", "open_pictures", "open_sources", "results_in"]

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


class Joined(Source):
    """Several sources one after the other; where their folders differ, names begin with these, to be told apart."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)
        self.spec = " ".join(part.spec for part in parts)
        self.split = parts[0].split
        roots = [_root(part) for part in parts]
        self.root = roots[0] if len(set(roots)) == 1 else None
        self._prefixes = roots if self.root is None else [None] * len(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        """The sum of the parts' lengths."""
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the part that holds picture `index`, and the picture's index there."""
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - (int(self._ends[part - 1]) if part else 0)

    def name(self, index: int) -> str:
        """The name its part gives it, after the part's folder as the user wrote it where there are several."""
        part, position = self.locate(index)
        name, prefix = self.parts[part].name(position), self._prefixes[part]
        return name if prefix is None else (prefix / name).as_posix()

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """See `Source.picture`."""
        part, position = self.locate(index)
        return self.parts[part].picture(position, min_side)

    def stamp(self, index: int) -> tuple[int, int]:
        """See `Source.stamp`."""
        part, position = self.locate(index)
        return self.parts[part].stamp(position)

    def fingerprint(self) -> str:
        """Over the parts' fingerprints and lengths, because a part may know a faster way to its own than its names."""
        return fingerprint_of(f"{part.fingerprint()} {len(part)}" for part in self.parts)


class Without(Source):
    """A source without some of its pictures."""

    def __init__(self, source: Source, kept: Sequence[int]) -> None:
        self.source, self.kept = source, kept
        self.spec, self.split = source.spec, source.split

    def __len__(self) -> int:
        """How many are left."""
        return len(self.kept)

    def name(self, index: int) -> str:
        """The name in the source."""
        return self.source.name(self.kept[index])

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """See `Source.picture`."""
        return self.source.picture(self.kept[index], min_side)

    def stamp(self, index: int) -> tuple[int, int]:
        """See `Source.stamp`."""
        return self.source.stamp(self.kept[index])


def open_sources(specs: Sequence[str | Path], split: str = "train") -> Source:
    """Open what the user wrote as one unlabelled source.

    Args:
        specs: each a folder, a text file of paths, `photos:`, or a labelled source such as `voc:DIR`, whose labels
            are left aside.
        split: `train`, `val`, `test` or `all`.

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
    return bool(colon) and prefix in _LABELLED


def open_labelled(spec: str | Path, split: str, task: Task) -> LabelledSource:
    """Open a labelled source: `voc:DIR`, `coco:DIR`, `camvid:DIR`, `csv:FILE`, `folder:DIR` or `mosaic:`.

    Args:
        spec: what the user wrote.
        split: `train`, `val` or `test`.
        task: `multilabel` or `segmentation`; the source has that task's labels only.

    Raises:
        TinctError: the prefix, split or task is unknown, the path wrong, the labels unusable, or the source empty.

    Example:
        >>> source = open_labelled("mosaic:", "val", "multilabel")
        >>> source.classes[:3], source.labels().shape
        (('astronaut', 'cat', 'coffee'), (200, 8))
    """
    spec = str(spec)
    _check_split(split)
    if task not in get_args(Task):
        raise TinctError(f"{task}: unknown task; choose one of {', '.join(get_args(Task))}")
    if not is_labelled(spec):
        raise TinctError(f"{spec}: not a labelled source; write {', '.join(f'{known}:…' for known in _LABELLED)}")
    prefix, _, path = spec.partition(":")
    module, name = _LABELLED[prefix]
    source: LabelledSource = getattr(importlib.import_module(f"tinct.data.{module}"), name)(path, split, task)
    if not len(source):
        raise AbsentSplitError(f"{spec}: no pictures of the {split} split in it")
    if task == "segmentation" and len(source.mask_classes) > VOID:
        raise AbsentSplitError(
            f"{spec}: {len(source.mask_classes)} classes of masks; expected {VOID} at most, as masks are of 8 bits"
        )
    return source


def open_held_out(spec: str) -> Source:
    """The pictures that a labelled source evaluates on: those of its val and test splits, whichever task has them.

    Raises:
        TinctError: it has no such split.
    """
    return Joined(_parts_of(spec, HELD_OUT))


def _open(spec: str, split: str) -> Source:
    _check_split(split)
    if spec == "photos:":
        return Photos(split)
    if is_labelled(spec):
        return _pictures_of(spec, split)
    prefix, colon, _ = spec.partition(":")
    if colon and len(prefix) > 1 and not Path(spec).exists():  # C: is a drive
        known = ", ".join(f"{known}:" for known in ("photos", *_LABELLED))
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
        files = {file for source in held for file in _files(source)}
        found = [left for source in found if len(left := _without(source, files))]
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
            left = _without(source, files)
            files.update(_files(left))
            found += [left] if len(left) else []
    if not found:
        raise refusals[0]
    return found


def _root(source: Source) -> Path | None:
    """The folder that a source's names start from; None where they are no paths, or are whole already."""
    if isinstance(source, Without):
        return _root(source.source)
    return source.root if isinstance(source, PathSource | Joined) else None


def _files(source: Source) -> list[Path]:
    """The files of a source that has them."""
    if isinstance(source, Without):
        files = _files(source.source)
        return [files[index] for index in source.kept]
    return [source.path(index) for index in range(len(source))] if isinstance(source, PathSource) else []


def _without(source: Source, dropped: Collection[Path]) -> Source:
    """The source, or what is left of it."""
    files = _files(source)
    kept = [index for index, file in enumerate(files) if file not in dropped]
    return Without(source, kept) if len(kept) < len(files) else source


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise TinctError(f"{split}: unknown split; choose one of {', '.join(SPLITS)}")

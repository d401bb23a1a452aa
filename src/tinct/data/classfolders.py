"""Pictures sorted into one folder a class, with or without splits."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinct.data.folder import read_lines, scan, split_folders
from tinct.data.labelled import LabelledFiles, Task
from tinct.data.subsets import drawn_split
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded
from tinct.outputs import holds_results

__all__ = ["ClassFolders"]


class ClassFolders(LabelledFiles):
    """`folder:DIR`: the folder that a picture lies in is its one class.

    With splits, `DIR/train/CLASS/…` beside `DIR/val/CLASS/…` or `DIR/test/CLASS/…`; or `DIR/val/images/…` with classes
    in `DIR/val/val_annotations.txt`, as Tiny ImageNet has it. Without, `DIR/CLASS/…`: then about a fifth of each
    class, drawn by the names of its pictures, is `val` and the rest `train`. Class folders are searched recursively.

    Args:
        path: the folder.
        split: `train`, `val` or `test`.
        task: `multilabel`: one class of each picture is 1, the others 0.

    Raises:
        TinctError: no such folder or split, fewer than two classes, a class that `train` does not have, or the task
            is segmentation.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        if task == "segmentation":
            raise AbsentSplitError(f"folder:{path}: has no masks; choose the multilabel task")
        root = expanded(path)
        folders = _folders(root)
        if split_folders(folders, "train") is None:
            self.classes = _with_pictures(root, folders)
            pictures = _of_classes(root, "", self.classes)
            within = [name.partition("/")[2] for name, _ in pictures]  # a picture keeps its side when its class changes
            chosen = drawn_split(within, split, np.array([column for _, column in pictures]))
            pictures = [pictures[place] for place in np.flatnonzero(chosen)]
            self.note = "has no split folders: about a fifth of each class, drawn by file names, is val, the rest train"
        else:
            train = root / _split_folder(root, folders, "train")
            self.classes = _with_pictures(train, _folders(train))
            pictures = self._of_split(root, _split_folder(root, folders, split), split)
        if len(self.classes) < 2:
            raise TinctError(f"{root}: {len(self.classes)} folders of classes in it; expected at least two")
        if not pictures:
            raise AbsentSplitError(f"{root}: no pictures of the {split} split in its folders of classes")
        super().__init__((name for name, _ in pictures), root, f"folder:{path}", split)
        self._columns = np.array([column for _, column in pictures])

    def _of_split(self, root: Path, folder: str, split: str) -> list[tuple[str, int]]:
        """Picture names and class numbers of one split folder."""
        table = root / folder / f"{split}_annotations.txt"
        if table.exists():
            entries = [line.split("\t")[:2] for line in read_lines(table)]
            self._check({entry[-1] for entry in entries}, table)
            return [(f"{folder}/images/{name}", self.classes.index(kind)) for name, kind in entries]
        self._check(set(_with_pictures(root / folder, _folders(root / folder))), root / folder)
        return _of_classes(root, f"{folder}/", self.classes)

    def _check(self, present: set[str], where: Path) -> None:
        unknown = sorted(present - set(self.classes))
        if unknown:
            raise TinctError(f"{where}: class {unknown[0]!r} is not among the {len(self.classes)} folders of train")

    def read_labels(self) -> NDArray[np.float32]:
        """The class of each picture's folder."""
        labels = np.zeros((len(self), len(self.classes)), np.float32)
        labels[np.arange(len(self)), self._columns] = 1
        return labels


def _folders(root: Path) -> set[str]:
    try:
        entries = [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        return {entry.name for entry in entries if not holds_results(entry)}
    except OSError as error:
        raise TinctError(f"{root}: {error.strerror}; expected a folder with one folder a class") from error


def _with_pictures(root: Path, folders: set[str]) -> tuple[str, ...]:
    """Those of `folders` that hold a picture, in order: archives leave others behind, such as __MACOSX."""
    return tuple(name for name in sorted(folders) if any(scan(root / name, "all")))


def _split_folder(root: Path, folders: set[str], split: str) -> str:
    found = sorted(split_folders(folders, split) or ())
    if not found:
        raise AbsentSplitError(f"{root}: no folder of the {split} split beside {', '.join(sorted(folders))}")
    return found[0]


def _of_classes(root: Path, prefix: str, classes: tuple[str, ...]) -> list[tuple[str, int]]:
    """All pictures below `root/prefix/CLASS`, as names relative to `root`, with their class numbers."""
    return [
        (f"{prefix}{kind}/{name}", column)
        for column, kind in enumerate(classes)
        if (root / prefix / kind).is_dir()
        for name in scan(root / prefix / kind, "all")
    ]

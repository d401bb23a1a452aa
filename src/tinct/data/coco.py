"""COCO's instances: multi-labels, and masks rasterised from its polygons and run lengths."""

import contextlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from tinct.data.base import VOID
from tinct.data.decode import oversize
from tinct.data.folder import split_folders
from tinct.data.labelled import LabelledFiles, Task, checked_mask, spelled
from tinct.data.outlines import filled
from tinct.data.subsets import drawn_split
from tinct.errors import AbsentSplitError, PictureError, TinctError, one_line
from tinct.files import expanded, stamp

__all__ = ["Coco"]


ROBOFLOW = "_annotations.coco.json"
"""What Roboflow calls the annotations in each of its folders `train`, `valid` and `test`."""
TOGETHER = ("location", "seq_id")
"""What COCO Camera Traps says of a picture's camera, or of the series that it is of: such pictures are alike."""


class Coco(LabelledFiles):
    """`coco:DIR`: DIR holds `train2017`, `val2017` and `annotations/instances_train2017.json` (any year).

    Pictures may also lie in DIR itself, in `images` there, or in `images/train2017`. Of several years it is the newest
    that train and val share. The classes are the categories of train's file by rising id, 80 for COCO, and number the
    mask's values from 1 on, without COCO's gaps; 0 is the background. Pictures without annotations are kept: they are
    negatives. DIR may also be of Roboflow's layout, `train/_annotations.coco.json`.

    `coco:FILE.json` is one file of that format, as labelling tools write it, with its pictures in its folder, in
    `images` there or beside that folder. About a fifth, drawn by the file names, is `val` and the rest `train`; where
    pictures have a `location`, or else a `seq_id`, a fifth of these.

    Args:
        path: the folder or the file.
        split: `train`, `val` or `test`.
        task: which labels to give.

    Raises:
        AbsentSplitError: no such annotation file, or masks are asked for and it has none.
        TinctError: it is damaged or has no categories. Once classes are asked for: it has a category that train's file
            has not.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        root = expanded(path)
        single = root.suffix.lower() == ".json"
        file = root if single else _annotations(root, split)
        if file is None:
            raise AbsentSplitError(
                f"{path}: no annotations/instances_{split}2017.json or of another year in it; for a file of another "
                "name write coco:FILE.json"
            )
        self._file, self._first, self._task = file, file if single else _annotations(root, "train") or file, task
        self._coco = _load(file, stamp(file))
        self._ids = sorted(self._coco.imgs)
        names = [str(self._coco.imgs[key]["file_name"]) for key in self._ids]
        names = [_without_machine(name) for name in names] if single else names
        groups = [_together(self._coco.imgs[key]) or name for key, name in zip(self._ids, names, strict=True)]
        if single and len(set(groups)) == 1:  # one camera, of which something has to be val
            groups = names
        subset = file.stem.removeprefix("instances_")
        if single:
            what = "pictures" if groups == names else "locations or series"
            chosen = np.flatnonzero(drawn_split(groups, split))
            self._ids, names, groups = ([part[place] for place in chosen] for part in (self._ids, names, groups))
            self.note = f"has no splits: about a fifth of its {what}, drawn by their names, is val, the rest train"
            near = [file.parent, file.parent / "images", *(file.parent.parent / one for one in ("images", subset))]
            places = [*near, near[2] / subset]
        else:
            first = file.parent if file.name == ROBOFLOW else root / subset
            places = [first, root, root / "images" / subset, root / "images"]
        found = _with_pictures(places, names)
        folder = found or places[0]
        root = folder if single else root
        within = folder.relative_to(root)
        pictures = ((within / spelled(name, folder)).as_posix() for name in names)
        super().__init__(pictures, root, f"coco:{path}", split)
        if groups != names:
            self.groups = np.unique(groups, return_inverse=True)[1]
        said = [self.note]
        if self._coco.orphans:
            said.append(
                f"{self._coco.orphans:,} of its annotations are of pictures that it does not list, and are left out"
            )
        if names and not found:
            said.append(f"has its pictures in none of {', '.join(map(str, places))}")
        self.note = "; ".join(filter(None, said))
        if task == "segmentation":
            self.background = 0
            entries = [self._coco.imgs[key] for key in self._ids]
            if lacking := [entry for entry in entries if not (_pixels(entry, "height") and _pixels(entry, "width"))]:
                raise AbsentSplitError(
                    f"{file}: {lacking[0]['file_name']} has no height and width, which masks need (whole numbers above "
                    "0); add them, or take task multilabel"
                )
            crowds = (one for one in self._coco.anns.values() if one.get("iscrowd") not in (None, 0, 1))
            if (odd := next(crowds, None)) is not None:
                raise TinctError(f"{file}: annotation {odd.get('id')}: iscrowd is {odd['iscrowd']!r}; expected 0 or 1")
            if self._coco.anns and not any(entry.get("segmentation") for entry in self._coco.anns.values()):
                raise AbsentSplitError(f"{file}: its annotations are boxes without segmentation; take task multilabel")

    @cached_property
    def _categories(self) -> dict[int, str]:
        """Names by rising id, of train's file: another may list fewer, and columns must be the same in both."""
        known = {key: str(entry["name"]) for key, entry in sorted(_load(self._first, stamp(self._first)).cats.items())}
        for key in sorted({entry["category_id"] for entry in self._coco.anns.values()}):
            if (name := str(self._coco.cats[key]["name"])) != known.get(key):
                raise TinctError(
                    f"{self._file}: its category {key} is {name!r}, in {self._first.name} {known.get(key)!r}; number "
                    "and name categories alike in both"
                )
        return known

    @cached_property
    def _columns(self) -> dict[int, int]:
        return {key: column for column, key in enumerate(self._categories)}

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `LabelledSource`; read when asked for, since train's file is large."""
        return tuple(self._categories.values()) if self._task == "multilabel" else ()

    @cached_property
    def mask_classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `LabelledSource`; read when asked for, since train's file is large."""
        return ("background", *self._categories.values()) if self._task == "segmentation" else ()

    def read_labels(self) -> NDArray[np.float32]:
        """A crowd of a class is that class, present."""
        labels = np.zeros((len(self), len(self.classes)), np.float32)
        for row, key in enumerate(self._ids):
            for annotation in self._coco.imgToAnns[key]:
                labels[row, self._columns[annotation["category_id"]]] = 1
        return labels

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `LabelledSource.mask`.

        Crowds are void. Where instances overlap the smaller is taken to be in front, as a fork is on a table's
        polygon, which spans what lies on it; crowds come behind all. So does an instance that has a box alone: that is
        void, since where in it the instance is was not said.

        Raises:
            PictureError: the picture has another size than the file says, or a shape is damaged.
        """
        entry = self._coco.imgs[self._ids[index]]
        height, width = _pixels(entry, "height"), _pixels(entry, "width")
        if why := oversize(width, height):
            raise PictureError(f"{self._file}: {entry['file_name']}: {why}")
        mask = np.zeros((height, width), np.uint8)
        shapes = []
        for annotation in self._coco.imgToAnns[self._ids[index]]:
            outlined = bool(outline := annotation.get("segmentation"))
            try:
                shape = filled(outline, *mask.shape) if outlined else _box(annotation, mask.shape)
            except Exception as error:  # pycocotools and NumPy raise all kinds where numbers are none
                reason = one_line(error)
                raise PictureError(f"{self._file}: annotation {annotation.get('id')}: {reason}") from error
            known = outlined and not annotation.get("iscrowd", 0)
            value = 1 + self._columns[annotation["category_id"]] if known else VOID
            shapes.append(((known, -int(shape.sum())), value, shape))
        for _, value, shape in sorted(shapes, key=lambda item: item[0]):
            mask[shape] = value
        return checked_mask(mask, self._file, self.path(index), len(self.mask_classes))


def _together(entry: dict[str, Any]) -> str:
    """The camera that a picture is of, or else the series; "" where neither is said."""
    said = ((key, entry.get(key)) for key in TOGETHER)
    return next((f"{key} {value}" for key, value in said if value not in (None, "") and value == value), "")  # no NaN


def _pixels(entry: dict[str, Any], side: str) -> int:
    """A picture's height or width; 0 where it is no whole number above 0. Some tools write 640.0."""
    try:
        value = float(entry.get(side, 0))
    except (TypeError, ValueError):
        return 0
    return int(value) if value > 0 and value.is_integer() else 0


def _box(annotation: dict[str, Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask of the pixels that an annotation's box touches."""
    left, top, width, height = annotation["bbox"]
    if not (width > 0 and height > 0):
        raise ValueError(f"a box of {width} by {height}, and no segmentation")
    box = np.zeros(shape, bool)
    box[max(int(top), 0) : math.ceil(top + height), max(int(left), 0) : math.ceil(left + width)] = True
    return box


def _with_pictures(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first of `folders` that has any of the pictures."""
    sample = names[:: max(1, len(names) // 20)]  # of a hundred thousand, on a slow disk, not each one
    return next((one for one in folders if any((one / spelled(name, one)).exists() for name in sample)), None)


def _without_machine(name: str) -> str:
    """A file name without the folder of the machine that it was labelled on."""
    written = PureWindowsPath(name)  # which splits at either kind of slash
    return written.name if written.root and not Path(name).exists() else name


def _annotations(root: Path, split: str) -> Path | None:
    """A split's annotation file, of the newest year that train and val share, else of its own newest; None without."""
    files = {
        one: {path.stem[-4:]: path for path in root.glob(f"annotations/instances_{one}20[0-9][0-9].json")}
        for one in ("train", "val", split)
    }
    years = files["train"].keys() & files["val"].keys() & files[split].keys() or files[split].keys()
    if years:
        return files[split][max(years)]
    folders = split_folders({file.parent.name for file in root.glob(f"*/{ROBOFLOW}")}, split)
    return root / min(folders) / ROBOFLOW if folders else None


@lru_cache(maxsize=2)  # train and val, which both tasks open
def _load(path: Path, written: tuple[int, int]) -> Any:
    """Index an annotation file with pycocotools, which would print to standard output; again where `written` is new."""
    coco: Any = COCO()
    try:
        coco.dataset = json.loads(path.read_bytes())
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            coco.createIndex()
        images, annotations = coco.dataset["images"], coco.dataset.setdefault("annotations", [])
        wrong = [entry for entry in annotations if entry["category_id"] not in coco.cats]
        repeated = _repeated(images, "id", "pictures") or _repeated(images, "file_name", "entries")
        repeated = repeated or _repeated(coco.dataset["categories"], "id", "categories")
        coco.orphans = sum(entry["image_id"] not in coco.imgs for entry in annotations)
        _ = [entry["name"] for entry in coco.cats.values()]  # what is asked of them later
        odd = _of_two_kinds(coco.imgs, "pictures") or _of_two_kinds(coco.cats, "categories")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__} {one_line(error)}"
        raise TinctError(f"{path}: {reason}; expected COCO's instances format") from error
    if repeated:
        raise TinctError(f"{path}: {repeated}; give each its own")
    if odd:
        raise TinctError(f"{path}: {odd}; expected numbers, or texts, throughout")
    if annotations and coco.orphans == len(annotations):
        ids = f"{annotations[0]['image_id']!r}, pictures have ids such as {next(iter(coco.imgs), 'none')!r}"
        raise TinctError(f"{path}: no annotation is of a picture in it: the first has image_id {ids}; make them agree")
    if not coco.cats:
        raise TinctError(f"{path}: its list of categories is empty")
    if wrong:
        raise TinctError(f"{path}: annotation {wrong[0]['id']} has unknown category {wrong[0]['category_id']}")
    return coco


def _repeated(entries: list[dict[str, Any]], key: str, what: str) -> str | None:
    """What to say where several entries have one value of `key`, of which pycocotools would keep the last."""
    twice = [value for value, count in Counter(entry[key] for entry in entries).items() if count > 1]
    return f"several {what} have the {key} {twice[0]!r}" if twice else None


def _of_two_kinds(ids: Iterable[Any], what: str) -> str | None:
    """What to say where some ids are numbers and others texts, which have no order."""
    some = {isinstance(one, str): one for one in ids}
    return f"its {what} have ids such as {some[True]!r} and {some[False]!r}" if len(some) > 1 else None

"""PASCAL VOC in its VOCdevkit layout: multi-labels from the XML boxes, masks from SegmentationClass."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinct.data.folder import read_lines
from tinct.data.labelled import LabelledFiles, Task, checked_mask, read_indices
from tinct.errors import AbsentSplitError, TinctError
from tinct.files import expanded

__all__ = ["CLASSES", "Voc"]

# fmt: off
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
"""The twenty classes, in the order of the mask values 1 to 20 (Everingham et al. 2010)."""


class Voc(LabelledFiles):
    """`voc:DIR` or `voc:DIR@2007`: DIR holds VOCdevkit, or is it, or is one year's folder.

    The pictures are those of `ImageSets/Main/SPLIT.txt` for multilabel and of `ImageSets/Segmentation/SPLIT.txt` for
    segmentation. A class is present where an object of it is not marked difficult, unknown where all its objects are
    (as the development kit leaves them out of its evaluation), and absent elsewhere.

    Args:
        path: the folder, with an optional `@YEAR`; the newest year present by default.
        split: `train`, `val` or `test`.
        task: which labels to give.

    Raises:
        TinctError: no VOC folder there, or no list of that split in UTF-8.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        root = _year_folder(path)
        lists = root / "ImageSets" / ("Main" if task == "multilabel" else "Segmentation")
        try:
            self._ids = list(dict.fromkeys(line.split()[0] for line in read_lines(lists / f"{split}.txt")))
        except OSError as error:
            # Main also holds a list for each class, such as cat_train.txt
            present = ", ".join(sorted(file.stem for file in lists.glob("*.txt") if "_" not in file.stem)) or "none"
            raise AbsentSplitError(
                f"{lists / split}.txt: {error.strerror}; the lists there for {task} are: {present}"
            ) from error
        super().__init__((f"JPEGImages/{name}.jpg" for name in self._ids), root, f"voc:{path}", split)
        if task == "multilabel":
            self.classes = CLASSES
        else:
            self.mask_classes, self.background = ("background", *CLASSES), 0

    def read_labels(self) -> NDArray[np.float32]:
        """From the XML files."""
        rows = [_read_objects(self.root / "Annotations" / f"{name}.xml") for name in self._ids]
        return np.array(rows, np.float32).reshape(-1, len(CLASSES))

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `LabelledSource.mask`."""
        path = self.root / "SegmentationClass" / f"{self._ids[index]}.png"
        return checked_mask(read_indices(path), path, self.path(index), len(self.mask_classes))


def _year_folder(path: str) -> Path:
    """Find the folder of the wanted year, or of the newest."""
    folder, _, year = path.rpartition("@")
    if not re.fullmatch(r"20\d\d", year):
        folder, year = path, "20[0-9][0-9]"
    base = expanded(folder)
    if (base / "ImageSets").is_dir() and year in (base.name[3:], "20[0-9][0-9]"):
        return base
    found = [*base.glob(f"VOC{year}/ImageSets"), *base.glob(f"VOCdevkit/VOC{year}/ImageSets")]
    if not found:
        wanted = "" if "[" in year else f" of {year}"
        raise TinctError(f"{folder}: no VOC{wanted} in it; expected VOCdevkit/VOC2012/ImageSets or the like")
    return max((lists.parent for lists in found), key=lambda root: root.name)


def _read_objects(path: Path) -> NDArray[np.float32]:
    """One picture's labels, (20,): 1, 0, or NaN where the class is there as difficult objects only."""
    try:
        objects = ElementTree.parse(path).getroot().findall("object")
    except (OSError, ElementTree.ParseError) as error:
        raise TinctError(f"{path}: {getattr(error, 'strerror', None) or error}; expected a VOC annotation") from error
    labels = np.zeros(len(CLASSES), np.float32)
    for entry in objects:
        name = (entry.findtext("name") or "").strip()
        if name not in CLASSES:
            raise TinctError(f"{path}: object {name!r} is none of VOC's 20 classes; use csv: for classes of your own")
        column = CLASSES.index(name)
        if (entry.findtext("difficult") or "0").strip() != "1":
            labels[column] = 1
        elif labels[column] == 0:
            labels[column] = np.nan
    return labels

"""A labelled set made on the fly of the embedded photographs: real pixels, exact labels, nothing to download.

It checks that everything is joined up; a score on it is no evidence about real photographs.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinct.data.base import LabelledSource
from tinct.data.labelled import Task
from tinct.data.photos import left, photographs, right
from tinct.data.random import rng
from tinct.data.transforms import resized
from tinct.errors import AbsentSplitError, TinctError

__all__ = ["Mosaic"]

COUNTS = {"train": 400, "val": 200, "test": 200}
"""Pictures of each split."""
SIDE = 96
"""Height and width of a picture in pixels."""
ZOOMS = (1.0, 1.5, 2.25)
"""How many sides of a picture fit into the shorter side of a half photograph, at each scale that crops come from."""
SMALLEST = 0.08
"""Every crop covers at least this share of its picture, so that a label never rests on a few pixels."""


class Mosaic(LabelledSource):
    """`mosaic:`: each picture is a Voronoi mosaic of two to four crops of different embedded photographs.

    Its multi-label is the set of photographs in it, its mask says which is where. Training pictures are made of the
    photographs' left halves, `val` and `test` of the right ones. Picture `index` is a pure function of split and
    `index`.

    Args:
        path: empty: there is nothing to choose.
        split: `train`, `val` or `test`.
        task: which labels to give.

    Raises:
        TinctError: a path is given, or an unknown split.
    """

    def __init__(self, path: str, split: str, task: Task) -> None:
        if path:
            raise TinctError(f"mosaic:{path}: takes no path; write mosaic:")
        if split not in COUNTS:
            raise AbsentSplitError(f"mosaic: has no {split} split; choose {', '.join(COUNTS)}")
        self.spec, self.split = "mosaic:", split
        self._key = (0, list(COUNTS).index(split))
        names = tuple(photographs())
        if task == "multilabel":
            self.classes = names
        else:
            self.mask_classes = names

    def __len__(self) -> int:
        """See `COUNTS`."""
        return COUNTS[self.split]

    def name(self, index: int) -> str:
        """Such as `mosaic:train/17`."""
        return f"mosaic:{self.split}/{index}"

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """Lay out picture `index`; `min_side` is not needed, for nothing is decoded."""
        generator, chosen, cells = self._layout(index)
        scales = _scaled(self.split == "train")
        picture = np.empty((SIDE, SIDE, 3), np.uint8)
        for cell, photograph in enumerate(chosen):
            crop = _crop(scales[photograph][generator.integers(len(ZOOMS))], generator)
            inside = cells == cell
            picture[inside] = crop[inside]
        return picture

    def labels(self) -> NDArray[np.float32]:
        """See `LabelledSource.labels`."""
        labels = np.zeros((len(self), len(photographs())), np.float32)
        for index in range(len(self)):
            labels[index, self._chosen(rng(*self._key, index))] = 1
        return labels

    def mask(self, index: int) -> NDArray[np.uint8]:
        """See `LabelledSource.mask`; there is no void."""
        _, chosen, cells = self._layout(index)
        return chosen.astype(np.uint8)[cells]

    def _chosen(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Which photographs, two to four of them."""
        return generator.permutation(len(photographs()))[: generator.integers(2, 4, endpoint=True)]

    def _layout(self, index: int) -> tuple[np.random.Generator, NDArray[np.int64], NDArray[np.int64]]:
        """The generator to go on with, the photographs, and the number of each pixel's cell."""
        generator = rng(*self._key, index)
        chosen = self._chosen(generator)
        grid = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
        while True:
            points = generator.random((len(chosen), 2), np.float32)
            rows = (grid[None, :] - points[:, :1]) ** 2
            columns = (grid[None, :] - points[:, 1:]) ** 2
            cells = (rows[:, :, None] + columns[:, None, :]).argmin(0)
            if np.bincount(cells.ravel(), minlength=len(chosen)).min() >= SMALLEST * cells.size:
                return generator, chosen, cells


@cache
def _scaled(train: bool) -> list[list[NDArray[np.uint8]]]:
    """Each photograph's half at each zoom, so that a crop costs no resizing."""
    halves = [left(photograph) if train else right(photograph) for photograph in photographs().values()]
    return [[resized(half, round(zoom * SIDE), Image.Resampling.LANCZOS) for zoom in ZOOMS] for half in halves]


def _crop(picture: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """A random square crop, mirrored half the time."""
    top = generator.integers(picture.shape[0] - SIDE, endpoint=True)
    start = generator.integers(picture.shape[1] - SIDE, endpoint=True)
    crop = picture[top : top + SIDE, start : start + SIDE]
    return crop[:, ::-1] if generator.random() < 0.5 else crop

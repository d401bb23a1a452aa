"""The colour photographs that come inside scikit-image: a source that needs no download.

Each is cut in two: left parts are for training, right parts for testing, so nothing trained on one has seen the other.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import Source
from tinct.data.decode import decode
from tinct.data.random import rng
from tinct.errors import TinctError

__all__ = ["Photos", "left", "photographs", "right"]

_FILES = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "rocket": "rocket.jpg",
    "motorcycle": "motorcycle_left.png",
    "histology": "ihc.png",
    "retina": "retina.jpg",
    "deep field": "hubble_deep_field.jpg",
}
CROPS = 512
"""The length of the source: virtual crops an epoch."""


@cache
def photographs() -> dict[str, NDArray[np.uint8]]:
    """The eight photographs by name, each (H, W, 3) and read-only, from the installed scikit-image.

    Raises:
        TinctError: scikit-image is not installed, or without its pictures.
    """
    spec = importlib.util.find_spec("skimage")  # finding it costs nothing, importing it a second
    if spec is None or not spec.submodule_search_locations:
        raise TinctError("photos: needs scikit-image's pictures; pip install scikit-image")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    missing = [file for file in _FILES.values() if not (folder / file).exists()]
    if missing:
        raise TinctError(f"photos: scikit-image comes without {', '.join(missing)}; pip install -U scikit-image")
    pictures = {name: decode(folder / file) for name, file in _FILES.items()}
    for picture in pictures.values():
        picture.setflags(write=False)  # shared by all callers
    return pictures


def left(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part for training: the left half, as a view."""
    return photograph[:, : photograph.shape[1] // 2]


def right(photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part for testing: the right half, as a view."""
    return photograph[:, photograph.shape[1] // 2 :]


class Photos(Source):
    """`photos:`: 512 square crops of the eight photographs in turn, each a pure function of its index.

    A crop's side lies between half and all of the shorter side of its half photograph. Every split is cut from the left
    parts, except `val` and `test`, which come from the right.
    """

    def __init__(self, split: str = "train") -> None:
        self.spec = "photos:"
        self.split = split

    def __len__(self) -> int:
        """512."""
        return CROPS

    def name(self, index: int) -> str:
        """Such as `photos:astronaut#17`; crops of the right parts say so."""
        return f"photos:{list(_FILES)[index % len(_FILES)]}{'/right' if self._held_out else ''}#{index}"

    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """Cut crop `index` out at full size; `min_side` is not needed, for nothing is decoded."""
        photograph = list(photographs().values())[index % len(_FILES)]
        part = right(photograph) if self._held_out else left(photograph)
        height, width = part.shape[:2]
        draw = rng(int(self._held_out), index)
        side = int(draw.integers(min(height, width) // 2, min(height, width), endpoint=True))
        top, start = draw.integers(height - side, endpoint=True), draw.integers(width - side, endpoint=True)
        return part[top : top + side, start : start + side].copy()

    @property
    def _held_out(self) -> bool:
        return self.split in ("val", "test")

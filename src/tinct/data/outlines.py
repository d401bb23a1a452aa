"""COCO's three ways to say where an instance is, as masks: polygons, run lengths, and run lengths written as text."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as pycoco

__all__ = ["filled"]

FARTHEST = 10
"""How many times a picture's longer side a polygon may reach: pycocotools takes memory for every point on its way."""
LONGEST = 7
"""Characters of a run length, 5 bits each: more are not needed for 32 bits."""


def filled(outline: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The mask (height, width) of an annotation's `segmentation`.

    What pycocotools takes on trust is checked here: from numbers that are none, or too large, its C code takes all
    memory, and run lengths that end early leave the rest of a mask as the memory was.

    Raises:
        ValueError: it is damaged, or of another size. So may be what else Python raises where it has another form.
    """
    if not isinstance(outline, list):
        return _of_runs(outline, height, width)
    farthest = FARTHEST * max(height, width)
    for polygon in outline:
        if len(polygon) < 6:
            raise ValueError("a polygon of fewer than three points")
        wrong = [value for value in polygon if not abs(float(value)) <= farthest]  # which NaN is not either
        if wrong:
            raise ValueError(f"a point at {wrong[0]}, in a picture of {width}x{height}; expected pixels")
    mask: NDArray[np.uint8] = pycoco.decode(pycoco.merge(pycoco.frPyObjects(outline, height, width)))
    return mask.astype(bool)


def _of_runs(outline: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Lengths of background and instance in turn, down one column after the other."""
    if list(outline["size"]) != [height, width]:
        raise ValueError("its run lengths have another size")
    counts = outline["counts"]
    runs = _read(counts) if isinstance(counts, str) else np.array(counts, np.int64)
    whole = height * width
    if ((runs < 0) | (runs > whole)).any() or runs.sum() != whole:
        raise ValueError(f"its run lengths do not add up to the {whole:,} pixels of {width}x{height}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _read(text: str) -> NDArray[np.int64]:
    """Run lengths from COCO's text: 5 bits a character, the low ones first, the next bit set where more follow.

    From the fourth on, they are differences from the last but one.
    """
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32 or lengths.max() > LONGEST:
        raise ValueError(f"{text:.40}: no run lengths as COCO writes them")
    starts = ends - lengths + 1
    places = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << places, starts)
    runs -= (codes[ends] >> 4 & 1) << 5 * lengths  # the highest bit is the sign
    for start in (1, 2):
        runs[start::2] = np.cumsum(runs[start::2])
    return runs

"""Perceptual hashes: finding the same picture again after it was resized, recompressed or slightly retouched."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinct.data.base import Source
from tinct.errors import PictureError

__all__ = ["DISTANCE", "dhash", "hash_of", "near", "near_pairs"]

DISTANCE = 4
"""Two hashes that differ in at most this many of 64 bits count as the same picture."""

_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
_Indices = NDArray[np.intp]
_TOGETHER = 1 << 20  # pairs that are compared at a time
_FEW = 16  # rows that are compared with all columns in less time than these take to be sorted


def dhash(rgb: NDArray[np.uint8]) -> np.uint64:
    """Difference hash of an upright picture: is each of 8 x 8 cells darker than its right neighbour?

    Krawetz, "Kind of like that" (2013): grey, 9 x 8 cells, one bit for each horizontal step, row by row, the first one
    the most significant. Pictures without any structure hash to 0.

    Args:
        rgb: (H, W, 3).
    """
    # Measured on 3,089 photographs, every fourth also at two thirds of its size and JPEG quality 60: this filter in
    # floats loses 0 of 773 copies and takes 3 pairs by chance; a box filter loses 18, a bilinear one takes 7.
    # Reducing to 8 times the size beforehand takes half the time and loses 0 of 700 copies, too.
    grey = Image.fromarray(rgb).convert("L").convert("F")
    small = grey.resize((9, 8), Image.Resampling.LANCZOS, reducing_gap=8)
    cells = np.asarray(small)
    return np.uint64(int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big"))


def hash_of(source: Source, index: int) -> np.uint64 | None:
    """A picture's hash; None where it cannot be read."""
    try:
        return dhash(source.picture(index, 64))
    except PictureError:
        return None


def near(hashes: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `hashes` (N,) lie within `DISTANCE` bits of any of `known` (M,)."""
    found = np.zeros(len(hashes), bool)
    for rows, _ in _matches(hashes, known):
        found[rows] = True
    return found


def near_pairs(hashes: NDArray[np.uint64], known: NDArray[np.uint64] | None = None) -> NDArray[np.int64]:
    """All pairs (i, j) with `hashes[i]` within `DISTANCE` bits of `known[j]`: (P, 2), in order.

    Without `known`, the pairs i < j within `hashes`. There equal hashes are paired with the first of them only, and
    that one stands for all: a thousand black frames are 999 pairs, not half a million.
    """
    if known is None:
        values, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        among = np.sort(first[_pairs(values, values)], axis=1)
        equal = np.column_stack((first[inverse], np.arange(len(hashes))))
        found = np.concatenate((among, equal))
        found = found[found[:, 0] < found[:, 1]]
    else:
        found = _pairs(hashes, known)
    return np.unique(found, axis=0)


def _pairs(rows: NDArray[np.uint64], columns: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The matches (P, 2), some of them more than once."""
    none = np.zeros((0, 2), np.int64)
    return np.concatenate([none, *(np.column_stack(match) for match in _matches(rows, columns))])


def _matches(rows: NDArray[np.uint64], columns: NDArray[np.uint64]) -> Iterator[tuple[_Indices, _Indices]]:
    """Indices of rows and of columns that lie within `DISTANCE` bits, every pair at least once.

    Cut into `DISTANCE` + 1 parts, two such hashes agree wholly in one of them. So where there are many, only those are
    compared that do: of 23,000 photographs one pair in 900. A part is every n-th bit, since neighbouring cells of
    a picture are alike.
    """
    if len(rows) <= _FEW or len(rows) * len(columns) <= _TOGETHER:
        step = max(1, _TOGETHER // max(1, len(rows)))
        for start in range(0, len(columns), step):
            row, column = np.nonzero(np.bitwise_count(rows[:, None] ^ columns[start : start + step]) <= DISTANCE)
            yield row, column + start
        return
    for part in range(DISTANCE + 1):
        mask = np.bitwise_or.reduce(_BITS[part :: DISTANCE + 1], initial=np.uint64(0))
        order = np.argsort(columns & mask)
        first, after = (np.searchsorted((columns & mask)[order], rows & mask, side) for side in ("left", "right"))
        counts = after - first
        cuts = np.searchsorted(np.cumsum(counts), np.arange(_TOGETHER, counts.sum(), _TOGETHER))
        for some in np.split(np.arange(len(rows)), cuts):
            row = np.repeat(some, counts[some])
            starts = np.cumsum(counts[some]) - counts[some]
            column = order[np.arange(len(row)) + np.repeat(first[some] - starts, counts[some])]
            close = np.bitwise_count(rows[row] ^ columns[column]) <= DISTANCE
            yield row[close], column[close]

"""Raising coarse colour to a picture's full size, guided by its lightness.

The fast guided filter (He & Sun 2015, arXiv:1505.00996, algorithm 2) takes colour for a linear function of lightness in
every small window: ab = slope * L + offset. Both are found on the coarse grid of the colour and enlarged; the picture's
own L then puts colour's edges where its own edges are. A filter blurs, so what the raised colour lacks, averaged over
each coarse cell, is added back (the back-projection of Irani & Peleg 1991): on 30 photographs of BSDS500 with true
colour at 1/4 of 256 px the error in ab falls from 1.82 (bilinear) to 1.51 Lab units. Slopes and offsets are found once
for the whole picture, so strips of it never disagree.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tinct.pictures.picture import Box, as_stored

__all__ = ["Chroma", "fit", "rows_of"]

RADIUS = 1
"""Windows are 2 * RADIUS + 1 coarse cells a side, cut at the borders: the fewest that can hold an edge. Wider ones
bleed further."""

EPSILON = 100.0
"""Variance of L below which a window counts as flat (epsilon of He & Sun's equation 3): the square of 10 Lab units."""

BACK_PROJECTIONS = 2
"""Rounds of adding back; a third gains less than 1 %."""


@dataclass(frozen=True)
class Chroma:
    """A picture's colour as a local function of its lightness.

    Attributes:
        slope: (2, h, w), Lab units of a and b for one of L.
        offset: (2, h, w), Lab units.
        box: the rows and columns that they are of, where the rest of the picture stays grey.
        change: more of the same for these, to be added.
    """

    slope: Tensor
    offset: Tensor
    box: Box | None = None
    change: "Chroma | None" = None

    def within(self) -> "Chroma":
        """That of the box alone."""
        return replace(self, box=None)

    def rows(self, l: NDArray[np.float32], top: int, height: int) -> NDArray[np.float32]:
        """The colour of some rows of the full picture.

        Args:
            l: (n, W), their L* in [0, 100].
            top: the first row's number.
            height: the number of rows of the whole picture.

        Returns:
            (2, n, W) in Lab units, the same values whatever the strips, up to rounding.
        """
        if self.box is not None:
            rows, columns = self.box
            ab = np.zeros((2, *l.shape), np.float32)
            within = slice(max(rows.start - top, 0), max(rows.stop - top, 0)), columns
            if (part := l[within]).size:
                ab[:, *within] = self.within().rows(part, max(top - rows.start, 0), rows.stop - rows.start)
            return ab
        above, below, share = between(self.slope.shape[1], height, top, len(l))
        first = above[0]  # only the lines that these rows lie between are widened
        coarse = torch.cat([planes[:, first : below[-1] + 1] for planes in (self.slope, self.offset)]).numpy()
        wide = blended(coarse, *between(coarse.shape[2], l.shape[1], 0, l.shape[1]), axis=2)
        full = blended(wide, above - first, below - first, share, axis=1)
        ab = full[:2]
        ab *= l
        ab += full[2:]
        if self.change is not None:
            ab += self.change.rows(l, top, height)
        return ab

    def turned(self, orientation: int) -> "Chroma":
        """That of the picture as stored, of one that is upright."""
        slope, offset = (as_stored(planes, orientation) for planes in (self.slope, self.offset))
        change = None if self.change is None else self.change.turned(orientation)
        return replace(self, slope=slope, offset=offset, change=change)


def rows_of(planes: NDArray[np.float32], top: int, count: int, height: int) -> NDArray[np.float32]:
    """Some rows of (C, h, w) planes brought to `height` rows bilinearly: (C, count, w), from row `top` on."""
    return blended(planes, *between(planes.shape[1], height, top, count), axis=1)


def between(
    coarse: int, fine: int, first: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Which of `coarse` samples each of `count` out of `fine`, from `first` on, lies between, and how far along."""
    at = (np.arange(first, first + count) + 0.5) * (coarse / fine) - 0.5  # pixel centres, as F.interpolate counts
    at = at.clip(0, coarse - 1)
    low = at.astype(np.intp)
    return low, np.minimum(low + 1, coarse - 1), (at - low).astype(np.float32)


def blended(
    planes: NDArray[np.float32],
    low: NDArray[np.intp],
    high: NDArray[np.intp],
    share: NDArray[np.float32],
    *,
    axis: Literal[1, 2],
) -> NDArray[np.float32]:
    """From `planes` at `low` to those at `high` along an axis of (C, h, w), `share` of the way."""
    start, result = planes.take(low, axis), planes.take(high, axis)
    result -= start
    result *= share[:, None] if axis == 1 else share
    result += start
    return result


def fit(l: Tensor, ab: Tensor, box: Box | None = None) -> Chroma:
    """Find the local linear function from lightness to colour.

    Args:
        l: (H, W) L* in [0, 100], of the size that the network saw.
        ab: (2, h, w) colour in Lab units, as coarse as the network gave it.
        box: where in the picture both are of.
    """
    cells = (ab.shape[1], ab.shape[2])
    p, full = ab[None].double(), l[None, None].double()  # a variance is a small difference of large numbers
    guide = F.adaptive_avg_pool2d(full, cells)

    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2 * RADIUS + 1, stride=1, padding=RADIUS, count_include_pad=False)

    def raised(x: Tensor) -> Tensor:
        return F.interpolate(x, l.shape, mode="bilinear", align_corners=False)

    mean_l, mean_p = mean(guide), mean(p)
    slope = (mean(guide * p) - mean_l * mean_p) / (mean(guide * guide) - mean_l * mean_l + EPSILON)
    offset = mean(mean_p - slope * mean_l)
    slope = mean(slope)
    varying = raised(slope) * full
    for _ in range(BACK_PROJECTIONS):
        offset = offset + p - F.adaptive_avg_pool2d(varying + raised(offset), cells)
    return Chroma(slope[0].float(), offset[0].float(), box)

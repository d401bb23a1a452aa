"""Colours that hold still: each frame of a film is coloured by itself, then brought in line with its past.

A network gives two frames that hardly differ colours that do, which flickers. Here a frame's colour is averaged with
that of the frames before, cell by cell: each cell is looked for in the last frame's lightness (block matching), its
colour is carried along, and the better the two places match, the more the past counts. Where nothing matches (a cut,
something that comes into view) colour starts afresh. Nothing is learned, and no later frame is waited for.
`benchmarks/film.py` measures what it does.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Steady"]

REACH = 4
"""How far a cell is looked for, in half cells. A cell is 4 pixels of the 128 rows or so that the network sees, so that
a pan over the whole width in a second moves 3.5 half cells between frames."""

MEMORY = 8
"""The most frames that are averaged, a third of a second of a usual film."""

TOLERANCE = 4.0
"""The mean difference in L* at which the past counts for exp(-1) of its frames: more than grain, averaged over a window
of 3 x 3 cells, less than another object."""

CUT = 0.2
"""The mean weight of the past below which a frame begins another scene: 0.00 to 0.07 at cuts between 10 photographs of
BSDS500, 0.38 or more between the frames of pans over them."""

STAY = 0.25
"""How much better, in L*, another place has to match than the same place: flat areas match everywhere."""


class Steady:
    """Remembers a film's colours. Give it the frames in order."""

    def __init__(self) -> None:
        """With nothing to remember yet."""
        self._l = torch.empty(0, 0)
        self._past = torch.empty(3, 0, 0)  # ab, and how many frames it is the mean of

    def __call__(self, l: Tensor, ab: Tensor) -> Tensor:
        """Bring a frame's colour in line with the past.

        Args:
            l: (h, w) L* in [0, 100].
            ab: (2, h/s, w/s) its colour in Lab units.

        Returns:
            The colour, of the same shape.
        """
        count = torch.ones_like(ab[:1])
        height, width = ab.shape[1:]
        l = F.adaptive_avg_pool2d(l[None], (2 * height, 2 * width))[0]
        if l.shape == self._l.shape:  # want of memory may have changed it
            shift, difference = _match(self._l, l)
            before = _carried(self._past, shift)
            alike = torch.exp(-((difference / TOLERANCE) ** 2))
            if alike.mean() >= CUT:
                count = 1 + alike * before[2:].clamp(0, MEMORY - 1)
                ab = before[:2] + (ab - before[:2]) / count
        self._l, self._past = l, torch.cat((ab, count))
        return ab


def _match(before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    """Where each cell of `now` was in `before`, in rows and columns of cells, and how much the two places differ.

    Args:
        before: (2 h, 2 w) L* of the last frame, in half cells.
        now: the same of this one.

    Returns:
        (2, h, w) displacements in cells, and (h, w) mean differences in L* over a window of 3 x 3 cells.
    """
    side = 2 * REACH + 1
    padded = F.pad(before[None, None], (REACH,) * 4, mode="replicate")[0, 0]
    height, width = now.shape
    places = [padded[y : y + height, x : x + width] for y in range(side) for x in range(side)]
    cells = F.avg_pool2d((torch.stack(places) - now).abs(), 2)
    apart = F.avg_pool2d(cells, 3, stride=1, padding=1, count_include_pad=False)
    biased = apart + STAY
    biased[side * side // 2] -= STAY
    best = biased.argmin(0)
    shift = torch.stack((best // side - REACH, best % side - REACH)) / 2
    return shift, apart.gather(0, best[None])[0]


def _carried(planes: Tensor, shift: Tensor) -> Tensor:
    """(C, h, w) planes, each cell taken from where it was; bilinear steps, one after the other, would blur."""
    _, height, width = planes.shape
    rows = (torch.arange(height)[:, None] + shift[0] + 0.5) * (2 / height) - 1  # grid_sample counts from -1 to 1
    columns = (torch.arange(width)[None] + shift[1] + 0.5) * (2 / width) - 1
    grid = torch.stack((columns, rows), dim=-1)[None]
    return F.grid_sample(planes[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]

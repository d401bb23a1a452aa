"""Paper around a print, black around a film's picture: found by lightness alone, and left grey.

A network takes a border for a part of the scene, and black at the sides misleads it most
(docs/results-colour.md). So it is shown what lies within.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from tinct.pictures import render
from tinct.pictures.picture import Box, Pixels

__all__ = ["inside"]

SAMPLES = 128
"""About this many pixels of each row, and of each column, are looked at."""

PAIRS = (slice(0, 2), slice(2, 4))
"""Of four sides: top and bottom, left and right."""

SMALLEST = 32
"""Pictures with a side of fewer pixels have no border."""

LEAST = 0.2
"""The least share of a side that the picture takes: less is no picture with a border."""

PAPER, BLACK = 75.0, 12.0
"""L* from which a border may be paper, and up to which it may be black."""

EVEN = 8.0
"""How far, in L*, a border may be from its level: grain, yellowing, JPEG's ringing."""

STRAY = 0.02
"""The share of a line that may be further: dust, scratches."""

LEAN = 0.03
"""How far a picture's side may lean over its length: less than two degrees."""

EDGE = 0.5
"""The share of a line, so far within, that differs from the border. A bird in an even sky has no such edge."""


def inside(pixels: Pixels, *, paper: bool = True) -> Box:
    """Where the picture lies in what was scanned or filmed: all of it where there is no border.

    A border is even and meets the picture in straight lines. It is either light, of one level, at all four sides, or
    dark at two opposite ones. There may be several around each other: a print on the black lid of a scanner.

    Args:
        pixels: samples as of `tinct.pictures.picture.Picture`.
        paper: whether a border may be light, as around prints; films have none that is.
    """
    whole = box = _whole(pixels)
    while min(side.stop - side.start for side in box) >= SMALLEST:
        margins = _margins(pixels[box], paper)
        if not any(margins):
            break
        box = _cut(box, margins)
    large = all(side.stop - side.start >= LEAST * full.stop for side, full in zip(box, whole, strict=True))
    return box if large else whole


def _margins(pixels: Pixels, paper: bool) -> list[int]:
    """Rows that the outermost border has at the top and at the bottom, and columns to the left and to the right."""
    outermost = (pixels[:1], pixels[-1:], pixels[:, :1], pixels[:, -1:])
    levels = [float(np.median(render.lightness(line))) for line in outermost]
    light = paper and min(levels) >= PAPER and max(levels) - min(levels) <= EVEN
    dark = [max(levels[pair]) <= BLACK for pair in PAIRS]
    margins = [0] * 4
    if not light and not any(dark):
        return margins
    sides = _sides(pixels)
    counts = [_even(side, level) for side, level in zip(sides, levels, strict=True)]
    picture = pixels[_cut(_whole(pixels), counts)]
    if not picture.size:
        return margins
    height, width = picture.shape[:2]
    depths = [min(round(LEAN * other), length - 1) for length, other in ((height, width), (width, height))]
    straight = []
    for side, level, count, depth in zip(_sides(picture), levels, counts, np.repeat(depths, 2), strict=True):
        straight.append(count > 0 and bool(np.mean(abs(side[depth] - level) > EVEN) >= EDGE))
    if light and all(counts) and sum(straight) >= 3:
        return _bounded(counts, straight)
    for pair, both in zip(PAIRS, dark, strict=True):
        if both and all(counts[pair]) and any(straight[pair]):
            margins[pair] = _bounded(counts[pair], straight[pair])
    return margins


def _bounded(counts: list[int], straight: list[bool]) -> list[int]:
    """Where the picture itself is as even as the border, that is no wider than it is elsewhere."""
    most = max(itertools.compress(counts, straight))
    return [count if sure else min(count, most) for count, sure in zip(counts, straight, strict=True)]


def _sides(pixels: Pixels) -> list[NDArray[np.float32]]:
    """The L* of all rows from the top and from the bottom, and of all columns from either side, each at some places."""
    steps = [max(1, length // SAMPLES) for length in pixels.shape[:2]]
    rows = render.lightness(pixels[:, :: steps[1]])
    columns = render.lightness(pixels[:: steps[0]]).T
    return [rows, rows[::-1], columns, columns[::-1]]


def _even(lines: NDArray[np.float32], level: float) -> int:
    """How many lines, from the first on, are as even as a border."""
    uneven = np.flatnonzero((abs(lines - level) > EVEN).mean(axis=1) > STRAY)
    return int(uneven[0]) if len(uneven) else len(lines)


def _whole(pixels: Pixels) -> Box:
    """All rows and columns."""
    return slice(0, pixels.shape[0]), slice(0, pixels.shape[1])


def _cut(box: Box, margins: list[int]) -> Box:
    """The box without this many rows and columns at its sides."""
    rows, columns = box
    top, bottom, left, right = margins
    return slice(rows.start + top, rows.stop - bottom), slice(columns.start + left, columns.stop - right)

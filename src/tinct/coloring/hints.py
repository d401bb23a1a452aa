"""What a person knows of a picture's colours, spread over what looks alike.

A hint says the colour of one place, and so by how much the network is wrong there. Its error is taken for a Gaussian
process over place, lightness and predicted colour, whose mean given all hints (Rasmussen & Williams 2006, equation
2.25) is added to the prediction. So what is near and looks alike changes too, as in An & Pellacini's edit propagation
(2008), and what is unlike all hints stays as it was. docs/results-colour.md has what hints are worth.
"""

import logging
import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from PIL import ImageColor
from torch import Tensor
from torch.nn import functional as F

from tinct.color import srgb_to_lab
from tinct.coloring.checks import check_number
from tinct.coloring.upsample import Chroma, fit
from tinct.errors import TinctError
from tinct.pictures.picture import Box, Picture, upright_place

__all__ = ["Hint", "Known", "checked_hints", "corrected", "locate", "parse_hints"]

logger = logging.getLogger(__name__)

Hint: TypeAlias = tuple[float, float, str]
"""A column and a row of the upright picture, in pixels from its top left corner, and `#rrggbb`, a CSS name or
`KEEP`."""

KEEP = "keep"
"""In place of a colour: the predicted one is right."""

MAX_HINTS = 100

LONGEST = 100
"""Characters of a hint as text."""

GRID = 256
"""Cells on the short side, at most, of the grid on which changes are found."""

REACH = 0.3
"""Distance, in short sides of the picture, at which a hint counts half, where all else is equal."""

LIKE_L = 30.0
"""Difference in L* at which it does."""

LIKE_AB = 20.0
"""Distance between predicted colours, in Lab units, at which it does."""

NOISE = 0.03
"""Variance of what hints say, in those of the network's errors: hints that disagree at one place are averaged."""


@dataclass(frozen=True)
class Known:
    """What hints say of a picture.

    Attributes:
        box: the rows and columns, as stored, that the network looks at.
        places: (n, 2), rows and columns in the upright part that `box` holds, as shares of its sides.
        ab: (n, 2) in Lab units, or NaN where the prediction is right.
    """

    box: Box
    places: Tensor
    ab: Tensor


def parse_hints(texts: Sequence[str]) -> list[Hint]:
    """The hints that are written as COLUMN,ROW=COLOUR; raises `TinctError` where one is none, or there are too many."""
    return checked_hints([_parsed(text) for text in texts])


def _parsed(text: str) -> Hint:
    number = r"\s*(\d+(?:\.\d*)?)\s*"
    found = re.fullmatch(rf"{number},{number}=(.+)", text) if len(text) <= LONGEST else None
    if not found:
        raise TinctError(f"hint is {text!r:.80}; expected COLUMN,ROW=COLOUR, such as 120,340=#2040a0 or 120,340=keep")
    return float(found[1]), float(found[2]), found[3].strip()


def checked_hints(hints: Any) -> list[Hint]:
    """Hints in plain numbers; raises `TinctError` where one is none. Whether a picture has them is left to `locate`."""
    if isinstance(hints, str) or not isinstance(hints, Sequence) or not all(_is_hint(hint) for hint in hints):
        raise TinctError(f"hints are {hints!r:.80}; expected tuples such as (120, 340, '#2040a0')")
    if len(hints) > MAX_HINTS:
        raise TinctError(f"{len(hints)} hints; expected at most {MAX_HINTS}; leave out those of little effect")
    for column, row, colour in hints:
        check_number("a hint's column", column, numbers.Real)
        check_number("a hint's row", row, numbers.Real)
        _chroma_of(colour)
    try:
        return [(float(column), float(row), colour) for column, row, colour in hints]
    except OverflowError as error:
        raise TinctError(f"hints are {hints!r:.80}; expected places in the picture, in pixels") from error


def locate(hints: Sequence[Hint], pictures: Sequence[Picture], boxes: Sequence[Box]) -> Known:
    """Find where in their picture hints are, and what they say.

    Args:
        hints: at least one, as `checked_hints` gives them.
        pictures: that picture alone.
        boxes: where in the picture as stored something was found, and a border around. If a hint on the border gives
            a colour, it is none: then the box of the result is the whole picture.

    Raises:
        TinctError: there are several pictures, or a place is outside the picture.
    """
    if len(pictures) != 1:
        raise TinctError(f"hints are of one picture, but there are {len(pictures)}; colour it alone")
    picture = pictures[0]
    height, width = picture.size
    for column, row, _ in hints:
        if not (0 <= column < width and 0 <= row < height):
            raise TinctError(
                f"hint at {_plain(column)},{_plain(row)} is outside {picture.name}; "
                f"expected columns below {width} and rows below {height}, from 0"
            )
    ab = torch.stack([_chroma_of(colour) for *_, colour in hints])
    box, places = boxes[0], _places(hints, picture, boxes[0])
    beyond = ((places < 0) | (places >= 1)).any(dim=1)
    if (beyond & ab.isfinite().all(dim=1)).any():
        logger.warning("%s: a hint is on what looks like a border, so this is coloured too", picture.name)
        box = slice(0, picture.pixels.shape[0]), slice(0, picture.pixels.shape[1])
        places, beyond = _places(hints, picture, box), torch.zeros_like(beyond)
    return Known(box, places[~beyond], ab[~beyond])  # a border is grey as it is, which `KEEP` there says


def corrected(chroma: Chroma, l: Tensor, known: Known, predicted: Chroma) -> Chroma:
    """Add to the colours of a picture what hints say they lack.

    Args:
        chroma: the picture's colours without hints, of `known.box`.
        l: (H, W) L* in [0, 100], as the network saw it.
        known: the hints.
        predicted: the network's colours, before saturation, by which places are alike.

    Returns:
        `chroma` and a change, found on a finer grid, that of `l` up to `GRID`: a hint may be of something small.
    """
    if (scale := GRID / min(l.shape)) < 1:
        size = [max(1, round(side * scale)) for side in l.shape]
        l = F.interpolate(l[None, None], size, mode="bilinear", antialias=True)[0, 0]
    height, width = l.shape
    now, guess = (torch.from_numpy(one.within().rows(l.numpy(), 0, height)) for one in (chroma, predicted))
    steps = [torch.arange(side, dtype=torch.float64) / (REACH * min(height, width)) for side in (height, width)]
    like = torch.stack(
        [*torch.meshgrid(*steps, indexing="ij"), l.double() / LIKE_L, *(guess.double() / LIKE_AB)], dim=-1
    )
    row, column = (known.places.T * torch.tensor([[height], [width]])).long()
    given = like[row, column]
    lacking = (known.ab - now[:, row, column].T).nan_to_num(0.0).double()
    weights = torch.linalg.solve(_covariance(given, given) + NOISE * torch.eye(len(given), dtype=given.dtype), lacking)
    change = torch.stack([_covariance(line, given) @ weights for line in like]).movedim(-1, 0)
    return replace(chroma, change=fit(l, change))


def _covariance(these: Tensor, those: Tensor) -> Tensor:
    """Matérn's, of 3/2 (Rasmussen & Williams, equation 4.17), which is about a half at a distance of 1."""
    distance = math.sqrt(3) * torch.cdist(these, those, compute_mode="donot_use_mm_for_euclid_dist")
    return (1 + distance) * torch.exp(-distance)


def _places(hints: Sequence[Hint], picture: Picture, box: Box) -> Tensor:
    """Rows and columns of hints, as shares of the sides of a part of the picture when it is looked at: (n, 2)."""
    ends = [upright_place(*end, picture) for end in ((box[0].start, box[1].start), (box[0].stop, box[1].stop))]
    first, last = torch.tensor(ends, dtype=torch.float64).aminmax(dim=0)
    at = torch.tensor([(row, column) for column, row, _ in hints], dtype=torch.float64)
    return (at - first) / (last - first)


def _plain(number: float) -> str:
    return f"{number:f}".rstrip("0").rstrip(".") if number % 1 else f"{number:.0f}"


def _is_hint(hint: object) -> bool:
    return isinstance(hint, Sequence) and len(hint) == 3 and isinstance(hint[2], str)


def _chroma_of(colour: str) -> Tensor:
    """The a* and b* of a colour, (2,), NaN of `KEEP`; raises `TinctError` where it is none."""
    plain = colour.replace(" ", "").lower()  # Sky Blue
    if plain == KEEP:
        return torch.full((2,), math.nan)
    try:
        rgb = ImageColor.getrgb(f"#{plain}" if re.fullmatch("[0-9a-f]{6}", plain) else plain)
        if len(rgb) != 3 or max(rgb) > 255:  # Pillow takes rgb(999,0,0)
            raise ValueError
    except ValueError as error:
        raise TinctError(f"a hint's colour is {colour!r:.80}; expected #rrggbb, a CSS name or {KEEP}") from error
    return srgb_to_lab(torch.tensor(rgb, dtype=torch.float32).reshape(3, 1, 1) / 255)[1:, 0, 0]

"""Held-out photographs: how well a generator colours them, in numbers and as a sheet to look at."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tinct.color import as_bytes, as_planes, clip_to_gamut, greyed, lab_to_srgb, srgb_to_lab
from tinct.color_metrics import ab_distance, colorfulness, psnr
from tinct.data.base import Source
from tinct.data.decode import is_grey
from tinct.data.hashes import dhash, near
from tinct.data.random import rng
from tinct.data.transforms import centre
from tinct.errors import PictureError
from tinct.files import write_image

__all__ = ["Colourer", "balance", "colour_scores", "coloured_by", "sample_sheet", "take_held_out"]

COLUMNS = 8
"""Pictures on a sample sheet."""

Colourer = Callable[[Tensor], Tensor]
"""L (B, 1, H, W) in [0, 100] to ab (B, 2, H/s, W/s) in Lab units."""


def take_held_out(
    source: Source, count: int, size: int, excluded: NDArray[np.uint64]
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint64]]:
    """The first `count` usable colour pictures of a fixed shuffle of `source`, no copies of those `excluded` by hash.

    Returns:
        Their indices (N,), centre crops (N, size, size, 3) and hashes (N,); fewer than asked when few are usable.
    """
    indices: list[int] = []
    pictures: list[NDArray[np.uint8]] = []
    hashes: list[np.uint64] = []
    for index in rng(0, len(source)).permutation(np.arange(len(source), dtype=np.uint32))[: 4 * count]:
        if len(indices) == count:
            break
        try:
            picture = source.picture(int(index), size)
        except PictureError:
            continue  # counted when training meets its like
        hashed = dhash(picture)
        if not is_grey(picture) and not near(np.array([hashed], np.uint64), excluded)[0]:
            indices.append(int(index))
            pictures.append(centre(picture, size))
            hashes.append(hashed)
    crops = np.array(pictures, np.uint8).reshape(-1, size, size, 3)
    return np.array(indices, np.uint32), crops, np.array(hashes, np.uint64)


@torch.no_grad()
def coloured_by(colourer: Colourer, rgb: Tensor) -> Tensor:
    """Colour (B, 3, H, W) RGB in [0, 1] from its luminance alone; ab is raised to that size bilinearly.

    `tinct colorize` raises it along the picture's edges instead.
    """
    l = srgb_to_lab(rgb)[:, :1]
    ab = F.interpolate(colourer(l).float(), size=rgb.shape[-2:], mode="bilinear", align_corners=False)
    return lab_to_srgb(clip_to_gamut(torch.cat((l, ab), dim=1)))


def colour_scores(
    colourer: Colourer, pictures: NDArray[np.uint8], device: torch.device, batch: int = 32
) -> dict[str, float]:
    """How well `colourer` colours (N, H, W, 3) pictures at their size, as `coloured_by` does, after gamut clipping.

    Returns:
        `ab_error`: mean Euclidean distance in the ab plane, Lab units; `ab_error_grey`: that of the all-grey answer;
        `psnr` in dB over all RGB values; `colourfulness_ratio`: mean colourfulness (Hasler and Suesstrunk 2003) of the
        results over that of the truth; `balance`: see `balance`.
    """
    truth = as_planes(pictures)
    result = torch.cat([coloured_by(colourer, part.to(device)).cpu() for part in truth.split(batch)])
    ab, true_ab = (srgb_to_lab(part)[:, 1:] for part in (result, truth))
    error = float(ab_distance(ab, true_ab).mean())
    ratio = float(colorfulness(result).mean() / colorfulness(truth).mean())
    return {
        "ab_error": error,
        "ab_error_grey": float(ab_distance(torch.zeros_like(ab), true_ab).mean()),
        "psnr": float(psnr(result, truth).mean()),
        "colourfulness_ratio": ratio,
        "balance": balance(error, ratio),
    }


def balance(ab_error: float, colourfulness_ratio: float) -> float:
    """The ab error, times how much too dull or too gaudy the colours are (the ratio or its inverse, whichever is > 1).

    The error alone is least for washed-out colours, the ratio alone says nothing of being right. Lower is better.
    """
    ratio = max(colourfulness_ratio, 1e-3)
    return ab_error * max(ratio, 1 / ratio)


def sample_sheet(
    path: Path, colourer: Colourer, pictures: NDArray[np.uint8], device: torch.device
) -> NDArray[np.uint8]:
    """Write the first pictures as a PNG of three rows: grey, truth, coloured now, as `coloured_by` does.

    Returns:
        The sheet, (3 H, COLUMNS W, 3).
    """
    truth = as_planes(pictures[:COLUMNS])
    coloured = coloured_by(colourer, truth.to(device)).cpu()
    rows = [torch.cat(list(row), dim=-1) for row in (greyed(truth), truth, coloured)]
    sheet = as_bytes(torch.cat(rows, dim=-2))
    write_image(path, Image.fromarray(sheet))
    return sheet

"""A picture and its mask brought to the network's size together: with augmentation in training, without in evaluation.

A mask follows its picture by nearest neighbour, so that no value appears that was not there. It may be larger than the
picture, which can be a reduced decoding: boxes are taken in the coordinates of each.
"""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tinct.data.base import Source
from tinct.data.random import rng
from tinct.errors import PictureError

__all__ = [
    *("AREA", "CENTRED", "LONGEST", "MULTIPLE", "RATIO", "REDUCED", "WHOLE"),
    *("augment", "centre", "letterbox", "resized", "shrunk", "whole", "whole_side"),
]

AREA = (0.4, 1.0)
"""The share of the picture that a training crop covers. Narrower than ImageNet training's (0.08, 1), which often cuts
the labelled object away (Szegedy et al. 2015 train on one centred object)."""
RATIO = (3 / 4, 4 / 3)
"""Width over height of a training crop, before it is made square."""
LIGHTNESS = 0.1
"""The largest shift of lightness, as a share of the range."""
CONTRAST = 0.2
"""The largest change of contrast, as a share, around the picture's mean."""
REDUCED = (
    "of the picture with its shorter side first reduced to 1.5 times size, where it is longer (bicubically; a JPEG "
    "before that in decoding, as far as that keeps it longer)"
)
"""What `shrunk` does before either of the following, for those who feed a network without tinct."""
CENTRED = f"the largest centred square, brought to size bilinearly with antialiasing, {REDUCED}"
"""What of a picture `centre` gives a network."""
WHOLE = (
    "the whole picture, its shorter side brought to size and the longer one to the nearest multiple of 32, 8 times "
    "size at most, bilinearly with antialiasing"
)
"""The same of `whole`, which is in records, by which cells are compared; so what comes before it is said beside it."""
MULTIPLE = 32
"""Sides of what a network is fed are multiples of this, its deepest feature map's largest reduction."""
LONGEST = 8
"""The longer side that a segmenter is fed, at most, over the shorter; what is longer is squeezed."""

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]


def augment(picture: Picture, mask: Picture | None, size: int, *key: int) -> tuple[Picture, Picture | None]:
    """Cut a random crop out, bring it to size, mirror it half the time, and vary lightness and contrast a little.

    Everything drawn is a function of `key`, so the same picture comes out whoever asks, in whatever order.

    Args:
        picture: (H, W, 3).
        mask: (h, w) class indices of the same picture, or None.
        size: height and width of what comes out, in pixels.
        key: such as (seed, epoch, position).

    Returns:
        The picture (size, size, 3) and the mask (size, size) or None.
    """
    generator = rng(*key)
    height, width = picture.shape[:2]
    left, top, right, bottom = _crop_box(height, width, generator)
    mirrored = generator.random() < 0.5
    shift = 255 * generator.uniform(-LIGHTNESS, LIGHTNESS)
    factor = generator.uniform(1 - CONTRAST, 1 + CONTRAST)
    crop = _resize(picture, (size, size), (left, top, right, bottom))
    mean = float(crop.mean())
    levels = np.rint((np.arange(256) - mean) * factor + mean + shift).clip(0, 255).astype(np.uint8)
    crop = levels[crop]
    if mask is not None:
        x, y = mask.shape[1] / width, mask.shape[0] / height
        mask = _resize(mask, (size, size), (left * x, top * y, right * x, bottom * y))
    if mirrored:
        crop, mask = crop[:, ::-1], None if mask is None else mask[:, ::-1]
    return np.ascontiguousarray(crop), None if mask is None else np.ascontiguousarray(mask)


def centre(picture: Picture, size: int) -> Picture:
    """Evaluate a classifier on this: the largest centred square, (size, size, 3)."""
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (size, size), Image.Resampling.BILINEAR))


def whole(picture: Picture, size: int) -> Picture:
    """Evaluate a segmenter on this: the whole picture, near the scale of training crops, and nothing else.

    A network that learned from crops takes padding for something, and smaller things for others: fitted into a padded
    square instead, the same networks lose points (docs/results-transfer.md).

    Args:
        picture: (H, W, 3).
        size: the shorter side of what comes out, in pixels, a multiple of `MULTIPLE`.

    Returns:
        (h, w, 3): the longer side is the multiple of `MULTIPLE` next to the picture's shape, or `LONGEST` times `size`.
    """
    height, width = picture.shape[:2]
    step = MULTIPLE * min(height, width) / size
    rows, columns = (min(MULTIPLE * round(side / step), LONGEST * size) for side in (height, width))
    return _resize(picture, (columns, rows), (0, 0, width, height))


def whole_side(size: int, min_crop: float) -> int:
    """The shorter side, a multiple of `MULTIPLE` from 64 on, of whole pictures for what learned from crops.

    Things are then about as large as in a mean crop of `size` pixels, which has `min_crop` to 1 of the shorter side.
    """
    shown = (1 + min_crop) / 2
    return max(2, round(size / shown / MULTIPLE)) * MULTIPLE


def letterbox(pixels: Picture, size: int, fill: int) -> Picture:
    """Show a picture (H, W, 3) or a mask (H, W) whole in a square of `size` pixels, the rest of which is `fill`."""
    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    canvas = np.full((size, size, *pixels.shape[2:]), fill, np.uint8)
    top, left = (size - rows) // 2, (size - columns) // 2
    canvas[top : top + rows, left : left + columns] = _resize(pixels, (columns, rows), (0, 0, width, height))
    return canvas


def shrunk(source: Source, index: int, side: int) -> NDArray[np.uint8] | str:
    """The picture with its shorter side reduced to `side`, or why there is none."""
    try:
        rgb = source.picture(index, side)
    except PictureError as error:
        return str(error)
    return np.ascontiguousarray(rgb if min(rgb.shape[:2]) <= side else resized(rgb, side, Image.Resampling.BICUBIC))


def resized(picture: Picture, side: int, method: Image.Resampling) -> Picture:
    """The picture (H, W, 3) with its shorter side brought to `side`."""
    height, width = picture.shape[:2]
    shorter = min(height, width)
    size = max(side, round(width * side / shorter)), max(side, round(height * side / shorter))
    return np.asarray(Image.fromarray(picture).resize(size, method))


def _crop_box(height: int, width: int, generator: np.random.Generator) -> Box:
    """A random box of the wanted area and ratio, shrunk where it would not fit: left, top, right, bottom.

    The law is that of torchvision's RandomResizedCrop (Szegedy et al. 2015), except that it shrinks a box instead of
    drawing again; pretraining has another, see `loader.random_crop`.
    """
    area = generator.uniform(*AREA) * height * width
    ratio = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
    box_width, box_height = min(math.sqrt(area * ratio), width), min(math.sqrt(area / ratio), height)
    left, top = generator.uniform(0, width - box_width), generator.uniform(0, height - box_height)
    return left, top, min(left + box_width, width), min(top + box_height, height)


def _resize(pixels: Picture, shape: tuple[int, int], box: Box) -> Picture:
    """Resample a box of (H, W, 3) pixels with antialiasing, or of an (H, W) mask, to (width, height)."""
    method = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize(shape, method, box))

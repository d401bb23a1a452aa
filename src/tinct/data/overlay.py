"""A picture with its labels drawn on it, for eyes."""

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tinct.data.base import VOID, LabelledSource

__all__ = ["class_color", "draw_labels", "overlay"]


def overlay(source: LabelledSource, index: int) -> Image.Image:
    """Draw picture `index` of a source with its mask, or else the names of its classes.

    Raises:
        PictureError: the picture or its mask is unusable.
    """
    picture = source.picture(index)
    if source.mask_classes:
        return draw_labels(picture, source.mask_classes, source.mask(index), source.background)
    return draw_labels(picture, [source.classes[column] for column in np.flatnonzero(source.labels()[index] == 1)])


def draw_labels(
    picture: NDArray[np.uint8],
    classes: Sequence[str],
    mask: NDArray[np.uint8] | None = None,
    background: int | None = None,
) -> Image.Image:
    """Draw a mask's classes in colours over a picture, and the names of those present below it.

    Args:
        picture: (H, W, 3).
        classes: the names of the mask's values; without a mask, of the classes present.
        mask: (H, W) class indices; void and background leave the picture as it is.
        background: the index of the background class, if there is one.
    """
    blended, lines = picture.copy(), [(name, (255, 255, 255)) for name in classes]
    if mask is not None:
        values = [int(value) for value in np.unique(mask) if value not in (VOID, background)]
        lines = [(classes[value], class_color(value)) for value in values]
        for value in values:
            here = mask == value
            blended[here] = blended[here] // 2 + np.array(class_color(value), np.uint8) // 2
    image = Image.fromarray(blended)
    image.thumbnail((480, 480))
    sheet = Image.new("RGB", (max(image.width, 160), image.height + _LINE * len(lines) + 4))
    sheet.paste(image)
    draw = ImageDraw.Draw(sheet)
    for line, (name, color) in enumerate(lines):
        draw.text((4, image.height + _LINE * line + 2), name, fill=color)
    return sheet


_LINE = 16  # pixels


def class_color(value: int) -> tuple[int, int, int]:
    """A colour for a class, far from its neighbours': hues a golden angle apart."""
    red, green, blue = colorsys.hsv_to_rgb(value * 0.618034 % 1, 0.8, 1)
    return int(255 * red), int(255 * green), int(255 * blue)

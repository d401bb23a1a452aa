"""A picture with its labels drawn on it, for eyes."""

import colorsys
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tinct.data.base import VOID, LabelledSource, fingerprint_of
from tinct.errors import PictureError, TinctError
from tinct.files import write_image

__all__ = ["class_color", "draw_labels", "file_stems", "overlay", "write_samples"]

LONGEST = 200
"""Bytes of a spec that go into a file's name, which most disks limit to 255."""


def write_samples(source: LabelledSource, folder: Path, stem: str) -> list[Path] | str:
    """Draw three usable pictures, from beginning, middle and end, into `folder` as `stem`-0.png and so on.

    Returns:
        The files, or why there are none.

    Raises:
        TinctError: the folder cannot be written.
    """
    written, why = [], "it has no pictures"
    for number, start in enumerate(sorted({0, len(source) // 2, len(source) - 1})):
        for index in range(start, min(start + 20, len(source))):
            try:
                image = overlay(source, index)
            except PictureError as error:  # the next one will do
                why = str(error)
                continue
            except TinctError as error:  # of the labels, which are those of all pictures
                return str(error)
            path = folder / f"{stem}-{number}.png"
            write_image(path, image)
            written.append(path)
            break
    return written or why


def file_stems(specs: Iterable[str]) -> dict[str, str]:
    """How the names of each source's files begin: as it is written where that will do, and no two alike."""
    stems: dict[str, str] = {}
    for spec in specs:
        words = re.sub(r"[^\w-]+", "-", spec).strip("-")
        stem = os.fsencode(words)[:LONGEST].decode("utf-8", "ignore")
        if stem != words or stem.lower() in map(str.lower, stems.values()):  # some disks do not tell cases apart
            stem += f"-{fingerprint_of([spec])[:8]}"
        stems[spec] = stem
    return stems


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

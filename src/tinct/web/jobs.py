"""What the page of `tinct serve` does with a picture, and its examples; nothing here knows gradio."""

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tinct.color import as_bytes
from tinct.coloring.hints import parse_hints
from tinct.colorize import Colorizer
from tinct.data.photos import photographs
from tinct.errors import PictureError, TinctError
from tinct.pictures.picture import FORMATS, view
from tinct.pictures.readers import pixel_count, read
from tinct.pictures.render import lightness, srgb
from tinct.pictures.writers import write

__all__ = [
    "MAX_SIZE",
    "MAX_VERSIONS",
    "Limits",
    "Views",
    "coloured",
    "examples",
    "hint_line",
    "new_folder",
    "thumbnail",
]

MAX_SIZE = 1024
"""The largest working size that the page offers."""

MAX_VERSIONS = 4

THUMBNAIL = 160
"""Side of an example's picture in pixels."""


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for.

    Attributes:
        megabytes: of an upload, of 2**20 bytes each.
        megapixels: of a picture.
        queue: pictures that wait their turn; further ones are turned away.
    """

    megabytes: int = 50
    megapixels: int = 100
    queue: int = 16


@dataclass(frozen=True)
class Views:
    """What the page shows of a picture.

    Attributes:
        path: the picture's file.
        settings: the saturation, the network's size and the number of versions it was coloured with.
        size: (H, W) of the whole picture, upright.
        small: the picture before, then every version, as small as the page shows them: (h, w, 3).
    """

    path: Path
    settings: tuple[float, int, int]
    size: tuple[int, int]
    small: list[NDArray[np.uint8]]


def coloured(
    path: Path, colorizer: Colorizer, limits: Limits, saturation: float, size: int, versions: int, hints: str = ""
) -> tuple[list[str], Views]:
    """Colour the file at `path` in `versions` ways; give the results' paths, and what to show.

    `hints` has one a line, as `tinct colorize` takes them.

    Raises:
        TinctError: a setting or the file is over a limit, or the file is no picture that can be coloured.
    """
    if not 1 <= versions <= MAX_VERSIONS:
        raise TinctError(f"versions is {versions}; expected 1 to {MAX_VERSIONS}")
    if size > max(MAX_SIZE, colorizer.size):
        raise TinctError(f"size is {size}; expected at most {max(MAX_SIZE, colorizer.size)}")
    try:
        if (length := path.stat().st_size) > limits.megabytes << 20:
            raise PictureError(f"{path.name}: {length} bytes, over the limit of {limits.megabytes} MB")
        content = path.read_bytes()
    except FileNotFoundError as error:  # uploads are removed in time
        raise PictureError(f"{path.name}: gone since it was uploaded; choose it again") from error
    with contextlib.suppress(PictureError):  # reading it will say why
        if (pixels := pixel_count(content)) > limits.megapixels * 1_000_000:
            raise TinctError(f"{path.name}: {pixels} pixels, over the limit of {limits.megapixels} megapixels")
    known = parse_hints([line for line in hints.splitlines() if line.strip()])
    picture = read(content, path.name)
    folder = new_folder()
    files, views = [], [as_bytes(view(picture))]
    for seed in range(versions) if versions > 1 else (None,):
        result = colorizer.colour([picture], saturation=saturation, size=size, seed=seed, hints=known)[0]
        number = "" if seed is None else f"-{seed + 1}"
        files.append(folder / f"{path.stem}-coloured{number}{FORMATS[picture.form][0]}")
        write(result, files[-1])
        views.append(as_bytes(view(result)))
    return [str(file) for file in files], Views(path, (saturation, size, versions), picture.size, views)


def hint_line(views: Views, column: int, row: int, colour: str) -> str:
    """The hint that a click on what is shown gives, with a colour as gradio writes it: `#2040a0`, `rgba(32.1, ...)`."""
    (height, width), (small_height, small_width, _) = views.size, views.small[0].shape
    column, row = int((column + 0.5) * width / small_width), int((row + 0.5) * height / small_height)
    if colour.startswith("rgb"):
        colour = "#" + "".join(f"{round(float(number)):02x}" for number in re.findall(r"[\d.]+", colour)[:3])
    return f"{column},{row}={colour}"


def examples() -> dict[str, NDArray[np.uint8]]:
    """Grey (H, W) versions of the photographs inside scikit-image."""
    found = {}
    for name, photograph in photographs().items():
        l = lightness(photograph)
        found[name] = srgb(l, np.zeros((2, *l.shape), np.float32), np.dtype(np.uint8))[..., 0]
    return found


def thumbnail(pixels: NDArray[np.uint8]) -> Image.Image:
    """The middle square of (H, W) grey, `THUMBNAIL` pixels a side."""
    return ImageOps.fit(Image.fromarray(pixels), (THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)


def new_folder() -> Path:
    """A folder for one result, where the page may serve it from and removes it in time."""
    return Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))

"""A picture as colouring needs it: full depth, transparency, orientation and metadata, nothing lost on the way.

`tinct.data.decode` serves learning, where 8 upright bits are enough; the files beside this one serve colouring.
Pixels move in strips of rows, so that a 100-megapixel scan is never held in float.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tinct.color import srgb_to_lab

__all__ = [
    "FILM_FORMATS",
    "FILM_SUFFIXES",
    "FORMATS",
    "ONLY_READ",
    "READ_SUFFIXES",
    "SUFFIXES",
    "Box",
    "Picture",
    "Pixels",
    "add_samples",
    "as_stored",
    "reduced",
    "samples_of",
    "strips",
    "to_8_bits",
    "toning",
    "top",
    "unit",
    "upright",
    "upright_place",
    "view",
]

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
"""The formats that are read and written, as Pillow calls them, with their files' suffixes, the usual one first."""

ONLY_READ = {"PPM": (".pgm", ".ppm", ".pnm"), "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc")}
"""Formats whose pictures are written as PNG, since Pillow writes neither metadata nor 16 bits of colour in them."""

SUFFIXES = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}

READ_SUFFIXES = tuple(suffix for suffixes in ONLY_READ.values() for suffix in suffixes)

FILM_FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""What coloured films may end in, and what FFmpeg calls that; films of other kinds become the first."""

FILM_SUFFIXES = (
    *FILM_FORMATS,
    *(".3gp", ".asf", ".avi", ".divx", ".dv", ".flv", ".m2t", ".m2ts", ".m2v", ".m4v", ".mpe", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv"),
)

STRIP_PIXELS = 1 << 17
"""Pixels in a strip of rows: its float planes (0.5 MB each) stay in the processor's cache."""

SHEET_SIDE = 1024
"""The longest side of pictures that are only looked at (a before/after sheet, the page of `tinct serve`), in pixels."""

MONOCHROME = 1.75
"""Chroma (Lab units, root mean square) that lightness may leave unexplained in a faintly toned picture; see below.

Of 550 colour photographs (BSDS500, flowers, CamVid, VOC2012) 3 % count as monochrome: fog and snow, and vivid pictures
of one hue, such as blue skies (of 100 of BSDS500's train pictures 5, whose mean chroma is 9 to 29). Of as many toned
copies, noisy and at JPEG quality 75, less than 1 % do not.
"""

Pixels: TypeAlias = NDArray[Any]
"""Samples of uint8 or uint16 over their full range, or of float32 in [0, 1]."""

Box: TypeAlias = tuple[slice, slice]
"""Rows and columns of a picture, as stored."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A still picture in sRGB with everything its file said about it.

    Attributes:
        pixels: (H, W) grey or (H, W, 3) colour, rows as the file stores them, which `orientation` turns upright.
        alpha: (H, W) of the same type, or None where the picture has no transparency.
        orientation: EXIF orientation, 1 to 8; always what `exif` says too.
        format: what Pillow calls its file's format.
        exif: an EXIF block with its `Exif` prefix, or empty.
        xmp: an XMP packet, or empty.
        dpi: horizontal and vertical resolution in pixels an inch.
        photoshop: a JPEG's Photoshop segments, markers included, which hold captions and credits (IPTC); or empty.
        text: PNG's text chunks; JPEG's comment is under `Comment`.
        name: what to call it in messages.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    orientation: int = 1
    format: str = "PNG"
    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    photoshop: bytes = b""
    text: dict[str, str] = dataclasses.field(default_factory=dict)
    name: str = "picture"

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) upright."""
        height, width = self.pixels.shape[:2]
        return (height, width) if self.orientation < 5 else (width, height)

    @property
    def form(self) -> str:
        """The format, a key of `FORMATS`, in which it is written where nobody says another."""
        return self.format if self.format in FORMATS else "PNG"

    def cut(self, box: Box) -> "Picture":
        """A part of it, which shares its samples."""
        alpha = None if self.alpha is None else self.alpha[box]
        return dataclasses.replace(self, pixels=self.pixels[box], alpha=alpha)


def strips(height: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Cut `height` rows of `width` pixels into slices of about `STRIP_PIXELS`, all but the last a `multiple` high."""
    rows = max(1, STRIP_PIXELS // (width * multiple)) * multiple
    return (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def samples_of(image: Image.Image, dtype: type = np.uint8, shift: int = 0) -> NDArray[Any]:
    """The bytes of a loaded image, (H, W, bands), without the second and third copy that `np.asarray` makes."""
    samples: NDArray[Any] = np.zeros((image.height, image.width, len(image.getbands())), dtype)
    add_samples(image, samples, shift)
    return samples


def add_samples(image: Image.Image, samples: NDArray[Any], shift: int = 0) -> None:
    """Add to `samples` those of a loaded image, shifted left by `shift` bits."""
    for rows in strips(image.height, image.width):
        strip = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        samples[rows] += strip.reshape(samples[rows].shape).astype(samples.dtype, copy=False) << shift


def upright(planes: Tensor, orientation: int) -> Tensor:
    """Turn (..., H, W) as stored to how it is looked at (EXIF 2.32, section 4.6.5.1.6)."""
    return (planes.mT if orientation > 4 else planes).flip(_FLIPS[orientation])


def as_stored(planes: Tensor, orientation: int) -> Tensor:
    """The inverse of `upright`."""
    planes = planes.flip(_FLIPS[orientation])
    return planes.mT if orientation > 4 else planes


def upright_place(row: float, column: float, picture: Picture) -> tuple[float, float]:
    """Where a place of a picture as stored is when it is looked at: rows and columns in pixels from the top left."""
    height, width = picture.size
    if picture.orientation > 4:
        row, column = column, row
    flips = _FLIPS[picture.orientation]
    return height - row if -2 in flips else row, width - column if -1 in flips else column


_FLIPS: dict[int, tuple[int, ...]] = {1: (), 2: (-1,), 3: (-1, -2), 4: (-2,), 5: (), 6: (-1,), 7: (-1, -2), 8: (-2,)}


def top(samples: Pixels) -> int:
    """The sample that is white, or opaque: 255, 65535, or 1 for floats."""
    return {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(samples.dtype, 1)


def to_8_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """Round samples of any of the types to uint8; uint8 itself is passed through."""
    if pixels.dtype == np.uint8:
        return pixels.view(np.uint8)
    result = np.empty(pixels.shape, np.uint8)
    scale = np.float32(255 / top(pixels))
    for rows in strips(pixels.shape[0], pixels.shape[1]):
        result[rows] = np.rint(pixels[rows] * scale)
    return result


def unit(pixels: Pixels, buffer: NDArray[np.float32] | None = None) -> Tensor:
    """Samples as (1 or 3, H, W) float32 in [0, 1], in the first rows of `buffer` where one is given."""
    out = None if buffer is None else buffer[: len(pixels)]
    planes = torch.from_numpy(np.divide(pixels, np.float32(top(pixels)), dtype=np.float32, out=out))
    return planes[None] if pixels.ndim == 2 else planes.permute(2, 0, 1)


def reduced(picture: Picture, height: int, width: int) -> Tensor:
    """The picture at another size, upright and antialiased: (1 or 3, height, width) float32 in [0, 1].

    Strips are averaged over whole squares of pixels first, so that a large picture costs one pass and no float copy.
    """
    target = (height, width) if picture.orientation < 5 else (width, height)
    stored = picture.pixels.shape[:2]
    factor = max(1, min(side // (2 * wanted) for side, wanted in zip(stored, target, strict=True)))
    cuts = list(strips(stored[0], stored[1], factor))
    # held throughout: the heap would not reuse strips freed between results, and all of them are the whole picture
    buffer = np.empty((cuts[0].stop, *picture.pixels.shape[1:]), np.float32)
    shape = (1, 1 if picture.pixels.ndim == 2 else 3, *(-(-side // factor) for side in stored))
    pooled = torch.empty(shape, dtype=torch.float32)
    for rows in cuts:
        strip = unit(picture.pixels[rows], buffer)[None]
        target_rows = slice(rows.start // factor, -(-rows.stop // factor))
        pooled[..., target_rows, :] = F.avg_pool2d(strip, factor, ceil_mode=True) if factor > 1 else strip
    # scales are given, since the last squares may be cut; the nudge keeps rounding from costing a row
    scales = [wanted * factor / side * (1 + 1e-9) for side, wanted in zip(stored, target, strict=True)]
    small = F.interpolate(pooled, scale_factor=scales, mode="bilinear", antialias=True)
    return upright(small[0, :, : target[0], : target[1]].clamp(0, 1), picture.orientation)


def view(picture: Picture) -> Tensor:
    """A small upright copy to look at, over white where it is transparent: (3, h, w) in [0, 1]."""
    scale = min(1.0, SHEET_SIDE / max(picture.size))
    height, width = (max(1, round(side * scale)) for side in picture.size)
    seen = reduced(picture, height, width).expand(3, -1, -1)
    if picture.alpha is None:
        return seen
    opaque = reduced(dataclasses.replace(picture, pixels=picture.alpha), height, width)
    return 1 - opaque * (1 - seen)


def toning(picture: Picture) -> float | None:
    """The mean chroma of a picture that is grey, or toned: sepia, cyanotype, a tinted scan. None of one in colour.

    In a toned print colour is a function of lightness alone. So the mean chroma of each of 64 levels of lightness is
    taken away, and what is left must be noise: below `MONOCHROME`, and 1/40 of that more for each unit of mean chroma.
    A mean chroma above 60 Lab units, which no toner reaches, is colour, even with one hue only.
    """
    if picture.pixels.ndim == 2:
        return 0.0
    height, width = (min(side, 48) for side in picture.size)  # grain and JPEG's noise average out
    lab = srgb_to_lab(reduced(picture, height, width)).flatten(1)
    l, ab = lab[0], lab[1:]
    strength = float(ab.norm(dim=0).mean())
    level = (l * (63.999 / 100)).long()
    mean = ab.new_zeros(2, 64).index_add_(1, level, ab) / torch.bincount(level, minlength=64).clamp(min=1)
    rest = float((ab - mean[:, level]).square().sum(dim=0).mean().sqrt())
    return strength if strength <= 60 and rest < MONOCHROME * (1 + strength / 40) else None

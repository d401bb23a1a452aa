"""Reading 16 bits a sample to the last bit, where Pillow would keep eight or misread them."""

import io
import math
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, PpmImagePlugin, TiffImagePlugin

from tinct.data.decode import oversize
from tinct.errors import PictureError
from tinct.pictures.picture import add_samples, samples_of, strips

__all__ = [
    "by_netpbm",
    "by_tifffile",
    "by_two_passes",
    "for_tifffile",
    "is_reduced",
    "key_to_alpha",
    "netpbm_peak",
]

READ_AHEAD = 1 << 24
"""Bytes of packed strips that tifffile may hold; its own 256 MB are 0.4 GB more for a scan of 100 megapixels."""

# Pillow knows no TIFF of 16-bit grey with transparency. Let it read the header; `by_tifffile` reads the pixels.
for _order in (b"II", b"MM"):
    for _extra in (0, 1, 2):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, 1, (1,), 1, (16, 16), (_extra,)), ("LA", "LA;16B"))


def is_reduced(image: Image.Image) -> bool:
    """Whether it is of 16-bit colour, which Pillow reduces to 8 bits without a word."""
    return ";16" in _rawmode(image) and image.mode in ("RGB", "RGBA")


def by_two_passes(image: Image.Image, reopen: Callable[[], Image.Image]) -> NDArray[np.uint16]:
    """16-bit colour by two passes of Pillow's reader: the high bytes, then the low ones as if byte order were swapped.

    So every compression that Pillow knows is read (tifffile would need a further package for most), within its guards.
    It takes half as much memory again, so `by_tifffile` goes first where it can.
    """
    samples = samples_of(image, np.uint16, shift=8)
    image.close()  # gives back its pixels
    with reopen() as again:
        grey = _rawmode(again) == "LA;16B"
        again.tile = [tile._replace(args=_swapped(tile.args)) for tile in again.tile]  # type: ignore[attr-defined]
        again.load()
        if grey:
            return samples_of(again).view(">u2").astype(np.uint16)
        add_samples(again, samples)
    return samples


def netpbm_peak(image: Image.Image) -> int:
    """What stands for white in a PGM or PPM of more than 8 bits, of which Pillow keeps 8 in colour; 0 for others."""
    if not isinstance(image, PpmImagePlugin.PpmImageFile):
        return 0
    args: Any = image.tile[0].args
    if isinstance(args, str):  # samples as they are
        return 65535 if args == "I;16B" else 0
    return int(args[1]) if args[0] in ("L", "RGB") and args[1] > 255 else 0


def by_netpbm(image: Any, source: Path | bytes) -> NDArray[np.uint16]:
    """The samples (H, W, bands) of such a file over all 16 bits; Pillow has read the header.

    Raises:
        PictureError: it is written as text.
    """
    if image.tile[0].codec_name == "ppm_plain":
        raise PictureError("16 bits a sample as text; convert it to a binary PGM or PPM")
    content = source.read_bytes() if isinstance(source, Path) else source
    shape = image.height, image.width, 3 if image.mode == "RGB" else 1
    packed = np.frombuffer(content, ">u2", math.prod(shape), image.tile[0].offset)
    samples, peak = packed.reshape(shape).astype(np.uint16), netpbm_peak(image)
    for rows in strips(*shape[:2]):
        samples[rows] = np.rint(samples[rows].clip(max=peak) / peak * 65535)
    return samples


def _swapped(args: Any) -> Any:
    """A raw mode such as `RGB;16B` with the other byte order; N is the machine's own."""
    if isinstance(args, tuple):
        return (_swapped(args[0]), *args[1:])
    if args == "LA;16B":  # has no twin, but its four bytes fit the four bands
        return "RGBA"
    return args[:-1] + {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}[args[-1]]


def for_tifffile(image: Image.Image) -> bool:
    """Whether it is a TIFF of several 16-bit samples a pixel that tifffile reads in less memory, or alone reads right.

    Raises:
        PictureError: Pillow would misread it, and how it is compressed is not for tifffile.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return False
    defaults = {258: (), 262: 0, 284: 1, 338: ()}  # bits a sample, what they mean, planes, further samples
    depths, meaning, planes, extra = (image.tag_v2.get(tag, default) for tag, default in defaults.items())
    if set(depths) != {16} or len(depths) == 1 or meaning not in (1, 2):  # not CMYK, which Pillow converts
        return False
    compression = image.info.get("compression")
    if compression in ("raw", "tiff_adobe_deflate", "tiff_deflate"):
        return True
    if len(depths) == 2 or planes == 2 or 1 in extra:  # grey and alpha, colours in planes, premultiplied
        raise PictureError(
            f"a rarer kind of 16-bit TIFF, with {compression} inside; save it uncompressed or with deflate"
        )
    return False


def by_tifffile(source: Path | bytes) -> NDArray[np.uint16]:
    """Such a TIFF's samples (H, W, 1 to 4), colours no longer multiplied by alpha; not turned by its orientation."""
    with tifffile.TiffFile(source if isinstance(source, Path) else io.BytesIO(source)) as file:
        page = file.pages.first
        _check_segments(page)
        samples: NDArray[np.uint16] = page.asarray(buffersize=READ_AHEAD)
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            samples = np.ascontiguousarray(np.moveaxis(samples, 0, -1))
        extra = page.extrasamples
    if extra and extra[0] == tifffile.EXTRASAMPLE.UNSPECIFIED:  # as Pillow does with colours
        samples = np.ascontiguousarray(samples[..., : -len(extra)])
    if samples.ndim != 3 or samples.shape[2] > 4 or samples.dtype != np.uint16:
        raise PictureError(f"TIFF of shape {samples.shape} and {samples.dtype}; expected 1 to 4 samples of 16 bits")
    if tifffile.EXTRASAMPLE.ASSOCALPHA in extra:
        for rows in strips(*samples.shape[:2]):
            alpha = np.maximum(samples[rows, :, -1:], 1).astype(np.float32)
            colours = samples[rows, :, :-1] * (65535 / alpha)
            samples[rows, :, :-1] = np.minimum(colours, 65535).round().astype(np.uint16)
    return samples


def _check_segments(page: tifffile.TiffPage) -> None:
    """Refuse strips and tiles that are missing, which tifffile leaves black, or larger than the picture can ask for.

    Tiles may be so by their header, which tifffile believes, or in what they inflate to.

    Raises:
        PictureError: says which.
    """
    if why := oversize(page.imagewidth, page.imagelength, page.tilewidth, page.tilelength * page.tiledepth):
        raise PictureError(why)
    if not all(page.databytecounts) or len(page.databytecounts) != math.prod(page.chunked):
        raise PictureError("strips are missing")
    if page.compression == tifffile.COMPRESSION.NONE:
        return
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        page.parent.filehandle.seek(offset)
        packed, inflater = page.parent.filehandle.read(count), zlib.decompressobj()
        left = math.prod(page.chunks) * page.dtype.itemsize
        while packed and left >= 0:
            left -= len(inflater.decompress(packed, 1 << 20))
            packed = inflater.unconsumed_tail
        if left < 0:
            raise PictureError("a strip inflates to more than its pixels")


def key_to_alpha(samples: NDArray[np.uint16], key: Any) -> NDArray[np.uint16]:
    """Make an alpha channel of the one colour that a 16-bit PNG may declare transparent."""
    if key is None:
        return samples
    alpha = np.where((samples == np.asarray(key, np.uint16)).all(2), 0, 65535).astype(np.uint16)
    return np.dstack((samples, alpha))


def _rawmode(image: Image.Image) -> str:
    tiles: list[ImageFile._Tile] = getattr(image, "tile", [])
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) else args)

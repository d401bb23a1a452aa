"""From the bytes of a picture file to upright sRGB pixels, whatever the file holds."""

import contextlib
import io
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from tinct.data.srgb import to_srgb
from tinct.errors import PictureError, one_line

with contextlib.suppress(ImportError):  # not required; where it is installed, Pillow reads and writes HEIC
    import pillow_heif

    pillow_heif.register_heif_opener()

__all__ = [
    "GREY",
    "MAX_BYTES",
    "MAX_PIXELS",
    "NEAR_GREY",
    "PICTURE_SUFFIXES",
    "chroma",
    "decode",
    "drop_false_xmp",
    "header",
    "hide_warnings",
    "is_grey",
    "one_sentence",
    "opened",
    "oversize",
    "refuse_planes",
]

MAX_BYTES = 1 << 28
"""The largest file that is read: 256 MB."""

MAX_PIXELS = 178_956_970
"""The largest picture that is decoded, in pixels (540 MB as RGB): the size at which Pillow itself calls it a bomb."""

REMEDY = "reduce it, or cut it into parts"
"""Of a picture over either limit."""

TILE = 1 << 22
"""The largest tile, in pixels, that any TIFF may have; one of a large picture may have four times the picture's."""

GREY = 2.0
"""Mean CIE Lab chroma below which a picture counts as grey: JPEG noise of a grey picture saved as RGB stays below 1."""

NEAR_GREY = 3.0
"""Mean CIE Lab chroma below which a picture counts as nearly grey: fog, snow, faded or barely toned prints (5 % of
typical sets)."""

# Named, because some of Pillow's other readers run outside programs (EPS) or read formats that hold no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "HEIF")

# fmt: off
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp",
    ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".avif", ".heic", ".heif", ".hif", ".jp2", ".tga",
)
# fmt: on
"""File names that end so, in either case, are taken for pictures."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# Pillow knows no TIFF of 16-bit grey, high byte first, where 0 is white; `whole_range` turns it round.
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def decode(data: bytes | Path, min_side: int | None = None) -> NDArray[np.uint8]:
    """Decode a picture to (H, W, 3) sRGB, upright.

    EXIF orientation is applied, an embedded colour profile is converted to sRGB, transparency is laid over white,
    16-bit grey is scaled to 8 bits, and of an animation the first frame is taken.

    Args:
        data: the content of a file, or its path.
        min_side: a JPEG may come at 1/2, 1/4 or 1/8 scale as long as its shorter side keeps this many pixels; None
            asks for full size.

    Raises:
        PictureError: the file is absent, empty, truncated, no picture, or beyond `MAX_BYTES` or `MAX_PIXELS`; one
            line that names it and says why.
    """
    with one_sentence(_name(data)), opened(data) as image:
        drop_false_xmp(image)
        refuse_planes(image)
        if min_side is not None:
            image.draft(None, (min_side, min_side))
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        rgb = to_srgb(image)
        return np.array(rgb if turn is None else rgb.transpose(turn))


def header(data: bytes | Path) -> tuple[str, int, int]:
    """Read a picture's Pillow mode and its upright width and height without decoding its pixels.

    Raises:
        PictureError: as `decode`, as far as the header tells.
    """
    with one_sentence(_name(data)), opened(data) as image:
        width, height = image.size
        if image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8):  # Pillow turns a TIFF by itself
            width, height = height, width
        return image.mode, width, height


def chroma(rgb: NDArray[np.uint8]) -> float:
    """Mean CIE Lab chroma sqrt(a^2 + b^2) over a grid of at most 32 x 32 pixels of an (H, W, 3) sRGB picture.

    The matrix and the cube-root function are those of IEC 61966-2-1 and CIE 15 for D65; a typical photograph has 15 to
    30, a grey one 0.
    """
    height, width = rgb.shape[:2]
    grid = rgb[:: -(-height // 32), :: -(-width // 32)].reshape(-1, 3)
    xyz = _LINEAR[grid] @ _TO_XYZ
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    a = 500 * (f[:, 0] - f[:, 1])
    b = 200 * (f[:, 1] - f[:, 2])
    return float(np.sqrt(a * a + b * b).mean())


def is_grey(rgb: NDArray[np.uint8]) -> bool:
    """Whether an (H, W, 3) sRGB picture has too little colour to learn from: its `chroma` is below `GREY`."""
    return chroma(rgb) < GREY


def hide_warnings() -> None:
    """Hide Pillow's warnings on large pictures and broken metadata, which would tear the progress bar.

    For processes that are tinct's own: commands, and workers. The limits that matter are those of `decode`.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextlib.contextmanager
def one_sentence(name: str) -> Iterator[None]:
    """Within it, whatever a picture makes Pillow's readers raise becomes a `PictureError`: one line that begins so."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except MemoryError as error:
        raise PictureError(f"{name}: not enough memory to decode it") from error
    except OSError as error:
        raise PictureError(f"{name}: {error.strerror or _reason_of(error)}") from error
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise PictureError(f"{name}: {_reason_of(error)}") from error


def opened(source: bytes | Path, formats: tuple[str, ...] = FORMATS, most_bytes: int = MAX_BYTES) -> Image.Image:
    """Open a picture, to be decoded and closed by the caller, all of it within `one_sentence`.

    Args:
        source: the content of a file, or its path.
        formats: Pillow's names of those that it may be in.
        most_bytes: the largest file that is read.

    Raises:
        PictureError: the file is empty or not a regular one, or beyond a limit; it is not named.
        Exception: it is absent, or no picture.
    """
    if isinstance(source, Path):
        info = source.stat()
        if not stat.S_ISREG(info.st_mode):
            raise PictureError("not a regular file")  # reading a pipe would wait for ever
    length = info.st_size if isinstance(source, Path) else len(source)
    if length > most_bytes or not length:
        raise PictureError(f"{length} bytes, over the limit of {most_bytes}; {REMEDY}" if length else "empty file")
    known = [name for name in formats if name != "HEIF" or name in Image.OPEN]  # which pillow_heif registers
    try:
        image = Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=known)
    except Exception as error:  # a damaged header makes Pillow's readers raise nearly anything
        if why := _lacking(source):
            raise PictureError(why) from error
        raise
    image.filename = ""  # by which Pillow (12.3) maps it into memory, and then misreads a TIFF that lies on its side
    if why := oversize(image.width, image.height, *_tile_of(image)):
        image.close()
        raise PictureError(why)
    return image


def _name(data: bytes | Path) -> str:
    return "picture" if isinstance(data, bytes) else str(data)


def _tile_of(image: Image.Image) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, which its header says apart from the picture's; 0, 0 where it has none."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 0, 0
    width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def oversize(width: int, height: int, tile_width: int = 0, tile_height: int = 0) -> str | None:
    """Why a picture, or one of its tiles, has too many pixels to be decoded; None where it does not."""
    if width * height > MAX_PIXELS:
        return f"{width}x{height} pixels, over the limit of {MAX_PIXELS}; {REMEDY}"
    if tile_width * tile_height > min(MAX_PIXELS, max(TILE, 4 * width * height)):  # a decoder allots the whole tile
        return f"tiles of {tile_width}x{tile_height} for a picture of {width}x{height} pixels; save it without tiles"
    return None


def _lacking(source: bytes | Path) -> str | None:
    """What to install where that is why nothing reads a file; None where it is not."""
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
        kind = file.read(12)[4:11]
    phones = "HEIF" not in Image.OPEN and kind in (b"ftyphei", b"ftyphev")
    return "HEIC cannot be read here; pip install 'tinct[heic]'" if phones else None


def _reason_of(error: Exception) -> str:
    """Why a picture could not be read, in words for its reader."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture, or of a kind that is not read"
    if isinstance(error, Image.DecompressionBombError):
        return f"over the limit of {MAX_PIXELS} pixels; {REMEDY}"
    return "cannot be decoded: " + one_line(error)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # EXIF is a nest of offsets; a broken one must not cost the pixels
        return 1


def drop_false_xmp(image: Image.Image) -> None:
    """Forget what a TIFF has in XMP's place where that is a number, on which Pillow's readers choke."""
    if not isinstance(image.info.get("xmp", b""), bytes | str):
        del image.info["xmp"]


def refuse_planes(image: Image.Image) -> None:
    """Refuse what Pillow (12.3) misreads without a word: uncompressed 16-bit colours, or grey and alpha, in planes.

    Raises:
        PictureError: it is such a TIFF.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(284) == 2:
        depths = image.tag_v2.get(258) or (1,)
        colours = len(depths) > 1 and max(depths) > 8 and image.info.get("compression") == "raw"
        if colours or image.mode == "LA":
            what = "16-bit colours" if colours else "grey and transparency"
            raise PictureError(f"{what} in separate planes; save it with the samples of a pixel together")


_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(np.float32)
# sRGB to XYZ, transposed, each column divided by the D65 white point so that white maps to (1, 1, 1)
_TO_XYZ = (
    np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]).T
    / np.array([0.95047, 1.0, 1.08883])
).astype(np.float32)

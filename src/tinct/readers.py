"""Reading picture files whole: every depth, profile, transparency and piece of metadata that colouring must keep."""

import contextlib
import io
import math
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from tinct import profiles
from tinct.data.decode import MAX_PIXELS, _reason, _to_srgb
from tinct.errors import PictureError
from tinct.pictures import FORMATS, Picture, Pixels, strips

with contextlib.suppress(ImportError):  # not required; where it is installed, Pillow reads and writes HEIC
    import pillow_heif  # type: ignore[import-not-found, unused-ignore]

    pillow_heif.register_heif_opener()

# Pillow knows no TIFF of 16-bit grey with transparency. Let it read the header; `_by_tifffile` reads the pixels.
for _order in (b"II", b"MM"):
    for _extra in (0, 1, 2):
        TiffImagePlugin.OPEN_INFO.setdefault((_order, 1, (1,), 1, (16, 16), (_extra,)), ("LA", "LA;16B"))

__all__ = ["MAX_BYTES", "STORAGE_TAGS", "form_in", "from_pil", "pixel_count", "read"]

MAX_BYTES = 1 << 31
"""The largest file that is read: 2 GB, three times a 16-bit scan of 100 megapixels."""

# TIFF tags that say how pixels are stored (TIFF 6.0), which their writer states anew; XMP and ICC travel apart.
STORAGE_TAGS = frozenset(
    (*range(254, 260), 262, 266, 273, 274, *range(277, 280), 282, 283, 284, 296, 317, 320, *range(322, 326), 330)
    # 37724 holds Photoshop's layers, which would still be grey.
) | frozenset((338, 339, 340, 341, 347, *range(512, 522), *range(529, 533), 700, 34675, 37724))


def read(source: Path | bytes, name: str | None = None) -> Picture:
    """Read a picture file: JPEG, PNG, WebP, TIFF, BMP, AVIF, and HEIC where pillow-heif is installed.

    An embedded profile is applied, so that pixels are sRGB. Palettes, CMYK and the like become RGB. A TIFF that Pillow
    decodes comes upright. A thumbnail in EXIF, which would show the picture as it was, is left out.

    Args:
        source: a path, or the content of a file.
        name: what to call it in messages; the path by default.

    Raises:
        PictureError: the file is absent, damaged, over `MAX_BYTES` or `MAX_PIXELS`, animated, or of a kind whose
            pixels would not survive (32 bits a sample); one line that says which.
    """
    name = name or (str(source) if isinstance(source, Path) else "picture")
    with _one_sentence(name), _open(source) as image:
        return _picture(image, source, name)


def from_pil(image: Image.Image, name: str = "image") -> Picture:
    """Take a Pillow image of any mode with its metadata; raises `PictureError` as `read` does."""
    with _one_sentence(name):
        return _picture(image, None, name)


def pixel_count(source: Path | bytes) -> int:
    """How many pixels a picture's header promises; raises `PictureError` as `read` does."""
    with _one_sentence("picture"), _open(source) as image:
        return image.width * image.height


def form_in(content: bytes) -> str:
    """The format, a key of `FORMATS`, that a file's content is in; PNG where it is no picture."""
    with contextlib.suppress(PictureError), _one_sentence("picture"), _open(content) as image:
        return _kind(image)
    return "PNG"


@contextlib.contextmanager
def _one_sentence(name: str) -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{name}: {error}") from error
    except MemoryError as error:
        raise PictureError(f"{name}: not enough memory to decode it") from error
    except OSError as error:
        raise PictureError(f"{name}: {error.strerror or _reason(error)}") from error
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise PictureError(f"{name}: {_reason(error)}") from error


def _open(source: Path | bytes) -> Image.Image:
    if isinstance(source, Path):
        if source.exists() and not source.is_file():
            raise PictureError("not a regular file")  # reading a pipe would wait for ever
        length = source.stat().st_size
    else:
        length = len(source)
    if length > MAX_BYTES or not length:
        raise PictureError(f"{length} bytes, over the limit of {MAX_BYTES}" if length else "empty file")
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    image = Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=known)
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise PictureError(f"{image.width}x{image.height} pixels, over the limit of {MAX_PIXELS}")
    return image


def _picture(image: Image.Image, source: Path | bytes | None, name: str) -> Picture:
    kind = _kind(image)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and kind != "JPEG":  # further frames of a JPEG are previews and depth maps
        raise PictureError(f"holds {frames} pictures; split it into files of one each")
    if image.mode in ("I", "F"):
        raise PictureError("32 bits a sample; convert it to 16")
    # Pillow reduces 16-bit colour to 8 bits without a word
    deep = source is not None and kind in ("PNG", "TIFF") and ";16" in _rawmode(image) and image.mode in ("RGB", "RGBA")
    by_tifffile = source is not None and _for_tifffile(image)
    if not by_tifffile:
        image.load()  # before anything else: PNG may have metadata after its pixels
    exif, orientation = _exif(image)
    metadata: dict[str, Any] = {
        "orientation": orientation,
        "format": kind if kind in FORMATS else "PNG",
        "exif": exif,
        "xmp": _xmp(image),
        "dpi": _dpi(image),
        "photoshop": _photoshop(image),
        "text": _text(image),
        "name": name,
    }
    profile = image.info.get("icc_profile")
    samples: Pixels
    if by_tifffile and source is not None:
        samples = _by_tifffile(source)
    elif deep and source is not None:
        samples = _key_to_alpha(_deep(image, source), image.info.get("transparency"))
    elif image.mode.startswith("I;16"):
        samples = _whole_range(np.array(image, np.uint16)[..., None], image)
        samples = _key_to_alpha(samples, image.info.get("transparency"))
    else:
        if image.mode not in ("L", "LA", "RGB", "RGBA") or "transparency" in image.info:
            image, profile = _plain(image, profile)
        samples = _samples(image)
    if samples.shape[2] in (1, 3):
        pixels, alpha = samples.squeeze(2) if samples.shape[2] == 1 else samples, None
    else:
        pixels, alpha = samples[..., :-1].squeeze(2) if samples.shape[2] == 2 else samples[..., :3], samples[..., -1]
        pixels, alpha = np.ascontiguousarray(pixels), np.ascontiguousarray(alpha)
    convert = profiles.to_srgb(profile, pixels.dtype, 1 if pixels.ndim == 2 else 3) if profile else None
    if convert is not None:
        for rows in strips(pixels.shape[0], pixels.shape[1]):
            pixels[rows] = convert(pixels[rows])
    return Picture(pixels, alpha, **metadata)


def _kind(image: Image.Image) -> str:
    return {"MPO": "JPEG", None: "PNG"}.get(image.format, str(image.format))


def _rawmode(image: Image.Image) -> str:
    tiles: list[ImageFile._Tile] = getattr(image, "tile", [])
    args = tiles[0].args if tiles else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _plain(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Bring the rarer modes to L, LA, RGB or RGBA; give the profile that is still to be applied."""
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("1", "L", "La")
        return image.convert(("LA" if grey else "RGBA") if image.has_transparency_data else "RGB"), profile
    if image.mode == "1":
        return image.convert("L"), profile
    return _to_srgb(image), None


def _samples(image: Image.Image, dtype: type = np.uint8, shift: int = 0) -> NDArray[Any]:
    """The bytes of a loaded image, (H, W, bands), without the second and third copy that `np.asarray` makes."""
    samples: NDArray[Any] = np.zeros((image.height, image.width, len(image.getbands())), dtype)
    _add(image, samples, shift)
    return samples


def _add(image: Image.Image, samples: NDArray[Any], shift: int = 0) -> None:
    for rows in strips(image.height, image.width):
        strip = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        samples[rows] += strip.reshape(samples[rows].shape).astype(samples.dtype, copy=False) << shift


def _deep(image: Image.Image, source: Path | bytes) -> NDArray[np.uint16]:
    """16-bit colour by two passes of Pillow's reader: the high bytes, then the low ones as if byte order were swapped.

    So every compression that Pillow knows is read (tifffile would need a further package for most), within its guards.
    It takes half as much memory again, so `_by_tifffile` goes first where it can.
    """
    samples = _samples(image, np.uint16, shift=8)
    image.close()  # gives back its pixels
    with _open(source) as again:
        grey = _rawmode(again) == "LA;16B"
        again.tile = [tile._replace(args=_swapped(tile.args)) for tile in again.tile]  # type: ignore[attr-defined]
        again.load()
        if grey:
            return _samples(again).view(">u2").astype(np.uint16)
        _add(again, samples)
    return samples


def _swapped(args: Any) -> Any:
    """A raw mode such as `RGB;16B` with the other byte order; N is the machine's own."""
    if isinstance(args, tuple):
        return (_swapped(args[0]), *args[1:])
    if args == "LA;16B":  # has no twin, but its four bytes fit the four bands
        return "RGBA"
    return args[:-1] + {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}[args[-1]]


def _for_tifffile(image: Image.Image) -> bool:
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


def _by_tifffile(source: Path | bytes) -> NDArray[np.uint16]:
    """Such a TIFF's samples (H, W, 1 to 4), colours no longer multiplied by alpha; not turned by its orientation."""
    with tifffile.TiffFile(source if isinstance(source, Path) else io.BytesIO(source)) as file:
        page = file.pages.first
        _check_segments(page)
        samples: NDArray[np.uint16] = page.asarray()
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            samples = np.ascontiguousarray(np.moveaxis(samples, 0, -1))
        extra = page.extrasamples
    if extra and extra[0] == tifffile.EXTRASAMPLE.UNSPECIFIED:  # as Pillow does with colours
        samples = np.ascontiguousarray(samples[..., : -len(extra)])
    if samples.ndim != 3 or samples.shape[2] > 4 or samples.dtype.newbyteorder("=") != np.uint16:
        raise PictureError(f"TIFF of shape {samples.shape} and {samples.dtype}; expected 1 to 4 samples of 16 bits")
    if not samples.dtype.isnative:
        samples = samples.byteswap(inplace=True).view(samples.dtype.newbyteorder())
    if tifffile.EXTRASAMPLE.ASSOCALPHA in extra:
        for rows in strips(*samples.shape[:2]):
            alpha = np.maximum(samples[rows, :, -1:], 1).astype(np.float32)
            colours = samples[rows, :, :-1] * (65535 / alpha)
            samples[rows, :, :-1] = np.minimum(colours, 65535).round().astype(np.uint16)
    return samples


def _check_segments(page: tifffile.TiffPage) -> None:
    """Refuse strips and tiles that are missing, which tifffile leaves black, or inflate to more than their pixels.

    Raises:
        PictureError: says which.
    """
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


def _key_to_alpha(samples: NDArray[np.uint16], key: Any) -> NDArray[np.uint16]:
    """Make an alpha channel of the one colour that a 16-bit PNG may declare transparent."""
    if key is None:
        return samples
    alpha = np.where((samples == np.asarray(key, np.uint16)).all(2), 0, 65535).astype(np.uint16)
    return np.dstack((samples, alpha))


def _whole_range(samples: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Grey samples of a TIFF from 0, black, to 65,535: Pillow leaves 12 bits as they are, and white as 0."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.tag_v2.get(258) == (12,):
            samples = np.rint(samples * (65535 / 4095)).astype(np.uint16)
        if image.tag_v2.get(262) == 0:
            samples = 65535 - samples
    return samples


def _exif(image: Image.Image) -> tuple[bytes, int]:
    try:
        exif = image.getexif()
        orientation = int(exif.get(ExifTags.Base.Orientation, 1))
        block = image.info.get("exif", b"")
        if image.format == "TIFF" or "exif" not in image.info:  # tags of the file itself, or set by a program
            for tag in STORAGE_TAGS & exif.keys() - {ExifTags.Base.Orientation}:
                del exif[tag]
            block = exif.tobytes() if len(exif) else b""
    except Exception:  # EXIF is a nest of offsets; a broken one must not cost the pixels
        return b"", 1
    if block and not block.startswith(b"Exif\0\0"):
        block = b"Exif\0\0" + block
    return _without_thumbnail(block), orientation if 1 <= orientation <= 8 else 1


def _without_thumbnail(block: bytes) -> bytes:
    """EXIF whose first directory names no second one: the thumbnail there would go on showing the picture grey."""
    order = {b"II": "<", b"MM": ">"}.get(block[6:8])
    if order is None or len(block) < 14:
        return block
    first = 6 + struct.unpack_from(order + "I", block, 10)[0]
    if first + 2 > len(block):
        return block
    link = first + 2 + 12 * struct.unpack_from(order + "H", block, first)[0]
    return block if link + 4 > len(block) else block[:link] + bytes(4) + block[link + 4 :]


def _xmp(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return packet.encode() if isinstance(packet, str) else bytes(packet)


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    try:
        if "dpi" in image.info:
            x, y = (float(value) for value in image.info["dpi"])
        else:
            exif = image.getexif()
            per_inch = {2: 1.0, 3: 2.54}[exif.get(ExifTags.Base.ResolutionUnit, 2)]
            x, y = (float(exif[tag]) * per_inch for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
    except Exception:  # a broken number, or a broken EXIF, must not cost the pixels
        return None
    return (x, y) if 0 < x < math.inf and 0 < y < math.inf else None


def _photoshop(image: Image.Image) -> bytes:
    segments = [data for marker, data in getattr(image, "applist", []) if marker == "APP13"]
    return b"".join(b"\xff\xed" + (len(data) + 2).to_bytes(2, "big") + data for data in segments)


def _text(image: Image.Image) -> dict[str, str]:
    if isinstance(comment := image.info.get("comment"), bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return {"Comment": comment.decode()}
        return {"Comment": comment.decode("latin-1")}
    chunks = getattr(image, "text", {})
    return {key: str(value) for key, value in chunks.items() if key != "XML:com.adobe.xmp" and "profile" not in key}

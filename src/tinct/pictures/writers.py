"""Writing a `Picture` with all it carries: 4:4:4 JPEG, lossless WebP, 16-bit PNG and TIFF, every result tagged sRGB."""

import contextlib
import logging
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin, TiffTags

from tinct.errors import PictureError
from tinct.files import atomic_path
from tinct.pictures import profiles
from tinct.pictures.metadata import RESOURCES, STORAGE_TAGS, SUB_IFDS, load_exif, types_of, with_resolution
from tinct.pictures.picture import Picture, Pixels, strips, to_8_bits, top, upright

__all__ = ["encode", "to_pil", "write"]

logger = logging.getLogger(__name__)

OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": "4:4:4"},
    "PNG": {},
    "WEBP": {"lossless": True, "quality": 30, "method": 1, "exact": True},  # lossy WebP would halve the new colour
    "BMP": {},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "HEIF": {"quality": 90, "chroma": 444},
}
"""What Pillow's writers are told; for lossless WebP `quality` is effort."""

MAX_SEGMENT = 65_533
"""Bytes that a JPEG segment holds."""
MAX_XMP = MAX_SEGMENT - len(b"http://ns.adobe.com/xap/1.0/\0")
"""Bytes of a packet in one segment, after the name of what it is."""
LONG_VALUE = 1024
"""Characters or bytes from which a value is left out where all of EXIF is too long: notes of makers, mostly."""


def write(picture: Picture, path: Path, form: str | None = None) -> None:
    """Write a picture to a file, atomically; its folder is made.

    Args:
        picture: what to write.
        path: where to; what was there is replaced.
        form: a key of `tinct.pictures.picture.FORMATS`; by default the picture's own format.

    Raises:
        PictureError: the format cannot hold it: transparency in a JPEG, more than 65,535 pixels a side.
        TinctError: the folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as unfinished, unfinished.open("w+b") as file:
        encode(picture, file, form)


def encode(picture: Picture, file: IO[bytes], form: str | None = None) -> None:
    """Write a picture to a file opened for reading and writing; raises `PictureError` as `write` does.

    PNG and TIFF keep 16 bits, the others hold 8. BMP holds no EXIF, so there the picture is turned upright.
    """
    form = form or picture.form
    if form in ("JPEG", "BMP") and picture.alpha is not None and (picture.alpha != top(picture.alpha)).any():
        raise PictureError(f"{picture.name}: {form} holds no transparency; choose png, webp or tiff")
    try:
        if form == "TIFF":
            _tiff(picture, file)
        elif form == "PNG" and picture.pixels.dtype != np.uint8:
            _deep_png(picture, file)
        else:
            _by_pillow(picture, file, form)
    except Exception as error:  # metadata comes from strangers' files, and makes writers raise nearly anything
        if isinstance(error, OSError) and error.errno:  # the disk's fault, not the picture's
            raise
        raise PictureError(f"{picture.name}: cannot be written as {form}: {error}; try another format") from error


def to_pil(picture: Picture) -> Image.Image:
    """Give a Pillow image, 8 bits a sample (Pillow has no more for colour), with the metadata in its `info`."""
    image = Image.fromarray(to_8_bits(picture.pixels))
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(to_8_bits(picture.alpha)))
    carried: dict[str, Any] = {"exif": picture.exif, "xmp": picture.xmp, "dpi": picture.dpi}
    if picture.pixels.ndim == 3:  # sRGB is a profile for colour; grey without one is taken for it anyway
        carried["icc_profile"] = profiles.srgb()
    for key, value in carried.items():
        if value:
            image.info[key] = value
    return image


def _by_pillow(picture: Picture, file: IO[bytes], form: str) -> None:
    image = to_pil(picture)
    options: dict[str, Any] = {str(key): value for key, value in image.info.items()} | OPTIONS[form]
    if form == "JPEG":
        if len(picture.exif) > MAX_SEGMENT:
            options |= {"exif": _shortened(picture)}
        if len(picture.xmp) > MAX_XMP:
            del options["xmp"]
            logger.warning("%s: XMP of %d bytes, too long for JPEG, is left out", picture.name, len(picture.xmp))
        options |= {"extra": picture.photoshop, "comment": picture.text.get("Comment", "").encode()[:MAX_SEGMENT]}
    elif form == "PNG":
        options |= {"pnginfo": _png_text(picture)}
    elif form == "BMP" and picture.orientation > 1:
        planes = torch.from_numpy(np.array(image)).reshape(*image.size[::-1], -1).movedim(-1, 0)
        image = Image.fromarray(upright(planes, picture.orientation).movedim(0, -1).squeeze(-1).numpy())
        if picture.dpi and picture.orientation > 4:
            options |= {"dpi": picture.dpi[::-1]}
    if form in ("JPEG", "BMP") and image.mode in ("LA", "RGBA"):
        image = image.convert(image.mode[:-1])
    if form in ("WEBP", "AVIF", "HEIF") and picture.dpi:
        options |= {"exif": with_resolution(picture.exif, picture.dpi)}
    if form == "AVIF":
        options |= {"exif": _as_text_is_kept(options.get("exif", b""))}
    # Given a descriptor, Pillow's encoders write to it themselves and take no notice of a full disk.
    plain: Any = SimpleNamespace(write=file.write, read=file.read, seek=file.seek, tell=file.tell, flush=file.flush)
    image.save(plain, form, **options)


def _shortened(picture: Picture) -> bytes:
    """EXIF too long for a JPEG's segment: without what has another place there, then without its long values."""
    exif = load_exif(picture.exif)
    exif.pop(RESOURCES, None)
    if len(exif.tobytes()) > MAX_SEGMENT:
        directories: list[Any] = [exif, *exif._ifds.values()]
        for tags in directories:
            for tag, value in list(tags.items()):
                if isinstance(value, bytes | str | tuple) and len(value) >= LONG_VALUE:
                    del tags[tag]
        why = "%s: EXIF of %d bytes, too long for JPEG; its longest values are left out"
        logger.warning(why, picture.name, len(picture.exif))
    return exif.tobytes()


def _as_text_is_kept(block: bytes) -> Image.Exif | bytes:
    """EXIF for Pillow's AVIF writer, which takes an orientation out of it and writes the rest anew."""
    with contextlib.suppress(Exception):  # EXIF is a nest of offsets; a broken one stays as it is
        exif = load_exif(block)
        if ExifTags.Base.Orientation in exif:
            return exif
    return block


def _png_text(picture: Picture) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in picture.text.items():
        chunks.add_text(key, value)  # Latin-1 where it fits, else UTF-8
    if picture.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", picture.xmp.decode("utf-8", "replace"))
    return chunks


def _deep_png(picture: Picture, file: IO[bytes]) -> None:
    """16-bit PNG (W3C, third edition), which Pillow has for grey only."""
    put = PngImagePlugin.putchunk
    height, width, channels = (*picture.pixels.shape, 1)[:3]
    has_alpha = picture.alpha is not None
    kind = (2 if channels == 3 else 0) + (4 if has_alpha else 0)
    file.write(b"\x89PNG\r\n\x1a\n")
    put(file, b"IHDR", struct.pack(">2I5B", width, height, 16, kind, 0, 0, 0))
    if channels == 3:
        put(file, b"iCCP", b"sRGB\0\0" + zlib.compress(profiles.srgb()))
    if picture.dpi:
        put(file, b"pHYs", struct.pack(">2IB", *(round(value / 0.0254) for value in picture.dpi), 1))
    if picture.exif:
        put(file, b"eXIf", picture.exif[6:])
    for name, data, *_ in _png_text(picture).chunks:
        put(file, name, data)
    packer = zlib.compressobj(6, zlib.DEFLATED, 15, 8, zlib.Z_FILTERED)
    for rows in _filtered_rows(picture, 2 * (channels + has_alpha)):
        if packed := packer.compress(rows.data):
            put(file, b"IDAT", packed)
    put(file, b"IDAT", packer.flush())
    put(file, b"IEND", b"")


def _filtered_rows(picture: Picture, step: int) -> Iterator[NDArray[np.uint8]]:
    """Rows of big-endian bytes, each after the better of the filters Sub and Up (section 9.2).

    Better is the smaller sum of absolute differences, the rule of thumb of section 12.7.
    """
    height, width = picture.pixels.shape[:2]
    above = np.zeros((1, width * step), np.uint8)
    for rows in strips(height, width):
        planes = [_to_16_bits(part[rows]) for part in (picture.pixels, picture.alpha) if part is not None]
        line = np.dstack(planes).astype(">u2").view(np.uint8).reshape(rows.stop - rows.start, -1)
        left = np.pad(line, ((0, 0), (step, 0)))[:, :-step]
        choices = np.stack((line - left, line - np.concatenate((above, line[:-1]))))
        cost = np.abs(choices.view(np.int8).astype(np.int16)).sum(axis=2)
        best = cost.argmin(axis=0)
        filtered = np.take_along_axis(choices, best[None, :, None], axis=0)[0]
        yield np.column_stack(((best + 1).astype(np.uint8), filtered))
        above = line[-1:]


def _to_16_bits(samples: Pixels) -> NDArray[np.uint16]:
    converted: NDArray[np.uint16] = np.rint(samples * (65535 / top(samples))).astype(np.uint16)
    return converted


def _tiff(picture: Picture, file: IO[bytes]) -> None:
    pixels: NDArray[Any] = picture.pixels
    if picture.alpha is not None:
        pixels = np.dstack((pixels, picture.alpha))
    exif = load_exif(picture.exif)
    parts = {tag: dict(exif.get_ifd(tag)) for tag in sorted(SUB_IFDS & exif.keys())}
    parts.get(ExifTags.IFD.Exif, {}).pop(ExifTags.IFD.Interop, None)  # an offset into the file it came from
    for tag in parts:
        del exif[tag]
    tags = [*_tiff_tags(exif), *((tag - 1, "I", 1, 0, True) for tag in parts)]  # held free; see _append_ifds
    if picture.xmp:
        tags.append((700, "B", len(picture.xmp), picture.xmp, True))
    tifffile.imwrite(
        file,
        pixels,
        byteorder="<",
        bigtiff=False,
        photometric="rgb" if picture.pixels.ndim == 3 else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=None if picture.alpha is None else ["unassalpha"],
        compression="zlib",
        predictor=pixels.dtype.kind == "u",
        rowsperstrip=max(1, (1 << 20) // (pixels.nbytes // pixels.shape[0])),
        iccprofile=profiles.srgb() if picture.pixels.ndim == 3 else None,
        resolution=picture.dpi,
        resolutionunit="INCH" if picture.dpi else None,
        metadata=None,
        software=False,
        extratags=tags,
    )
    _append_ifds(file, parts)


def _tiff_tags(exif: Image.Exif) -> list[tuple[Any, ...]]:
    """The main directory's tags as tifffile takes them: (code, type, count, value, write once)."""
    directory, types = TiffImagePlugin.ImageFileDirectory_v2(), types_of(exif)
    tags: list[tuple[Any, ...]] = []
    for code, value in exif.items():
        if code in STORAGE_TAGS and code != ExifTags.Base.Orientation:
            continue
        directory[code] = value  # finds the type
        kind = directory.tagtype[code]
        if isinstance(value, bytes) and types.get(code) == TiffTags.UNDEFINED:
            kind = TiffTags.UNDEFINED
        if isinstance(value, str):
            value = value.encode("latin-1", "replace")  # as Pillow decodes it, so that bytes come back as they were
        elif kind in (5, 10):
            pairs = [(v.numerator, v.denominator) for v in (value if isinstance(value, tuple) else (value,))]
            value = tuple(number for pair in pairs for number in pair)
        count = len(value) // (2 if kind in (5, 10) else 1) if isinstance(value, (bytes, tuple)) else 1
        tags.append((code, kind, 0 if kind == 2 else count, value, True))
    return tags


def _append_ifds(file: IO[bytes], parts: dict[ExifTags.IFD, dict[int, Any]]) -> None:
    """Append the EXIF and GPS directories, which tifffile does not write, and point the tags held free at them."""
    file.seek(0)
    with tifffile.TiffFile(file) as written:
        entries = {tag: written.pages.first.tags[tag - 1].offset for tag in parts}
    for tag, values in parts.items():
        start = file.seek(0, 2)
        start += file.write(bytes(start % 2))  # directories begin at even offsets
        directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\0\0\0\0")
        for code, value in values.items():
            directory[code] = value
            if isinstance(value, bytes) and TiffTags.lookup(code, tag).type != TiffTags.BYTE:
                directory.tagtype[code] = TiffTags.UNDEFINED  # where Pillow supposes numbers
        file.write(directory.tobytes(start))
        file.seek(entries[tag])
        file.write(struct.pack("<2H2I", tag, 4, 1, start))

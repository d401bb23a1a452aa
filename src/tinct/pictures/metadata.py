"""What a picture file says beside its pixels, read so that it can be written again."""

import contextlib
import re
import struct
from collections.abc import Iterator
from typing import Any
from xml.dom import minidom

from PIL import ExifTags, Image, TiffTags

__all__ = ["RESOURCES", "STORAGE_TAGS", "SUB_IFDS", "load_exif", "metadata_of", "types_of", "with_resolution"]

# TIFF tags that say how pixels are stored (TIFF 6.0), which their writer states anew; XMP and ICC travel apart.
STORAGE_TAGS = frozenset(
    (*range(254, 260), 262, 266, 273, 274, *range(277, 280), 282, 283, 284, 296, 317, 320, *range(322, 326), 330)
    # 37724 holds Photoshop's layers, which would still be grey.
) | frozenset((338, 339, 340, 341, 347, *range(512, 522), *range(529, 533), 700, 34675, 37724))

SUB_IFDS = {ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo}
"""The directories within EXIF that are carried."""

SHAPES = ('{"shape": ', "shape=(")
"""What tifffile's description of the array that it wrote begins with: no longer true of a result in colour."""
PHOTOSHOP = b"Photoshop 3.0\0"
"""What an APP13 segment of image resources begins with."""
PREVIEWS = (1033, 1036)
"""The resources that are thumbnails."""
MAX_DPI = 0.0254 * (2**31 - 1)
"""The most that a PNG holds; more is a mistake."""
IPTC, RESOURCES = 33723, 34377
"""Tags of TIFF: captions and credits; Photoshop's image resources, which may be large: clipping paths, thumbnails."""
INCH = 2
"""EXIF's ResolutionUnit for dots an inch."""
_GOOGLE = "http://ns.google.com/photos/"
NOT_CARRIED = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.adobe.com/xmp/note/",  # more XMP
    *(f"{_GOOGLE}1.0/{name}/" for name in ("audio", "camera", "container", "container/item", "depthmap", "image")),
    *(f"{_GOOGLE}dd/1.0/{name}/" for name in ("container", "depthmap", "device", "image", "item")),
)
"""XMP's namespaces of what phones put into a file beside the picture: gain and depth maps, films, more XMP."""


class TagText(str):
    """A tag's text whose bytes come back: Pillow decodes Latin-1 and encodes ASCII, with ? for all else."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """See `str.encode`."""
        return super().encode("latin-1" if encoding == "ascii" else encoding, errors)


class Tags(Image.Exif):
    """Tags whose bytes are written with the type that they had."""

    def tobytes(self, offset: int = 8) -> bytes:
        """See `Image.Exif.tobytes`."""
        return _with_undefined(super().tobytes(offset), types_of(self))


def load_exif(block: bytes) -> Image.Exif:
    """Tags that are written as they were read."""
    exif = Tags()
    exif.load(block)
    return keep_text(exif)


def keep_text(exif: Image.Exif) -> Image.Exif:
    """The same tags, with their text as `TagText`, and IPTC whole."""
    _restore_iptc(exif)
    for tag in SUB_IFDS & exif.keys():
        exif.get_ifd(tag)  # which reads them
    for tags in (exif, *exif._ifds.values()):
        tags.update({tag: TagText(value) for tag, value in tags.items() if isinstance(value, str)})
    return exif


def _restore_iptc(exif: Any) -> None:
    """Take IPTC that was stored as 32-bit numbers, as older programs do, from the file: Pillow keeps one number."""
    raw = getattr(getattr(exif, "_info", None), "_tagdata", {}).get(IPTC, b"")  # before it is looked at
    if not isinstance(exif.get(IPTC), int):
        return
    del exif[IPTC]
    if raw[:1] != b"\x1c" and raw[3:4] == b"\x1c":  # which each record begins with
        raw = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
    if raw:
        exif[IPTC] = raw


def with_resolution(block: bytes, dpi: tuple[float, float]) -> bytes:
    """EXIF that says the resolution, for formats that have no other place for it."""
    with contextlib.suppress(Exception):  # EXIF is a nest of offsets; a broken one stays as it is
        exif = load_exif(block)
        stated = (exif.get(ExifTags.Base.XResolution), exif.get(ExifTags.Base.YResolution))
        if stated == dpi and exif.get(ExifTags.Base.ResolutionUnit, INCH) == INCH:
            return block  # as it was, byte for byte
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = dpi
        exif[ExifTags.Base.ResolutionUnit] = INCH
        return exif.tobytes()
    return block


def types_of(exif: Image.Exif) -> dict[int, int]:
    """The types that the tags of the main directory had in the file, by tag."""
    return {} if exif._info is None else exif._info.tagtype


def _with_undefined(block: bytes, types: dict[int, int]) -> bytes:
    """A block as Pillow wrote it, but for bytes that it takes for numbers where the file, or EXIF, has type UNDEFINED.

    Of the main directory the file's `types` hold; the EXIF directory has no numbers of one byte (EXIF 2.32, 4.6.5).
    """
    written, order = bytearray(block), "<" if block[6:8] == b"II" else ">"

    def entries(start: int) -> Iterator[tuple[int, int, int, int]]:
        """Where each type in a directory stands, its tag, the type, and the value or where that begins."""
        (count,) = struct.unpack_from(order + "H", block, 6 + start)
        for place in range(8 + start, 8 + start + 12 * count, 12):
            yield place + 2, *struct.unpack_from(order + "2H4xI", block, place)

    undefined = [(place, kind) for place, tag, kind, _ in entries(8) if types.get(tag) == TiffTags.UNDEFINED]
    for _, tag, _, start in entries(8):
        if tag == ExifTags.IFD.Exif:
            undefined += [(place, kind) for place, _, kind, _ in entries(start)]
    for place, kind in undefined:
        if kind == TiffTags.BYTE:
            struct.pack_into(order + "H", written, place, TiffTags.UNDEFINED)
    return bytes(written)


def metadata_of(image: Image.Image) -> dict[str, Any]:
    """Fields of `tinct.pictures.picture.Picture` by name; load a PNG before, as it may have them after its pixels."""
    exif, orientation = _exif(image)
    return {
        "orientation": orientation,
        "exif": exif,
        "xmp": _xmp(image, orientation),
        "dpi": _dpi(image),
        "photoshop": _photoshop(image),
        "text": _text(image),
    }


def _exif(image: Image.Image) -> tuple[bytes, int]:
    orientation = 1
    try:
        exif = image.getexif()
        found = int(exif.get(ExifTags.Base.Orientation, 1))
        orientation = found if 1 <= found <= 8 else 1
        block = image.info.get("exif") or b""  # pillow-heif has None there
        if image.format == "TIFF" or not block:  # tags of the file itself, or set by a program
            left = STORAGE_TAGS & exif.keys() - {ExifTags.Base.Orientation}
            if str(exif.get(ExifTags.Base.ImageDescription, "")).startswith(SHAPES):
                left |= {ExifTags.Base.ImageDescription}
            apart = {tag: exif[tag] for tag in {*left, RESOURCES} & exif.keys()}
            for tag in left:
                del exif[tag]
            if isinstance(resources := exif.get(RESOURCES), bytes):
                exif[RESOURCES] = _without_previews(resources)
            exif.bigtiff = False  # of the file; a block of EXIF is a plain TIFF
            block = _with_undefined(keep_text(exif).tobytes(), types_of(exif)) if len(exif) else b""
            exif.update(apart)  # the image, which may be a caller's, keeps its tags
        elif type(image).__module__ == "PIL.AvifImagePlugin":
            block = _avif_block(image, block, orientation)
        load_exif(block)  # of a header that is none, Pillow raises an error only the first time
    except Exception:  # EXIF is a nest of offsets; a broken one must not cost the pixels
        return b"", orientation
    if block and not block.startswith(b"Exif\0\0"):
        block = b"Exif\0\0" + block
    return _without_thumbnail(block), orientation


def _avif_block(image: Any, block: bytes, orientation: int) -> bytes:
    """An AVIF's EXIF. Where the picture is turned, Pillow has written that into the block, and lost text by it."""
    stored = image._decoder.get_info()[4]
    if not stored or stored == block:
        return block
    exif = load_exif(stored)
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


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


def _xmp(image: Image.Image, orientation: int) -> bytes:
    """XMP whose orientation is the picture's: Pillow's readers and HEIC's writer go by it where EXIF says 1 or none."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    packet = re.sub(rb'(tiff:Orientation(?:="|>))[0-9]', rb"\g<1>%d" % orientation, packet)
    return _without_parts(packet) if any(name.encode() in packet for name in NOT_CARRIED) else packet


def _without_parts(packet: bytes) -> bytes:
    """XMP but for what it says of parts of the file that are not carried, for which viewers would look in vain."""
    if b"<!DOCTYPE" in packet:  # whose entities may unfold without end
        return packet
    with contextlib.suppress(Exception):  # what is malformed, oddly encoded or nested too deeply stays as it is
        document = minidom.parseString(packet.strip(b"\0 \r\n"))
        for element in document.getElementsByTagName("*"):
            if element.namespaceURI in NOT_CARRIED and element.parentNode:
                element.parentNode.removeChild(element)
            for attribute in list(element.attributes.values()):
                if {attribute.namespaceURI, attribute.value} & {*NOT_CARRIED}:
                    element.removeAttributeNode(attribute)
        return "\n".join(node.toxml() for node in document.childNodes).encode()
    return packet


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    tags = getattr(image, "tag_v2", None)  # a TIFF's; where they state none, Pillow says 1
    try:
        if "dpi" in image.info and (tags is None or ExifTags.Base.XResolution in tags):
            x, y = (float(value) for value in image.info["dpi"])
        else:
            exif = image.getexif()
            per_inch = {2: 1.0, 3: 2.54}[exif.get(ExifTags.Base.ResolutionUnit, 2)]
            x, y = (float(exif[tag]) * per_inch for tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution))
    except Exception:  # a broken number, or a broken EXIF, must not cost the pixels
        return None
    return (x, y) if 0 < x <= MAX_DPI and 0 < y <= MAX_DPI else None


def _photoshop(image: Image.Image) -> bytes:
    segments = [data for marker, data in getattr(image, "applist", []) if marker == "APP13"]
    segments = [
        PHOTOSHOP + _without_previews(data.removeprefix(PHOTOSHOP)) if data.startswith(PHOTOSHOP) else data
        for data in segments
    ]
    return b"".join(b"\xff\xed" + (len(data) + 2).to_bytes(2, "big") + data for data in segments)


def _without_previews(data: bytes) -> bytes:
    """Photoshop's resources (Adobe's file format, "Image Resource Blocks") but for thumbnails, which show it grey."""
    kept, place = b"", 0
    while data[place : place + 4] == b"8BIM" and place + 7 < len(data):
        start = place + 6 + (data[place + 6] + 2) // 2 * 2  # after a name of even length, its first byte counted
        length = int.from_bytes(data[start : start + 4], "big")
        end = start + 4 + length + length % 2
        if end > len(data):
            return data
        if int.from_bytes(data[place + 4 : place + 6], "big") not in PREVIEWS:
            kept += data[place:end]
        place = end
    return kept + data[place:]


def _text(image: Image.Image) -> dict[str, str]:
    if isinstance(comment := image.info.get("comment"), bytes):
        with contextlib.suppress(UnicodeDecodeError):
            return {"Comment": comment.decode()}
        return {"Comment": comment.decode("latin-1")}
    chunks = getattr(image, "text", {})
    return {key: str(value) for key, value in chunks.items() if key != "XML:com.adobe.xmp" and "profile" not in key}

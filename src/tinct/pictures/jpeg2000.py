"""What a JPEG 2000 file says that Pillow does not tell: its profile, EXIF and XMP, and how deep its samples are."""

import struct
from collections.abc import Iterator

from PIL import Image

from tinct.data.decode import oversize
from tinct.errors import PictureError

__all__ = ["complete"]

CODESTREAM = b"\xff\x4f\xff\x51"
"""The markers that it begins with, SOC and SIZ (ISO/IEC 15444-1, annex A)."""
UUIDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",  # XMP specification, part 3, section 1.1.4
    b"JpgTiffExif->JP2": "exif",
}
"""Names of boxes that hold metadata, and Pillow's names for what is in them."""
PROFILE = 2
"""The method of a `colr` box that holds a restricted ICC profile (annex I.5.3.3)."""


def complete(image: Image.Image, content: bytes) -> None:
    """Put into the `info` of an opened picture what its file says; take the encoder's name out.

    Raises:
        PictureError: Pillow would keep 8 bits of deeper samples, or the codestream promises too many pixels.
    """
    image.info.pop("comment", None)  # which is the encoder's
    if content.startswith(CODESTREAM):
        _check(image, content)
        return
    for kind, body in _boxes(content):
        if kind == b"jp2h":
            for inner, said in _boxes(body):
                if inner == b"colr" and said[:1] == bytes([PROFILE]):
                    image.info["icc_profile"] = said[3:]
        elif kind == b"uuid" and body[:16] in UUIDS:
            image.info[UUIDS[body[:16]]] = body[16:]
        elif kind == b"jp2c":
            _check(image, body)


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes (annex I.4) that some bytes hold, up to where they make no sense: type and content."""
    place = 0
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        head = 8
        if length == 1 and place + 16 <= len(content):
            (length,), head = struct.unpack_from(">Q", content, place + 8), 16
        end = place + length if length else len(content)
        if end < place + head:
            return
        yield kind, content[place + head : end]
        place = end


def _check(image: Image.Image, codestream: bytes) -> None:
    """Hold what is decoded to the limits: its own header may differ from the file's."""
    right, bottom, left, top = struct.unpack_from(">4I", codestream, 8)
    if why := oversize(right - left, bottom - top):
        raise PictureError(why)
    (count,) = struct.unpack_from(">H", codestream, 40)
    depths = [(sizes & 127) + 1 for sizes in codestream[42 : 42 + 3 * count : 3]]
    if max(depths, default=8) > 8 and image.mode != "I;16":
        raise PictureError(f"colours or transparency of {max(depths)} bits a sample; convert it to TIFF or PNG")

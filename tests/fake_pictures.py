"""What tests of picture files and their sources share."""

import struct
import zlib

from tinct.data.base import Source


def names(source: Source) -> list[str]:
    """The names of all its pictures."""
    return [source.name(index) for index in range(len(source))]


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

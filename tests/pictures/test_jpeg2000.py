import contextlib
import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, features
from skimage import data

from tinct.errors import PictureError
from tinct.pictures.jpeg2000 import UUIDS
from tinct.pictures.readers import from_pil, read
from tinct.pictures.writers import write

pytestmark = pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")
GREY = data.camera()[:40, :60]


def saved(pixels: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG2000", **options)
    return file.getvalue()


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def with_metadata(content: bytes, profile: bytes, **said: bytes) -> bytes:
    """The same file with a profile in place of its enumerated colour, and further boxes before its codestream."""
    start = content.index(b"colr") - 4
    end = start + int.from_bytes(content[start : start + 4], "big")
    header = content.index(b"jp2h") - 4
    body = content[header + 8 : start] + box(b"colr", b"\2\0\0" + profile) + content[end : content.index(b"jp2c") - 4]
    names = {name: uuid for uuid, name in UUIDS.items()}
    further = b"".join(box(b"uuid", names[name] + value) for name, value in said.items())
    return content[:header] + box(b"jp2h", body) + further + content[content.index(b"jp2c") - 4 :]


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_every_depth_that_pillow_keeps_is_kept(options):
    for pixels in (GREY, GREY.astype(np.uint16) * 257, data.astronaut()[:40, :60]):
        back = read(saved(pixels, **options))
        assert (back.format, back.form, back.text) == ("JPEG2000", "PNG", {})
        assert back.pixels.dtype == pixels.dtype
        assert np.array_equal(back.pixels, pixels)
    assert np.array_equal(from_pil(Image.open(io.BytesIO(saved(GREY)))).pixels, GREY)


def test_profile_exif_and_xmp_are_read(tmp_path):
    gamma = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a mill"
    content = with_metadata(
        saved(data.astronaut()[:40, :60]), gamma, exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=b"<x:xmpmeta/>"
    )
    (tmp_path / "a.jp2").write_bytes(content)
    write(read(tmp_path / "a.jp2"), tmp_path / "a.png")
    made = read(tmp_path / "a.png")
    assert (made.orientation, made.xmp, made.size) == (6, b"<x:xmpmeta/>", (60, 40))
    assert b"a mill" in made.exif
    grey = saved(GREY)
    linear = read(with_metadata(grey, grey_profile()))
    assert linear.pixels[10, 10] > read(grey).pixels[10, 10]


def grey_profile() -> bytes:
    """A grey ICC profile of linear light."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061), b"kTRC": b"curv" + bytes(8)}
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">2I", start + len(body), len(value))
        body += value
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ").ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


def test_what_would_lose_bits_or_fill_the_memory_is_refused():
    content = bytearray(saved(data.astronaut()[:40, :60]))
    siz = content.index(b"\xff\x4f\xff\x51")
    deep = content.copy()
    deep[siz + 42 : siz + 51 : 3] = bytes([15] * 3)
    with pytest.raises(PictureError, match=r"^a.jp2: colours or transparency of 16 bits a sample; convert it"):
        read(bytes(deep), "a.jp2")
    for where in (siz + 8, content.index(b"ihdr") + 4):  # of the codestream, which the file's header does not show
        huge = content.copy()
        huge[where : where + 8] = struct.pack(">2I", 1 << 20, 1 << 20)
        with pytest.raises(PictureError, match=r"^a.jp2: .*over the limit"):
            read(bytes(huge), "a.jp2")


def test_a_damaged_file_is_one_sentence():
    content, random = saved(GREY), np.random.default_rng(0)
    for length in (10, 40, 90, 120, 200):
        with pytest.raises(PictureError, match=r"^a.jp2: [^\n]+$"):
            read(content[:length], "a.jp2")
    for _ in range(200):
        damaged = bytearray(content)
        damaged[random.integers(12, 160)] = random.integers(256)
        with contextlib.suppress(PictureError):  # nothing else
            read(bytes(damaged), "a.jp2")

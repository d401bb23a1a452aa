import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from tinct.errors import PictureError
from tinct.pictures import profiles

S15 = 65536


def icc(tags: dict[bytes, bytes], space: bytes) -> bytes:
    """A minimal version 2 display profile."""
    table, body, offset = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, offset + len(body), len(content))
        body += content
    header = bytearray(128)
    header[8:12] = b"\x02\x10\0\0"
    header[12:24] = b"mntr" + space + b"XYZ "
    header[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", round(0.9642 * S15), S15, round(0.8249 * S15))
    content = bytes(header) + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(content)) + content[4:]


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * S15) for value in (x, y, z)))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


def parametric(function: int, *values: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(f">HH{len(values)}i", function, 0, *(round(value * S15) for value in values))


def sampled(power: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">I", 64) + (np.linspace(0, 1, 64) ** power * 65535).astype(">u2").tobytes()


WHITE = {
    b"wtpt": xyz(0.9642, 1, 0.8249),
    b"desc": b"desc\0\0\0\0\0\0\0\x02x\0" + bytes(80),
    b"cprt": b"text\0\0\0\0x\0",
}
ADOBE = {
    b"rXYZ": xyz(0.6097, 0.3111, 0.0195),
    b"gXYZ": xyz(0.2053, 0.6257, 0.0609),
    b"bXYZ": xyz(0.1492, 0.0632, 0.7446),
}
CURVES = [
    gamma(2.2),
    gamma(1.0),
    sampled(1.8),
    parametric(0, 1.7),
    parametric(1, 2.0, 1.05, -0.05),
    parametric(3, 2.4, 0.9479, 0.0521, 0.0774, 0.0405),
    parametric(4, 2.4, 0.9479, 0.0521, 0.0774, 0.0405, 0.0, 0.0),
]


def colour_profile(curve: bytes) -> bytes:
    return icc({**WHITE, **ADOBE, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}, b"RGB ")


@pytest.mark.parametrize("curve", CURVES)
def test_16_bit_colour_equals_littlecms_at_8_bits(curve):
    profile = colour_profile(curve)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    deep = profiles.to_srgb(profile, np.dtype(np.uint16), 3)(pixels.astype(np.uint16) * 257)
    shallow = profiles.to_srgb(profile, np.dtype(np.uint8), 3)(pixels)
    difference = np.abs(deep / 257 - shallow)
    assert np.quantile(difference, 0.97) <= 1  # LittleCMS has 8 bits and 14 inside: it errs near black
    assert difference.mean() < 0.4


@pytest.mark.parametrize("curve", [CURVES[0], CURVES[2], CURVES[3]])
def test_16_bit_grey_equals_littlecms_at_8_bits(curve):
    profile = icc({**WHITE, b"kTRC": curve}, b"GRAY")
    ramp = np.arange(256, dtype=np.uint8)[None]
    deep = profiles.to_srgb(profile, np.dtype(np.uint16), 1)(ramp.astype(np.uint16) * 257)
    shallow = profiles.to_srgb(profile, np.dtype(np.uint8), 1)(ramp)
    assert np.abs(deep / 257 - shallow).max() <= 2.5  # near black, as above
    assert np.abs(deep / 257 - shallow).mean() < 0.4


def test_srgb_and_damaged_profiles_change_nothing():
    for content in (profiles.srgb(), b"not a profile", profiles.srgb()[:100], colour_profile(gamma(2.2))[:140]):
        assert profiles.to_srgb(content, np.dtype(np.uint8), 3) is None
    assert profiles.to_srgb(colour_profile(gamma(2.2)), np.dtype(np.uint8), 1) is None  # for colour, not for grey


def test_a_profile_of_lab_is_none_of_a_picture_in_rgb():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert profiles.to_srgb(lab, np.dtype(np.uint16), 3) is None


def test_the_tag_is_srgb_and_always_the_same():
    assert profiles.srgb() == profiles.srgb.__wrapped__()
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profiles.srgb())), ImageCms.createProfile("sRGB"), "RGB", "RGB"
    )
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.abs(np.asarray(transform.apply(Image.fromarray(pixels)), int) - pixels).max() <= 1


@pytest.mark.parametrize("how", ["tables beside curves", "curves to Lab"])
def test_16_bits_are_refused_where_curves_do_not_mean_the_colour(how):
    grey = how == "curves to Lab"
    tags = {b"kTRC": gamma(2.2)} if grey else profiles._tags(profiles.srgb()) | {b"A2B0": table()}
    profile = bytearray(icc(tags, b"GRAY" if grey else b"RGB "))
    if grey:
        profile[20:24] = b"Lab "
    assert profiles.to_srgb(bytes(profile), np.dtype(np.uint8), 1 if grey else 3) is not None
    with pytest.raises(PictureError, match="16 bits with a table-based colour profile; convert it to sRGB first"):
        profiles.to_srgb(bytes(profile), np.dtype(np.uint16), 1 if grey else 3)


def table() -> bytes:
    """A lut16Type (ICC.1:2022, section 10.10) that takes red, green and blue for X, Y and Z."""
    nodes = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(-1) * 30_000
    ends = np.tile([0, 65535], 3)
    head = struct.pack(">4sI4B9iHH", b"mft2", 0, 3, 3, 2, 0, *np.eye(3, dtype=int).reshape(-1) * 65536, 2, 2)
    return head + np.concatenate((ends, nodes, ends)).astype(">u2").tobytes()

import io
import os
import struct
import zlib

import numpy as np
import pytest
from fake_pictures import chunk
from PIL import Image, ImageChops, ImageCms, ImageOps
from skimage import data as photographs
from skimage.color import rgb2lab

from tinct.data import decode as module
from tinct.data.decode import MAX_BYTES, chroma, decode, header, is_grey
from tinct.data.sources import open_sources
from tinct.errors import PictureError


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(photographs.astronaut()).crop((100, 0, 356, 192))


def encode(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def apart(rgb, image):
    """Mean absolute difference in 8-bit steps."""
    return np.abs(rgb.astype(int) - np.asarray(image, int)).mean()


def test_lossless_files_come_back_as_they_are(photo, tmp_path):
    path = tmp_path / "photo.png"
    photo.save(path)
    rgb = decode(path)
    assert rgb.dtype == np.uint8
    assert rgb.flags.writeable
    np.testing.assert_array_equal(rgb, np.asarray(photo))
    np.testing.assert_array_equal(decode(path.read_bytes()), rgb)


@pytest.mark.parametrize(("min_side", "short"), [(192, 192), (97, 192), (96, 96), (48, 48), (24, 24), (1, 24)])
def test_a_jpeg_is_reduced_but_keeps_the_side_asked_for(photo, min_side, short):
    rgb = decode(encode(photo, "JPEG", quality=95), min_side)
    assert rgb.shape == (short, short * 256 // 192, 3)
    assert apart(rgb, photo.resize(rgb.shape[1::-1], Image.Resampling.BOX)) < 4


@pytest.mark.parametrize("orientation", [1, 6])
def test_photographs_from_phones_are_learned_from(photo, tmp_path, orientation):
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "IMG_0001.HEIC", "HEIF", quality=95, exif=exif.tobytes())
    source = open_sources([str(tmp_path)])
    upright = photo if orientation == 1 else photo.transpose(Image.Transpose.ROTATE_270)
    assert apart(source.picture(0), upright) < 4
    assert header(tmp_path / "IMG_0001.HEIC") == ("RGB", *upright.size)


def test_without_their_reader_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "IMG_0001.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(PictureError, match=r"IMG_0001.HEIC: HEIC cannot be read here; pip install 'tinct\[heic\]'"):
        open_sources([str(tmp_path)]).picture(0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(photo, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert expected is not None
    np.testing.assert_array_equal(decode(data), np.asarray(expected.convert("RGB")))
    assert header(data) == ("RGB", *expected.size)
    assert (expected.size == (192, 256)) == (orientation > 4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_costs_nothing(photo):
    data = encode(photo, "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff" + b"\xff" * 40)
    assert decode(data).shape == (192, 256, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "I;16", "I", "F"])
def test_any_mode_gives_rgb(photo, mode):
    grey = photo.convert("L")
    if mode in ("I;16", "I", "F"):
        values = np.asarray(grey)
        depth = {
            "I;16": values.astype(np.uint16) * 257,
            "I": values.astype(np.int32) * 257,
            "F": values / np.float32(255),
        }
        image, expected = Image.fromarray(depth[mode]), grey.convert("RGB")
    else:
        image = photo.convert(mode)
        expected = image.convert("RGB")
    assert image.mode == mode
    data = encode(image, "TIFF")
    assert header(data)[0] == mode
    np.testing.assert_array_equal(decode(data), np.asarray(expected))


def test_big_endian_16_bit_is_scaled_not_clipped():
    values = np.array([[0, 128, 129, 32768, 65535]], ">u2")
    size = struct.pack(">IIBBBBB", 5, 1, 16, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" + values.tobytes()))
    assert decode(png + chunk(b"IEND", b""))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_transparent_grey_of_16_bits_is_scaled_not_clipped():
    samples = np.linspace(0, 65535, 16).astype(np.uint16)[None].repeat(4, 0)
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG", transparency=int(samples[0, 3]))
    decoded = decode(file.getvalue())[0, :, 0].tolist()
    assert decoded == [255 if number == 3 else round(255 * number / 15) for number in range(16)]


def test_transparency_is_laid_over_white(photo):
    rgba = photo.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(photo.size))
    alpha = np.asarray(rgba)[..., 3:] / 255
    over = np.asarray(photo) * alpha + 255 * (1 - alpha)
    assert apart(decode(encode(rgba)), np.rint(over)) < 0.6
    np.testing.assert_array_equal(decode(encode(rgba))[0], 255)
    grey = rgba.convert("LA")
    assert (
        apart(decode(encode(grey))[..., 0], np.asarray(grey)[..., 0] * alpha[..., 0] + 255 * (1 - alpha[..., 0])) < 0.6
    )


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(kind):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    rgb = decode(encode(image, kind, transparency=0))
    assert rgb[0, :3].tolist() == [[255, 255, 255], [0, 0, 255], [255, 255, 255]]


def test_the_first_frame_of_an_animation(photo):
    frames = [photo.convert("L"), ImageChops.invert(photo.convert("L"))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert apart(decode(data), frames[0].convert("RGB")) < 1


def test_cmyk_jpeg_with_and_without_adobes_inversion(photo):
    cmyk = photo.convert("CMYK")
    adobe = encode(cmyk, "JPEG", quality=95)
    assert apart(decode(adobe), photo) < 4
    # without the marker the values are ink as they stand: so write the inverse, then cut the marker out
    plain = encode(ImageChops.invert(cmyk), "JPEG", quality=95)
    marker = plain.index(b"\xff\xee")
    plain = plain[:marker] + plain[marker + 2 + int.from_bytes(plain[marker + 2 : marker + 4]) :]
    assert b"Adobe" not in plain
    assert apart(decode(plain), photo) < 4


def test_an_embedded_profile_is_applied(photo):
    """A profile whose red and blue primaries are swapped turns swapped pixels back into the photograph."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = srgb.index(b"rXYZ"), srgb.index(b"bXYZ")
    swapped = bytearray(srgb)
    swapped[red : red + 4], swapped[blue : blue + 4] = b"bXYZ", b"rXYZ"
    wrong = Image.merge("RGB", photo.split()[::-1])
    assert apart(decode(encode(wrong, icc_profile=bytes(swapped))), photo) < 1
    np.testing.assert_array_equal(decode(encode(photo, icc_profile=srgb)), np.asarray(photo))


@pytest.mark.parametrize("profile", [b"nonsense", b"\0" * 500])
def test_a_useless_profile_is_passed_over(photo, profile):
    np.testing.assert_array_equal(decode(encode(photo, icc_profile=profile)), np.asarray(photo))


def test_a_profile_of_another_colour_space_is_passed_over(photo):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = photo.convert("L")
    np.testing.assert_array_equal(decode(encode(grey, icc_profile=srgb)), np.asarray(grey.convert("RGB")))


def test_lab_files(photo):
    lab = ImageCms.profileToProfile(
        photo, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    assert apart(decode(encode(lab, "TIFF")), photo) < 2


def test_unusable_files_are_named_with_a_reason(photo, tmp_path):
    jpeg, png = encode(photo, "JPEG"), encode(photo)
    bad = {
        "empty": (b"", "empty file"),
        "cut-jpeg": (jpeg[: len(jpeg) // 2], "truncated"),
        "cut-png": (png[: len(png) // 2], "cannot be decoded"),
        "cut-header": (jpeg[:20], "not a picture"),
        "text": (b"hello", "not a picture"),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    }
    for name, (content, reason) in bad.items():
        (tmp_path / name).write_bytes(content)
        for side in (None, 32):
            with pytest.raises(PictureError, match=f"{name}: .*{reason}") as caught:
                decode(tmp_path / name, side)
            assert "\n" not in str(caught.value)
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("absent", "No such file"), ("", "not a regular file"), ("pipe", "not a regular file")):
        with pytest.raises(PictureError, match=reason):
            decode(tmp_path / name)
    with pytest.raises(PictureError, match=r"null (byte|character)"):
        decode(tmp_path / "a\0b")
    with pytest.raises(PictureError, match="picture: empty file"):
        decode(b"")


def test_limits_hold_before_anything_is_decoded(photo, tmp_path, monkeypatch):
    # a PNG that claims 40,000 x 40,000 pixels in a few bytes
    bomb = bytearray(encode(photo))
    bomb[16:24] = struct.pack(">II", 40_000, 40_000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bomb[12:29]))
    with pytest.raises(PictureError, match=r"over the limit of 178956970 pixels; reduce it, or cut it into parts$"):
        decode(bytes(bomb))
    path = tmp_path / "big.png"
    photo.save(path)
    monkeypatch.setattr(module, "MAX_PIXELS", 256 * 192 - 1)
    with pytest.raises(PictureError, match=r"256x192 pixels, over the limit of 49151; reduce it, or cut it"):
        decode(path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    for data in (path, bytes(MAX_BYTES + 1)):
        with pytest.raises(PictureError, match=f"{MAX_BYTES + 1} bytes, over the limit of {MAX_BYTES}; reduce it"):
            decode(data)


@pytest.mark.parametrize("orientation", [5, 6])
def test_a_tiff_that_lies_on_its_side_is_the_same_by_name(photo, tmp_path, orientation):
    """Pillow would map it into memory, and misread it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "side.tif"
    photo.convert("L").save(path, exif=exif)
    np.testing.assert_array_equal(decode(path), decode(path.read_bytes()))
    assert header(path) == ("L", 192, 256)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "retina", "hubble_deep_field", "rocket"])
def test_chroma_agrees_with_scikit_image(name):
    rgb = getattr(photographs, name)()
    grid = rgb[:: -(-rgb.shape[0] // 32), :: -(-rgb.shape[1] // 32)]
    of_grid, of_all = (np.hypot(*np.moveaxis(rgb2lab(part)[..., 1:], -1, 0)).mean() for part in (grid, rgb[::3, ::3]))
    assert chroma(rgb) == pytest.approx(of_grid, abs=0.01)
    assert chroma(rgb) == pytest.approx(of_all, rel=0.06, abs=0.5)


def test_grey_pictures_are_told_from_coloured_ones(photo):
    grey = photo.convert("L").convert("RGB")
    assert chroma(np.asarray(grey)) < 0.05
    assert is_grey(decode(encode(grey, "JPEG", quality=50)))
    assert not is_grey(np.asarray(photo))
    assert chroma(np.full((1, 1, 3), (255, 0, 0), np.uint8)) == pytest.approx(104.55, abs=0.1)

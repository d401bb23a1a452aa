import io
import struct
import zlib

import numpy as np
import pytest
import tifffile

from tinct.data.decode import decode
from tinct.errors import PictureError
from tinct.pictures.deep import by_tifffile
from tinct.pictures.picture import Picture
from tinct.pictures.readers import read

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_tiff_is_read_to_the_last_bit(tmp_path, compression, order, channels):
    path, pixels = tmp_path / "a.tif", RNG.integers(0, 65536, (30, 40, channels), dtype=np.uint16)
    tifffile.imwrite(
        path,
        pixels.squeeze(),
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        compression=compression,
        predictor=compression is not None,
        byteorder=order,
    )
    for source in (path, path.read_bytes()):
        back = read(source)
        assert np.array_equal(back.pixels, pixels[..., :3].squeeze())
        assert channels < 4 or np.array_equal(back.alpha, pixels[..., 3])


def lzw(content: bytes) -> bytes:
    """Bytes as TIFF's LZW has them where it finds nothing to compress: codes of 9 bits, 256 before any are longer."""
    codes = [code for start in range(0, len(content), 250) for code in (256, *content[start : start + 250])]
    bits = "".join(f"{code:09b}" for code in (*codes, 257))
    length = -(-len(bits) // 8)
    return int(bits.ljust(8 * length, "0"), 2).to_bytes(length, "big")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_in_lzw_are_read_to_the_last_bit(tmp_path, order, channels):
    path, pixels = tmp_path / "a.tif", RNG.integers(0, 65536, (30, 40, channels), dtype=np.uint16)
    tifffile.imwrite(
        path,
        iter([lzw(pixels.astype(f"{order}u2").tobytes())]),
        shape=pixels.squeeze().shape,
        dtype=np.uint16,
        photometric="minisblack" if channels == 1 else "rgb",
        extrasamples=["unassalpha"] if channels == 4 else None,
        compression="zlib",
        byteorder=order,
        rowsperstrip=30,
    )
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(5)
    back = read(path)
    assert np.array_equal(back.pixels, pixels[..., :3].squeeze())
    assert channels < 4 or np.array_equal(back.alpha, pixels[..., 3])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("plane", ["contig", "separate"])
@pytest.mark.parametrize("extra", [None, "assocalpha", "unassalpha", "unspecified"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_tiffs_that_pillow_misreads_are_whole(compression, order, plane, extra, channels):
    colours = RNG.integers(0, 65536, (20, 30, channels))
    alpha = RNG.integers(1, 65536, (20, 30, 1))
    stored = np.round(colours * (alpha / 65535)) if extra == "assocalpha" else colours
    samples = (np.dstack((stored, alpha)) if extra else stored).astype(np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(np.moveaxis(samples, -1, 0)) if plane == "separate" else samples,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig=plane if samples.shape[2] > 1 else None,
        extrasamples=[extra] if extra else None,
        compression=compression,
        byteorder=order,
        extratags=[(274, "H", 1, 6, True)],
    )
    back = read(buffer.getvalue())
    if back.orientation == 1:  # turned by Pillow
        assert back.pixels.shape[:2] == (30, 20)
        back = Picture(np.rot90(back.pixels), None if back.alpha is None else np.rot90(back.alpha))
    else:
        assert back.orientation == 6
    error = np.abs(back.pixels.reshape(20, 30, -1) - colours.astype(float))
    assert (error * (alpha / 65535 if extra == "assocalpha" else 1)).max() <= 1
    if extra in ("assocalpha", "unassalpha"):
        assert np.array_equal(back.alpha, alpha[..., 0])
    else:
        assert back.alpha is None


def deep_tiff(strips: list[bytes], rows: int) -> bytes:
    """A 16-bit grey and alpha TIFF, 8 pixels wide, of deflated strips of `rows` rows."""
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        iter([zlib.compress(strip) if strip else b"" for strip in strips]),
        shape=(rows * len(strips), 8, 2),
        dtype=np.uint16,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
        compression="zlib",
        rowsperstrip=rows,
    )
    return buffer.getvalue()


def test_strips_that_inflate_too_far_or_are_missing_are_refused():
    whole = bytes(range(256))
    back = read(deep_tiff([whole, whole], 8))
    assert back.pixels[0, :3].tolist() == [0x0100, 0x0504, 0x0908]
    with pytest.raises(PictureError, match="inflates to more"):
        read(deep_tiff([whole, whole + b"x"], 8))
    with pytest.raises(PictureError, match="inflates to more"):
        read(deep_tiff([whole, bytes(1 << 25)], 8))
    with pytest.raises(PictureError, match="missing"):
        read(deep_tiff([whole, b""], 8))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiles_far_larger_than_the_picture_are_refused(tmp_path, dtype, compression):
    path = tmp_path / "a.tif"
    pixels = np.full((16, 24, 3), 7, dtype)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression=compression)
    readers = (read, decode, by_tifffile) if dtype == np.uint16 else (read, decode)
    for reader in readers:
        found = reader(path)
        assert getattr(found, "pixels", found).shape == (16, 24, 3)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("TileWidth", "TileLength"):
            file.pages.first.tags[tag].overwrite(8192)
    for reader in readers:
        with pytest.raises(PictureError, match="tiles of 8192x8192 for a picture of 24x16 pixels"):
            reader(path)


def test_rare_kinds_of_16_bit_tiff_that_would_be_misread_are_refused():
    buffer = io.BytesIO()
    samples = RNG.integers(0, 65536, (20, 30, 2), dtype=np.uint16)
    tifffile.imwrite(buffer, samples, photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig")
    content = bytearray(buffer.getvalue())
    at = content.index(struct.pack("<HHI", 259, 3, 1)) + 8
    content[at : at + 2] = struct.pack("<H", 5)  # LZW, so it says
    with pytest.raises(PictureError, match="tiff_lzw inside; save it"):
        read(bytes(content))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_16_bit_tiff_whose_white_is_zero(order):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, ramp, photometric="miniswhite", byteorder=order)
    assert np.array_equal(read(buffer.getvalue()).pixels, 65535 - ramp)
    assert np.abs(decode(buffer.getvalue())[..., 0] - (65535.0 - ramp) / 257).max() < 1


def test_a_12_bit_tiff_fills_the_range():
    samples = np.array([[0, 1365, 2730, 4095]], np.uint16)
    bits = "".join(f"{value:012b}" for value in samples.ravel())
    packed = int(bits, 2).to_bytes(6, "big")
    entries = [(256, 4, 4), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    entries += [(278, 4, 1), (279, 4, len(packed))]
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    header = b"II*\0" + struct.pack("<I", 14) + packed
    content = header + struct.pack("<H", len(entries)) + table + bytes(4)
    assert read(content).pixels.tolist() == [[0, 21845, 43690, 65535]]


def test_16_bit_cmyk_is_not_taken_for_rgb_and_alpha():
    cyan = np.zeros((8, 8, 4), np.uint16)
    cyan[..., 0] = 65535
    for dtype in (np.uint16, np.uint8):
        buffer = io.BytesIO()
        samples = (cyan if dtype == np.uint16 else cyan // 257).astype(dtype)
        tifffile.imwrite(buffer, samples, photometric="separated", planarconfig="contig")
        back = read(buffer.getvalue())
        assert back.alpha is None
        assert back.pixels[0, 0].tolist() == [0, 255, 255]


def netpbm(samples: np.ndarray, peak: int, comment: str = "") -> bytes:
    """A binary PGM (H, W) or PPM (H, W, 3)."""
    height, width = samples.shape[:2]
    header = f"P{5 if samples.ndim == 2 else 6}\n{comment}{width} {height}\n{peak}\n"
    return header.encode() + samples.astype(np.uint8 if peak < 256 else ">u2").tobytes()


@pytest.mark.parametrize("peak", [255, 100, 65535, 4095])
@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)])
def test_a_pgm_or_ppm_is_read_to_the_last_bit(shape, peak, tmp_path):
    samples = np.random.default_rng(0).integers(0, peak, shape, endpoint=True)
    content = netpbm(samples, peak, "# a scan\n")
    (tmp_path / "a.pgm").write_bytes(content)
    for source in (content, tmp_path / "a.pgm"):
        back = read(source)
        top = 255 if peak < 256 else 65535
        assert back.pixels.dtype == (np.uint8 if peak < 256 else np.uint16)
        assert np.array_equal(back.pixels, np.rint(samples / peak * top))
        assert (back.format, back.form, back.alpha) == ("PPM", "PNG", None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (netpbm(np.zeros((4, 4)), 65535)[:-1], "cannot be decoded"),
        (netpbm(np.zeros((4, 4, 3)), 4095)[:-1], "cannot be decoded"),
        (netpbm(np.zeros((4, 4)), 255)[:-1], "cannot be decoded"),
        (b"P5\n99999 99999\n65535\n" + bytes(1000), "over the limit"),
        (b"P5\n-4 -4\n65535\n" + bytes(1000), "not a picture"),
        (b"P5\n4 0\n65535\n", "not a picture"),
        (b"P5\n4 4\n65536\n" + bytes(1000), "not a picture|cannot be decoded"),
        (b"P2\n2 1\n65535\n7 8", "as text"),
        (b"Pf\n1 1\n-1\n" + bytes(4), "32 bits a sample"),
    ],
)
def test_a_damaged_pgm_or_ppm_is_one_sentence(content, why):
    with pytest.raises(PictureError, match=rf"^a.pgm: .*({why})[^\n]*$"):
        read(content, "a.pgm")

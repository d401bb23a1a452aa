import dataclasses
import io
import re
import struct
import zlib
from itertools import product

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin, features
from skimage import data

from tinct.errors import PictureError, TinctError
from tinct.pictures import profiles
from tinct.pictures.picture import Picture, upright
from tinct.pictures.readers import from_pil, read
from tinct.pictures.writers import MAX_XMP, encode, to_pil, write

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'
IPTC = b"\xff\xed\x00\x1aPhotoshop 3.0\x008BIM\x04\x04\0\0\0\0"
AVIF = ["AVIF"] if features.check("avif") else []
HEIF = ["HEIF"] if "HEIF" in Image.SAVE else []


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[270], block[271], block[274], block[0x4746] = "a caption", "Maker", orientation, 4
    block[318] = TiffImagePlugin.IFDRational(3127, 10000), TiffImagePlugin.IFDRational(329, 1000)
    inner = block.get_ifd(0x8769)
    inner[36867], inner[33434], inner[37500] = "1921:07:01 12:00:00", TiffImagePlugin.IFDRational(1, 250), b"maker note"
    position = block.get_ifd(0x8825)
    position[1], position[2] = "N", (48.0, 12.0, 30.5)
    return block.tobytes()


def facts(block: bytes) -> dict:
    """What an EXIF block says, orientation and offsets left out."""
    loaded = Image.Exif()
    loaded.load(block)
    main = {tag: value for tag, value in loaded.items() if tag not in (274, 282, 283, 296, 0x8769, 0x8825)}
    return {"main": main, "exif": dict(loaded.get_ifd(0x8769)), "gps": dict(loaded.get_ifd(0x8825))}


def picture(
    dtype=np.uint8, colour=True, alpha=False, orientation=1, size=(21, 34), form="PNG", dpi=(300.0, 300.0)
) -> Picture:
    rng = np.random.default_rng(0)
    white = np.iinfo(dtype).max + 1
    pixels = rng.integers(0, white, (*size, 3) if colour else size, dtype=dtype)
    transparency = rng.integers(0, white, size, dtype=dtype) if alpha else None
    return Picture(pixels, transparency, orientation, form, exif(orientation), XMP, dpi)


def through(original: Picture, form: str) -> Picture:
    buffer = io.BytesIO()
    encode(original, buffer, form)
    return read(buffer.getvalue())


def turned(planes: np.ndarray, orientation: int) -> np.ndarray:
    stacked = torch.from_numpy(planes.astype(np.int32)).reshape(*planes.shape[:2], -1).movedim(-1, 0)
    return upright(stacked, orientation).movedim(0, -1).numpy().reshape(-1)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("form", "dtype"), [*product(("PNG", "TIFF"), (np.uint8, np.uint16)), ("WEBP", np.uint8)])
def test_lossless_formats_give_back_pixels_alpha_and_metadata(form, dtype, alpha, orientation):
    original = picture(dtype, alpha=alpha, orientation=orientation)
    back = through(original, form)
    assert back.format == form
    assert back.size == original.size
    assert back.pixels.dtype == dtype
    assert np.array_equal(turned(back.pixels, back.orientation), turned(original.pixels, orientation))
    assert (back.alpha is not None) == alpha
    if alpha:
        assert np.array_equal(turned(back.alpha, back.orientation), turned(original.alpha, orientation))
    assert back.orientation in (orientation, 1 if form == "TIFF" else orientation)  # Pillow turns a TIFF upright
    assert facts(back.exif) == facts(original.exif)
    assert back.xmp == XMP
    assert back.dpi == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_lossy_formats_keep_metadata_and_full_colour_resolution(form):
    original = picture(orientation=8)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 40)
    stripes[:, 1::2] = (40, 40, 200)
    back = through(Picture(stripes, None, 8, form, original.exif, XMP, (300.0, 300.0)), form)
    assert np.abs(back.pixels.astype(int) - stripes).mean() < 12  # with 4:2:0 red and blue would merge to violet: 80
    photo = data.astronaut()[:128, :128]
    assert np.abs(through(Picture(photo), form).pixels.astype(int) - photo).mean() < 2
    assert (back.orientation, back.xmp, facts(back.exif)) == (8, XMP, facts(original.exif))
    assert back.dpi == pytest.approx((300, 300), abs=0.01)


def test_what_a_tiff_says_of_its_array_is_no_description(tmp_path):
    grey = picture().pixels[..., 0]
    for name, told, kept in (("a", {}, None), ("b", {"description": "Aunt Ida", "metadata": None}, "Aunt Ida")):
        tifffile.imwrite(tmp_path / f"{name}.tif", grey, **told)
        back = read(tmp_path / f"{name}.tif")
        write(Picture(picture().pixels, format="TIFF", exif=back.exif), tmp_path / f"{name}-coloured.tif")
        with tifffile.TiffFile(tmp_path / f"{name}-coloured.tif") as written:
            found = written.pages.first.tags.get("ImageDescription")
            assert (found and found.value) == kept


def test_jpeg_keeps_iptc_comment_and_dpi_at_quality_95_or_more():
    original = Picture(picture().pixels, format="JPEG", photoshop=IPTC, text={"Comment": "two"}, dpi=(150.0, 150.0))
    buffer = io.BytesIO()
    encode(original, buffer)
    image = Image.open(buffer)
    assert max(max(table) for table in image.quantization.values()) <= 12  # libjpeg's at 95
    assert image.layer[0][1:3] == image.layer[1][1:3] == (1, 1)
    back = read(buffer.getvalue())
    assert (back.photoshop, back.text, back.dpi) == (IPTC, {"Comment": "two"}, (150.0, 150.0))


def test_png_text_survives_in_any_script():
    text = {"Title": "Two girls", "Author": "山田"}
    for dtype in (np.uint8, np.uint16):
        assert through(Picture(picture(dtype).pixels, text=text), "PNG").text == text


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("colour", [False, True])
def test_bmp_is_turned_upright_because_it_cannot_say_otherwise(orientation, colour):
    opaque = np.full((21, 34), 255, np.uint8) if orientation == 7 else None
    original = dataclasses.replace(picture(colour=colour, orientation=orientation, dpi=(300, 600)), alpha=opaque)
    back = through(original, "BMP")
    assert back.size == original.size
    assert np.array_equal(turned(back.pixels, 1), turned(original.pixels, orientation))
    assert back.dpi == pytest.approx((600, 300) if orientation > 4 else (300, 600), rel=1e-3)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_results_are_tagged_srgb(form):
    buffer = io.BytesIO()
    encode(picture(), buffer, form)
    assert Image.open(buffer).info["icc_profile"] == profiles.srgb()


@pytest.mark.parametrize("form", ["JPEG", "BMP"])
def test_transparency_is_never_dropped_silently(form):
    with pytest.raises(PictureError, match="no transparency"):
        encode(picture(alpha=True), io.BytesIO(), form)
    opaque = Picture(picture().pixels, np.full((21, 34), 255, np.uint8))
    assert through(opaque, form).alpha is None


def test_what_a_format_cannot_hold_is_a_sentence_and_leaves_no_file(tmp_path):
    with pytest.raises(PictureError, match="cannot be written as WEBP"):
        write(Picture(np.zeros((1, 20000, 3), np.uint8)), tmp_path / "long.webp", "WEBP")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_tinct_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TinctError, match="cannot write"):
        write(picture(), tmp_path / "file" / "x.png")


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    colour=st.booleans(),
    alpha=st.booleans(),
    seed=st.integers(0, 99),
    smooth=st.booleans(),
)
def test_own_16_bit_png_is_read_back_by_libpng(height, width, colour, alpha, seed, smooth):
    rng = np.random.default_rng(seed)
    shape = (height, width, 3) if colour else (height, width)
    pixels = rng.integers(0, 300 if smooth else 65536, shape).astype(np.uint16)
    transparency = rng.integers(0, 65536, shape[:2]).astype(np.uint16) if alpha else None
    back = through(Picture(pixels, transparency), "PNG")
    assert np.array_equal(back.pixels, pixels)
    assert (back.alpha is None) == (not alpha)
    assert transparency is None or np.array_equal(back.alpha, transparency)


def test_16_bit_png_is_as_small_as_a_filtered_png_should_be():
    rows, columns = np.mgrid[:200, :300]
    ramp = (rows * 97 + columns * 131).astype(np.uint16)
    buffer = io.BytesIO()
    encode(Picture(np.dstack([ramp] * 3)), buffer, "PNG")
    assert len(buffer.getvalue()) < 0.25 * len(zlib.compress(np.dstack([ramp] * 3).astype(">u2").tobytes()))


def test_16_bit_png_does_not_depend_on_strips(monkeypatch):
    original = picture(np.uint16, alpha=True)
    monkeypatch.setattr("tinct.pictures.picture.STRIP_PIXELS", 70)
    back = through(original, "PNG")
    assert np.array_equal(back.pixels, original.pixels)


def test_to_pil_carries_metadata_and_from_pil_takes_it_back():
    original = picture(alpha=True, orientation=6)
    image = to_pil(original)
    assert image.mode == "RGBA"
    back = from_pil(image)
    assert np.array_equal(back.pixels, original.pixels)
    assert np.array_equal(back.alpha, original.alpha)
    assert (back.orientation, back.xmp, back.dpi, facts(back.exif)) == (6, XMP, (300.0, 300.0), facts(original.exif))


def test_png_declares_its_size_and_depth():
    buffer = io.BytesIO()
    encode(picture(np.uint16, alpha=True), buffer, "PNG")
    assert struct.unpack(">2I2B", buffer.getvalue()[16:26]) == (34, 21, 16, 6)


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_tags_of_a_big_tiff_are_carried(form):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.full((8, 6), 9, np.uint8), bigtiff=True, software="scanner")
    back = through(read(buffer.getvalue()), form)
    assert facts(back.exif)["main"][305].startswith("scanner")


def test_an_offset_of_the_old_file_does_not_travel_and_bytes_stay_bytes():
    block = Image.Exif()
    inner = block.get_ifd(0x8769)
    inner[36864], inner[37510] = b"0232", b"ASCII\0\0\0hello"
    original = picture()
    exif_of = block.tobytes()
    with_interop = Image.Exif()
    with_interop.load(exif_of)
    with_interop.get_ifd(0x8769)[0xA005] = 500
    buffer = io.BytesIO()
    encode(dataclasses.replace(original, exif=with_interop.tobytes()), buffer, "TIFF")
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as written:
        tags = written.pages.first.tags[0x8769].value
    assert "InteroperabilityTag" not in tags
    assert 0xA005 not in tags
    assert tags["ExifVersion"] == "0232"
    assert tags["UserComment"].endswith("hello")


TYPED = {
    0x8825: {0: (1, b"\2\3\0\0"), 5: (1, b"\1"), 27: (7, b"ASCII\0\0\0GPS")},
    0x8769: {36864: (7, b"0232"), 37500: (7, b"notes of a maker"), 37510: (7, b"ASCII\0\0\0hello"), 41728: (7, b"\3")},
    0: {0x0112: (3, b"\6\0"), 40091: (1, b"a\0b\0c\0"), 50341: (7, b"PrintIM\x000300")},
}
"""Tags of GPS, EXIF and the main directory: their TIFF types (BYTE is 1, UNDEFINED 7) and values."""


def block_of_typed() -> bytes:
    content, links = b"II*\0" + bytes(4), {}
    for directory, tags in TYPED.items():
        entries, after = {**tags, **(links if directory == 0 else {})}, b""
        links[directory] = (4, struct.pack("<I", len(content)))
        begin = len(content) + 6 + 12 * len(entries)
        content += struct.pack("<H", len(entries))
        for tag, (kind, value) in sorted(entries.items()):
            place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", begin + len(after))
            after += value + bytes(len(value) % 2) if len(value) > 4 else b""
            content += struct.pack("<2HI", tag, kind, len(value) // {3: 2, 4: 4}.get(kind, 1)) + place
        content += bytes(4) + after
    return b"Exif\0\0" + content[:4] + links[0][1] + content[8:]


def types_in(content: bytes) -> dict[tuple[int, int], int]:
    """The TIFF types in a file, which holds its tags as they are, by directory and tag."""
    block = content[re.search(rb"II\*\0|MM\0\*", content).start() :]
    order, found = "<" if block[:2] == b"II" else ">", {}
    places = [(0, struct.unpack_from(order + "I", block, 4)[0])]
    for directory, place in places:
        for n in range(struct.unpack_from(order + "H", block, place)[0]):
            tag, kind, _, value = struct.unpack_from(order + "2H2I", block, place + 2 + 12 * n)
            found[directory, tag] = kind
            if tag in (0x8769, 0x8825):
                places.append((tag, value))
    return found


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG", "WEBP", *AVIF])
@pytest.mark.parametrize("source", ["JPEG", "TIFF"])
def test_bytes_in_exif_keep_their_type(source, form):
    file, result = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (16, 8)).save(file, "JPEG", exif=block_of_typed(), dpi=(300, 300))
    encode(through(read(file.getvalue()), source), result, form)
    found = types_in(result.getvalue())
    for directory, tags in TYPED.items():
        for tag, (kind, _) in tags.items():
            assert found.get((directory, tag), kind) == kind, (directory, tag)  # AVIF has orientation elsewhere
    assert len(found) >= 11


def test_resources_that_a_jpeg_has_no_room_for_do_not_cost_the_picture():
    block = Image.Exif()
    block[270], block[34377] = "a caption", bytes(80_000)
    back = through(dataclasses.replace(picture(), exif=block.tobytes(), alpha=None), "JPEG")
    assert facts(back.exif)["main"] == {270: "a caption"}


def said(content: bytes) -> tuple:
    with Image.open(io.BytesIO(content)) as image:
        exif = image.getexif()
        return exif.get(33432), exif.get_ifd(0x8769).get(42032)


@pytest.mark.parametrize("raw", ["© Café".encode("latin-1"), "© Café".encode()])
def test_text_beyond_ascii_in_tags_survives(tmp_path, raw):
    grey, tags = np.zeros((16, 16), np.uint8), [(33432, "s", 0, raw, True)]
    tifffile.imwrite(tmp_path / "c.tif", grey, photometric="minisblack", extratags=tags, metadata=None)
    expected = said((tmp_path / "c.tif").read_bytes())[0]
    assert expected.encode("latin-1") == raw
    for form in ("TIFF", "JPEG", "PNG", "WEBP"):
        assert through(read(tmp_path / "c.tif"), form).exif.count(raw) == 1, form
        buffer = io.BytesIO()
        encode(read(tmp_path / "c.tif"), buffer, form)
        assert said(buffer.getvalue())[0] == expected, form


def test_exif_too_long_for_jpeg_loses_its_longest_values_alone(caplog):
    block = Image.Exif()
    block[270] = "a caption"
    block.get_ifd(0x8769).update({37500: bytes(70_000), 42032: "Anna"})
    original = dataclasses.replace(picture(), exif=block.tobytes(), alpha=None)
    assert facts(through(original, "JPEG").exif) == {"main": {270: "a caption"}, "exif": {42032: "Anna"}, "gps": {}}
    assert "too long for JPEG; its longest values are left out" in caplog.text
    assert len(facts(through(original, "PNG").exif)["exif"][37500]) == 70_000


def test_text_beyond_ascii_in_exif_survives_where_a_resolution_is_added():
    exif = Image.Exif()
    exif[33432] = "X Caf\1"
    exif.get_ifd(0x8769)[42032] = "Ren\2"
    block = exif.tobytes().replace(b"X Caf\1", b"\xa9 Caf\xe9").replace(b"Ren\2", b"Ren\xe9")
    content = io.BytesIO()
    Image.new("L", (16, 16)).save(content, "JPEG", exif=block, dpi=(300, 300))
    original = read(content.getvalue())
    for form in ("JPEG", "TIFF", "PNG", "WEBP", *AVIF):
        buffer = io.BytesIO()
        encode(original, buffer, form)
        assert said(buffer.getvalue()) == ("© Café", "René"), form


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG", "WEBP", *AVIF])
def test_text_beyond_ascii_survives_in_a_picture_that_is_turned_and_in_tags_that_a_program_set(form):
    image = Image.new("RGB", (16, 8))
    exif = image.getexif()
    exif[0x0112], exif[33432] = 6, "© Café"
    exif.get_ifd(0x8769)[42032] = "René"
    back = through(from_pil(image), form)
    assert back.size == (16, 8)
    assert facts(back.exif) == {"main": {33432: "© Café"}, "exif": {42032: "René"}, "gps": {}}
    again = through(back, form)
    assert facts(again.exif) == facts(back.exif)


@pytest.mark.parametrize("form", ["JPEG", "BMP", "PNG", "WEBP", *AVIF])
def test_no_encoder_writes_past_the_file_object(form):
    class File(io.BytesIO):
        def fileno(self):
            raise AssertionError("Pillow takes no notice of a full disk when it writes to a descriptor")

    encode(Picture(np.zeros((9, 7, 3), np.uint8)), file := File(), form)
    assert read(file.getvalue(), form).pixels.shape == (9, 7, 3)


def test_xmp_that_a_jpeg_has_no_room_for_is_left_out_and_said(caplog):
    picture = Picture(np.zeros((4, 4), np.uint8), xmp=b"<x>" + bytes(100_000) + b"</x>", name="scan.tif")
    buffer = io.BytesIO()
    encode(picture, buffer, "JPEG")
    assert read(buffer.getvalue()).xmp == b""
    assert "scan.tif: XMP of 100007 bytes, too long for JPEG, is left out" in caplog.text
    longest = Picture(np.zeros((4, 4), np.uint8), xmp=b"x" * MAX_XMP)
    buffer = io.BytesIO()
    encode(longest, buffer, "JPEG")
    assert read(buffer.getvalue()).xmp == longest.xmp


def in_centimetres() -> dict[str, bytes]:
    """Pictures of 120 by 60 pixels a centimetre, as JFIF, TIFF and EXIF say it."""
    grey, files = Image.new("L", (8, 6), 99), {}
    jpeg, tiff, webp = io.BytesIO(), io.BytesIO(), io.BytesIO()
    grey.save(jpeg, "JPEG", dpi=(120, 60))
    content = jpeg.getvalue()
    assert content[6:14] == b"JFIF\0\1\1\1"  # and then the unit: 1 is the inch, 2 the centimetre
    files["JFIF"] = content[:13] + b"\2" + content[14:]
    tifffile.imwrite(tiff, np.asarray(grey), resolution=(120, 60), resolutionunit="CENTIMETER")
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 120, 60, 3
    grey.save(webp, "WEBP", exif=exif)
    return files | {"TIFF": tiff.getvalue(), "EXIF": webp.getvalue()}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", *AVIF])
def test_a_resolution_in_centimetres_stays_what_it_is(form):
    for said_by, content in in_centimetres().items():
        original = read(content)
        assert original.dpi == pytest.approx((304.8, 152.4)), said_by
        assert through(original, form).dpi == pytest.approx((304.8, 152.4), abs=0.5), said_by
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 300, 600, 3  # another unit than its header's
    assert through(Picture(picture().pixels, exif=exif.tobytes(), dpi=(300, 600)), form).dpi == pytest.approx(
        (300, 600), 1e-3
    )


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", *AVIF, *HEIF])
@pytest.mark.parametrize(("said", "by_xmp"), [(1, 6), (6, 1), (6, 6), (None, 8)])
def test_xmp_of_another_orientation_turns_no_picture(form, said, by_xmp):
    file, exif = io.BytesIO(), Image.Exif()
    if said:
        exif[0x0112] = said
    packet = b'<x xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/>' % by_xmp
    Image.fromarray(data.camera()[:96, :160]).save(file, "JPEG", exif=exif, xmp=packet)
    original = read(file.getvalue())
    assert original.orientation == (said or by_xmp)
    back = through(original, form)
    assert back.size == original.size
    before, after = (turned(one.pixels, one.orientation) for one in (original, back))
    assert np.abs(after.reshape(len(before), -1).mean(axis=1) - before).mean() < 3


@pytest.mark.skipif(not HEIF, reason="needs pillow-heif")
def test_the_resolution_of_a_heic_is_that_of_the_picture_upright():
    original = picture(orientation=6, dpi=(300.0, 600.0))
    back = through(original, "HEIF")
    assert (back.orientation, back.size, back.dpi) == (1, original.size, (600, 300))
    for form in ("JPEG", "HEIF"):
        again = through(back, form)
        assert again.dpi == (600, 300)
        exif = Image.Exif()
        exif.load(again.exif)
        assert (exif[282], exif[283]) == (600, 300)


def test_floats_are_rounded_to_16_bits():
    values = np.linspace(0, 1, 20_000, dtype=np.float32).reshape(100, 200)
    assert np.array_equal(through(Picture(values), "PNG").pixels, (values * 65535.0).round())

import io
import os
import random
import struct
import zlib

import numpy as np
import pytest
import tifffile
from fake_pictures import chunk
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo
from skimage import data
from test_profiles import WHITE, gamma, icc, sampled, xyz

from tinct.data.decode import decode
from tinct.errors import PictureError
from tinct.pictures.metadata import load_exif
from tinct.pictures.readers import MAX_BYTES, from_pil, read
from tinct.pictures.writers import encode

RNG = np.random.default_rng(0)


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, kind: int, body: bytes, *extra: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("mode", "colour", "alpha"),
    [
        ("1", False, False),
        ("L", False, False),
        ("LA", False, True),
        ("P", True, False),
        ("RGB", True, False),
        ("RGBA", True, True),
        ("CMYK", True, False),
        ("LAB", True, False),
    ],
)
def test_every_mode_is_read(mode, colour, alpha):
    photo = Image.fromarray(data.astronaut()[:40, :60])
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(photo, *profiles, outputMode="LAB")
    else:
        image = photo.convert(mode)
    back = read(saved(image, "TIFF"))
    assert back.pixels.shape == ((40, 60, 3) if colour else (40, 60))
    assert (back.alpha is not None) == alpha
    if colour:
        assert np.abs(back.pixels.astype(int) - np.asarray(image.convert("RGB") if mode != "LAB" else photo)).mean() < 3


def test_an_exif_thumbnail_is_left_out_and_the_rest_kept():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Leica"
    directory = exif.tobytes()
    # a second directory, which says where a thumbnail is
    start = len(directory) - 6
    link = 6 + 8 + 2 + 12
    thumbnail = struct.pack("<HHHII", 1, 513, 4, 1, 0) + bytes(4)
    order = "<" if directory[6:8] == b"II" else ">"
    block = directory[:link] + struct.pack(order + "I", start) + directory[link + 4 :] + thumbnail
    back = read(saved(Image.new("L", (8, 8)), "JPEG", exif=block))
    kept = Image.Exif()
    kept.load(back.exif)
    assert kept[ExifTags.Base.Make] == "Leica"
    assert back.exif[link : link + 4] == bytes(4)


def test_comments_in_latin_1_and_a_transparent_black(tmp_path):
    assert read(saved(Image.new("L", (8, 8)), "JPEG", comment=b"caf\xe9")).text == {"Comment": "caf\xe9"}
    two = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert read(saved(two, "PNG", transparency=0)).alpha.tolist() == [[0, 255], [255, 0]]


def test_a_profile_that_is_told_as_text_is_no_text_of_the_result():
    text = PngInfo()
    for key in ("Title", "Raw profile type exif", "Raw profile type icc"):
        text.add_text(key, "of the grey picture")
    assert read(saved(Image.new("L", (4, 3)), "PNG", pnginfo=text)).text == {"Title": "of the grey picture"}


def test_a_transparent_colour_becomes_alpha_at_8_and_16_bits():
    grey = np.array([[0, 7], [7, 255]], np.uint8)
    shallow = read(saved(Image.fromarray(grey), "PNG", transparency=7))
    assert shallow.alpha.tolist() == [[255, 0], [0, 255]]
    rows = b"".join(b"\0" + row.tobytes() for row in grey.astype(">u2"))
    deep = read(png(2, 2, 16, 0, zlib.compress(rows), chunk(b"tRNS", struct.pack(">H", 7))))
    assert deep.alpha.tolist() == [[65535, 0], [0, 65535]]
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)
    coloured = read(png(2, 2, 16, 2, zlib.compress(rows), chunk(b"tRNS", struct.pack(">3H", 7, 7, 7))))
    assert coloured.alpha.tolist() == [[65535, 0], [0, 65535]]


def test_a_profile_is_applied():
    wide = ImageCms.ImageCmsProfile(io.BytesIO(display_p3()))
    photo = Image.fromarray(data.astronaut()[:64, :64])
    to_wide = ImageCms.profileToProfile(photo, ImageCms.createProfile("sRGB"), wide)
    back = read(saved(to_wide, "PNG", icc_profile=wide.tobytes()))
    assert np.abs(back.pixels.astype(int) - np.asarray(photo)).mean() < 1
    assert np.abs(np.asarray(to_wide).astype(int) - np.asarray(photo)).mean() > 3


def display_p3() -> bytes:
    primaries = {
        b"rXYZ": xyz(0.515, 0.241, -0.001),
        b"gXYZ": xyz(0.292, 0.692, 0.042),
        b"bXYZ": xyz(0.157, 0.067, 0.784),
    }
    curve = sampled(2.2)
    return icc({**WHITE, **primaries, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}, b"RGB ")


def test_broken_exif_costs_exif_only():
    content = saved(Image.fromarray(data.camera()[:32, :32]), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(8))
    back = read(content)
    assert back.pixels.shape == (32, 32)
    assert back.orientation == 1


@pytest.mark.parametrize("block", [b"\xff\xff\xff\xff\0\0\0\x08", b"MM\0*\0"], ids=["no header", "cut off"])
def test_exif_that_nobody_reads_costs_no_format_its_result(block):
    back = read(saved(Image.new("L", (32, 32), 7), "JPEG", exif=b"Exif\0\0" + block))
    assert back.exif == b""
    for form in ("TIFF", "AVIF"):
        encode(back, io.BytesIO(), form)


def test_a_resolution_that_no_file_holds_is_none():
    exif = Image.Exif()
    exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = 4294967295.0
    exif[ExifTags.Base.ResolutionUnit] = 2
    back = read(saved(Image.new("L", (32, 32), 7), "JPEG", exif=exif))
    assert back.dpi is None
    for form in ("PNG", "BMP"):
        encode(back, io.BytesIO(), form)


def test_kinds_that_would_lose_something_are_refused():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    with pytest.raises(PictureError, match="holds 2 pictures"):
        read(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    with pytest.raises(PictureError, match="holds 2 pictures"):
        read(saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    with pytest.raises(PictureError, match="32 bits"):
        read(saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))
    with pytest.raises(PictureError, match="not a picture"):
        read(saved(frames[0], "GIF"))


BOMBS = {
    "a size of 65535 x 65535": png(65535, 65535, 8, 2, zlib.compress(bytes(1000))),
    "2 billion columns": png(2**31 - 1, 1, 8, 0, zlib.compress(bytes(1000))),
    "a profile of 128 MB": png(4, 4, 8, 2, b"", chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(1 << 27)))),
    "a text of 128 MB": png(4, 4, 8, 2, b"", chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 27)))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_decompression_bombs_are_one_sentence(name):
    with pytest.raises(PictureError) as caught:
        read(BOMBS[name], "bomb.png")
    assert str(caught.value).startswith("bomb.png: ")
    assert "\n" not in str(caught.value)


def test_absent_empty_and_special_files_are_one_sentence(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    for name, reason in (
        ("absent.jpg", "No such file"),
        ("empty.jpg", "empty"),
        ("pipe.jpg", "not a regular file"),
        ("folder.jpg", "not a regular file"),
        ("huge.jpg", "over the limit"),
    ):
        with pytest.raises(PictureError, match=reason) as caught:
            read(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "AVIF", "PNG16", "TIFF16", "TIFF16A"])
def test_fuzzed_files_are_read_or_one_sentence(form):
    photo = data.astronaut()[:48, :48]
    if form == "PNG16":
        rows = b"".join(b"\0" + row.tobytes() for row in (photo.astype(">u2") * 257))
        content = png(48, 48, 16, 2, zlib.compress(rows))
    elif form.startswith("TIFF16"):
        buffer = io.BytesIO()
        kind, extra = ("minisblack", ["unassalpha"]) if form == "TIFF16A" else ("rgb", None)
        deep = photo[..., : 2 if extra else 3].astype(np.uint16) * 257
        tifffile.imwrite(buffer, deep, photometric=kind, extrasamples=extra, planarconfig="contig", compression="zlib")
        content = buffer.getvalue()
    else:
        content = saved(Image.fromarray(photo), form)
    draw = random.Random(form)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 6)):
            damaged[draw.randrange(min(len(damaged), 300))] = draw.randrange(256)
        if draw.random() < 0.3:
            del damaged[draw.randrange(len(damaged)) :]
        try:
            assert read(bytes(damaged)).pixels.size
        except PictureError as error:
            assert "\n" not in str(error)  # noqa: PT017  (either outcome is right)


@pytest.mark.parametrize("peak", [4095, 65535])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_pgm_that_pillow_has_opened_is_one_of_16_bits(peak, loaded):
    image = Image.open(io.BytesIO(f"P5\n3 1\n{peak}\n".encode() + np.array([0, 1234, peak], ">u2").tobytes()))
    if loaded:
        image.load()
    picture = from_pil(image)
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels.tolist() == [[0, round(1234 / peak * 65535), 65535]]


def test_a_pillow_image_of_16_bits_keeps_them():
    grey = RNG.integers(0, 65536, (8, 9), dtype=np.uint16)
    assert np.array_equal(from_pil(Image.fromarray(grey)).pixels, grey)


@pytest.mark.parametrize(("depth", "row", "key", "step"), [(2, 0b00011011, 3, 85), (4, 0x5A, 10, 17), (8, 7, 7, 1)])
def test_the_transparent_grey_of_a_png_of_few_bits(depth, row, key, step):
    values = [row >> shift & (1 << depth) - 1 for shift in range(8 - depth, -1, -depth)]
    body = zlib.compress(bytes([0, row]))
    back = read(png(len(values), 1, depth, 0, body, chunk(b"tRNS", struct.pack(">H", key))))
    assert back.pixels.tolist() == [[value * step for value in values]]
    assert back.alpha is not None
    assert back.alpha.tolist() == [[0 if value == key else 255 for value in values]]


def test_an_image_whose_exif_is_none_is_read():
    image = Image.new("L", (4, 3), 7)
    image.info["exif"] = None  # as pillow-heif leaves it
    assert from_pil(image).exif == b""


def test_heic_without_its_reader_names_the_remedy(monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    with pytest.raises(PictureError, match=r"pip install 'tinct\[heic\]'"):
        read(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


def test_the_orientation_outlives_a_tag_that_cannot_be_kept():
    image = Image.new("L", (4, 3), 7)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    exif.tobytes = None  # what a tag of the wrong kind comes to
    assert from_pil(image).orientation == 6


def test_photoshops_thumbnail_is_left_out_and_the_rest_of_its_resources_kept():
    def resource(number, content, name=b""):
        named = bytes([len(name)]) + name + bytes((len(name) + 1) % 2)
        return (
            b"8BIM"
            + number.to_bytes(2, "big")
            + named
            + struct.pack(">I", len(content))
            + content
            + bytes(len(content) % 2)
        )

    kept = resource(1028, b"iptc!"), resource(2000, b"path", b"Path 1")
    blocks = b"Photoshop 3.0\0" + kept[0] + resource(1036, b"thumbnail") + resource(1033, b"older") + kept[1]
    extra = b"\xff\xed" + (len(blocks) + 2).to_bytes(2, "big") + blocks
    back = read(saved(Image.new("L", (4, 3), 7), "JPEG", extra=extra))
    assert back.photoshop[4:] == b"Photoshop 3.0\0" + b"".join(kept)
    file, whole = io.BytesIO(), b"".join((kept[0], resource(1036, b"thumbnail"), kept[1]))
    tifffile.imwrite(file, np.zeros((4, 4), np.uint8), extratags=[(34377, 1, len(whole), whole, True)])
    assert load_exif(read(file.getvalue()).exif)[34377] == b"".join(kept)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("swapped", [False, True])
def test_captions_stored_as_numbers_are_kept_whole(order, swapped):
    iptc = b"\x1c\x02\x78\x00\x0fA long caption!"
    numbers = np.frombuffer(iptc, order + "u4").byteswap() if swapped else np.frombuffer(iptc, order + "u4")
    tags, file = [(33723, 4, len(numbers), numbers.tolist(), True)], io.BytesIO()
    tifffile.imwrite(file, np.zeros((4, 4), np.uint8), byteorder=order, extratags=tags)
    image = Image.open(file)
    assert load_exif(from_pil(image).exif)[33723] == iptc
    block = read(file.getvalue()).exif
    assert load_exif(read(saved(Image.new("L", (4, 3), 7), "JPEG", exif=block)).exif)[33723] == iptc


def test_colours_in_planes_are_refused_where_they_would_be_misread():
    file, planes = io.BytesIO(), np.arange(3 * 64, dtype=np.uint16).reshape(3, 8, 8) * 300
    tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read(file.getvalue()).pixels, np.moveaxis(planes, 0, -1))
    for misreading in (lambda: decode(file.getvalue()), lambda: from_pil(Image.open(file))):
        with pytest.raises(PictureError, match="16-bit colours in separate planes"):
            misreading()


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((4, 8, 8), np.uint16), {"photometric": "separated"}),
        (np.full((2, 8, 8), 200, np.uint8), {"extrasamples": ["unassalpha"], "compression": "zlib"}),
    ],
    ids=["cmyk", "alpha"],
)
def test_other_planes_that_pillow_misreads_are_refused(samples, said):
    file = io.BytesIO()
    tifffile.imwrite(file, samples, planarconfig="separate", **{"photometric": "minisblack"} | said)
    for reader in (read, decode):
        with pytest.raises(PictureError, match="in separate planes; save it with"):
            reader(file.getvalue())


@pytest.mark.parametrize(("kind", "value"), [(4, 300_000_000), (12, 1.5)])
def test_a_number_where_xmp_should_be_is_none(kind, value):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((4, 4, 3), np.uint8), photometric="rgb", extratags=[(700, kind, 1, value, True)])
    assert read(file.getvalue()).xmp == b""
    assert decode(file.getvalue()).shape == (4, 4, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["1", "L", "I;16", "RGB", "RGBA"])
def test_a_tiff_opened_by_name_is_upright_whichever_way_it_lies(tmp_path, mode, compression):
    grey = data.camera()[40:200:4, :240:4]
    stored = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        path = tmp_path / f"{orientation}.tif"
        stored.save(path, compression=compression, exif=exif, dpi=(300, 600))
        stored.getexif()[ExifTags.Base.Orientation] = orientation
        expected = np.asarray(ImageOps.exif_transpose(stored))
        for back in (read(path), read(path.read_bytes()), from_pil(Image.open(path))):
            pixels = back.pixels if back.alpha is None else np.dstack((back.pixels, back.alpha))
            assert np.array_equal(pixels, expected * (255 if mode == "1" else 1)), orientation
            assert back.orientation == 1
            assert back.dpi == pytest.approx((600, 300) if orientation > 4 else (300, 600))


def test_a_smaller_copy_in_a_tiff_lends_it_neither_resolution_nor_profile():
    file, grey = io.BytesIO(), icc({**WHITE, b"kTRC": gamma(1.0)}, b"GRAY")
    with tifffile.TiffWriter(file) as tiff:
        tiff.write(np.full((40, 40), 77, np.uint8))
        profile = (34675, 7, len(grey), grey, True)
        tiff.write(np.full((10, 10), 77, np.uint8), subfiletype=1, resolution=(72, 72), extratags=[profile])
    back = read(file.getvalue())
    assert (back.pixels == 77).all()
    assert back.dpi != (72, 72)


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG"])
def test_a_tiff_that_states_no_resolution_gets_none(form):
    picture = read(saved(Image.new("I;16", (16, 16), 3000), "TIFF"))
    assert picture.dpi is None
    result = io.BytesIO()
    encode(picture, result, form)
    assert read(result.getvalue()).dpi is None


def test_smaller_copies_in_a_tiff_are_no_further_pictures(tmp_path):
    grey = data.camera()[::4, ::4]
    for name, kinds in (("pyramid", (1, 1)), ("pages", (0, 1))):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            file.write(grey)
            for kind in kinds:
                file.write(grey[::2, ::2], subfiletype=kind)
    assert np.array_equal(read(tmp_path / "pyramid.tif").pixels, grey)
    with pytest.raises(PictureError, match="holds 2 pictures; split it"):
        read(tmp_path / "pages.tif")


def test_a_page_of_an_opened_tiff_is_given_as_a_copy():
    pages = [Image.new("L", (8, 8), level) for level in (9, 99)]
    with Image.open(io.BytesIO(saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]))) as album:
        album.seek(1)
        with pytest.raises(PictureError, match=r"holds 2 pictures; give a copy\(\) of the one that is meant"):
            from_pil(album)
        assert (from_pil(album.copy()).pixels == 99).all()


@pytest.mark.parametrize("tags", [[(50706, 1, 4, b"\1\4\0\0", True)], []])
def test_a_raw_files_preview_is_not_taken_for_the_picture(tags):
    file, grey = io.BytesIO(), data.camera()[::4, ::4]
    with tifffile.TiffWriter(file) as raw:
        raw.write(grey[::4, ::4], subfiletype=1, subifds=1, extratags=tags)
        raw.write(grey.astype(np.uint16), subfiletype=0)
    with pytest.raises(PictureError, match="raw file, of which only a preview could be read; develop it to TIFF"):
        read(file.getvalue())


def test_a_lone_page_that_calls_itself_a_smaller_copy_is_read():
    file, grey = io.BytesIO(), data.camera()[::4, ::4]
    tifffile.imwrite(file, grey, subfiletype=1)
    assert np.array_equal(read(file.getvalue()).pixels, grey)


def test_signed_bytes_are_refused():
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8), np.int8))
    with pytest.raises(PictureError, match="signed samples"):
        read(file.getvalue())


PHONES_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"
 xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="A0B1"
 xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" GPano:UsePanoramaViewer="True">
<dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">Zürich &amp; Oma</dc:title>
<C:Directory xmlns:C="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/"><rdf:Seq>
<rdf:li rdf:parseType="Resource"><C:Item Item:Mime="video/mp4" Item:Length="2460000"/></rdf:li>
</rdf:Seq></C:Directory>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def test_xmp_names_no_part_that_is_not_carried():
    kept = read(saved(Image.new("L", (8, 8)), "JPEG", xmp=PHONES_XMP.encode())).xmp.decode()
    for gone in ("hdr", "GCamera", "Note", "Item", "Directory", "video"):
        assert gone not in kept
    for there in ("Zürich &amp; Oma", 'GPano:UsePanoramaViewer="True"', 'begin="\ufeff"', 'xpacket end="w"'):
        assert there in kept
    deep = b'<h:a xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/"/>'
    deep = b"<a>" * 3000 + deep + b"</a>" * 3000
    for packet in (PHONES_XMP[:900].encode(), deep, b"<x/>"):  # broken; of no program; of no phone
        assert read(saved(Image.new("L", (8, 8)), "JPEG", xmp=packet)).xmp == packet

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from torchvision.datasets import VOCDetection, VOCSegmentation

from tinct.data.base import VOID
from tinct.data.decode import MAX_BYTES
from tinct.data.sources import open_evaluated, open_sources
from tinct.data.voc import CLASSES, Voc
from tinct.downstream.examples import open_labels
from tinct.errors import PictureError, TinctError
from tinct.pretraining.preparation import hashes_to_avoid

OBJECT = "<object><name>{}</name><difficult>{}</difficult><part><name>head</name></part></object>"


def write_picture(root: Path, name: str, objects: list[tuple[str, int]], size=(20, 12)) -> None:
    generator = np.random.default_rng(len(name) + len(objects))
    Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(
        root / "JPEGImages" / f"{name}.jpg"
    )
    xml = "".join(OBJECT.format(kind, difficult) for kind, difficult in objects)
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation><filename>{name}.jpg</filename>{xml}</annotation>")
    mask = Image.fromarray(generator.choice([0, 3, 20, VOID], (size[1], size[0])).astype(np.uint8))
    mask.putpalette(list(range(256)) * 3)
    mask.save(root / "SegmentationClass" / f"{name}.png")


@pytest.fixture
def devkit(tmp_path):
    """A VOCdevkit of two years; the pictures for segmentation are fewer than those for multilabel."""
    for year in ("2007", "2012"):
        root = tmp_path / "VOCdevkit" / f"VOC{year}"
        for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
            (root / folder).mkdir(parents=True)
        write_picture(root, f"{year}_a", [("cat", 0), ("cat", 1), ("person", 1)])
        write_picture(root, f"{year}_b", [("dog", 1), ("dog", 0), ("train", 0)], size=(9, 17))
        write_picture(root, f"{year}_c", [])
        (root / "ImageSets/Main/train.txt").write_text(f"{year}_b\n{year}_a\n{year}_c\n")
        (root / "ImageSets/Main/cat_train.txt").write_text(f"{year}_a  1\n")
        (root / "ImageSets/Segmentation/train.txt").write_text(f"{year}_b\n{year}_a\n")
    return tmp_path


def test_multilabels_are_those_of_torchvisions_reader(devkit):
    source = Voc(f"{devkit}@2012", "train", "multilabel")
    reference = VOCDetection(devkit, "2012", "train")
    assert [str(source.path(index)) for index in range(3)] == reference.images
    for index, row in enumerate(source.labels()):
        objects = reference[index][1]["annotation"].get("object", [])
        easy = {entry["name"] for entry in objects if entry["difficult"] == "0"}
        hard = {entry["name"] for entry in objects if entry["difficult"] == "1"} - easy
        assert {CLASSES[column] for column in np.flatnonzero(row == 1)} == easy
        assert {CLASSES[column] for column in np.flatnonzero(np.isnan(row))} == hard
        np.testing.assert_array_equal(source.picture(index), np.asarray(reference[index][0]))
    assert source.mask_classes == ()


def test_masks_are_those_of_torchvisions_reader(devkit):
    source = Voc(f"{devkit}/VOCdevkit@2007", "train", "segmentation")
    reference = VOCSegmentation(devkit, "2007", "train")
    assert len(source) == len(reference) == 2
    for index in range(2):
        np.testing.assert_array_equal(source.mask(index), np.asarray(reference[index][1]))
    presence = open_labels(f"voc:{devkit}/VOCdevkit@2007", "train", "segmentation", 32).presence
    assert [row.nonzero()[0].tolist() for row in presence] == [[0, 3, 20], [0, 3, 20]]
    assert (source.classes, len(source.mask_classes), source.background) == ((), 21, 0)


@pytest.mark.parametrize(
    ("path", "year"),
    [
        ("", "2012"),
        ("@2007", "2007"),
        ("/VOCdevkit", "2012"),
        ("/VOCdevkit/VOC2007", "2007"),
        ("/VOCdevkit/VOC2012@2012", "2012"),
    ],
)
def test_every_way_to_name_the_folder(devkit, path, year):
    source = Voc(f"{devkit}{path}", "train", "multilabel")
    assert source.name(0) == f"JPEGImages/{year}_b.jpg"
    assert source.spec == f"voc:{devkit}{path}"


@pytest.mark.parametrize(
    ("path", "split", "message"),
    [
        ("@2010", "train", "no VOC of 2010"),
        ("/VOCdevkit/VOC2007@2012", "train", "no VOC of 2012"),
        ("/nowhere", "train", "no VOC in it"),
        ("", "val", "the lists there for multilabel are: train$"),
    ],
)
def test_wrong_paths_and_splits_are_named(devkit, path, split, message):
    with pytest.raises(TinctError, match=message):
        Voc(f"{devkit}{path}", split, "multilabel")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><object>", "2012_c.xml.*VOC annotation"),
        ("<annotation><object><name>yak</name></object></annotation>", "2012_c.xml.*'yak'"),
        (None, "2012_c.xml: No such file"),
    ],
)
def test_bad_annotations_are_named(devkit, content, message):
    path = devkit / "VOCdevkit/VOC2012/Annotations/2012_c.xml"
    path.write_text(content) if content else path.unlink()
    with pytest.raises(TinctError, match=message):
        Voc(str(devkit), "train", "multilabel").labels()


def test_a_list_that_is_not_in_utf8_is_named(devkit):
    (devkit / "VOCdevkit/VOC2012/ImageSets/Main/val.txt").write_bytes(b"caf\xe9\n")
    for read in (lambda: Voc(str(devkit), "val", "multilabel"), lambda: open_sources([str(devkit)])):
        with pytest.raises(TinctError, match=r"val\.txt: .* can't decode byte 0xe9 .*; expected a list in UTF-8"):
            read()


def test_a_picture_listed_twice_counts_once(devkit):
    path = devkit / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main" / "train.txt"
    before = len(Voc(str(devkit / "VOCdevkit"), "train", "multilabel"))
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    assert len(Voc(str(devkit / "VOCdevkit"), "train", "multilabel")) == before


def test_a_split_without_positives_is_refused(devkit):
    (devkit / "VOCdevkit/VOC2012/ImageSets/Main/val.txt").write_text("2012_c\n")
    with pytest.raises(TinctError, match="val split has no positive"):
        Voc(str(devkit), "val", "multilabel").labels()


HEADER = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 1, 3, 0, 0, 0)
BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + struct.pack(">I", 13)
    + HEADER
    + struct.pack(">I", zlib.crc32(HEADER))
    + struct.pack(">I", 9)
    + b"IDAT"
)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((12, 21), np.uint8), "2012_a.png: a mask of 21x12 for 2012_a.jpg of 20x12"),
        (np.full((12, 20), 77, np.uint8), "2012_a.png: unknown mask value 77; expected 0 to 20"),
        (np.zeros((12, 20, 3), np.uint8), "2012_a.png: a mask of mode RGB"),
        (b"no picture", "2012_a.png: cannot be read as a mask"),
        (None, "2012_a.png: cannot be read as a mask: No such file"),
        (BOMB, "2012_a.png: cannot be read as a mask: over the limit of 178956970 pixels"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 12\n%%EOF\n",
            "2012_a.png: cannot be read as a mask: not a picture",
        ),
    ],
)
def test_bad_masks_are_named(devkit, mask, message):
    path = devkit / "VOCdevkit/VOC2012/SegmentationClass/2012_a.png"
    path.unlink()
    if isinstance(mask, bytes):
        path.write_bytes(mask)
    elif mask is not None:
        Image.fromarray(mask).save(path)
    with pytest.raises(PictureError, match=message):
        Voc(str(devkit), "train", "segmentation").mask(1)


def test_masks_are_held_to_the_limits_of_pictures(devkit):
    path = devkit / "VOCdevkit/VOC2012/SegmentationClass/2012_a.png"

    def refusal():
        with pytest.raises(PictureError) as caught:
            Voc(str(devkit), "train", "segmentation").mask(1)
        return str(caught.value)

    tifffile.imwrite(path, np.zeros((16, 16), np.uint8), tile=(16, 16))
    header = bytearray(path.read_bytes())
    for tag in (322, 323):  # width and height of tiles
        place = header.index(struct.pack("<HHI", tag, 4, 1)) + 8
        header[place : place + 4] = struct.pack("<I", 24_000)
    path.write_bytes(header)
    assert "cannot be read as a mask: tiles of 24000x24000 for a picture of 16x16 pixels" in refusal()
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert "bytes, over the limit" in refusal()
    path.unlink()
    os.mkfifo(path)
    assert refusal().endswith("2012_a.png: cannot be read as a mask: not a regular file")


def test_a_picture_that_either_task_evaluates_is_held_out(devkit):
    sets = devkit / "VOCdevkit" / "VOC2012" / "ImageSets"
    (sets / "Main/val.txt").write_text("2012_c\n")
    (sets / "Main/train.txt").write_text("2012_a\n2012_b\n")
    (sets / "Segmentation/val.txt").write_text("2012_b\n")
    (sets / "Segmentation/train.txt").write_text("2012_a\n")
    (sets / "Segmentation/test.txt").write_text("2012_c\n")  # there twice, looked at once

    def names(source):
        return [Path(source.name(index)).stem for index in range(len(source))]

    spec = f"voc:{devkit}@2012"
    train = open_sources([spec])
    assert names(train) == ["2012_a"]
    assert train.picture(0).shape == (12, 20, 3)
    assert sorted(names(open_evaluated(spec))) == ["2012_b", "2012_c"]
    assert len(hashes_to_avoid([spec])) == 2
    with pytest.raises(TinctError, match="val"):
        open_evaluated(f"voc:{devkit}@2007")

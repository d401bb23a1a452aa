import itertools
import os
import pickle
import sys

import numpy as np
import pytest
from fake_pictures import names
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinct.data.base import fingerprint_of
from tinct.data.classfolders import ClassFolders
from tinct.data.folder import PathSource, open_folder
from tinct.data.sources import results_in
from tinct.errors import PictureError, TinctError


def touch(folder, *files):
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_link_to_itself_is_a_broken_picture_among_others(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    source = open_folder(tmp_path)
    assert names(source) == ["a.png", "circle.png"]
    with pytest.raises(PictureError, match=r"circle\.png: Too many levels"):
        source.picture(1)


def test_a_folder_is_read_recursively_in_order(tmp_path):
    touch(
        tmp_path, "b.jpg", "a/z.PNG", "a/notes.txt", "c/d/e.jpeg", ".hidden.jpg", ".thumbs/x.jpg", "é.webp", "table.csv"
    )
    Image.new("RGB", (6, 4), "red").save(tmp_path / "b.jpg")
    source = open_folder(str(tmp_path))
    assert names(source) == ["a/z.PNG", "b.jpg", "c/d/e.jpeg", "é.webp"]
    assert source.picture(1).shape == (4, 6, 3)
    with pytest.raises(PictureError, match=r"a/z.PNG: empty file"):
        source.picture(0)
    assert (source.spec, source.split) == (str(tmp_path), "train")


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "set/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/gone.jpg").symlink_to(tmp_path / "nothing")
    source = open_folder(str(tmp_path / "set"))
    assert names(source) == ["a.jpg", "gone.jpg", "more/b.jpg"]
    with pytest.raises(PictureError, match=r"gone.jpg: No such file"):
        source.picture(1)


def test_any_file_name_survives(tmp_path):
    odd = ["a\nb.jpg", os.fsdecode(b"\xff\xfe.jpg"), " c .jpg", "d\re.jpg"]
    touch(tmp_path, *odd)
    source = open_folder(str(tmp_path))
    assert sorted(names(source)) == sorted(odd)
    assert all(source.path(index).exists() for index in range(4))
    assert source.fingerprint() == fingerprint_of(names(source))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"x.jpg\nsub/y.jpg\n/abs/z.jpg", ["x.jpg", "sub/y.jpg", "/abs/z.jpg"]),
        (b"\xef\xbb\xbfx.jpg\r\n\r\n\r\ny.jpg\r\n", ["x.jpg", "y.jpg"]),
        (b"\n\nx y.jpg\n\n\ny.jpg\n\n", ["x y.jpg", "y.jpg"]),
        (b" \n\t\n x.jpg \t\n  \n\n y  z.jpg \r\n \t", [" x.jpg", " y  z.jpg"]),
        (b"x.jpg ", ["x.jpg"]),
    ],
)
def test_a_text_file_of_paths(tmp_path, text, expected):
    (tmp_path / "list.txt").write_bytes(text)
    source = open_folder(str(tmp_path / "list.txt"))
    assert names(source) == expected
    assert [str(source.path(index)) for index in range(len(source))] == [
        os.path.join(tmp_path, name) for name in expected
    ]
    assert source.fingerprint() == fingerprint_of(expected)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1), max_size=20))
def test_names_come_back_and_are_fingerprinted_as_they_are(listed):
    listed = [name.removeprefix("\ufeff") or "x" for name in listed]
    source = PathSource(listed)
    assert names(source) == listed
    assert source.fingerprint() == fingerprint_of(listed)
    assert names(pickle.loads(pickle.dumps(source))) == listed
    assert names(PathSource("".join(name + "\n" for name in listed).encode())) == listed


def test_a_long_list_takes_little_more_than_its_characters():
    listed = [f"folder-{index % 1000:04}/picture-{index:08}.jpg" for index in range(700_000)]  # over 2^24 bytes
    source = PathSource("".join(name + "\n" for name in listed).encode())
    assert len(source) == len(listed)
    assert [source.name(index) for index in range(0, 700_000, 9973)] == listed[::9973]
    held = sum(
        sys.getsizeof(value) if isinstance(value, bytes) else getattr(value, "nbytes", 0)
        for value in vars(source).values()
    )
    assert held <= sum(map(len, listed)) + 9.01 * len(listed)


def test_a_moved_folder_keeps_its_fingerprint(tmp_path):
    touch(tmp_path, "here/a.jpg", "there/a.jpg", "other/b.jpg")
    here, there, other = (open_folder(str(tmp_path / name)).fingerprint() for name in ("here", "there", "other"))
    assert here == there != other


def voc(folder):
    touch(folder, *(f"JPEGImages/{name}.jpg" for name in "abcdef"), "SegmentationClass/a.png", "Annotations/a.xml")
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Segmentation").mkdir()
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (folder / "ImageSets/Main/dog_train.txt").write_text("e 1\n")
    (folder / "ImageSets/Main/val.txt").write_text("d\n  \n")
    (folder / "ImageSets/Segmentation/train.txt").write_text("c\nd\n")
    (folder / "ImageSets/Segmentation/val.txt").write_text("b\n")


@pytest.mark.parametrize("start", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_a_vocdevkit_gives_its_training_pictures_of_all_years(tmp_path, start):
    voc(tmp_path / "VOCdevkit/VOC2012")
    voc(tmp_path / "VOCdevkit/VOC2007")
    years = 1 if start.endswith("2012") else 2

    def stems(split):
        return "".join(path[-5] for path in names(open_folder(str(tmp_path / start), split)))

    assert stems("train") == "ac" * years  # b and d are held out by one of the two tasks
    assert stems("val") == "bd" * years
    assert stems("all") == "abcdef" * years
    with pytest.raises(TinctError, match=r"no pictures of the test split .* --split all"):
        stems("test")


@pytest.mark.parametrize("prefix", ["", "images/"])
def test_a_coco_root_gives_the_newest_train_folder(tmp_path, prefix):
    touch(
        tmp_path,
        *(f"{prefix}{name}/1.jpg" for name in ("train2014", "val2014", "train2017", "val2017", "unlabeled2017")),
    )
    touch(tmp_path, "annotations/panoptic_train2017/1.png")
    assert names(open_folder(str(tmp_path))) == [f"{prefix}train2017/1.jpg"]
    assert names(open_folder(str(tmp_path), "val")) == [f"{prefix}val2017/1.jpg"]
    assert len(open_folder(str(tmp_path), "all")) == 5


def test_folders_of_splits(tmp_path):
    touch(
        tmp_path, "tiny/train/n01/images/a.JPEG", "tiny/train/test/b.JPEG", "tiny/val/images/c.JPEG", "tiny/sheet.png"
    )
    assert names(open_folder(str(tmp_path / "tiny"))) == ["train/n01/images/a.JPEG", "train/test/b.JPEG"]
    assert names(open_folder(str(tmp_path / "tiny"), "val")) == ["val/images/c.JPEG"]
    assert len(open_folder(str(tmp_path / "tiny"), "all")) == 4
    touch(tmp_path, "CamVid/train/a.jpg", "CamVid/trainannot/a.png", "CamVid/val/b.jpg", "CamVid/valannot/b.png")
    assert names(open_folder(str(tmp_path / "CamVid"))) == ["train/a.jpg"]
    assert names(open_folder(str(tmp_path / "CamVid"), "all")) == ["train/a.jpg", "val/b.jpg"]
    # nested: each set on its own
    assert len(open_folder(str(tmp_path))) == 3
    # a class of trains is no split
    touch(tmp_path, "vehicles/car/a.jpg", "vehicles/train/b.jpg", "vehicles/mask/c.jpg")
    assert len(open_folder(str(tmp_path / "vehicles"))) == 3


def test_masks_beside_images_are_no_photographs(tmp_path):
    touch(tmp_path, "images/a.jpg", "masks/a.png", "groundTruth/a.png", "Annotations/b.png")
    assert names(open_folder(str(tmp_path), "all")) == ["images/a.jpg"]


@pytest.mark.parametrize("files", [("record.json",), ("predictions.json",), ("config.yaml", "log.jsonl")])
def test_what_tinct_wrote_is_no_photograph(tmp_path, files):
    for name in ("A/a.png", "A/out/overlays/a.png", "B/b.png", "out/samples/step-1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "A" / "record.json").write_text("{}")  # somebody else's
    for folder, name in itertools.product(("A/out", "out"), files):
        (tmp_path / folder / name).write_text('{"what": "predict"}')
    source = open_folder(str(tmp_path))
    assert names(source) == ["A/a.png", "B/b.png"]
    assert results_in(source) == [f"{tmp_path}/A/out", f"{tmp_path}/out"]
    assert len(open_folder(str(tmp_path / "out"))) == 1  # asked for by name
    assert ClassFolders(str(tmp_path), "train", "multilabel").classes == ("A", "B")


def test_wrong_paths_say_what_was_expected(tmp_path):
    touch(tmp_path, "empty/notes.txt", "a.jpg", "blank.txt")
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    for name, reason in {
        "absent": "absent: No such file or directory; expected a folder of pictures or a text file of paths",
        "empty": r"empty: no pictures of the train split \(files such as \*.jpg",
        "a.jpg": "a single file; expected a folder",
        "blank.txt": "no pictures",
        "program": "not a text file; expected one path",
    }.items():
        with pytest.raises(TinctError, match=reason) as caught:
            open_folder(str(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_names_are_found_in_numpy_positions():
    source = PathSource(["a.jpg", "b.jpg"])
    assert source.name(np.int64(1)) == "b.jpg"

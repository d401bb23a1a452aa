from pathlib import Path

import numpy as np
import pytest
from fake_pictures import names
from PIL import Image
from torchvision.datasets import ImageFolder

from tinct.data.classfolders import ClassFolders
from tinct.errors import TinctError


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (4, 4)).save(folder / f"{number:02}.JPEG")
    (folder / "notes.txt").touch()


def test_split_folders_agree_with_torchvisions_reader(tmp_path):
    for split in ("train", "val"):
        for count, kind in enumerate(("dog", "cat", "ant"), start=1):
            fill(tmp_path / split / kind, count)
    for split in ("train", "val"):
        source, reference = ClassFolders(str(tmp_path), split, "multilabel"), ImageFolder(tmp_path / split)
        assert source.classes == tuple(reference.classes) == ("ant", "cat", "dog")
        paths = [str(source.path(index)) for index in range(len(source))]
        assert list(zip(paths, source.labels().argmax(1), strict=True)) == reference.samples
        assert (source.labels().sum(1) == 1).all()


def test_tiny_imagenets_layout(tmp_path):
    for kind in ("n02", "n01"):
        fill(tmp_path / "train" / kind / "images", 2)
    fill(tmp_path / "val" / "images", 3)
    (tmp_path / "val/val_annotations.txt").write_text("02.JPEG\tn01\t0\t0\t3\t3\n00.JPEG\tn02\t0\t0\t3\t3\n")
    train, val = (ClassFolders(str(tmp_path), split, "multilabel") for split in ("train", "val"))
    assert names(train) == [f"train/{kind}/images/{number}.JPEG" for kind in ("n01", "n02") for number in ("00", "01")]
    assert names(val) == ["val/images/02.JPEG", "val/images/00.JPEG"]
    np.testing.assert_array_equal(val.labels(), [[1, 0], [0, 1]])
    assert val.picture(0).shape == (4, 4, 3)
    (tmp_path / "val/val_annotations.txt").write_bytes(b"caf\xe9.JPEG\tn01\n")
    with pytest.raises(TinctError, match=r"val_annotations\.txt: .*; expected a list in UTF-8"):
        ClassFolders(str(tmp_path), "val", "multilabel")


def test_without_splits_about_a_fifth_of_each_class_is_held_out_by_name(tmp_path):
    fill(tmp_path / "rose", 30)
    fill(tmp_path / "train", 5)  # a class, as nothing beside it is a split
    train, val = (ClassFolders(str(tmp_path), split, "multilabel") for split in ("train", "val"))
    assert (train.labels().sum(0) + val.labels().sum(0)).tolist() == [30, 5]
    assert train.labels().sum(0).min() > 0
    assert 2 <= val.labels().sum(0)[0] <= 10
    assert val.labels().sum(0)[1] > 0
    moved = next(name for name in names(val) if name.startswith("rose/"))
    (tmp_path / moved).rename(tmp_path / "train" / f"{moved.removeprefix('rose/')}")  # it was labelled wrongly
    assert moved.replace("rose/", "train/") in names(ClassFolders(str(tmp_path), "val", "multilabel"))
    val = ClassFolders(str(tmp_path), "val", "multilabel")
    train = ClassFolders(str(tmp_path), "train", "multilabel")
    assert not set(names(train)) & set(names(val))
    assert names(val) == names(ClassFolders(str(tmp_path), "val", "multilabel"))
    assert "fifth" in val.note


def test_mistakes_are_named(tmp_path):
    fill(tmp_path / "one" / "rose", 2)
    fill(tmp_path / "two" / "train" / "rose", 2)
    fill(tmp_path / "two" / "train" / "lily", 2)
    fill(tmp_path / "two" / "val" / "tulip", 2)
    for path, split, message in (
        ("none", "train", "none: No such file"),
        ("one", "train", "1 folders of classes"),
        ("two", "val", "class 'tulip' is not among the 2 folders of train"),
        ("two", "test", "no folder of the test split beside train, val"),
        ("two/train", "test", "no pictures of the test split"),
    ):
        with pytest.raises(TinctError, match=message):
            ClassFolders(str(tmp_path / path), split, "multilabel")
    with pytest.raises(TinctError, match="has no masks"):
        ClassFolders(str(tmp_path / "two"), "train", "segmentation")


def test_folders_without_pictures_are_no_classes(tmp_path):
    for name in ("cat/1.png", "dog/2.png", "__MACOSX/._1.png", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert ClassFolders(str(tmp_path), "train", "multilabel").classes == ("cat", "dog")

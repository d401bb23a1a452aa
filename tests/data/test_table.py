import numpy as np
import pytest
from PIL import Image

from tinct.data.table import Table
from tinct.errors import PictureError, TinctError


@pytest.fixture
def write(tmp_path):
    """Write a table beside some pictures and masks; give its path."""
    for name in ("a", "b", "c"):
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.png")
    mask = np.tile(np.array([0, 1, 2, 255, 1, 0], np.uint8), (4, 1))
    Image.fromarray(mask).save(tmp_path / "mask.png")

    def write(*lines: str) -> str:
        (tmp_path / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / "table.csv")

    return write


HEADER = "path, cat,split,dog,mask"


def test_labels_with_empty_cells_unknown(write):
    table = write("\ufeff" + HEADER, "a.png,1,train,0,", '"b.png",,train,1.0,mask.png', "", "c.png,0,val,1,mask.png")
    source = Table(table, "train", "multilabel")
    assert source.classes == ("cat", "dog")
    assert [source.name(index) for index in range(len(source))] == ["a.png", "b.png"]
    np.testing.assert_array_equal(source.labels(), np.array([[1, 0], [np.nan, 1]], np.float32))
    assert source.picture(0).shape == (4, 6, 3)
    assert source.note == ""


def test_masks_of_the_rows_that_have_one(write):
    source = Table(write(HEADER, "a.png,1,train,0,", "b.png,,train,1,mask.png"), "train", "segmentation")
    assert (len(source), source.mask_classes, source.background) == (1, ("background", "cat", "dog"), 0)
    np.testing.assert_array_equal(source.mask(0)[0], [0, 1, 2, 255, 1, 0])


def test_a_mask_value_beyond_the_class_columns_is_named(write):
    source = Table(write("path,cat,mask,split", "a.png,1,mask.png,val"), "val", "segmentation")
    with pytest.raises(PictureError, match=r"mask\.png: unknown mask value 2; expected 0 to 1"):
        source.mask(0)


def test_without_a_split_column_about_a_fifth_is_held_out_whatever_rows_are_beside_it(write):
    def names(table, split):
        part = Table(table, split, "multilabel")
        assert "fifth" in part.note
        return {part.name(index).removeprefix("./") for index in range(len(part))}

    table = write("path,cat", *(f"{number}.png,1" for number in range(40)))
    train, val = names(table, "train"), names(table, "val")
    assert 2 <= len(val) <= 14
    assert not train & val
    assert train | val == {f"{number}.png" for number in range(40)}
    table = write("path,cat", *(f"./{number}.png,1" for number in reversed(range(60))))
    assert train <= names(table, "train")
    assert val <= names(table, "val")


def test_a_picture_is_in_one_split_whatever_the_task_and_however_often_it_is_listed(write):
    rows = [f"{number}.png,1,{'m.png' if number % 3 else ''}" for number in range(20)]
    table = write("path,cat,mask", *rows, *rows)
    names = {
        (split, task): {part.name(index) for index in range(len(part))}
        for split in ("train", "val")
        for task in ("multilabel", "segmentation")
        for part in [Table(table, split, task)]
    }
    assert not names["train", "multilabel"] & names["val", "multilabel"]
    assert names["val", "segmentation"] <= names["val", "multilabel"]
    assert names["train", "segmentation"] <= names["train", "multilabel"]


def test_a_picture_in_two_splits_is_refused(write):
    with pytest.raises(TinctError, match=r"line 3: a\.png is in train and val; choose one"):
        Table(write("path,cat,split", "a.png,1,train", "./a.png,1,val"), "val", "multilabel")


def test_another_separator_is_told(write):
    with pytest.raises(TinctError, match="its columns are separated by ';', save it with commas"):
        Table(write("path;cat", "a.png;1"), "train", "multilabel")


def test_a_split_of_another_name_is_refused(write):
    with pytest.raises(TinctError, match="line 3, column 'split': 'Train'; expected train, val, test"):
        Table(write("path,cat,split", "a.png,1,val", "b.png,1,Train"), "val", "multilabel")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEADER, "a.png,1,train,0,", "b.png,yes,train,1,"), r"table\.csv, line 3, column 'cat': 'yes'; expected 0, 1"),
        ((HEADER, "a.png,1,train,2,"), "line 2, column 'dog': '2'"),
        ((HEADER, "a.png,1,train,nan,"), "line 2, column 'dog': 'nan'"),
        ((HEADER, "a.png,1,train"), "line 2: 3 cells; expected 5"),
        ((HEADER, ",1,train,0,"), "line 2, column 'path': empty"),
        ((HEADER, "a.png,1,val,0,"), "no rows of the train split; its splits are: val"),
        ((HEADER, "a.png,0,train,0,"), "train split has no positive label for any of its 2 classes"),
        ((HEADER,), "no rows below the header"),
        (("file,cat", "a.png,1"), "line 1: no column 'path' among file, cat"),
        (("path,cat,cat", "a.png,1,1"), "line 1: column 'cat': a column needs a name of its own"),
        (("path,split", "a.png,train"), "no class column"),
        (('path,cat\n"a.png,1',), "unexpected end of data"),
    ],
)
def test_mistakes_are_named_with_file_row_and_column(write, lines, message):
    with pytest.raises(TinctError, match=message):
        Table(write(*lines), "train", "multilabel").labels()


def test_unreadable_files_are_named(tmp_path, write):
    with pytest.raises(TinctError, match=r"none\.csv: No such file"):
        Table(str(tmp_path / "none.csv"), "train", "multilabel")
    with pytest.raises(TinctError, match="UTF-8"):
        Table(str(tmp_path / "a.png"), "train", "multilabel")
    with pytest.raises(TinctError, match="no column 'mask'"):
        Table(write("path,cat", "a.png,1"), "train", "segmentation")

import pickle
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tinct.data.sources import open_labelled
from tinct.data.table import Table
from tinct.errors import AbsentSplitError, PictureError, TinctError


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


def test_a_header_may_hold_a_line_break_and_come_after_a_blank_line(write):
    for mark in ",;":
        table = write("", mark.join(("path", "dog", '"red\n(any), really"')), mark.join(("a.png", "0", "1")))
        assert Table(table, "train", "multilabel").classes == ("dog", "red\n(any), really")
        with pytest.raises(AbsentSplitError, match=r"too few labelled rows \(1\) to draw a val split from"):
            Table(table, "val", "multilabel")


def test_a_picture_listed_again_in_other_words_counts_once(write):
    table = write("path,split,cat,dog", "a.png,train,1,0", "a.png,train,TRUE,0.0", "b.png,train,0,")
    assert len(Table(table, "train", "multilabel")) == 2
    with pytest.raises(TinctError, match="list a picture once"):
        Table(write("path,split,cat,dog", "a.png,train,1,0", "a.png,train,1,"), "train", "multilabel")


def test_masks_of_the_rows_that_have_one(write):
    source = Table(write(HEADER, "a.png,1,train,0,", "b.png,,train,1,mask.png"), "train", "segmentation")
    assert (len(source), source.mask_classes, source.background) == (1, ("background", "cat", "dog"), 0)
    np.testing.assert_array_equal(source.mask(0)[0], [0, 1, 2, 255, 1, 0])


def test_a_mask_value_beyond_the_class_columns_is_named(write):
    source = Table(write("path,cat,mask,split", "a.png,1,mask.png,val"), "val", "segmentation")
    with pytest.raises(PictureError, match=r"mask\.png: unknown mask value 2; expected 0 to 1"):
        source.mask(0)


def test_more_classes_than_a_mask_of_bytes_holds_are_refused_for_segmentation_alone(write):
    names = [f"c{number}" for number in range(255)]
    spec = "csv:" + write(
        ",".join(["path", "split", "mask", *names]), ",".join(["a.png", "val", "mask.png", *255 * "1"])
    )
    with pytest.raises(AbsentSplitError, match="256 classes of masks; expected 255 at most, as masks are of 8 bits"):
        open_labelled(spec, "val", "segmentation")
    assert len(open_labelled(spec, "val", "multilabel").classes) == 255


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


def test_without_a_split_column_whole_groups_are_held_out(write):
    def sides(rows):
        parts = {split: Table(write("path,fox,Group", *rows), split, "multilabel") for split in ("train", "val")}
        assert all("about a fifth of the groups, drawn by their names, is val" in part.note for part in parts.values())
        return {part.name(index): split for split, part in parts.items() for index in range(len(part))}

    rows = [f"{number}.png,1,camera {number % 20}" for number in range(100)]
    alone = [f"alone {number}.png,1," for number in range(40)]  # each is a group of its own
    found = sides(rows + alone)
    for camera in range(20):
        assert len({found[f"{number}.png"] for number in range(camera, 100, 20)}) == 1
    assert 2 <= sum(found[f"alone {number}.png"] == "val" for number in range(40)) <= 14
    more = [f"more {number}.png,1,camera {number % 30}" for number in range(60)]
    later = sides(more + rows[::-1] + alone)
    assert found.items() <= later.items()
    assert all(later[f"more {number}.png"] == found[f"{number}.png"] for number in range(20))


def test_groups_without_labels_move_none_that_has_some(write):
    def sides(*rows, header="path,group,fox", task="multilabel"):
        parts = {split: Table(write(header, *rows), split, task) for split in ("train", "val")}
        return {part.name(index): split for split, part in parts.items() for index in range(len(part))}

    labelled = ("1.png,a,1", "2.png,b,0", "3.png,c,1")  # none would be val by its name alone
    found = sides(*labelled)
    assert sorted(found.values()) == ["train", "train", "val"]
    for rows in (["4.png,e,"], ["4.png,e,", "5.png,c,"]):  # e would be
        later = sides(*labelled, *rows)
        assert found.items() <= later.items()
        assert later.get("5.png", found["3.png"]) == found["3.png"]  # with the others of its group
    masks = [f"{row},m.png" for row in labelled]
    assert sides(*masks, "4.png,e,,", header="path,group,fox,mask", task="segmentation") == found
    named = sides("1.png,a,fox,2", "2.png,b,[],3", "3.png,c,fox,4", "4.png,e,,5", header="path,group,label,count")
    assert found.items() <= named.items()


def test_a_split_without_any_label_is_told_from_one_without_positives(write):
    rows = ["1.png,a,1", "2.png,b,", "3.png,e,"]  # a and b are train by their names, e is val
    with pytest.raises(TinctError, match="no picture of the val split has a label; label some of them too"):
        Table(write("path,group,fox", *rows), "val", "multilabel").labels()
    with pytest.raises(TinctError, match="the val split has no positive label for any of its 1 classes"):
        Table(write("path,group,fox", *rows[:2], f"{rows[2]}0"), "val", "multilabel").labels()


def test_groups_in_train_and_in_another_split_are_named(write):
    header, rows = "path,group,fox,split", ("a.png,x,1,train", "b.png,x,0,val", "c.png,y,1,val", "d.png,,1,train")
    source = Table(write(header, *rows, "e.png,,1,val", "f.png,y,1,test"), "val", "multilabel")
    assert source.note == "has groups in train and in another split, so that scores may be too high: x"
    assert not Table(write(header, rows[0], *rows[2:]), "val", "multilabel").note
    many = [f"{number}{part}.png,{number:02},1,{part}" for number in range(12) for part in ("train", "test")]
    assert Table(write(header, *many), "test", "multilabel").note.endswith(
        ": 00, 01, 02, 03, 04, 05, 06, 07, 08, 09 and 2 more"
    )


def test_groups_are_no_class_and_those_of_one_picture_agree(write):
    source = Table(
        write("path,group,fox,split", "a.png,x,1,train", "b.png,,1,train", "c.png,x,0,train"), "train", "multilabel"
    )
    assert (source.classes, source.note) == (("fox",), "")
    assert source.groups[0] == source.groups[2] != source.groups[1]
    with pytest.raises(AbsentSplitError, match=r"too few labelled groups \(1\) to draw a val split from"):
        Table(write("path,group,fox", "a.png,x,1", "b.png,x,1"), "val", "multilabel")
    with pytest.raises(TinctError, match=r"a\.png has 'x' and 'y' in column 'group'"):
        Table(write("path,group,label", "a.png,x,fox", "a.png,y,deer"), "train", "multilabel")


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
    with pytest.raises(TinctError, match=r"lines 2 and 3: a\.png has 'train' and 'val' in column 'split'"):
        Table(write("path,cat,split", "a.png,1,train", "./a.png,1,val"), "val", "multilabel")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["path", "Path", "Filename", "file_name", "file", "image"])
def test_what_spreadsheets_and_pandas_write(write, separator, column):
    lines = [
        ("", column, "Split", "cat", "dog"),
        ("0", "a.png", "Train", "TRUE", "false"),
        ("1", "b.png", "train", "0.0", "1"),
    ]
    source = Table(write(*(separator.join(line) for line in lines)), "train", "multilabel")
    assert (source.classes, source.name(1)) == (("cat", "dog"), "b.png")
    assert source.labels().tolist() == [[1, 0], [0, 1]]


def test_a_nameless_column_that_is_no_index_is_refused(write):
    with pytest.raises(TinctError, match="column '': a column needs a name of its own"):
        Table(write(",path,cat", "x,a.png,1"), "train", "multilabel")


def test_splits_may_be_called_as_folders_are(write):
    table = write("path,cat,split", "a.png,1,Validation", "b.png,1,Train", "c.png,1,Test")
    names = {split: Table(table, split, "multilabel").name(0) for split in ("train", "val", "test")}
    assert names == {"train": "b.png", "val": "a.png", "test": "c.png"}
    with pytest.raises(TinctError, match="line 2, column 'split': 'hold'; expected train, val or test"):
        Table(write("path,cat,split", "a.png,1,hold"), "val", "multilabel")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le"])
def test_another_encoding_is_told_what_to_do(tmp_path, encoding):
    (tmp_path / "table.csv").write_text("path,cat\nÄpfel.png,1\n", encoding=encoding)
    with pytest.raises(TinctError, match="save it as CSV UTF-8"):
        Table(str(tmp_path / "table.csv"), "train", "multilabel")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_of_other_systems_open(tmp_path, write, form):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "sub" / unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], "É.png"))
    written = unicodedata.normalize(form, "É.png")
    source = Table(write("path,cat,split", f"sub\\{written},1,train", "none\\a.png,1,train"), "train", "multilabel")
    assert source.picture(0).shape == (4, 6, 3)
    assert source.name(1) == "none\\a.png"  # nothing is there: as it is written


def test_one_column_of_names(write):
    lines = (
        "path,label,split",
        "a.png,cat|animal,train",
        "b.png,cat;dog,train",
        'c.png,"dog, animal",train',
        "d.png,,train",
    )
    source = Table(write(*lines, "e.png,wolf,val"), "train", "multilabel")
    assert source.classes == ("animal", "cat", "dog", "wolf")  # the same in every split
    expected = [[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [np.nan] * 4]
    np.testing.assert_array_equal(source.labels(), np.array(expected, np.float32))


@pytest.mark.parametrize("listed", ["\"['cat', 'big dog']\"", '"[""cat"", ""big dog""]"', '"[cat, big dog]"'])
def test_a_list_that_pandas_or_json_wrote_names_its_classes(write, listed):
    source = Table(write("path,labels,split", f"a.png,{listed},train", "b.png,[],train"), "train", "multilabel")
    assert source.classes == ("big dog", "cat")
    assert source.labels().tolist() == [[1, 1], [0, 0]]  # an empty list says that there is none


def test_numbered_classes_are_names_where_the_column_is_called_so(write):
    rows = [f"{number}.png,{number % 11},train" for number in range(22)]
    assert Table(write("path,class,split", *rows), "train", "multilabel").classes == tuple(map(str, range(11)))
    with pytest.raises(TinctError, match="'2'; expected 0, 1 or an empty cell"):
        Table(write("path,cat,split", *rows), "train", "multilabel").labels()
    assert Table(write("path,label", "a.png,1", "b.png,0"), "train", "multilabel").classes == ("label",)
    with pytest.raises(AbsentSplitError, match="masks need a column for each class"):
        Table(write("path,label,mask", "a.png,cat,mask.png"), "train", "segmentation")


@pytest.mark.parametrize("label", ["label", "Labels"])
def test_beside_names_of_classes_other_columns_are_passed_over_and_said_once(write, label):
    rows = ("a.png,2024-05-01,fox,3,train", "b.png,2024-05-02,,0,train", "a.png,2024-05-03,fox,1,train")
    source = Table(write(f"path,date,{label},count,split", *rows), "train", "multilabel")
    assert (source.classes, len(source)) == (("fox",), 2)
    np.testing.assert_array_equal(source.labels(), np.array([[1], [np.nan]], np.float32))
    assert source.note.startswith(f"has its classes in column '{label}' (passed over: date, count)")
    many = [f"c{number}" for number in range(12)]
    source = Table(write(",".join(["path,label", *many]), ",".join(["a.png,fox", *12 * "x"])), "train", "multilabel")
    assert "(passed over: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more); has no column 'split'" in source.note


def test_a_row_for_each_detection_unites_the_names_of_a_picture(write):
    rows = ("a.png,fox,train,1", "a.png,deer,train,2", "b.png,[],train,1", "./a.png,fox|owl,train,1", "b.png,,train,")
    source = Table(write("path,label,split,count", *rows, "c.png,,train,", "c.png,,train,"), "train", "multilabel")
    assert [source.name(index) for index in range(len(source))] == ["a.png", "b.png", "c.png"]
    assert source.classes == ("deer", "fox", "owl")
    np.testing.assert_array_equal(source.labels(), np.array([[1, 1, 1], [0, 0, 0], [np.nan] * 3], np.float32))
    assert source.note.endswith("; has rows that list a picture again (4): the classes of its rows are united")
    with pytest.raises(TinctError, match=r"lines 2 and 3: a\.png has 'train' and 'val' in column 'split'"):
        Table(write("path,label,split", "a.png,fox,train", "a.png,deer,val"), "train", "multilabel")


def test_a_column_of_texts_that_is_not_called_label_is_told_what_to_do(write):
    for header in ("path,date,cat,split", "path,class,family,split"):  # a rank of a taxonomy, not what is to be learned
        with pytest.raises(TinctError, match=r"'x1'; expected .*; delete the column if it is no class, call it"):
            Table(write(header, "a.png,x1,0,train"), "train", "multilabel").labels()


def test_a_picture_listed_again_counts_once_or_is_refused(write):
    source = Table(write("path,cat,split", "a.png,1,train", "./a.png,1,train", "b.png,0,train"), "train", "multilabel")
    assert [source.name(index) for index in range(len(source))] == ["a.png", "b.png"]
    with pytest.raises(TinctError, match=r"lines 2 and 4: a\.png has '1' and '0' in column 'cat'; list a picture once"):
        Table(write("path,cat", "a.png,1", "b.png,1", "a.png,0"), "train", "multilabel")


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
        (("photo,cat", "a.png,1"), "line 1: no column 'path' among photo, cat"),
        (("path,cat,cat", "a.png,1,1"), "line 1: column 'cat': a column needs a name of its own"),
        (("path,split", "a.png,train"), "no class column"),
        (('path,cat\n"a.png,1',), "unexpected end of data"),
    ],
)
def test_mistakes_are_named_with_file_row_and_column(write, lines, message):
    with pytest.raises(TinctError, match=message):
        Table(write(*lines), "train", "multilabel").labels()


def test_the_first_of_several_mistakes_is_said(write):
    for lines, said in (
        (("a.png,yes,train", "b.png,no,train"), "line 2, column 'cat': 'yes'; expected"),
        (("a.png,1,train", "a.png,0,train", "b.png,1,train", "b.png,0,train"), "lines 2 and 3: a.png has '1' and '0'"),
    ):
        with pytest.raises(TinctError) as raised:
            Table(write("path,cat,split", *lines), "train", "multilabel").labels()
        for error in (raised.value, pickle.loads(pickle.dumps(raised.value))):  # also from another process
            assert f"table.csv, {said}" in str(error)
            assert len(error.args) == 2
            assert error.args[1] not in str(error)


def test_unreadable_files_are_named(tmp_path, write):
    with pytest.raises(TinctError, match=r"none\.csv: No such file"):
        Table(str(tmp_path / "none.csv"), "train", "multilabel")
    with pytest.raises(TinctError, match="UTF-8"):
        Table(str(tmp_path / "a.png"), "train", "multilabel")
    with pytest.raises(TinctError, match="no column 'mask'"):
        Table(write("path,cat", "a.png,1"), "train", "segmentation")

import json

import numpy as np
import pytest
from PIL import Image

from tinct.data.base import VOID, Source
from tinct.data.decode import decode
from tinct.data.folder import open_folder
from tinct.data.inspect import data
from tinct.data.overlay import draw_labels, file_stems
from tinct.data.photos import photographs
from tinct.data.survey import survey
from tinct.errors import TinctError

ASTRONAUT, CAT, COFFEE = (Image.fromarray(photographs()[name]) for name in ("astronaut", "cat", "coffee"))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "pictures"
    path.mkdir()
    ASTRONAUT.resize((120, 100)).save(path / "a.png")
    ASTRONAUT.resize((90, 80)).save(path / "b.jpg", quality=80)
    CAT.convert("L").resize((70, 60)).save(path / "c.png")
    Image.blend(COFFEE.convert("L").convert("RGB"), COFFEE, 0.06).resize((50, 200)).save(path / "d.png")
    (path / "e[bold]{0}.jpg").write_bytes(b"no picture")
    return path


def report(capsys, *sources, **options):
    assert data([str(source) for source in sources], json=True, **options) == 0
    return json.loads(capsys.readouterr().out)


def test_a_survey_sees_every_picture_once(folder):
    seen = survey(open_folder(str(folder)))
    assert seen.indices.tolist() == [0, 1, 2, 3]
    assert seen.sizes.tolist() == [[120, 100], [90, 80], [70, 60], [50, 200]]
    assert seen.modes.tolist() == ["RGB", "RGB", "L", "RGB"]
    assert (seen.chroma < (99, 99, 0.1, 3)).all()
    assert (seen.chroma[:2] > 10).all()
    assert list(seen.unreadable) == [4]
    assert "e[bold]{0}.jpg: not a picture" in seen.unreadable[4]


def test_sizes_are_those_of_whole_pictures_where_no_file_says_them(folder):
    class Packed(Source):
        spec, split = "zip:packed", "train"

        def __len__(self):
            return 1

        def name(self, index):
            return "one"

        def picture(self, index, min_side=None):
            return decode((folder / "large.jpg").read_bytes(), min_side)

    COFFEE.resize((800, 600)).save(folder / "large.jpg")
    assert survey(Packed()).sizes.tolist() == [[800, 600]]


def test_a_folder(folder, capsys):
    (found,) = report(capsys, folder)["sets"]
    assert (found["spec"], found["split"], found["pictures"]) == (str(folder), "train", 5)
    assert found["width"] == {"min": 50, "median": 80, "max": 120}
    assert found["shorter_side"] == {"min": 50, "median": 70, "max": 100}
    assert found["modes"] == {"RGB": 3, "L": 1}
    assert found["grey"] == {"pictures": 1, "share": 0.25, "chroma_below": 2.0, "names": ["c.png"]}
    assert found["near_grey"] == {"pictures": 2, "share": 0.5, "chroma_below": 3.0, "names": ["c.png", "d.png"]}
    assert [bad["name"] for bad in found["unreadable"]] == ["e[bold]{0}.jpg"]
    assert found["near_duplicates"] == [["a.png", "b.jpg"]]


def test_files_that_are_passed_over_are_counted(folder, capsys):
    (folder / "more").mkdir()
    for name in ("notes.txt", "more/IMG_1", "more/IMG_2", ".hidden"):
        (folder / name).touch()
    (found,) = report(capsys, folder)["sets"]
    assert found["pictures"] == 5
    assert found["other_files"] == {"": 2, ".txt": 1}
    assert data([str(folder)]) == 0
    assert "3 passed over, by the ending of their names: none 2, .txt 1" in capsys.readouterr().out


def test_two_sources_are_compared(folder, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    CAT.resize((160, 120)).save(other / "cat.jpg")
    COFFEE.transpose(Image.Transpose.ROTATE_90).save(other / "turned.jpg")
    (pair,) = report(capsys, folder, other)["across"]
    assert (pair["first"]["spec"], pair["second"]["spec"]) == (str(folder), str(other))
    assert pair["near_duplicates"] == [["c.png", "cat.jpg"]]


def test_people_get_tables(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert data([str(folder), "photos:"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "5, of which 1 unreadable",
        "25.0% (mean Lab chroma below 2)",
        "a.png = b.jpg",
        f"Grey in {folder} (train): 1\n  c.png",
        f"Unreadable in {folder} (train): 1\n  e[bold]{{0}}.jpg: not a",
    ):
        assert line in shown
    assert "512, of which 0 unreadable" in shown
    assert "RGB 512" in shown


@pytest.fixture
def voc(tmp_path):
    """Two training pictures and two to evaluate, of which one is a training picture again and one has a bad mask."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for task in ("Main", "Segmentation"):
        (root / f"ImageSets/{task}/train.txt").write_text("cat\ncoffee\n")
        (root / f"ImageSets/{task}/val.txt").write_text("again\nastronaut\n")
    for name, picture, label in [
        ("cat", CAT, 8),
        ("coffee", COFFEE, 5),
        ("again", CAT, 8),
        ("astronaut", ASTRONAUT, 15),
    ]:
        picture.resize((64, 48)).save(root / f"JPEGImages/{name}.jpg")
        title = {8: "cat", 5: "bottle", 15: "person"}[label]
        (root / f"Annotations/{name}.xml").write_text(f"<annotation><object><name>{title}</name></object></annotation>")
        mask = np.zeros((48, 64), np.uint8)
        mask[12:24, :32] = label
        mask[:12] = VOID
        Image.fromarray(mask[1:] if name == "astronaut" else mask).save(root / f"SegmentationClass/{name}.png")
    return f"voc:{tmp_path}"


def test_a_labelled_source(voc, tmp_path, capsys):
    found = report(capsys, voc, out=tmp_path / "overlays")
    assert [(part["split"], part["pictures"]) for part in found["sets"]] == [("train", 2), ("val", 2)]
    (leak,) = found["across"]
    assert (leak["first"]["split"], leak["second"]["split"]) == ("train", "val")
    assert leak["near_duplicates"] == [["JPEGImages/cat.jpg", "JPEGImages/again.jpg"]]

    labels = {(part["task"], part["split"]): part for part in found["labels"]}
    assert len(labels) == 4
    positives = labels["multilabel", "train"]["positives"]
    assert {name: count for name, count in positives.items() if count} == {"bottle": 1, "cat": 1}
    assert len(labels["multilabel", "val"]["too_rare"]) == 20
    masks = labels["segmentation", "train"]
    assert masks["pixel_share"]["cat"] == pytest.approx(1 / 16)
    assert masks["pixel_share"]["background"] == pytest.approx(5 / 8)
    assert masks["void_share"] == pytest.approx(1 / 4)
    assert (masks["positives"]["background"], masks["positives"]["cat"], masks["mismatches"]) == (2, 1, [])
    assert "background" not in masks["too_rare"]
    (mismatch,) = labels["segmentation", "val"]["mismatches"]
    assert mismatch["name"] == "JPEGImages/astronaut.jpg"
    assert "64x47" in mismatch["reason"]

    assert len(found["overlays"]) == 4  # two training pictures for each task
    for path in found["overlays"]:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.width == 160


def test_splits_of_the_two_tasks_may_cross(voc, tmp_path, capsys, monkeypatch):
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "train.txt").write_text("coffee\n")
    (lists / "val.txt").write_text("cat\n")
    found = report(capsys, voc)
    assert [(part["split"], part["tasks"], part["pictures"]) for part in found["sets"]] == [
        *[("train", ["multilabel"], 2), ("val", ["multilabel"], 2)],
        *[("train", ["segmentation"], 1), ("val", ["segmentation"], 1)],
    ]
    assert [pair["near_duplicates"] for pair in found["across"]] == [
        [["JPEGImages/cat.jpg", "JPEGImages/again.jpg"]],  # both of multilabel
        [],  # both of segmentation
    ]
    monkeypatch.setenv("COLUMNS", "200")
    assert data([voc]) == 0
    assert f"{voc} (val, segmentation)\n" in capsys.readouterr().out


def test_a_class_that_is_never_absent_is_not_scored(folder, capsys, monkeypatch):
    rows = [f"{number}.png,val,animal|{'fox' if number % 2 else 'deer'}" for number in range(50)]
    (folder / "table.csv").write_text("\n".join(["path,split,label", "a.png,train,animal", *rows, ""]))
    (labels,) = [part for part in report(capsys, f"csv:{folder}/table.csv")["labels"] if part["split"] == "val"]
    assert (labels["never_absent"], labels["too_rare"], labels["scored"]) == (["animal"], [], 2)
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "table.csv").write_text("path,split,fox\na.png,train,1\nb.jpg,val,1\nc.png,val,\n")
    assert data([f"csv:{folder}/table.csv"]) == 0
    said = capsys.readouterr().out
    assert "(*: under 20, too rare to score, or never said to be absent)" in said
    assert "No class of val can be scored: no picture is known to lack one\n" in said


def test_a_labelled_source_for_people(voc, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert data([voc]) == 0
    shown = capsys.readouterr().out
    assert "No class of train can be scored" not in shown
    for line in (
        "In two splits",
        "No class of val can be scored: the most frequent is in 1 of its pictures; lower min_positives (tinct transfer",
        "cat.jpg = JPEGImages/again.jpg",
        "multilabel",
        "6.25%",
        "64x47",
        "too rare to score",
    ):
        assert line in shown


def test_the_report_does_not_hang_on_the_overlays(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "bad.csv").write_text("path,cat,split\nb.jpg,maybe,train\na.png,1,val\n")
    bad, out = f"csv:{folder}/bad.csv", tmp_path / "out"
    assert data([bad, str(folder)], out=out) == 0
    shown = capsys.readouterr().out
    assert "1, of which 0 unreadable" in shown
    assert f"no overlays of {bad}, multilabel: {folder}/bad.csv, line 2, column 'cat': 'maybe'" in shown
    assert f"no overlays of {folder}: it has no labels" in shown
    assert not out.exists()
    (folder / "bad.csv").write_text("path,cat,split\nb.jpg,0,train\na.png,1,train\n")
    (tmp_path / "file").touch()
    with pytest.raises(TinctError, match=r"cannot write .*/file"):
        data([bad], out=tmp_path / "file")


def test_all_cells_that_are_no_label_are_counted_and_ten_are_named(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rows = [f"{number}.png,maybe,{number % 2},train" for number in range(13)]
    (folder / "bad.csv").write_text("\n".join(["path,cat,dog,split", *rows, "a.png,,no,train", ""]))
    bad = f"csv:{folder}/bad.csv"
    assert data([bad]) == 0
    shown = capsys.readouterr().out
    assert f"{bad}, multilabel (train): 14\n  {folder}/bad.csv, line 2, column 'cat': 'maybe'; expected 0, 1" in shown
    assert "\n  line 15, column 'dog': 'no'\n  line 3, column 'cat': 'maybe'\n" in shown  # each column has its turn
    assert "\n  line 10, column 'cat': 'maybe'\n  … and 4 more" in shown
    (labels,) = report(capsys, bad)["labels"]
    assert labels["errors"][-1] == "line 14, column 'cat': 'maybe'"


def test_rows_without_any_label_are_counted(folder, capsys, monkeypatch):
    (folder / "table.csv").write_text("path,split,cat,dog\na.png,train,1,\nb.jpg,train,,\nc.png,val,0,1\n")
    found = report(capsys, f"csv:{folder / 'table.csv'}")
    assert {part["split"]: (part["unlabelled"], part["unknown"]) for part in found["labels"]} == {
        "train": (1, {"cat": 1, "dog": 2}),
        "val": (0, {"cat": 0, "dog": 0}),
    }
    monkeypatch.setenv("COLUMNS", "100")
    assert data([f"csv:{folder / 'table.csv'}"]) == 0
    said = capsys.readouterr().out
    assert "1 picture of train has no label: it has no part in a transfer." in said
    assert "of val have" not in said


def test_all_pictures_listed_twice_with_other_labels_are_counted_and_ten_are_named(folder):
    rows = [f"{number}.png,{number % 12 // 11}" for number in range(12)]
    (folder / "bad.csv").write_text("\n".join(["path,cat", *rows, *(row[:-1] + "?" for row in rows), ""]))
    with pytest.raises(TinctError, match="list a picture once") as raised:
        data([f"csv:{folder}/bad.csv"])
    first, *others = str(raised.value).split("; lines ")
    assert first == f"{folder}/bad.csv, lines 2 and 14: 0.png has '0' and '?' in column 'cat'; list a picture once"
    assert [other.split(":")[0] for other in others] == [f"{line} and {line + 12}" for line in range(3, 12)]
    assert others[-1].endswith("; … and 2 more")


def test_overlays_of_pictures_that_cannot_be_read_are_said_to_be_none(folder, tmp_path, capsys):
    (folder / "labels.csv").write_text("path,cat,split\ne[bold]{0}.jpg,1,train\n")
    found = report(capsys, f"csv:{folder}/labels.csv", out=tmp_path / "out")
    (lacking,) = found["no_overlays"]
    assert (found["overlays"], lacking["task"]) == ([], "multilabel")
    assert "not a picture" in lacking["reason"]


def test_each_source_has_file_names_of_its_own_that_disks_take():
    specs = ["folder:p/q/x", "folder:p-q/x", "folder:P-Q/x", "csv:" + "ä/" * 200, "csv:" + "ä/" * 199, "csv:labels.csv"]
    stems = list(file_stems(specs).values())
    assert stems[0] == "folder-p-q-x"
    assert stems[-1] == "csv-labels-csv"
    assert len({stem.lower() for stem in stems}) == len(specs)
    assert max(len(stem.encode()) for stem in stems) < 220


def test_where_coco_has_no_pictures_is_said(tmp_path, capsys):
    content = {"images": [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "2.png"}], "annotations": []}
    (tmp_path / "labels.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "cat"}]}))
    assert data([f"coco:{tmp_path}/labels.json"]) == 0
    assert "its pictures in none of" in " ".join(capsys.readouterr().out.split())


def test_masks_are_drawn_over_the_picture_but_for_void_and_background():
    picture = np.full((30, 40, 3), 100, np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:] = 2
    mask[:10] = VOID
    sheet = np.asarray(draw_labels(picture, ("none", "cat", "dog"), mask, background=0))
    assert (sheet[:10, :40] == 100).all()
    assert (sheet[10:30, :20] == 100).all()
    assert (sheet[10:30, 20:40] != 100).any(-1).all()
    assert len(sheet) == 30 + 16 + 4
    assert picture.max() == 100


def test_mistakes_are_named(tmp_path):
    for spec in ("photos:", "csv:labels.csv"):
        with pytest.raises(TinctError, match="bogus: unknown split"):
            data([spec], split="bogus")
    with pytest.raises(TinctError, match="absent: No such file"):
        data([str(tmp_path / "absent")])
    with pytest.raises(TinctError, match="no VOC in it"):
        data([f"voc:{tmp_path}"])


def test_two_categories_of_one_name_are_said(tmp_path, capsys):
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(6)]
    for image in images:
        Image.new("RGB", (8, 8), (200, 40 * image["id"], 0)).save(tmp_path / image["file_name"])
    content = {
        "images": images,
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    described = report(capsys, f"coco:{tmp_path}/labels.json")["labels"]
    for labels in described:
        assert labels["errors"][0].endswith("labels.json: two classes are called 'cat'; give each a name of its own")

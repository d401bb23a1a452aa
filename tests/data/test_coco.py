import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from tinct.data.base import VOID
from tinct.data.coco import Coco
from tinct.data.outlines import filled
from tinct.data.sources import open_sources
from tinct.errors import AbsentSplitError, PictureError, TinctError

CATEGORIES = [{"id": 44, "name": "fork"}, {"id": 1, "name": "person"}, {"id": 67, "name": "table"}]


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


def counts(shape):
    """Uncompressed run lengths, as crowds have them."""
    flat = shape.flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"counts": ([0, *runs] if flat[0] else runs), "size": list(shape.shape)}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    images = [{"id": key, "file_name": f"{key:06}.jpg", "width": 30, "height": 20} for key in (9, 2, 5)]
    for image in images:
        Image.new("RGB", (30, 20)).save(tmp_path / "train2017" / image["file_name"])
    crowd = np.zeros((20, 30), np.uint8)
    crowd[:, 20:] = 1
    compressed = rle.encode(np.asfortranarray(np.eye(20, 30, dtype=np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    shapes = [
        (9, 44, box(4, 4, 8, 8), 0),
        (9, 67, box(2, 2, 25, 18), 0),
        (9, 1, counts(crowd), 1),
        (2, 1, [[1.5, 1.5, 12.2, 3.1, 6.6, 15.7], [15, 1, 20, 1, 20, 9]], 0),
        (2, 44, compressed, 0),
    ]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "segmentation": shape,
            "iscrowd": crowd_flag,
            "area": 1,
        }
        for number, (image, category, shape, crowd_flag) in enumerate(shapes)
    ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (tmp_path / "annotations/instances_train2017.json").write_text(json.dumps(content))
    return tmp_path


def test_multilabels_by_rising_category_id(root, capsys):
    source = Coco(str(root), "train", "multilabel")
    assert capsys.readouterr().out == ""
    assert source.classes == ("person", "fork", "table")
    assert [source.name(index) for index in range(3)] == [f"train2017/{key:06}.jpg" for key in (2, 5, 9)]
    np.testing.assert_array_equal(source.labels(), [[1, 1, 0], [0, 0, 0], [1, 1, 1]])


def edit(root, change, split="train"):
    path = root / f"annotations/instances_{split}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_annotations_of_pictures_that_are_not_listed_are_counted(root):
    edit(root, lambda content: content["images"].pop(1))
    source = Coco(str(root), "train", "multilabel")
    assert source.note == "2 of its annotations are of pictures that it does not list, and are left out"
    np.testing.assert_array_equal(source.labels(), [[0, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("height", [20.0, "20", 20.5, -20, "tall", None])
def test_heights_are_whole_numbers_however_they_are_written(root, height):
    edit(root, lambda content: [one.update(height=height) for one in content["images"]])
    if height in (20.0, "20"):
        assert Coco(str(root), "train", "segmentation").mask(2).shape == (20, 30)
        return
    with pytest.raises(AbsentSplitError, match=r"has no height and width, which masks need"):
        Coco(str(root), "train", "segmentation")


def test_every_shape_lies_where_pycocotools_puts_it(root):
    source = Coco(str(root), "train", "segmentation")
    reference = COCO(root / "annotations/instances_train2017.json")
    person, diagonal = (reference.annToMask(entry) for entry in reference.imgToAnns[2])
    assert person.sum() > 50
    np.testing.assert_array_equal(source.mask(0), np.where(diagonal == 1, 2, person))  # the smaller is in front
    np.testing.assert_array_equal(source.mask(1), np.zeros((20, 30)))
    assert (source.mask_classes, source.background) == (("background", "person", "fork", "table"), 0)


def test_a_file_is_parsed_once_for_both_tasks_and_again_where_it_has_changed(root, monkeypatch):
    parsed = []
    monkeypatch.setattr("tinct.data.coco.COCO", lambda: parsed.append(1) or COCO())
    for task in ("multilabel", "segmentation", "multilabel"):
        assert len(Coco(str(root), "train", task)) == 3
    assert len(parsed) == 1
    edit(root, lambda content: content["images"].pop())
    assert len(Coco(str(root), "train", "multilabel")) == 2
    assert len(parsed) == 2


def test_crowds_are_void_behind_and_small_things_lie_on_large_ones(root):
    mask = Coco(str(root), "train", "segmentation").mask(2)
    expected = np.zeros((20, 30))
    expected[:, 20:] = VOID
    expected[2:18, 2:25] = 3
    expected[4:8, 4:8] = 2
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(categories=[]), "categories is empty"),
        (lambda content: content["images"][1].update(id=9), "several pictures have the id 9"),
        (lambda content: content["images"][1].update(file_name="000009.jpg"), "several entries have the file_name '0"),
        (lambda content: content["categories"].append({"id": 44, "name": "x"}), "several categories have the id 44"),
        (lambda content: content["annotations"][1].update(category_id=3), "annotation 1 has unknown category 3"),
        (
            lambda content: [one.update(image_id=str(one["image_id"])) for one in content["annotations"]],
            "no annotation is of a picture in it: the first has image_id '9', pictures have ids such as 9",
        ),
        (lambda content: content["annotations"][1].pop("category_id"), "instances_train2017.json.*category_id"),
        (lambda content: content.update(images=3), "instances format"),
        (lambda content: content["images"][1].pop("file_name"), "instances_train2017.json: KeyError 'file_name'"),
        (lambda content: content["images"][1].update(id="2"), "json: its pictures have ids such as '2' and"),
        (lambda content: content["categories"][1].pop("name"), "KeyError 'name'; expected COCO's instances format"),
    ],
)
def test_a_damaged_file_is_named(root, change, message):
    edit(root, change)
    with pytest.raises(TinctError, match=message):
        Coco(str(root), "train", "multilabel")


def test_sizes_are_for_masks_alone(root):
    edit(root, lambda content: content["images"][1].pop("height"))
    assert len(Coco(str(root), "train", "multilabel")) == 3
    with pytest.raises(AbsentSplitError, match=r"000002\.jpg has no height and width, which masks need"):
        Coco(str(root), "train", "segmentation")


def test_crowds_are_said_by_numbers(root):
    edit(root, lambda content: content["annotations"][0].update(iscrowd="0"))
    assert len(Coco(str(root), "train", "multilabel")) == 3
    with pytest.raises(TinctError, match="annotation 0: iscrowd is '0'; expected 0 or 1"):
        Coco(str(root), "train", "segmentation")


def shaped(outline):
    return lambda content: content["annotations"][0].update(segmentation=outline)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shaped([[1, 2]]), "annotation 0: a polygon of fewer than three points"),
        (shaped([[1, 2, 3, 4]]), "fewer than three points"),
        (
            lambda content: content["annotations"][0].update(segmentation=[], bbox=[1, 1, 0, 2]),
            "annotation 0: a box of 0",
        ),
        (lambda content: content["images"][0].update(width=31), "annotation 2: its run lengths have another size"),
        (lambda content: content["images"][0].update(width=1e9), r"000009\.jpg: 1000000000x20 pixels, over the limit"),
        (shaped([[5, 5, float("nan"), 5, 25, 25]]), "annotation 0: a point at nan, in a picture of 30x20"),
        (shaped([[5, 5, 1e12, 5, 25, 25]]), "annotation 0: a point at 1000000000000"),
        (shaped([[5, 5, 8, 5, 8, 8], [5, 5, 8, 5, 8, -301]]), "annotation 0: a point at -301"),
        (shaped({"size": [20, 30], "counts": [5, 5]}), "annotation 0: its run lengths do not add up to the 600 pixels"),
        (shaped({"size": [20, 30], "counts": [5, 596]}), "annotation 0: its run lengths do not add up"),
        (shaped({"size": [20, 30], "counts": [606, -6]}), "annotation 0: its run lengths do not add up"),
        (shaped({"size": [20, 30], "counts": "55"}), "annotation 0: its run lengths do not add up"),
        *(
            (shaped({"size": [20, 30], "counts": text}), "no run lengths as COCO")
            for text in ("", "5P", "zz", "5P" * 9)
        ),
    ],
)
def test_a_damaged_shape_or_size_is_named(root, change, message):
    edit(root, change)
    with pytest.raises(PictureError, match=message):
        Coco(str(root), "train", "segmentation").mask(2)


@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_are_read_as_pycocotools_writes_them(seed):
    draw = np.random.default_rng(seed)
    height, width = draw.integers(1, 400, 2)
    shape = np.repeat(draw.random(height * width) < 0.5, draw.integers(1, 90, height * width))[: height * width]
    shape = shape.reshape(width, height).T
    text = rle.encode(np.asfortranarray(shape.astype(np.uint8)))["counts"].decode()
    for outline in ({"size": [height, width], "counts": text}, counts(shape)):
        np.testing.assert_array_equal(filled(outline, height, width), shape)


def test_a_polygon_may_reach_beyond_its_picture():
    assert filled([[-50, -50, 290, -50, 290, 290, -50, 290]], 20, 30).all()


def test_a_box_alone_is_void_behind_what_is_outlined(root):
    before = Coco(str(root), "train", "segmentation").mask(2)
    box = {"id": 99, "image_id": 9, "category_id": 1, "bbox": [3.5, 0.2, 6, 5], "area": 30, "iscrowd": 0}
    edit(root, lambda content: content["annotations"].append({**box, "segmentation": []}))
    after = Coco(str(root), "train", "segmentation").mask(2)
    inside = np.zeros(before.shape, bool)
    inside[0:6, 3:10] = True
    assert (before[inside] == 0).sum() == 14  # two rows of background, of which the table's outline hides the rest
    np.testing.assert_array_equal(after, np.where(inside & (before == 0), 255, before))


def test_boxes_alone_are_no_masks(root):
    edit(root, lambda content: [entry.update(segmentation=[]) for entry in content["annotations"]])
    with pytest.raises(AbsentSplitError, match="its annotations are boxes without segmentation; take task multilabel"):
        Coco(str(root), "train", "segmentation")
    assert len(Coco(str(root), "train", "multilabel")) == len(open_sources([f"coco:{root}"], "train")) == 3


def test_a_picture_of_another_size_is_named(root):
    edit(root, lambda content: content["images"][2].update(width=31))
    with pytest.raises(PictureError, match=r"a mask of 31x20 for 000005\.jpg of 30x20"):
        Coco(str(root), "train", "segmentation").mask(1)


def test_a_missing_split_is_named(root):
    with pytest.raises(TinctError, match=r"no annotations.instances_val2017"):
        Coco(str(root), "val", "multilabel")


def test_roboflows_folders_are_the_splits(root, tmp_path):
    for name in ("train", "valid"):
        shutil.copytree(root / "train2017", tmp_path / "robo" / name)
        shutil.copy(root / "annotations/instances_train2017.json", tmp_path / "robo" / name / "_annotations.coco.json")
    for split, folder in (("train", "train"), ("val", "valid")):
        source = Coco(str(tmp_path / "robo"), split, "multilabel")
        assert (source.name(0), source.picture(0).shape) == (f"{folder}/000002.jpg", (20, 30, 3))
    with pytest.raises(AbsentSplitError, match=r"instances_test2017.*coco:FILE\.json"):
        Coco(str(tmp_path / "robo"), "test", "multilabel")


@pytest.mark.parametrize(
    ("file", "pictures", "written"),
    [
        ("_annotations.coco.json", "", "{}"),  # one folder of Roboflow
        ("annotations/instances_default.json", "images", "{}"),  # CVAT
        ("annotations/instances_default.json", "images/default", "{}"),
        ("result.json", "images", "images/{}"),  # Label Studio
        ("result.json", "images", "images\\{}"),
        ("result.json", "images", "/data/upload/1/{}"),
    ],
)
def test_one_file_as_labelling_tools_write_it(root, tmp_path, file, pictures, written):
    home = tmp_path / "export"
    shutil.copytree(root / "train2017", home / pictures)
    content = json.loads((root / "annotations/instances_train2017.json").read_text())
    for image in content["images"]:
        image["file_name"] = written.format(image["file_name"])
    (home / file).parent.mkdir(exist_ok=True)
    (home / file).write_text(json.dumps(content))
    parts = {split: Coco(f"{home}/{file}", split, "segmentation") for split in ("train", "val")}
    assert "fifth" in parts["train"].note
    names = [{Path(part.name(index)).name for index in range(len(part))} for part in parts.values()]
    assert sorted(names[0] | names[1]) == ["000002.jpg", "000005.jpg", "000009.jpg"]
    assert min(map(len, names)) == 1
    for part in parts.values():
        for index in range(len(part)):
            assert part.picture(index).shape[:2] == part.mask(index).shape
    whole = Coco(str(root), "train", "multilabel")
    labels = {Path(whole.name(row)).name: whole.labels()[row].tolist() for row in range(3)}
    train = Coco(f"{home}/{file}", "train", "multilabel")
    assert train.labels().tolist() == [labels[Path(train.name(row)).name] for row in range(len(train))]
    assert len(open_sources([f"coco:{home}/{file}"], "all")) == 3


@pytest.mark.parametrize("said", ["location", "seq_id", "both"])
def test_cameras_of_camera_traps_lie_on_one_side(tmp_path, said):
    """COCO Camera Traps: labels of whole pictures, without boxes or sizes, and which camera or series they are of."""
    keys = {"both": ("location", "seq_id")}.get(said, (said,))
    images = [
        {"id": f"id-{number}", "file_name": f"{number % 7}/{number}.jpg"}
        | {key: number // 4 if key == keys[0] else f"other {number}" for key in keys}
        for number in range(80)
    ] + [{"id": f"alone {value}", "file_name": f"alone {value}.jpg", "location": value} for value in (None, np.nan)]
    content = {
        "images": images,
        "annotations": [
            {"id": image["id"], "image_id": image["id"], "category_id": number % 2}
            for number, image in enumerate(images)
        ],
        "categories": [{"id": 0, "name": "empty"}, {"id": 1, "name": "fox"}],
    }
    (tmp_path / "traps.json").write_text(json.dumps(content))
    parts = [Coco(f"{tmp_path}/traps.json", split, "multilabel") for split in ("train", "val")]
    assert "about a fifth of its locations or series, drawn by their names, is val" in parts[0].note
    camera = {image["file_name"]: image.get(keys[0]) for image in images[:80]}
    camera |= {image["file_name"]: image["file_name"] for image in images[80:]}
    sides = [{camera[part.name(index)] for index in range(len(part))} for part in parts]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 22
    assert 2 <= len(sides[1]) <= 8
    for part in parts:
        together = {(group, camera[part.name(index)]) for index, group in enumerate(part.groups)}
        assert len(together) == len(set(part.groups)) == len({of for _, of in together})
    assert parts[0].classes == ("empty", "fox")
    for everywhere in ({}, {"location": "Berlin"}):  # where all pictures are of one place, some have to be val
        content["images"] = [{"id": image["id"], "file_name": image["file_name"]} | everywhere for image in images]
        (tmp_path / "traps.json").write_text(json.dumps(content))
        (tmp_path / "traps.json").touch()
        parts = [Coco(f"{tmp_path}/traps.json", split, "multilabel") for split in ("train", "val")]
        assert [part.groups for part in parts] == [None, None]
        assert min(map(len, parts)) > 5


def test_a_folder_in_front_of_a_file_name_is_not_put_there_twice(root):
    def in_front(content):
        for image in content["images"]:
            image["file_name"] = f"train2017/{image['file_name']}"

    edit(root, in_front)
    source = Coco(str(root), "train", "multilabel")
    assert (source.name(0), source.picture(0).shape) == ("train2017/000002.jpg", (20, 30, 3))


@pytest.mark.parametrize("place", ["", "images", "images/train2017"])
def test_pictures_may_lie_in_other_folders_of_the_root(root, place):
    (root / "train2017").rename(root / "away")
    (root / place).parent.mkdir(exist_ok=True)
    for path in (root / "away").iterdir():
        (root / place).mkdir(exist_ok=True)
        path.rename(root / place / path.name)
    source = Coco(str(root), "train", "segmentation")
    assert source.name(0) == (Path(place) / "000002.jpg").as_posix()
    assert source.picture(0).shape[:2] == source.mask(0).shape
    assert source.note == ""


def test_places_without_pictures_are_named(root):
    shutil.rmtree(root / "train2017")
    places = ", ".join(str(root / place) for place in ("train2017", "", "images/train2017", "images"))
    assert Coco(str(root), "train", "multilabel").note == f"has its pictures in none of {places}"


def copied(root, year, split="train"):
    """Annotations of another year or split, of the same pictures."""
    text = (root / "annotations/instances_train2017.json").read_text()
    (root / f"annotations/instances_{split}{year}.json").write_text(text)


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_a_val_file_that_lists_fewer_categories_has_the_columns_of_train(root, task):
    copied(root, 2017, "val")
    (root / "train2017").rename(root / "val2017")  # both splits are of the same pictures
    whole = Coco(str(root), "val", task)
    edit(root, lambda content: content["annotations"].pop(1), "val")  # the only table
    edit(root, lambda content: content["categories"].pop(), "val")
    edit(root, lambda content: content["categories"].append({"id": 2, "name": "unused"}), "val")
    fewer = Coco(str(root), "val", task)
    assert (fewer.classes, fewer.mask_classes) == (whole.classes, whole.mask_classes)
    if task == "multilabel":
        np.testing.assert_array_equal(fewer.labels(), [[1, 1, 0], [0, 0, 0], [1, 1, 0]])
    else:
        np.testing.assert_array_equal(fewer.mask(0), whole.mask(0))


@pytest.mark.parametrize(
    ("change", "train"), [({"id": 44, "name": "spoon"}, "'fork'"), ({"id": 45, "name": "fork"}, "None")]
)
def test_a_category_that_train_does_not_have_is_named(root, change, train):
    copied(root, 2017, "val")

    def renamed(content):
        content["categories"][0] = change
        for entry in content["annotations"]:
            entry["category_id"] = change["id"] if entry["category_id"] == 44 else entry["category_id"]

    edit(root, renamed, "val")
    source = Coco(str(root), "val", "multilabel")
    with pytest.raises(TinctError, match=rf"instances_val2017\.json: its category 4. is '.*', in .*2017\.json {train}"):
        _ = source.classes


def test_both_splits_are_of_the_newest_year_that_they_share(root):
    for year, split in ((2014, "train"), (2014, "val")):
        copied(root, year, split)
    for split in ("train", "val"):
        assert Coco(str(root), split, "multilabel").name(0).startswith(f"{split}2014/")
    (root / "annotations/instances_train2014.json").unlink()
    assert Coco(str(root), "train", "multilabel").name(0).startswith("train2017/")
    assert Coco(str(root), "val", "multilabel").name(0).startswith("val2014/")


def test_pictures_alone_need_no_other_splits_file(root, monkeypatch):
    copied(root, 2017, "val")
    parsed = []
    monkeypatch.setattr("tinct.data.coco.COCO", lambda: parsed.append(1) or COCO())
    assert len(Coco(str(root), "val", "multilabel")) == 3
    assert len(parsed) == 1

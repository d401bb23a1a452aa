import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tinct.data.base import LabelledSource
from tinct.data.joined import Joined
from tinct.data.photos import Photos
from tinct.data.sources import open_evaluated, open_labelled, open_pictures, open_sources
from tinct.errors import AbsentSplitError, TinctError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"set/{index}.png")
    return str(tmp_path / "set")


def test_one_source_is_itself_and_several_are_joined(folder):
    assert isinstance(open_sources(["photos:"]), Photos)
    joined = open_sources([folder, "photos:", folder])
    assert isinstance(joined, Joined)
    assert len(joined) == 3 + 512 + 3
    assert [joined.name(index) for index in (0, 2, 3, 514, 515, 517)] == [
        *(f"{folder}/0.png", f"{folder}/2.png", "photos:astronaut#0", "photos:deep field#511"),
        *(f"{folder}/0.png", f"{folder}/2.png"),
    ]
    assert joined.picture(516)[0, 0].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(joined.picture(3), Photos().picture(0))
    assert (joined.spec, joined.split) == (f"{folder} photos: {folder}", "train")


def test_names_of_several_folders_say_which_one(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "list.txt").write_text(f"1.png\n{folder}/2.png\n")
    monkeypatch.chdir(tmp_path)

    def names(*words):
        source = open_pictures(words)
        return [source.name(index) for index in range(len(source))]

    assert names("set/") == ["0.png", "1.png", "2.png"]
    assert names("set/", "other/list.txt", "./set/1.png") == [
        *("set/0.png", "set/1.png", "set/2.png", "other/1.png", f"{folder}/2.png", "set/1.png")
    ]
    assert names("other/0.png", "set/0.png") == ["other/0.png", "set/0.png"]


def test_the_fingerprint_tells_order_and_parts(folder):
    ways = [[folder], ["photos:"], [folder, "photos:"], ["photos:", folder], [folder, folder]]
    assert len({open_sources(way).fingerprint() for way in ways}) == len(ways)
    assert open_sources(ways[2]).fingerprint() == open_sources(ways[2]).fingerprint()


def test_labelled_prefixes_are_imported_when_asked_for(monkeypatch):
    class Voc(Photos, LabelledSource):
        mask_classes = ("background", "cat")

        def __init__(self, path, split, task):
            if split == "test" or task == "multilabel":
                raise AbsentSplitError(f"no {task} labels for {split}")
            super().__init__(split)
            self.spec = f"voc:{path}"

    module = ModuleType("tinct.data.voc")
    module.Voc = Voc
    monkeypatch.setitem(sys.modules, "tinct.data.voc", module)
    source = open_labelled("voc:DIR@2007", "val", "segmentation")
    assert (source.spec, source.split) == ("voc:DIR@2007", "val")
    # unlabelled, whichever task has the split will do, and all splits means those there are
    assert open_sources(["voc:DIR"]).split == "train"
    assert len(open_sources(["voc:DIR"], "all")) == 2 * 512
    with pytest.raises(TinctError, match="no multilabel labels for test"):
        open_sources(["voc:DIR"], "test")
    monkeypatch.setattr(Voc, "__len__", lambda self: 0)
    with pytest.raises(TinctError, match="voc:DIR: no pictures of the val split"):
        open_labelled("voc:DIR", "val", "segmentation")


def test_mistakes_are_named(folder):
    for specs, split, reason in [
        ([], "train", "no source given"),
        ("photos:", "train", r"sources is 'photos:'; expected a list, such as \['photos:'\]"),
        (Path("x"), "train", r"sources is 'x'; expected a list, such as \['x'\]"),
        (["nowhere"], "train", "nowhere: No such file"),
        ([folder, "vox:DIR"], "train", "vox: is no kind of source; the kinds are photos:, voc:, coco:"),
        ([folder], "training", "training: unknown split; choose one of train, val, test, all"),
        ([folder], "val", "no pictures of the val split"),
    ]:
        with pytest.raises(TinctError, match=reason):
            open_sources(specs, split)
    with pytest.raises(TinctError, match="no picture given; name files, folders of pictures, or text files of paths"):
        open_pictures([])
    with pytest.raises(TinctError, match="not a labelled source; write voc:"):
        open_labelled(folder, "train", "multilabel")
    with pytest.raises(TinctError, match="multi-label: unknown task; choose one of multilabel, segmentation"):
        open_labelled("mosaic:", "val", "multi-label")


@pytest.mark.parametrize("spec", ["", " ", "folder:", "csv: ", "coco:", "camvid:", "voc:", "voc:@2012"])
def test_an_empty_path_is_not_taken_for_the_folder_one_is_in(folder, spec, monkeypatch):
    monkeypatch.chdir(folder)
    for opened in (lambda: open_sources([folder, spec]), lambda: open_pictures([spec])):
        with pytest.raises(TinctError, match=rf"'{spec}' names no path \(is a variable unset\?\); .* or \. for"):
            opened()
    assert len(open_sources(["."], "all"))


def test_a_broken_split_is_not_taken_for_an_absent_one(tmp_path):
    for name in ("train/cat/a", "train/dog/b", "val/Dog/c", "test/cat/d"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(path)
    spec = f"folder:{tmp_path}"
    for asked in (lambda: open_evaluated(spec), lambda: open_sources([spec], "train")):
        with pytest.raises(TinctError, match="class 'Dog' is not among the 2 folders of train"):
            asked()
    (tmp_path / "val" / "Dog").rename(tmp_path / "val" / "dog")
    assert len(open_evaluated(spec)) == 2
    shutil.rmtree(tmp_path / "val")
    assert len(open_evaluated(spec)) == 1  # few sets have every split

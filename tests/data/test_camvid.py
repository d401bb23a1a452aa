import numpy as np
import pytest
from PIL import Image

from tinct.data.base import VOID
from tinct.data.camvid import CLASSES, CamVid
from tinct.data.inspect import data
from tinct.data.sources import open_sources
from tinct.errors import PictureError, TinctError


@pytest.fixture
def root(tmp_path):
    generator = np.random.default_rng(0)
    for folder in ("train", "trainannot", "val"):
        (tmp_path / folder).mkdir()
    for stem in ("b", "a"):
        Image.new("RGB", (8, 6)).save(tmp_path / "train" / f"{stem}.jpg")
        Image.fromarray(generator.integers(0, 12, (6, 8), np.uint8)).save(tmp_path / "trainannot" / f"{stem}.png")
    (tmp_path / "train" / "Thumbs.db").touch()
    return tmp_path


def test_value_eleven_becomes_void_and_nothing_else_changes(root):
    source = CamVid(str(root), "train", "segmentation")
    assert [source.name(index) for index in range(2)] == ["train/a.jpg", "train/b.jpg"]
    assert (source.classes, source.mask_classes, source.background) == ((), CLASSES, None)
    for index, stem in enumerate("ab"):
        raw = np.asarray(Image.open(root / "trainannot" / f"{stem}.png"))
        mask = source.mask(index)
        assert (raw == 11).any()
        np.testing.assert_array_equal(mask == VOID, raw == 11)
        np.testing.assert_array_equal(mask[raw != 11], raw[raw != 11])


def test_a_folder_that_is_not_there_and_two_pictures_of_one_mask_are_named(root):
    with pytest.raises(TinctError, match="camvid:nowhere: no such folder"):
        CamVid("nowhere", "train", "multilabel")
    Image.new("RGB", (8, 6)).save(root / "train" / "a.png")
    with pytest.raises(TinctError, match=r"a\.jpg and a\.png would have one mask"):
        CamVid(str(root), "train", "segmentation")


def test_a_mask_in_a_lossy_format_is_refused(root):
    Image.fromarray(np.zeros((6, 8), np.uint8)).save(root / "trainannot" / "a.png", format="JPEG")
    with pytest.raises(PictureError, match=r"a\.png: a JPEG, which changes class numbers; make masks anew as PNG"):
        CamVid(str(root), "train", "segmentation").mask(0)


def test_an_unknown_value_is_named(root):
    Image.fromarray(np.full((6, 8), 12, np.uint8)).save(root / "trainannot" / "a.png")
    with pytest.raises(PictureError, match=r"a\.png: unknown mask value 12; expected 0 to 10, or 11 for void"):
        CamVid(str(root), "train", "segmentation").mask(0)


def test_what_does_not_pair_up_is_named(root):
    (root / "trainannot" / "a.png").unlink()
    with pytest.raises(TinctError, match=r"1 files without a partner, the first is a \(no mask\)"):
        CamVid(str(root), "train", "segmentation")
    with pytest.raises(TinctError, match="valannot: no such folder"):
        CamVid(str(root), "val", "segmentation")


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("701_StillsRaw_full", "LabeledApproved_full"), "train: no such folder; expected pictures in train, masks in"),
        (("train", "masks"), "trainannot: no such folder; expected pictures in train, masks in trainannot"),
        (("train", "trainannot"), "no pictures of the train split in it"),
    ],
)
def test_whoever_asks_for_either_task_hears_what_is_wrong_with_the_folders(tmp_path, folders, said):
    for folder in folders:
        (tmp_path / folder).mkdir()
    for look in (data, open_sources):
        with pytest.raises(TinctError, match=said):
            look([f"camvid:{tmp_path}"])


def test_multilabel_is_refused(root):
    with pytest.raises(TinctError, match="masks only"):
        CamVid(str(root), "train", "multilabel")

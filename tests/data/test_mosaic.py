import numpy as np
import pytest

import tinct.data.mosaic as module
from tinct.data.mosaic import SMALLEST, Mosaic
from tinct.data.photos import photographs
from tinct.errors import TinctError


def test_picture_labels_and_mask_belong_together():
    labels, masks = Mosaic("", "train", "multilabel"), Mosaic("", "train", "segmentation")
    assert (len(labels), len(Mosaic("", "val", "multilabel"))) == (400, 200)
    assert labels.classes == masks.mask_classes == tuple(photographs())
    for index, row in enumerate(labels.labels()[:40]):
        mask = masks.mask(index)
        values, counts = np.unique(mask, return_counts=True)
        np.testing.assert_array_equal(values, np.flatnonzero(row))
        assert 2 <= len(values) <= 4
        assert counts.min() >= SMALLEST * mask.size
        assert labels.picture(index).shape == (*mask.shape, 3) == (96, 96, 3)
    assert labels.labels().sum(0).min() > 100
    assert masks.background is None


@pytest.mark.parametrize("split", ["train", "val"])
def test_each_cell_shows_its_photograph_from_the_splits_half(split, monkeypatch):
    """With halves of one flat colour each, every pixel tells where it was cut from."""
    fakes = {}
    for number, name in enumerate(photographs()):
        fakes[name] = np.empty((200, 500, 3), np.uint8)
        fakes[name][:, :250] = (number, 0, 77)
        fakes[name][:, 250:] = (number, 255, 77)
    monkeypatch.setattr(module, "photographs", lambda: fakes)
    module._scaled.cache_clear()
    source = Mosaic("", split, "segmentation")
    for index in range(20):
        picture, mask = source.picture(index), source.mask(index)
        np.testing.assert_array_equal(picture[..., 0], mask)
        assert (picture[..., 1] == (0 if split == "train" else 255)).all()
    module._scaled.cache_clear()


def test_a_function_of_split_and_index_alone():
    source, again = Mosaic("", "val", "segmentation"), Mosaic("", "val", "segmentation")
    later = source.picture(7)
    source.picture(3)
    np.testing.assert_array_equal(again.picture(7), later)
    for other in (Mosaic("", "test", "multilabel"), Mosaic("", "train", "multilabel")):
        assert (other.picture(7) != later).any()
        assert other.name(7) != source.name(7)


def test_a_path_or_an_unknown_split_is_refused():
    with pytest.raises(TinctError, match="takes no path"):
        Mosaic("/data", "train", "multilabel")
    with pytest.raises(TinctError, match="has no all split"):
        Mosaic("", "all", "multilabel")

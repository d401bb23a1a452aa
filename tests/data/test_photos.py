import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from skimage import data as skimage_data

from tinct.data import photos as module
from tinct.data.decode import is_grey
from tinct.data.photos import Photos, left, photographs, right
from tinct.errors import TinctError


def test_the_photographs_are_scikit_images():
    pictures = photographs()
    assert list(pictures) == ["astronaut", "cat", "coffee", "rocket", "motorcycle", "histology", "retina", "deep field"]
    np.testing.assert_array_equal(pictures["cat"], skimage_data.chelsea())
    np.testing.assert_array_equal(pictures["histology"], skimage_data.immunohistochemistry())
    with pytest.raises(ValueError, match="read-only"):
        pictures["cat"][0] = 0


def test_the_parts_share_no_pixel_and_leave_none_out():
    for photograph in photographs().values():
        np.testing.assert_array_equal(np.concatenate((left(photograph), right(photograph)), axis=1), photograph)


def test_crops_are_a_pure_function_of_the_index():
    source = Photos()
    assert len(source) == 512
    order = np.random.default_rng(0).permutation(512)[:40]
    first = [source.picture(int(index)) for index in order]
    for index, crop in zip(order[::-1], first[::-1], strict=True):
        np.testing.assert_array_equal(Photos().picture(int(index)), crop)
    assert len({source.name(index) for index in range(512)}) == 512
    assert Counter(source.name(index).split("#")[0] for index in range(512)).most_common()[-1][1] == 64
    assert source.name(16) == "photos:astronaut#16"


@pytest.mark.parametrize(("split", "part"), [("train", left), ("all", left), ("val", right), ("test", right)])
def test_crops_come_from_their_part_alone(split, part, monkeypatch):
    """Paint the other part of every photograph red: no crop changes."""
    before = [Photos(split).picture(index) for index in range(48)]
    painted = {name: photograph.copy() for name, photograph in photographs().items()}
    for photograph in painted.values():
        (right if part is left else left)(photograph)[:] = (255, 0, 0)
    monkeypatch.setattr(module, "photographs", lambda: painted)
    for index, crop in enumerate(before):
        np.testing.assert_array_equal(Photos(split).picture(index), crop)
        assert crop.shape[0] == crop.shape[1] >= 112
        assert not is_grey(crop)


def test_the_parts_have_different_fingerprints():
    assert Photos().fingerprint() == Photos().fingerprint() != Photos("test").fingerprint()


def test_neither_scikit_image_nor_torch_is_imported():
    code = """import sys; from tinct.data.photos import Photos; Photos().picture(3)
        assert not {"skimage", "torch"} & {*sys.modules}"""
    subprocess.run([sys.executable, "-c", code.replace("    ", "")], check=True)


def test_missing_pictures_are_one_clear_error(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    photographs.cache_clear()
    with pytest.raises(TinctError, match="pip install scikit-image"):
        photographs()
    photographs.cache_clear()

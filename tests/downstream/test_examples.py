import numpy as np
from PIL import Image

from tinct.downstream.examples import Examples, open_labels


def test_a_mask_follows_its_picture_and_gets_no_values_that_it_has_not(tmp_path):
    y, x = np.mgrid[:200, :300]
    inside = (y - 70) ** 2 + (x - 170) ** 2 < 60**2
    Image.fromarray(np.where(inside[..., None], (250, 0, 0), (0, 0, 80)).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.where(inside, 2, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "table.csv").write_text("path,mask,split,fox,deer\na.png,mask.png,train,0,1\n")
    examples = Examples(open_labels(f"csv:{tmp_path / 'table.csv'}", "train", "segmentation", 64), np.array([0]))
    seen = set()
    for key in range(12):
        picture, mask = examples.crop(0, 64, key)
        assert set(np.unique(mask)) <= {0, 2}
        assert ((picture[..., 0] > 100) == (mask == 2)).mean() > 0.97
        seen |= set(np.unique(mask).tolist())
    assert seen == {0, 2}

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from skimage import data
from torchvision.transforms import RandomResizedCrop, functional

from tinct.data import transforms
from tinct.data.base import VOID
from tinct.data.transforms import (
    AREA,
    CONTRAST,
    LIGHTNESS,
    LONGEST,
    MULTIPLE,
    augment,
    centre,
    letterbox,
    whole,
    whole_side,
)

sides = st.integers(8, 90)


def halves(height, width):
    """A picture whose mask can be read off its red channel: classes in two blocks and void in a third."""
    mask = np.zeros((height, width), np.uint8)
    mask[:, width // 3 :] = 5
    mask[height // 2 :, width // 3 :] = VOID
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.select([mask == 5, mask == VOID], [120, 240], 0)
    return picture, mask


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 60), st.integers(0, 2**40))
def test_shapes_and_values_for_any_size(height, width, size, key):
    picture, mask = halves(height, width)
    shown = letterbox(picture, size, 128), letterbox(mask, size, VOID)
    for out, target in (augment(picture, mask, size, key), shown):
        assert out.shape == (size, size, 3)
        assert target is not None
        assert target.shape == (size, size)
        assert set(np.unique(target)) <= {0, 5, VOID}
        assert out.dtype == target.dtype == np.uint8
    assert centre(picture, size).shape == (size, size, 3)


@pytest.mark.parametrize("scale", [1, 2])
def test_mask_follows_the_picture_even_when_it_is_larger(scale):
    picture, _ = halves(60, 90)
    _, mask = halves(60 * scale, 90 * scale)
    for key in range(30):
        out, target = augment(picture, mask, 48, key)
        red = out[..., 0].astype(float)
        levels = {value: np.median(red[target == value]) for value in np.unique(target)}
        nearest = np.array(list(levels))[np.abs(red[..., None] - np.array(list(levels.values()))).argmin(-1)]
        assert (nearest == target).mean() > 0.95  # the rest is blurred edges


def test_draws_follow_from_the_key_alone():
    picture, mask = halves(40, 50)
    first = augment(picture, mask, 32, 3, 1, 4)
    augment(picture, mask, 32, 9)
    for one, other in zip(first, augment(picture, mask, 32, 3, 1, 4), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(augment(picture, None, 32, 3, 1, 4)[0], first[0])
    assert (augment(picture, mask, 32, 3, 1, 5)[0] != first[0]).any()


def test_crops_cover_the_stated_area_and_half_are_mirrored():
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :], 200, 0)  # each pixel tells its column
    covered, mirrored = [], 0
    for key in range(400):
        _, columns = augment(np.zeros((200, 200, 3), np.uint8), ramp, 64, key)
        _, rows = augment(np.zeros((200, 200, 3), np.uint8), np.ascontiguousarray(ramp.T), 64, key)
        covered.append((np.ptp(columns.astype(int)) + 3) * (np.ptp(rows.astype(int)) + 3) / 200**2)
        mirrored += bool(columns[0, 0] > columns[0, -1])
    assert AREA[0] - 0.03 < min(covered) < 0.45
    assert 0.9 < max(covered) < AREA[1] + 0.03
    assert 160 < mirrored < 240


def test_crops_that_fit_are_drawn_as_torchvision_draws_them(monkeypatch):
    monkeypatch.setattr(transforms, "AREA", (0.1, 0.4))  # any ratio fits
    torch.manual_seed(0)
    across, down = np.meshgrid(np.arange(240, dtype=np.uint8), np.arange(180, dtype=np.uint8))
    ours, theirs = [], []
    for key in range(300):
        masks = [augment(np.zeros((180, 240, 3), np.uint8), mask, 64, key)[1] for mask in (across, down)]
        (left, right), (top, bottom) = ((int(mask.min()), int(mask.max())) for mask in masks)
        ours.append((left, top, right - left, bottom - top, (right - left) / (bottom - top)))
        top, left, height, width = RandomResizedCrop.get_params(torch.empty(3, 180, 240), [0.1, 0.4], [3 / 4, 4 / 3])
        theirs.append((left, top, width, height, width / height))
    for one, other in zip(np.transpose(ours), np.transpose(theirs), strict=True):
        assert ks_2samp(one, other).pvalue > 1e-3


def test_a_crop_is_resampled_as_torchvision_does(monkeypatch):
    for name, value in {"AREA": (1, 1), "RATIO": (1, 1), "LIGHTNESS": 0, "CONTRAST": 0}.items():
        monkeypatch.setattr(transforms, name, value)  # so that the crop is all there is
    picture = data.astronaut()[:120, 100:220]
    for size in (48, 150):
        expected = functional.resize(torch.from_numpy(picture).permute(2, 0, 1), [size, size]).permute(1, 2, 0).numpy()
        both = [expected, expected[:, ::-1]]
        apart = [
            min(np.abs(augment(picture, None, size, key)[0].astype(int) - one).max() for one in both) for key in (1, 2)
        ]
        assert max(apart) <= 1
        assert np.abs(centre(picture, size).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("lightness", "contrast"), [(0.1, 0.0), (0.0, 0.2)])
def test_lightness_and_contrast_vary_around_the_pictures_own_mean(monkeypatch, lightness, contrast):
    for name, value in {"AREA": (1, 1), "RATIO": (1, 1), "LIGHTNESS": lightness, "CONTRAST": contrast}.items():
        monkeypatch.setattr(transforms, name, value)
    assert (LIGHTNESS, CONTRAST) == (0.1, 0.2)
    picture = (data.astronaut()[:64, :64] // 4 + 30).astype(np.uint8)  # dark, and nothing reaches black
    outs = [augment(picture, None, 64, key)[0] for key in range(200)]
    shifts = np.mean(outs, (1, 2, 3)) - picture.mean()
    factors = np.std(outs, (1, 2, 3)) / picture.std()
    for found, middle, reach in ((shifts, 0, 255 * lightness), (factors, 1, contrast)):
        off = 0.3 if middle == 0 else 0.01  # of rounding
        assert middle - reach - off < found.min() <= middle - 0.95 * reach + off
        assert middle + 0.95 * reach - off <= found.max() < middle + reach + off


def test_centre_is_the_middle_square_and_letterbox_loses_nothing():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 200
    np.testing.assert_array_equal(centre(picture, 40), np.full((40, 40, 3), 200))
    smaller = centre(picture, 10)
    assert smaller.shape == (10, 10, 3)
    assert (smaller[:, 1:-1] == 200).all()  # the filter reaches a little beyond the box
    assert (smaller[:, [0, -1]] > 150).all()
    out, target = letterbox(picture, 80, 128), letterbox(np.full((40, 80), 3, np.uint8), 80, VOID)
    np.testing.assert_array_equal(out[20:60], picture)
    assert (out[:20] == 128).all()
    assert (out[60:] == 128).all()
    assert (target[20:60] == 3).all()
    assert (target[:20] == VOID).all()
    assert (target[60:] == VOID).all()


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 8))
def test_a_segmenter_sees_the_whole_picture_and_nothing_else(height, width, steps):
    size = MULTIPLE * steps
    picture = np.full((height, width, 3), 128, np.uint8)
    picture[:, : (width + 1) // 2] = 40  # what was padded would be neither
    picture[:, (width + 1) // 2 :] = 220
    out = whole(picture, size)
    short, long = sorted(out.shape[:2])
    assert short == size
    assert (out.shape[0] > out.shape[1]) <= (height > width)
    assert long % MULTIPLE == 0
    shape = max(height, width) / min(height, width)
    assert abs(long - size * min(shape, LONGEST)) <= MULTIPLE / 2
    assert {40} == set(np.unique(out[:, 0]))
    assert width == 1 or {220} == set(np.unique(out[:, -1]))


def test_a_segmenter_sees_a_strip_squeezed():
    assert whole(np.zeros((1, 20000, 3), np.uint8), 64).shape == (64, 64 * LONGEST, 3)
    assert whole(np.zeros((20000, 1, 3), np.uint8), 64).shape == (64 * LONGEST, 64, 3)


@pytest.mark.parametrize(
    ("size", "min_crop", "side"), [(96, 0.5, 128), (64, 0.5, 96), (256, 1.0, 256), (32, 0.5, 64), (32, 1.0, 64)]
)
def test_whole_pictures_are_shown_at_the_scale_of_a_mean_crop(size, min_crop, side):
    assert whole_side(size, min_crop) == side

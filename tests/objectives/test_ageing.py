"""Old photographs as training shows them, against independent code, and as a function of keys alone."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from tinct import color
from tinct.color import stretch_levels
from tinct.objectives import ageing
from tinct.objectives.ageing import age, blurred, grain
from tinct.objectives.pretext import take_apart


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (32, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


KEYS = torch.arange(32) * 104_729


def only(monkeypatch, *defects):
    """Let all pictures have these defects and no others, at their limits."""
    numbers = torch.ones(32, 12)
    numbers[:, 0] = 0
    for number, defect in enumerate(("plate", "soft", "faded", "grainy"), start=1):
        numbers[:, number] = 0 if defect in defects else 1
    monkeypatch.setattr(ageing, "drawn", lambda *_: numbers)


def test_pictures_that_are_not_aged_have_the_lightness_of_lab(pixels):
    assert torch.allclose(age(pixels, KEYS, 0.0), color.srgb_to_lab(pixels)[:, :1], atol=1e-4)


def test_about_the_share_asked_for_is_aged_and_most_of_those_differ():
    keys = torch.arange(4000) * 7919
    tiny = torch.arange(4000 * 3 * 64).remainder(251).byte().reshape(4000, 3, 8, 8)
    changed = ((age(tiny, keys, 0.5) - color.srgb_to_lab(tiny)[:, :1]).abs().amax((1, 2, 3)) > 1e-3).float().mean()
    assert abs(float(changed) - 0.5 * (1 - 0.5**4)) < 0.03  # of the aged, one in sixteen has no defect


def test_what_is_drawn_follows_from_a_picture_and_its_key_alone(pixels):
    together = age(pixels, KEYS, 1.0)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(age(pixels[order], KEYS[order], 1.0), together[order], atol=1e-5)
    assert not torch.allclose(age(pixels, KEYS + 1, 1.0), together, atol=1.0)


def test_lightness_is_finite_and_in_range(pixels):
    black = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    for some in (pixels, black.expand(32, -1, -1, -1), 255 - black.expand(32, -1, -1, -1)):
        l = age(some, KEYS, 1.0)
        assert l.isfinite().all()
        assert l.min() >= 0
        assert l.max() <= 100


def test_plates_weigh_linear_light(monkeypatch, pixels):
    only(monkeypatch, "plate")
    linear = np.where(pixels > 10, ((pixels.numpy() / 255 + 0.055) / 1.055) ** 2.4, pixels.numpy() / 255 / 12.92)
    y = np.einsum("c,bchw->bhw", ageing.BLUE_SENSITIVE, linear)
    expected = np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)
    assert np.abs(age(pixels, KEYS, 1.0)[:, 0].numpy() - expected).max() < 0.02


def test_a_sensitivity_like_the_eye_s_gives_the_lightness_of_scikit_image(pixels):
    even = torch.tensor(color.LUMINANCE).expand(32, -1)[:, :, None, None]
    expected = rgb2lab(pixels.permute(0, 2, 3, 1).numpy())[..., 0]
    assert np.abs(color.srgb_to_lightness(pixels, even)[:, 0].numpy() - expected).max() < 1e-3
    assert torch.allclose(color.srgb_to_lightness(pixels / 255, even), color.srgb_to_lightness(pixels, even), atol=1e-3)


def test_plates_keep_white_white():
    white = torch.full((32, 3, 8, 8), 255, dtype=torch.uint8)
    for weights in (ageing.ORTHOCHROMATIC, ageing.BLUE_SENSITIVE):
        sensitivity = torch.tensor(weights).expand(32, -1)[:, :, None, None]
        assert torch.allclose(color.srgb_to_lightness(white, sensitivity), torch.tensor(100.0), atol=1e-3)


def test_each_picture_has_its_own_gaussian():
    planes = torch.rand(3, 1, 40, 48) * 100
    found = blurred(planes, torch.tensor([0.0, 0.7, 2.0]))
    assert torch.equal(found[0], planes[0])
    for plane, result, sigma in zip(planes[1:], found[1:], (0.7, 2.0), strict=True):
        expected = gaussian_filter(plane[0].numpy(), sigma, mode="mirror", radius=6)
        assert np.abs(result[0].numpy() - expected).max() < 1e-3


def test_pictures_smaller_than_the_kernel_are_blurred_too():
    assert blurred(torch.rand(2, 1, 3, 3), torch.tensor([2.0, 2.0])).shape == (2, 1, 3, 3)


def test_fading_lifts_black_and_dims_white(monkeypatch):
    only(monkeypatch, "faded")
    grey = torch.tensor([0, 119, 255], dtype=torch.uint8).expand(32, 3, 8, 3)
    found = age(grey, KEYS, 1.0)[0, 0, 0]
    middle = color.srgb_to_lab(grey)[0, 0, 0, 1] / 100
    expected = torch.tensor([ageing.BLACK, ageing.BLACK + 55 * middle**ageing.GAMMA, ageing.WHITE])
    assert torch.allclose(found, expected, atol=1e-2)


def test_grain_has_the_deviation_it_says(monkeypatch):
    only(monkeypatch, "grainy")
    grey = torch.full((32, 3, 64, 64), 119, dtype=torch.uint8)
    assert age(grey, KEYS, 1.0).std() == pytest.approx(ageing.GRAIN, rel=0.02)
    assert not torch.equal(grain(1, torch.Size((4, 4))), grain(2, torch.Size((4, 4))))


def test_colours_to_learn_are_those_of_the_picture_before_it_aged(pixels):
    plain, aged = (take_apart(pixels, KEYS, 4, share) for share in (0.0, 1.0))
    assert torch.equal(plain.ab, aged.ab)
    assert not torch.allclose(plain.l, aged.l, atol=1.0)
    assert aged.l.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("aged", [0.0, 1.0])
def test_levels_are_stretched_as_in_use(pixels, aged):
    plain, stretched = (take_apart(pixels, KEYS, 4, aged, stretched) for stretched in (False, True))
    torch.testing.assert_close(stretched.l, stretch_levels(plain.l), atol=0.01, rtol=0)
    assert not torch.allclose(stretched.l, plain.l, atol=1.0)
    assert torch.equal(stretched.ab, plain.ab)

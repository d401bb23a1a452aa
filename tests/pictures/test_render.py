import numpy as np
import pytest
import torch
from skimage.color import lab2rgb

from tinct.color import clip_to_gamut, lab_to_srgb, srgb_to_lab
from tinct.pictures.render import lightness, srgb

EIGHT_BIT_STEP = 100 / 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 3)])
def test_lightness_equals_the_reference(dtype, shape):
    values = np.random.default_rng(0).random(shape)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = (values * white).astype(dtype)
    planes = torch.tensor(pixels / white, dtype=torch.float32).reshape(40, 50, -1).permute(2, 0, 1).expand(3, -1, -1)
    assert np.allclose(lightness(pixels), srgb_to_lab(planes)[0], rtol=0, atol=2e-3)


def test_grey_comes_back_exactly():
    for dtype in (np.uint8, np.uint16):
        grey = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(16, -1)
        back = srgb(lightness(grey), np.zeros((2, *grey.shape), np.float32), np.dtype(dtype))
        assert np.abs(back.astype(int) - grey[..., None]).max() <= (0 if dtype == np.uint8 else 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_samples_equal_the_reference_in_and_out_of_the_gamut(dtype):
    generator = torch.Generator().manual_seed(1)
    l = 100 * torch.rand(64, 64, generator=generator)
    ab = 60 * torch.randn(2, 64, 64, generator=generator)
    expected = lab_to_srgb(clip_to_gamut(torch.cat((l[None], ab)))).permute(1, 2, 0).numpy()
    result = srgb(l.numpy(), ab.numpy(), np.dtype(dtype))
    if dtype == np.uint8:
        difference = np.abs(result.astype(int) - np.rint(expected * 255))
        assert difference.max() <= 1
        assert difference.mean() < 0.01
    else:
        white = 65535 if dtype == np.uint16 else 1
        assert np.abs(result / white - expected).max() < 3e-4  # a step of the bisection may fall otherwise


def test_16_bits_are_rounded_not_cut_off():
    l = np.linspace(0, 100, 20_000, dtype=np.float32)[None]
    grey = lab2rgb(np.dstack((l, 0 * l, 0 * l)))[..., 1] * 65535
    found = srgb(l, np.zeros((2, *l.shape), np.float32), np.dtype(np.uint16))[..., 1]
    assert abs((found - grey).mean()) < 0.05  # cut off, it would be half a step


def test_lightness_passes_through_within_an_8_bit_step():
    rng = np.random.default_rng(2)
    for spread in (10, 40, 120):
        l = 100 * rng.random((128, 128), np.float32)
        ab = spread * rng.standard_normal((2, 128, 128), np.float32)
        assert np.abs(lightness(srgb(l, ab, np.dtype(np.uint8))) - l).max() <= EIGHT_BIT_STEP
        assert np.abs(lightness(srgb(l, ab, np.dtype(np.uint16))) - l).max() < 0.1

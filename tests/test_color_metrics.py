import numpy as np
import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tinct.color_metrics import ab_distance, ab_l1, ciede2000, colorfulness, mean_ciede2000, psnr, ssim
from tinct.errors import TinctError

# Sharma, Wu and Dalal (2005), table 1: pairs that tell wrong hue arithmetic from right
SHARMA = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
    ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
]


def batch(pictures):
    return torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def pairs():
    """Two photographs in [0, 1] and disturbed copies, (B, 3, H, W)."""
    truth = np.stack([data.astronaut()[:96, 100:220], data.chelsea()[100:196, 100:220]]) / 255
    noise = np.random.default_rng(0).normal(0, 1, truth.shape) * np.array([0.05, 0.15])[:, None, None, None]
    return batch((truth + noise).clip(0, 1)), batch(truth)


def images(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def test_psnr_and_ssim_are_scikit_images(pairs):
    rgb, truth = pairs
    both = list(zip(images(truth), images(rgb), strict=True))
    expected = [peak_signal_noise_ratio(true, image, data_range=1) for true, image in both]
    np.testing.assert_allclose(psnr(rgb, truth), expected, rtol=1e-4)
    settings_of_the_paper = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        structural_similarity(true, image, data_range=1, channel_axis=2, **settings_of_the_paper)
        for true, image in both
    ]
    np.testing.assert_allclose(ssim(rgb, truth), expected, atol=2e-4)
    assert psnr(truth, truth).isinf().all()


def test_no_value_depends_on_the_batch(pairs):
    rgb, truth = pairs
    for metric in (psnr, ssim, lambda one, other: ab_distance(one[:, 1:], other[:, 1:])):
        torch.testing.assert_close(
            metric(rgb, truth), torch.cat([metric(rgb[:1], truth[:1]), metric(rgb[1:], truth[1:])])
        )


def test_ssim_of_tiny_pictures_is_refused():
    with pytest.raises(TinctError, match="10x20"):
        ssim(torch.zeros(1, 3, 20, 10), torch.zeros(1, 3, 20, 10))
    assert ssim(torch.rand(1, 3, 11, 12), torch.rand(1, 3, 11, 12)).isfinite().all()


def test_ab_error_by_hand():
    ab = torch.tensor([3.0, -4.0]).view(1, 2, 1, 1).expand(2, 2, 4, 6).clone()
    ab[1, :, ::2] *= -3  # half of the second picture is three times as far
    assert ab_l1(ab, torch.zeros(2, 2, 4, 6)).tolist() == [3.5, 7]
    assert ab_distance(ab, torch.zeros(2, 2, 4, 6)).tolist() == [5, 10]
    assert ab_distance(ab, ab.flip(2)).tolist() == [0, 20]


@pytest.mark.parametrize(("one", "other", "expected"), SHARMA)
def test_ciede2000_gives_the_published_values(one, other, expected):
    pair = [torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1) for colour in (one, other)]
    assert ciede2000(*pair).item() == pytest.approx(expected, abs=5e-5)
    assert ciede2000(*pair[::-1]).item() == pytest.approx(expected, abs=5e-5)


def test_ciede2000_is_of_each_pixel_of_each_picture():
    one, other, expected = (torch.tensor(values, dtype=torch.float64) for values in zip(*SHARMA[:6], strict=True))
    grids = [colours.view(2, 3, 1, 3).permute(0, 3, 2, 1) for colours in (one, other)]  # two pictures of 1x3
    torch.testing.assert_close(ciede2000(*grids), expected.view(2, 1, 3), atol=5e-5, rtol=0)


def test_colorfulness_is_the_papers_formula(pairs):
    for picture, value in zip(images(pairs[1]) * 255, colorfulness(pairs[1]), strict=True):
        rg, yb = picture[..., 0] - picture[..., 1], picture[..., :2].mean(-1) - picture[..., 2]
        expected = np.sqrt(rg.var() + yb.var()) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)
        assert float(value) == pytest.approx(expected, rel=1e-5)
    assert colorfulness(torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)).item() == pytest.approx(0, abs=1e-4)


def test_ssim_in_strips_is_that_of_the_whole(pairs, monkeypatch):
    coloured, truth = pairs
    whole = ssim(coloured, truth)
    for strip in (1, 7 * coloured.shape[-1], 100 * coloured.shape[-1]):
        monkeypatch.setattr("tinct.color_metrics.STRIP", strip)
        assert torch.allclose(ssim(coloured, truth), whole, atol=1e-6)


def test_ciede2000_in_strips_is_that_of_the_whole(monkeypatch):
    monkeypatch.setattr("tinct.color_metrics.STRIP", 50)
    lab, other = torch.rand(2, 1, 3, 13, 17) * 60
    assert float(mean_ciede2000(lab, other)) == pytest.approx(float(ciede2000(lab, other).mean()), rel=1e-6)

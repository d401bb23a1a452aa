import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import lab2rgb, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from tinct.color import clip_to_gamut
from tinct.pretraining.heldout import colour_scores

PICTURES = np.stack(
    [data.astronaut()[:256:4, 200:456:4], data.coffee()[:256:4, :256:4], data.chelsea()[:256:4, :256:4]]
)


def by_lightness(l: torch.Tensor) -> torch.Tensor:
    """Colours of every picture and place of 4 x 4 that hang on what is seen."""
    seen = torch.nn.functional.avg_pool2d(l, 4) / 100
    return torch.cat((25 * torch.sin(9 * seen), 40 * seen - 15), dim=1)


def colourfulness(rgb: np.ndarray) -> float:
    red, green, blue = 255 * np.moveaxis(rgb, -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    return np.sqrt(rg.var() + yb.var()) + 0.3 * np.sqrt(rg.mean() ** 2 + yb.mean() ** 2)


@pytest.mark.parametrize("batch", [2, 32])
def test_scores_are_those_of_scikit_image(batch):
    found = colour_scores(by_lightness, PICTURES, torch.device("cpu"), batch)
    results, apart, vivid = [], [], []
    for picture in PICTURES:
        truth = rgb2lab(picture)
        l = torch.tensor(truth[None, None, ..., 0], dtype=torch.float32)
        ab = torch.nn.functional.interpolate(by_lightness(l), size=(64, 64), mode="bilinear")[0]
        results.append(lab2rgb(clip_to_gamut(torch.cat((l[0], ab))).permute(1, 2, 0).numpy()))
        apart.append([np.hypot(*ab.T).mean() for ab in ((rgb2lab(results[-1]) - truth)[..., 1:], truth[..., 1:])])
        vivid.append([colourfulness(results[-1]), colourfulness(picture / 255)])
    error, grey = np.mean(apart, axis=0)
    mine, true = np.mean(vivid, axis=0)
    psnr = [
        peak_signal_noise_ratio(truth / 255, one, data_range=1) for truth, one in zip(PICTURES, results, strict=True)
    ]
    expected = {"ab_error": error, "ab_error_grey": grey, "psnr": np.mean(psnr), "colourfulness_ratio": mine / true}
    assert found == pytest.approx(expected | {"balance": error * true / mine}, rel=1e-3)

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tinct.coloring import upsample
from tinct.coloring.upsample import fit


def naive(l: NDArray, p: NDArray, radius: int, epsilon: float) -> tuple[NDArray, NDArray]:
    """He & Sun 2015, algorithm 2, steps 2 to 5, one window at a time."""
    height, width = l.shape

    def window(values: NDArray, i: int, j: int) -> NDArray:
        return values[max(i - radius, 0) : i + radius + 1, max(j - radius, 0) : j + radius + 1]

    def over_windows(values: NDArray) -> NDArray:
        return np.array([[window(values, i, j).mean() for j in range(width)] for i in range(height)])

    slope, offset = np.zeros_like(l), np.zeros_like(l)
    for i in range(height):
        for j in range(width):
            x, y = window(l, i, j), window(p, i, j)
            slope[i, j] = ((x * y).mean() - x.mean() * y.mean()) / (x.var() + epsilon)
            offset[i, j] = y.mean() - slope[i, j] * x.mean()
    return over_windows(slope), over_windows(offset)


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 100.0), (2, 1.0), (3, 0.01)])
def test_slopes_and_offsets_equal_a_naive_guided_filter(radius, epsilon, monkeypatch):
    rng = np.random.default_rng(radius)
    l = rng.uniform(0, 100, (9, 13))
    ab = rng.normal(0, 30, (2, 9, 13))
    for name, value in {"RADIUS": radius, "EPSILON": epsilon, "BACK_PROJECTIONS": 0}.items():
        monkeypatch.setattr(upsample, name, value)
    chroma = fit(torch.tensor(l).float(), torch.tensor(ab).float())
    for channel in range(2):
        slope, offset = naive(l, ab[channel], radius, epsilon)
        assert np.abs(chroma.slope[channel].numpy() - slope).max() < 1e-4
        assert np.abs(chroma.offset[channel].numpy() - offset).max() < 1e-2


def test_the_constants_are_those_that_were_measured():
    """Windows of 3 x 3 cells, a variance of 100, two rounds of adding back; a cell is 4 pixels."""
    rng = np.random.default_rng(4)
    l, ab = rng.uniform(0, 100, (36, 52)), rng.normal(0, 30, (2, 9, 13))

    def raised(cells: NDArray) -> NDArray:
        whole = torch.nn.functional.interpolate(torch.tensor(cells)[None, None], l.shape, mode="bilinear")
        return whole[0, 0].numpy()

    def averaged(pixels: NDArray) -> NDArray:
        return pixels.reshape(9, 4, 13, 4).mean((1, 3))

    chroma = fit(torch.tensor(l).float(), torch.tensor(ab).float())
    for channel, colour in enumerate(ab):
        slope, offset = naive(averaged(l), colour, 1, 100.0)
        for _ in range(2):
            offset = offset + colour - averaged(raised(slope) * l + raised(offset))
        np.testing.assert_allclose(chroma.slope[channel], slope, atol=1e-4)
        np.testing.assert_allclose(chroma.offset[channel], offset, atol=1e-2)


def test_strips_give_what_the_whole_gives():
    generator = torch.Generator().manual_seed(0)
    chroma = fit(100 * torch.rand(64, 96, generator=generator), 30 * torch.randn(2, 16, 24, generator=generator))
    l = 100 * np.random.default_rng(0).random((131, 77), np.float32)
    whole = chroma.rows(l, 0, 131)
    for step in (1, 7, 64):
        parts = [chroma.rows(l[top : top + step], top, 131) for top in range(0, 131, step)]
        assert np.allclose(np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-3)  # Lab units; processors round apart


def test_enlarging_is_bilinear():
    chroma = fit(50 + torch.rand(8, 8), torch.randn(2, 8, 8))
    enlarged = torch.nn.functional.interpolate(chroma.offset[None], (21, 30), mode="bilinear")[0].numpy()
    assert np.allclose(chroma.rows(np.zeros((21, 30), np.float32), 0, 21), enlarged, atol=1e-5)


def test_flat_colour_stays_flat():
    ab = torch.tensor([20.0, -35.0])[:, None, None].expand(2, 8, 8)
    l = 100 * torch.rand(32, 32)
    raised = fit(l, ab).rows(100 * np.random.default_rng(0).random((100, 100), np.float32), 0, 100)
    assert np.allclose(raised, ab[:, :1, :1], atol=1e-3)


def test_colour_follows_an_edge_without_a_halo():
    l = torch.full((256, 256), 30.0)
    l[:, 131:] = 70.0  # inside a coarse cell, so that the colour of one column of cells is a mixture
    truth = torch.zeros(2, 256, 256)
    truth[0, :, :131], truth[0, :, 131:] = 40.0, -40.0
    ab = torch.nn.functional.avg_pool2d(truth, 16)
    raised = torch.from_numpy(fit(l[::4, ::4], ab).rows(l.numpy(), 0, 256))
    plain = torch.nn.functional.interpolate(ab[None], (256, 256), mode="bilinear")[0]
    error, plain_error = (raised - truth).abs()[0], (plain - truth).abs()[0]
    assert error.mean() < 0.45 * plain_error.mean()
    for column in (128, 130, 131, 133):  # hugging the edge, where bilinear colour is grey
        assert error[:, column].mean() < 0.62 * plain_error[:, column].mean()
    assert raised.abs().max() < 46  # no more than 15 % beyond either colour


def test_raised_colour_averages_to_the_coarse_colour(monkeypatch):
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    l = 50 + 30 * torch.sin(rows / 6) * torch.cos(columns / 9)
    ab = torch.stack((20 * torch.sin(rows / 14), 15 * torch.cos(columns / 11)))
    coarse = torch.nn.functional.avg_pool2d(ab, 4)
    distances = []
    for rounds in (0, 1, 2):
        monkeypatch.setattr(upsample, "BACK_PROJECTIONS", rounds)
        raised = torch.from_numpy(fit(l, coarse).rows(l.numpy(), 0, 64))
        distances.append(float((torch.nn.functional.avg_pool2d(raised, 4) - coarse).abs().mean()))
    assert distances[2] < distances[1] < distances[0]
    assert distances[2] < 0.2


def test_one_pixel():
    chroma = fit(torch.full((32, 32), 60.0), torch.full((2, 8, 8), 12.0))
    assert np.allclose(chroma.rows(np.full((1, 1), 60, np.float32), 0, 1), 12, atol=1e-3)

import numpy as np
import pytest
import torch

from tinct.coloring.steady import MEMORY, REACH, STAY, Steady, _carried, _match


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def scene(seed: int, height: int = 64, width: int = 96, detail: int = 8) -> torch.Tensor:
    """L* with detail of so many pixels, (height, width)."""
    shape = 1, 1, height // detail, width // detail
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 100, shape)).float()
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0, 0]


def test_where_nothing_moves_colour_is_the_mean_of_the_last_frames():
    l, steady = scene(0), Steady()
    colours = [noise(seed, 2, 16, 24) for seed in range(40)]
    answers = [steady(l, ab) for ab in colours]
    torch.testing.assert_close(answers[0], colours[0])
    torch.testing.assert_close(answers[MEMORY - 1], torch.stack(colours[:MEMORY]).mean(0))
    # from then on an exponential mean, whose variance is 1 / (2 MEMORY - 1) of a frame's
    assert torch.stack(answers[MEMORY:]).var() == pytest.approx(1 / (2 * MEMORY - 1), rel=0.4)


@pytest.mark.parametrize(("apart", "counts"), [(0.0, True), (3.0, True), (5.0, True), (5.2, False), (40.0, False)])
def test_the_past_counts_for_less_the_more_lightness_differs_and_for_nothing_after_a_cut(apart, counts):
    """The numbers that `benchmarks/film.py` was run with, by hand: a tolerance of 4 L*, a cut below a weight of 0.2."""
    steady, before, now = Steady(), noise(0, 2, 16, 24), noise(1, 2, 16, 24)
    steady(torch.full((64, 96), 50.0), before)
    weight = np.exp(-((apart / 4) ** 2)) * counts
    expected = (before * weight + now) / (weight + 1)
    torch.testing.assert_close(steady(torch.full((64, 96), 50.0 + apart), now), expected)


def test_at_most_eight_frames_count():
    steady = Steady()
    for _ in range(20):
        steady(scene(0), torch.zeros(2, 16, 24))
    torch.testing.assert_close(steady(scene(0), torch.ones(2, 16, 24)), torch.full((2, 16, 24), 1 / 8))


def test_cells_are_looked_for_two_cells_away_and_no_further():
    """Four half cells: a pan over the whole width in a second moves 3.5."""
    before = scene(7, 32, 64, 2)
    for moved, found in ((4, True), (5, False)):
        shift, _ = _match(before, before.roll(moved, 1))
        inner = shift[:, 4:-4, 6:-6]
        assert bool((inner == torch.tensor([0, -moved / 2])[:, None, None]).all()) == found


@pytest.mark.parametrize(("better", "goes"), [(0.2, False), (0.3, True)])
def test_another_place_must_match_better_by_a_quarter(better, goes):
    before, now = torch.full((32, 64), 50.0), torch.full((32, 64), 50.0)
    before[:, :32] -= 1.5 * better  # two thirds of the window around the last cell of what is darker
    shift, _ = _match(before, now)
    assert bool(shift[1, :, 15].any()) == goes


@pytest.mark.parametrize(("down", "right"), [(0, 4), (2, 0), (-2, 4), (1, -3)])
def test_colour_travels_with_what_moves(down, right):
    """A pan over a wide scene, whose true colour is known everywhere."""
    wide, truth = scene(1, 160, 160), scene(2, 160, 160, 16) / 5
    steady, errors, alone = Steady(), [], []
    for frame in range(8):
        window = slice(40 + frame * down, 104 + frame * down), slice(30 + frame * right, 126 + frame * right)
        true = torch.nn.functional.avg_pool2d(truth[window][None], 4).expand(2, -1, -1)
        given = true + noise(frame, 2, 16, 24)
        inner = slice(None), slice(3, -3), slice(3, -3)  # what comes into view has no past
        errors.append((steady(wide[window], given) - true)[inner].square().mean())
        alone.append((given - true)[inner].square().mean())
    assert errors[-1] < 0.7 * alone[-1]


def test_a_cut_starts_afresh_and_so_does_another_size():
    steady = Steady()
    for seed in range(4):
        steady(scene(3), noise(seed, 2, 16, 24))
    other = noise(9, 2, 16, 24)
    torch.testing.assert_close(steady(100 - scene(4), other), other)
    smaller = noise(10, 2, 8, 12)
    torch.testing.assert_close(steady(scene(4, 32, 48), smaller), smaller)
    wider = noise(11, 2, 8, 13)
    torch.testing.assert_close(steady(torch.nn.functional.pad(scene(4, 32, 48), (0, 4)), wider), wider)
    odd = noise(12, 2, 8, 13)  # nothing changed: the mean of both, though the sides are no multiples
    torch.testing.assert_close(steady(torch.nn.functional.pad(scene(4, 32, 48), (0, 4)), odd), (wider + odd) / 2)


def test_matching_is_an_exhaustive_search():
    before, now = scene(5, 16, 24).numpy(), scene(6, 16, 24).numpy()
    now[4:12, 4:12] = before[2:10, 7:15]  # two half cells up, three to the right
    shift, apart = (tensor.numpy() for tensor in _match(torch.from_numpy(before), torch.from_numpy(now)))
    padded = np.pad(before, REACH, mode="edge")
    for row in range(8):
        for column in range(12):
            best, found = np.inf, None
            for down in range(-REACH, REACH + 1):
                for right in range(-REACH, REACH + 1):
                    moved = padded[REACH + down : REACH + down + 16, REACH + right : REACH + right + 24]
                    cells = np.abs(moved - now).reshape(8, 2, 12, 2).mean((1, 3))
                    window = cells[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].mean()
                    cost = window + STAY * bool(down or right)
                    if cost < best - 1e-4:
                        best, found = cost, (down / 2, right / 2, window)
            np.testing.assert_allclose((*shift[:, row, column], apart[row, column]), found, atol=1e-3)
    np.testing.assert_allclose(shift[:, 4, 4], (-1, 1.5))


def test_half_a_step_is_cubic_and_beyond_the_border_is_the_border():
    row = torch.tensor([1.0, 4.0, 2.0, 8.0, 5.0, 7.0])
    carried = _carried(row.expand(1, 6, 6), torch.stack((torch.zeros(6, 6), torch.full((6, 6), 0.5))))[0, 0]
    by_hand = np.convolve(row, (-0.09375, 0.59375, 0.59375, -0.09375), "valid")  # Keys 1981, with a = -0.75
    np.testing.assert_allclose(carried[1:4], by_hand, rtol=1e-5)
    torch.testing.assert_close(_carried(torch.ones(1, 6, 6), torch.full((2, 6, 6), -2.0)), torch.ones(1, 6, 6))

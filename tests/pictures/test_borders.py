import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.draw import disk

from tinct.color import srgb_to_lab
from tinct.colorize import Colorizer
from tinct.pictures.borders import inside
from tinct.pictures.picture import Picture, as_stored, unit, upright

PHOTOGRAPHS = {name: getattr(data, name)() for name in ("astronaut", "camera", "chelsea", "coffee", "rocket")}


def bordered(pixels: np.ndarray, margins: tuple[int, int, int, int], level: int, noise: float = 2) -> np.ndarray:
    """Top, bottom, left and right, of that grey, with some grain."""
    top, bottom, left, right = margins
    height, width = pixels.shape[:2]
    shape = (height + top + bottom, width + left + right, *pixels.shape[2:])
    page = level + noise * np.random.default_rng(0).standard_normal(shape)
    page = np.rint(page).clip(0, 255).astype(pixels.dtype)
    page[top : top + height, left : left + width] = pixels
    return page


def whole(pixels: np.ndarray) -> tuple[slice, slice]:
    return slice(0, pixels.shape[0]), slice(0, pixels.shape[1])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("level", [5, 235])
@pytest.mark.parametrize("margins", [(30, 40, 50, 60), (7, 7, 7, 7), (300, 400, 350, 250)])
def test_borders_are_found_to_the_pixel(name, level, margins):
    photograph = PHOTOGRAPHS[name]
    found = inside(bordered(photograph, margins, level))
    top, _, left, _ = margins
    # a photograph's own lines, as even as the border, may count as border too
    assert 0 <= found[0].start - top < 0.02 * photograph.shape[0]
    assert 0 <= found[1].start - left < 0.02 * photograph.shape[1]
    assert 0 <= top + photograph.shape[0] - found[0].stop < 0.02 * photograph.shape[0]
    assert 0 <= left + photograph.shape[1] - found[1].stop < 0.02 * photograph.shape[1]


def test_black_at_two_sides_is_a_border_and_paper_at_two_is_none():
    photograph = PHOTOGRAPHS["coffee"]
    height, width = photograph.shape[:2]
    for margins in ((40, 40, 0, 0), (0, 0, 40, 40)):
        rows, columns = slice(margins[0], margins[0] + height), slice(margins[2], margins[2] + width)
        assert inside(bordered(photograph, margins, 5)) == (rows, columns)
        light = bordered(photograph, margins, 235)
        assert inside(light) == whole(light)


def test_without_paper_only_black_is_a_border():
    card = bordered(PHOTOGRAPHS["coffee"], (40, 40, 40, 40), 235)
    assert inside(card, paper=False) == whole(card)
    barred = bordered(card, (0, 0, 50, 50), 5)
    assert inside(barred, paper=False) == (slice(0, card.shape[0]), slice(50, 50 + card.shape[1]))


def test_a_print_on_the_black_lid_of_a_scanner_is_found_within_both():
    photograph = PHOTOGRAPHS["coffee"]
    page = bordered(bordered(photograph, (40, 40, 40, 40), 235), (100, 10, 200, 20), 4)
    height, width = photograph.shape[:2]
    assert inside(page) == (slice(140, 140 + height), slice(240, 240 + width))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_every_depth_is_looked_at_alike(kind):
    page = bordered(PHOTOGRAPHS["coffee"], (40, 30, 20, 10), 235)
    white = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[kind]
    assert inside((page * np.float64(white)).astype(kind)) == inside(page)


@pytest.mark.parametrize("degrees", [-1.5, 0.5, 1.0])
def test_a_print_that_lies_aslant_keeps_all_of_itself(degrees):
    photograph = PHOTOGRAPHS["coffee"]
    page = Image.fromarray(bordered(photograph, (60, 60, 60, 60), 235, noise=0))
    is_print = Image.fromarray(bordered(np.full(photograph.shape[:2], 255, np.uint8), (60, 60, 60, 60), 0, noise=0))
    turned = np.asarray(page.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(235, 235, 235)))
    mask = np.asarray(is_print.rotate(degrees)) > 127
    found = np.zeros_like(mask)
    found[inside(turned)] = True
    assert (found & mask).sum() > 0.995 * mask.sum()
    assert (found & ~mask).sum() < 0.3 * (~mask).sum()


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_without_borders_have_none(name):
    assert inside(PHOTOGRAPHS[name]) == whole(PHOTOGRAPHS[name])


def bird() -> np.ndarray:
    sky = np.full((300, 400), 215, np.uint8)
    sky[disk((140, 220), 60)] = 60
    return sky


def lamp() -> np.ndarray:
    """Light that fades into the night."""
    rows, columns = np.mgrid[-1:1:300j, -1:1:400j]
    return (255 * np.exp(-4 * (rows**2 + columns**2))).astype(np.uint8)


def speck() -> np.ndarray:
    page = np.full((300, 400), 240, np.uint8)
    page[140:160, 190:230] = 30
    return page


@pytest.mark.parametrize("made", [bird, lamp, speck])
def test_what_only_resembles_a_border_is_none(made):
    assert inside(made()) == whole(made())


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (31, 31), (64, 64), (64, 20000)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_pictures_of_one_value_are_left_whole(shape, value):
    pixels = np.full(shape, value, np.uint8)
    assert inside(pixels) == whole(pixels)


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_only_what_is_inside_is_seen_and_coloured(orientation):
    seen = []

    def network(l: torch.Tensor) -> torch.Tensor:
        seen.append(l)
        ab = torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)
        ab[:, 0] = torch.linspace(-30, 30, ab.shape[2])[:, None]  # green above, red below
        return ab

    colorizer = Colorizer(network, 64, "fake", "cpu")
    inner = data.camera()[:, :384]
    turned = as_stored(torch.from_numpy(inner.copy()), orientation).numpy()
    page = bordered(turned, (30, 40, 50, 60), 235)
    box = inside(page)
    assert box == (slice(30, 30 + turned.shape[0]), slice(50, 50 + turned.shape[1]))
    result = colorizer.colour([Picture(page, orientation=orientation)])[0]
    alone = colorizer.colour([Picture(turned, orientation=orientation)])[0]
    assert torch.equal(seen[0], seen[1])
    assert np.array_equal(result.pixels[box], alone.pixels)
    redness = upright(torch.from_numpy(alone.pixels.astype(int)).permute(2, 0, 1), orientation)
    assert (redness[0] - redness[1])[-5:].float().mean() > 20
    border = np.ones(page.shape, bool)
    border[box] = False
    assert np.ptp(result.pixels[border].astype(int), axis=-1).max() == 0
    before, after = (srgb_to_lab(unit(pixels).expand(3, -1, -1))[0] for pixels in (page, result.pixels))
    assert (before - after).abs().max() < 100 / 255

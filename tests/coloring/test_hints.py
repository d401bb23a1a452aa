import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from tinct.color import srgb_to_lab
from tinct.coloring import hints, upsample
from tinct.coloring.hints import Known, corrected, parse_hints
from tinct.colorize import Colorizer
from tinct.errors import TinctError
from tinct.pictures.picture import Picture, as_stored, unit, upright

NAVY = "#2040a0"


def grey(l: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(l), 2, l.shape[2] // 4, l.shape[3] // 4)


def reddish(l: torch.Tensor) -> torch.Tensor:
    return grey(l) + torch.tensor([30.0, 10.0])[:, None, None]


def halves(light: int = 160) -> np.ndarray:
    """Dark to the left, lighter to the right, where all the colours of these tests still exist."""
    pixels = np.full((96, 128), 60, np.uint8)
    pixels[:, 64:] = light
    return pixels


def ab(pixels: np.ndarray) -> np.ndarray:
    return srgb_to_lab(unit(pixels).expand(3, -1, -1))[1:].numpy()


def chroma_of(colour: str) -> np.ndarray:
    return ab(np.array(Image.new("RGB", (1, 1), colour)))[:, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 12])
def test_what_is_added_is_what_a_gaussian_process_says(count):
    generator = torch.Generator().manual_seed(count)
    height, width = 24, 40
    l = torch.rand(height, width, generator=generator) * 100
    ab = torch.randn(2, 6, 10, generator=generator) * 15
    chroma, predicted = upsample.fit(l, 0.4 * ab), upsample.fit(l, ab)
    places = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    known = Known((slice(0, height), slice(0, width)), places, torch.randn(count, 2, generator=generator) * 40)
    now, guess = (one.rows(l.numpy(), 0, height).reshape(2, -1).T for one in (chroma, predicted))
    reach = hints.REACH * height
    place = np.mgrid[:height, :width].reshape(2, -1).T / reach
    like = np.hstack([place, l.reshape(-1, 1) / hints.LIKE_L, guess / hints.LIKE_AB])
    at = ((places[:, 0] * height).long() * width + (places[:, 1] * width).long()).tolist()
    process = GaussianProcessRegressor(Matern(1.0, nu=1.5), alpha=hints.NOISE, optimizer=None)
    process.fit(like[at], known.ab.numpy() - now[at])
    change = torch.from_numpy(process.predict(like).T.reshape(2, height, width))
    expected = chroma.rows(l.numpy(), 0, height) + upsample.fit(l, change).rows(l.numpy(), 0, height)
    found = corrected(chroma, l, known, predicted).rows(l.numpy(), 0, height)
    assert np.abs(found - expected).max() < 1e-3


def test_far_from_hints_nothing_changes():
    photograph = data.astronaut()
    picture = Picture(photograph)

    def varying(l):
        return 0.4 * torch.nn.functional.avg_pool2d(l - 50, 4).repeat(1, 2, 1, 1)

    colorizer = Colorizer(varying, 64, "fake", "cpu")
    before = colorizer.chroma([picture])[0]
    after = colorizer.chroma([picture], hints=[(10, 10, NAVY)])[0]
    l = srgb_to_lab(unit(photograph))[0].numpy()
    change = np.linalg.norm(after.rows(l, 0, 512) - before.rows(l, 0, 512), axis=0)
    assert change[10, 10] > 20
    assert change[400:, 400:].max() < 1.0


def test_what_differs_in_colour_stays_however_it_is_shown():
    """Saturation changes what a picture looks like, not what is alike in it."""

    def two(l):
        ab = grey(l)
        ab[:, 1, :, : ab.shape[3] // 2], ab[:, 1, :, ab.shape[3] // 2 :] = -35.0, 35.0
        return ab

    colorizer, pixels = Colorizer(two, 64, "fake", "cpu"), np.full((96, 128), 120, np.uint8)
    for saturation in (0.0, 1.0):
        before = ab(colorizer(pixels, saturation=saturation))
        after = ab(colorizer(pixels, saturation=saturation, hints=[(50, 50, "green")]))
        change = np.linalg.norm(after - before, axis=0)
        assert change[50, 50] > 30
        assert change[50, 78] < 0.2 * change[50, 22]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_hint_colours_its_place_and_what_looks_alike(orientation):
    seen = halves(light=220)
    stored = as_stored(torch.from_numpy(seen)[None], orientation)[0].numpy()
    picture = Picture(np.ascontiguousarray(stored), orientation=orientation)
    coloured = Colorizer(grey, 64, "fake", "cpu").colour([picture], hints=[(30, 50, NAVY)])[0]
    found = ab(upright(torch.from_numpy(coloured.pixels).permute(2, 0, 1), orientation).permute(1, 2, 0).numpy())
    wanted = chroma_of(NAVY)
    assert np.abs(found[:, 50, 30] - wanted).max() < 0.1 * np.abs(wanted).max()
    assert np.abs(found[:, 50, 40] - wanted).max() < np.abs(found[:, 50, 62] - wanted).max()  # less further off
    assert found[1, :, :60].mean() < 0.4 * wanted[1]
    assert np.abs(found[:, :, 70:]).max() < 0.1 * np.abs(wanted).max()  # unlike


def test_several_hints_and_those_that_disagree():
    colorizer = Colorizer(reddish, 64, "fake", "cpu")
    near = ab(colorizer(halves(), hints=[(20, 20, NAVY), (110, 80, "olive")]))
    assert near[1, 20, 20] < -40
    assert near[1, 80, 110] > 40
    # the same place twice: their mean
    (both, blue, olive) = (
        ab(colorizer(halves(), hints=[(110, 80, colour) for colour in colours]))[:, 80, 110]
        for colours in ((NAVY, "olive"), (NAVY, NAVY), ("olive", "olive"))
    )
    assert both == pytest.approx((blue + olive) / 2, abs=2.0)


def test_grey_is_a_colour_too():
    found = ab(Colorizer(reddish, 64, "fake", "cpu")(halves(), hints=[(20, 20, "gray")]))
    assert np.abs(found[:, 20, 20]).max() < 3
    assert found[0, 20, 120] > 25


def test_what_was_right_is_kept():
    colorizer = Colorizer(reddish, 64, "fake", "cpu")
    alone, without, kept = (
        ab(colorizer(halves(), hints=given))[:, 70, 40]
        for given in ([(20, 20, NAVY)], [], [(20, 20, NAVY), (40, 70, "keep")])
    )
    assert np.abs(alone - without).max() > 10
    assert np.abs(kept - without).max() < 2


def test_saturation_leaves_hints_as_they_are():
    found = ab(Colorizer(reddish, 64, "fake", "cpu")(halves(), saturation=0.0, hints=[(20, 20, NAVY)]))
    assert np.abs(found[:, 20, 20] - chroma_of(NAVY)).max() < 6
    assert np.abs(found[:, :, 80:]).max() < 6


def test_lightness_alpha_and_depth_are_kept():
    pixels = np.dstack([data.camera()[::4, ::4].astype(np.uint16) * 257, *[np.full((128, 128), 999, np.uint16)] * 3])
    pixels[..., 1], pixels[..., 2] = pixels[..., 0], pixels[..., 0]
    found = Colorizer(reddish, 64, "fake", "cpu")(pixels, hints=[(60, 60, NAVY), (3, 120, "green")])
    assert found.dtype == np.uint16
    assert np.array_equal(found[..., 3], pixels[..., 3])
    before, after = (srgb_to_lab(unit(one[..., :3]))[0] for one in (pixels, found))
    assert (before - after).abs().max() < 0.1


def test_a_hint_on_what_looks_like_a_border_says_that_it_is_none(caplog):
    scan = np.full((160, 200), 215, np.uint8)
    scan[20:140, 25:175] = data.camera()[100:220, 100:250] // 2
    colorizer = Colorizer(reddish, 64, "fake", "cpu")
    left = ab(colorizer(scan))
    assert np.abs(left[:, 5, 100]).max() < 2
    inside = ab(colorizer(scan, hints=[(100, 80, NAVY)]))
    assert np.abs(inside[:, 5, 100]).max() < 2  # still a border
    right = ab(colorizer(scan, hints=[(100, 5, "keep"), (100, 80, "Keep")]))
    assert np.abs(right - left).max() < 0.1
    assert np.array_equal(colorizer(scan, hints=[(100, 5, "keep")]), colorizer(scan))
    assert not caplog.messages
    on_it = ab(colorizer(scan, hints=[(100, 5, "#f0e0a0")]))
    assert np.abs(on_it[:, 5, 100] - chroma_of("#f0e0a0")).max() < 6
    assert caplog.messages == ["picture: a hint is on what looks like a border, so this is coloured too"]


def test_a_tensor_of_one_picture_and_pillow_take_hints_too():
    colorizer = Colorizer(grey, 64, "fake", "cpu")
    array = colorizer(halves(), hints=[(20, 20, NAVY)])
    tensor = colorizer(torch.from_numpy(halves())[None, None], hints=[(20, 20, NAVY)])
    assert np.array_equal(tensor[0].permute(1, 2, 0).numpy(), array)
    assert np.array_equal(np.asarray(colorizer(Image.fromarray(halves()), hints=((20, 20, NAVY),))), array)
    drawn = Colorizer(Drawing(), 64, "fake", "cpu").samples(halves(), 2, hints=[(20, 20, NAVY)])
    assert [round(float(ab(one)[0, 20, 120])) for one in drawn] == [0, 10]
    assert all(np.abs(ab(one)[:, 20, 20] - chroma_of(NAVY)).max() < 8 for one in drawn)


class Drawing(torch.nn.Module):
    samples = True

    def forward(self, l: torch.Tensor, seed: int = 0) -> torch.Tensor:
        return grey(l) + 10.0 * seed * torch.tensor([1.0, 0.0])[:, None, None]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([(128, 5, "red")], "hint at 128,5 is outside picture; expected columns below 128 and rows below 96, from 0"),
        ([(1234567.5, 5, "red")], "hint at 1234567.5,5 is outside"),
        ([(5, -1, "red")], "hint at 5,-1 is outside"),
        ([(float("nan"), 5, "red")], "hint at nan,5 is outside"),
        ([(5, 5, "blurple")], "a hint's colour is 'blurple'; expected #rrggbb, a CSS name or keep"),
        ([("5", 5, "red")], "a hint's column is '5', a str; expected a number"),
        ([(5, 5)], r"hints are \[\(5, 5\)\]; expected tuples such as"),
        ("5,5=red", "hints are '5,5=red'; expected tuples"),
        (7, "hints are 7; expected tuples"),
        ("", "hints are ''; expected tuples"),
        (np.array([(5, 5, "red")], dtype=object), r"hints are array\(.*; expected tuples"),
        ([(10**400, 5, "red")], r"hints are \[\(1000.*; expected places in the picture, in pixels"),
        ([(5, 5, "rgb(999, 0, 0)")], r"a hint's colour is 'rgb\(999, 0, 0\)'; expected"),
        ([(5, 5, "#11223344")], "a hint's colour is '#11223344'; expected"),
        ([(5, 5, "red")] * 101, "101 hints; expected at most 100; leave out those of little effect"),
    ],
)
def test_what_is_no_hint_is_one_sentence(given, says):
    with pytest.raises(TinctError, match=says):
        Colorizer(grey, 64, "fake", "cpu")(halves(), hints=given)


@pytest.mark.parametrize(
    "written", ["Sky Blue", "SKYBLUE", "87ceeb", "#87CEEB", "rgb(135, 206, 235)", "hsl(197, 71%, 73%)"]
)
def test_colours_as_people_write_them(written):
    colorizer = Colorizer(grey, 64, "fake", "cpu")
    same = colorizer(halves(), hints=[(5, 5, "skyblue")]).astype(int)
    assert np.abs(colorizer(halves(), hints=[(5, 5, written)]) - same).max() <= 2


def test_hints_are_of_one_picture():
    batch = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    with pytest.raises(TinctError, match="hints are of one picture, but there are 2; colour it alone"):
        Colorizer(grey, 64, "fake", "cpu")(batch, hints=[(5, 5, "red")])


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("120,340=#2040a0", (120, 340, "#2040a0")),
        (" 12.5 , 0 = tan ", (12.5, 0, "tan")),
        ("0,0=rgb(1, 2, 3)", (0, 0, "rgb(1, 2, 3)")),
    ],
)
def test_hints_as_text(text, hint):
    assert parse_hints([text]) == [hint]


@pytest.mark.parametrize(
    "text", ["", "1,2", "1,2=", "1=red", "a,b=red", "-1,2=red", "1,2,3=red", "1.2.3,4=red", "1,2=red" + 100 * " "]
)
def test_text_that_is_no_hint(text):
    with pytest.raises(TinctError, match="expected COLUMN,ROW=COLOUR, such as 120,340=#2040a0"):
        parse_hints([text])


def test_text_whose_colour_is_none():
    with pytest.raises(TinctError, match="a hint's colour is 'blurple'"):
        parse_hints(["1,2=tan", "1,2=blurple"])


def test_too_many_hints():
    with pytest.raises(TinctError, match="101 hints; expected at most 100"):
        parse_hints(["1,2=tan"] * 101)

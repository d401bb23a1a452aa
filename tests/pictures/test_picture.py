import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from skimage import data
from torch.nn import functional as F

from tinct.data.decode import GREY
from tinct.pictures.picture import (
    Picture,
    as_stored,
    reduced,
    strips,
    to_8_bits,
    toning,
    upright,
    upright_place,
    view,
)
from tinct.pictures.readers import read


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_does_and_as_stored_undoes_it(orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    turned = upright(planes, orientation)
    assert np.array_equal(turned.permute(1, 2, 0).numpy(), np.asarray(ImageOps.exif_transpose(image)))
    assert torch.equal(as_stored(turned, orientation), planes)
    assert Picture(pixels, orientation=orientation).size == tuple(turned.shape[1:])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 20000), (20000, 1), (1000, 1000)])
@pytest.mark.parametrize("multiple", [1, 7])
def test_strips_tile_the_rows(height, width, multiple):
    parts = list(strips(height, width, multiple))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(height))
    assert all((part.stop - part.start) % multiple == 0 for part in parts[:-1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_reduced_is_an_antialiased_resize_turned_upright(dtype):
    photo = data.astronaut()[:401, :333]
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = (photo / 255 * white).astype(dtype)
    small = reduced(Picture(pixels, orientation=6), 32, 40)
    planes = torch.from_numpy(pixels / white).permute(2, 0, 1)[None].float()
    expected = F.interpolate(upright(planes, 6), (32, 40), mode="bilinear", antialias=True)[0]
    assert small.shape == (3, 32, 40)
    assert (small - expected).abs().mean() < 0.01  # squares first, then bilinear: a slightly different window


def test_reduced_does_not_depend_on_strips(monkeypatch):
    picture = Picture(data.camera())
    whole = reduced(picture, 32, 32)
    monkeypatch.setattr("tinct.pictures.picture.STRIP_PIXELS", 1000)
    assert torch.allclose(reduced(picture, 32, 32), whole, atol=1e-6)


@pytest.mark.parametrize("orientation", [1, 6])
def test_what_is_looked_at_lies_over_white(orientation):
    photo = data.astronaut()[:60, :90]
    alpha = np.linspace(0, 255, 5400).astype(np.uint8).reshape(60, 90)
    over = Image.new("RGBA", (90, 60), "white")
    over.alpha_composite(Image.fromarray(np.dstack((photo, alpha))))
    over.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(over).convert("RGB")) / 255
    seen = view(Picture(photo, alpha, orientation)).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(seen, expected, atol=1.01 / 255)


def test_to_8_bits_rounds():
    assert to_8_bits(np.array([[0, 128, 129, 65535]], np.uint16)).tolist() == [[0, 0, 1, 255]]
    assert to_8_bits(np.array([[0, 0.5, 1]], np.float32)).tolist() == [[0, 128, 255]]


def toned(name: str) -> np.ndarray:
    grey = data.camera()[::2, ::2] / 255
    curves = {
        "grey": (1, 1, 1),
        "sepia": (0.8, 1.0, 1.3),
        "cyanotype": (2.2, 1.2, 0.7),
    }[name]
    noisy = np.stack([grey**gamma for gamma in curves], -1) + np.random.default_rng(0).normal(0, 0.01, (*grey.shape, 3))
    buffer = io.BytesIO()
    Image.fromarray((noisy.clip(0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=80)
    return read(buffer.getvalue()).pixels


@pytest.mark.parametrize(("name", "least", "most"), [("grey", 0, GREY), ("sepia", 8, 30), ("cyanotype", 8, 40)])
def test_grey_and_toned_prints_have_a_tone(name, least, most):
    tone = toning(Picture(toned(name)))
    assert tone is not None
    assert least <= tone < most


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_photographs_have_no_tone(name):
    assert toning(Picture(getattr(data, name)())) is None


def test_one_vivid_hue_is_not_a_toner():
    ramp = np.linspace(60, 255, 64).astype(np.uint8)
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = ramp
    assert toning(Picture(red)) is None
    assert toning(Picture(np.repeat(ramp[None], 64, axis=0))) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_places_are_turned_as_pixels_are(orientation):
    pixels = np.arange(15, dtype=np.uint8).reshape(3, 5)
    picture = Picture(pixels, orientation=orientation)
    turned = upright(torch.from_numpy(pixels), orientation)
    for row, column in np.ndindex(3, 5):
        there = upright_place(row + 0.5, column + 0.5, picture)  # the middle of the pixel
        assert turned[int(there[0]), int(there[1])] == pixels[row, column]

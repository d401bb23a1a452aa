import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab

from tinct import color
from tinct.errors import TinctError


def cube(points: int = 33) -> torch.Tensor:
    """(3, points^2, points): every colour of a regular grid, black, white and the primaries among them."""
    axis = torch.linspace(0, 1, points)
    return torch.cartesian_prod(axis, axis, axis).T.reshape(3, points * points, points)


def test_srgb_to_lab_equals_scikit_image_over_a_dense_cube():
    rgb = cube()
    expected = rgb2lab(rgb.numpy().astype(np.float64), channel_axis=0)
    assert np.abs(color.srgb_to_lab(rgb).numpy() - expected).max() < 1e-3


def test_8_bit_values_give_what_floats_give():
    rgb = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.allclose(color.srgb_to_lab(rgb), color.srgb_to_lab(rgb / 255), atol=1e-4)


def test_lab_to_srgb_equals_scikit_image_inside_the_gamut():
    lab = color.srgb_to_lab(cube())
    expected = lab2rgb(lab.numpy().astype(np.float64), channel_axis=0)
    assert np.abs(color.lab_to_srgb(lab).numpy() - expected).max() < 1e-3


def test_grey_keeps_its_lightness():
    rgb = cube(9)
    grey = color.greyed(rgb)
    assert torch.allclose(grey, grey[:1].expand_as(grey), atol=1e-3)
    assert torch.allclose(color.srgb_to_lab(grey)[0], color.srgb_to_lab(rgb)[0], atol=1e-2)


def test_planes_are_rounded_to_a_picture():
    planes = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0]).expand(3, 2, 4)
    assert np.array_equal(color.as_bytes(planes), np.tile(np.array([0, 0, 1, 255])[:, None], (2, 1, 3)))


def test_planes_of_a_picture_come_back_as_the_picture():
    pictures = torch.arange(256, dtype=torch.uint8).expand(3, 256).T.reshape(2, 16, 8, 3).numpy()
    planes = color.as_planes(pictures)
    assert (planes.shape, planes.dtype) == ((2, 3, 16, 8), torch.float32)
    assert all(np.array_equal(color.as_bytes(one), picture) for one, picture in zip(planes, pictures, strict=True))


def test_round_trip_is_within_half_an_8_bit_step():
    rgb = cube(52)  # steps of 5/255: every value is an 8-bit one
    assert (color.lab_to_srgb(color.srgb_to_lab(rgb)) - rgb).abs().max() < 0.5 / 255


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_float32_under_autocast(dtype):
    rgb = cube(9)
    with torch.autocast("cpu", dtype=dtype):
        lab = color.srgb_to_lab(rgb)
        back = color.lab_to_srgb(lab)
    assert lab.dtype == back.dtype == torch.float32
    assert torch.equal(lab, color.srgb_to_lab(rgb))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_any_floats_give_float32(dtype):
    rgb = cube(9).to(dtype)
    lab = color.srgb_to_lab(rgb)
    assert torch.equal(lab, color.srgb_to_lab(rgb.float()))
    for function in (color.lab_to_srgb, color.clip_to_gamut):
        assert torch.equal(function(lab.to(dtype)), function(lab.to(dtype).float()))


def test_batches_and_pictures_agree():
    rgb = torch.rand(2, 5, 3, 4, 6)
    assert torch.allclose(color.srgb_to_lab(rgb)[1, 3], color.srgb_to_lab(rgb[1, 3]), atol=1e-4)
    lab = 300 * rgb - 100  # most of it outside the gamut
    for function in (color.lab_to_srgb, color.clip_to_gamut):
        assert torch.allclose(function(lab)[1, 3], function(lab[1, 3]), atol=0.1)


def test_gradients_are_finite_at_black_white_and_the_edge_of_the_gamut():
    rgb = cube(5).requires_grad_()
    color.srgb_to_lab(rgb).sum().backward()
    assert rgb.grad is not None
    assert rgb.grad.isfinite().all()
    wild = torch.stack(torch.meshgrid(*[torch.linspace(-150, 150, 7)] * 3, indexing="ij")).reshape(3, 49, 7)
    lab = torch.cat((color.srgb_to_lab(cube(7)), wild), dim=1).requires_grad_()
    color.lab_to_srgb(lab).sum().backward()
    assert lab.grad is not None
    assert lab.grad.isfinite().all()
    rgb = color.lab_to_srgb(lab)
    assert 0 == rgb.min() < 0.999 < rgb.max() <= 1


def test_gradient_equals_finite_differences():
    rgb = (0.1 + 0.8 * torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(0))).requires_grad_()
    (grad,) = torch.autograd.grad(color.srgb_to_lab(rgb)[1].sum(), rgb)
    step = torch.zeros_like(rgb)
    step[0, 1, 1] = 1e-2
    slope = (color.srgb_to_lab(rgb + step)[1] - color.srgb_to_lab(rgb - step)[1]).sum() / 2e-2
    assert torch.isclose(grad[0, 1, 1], slope, rtol=1e-2)


def test_gamut_clipping_keeps_lightness_and_hue():
    generator = torch.Generator().manual_seed(0)
    lab = torch.rand(3, 40, 40, generator=generator) * torch.tensor([100, 240, 240]).view(3, 1, 1)
    lab[1:] -= 120
    clipped = color.clip_to_gamut(lab)
    outside = ~color.in_gamut(lab)[0]
    assert outside.float().mean() > 0.3  # or the test would show nothing
    assert torch.equal(clipped[0], lab[0])
    cross = clipped[1] * lab[2] - clipped[2] * lab[1]
    assert cross.abs().max() < 1e-2  # parallel
    assert ((clipped[1:] * lab[1:]).sum(0) >= 0).all()  # and not opposite
    assert color.in_gamut(clipped).all()
    shown = color.srgb_to_lab(color.lab_to_srgb(clipped))
    assert (shown[0] - lab[0]).abs().max() < 0.1
    assert torch.equal(clipped[:, ~outside], lab[:, ~outside])
    share = clipped[1:].norm(dim=0) / lab[1:].norm(dim=0)
    more = torch.cat((lab[:1], lab[1:] * (share + 2**-12)))  # the next larger share that is tried
    assert color.in_gamut(more)[0, outside].float().mean() < 0.01
    beyond = color.clip_to_gamut(torch.tensor([-9.0, 120.0]).view(1, 2, 1).expand(3, 2, 1))
    assert beyond[0, :, 0].tolist() == [0, 100]
    assert beyond[1:].abs().max() < 0.1  # black and white


def test_gamut_clipping_leaves_real_colours_alone():
    lab = color.srgb_to_lab(cube(17))
    assert torch.equal(color.clip_to_gamut(lab), torch.cat((lab[:1].clamp(0, 100), lab[1:])))


def test_normalisation_round_trip():
    ab = torch.linspace(-110, 110, 45)
    assert torch.allclose(color.normalize_ab(ab), torch.linspace(-1, 1, 45), atol=1e-6)
    assert torch.allclose(color.denormalize_ab(color.normalize_ab(ab)), ab)
    assert color.normalize_l(torch.tensor([0.0, 50.0, 100.0])).tolist() == [-1, 0, 1]


def test_ab_centres_cover_the_gamut():
    assert len(color.ab_centres(20)) == 75  # as files of colorizers have it
    centres = color.ab_centres(10)
    assert 260 <= len(centres) <= 320  # Zhang et al. count 313 with a coarser test of what is in the gamut
    assert [0, 0] in centres.tolist()
    ab = color.srgb_to_lab(torch.rand(3, 60, 60))[1:].flatten(1).T
    assert torch.cdist(ab, centres).min(1).values.max() < 10 / 2 * 2**0.5 + 5


def test_levels_are_stretched_as_percentiles_say():
    l = 30 + 40 * torch.rand(2, 1, 128, 128)
    l[..., :21, :] = 0  # what is at the sides has no say
    l[..., 107:] = 100
    middle = l[..., 21:107, 21:107].flatten(1).numpy()
    black, white = np.quantile(middle, [73 / 7395, 7322 / 7395], axis=1)
    expected = 100 * (l.numpy() - black[:, None, None, None]) / (white - black)[:, None, None, None]
    assert np.abs(color.stretch_levels(l).numpy() - expected.clip(0, 100)).max() < 1e-3


@pytest.mark.parametrize("size", [(32, 32), (96, 160), (224, 64)])
@pytest.mark.parametrize(("black", "contrast"), [(20, 0.6), (0, 0.3), (70, 0.3)])
def test_a_faded_picture_has_the_levels_that_it_had(size, black, contrast):
    l = 100 * torch.rand(2, 1, *size)
    assert torch.allclose(color.stretch_levels(black + contrast * l), color.stretch_levels(l), atol=1e-3)


def test_contrast_that_is_hardly_there_is_not_blown_up():
    flat = torch.tensor([0.0, 37.0, 100.0])[:, None, None, None].expand(3, 1, 32, 32)
    assert torch.allclose(color.stretch_levels(flat), flat)
    fog = 40 + 10 * torch.rand(1, 1, 64, 64)
    stretched = color.stretch_levels(fog)
    assert torch.allclose(stretched - stretched.min(), 4 * (fog - fog.min()), atol=1e-3)
    assert 20 < stretched.min() < stretched.max() < 80  # neither black nor white
    whole = 100 * torch.linspace(0, 1, 4096).reshape(1, 1, 64, 64).round()  # half black, half white
    assert torch.equal(color.stretch_levels(whole), whole)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.full((3, 1, 1), 255), "rgb is of torch.int64; expected floats, or bytes"),
        (torch.zeros(4, 4, 3), r"rgb has the shape \(4, 4, 3\); expected \(..., 3, H, W\)"),
        (torch.zeros(3), r"rgb has the shape \(3,\)"),
    ],
)
def test_what_is_no_picture_is_refused(value, says):
    with pytest.raises(TinctError, match=says.replace("rgb", "lab").partition(", or bytes")[0]):
        color.lab_to_srgb(value)
    with pytest.raises(TinctError, match=says):
        color.srgb_to_lab(value)


def test_lab_has_no_bytes():
    with pytest.raises(TinctError, match=r"lab is of torch.uint8; expected floats$"):
        color.lab_to_srgb(torch.zeros(3, 1, 1, dtype=torch.uint8))

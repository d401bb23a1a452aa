import numpy as np
import pytest
import timm
import torch
from skimage import data

from tinct.color import lab_to_srgb, srgb_to_lab
from tinct.errors import TinctError
from tinct.models.stem import LUMA, fold_stem, lightness_of, network_input, refit, stem_name

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photograph() -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(data.astronaut()[:64, 150:214])).permute(2, 0, 1)[None]


def grey_photograph() -> torch.Tensor:
    """sRGB values of a grey picture, (1, 1, 64, 64) in [0, 1]."""
    return photograph()[:, 1:2].float() / 255


def inside(features: torch.Tensor) -> torch.Tensor:
    return features[..., 2:-2, 2:-2]


def stem_of(encoder):
    return encoder.body.get_submodule(stem_name(encoder.body))


def test_inputs_are_in_one_range_and_mean_what_they_say():
    pixels = photograph()
    grey, rgb = network_input(pixels, "grey"), network_input(pixels, "rgb")
    assert grey.shape == (1, 1, 64, 64)
    assert rgb.shape == (1, 3, 64, 64)
    assert torch.allclose((grey + 1) * 50, srgb_to_lab(pixels.float() / 255)[:, :1])
    assert torch.allclose((rgb + 1) / 2 * 255, pixels.float(), atol=1e-3)
    assert rgb.min() >= -1
    assert rgb.max() <= 1


@pytest.mark.parametrize("backbone", ["resnet10t", "mobilenetv3_small_050", "convnext_atto"])
def test_rgb_weights_on_rgb_input_give_what_timm_gives(backbone):
    model = timm.create_model(backbone, num_classes=0)
    encoder, tensors = refit(backbone, model.state_dict(), "rgb", IMAGENET)
    encoder.body.load_state_dict(tensors, strict=True)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    usual = (photograph().float() / 255 - mean) / deviation
    expected = model.get_submodule(stem_name(model))(usual)
    given = stem_of(encoder)(network_input(photograph(), "rgb"))
    assert torch.allclose(inside(given), inside(expected), atol=1e-4)
    assert not torch.allclose(
        given, model.get_submodule(stem_name(model))(network_input(photograph(), "rgb")), atol=1e-2
    )


def test_rgb_weights_on_grey_input_see_the_grey_picture():
    model = timm.create_model("resnet10t", num_classes=0)
    encoder, tensors = refit("resnet10t", model.state_dict(), "grey", IMAGENET)
    encoder.body.load_state_dict(tensors, strict=True)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    expected = inside(model.get_submodule("conv1.0")((grey_photograph() - mean) / deviation))
    exact = inside(stem_of(encoder)(2 * grey_photograph() - 1))  # where L*/100 were the sRGB value
    assert torch.allclose(exact, expected, atol=1e-4)
    pixels = (grey_photograph() * 255).to(torch.uint8).expand(-1, 3, -1, -1)
    approximate = inside(stem_of(encoder)(network_input(pixels, "grey")))
    # the value is at most 0.034 off, and the normalisation divides by s
    bound = 0.034 * model.get_submodule("conv1.0").weight.abs().sum((1, 2, 3)).max() / min(IMAGENET[1])
    assert (approximate - expected).abs().max() < bound


def test_lightness_in_three_channels_is_the_same_in_one():
    model = timm.create_model("resnet10t", num_classes=0)
    encoder, tensors = refit("resnet10t", model.state_dict(), "grey", None)
    encoder.body.load_state_dict(tensors, strict=True)
    fed = network_input(photograph(), "grey")
    expected = model.get_submodule("conv1.0")(fed.expand(-1, 3, -1, -1))
    assert torch.allclose(stem_of(encoder)(fed), expected, atol=1e-5)
    assert "conv1.0.bias" not in tensors


def test_grey_weights_on_rgb_input_see_luma():
    weight = torch.randn(4, 1, 3, 3)
    spread, bias = fold_stem(weight, "rgb", None)
    assert bias is None
    assert spread.shape == (4, 3, 3, 3)
    fed = network_input(photograph(), "rgb")
    expected = torch.nn.functional.conv2d(lightness_of(fed), weight)
    assert torch.allclose(torch.nn.functional.conv2d(fed, spread), expected, atol=1e-5)


def test_luma_stands_in_for_lightness_as_well_as_stated():
    values = torch.linspace(0, 1, 256).expand(1, 3, 1, 256)
    grey = srgb_to_lab(values)[:, :1] / 100
    assert (grey - values[:, :1]).abs().max() < 0.035
    assert sum(LUMA) == pytest.approx(1)
    assert torch.allclose(lab_to_srgb(srgb_to_lab(values)), values, atol=1e-3)


def test_standardised_stems_are_refused():
    with pytest.raises(TinctError, match="ScaledStdConv2d"):
        refit("nf_resnet26", timm.create_model("nf_resnet26", num_classes=0).state_dict(), "grey", IMAGENET)

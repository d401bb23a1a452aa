"""What is put on an encoder to read labels off its feature maps. Each network has its encoder as `.encoder`."""

import importlib.util
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.errors import TinctError, one_line
from tinct.models.encoder import Encoder
from tinct.models.generator import Decoder
from tinct.models.stem import give_bias, lightness_of, stem_name

__all__ = ["SMP", "Classifier", "Segmenter", "pooled", "smp_keys", "smp_segmenter"]

SMP = {"unet": "Unet", "fpn": "FPN", "deeplabv3plus": "DeepLabV3Plus"}
"""Names of heads from segmentation-models-pytorch, and their classes."""


def pooled(features: list[Tensor], stages: Sequence[int], peaks: bool) -> Tensor:
    """Chosen feature maps averaged over the picture, and their maxima too if `peaks`: (B, D), stage by stage."""
    parts = []
    for stage in stages:
        parts.append(features[stage].mean((2, 3)))
        if peaks:
            parts.append(features[stage].amax((2, 3)))
    return torch.cat(parts, dim=1)


class Classifier(nn.Module):
    """One linear layer on pooled feature maps: a logit for each class.

    Attributes:
        stages, peaks: see `pooled`; by default the deepest feature map's average.
    """

    def __init__(self, encoder: Encoder, classes: int, stages: Sequence[int] = (-1,), peaks: bool = False) -> None:
        """Put a layer for `classes` on `encoder`."""
        super().__init__()
        self.encoder, self.stages, self.peaks = encoder, tuple(stages), peaks
        width = sum(encoder.channels[stage] for stage in stages) * (2 if peaks else 1)
        self.linear = nn.Linear(width, classes)

    def forward(self, fed: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) as of `network_input` to logits (B, classes)."""
        logits: Tensor = self.linear(pooled(self.encoder(fed), self.stages, self.peaks))
        return logits


class Segmenter(nn.Module):
    """The colorizer's kind of decoder, one 1x1 convolution, and bilinear enlargement to the input's size."""

    def __init__(self, encoder: Encoder, classes: int, stride: int = 4, width: int = 64) -> None:
        """Put a fresh decoder for `classes` on `encoder`."""
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.channels, encoder.reductions, stride, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, fed: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) as of `network_input` to logits (B, classes, H, W)."""
        logits = self.head(self.decoder(self.encoder(fed), lightness_of(fed)))
        return F.interpolate(logits, size=fed.shape[-2:], mode="bilinear", align_corners=False)


def smp_segmenter(encoder: Encoder, head: Literal["unet", "fpn", "deeplabv3plus"], classes: int) -> nn.Module:
    """A network of segmentation-models-pytorch around the weights of `encoder`.

    Raises:
        TinctError: the package is not installed, it cannot use the backbone, or a weight has no place.
    """
    if importlib.util.find_spec("segmentation_models_pytorch") is None:
        raise TinctError(f"head {head}: not installed; pip install 'tinct[segmentation]'")
    import segmentation_models_pytorch as smp

    try:
        network: nn.Module = getattr(smp, SMP[head])(
            f"tu-{encoder.backbone}", encoder_weights=None, in_channels=encoder.in_channels, classes=classes
        )
    except Exception as error:  # smp and timm refuse backbones in many ways
        reason = one_line(error, 200)
        raise TinctError(
            f"head {head}: cannot use backbone {encoder.backbone} ({reason}); try --head decoder"
        ) from error
    inner: Any = network.encoder
    keys = smp_keys(encoder, inner)
    own = encoder.body.state_dict()
    stem = stem_name(encoder.body)
    if f"{stem}.bias" in own and f"{stem}.bias" not in keys.values():
        target = next(theirs for theirs, ours in keys.items() if ours == f"{stem}.weight").removesuffix(".weight")
        give_bias(inner.get_submodule(target))
        keys[f"{target}.bias"] = f"{stem}.bias"
    inner.load_state_dict({theirs: own[ours] for theirs, ours in keys.items()})
    return network


def smp_keys(encoder: Encoder, inner: nn.Module) -> dict[str, str]:
    """Where each weight of a `tu-` encoder comes from: its key to the timm model's.

    timm's feature extractors flatten the top of a model's hierarchy, so `stages.0.x` is `model.stages_0.x` there: names
    are equal once dots are underscores. What the timm model has beyond is what no feature map depends on.

    Raises:
        TinctError: a weight of the `tu-` encoder has no counterpart of its name and shape.
    """
    own = encoder.body.state_dict()
    flat = {key.replace(".", "_"): key for key in own}
    keys = {}
    for key, value in inner.state_dict().items():
        ours = flat.get(key.removeprefix("model.").replace(".", "_"))
        if ours is None or own[ours].shape != value.shape:
            raise TinctError(f"backbone {encoder.backbone}: its weights have nothing for {key}; try --head decoder")
        keys[key] = ours
    return keys

"""The encoder: any timm backbone, read through `forward_intermediates` so that its state dict stays timm's own."""

import copy
from typing import Any

import timm
import torch
from torch import Tensor, nn

from tinct.errors import TinctError

__all__ = ["Encoder"]

_SEEN: dict[tuple[str, int], tuple[list[int], list[int], frozenset[str]]] = {}
"""What `_look` found: that takes longer than to build a small backbone, and a grid builds hundreds."""


class Encoder(nn.Module):
    """A timm backbone that gives its feature maps, finest first.

    Parameters that the feature maps do not depend on (a head's norm, a last 1x1 convolution) are frozen: they would
    only drift under weight decay, and distributed training refuses parameters without gradients.

    Attributes:
        backbone: the timm name.
        body: the timm model; `body.state_dict()` loads strictly into `timm.create_model(backbone, num_classes=0)`.
        channels: channels of each feature map, finest first.
        reductions: by how much each feature map is smaller than the input, such as [2, 4, 8, 16, 32].
        unused: the names of those frozen parameters.
    """

    def __init__(self, backbone: str, in_channels: int = 1) -> None:
        """Build `backbone` with random weights in float32, on the CPU, for grey (1) or RGB (3) input.

        Raises:
            TinctError: timm does not know the name, or cannot read feature maps from it.
        """
        super().__init__()
        if in_channels not in (1, 3):
            raise TinctError(f"in_channels is {in_channels}; expected 1 (grey) or 3 (RGB)")
        if backbone not in timm.list_models():
            close = timm.list_models(f"*{backbone[:6]}*")[:4]
            raise TinctError(
                f"unknown backbone {backbone!r}; expected a timm name such as "
                f"{', '.join(close or ['resnet18', 'convnext_atto'])} (timm.list_models() has them all)"
            )
        self.backbone = backbone
        self.in_channels = in_channels
        with torch.device("cpu"):
            body = timm.create_model(backbone, num_classes=0, in_chans=in_channels)
        self.body = body.float()  # whatever torch's defaults are
        if not hasattr(self.body, "forward_intermediates"):
            raise TinctError(
                f"backbone {backbone!r} has no forward_intermediates in timm {timm.__version__}; pick another"
            )
        if (backbone, in_channels) not in _SEEN:
            _SEEN[backbone, in_channels] = _look(backbone, self.body, in_channels)
        channels, reductions, self.unused = _SEEN[backbone, in_channels]
        self.channels, self.reductions = list(channels), list(reductions)
        if len(set(self.reductions)) < len(self.reductions) or not 8 <= self.reductions[-1] <= 32:
            scales = ", ".join(f"1/{reduction}" for reduction in self.reductions)
            raise TinctError(
                f"backbone {backbone!r} has feature maps at {scales}; expected a pyramid that ends at 1/8 to 1/32"
            )
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(name not in self.unused)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of a picture, finest first.

        Args:
            x: (B, 1, H, W) in [-1, 1], lightness, which an RGB stem sees three times; or, for an RGB encoder,
                (B, 3, H, W). See `tinct.models.stem`.

        Returns:
            (B, C, H/r, W/r) each, with C and r of `channels` and `reductions`.
        """
        if x.shape[1] < self.in_channels:
            x = x.expand(-1, self.in_channels, -1, -1)
        features: list[Tensor] = self.body.forward_intermediates(x, intermediates_only=True)
        return features


def _look(backbone: str, body: nn.Module, in_channels: int) -> tuple[list[int], list[int], frozenset[str]]:
    """What the feature maps of a backbone's `body` are, found on a twin without storage.

    Returns:
        Their channels, their reductions, and the names of the parameters that they do not depend on.

    Raises:
        TinctError: the backbone does not take pictures of any size.
    """
    side = 64
    with torch.inference_mode(False), torch.enable_grad():
        twin: Any = copy.deepcopy(body).to("meta").requires_grad_().train()
        # two, as batch norm takes no single value a channel
        pictures = torch.zeros(2, in_channels, side, side, dtype=torch.float32, device="meta")
        try:
            maps = twin.forward_intermediates(pictures, intermediates_only=True)
        except (AssertionError, RuntimeError, ValueError) as error:  # timm's ways to refuse a size
            raise TinctError(
                f"backbone {backbone!r} gives no feature maps of pictures of {side} px; pick another, such as resnet18"
            ) from error
        torch.stack([feature.sum() for feature in maps]).sum().backward()
    unused = frozenset(name for name, parameter in twin.named_parameters() if parameter.grad is None)
    return [feature.shape[1] for feature in maps], [side // feature.shape[-1] for feature in maps], unused

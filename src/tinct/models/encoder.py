"""The encoder: any timm backbone, read through `forward_intermediates` so that its state dict stays timm's own."""

import timm
import torch
from torch import Tensor, nn

from tinct.errors import TinctError

__all__ = ["Encoder"]


class Encoder(nn.Module):
    """A timm backbone that gives its feature maps, finest first.

    Parameters that the feature maps do not depend on (a head's norm, a last 1x1 convolution) are frozen: they would
    only drift under weight decay, and distributed training refuses parameters without gradients.

    Attributes:
        backbone: the timm name.
        body: the timm model; `body.state_dict()` loads strictly into `timm.create_model(backbone, num_classes=0)`.
        channels: channels of each feature map, finest first.
        reductions: by how much each feature map is smaller than the input, such as [2, 4, 8, 16, 32].
    """

    def __init__(self, backbone: str, in_channels: int = 1) -> None:
        """Build `backbone` with random weights for grey (1) or RGB (3) input.

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
        self.body = timm.create_model(backbone, num_classes=0, in_chans=in_channels)
        if not hasattr(self.body, "forward_intermediates"):
            raise TinctError(
                f"backbone {backbone!r} has no forward_intermediates in timm {timm.__version__}; pick another"
            )
        self.channels, self.reductions = self._probe()
        if len(set(self.reductions)) < len(self.reductions) or self.reductions[-1] < 8:
            raise TinctError(f"backbone {backbone!r} has no pyramid of feature maps; pick a convolutional one")

    def forward(self, l_norm: Tensor) -> list[Tensor]:
        """(B, 1, H, W) in [-1, 1] to feature maps, finest first; an RGB stem sees the grey picture three times.

        An RGB encoder also takes (B, 3, H, W).
        """
        if l_norm.shape[1] < self.in_channels:
            l_norm = l_norm.expand(-1, self.in_channels, -1, -1)
        features: list[Tensor] = self.body.forward_intermediates(l_norm, intermediates_only=True)
        return features

    def _probe(self) -> tuple[list[int], list[int]]:
        """Look at the feature maps of a blank picture: their channels, their reductions, what they depend on."""
        side = 64
        self.body.eval()  # so that norm statistics stay as they are
        features = self(torch.zeros(1, 1, side, side))
        sum(feature.sum() for feature in features).backward()
        for parameter in self.body.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        self.body.train()
        return [feature.shape[1] for feature in features], [side // feature.shape[-1] for feature in features]

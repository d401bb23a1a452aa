"""The generator: encoder, U-Net decoder to chroma resolution, one convolution to the objective's channels."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.color import normalize_l
from tinct.models.encoder import Encoder

__all__ = ["Decoder", "Generator"]


class Decoder(nn.Module):
    """A U-Net decoder (Ronneberger et al. 2015) from an encoder's feature maps to one map at `stride`.

    No batch norm: a picture's colours must not depend on its neighbours in the batch, nor on how a batch is spread
    over ranks.

    Attributes:
        channels: channels of the result.
    """

    def __init__(self, channels: list[int], reductions: list[int], stride: int, width: int = 64) -> None:
        """Build for feature maps of these `channels` and `reductions`, finest first.

        Args:
            channels: channels of each feature map.
            reductions: by how much each feature map is smaller than the input.
            stride: by how much the result is smaller than the input; below the finest feature map, the input itself
                is the skip connection.
            width: channels at `stride`; coarser levels have up to four times as many.
        """
        super().__init__()
        self.stride = stride
        skips = {reduction: channel for channel, reduction in zip(channels, reductions, strict=True)}
        deepest = reductions[-1]
        levels = [stride * 2**i for i in range((deepest // stride).bit_length() - 1)][::-1]
        widths = [min(width * 2**i, 4 * width) for i in range(len(levels))][::-1]
        first = widths[0] if widths else width  # there are no levels where the feature maps end at `stride`
        self.reduce = nn.Conv2d(channels[-1], first, 1)
        self.levels = levels
        self.blocks = nn.ModuleList(
            _block(before + skips.get(level, 1), after)
            for level, (before, after) in zip(levels, itertools.pairwise([first, *widths]), strict=True)
        )
        self.reductions = reductions
        self.channels = width

    def forward(self, features: list[Tensor], l_norm: Tensor) -> Tensor:
        """Feature maps (finest first) and the input (B, 1, H, W) to (B, channels, H/stride, W/stride)."""
        skips = dict(zip(self.reductions, features, strict=True))
        x: Tensor = self.reduce(features[-1])
        for level, block in zip(self.levels, self.blocks, strict=True):
            skip = skips[level] if level in skips else F.avg_pool2d(l_norm[:, :1], level)
            x = block(torch.cat((F.interpolate(x, size=skip.shape[-2:], mode="nearest"), skip), dim=1))
        return x


class Generator(nn.Module):
    """L to colour at a `chroma_stride`-th of the resolution (docs/design.md: chroma at quarter resolution)."""

    def __init__(self, encoder: Encoder, out_channels: int, chroma_stride: int = 4, width: int = 64) -> None:
        """Put a decoder and an output convolution of `out_channels` on `encoder`; the stride is 1, 2, 4 or 8."""
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.channels, encoder.reductions, chroma_stride, width)
        self.head = nn.Conv2d(width, out_channels, 1)
        self.chroma_stride = chroma_stride

    def forward(self, l: Tensor) -> Tensor:
        """L* (B, 1, H, W) in [0, 100] to the objective's output (B, out_channels, H/stride, W/stride).

        H and W must be multiples of the encoder's deepest reduction, as at training sizes.
        """
        l_norm = normalize_l(l)
        return self.decode(self.encoder(l_norm), l_norm)

    def decode(self, features: list[Tensor], l_norm: Tensor) -> Tensor:
        """The second half of `forward`, for those who use the features too."""
        output: Tensor = self.head(self.decoder(features, l_norm))
        return output


def _block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False),
        nn.GroupNorm(8, after),
        nn.ReLU(inplace=True),
    )

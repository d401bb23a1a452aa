"""The discriminator of patches: judges (L, ab) at chroma resolution."""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tinct.color import normalize_ab, normalize_l

__all__ = ["PatchDiscriminator"]


class PatchDiscriminator(nn.Module):
    """The PatchGAN of Isola et al. (2017, section 3.2.2): a map of logits, each judging one patch.

    Norms never mix pictures: spectral (Miyato et al. 2018) or instance norm, so that real and fake pass together and
    ranks agree. At 256 px it has the paper's three strided layers, 70x70 patches and 30x30 logits; smaller inputs get
    fewer layers.
    """

    def __init__(self, size: int, width: int = 64, norm: str = "spectral") -> None:
        """Build for square inputs of `size` pixels (at chroma resolution), with `width` filters in the first layer."""
        super().__init__()
        depth = strided_layers(size)
        channels = [3, *(width * min(2**i, 8) for i in range(depth + 1)), 1]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise(channels)):
            conv = nn.Conv2d(before, after, 4, stride=2 if i < depth else 1, padding=1)
            inner = 0 < i < len(channels) - 2  # the paper norms neither the first layer nor the last
            layers.append(spectral_norm(conv) if norm == "spectral" else conv)
            if inner and norm == "instance":
                layers.append(nn.InstanceNorm2d(after, affine=True))
            if after != 1:
                layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, l: Tensor, ab: Tensor) -> Tensor:
        """L* (B, 1, h, w) in [0, 100] and ab (B, 2, h, w) in Lab units to logits (B, 1, h', w'); real is positive."""
        logits: Tensor = self.layers(torch.cat((normalize_l(l), normalize_ab(ab)), dim=1))
        return logits


def strided_layers(size: int) -> int:
    """Three strided layers at 256 px, as in the paper, one fewer at every halving, at least one."""
    return max(1, min(3, round(math.log2(size)) - 5))

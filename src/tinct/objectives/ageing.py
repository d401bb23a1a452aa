"""Photographs in the lightness that old ones have, so that training shows a colorizer what it will be given.

Plates that see no red, soft lenses, faded prints, grain: each is there in half of the aged pictures, independently, and
as strong as is drawn evenly up to the limits below. They are rough pictures of what scans show, chosen by eye; widths
are in pixels of what the network sees.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tinct.color import LUMINANCE, srgb_to_lightness
from tinct.objectives.base import Stream, drawn

__all__ = ["age"]

ORTHOCHROMATIC, BLUE_SENSITIVE = (0.0, 0.6, 0.4), (0.0, 0.15, 0.85)
"""What linear red, green and blue count for on plates that see no red, and on the oldest, which see little green."""
BLUR = 2.0
"""The largest standard deviation of the blur."""
GAMMA = 1.8
"""The tone curve's largest exponent; the smallest is its inverse."""
BLACK, WHITE = 20.0, 75.0
"""L* of the most faded black and white."""
GRAIN = 8.0
"""The largest standard deviation of the grain, in L*."""


@torch.no_grad()
def age(pixels: Tensor, keys: Tensor, share: float) -> Tensor:
    """The L* (B, 1, H, W) of photographs, `share` of them aged.

    Args:
        pixels: (B, 3, H, W) uint8 sRGB.
        keys: (B,) int64, from which all that is drawn follows.
        share: how many are aged, 0 to 1.
    """
    numbers = drawn(keys, (12,), Stream.AGEING).to(pixels.device)
    has = (numbers[:, 1:5] < 0.5) & (numbers[:, :1] < share)
    plate, soft, faded, grainy = has[:, :, None, None, None].unbind(1)
    kind, sensitivity, sigma, exponent, black, white, strength = numbers[:, 5:, None, None, None].unbind(1)

    ortho, blue, even = (numbers.new_tensor(w)[:, None, None] for w in (ORTHOCHROMATIC, BLUE_SENSITIVE, LUMINANCE))
    old = ortho + kind * (blue - ortho)
    l = srgb_to_lightness(pixels, even + plate * sensitivity * (old - even))
    l = blurred(l, (BLUR * sigma * soft).flatten())
    low, high = BLACK * black * faded, 100 + (WHITE - 100) * white * faded
    curve = torch.exp(math.log(GAMMA) * (2 * exponent - 1) * faded)
    l = low + (high - low) * (l / 100).clamp(min=0) ** curve
    if grainy.any():
        noise = torch.stack([grain(key, pixels.shape[-2:]) for key in keys.tolist()])
        l = l + GRAIN * strength * grainy * noise.to(l.device)
    return l.clamp(0, 100)


def blurred(planes: Tensor, sigma: Tensor) -> Tensor:
    """Each of (B, 1, H, W) under its own Gaussian, of standard deviation `sigma` (B,) in pixels; 0 changes nothing."""
    reach = min(math.ceil(3 * BLUR), min(planes.shape[-2:]) - 1)
    distance = torch.arange(-reach, reach + 1, device=planes.device)
    kernel = torch.exp(-(distance**2) / (2 * sigma[:, None, None, None].clamp(min=0.05) ** 2))
    kernel = kernel / kernel.sum(-1, keepdim=True)
    padded = F.pad(planes, (reach,) * 4, mode="reflect").transpose(0, 1)
    rows = F.conv2d(padded, kernel, groups=len(sigma))
    return F.conv2d(rows, kernel.transpose(2, 3), groups=len(sigma)).transpose(0, 1)


def grain(key: int, size: torch.Size) -> Tensor:
    """White noise (1, H, W) of deviation 1 that follows from a picture's key."""
    return torch.randn(1, *size, generator=torch.Generator().manual_seed(key + Stream.GRAIN))

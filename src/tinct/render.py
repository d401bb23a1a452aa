"""From samples to L*, and from L* and ab to samples: what `tinct.color` does, fast, for one strip of rows at a time.

Powers are looked up in tables, and only colours outside the gamut meet `clip_to_gamut`. The tests hold both functions
to `tinct.color`.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinct.color import LAB_EPSILON, LAB_SLOPE, XYZ_TO_RGB, clip_to_gamut, lab_to_srgb, srgb_to_lab
from tinct.pictures import Pixels, top, unit

__all__ = ["lightness", "samples"]

TOLERANCE = 1e-4
"""In linear light, beyond which a colour is outside the gamut; as `tinct.color.in_gamut` has it."""


def lightness(pixels: Pixels) -> Tensor:
    """L* of (n, W) or (n, W, 3) samples as `tinct.pictures.Picture` holds them: (n, W) float32 in [0, 100]."""
    if pixels.ndim == 3 or pixels.dtype.kind == "f":
        return srgb_to_lab(unit(pixels).expand(3, -1, -1))[0]
    index = torch.from_numpy(pixels.astype(np.int32))
    return _grey_lightness(top(pixels)).index_select(0, index.view(-1)).view(index.shape)


def samples(l: Tensor, ab: Tensor, dtype: np.dtype[np.generic]) -> Pixels:
    """The sRGB samples of a strip; colours outside the gamut lose chroma, never lightness or hue.

    Args:
        l: (n, W) L* in [0, 100].
        ab: (2, n, W) in Lab units.
        dtype: uint8 or uint16 for full-range samples, float32 for [0, 1].

    Returns:
        (n, W, 3) of that type.
    """
    lab = torch.cat((l[None], ab)).view(3, -1)
    linear = _linear(lab)
    outside = ((linear.amin(0) < -TOLERANCE) | (linear.amax(0) > 1 + TOLERANCE)).nonzero()[:, 0]
    if len(outside):
        clipped = clip_to_gamut(lab.index_select(1, outside)[..., None])[..., 0]
        lab.index_copy_(1, outside, clipped)
        linear.index_copy_(1, outside, _linear(clipped))
    if dtype != np.uint8:  # a table of 16-bit results would need finer steps than float32 has
        rgb = lab_to_srgb(lab.view(3, *l.shape)).permute(1, 2, 0)
        if dtype != np.uint16:
            return rgb.contiguous().numpy()
        return rgb.mul(65535).round_().numpy().astype(np.uint16)
    index = linear.clamp_(0, 1).mul_(65535).add_(0.5).to(torch.int32)
    result = np.empty((*l.shape, 3), np.uint8)
    for channel in range(3):
        result[..., channel] = _encoded().index_select(0, index[channel]).view(l.shape).numpy()
    return result


def _linear(lab: Tensor) -> Tensor:
    """Linear sRGB, unclipped, of (3, N) Lab: `tinct.color.lab_to_srgb` up to its curve."""
    f = lab[:1].add(16).div_(116).repeat(3, 1)
    f[0].add_(lab[1], alpha=1 / 500)
    f[2].sub_(lab[2], alpha=1 / 200)
    xyz = torch.where(f > LAB_EPSILON ** (1 / 3), f * f * f, (f - 16 / 116).div_(LAB_SLOPE))
    return torch.from_numpy(XYZ_TO_RGB).float() @ xyz


@functools.cache
def _grey_lightness(white: int) -> Tensor:
    grey = torch.arange(white + 1, dtype=torch.float32) / white
    return srgb_to_lab(grey.expand(3, 1, -1))[0, 0].contiguous()


@functools.cache
def _encoded() -> Tensor:
    """The 8-bit sample of each of 65,536 levels of linear light; the steps are a twentieth of a sample at most."""
    linear = np.arange(65536) / 65535
    curve: NDArray[np.float64] = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return torch.from_numpy(np.rint(curve * 255).astype(np.uint8))

"""How near a coloured picture is to the true one, and how colourful it is.

Functions give one value a picture, so that means, spreads and intervals over pictures do not depend on batches.
"""

import torch
from skimage.color import deltaE_ciede2000
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from tinct.errors import TinctError

__all__ = ["SSIM_WINDOW", "ab_distance", "ab_l1", "ciede2000", "colorfulness", "mean_ciede2000", "psnr", "ssim"]

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels (Wang et al. 2004, section III-C)."""
STRIP = 1 << 18
"""Pixels that are compared at a time where it takes dozens of planes."""


def psnr(rgb: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture over its three channels together, in dB.

    Args:
        rgb: (B, 3, H, W) in [0, 1].
        truth: the same shape.

    Returns:
        (B,); infinite where the pictures are equal.
    """
    value = peak_signal_noise_ratio(rgb.float(), truth.float(), data_range=1.0, dim=(1, 2, 3), reduction="none")
    return torch.as_tensor(value)


def ssim(rgb: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture, at most 1, with a Gaussian window (Wang et al. 2004), mean over channels.

    Args:
        rgb: (B, 3, H, W) in [0, 1], H and W at least 11.
        truth: the same shape.

    Returns:
        (B,).

    Raises:
        TinctError: the pictures are smaller than the window.
    """
    if min(rgb.shape[-2:]) < SSIM_WINDOW:
        size = f"{rgb.shape[-1]}x{rgb.shape[-2]}"
        raise TinctError(f"SSIM of pictures of {size}: expected at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels")
    border = SSIM_WINDOW // 2  # where the window hangs over the edge there is no value in the paper
    height, rows = rgb.shape[-2], max(1, STRIP // rgb.shape[-1])
    strips = []
    for top in range(0, height - 2 * border, rows):
        part = slice(top, min(top + rows + 2 * border, height))
        _, values = structural_similarity_index_measure(
            rgb[..., part, :].float(),
            truth[..., part, :].float(),
            data_range=1.0,
            reduction="none",
            return_full_image=True,
        )
        strips.append(torch.as_tensor(values)[..., border:-border, border:-border].mean((1, 3)))
    return torch.cat(strips, dim=1).mean(1)


def ab_l1(ab: Tensor, truth: Tensor) -> Tensor:
    """The mean of |Δa| and |Δb| together, which an L1 loss minimises.

    Args:
        ab: (B, 2, H, W) in Lab units.
        truth: the same shape.

    Returns:
        (B,) in Lab units.
    """
    return (ab.float() - truth.float()).abs().mean((1, 2, 3))


def ab_distance(ab: Tensor, truth: Tensor) -> Tensor:
    """The mean distance sqrt(Δa^2 + Δb^2) in the ab plane; shapes and units as of `ab_l1`."""
    return (ab.float() - truth.float()).square().sum(1).sqrt().mean((1, 2))


def colorfulness(rgb: Tensor) -> Tensor:
    """Colourfulness M3 of Hasler and Süsstrunk (2003, section 7): on their scale 0 is none, 33 moderate, 109 extreme.

    Args:
        rgb: (B, 3, H, W) in [0, 1].

    Returns:
        (B,).
    """
    red, green, blue = (255 * rgb.float()).unbind(1)
    opponents = torch.stack((red - green, (red + green) / 2 - blue), 1).flatten(2)
    spread, mean = opponents.var(2, correction=0).sum(1).sqrt(), opponents.mean(2).square().sum(1).sqrt()
    return spread + 0.3 * mean


def ciede2000(lab: Tensor, truth: Tensor) -> Tensor:
    """Colour difference ΔE00 of each pixel, with unit weights kL = kC = kH = 1; about 1 is just noticeable.

    After Sharma, Wu and Dalal (2005), equations 2 to 22, by scikit-image.

    Args:
        lab: (B, 3, H, W) CIE Lab.
        truth: the same shape.

    Returns:
        (B, H, W), on the CPU and in float64, because hue angles near the grey axis are sensitive.
    """
    planes = (part.detach().cpu().double().numpy() for part in (lab, truth))
    return torch.from_numpy(deltaE_ciede2000(*planes, channel_axis=1))


def mean_ciede2000(lab: Tensor, truth: Tensor) -> Tensor:
    """The mean of `ciede2000` over (B, 3, H, W), some rows at a time: it needs dozens of planes in double precision."""
    rows = max(1, STRIP // lab.shape[3])
    strips = zip(lab.split(rows, dim=2), truth.split(rows, dim=2), strict=True)
    return torch.stack([ciede2000(*pair).sum() for pair in strips]).sum() / lab[:, 0].numel()

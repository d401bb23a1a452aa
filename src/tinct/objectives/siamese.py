"""Two views of one picture shall lie close together, those of others apart (SimCLR, Chen et al. 2020)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Batch, FeatureTerm

__all__ = ["Siamese", "nt_xent", "view"]

SIDE = (0.45, 1.0)
"""The side of a view as a share of the crop's: an area of 0.2 to 1. (SimCLR's 0.08 is of whole photographs.)"""
CONTRAST = 0.4
LIGHTNESS = 15.0
"""The largest changes of contrast, as a share, and of L*, in its units: what is left of colour jitter in grey."""
BLUR = (0.054, 0.244, 0.403, 0.244, 0.054)
"""A Gaussian of standard deviation 1 pixel, which half of the views are blurred with."""


class Siamese(FeatureTerm):
    """Two views of each picture pass the encoder, and a small network on its pooled last map (section 2.1).

    So a step costs two passes. What is compared are the pictures of a step on one rank. Where a colour term is there
    too, it learns from both views.
    """

    name = "siamese"

    def __init__(self, channels: list[int], width: int = 512, out: int = 128, temperature: float = 0.2) -> None:
        """Build the head for the last feature map.

        Args:
            channels: of the encoder's feature maps, finest first.
            width: of the hidden layer.
            out: length of the vectors.
            temperature: of the softmax over cosines.
        """
        super().__init__()
        self.temperature = temperature
        self.head = nn.Sequential(nn.Linear(channels[-1], width), nn.ReLU(inplace=True), nn.Linear(width, out))

    def prepare(self, batch: Batch) -> Batch:
        """See `FeatureTerm.prepare`: (B, ...) becomes (2B, ...), the first views and then the second."""
        draws = torch.stack([torch.rand(2, 7, generator=torch.Generator().manual_seed(k)) for k in batch.keys.tolist()])
        views = [view(batch, draws[:, which].to(batch.l)) for which in (0, 1)]
        l, ab = (torch.cat(parts) for parts in zip(*views, strict=True))
        return Batch(l.contiguous(memory_format=torch.channels_last), ab, torch.cat((batch.keys, batch.keys)))

    def loss(self, features: list[Tensor], batch: Batch) -> Tensor:
        """See `FeatureTerm.loss`."""
        first, second = self.head(features[-1].mean((2, 3))).float().chunk(2)
        return nt_xent(first, second, self.temperature)


def view(batch: Batch, draws: Tensor) -> tuple[Tensor, Tensor]:
    """L and ab of a part of each picture, brought to size, maybe mirrored, L in other light and maybe blurred.

    Args:
        batch: of B pictures.
        draws: (B, 7) in [0, 1), what to do with each.
    """
    side = SIDE[0] + (SIDE[1] - SIDE[0]) * draws[:, 0]
    mirror = torch.where(draws[:, 1] < 0.5, -1.0, 1.0)
    matrix = torch.zeros(len(draws), 2, 3, device=draws.device)
    matrix[:, 0, 0], matrix[:, 1, 1] = side * mirror, side
    matrix[:, :, 2] = (2 * draws[:, 2:4] - 1) * (1 - side)[:, None]

    def cut(planes: Tensor) -> Tensor:
        grid = F.affine_grid(matrix, list(planes.shape), align_corners=False)
        return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)

    l = cut(batch.l)
    mean = l.mean((1, 2, 3), keepdim=True)
    contrast, shift = 1 + CONTRAST * (2 * draws[:, 4] - 1), LIGHTNESS * (2 * draws[:, 5] - 1)
    l = ((l - mean) * contrast[:, None, None, None] + mean + shift[:, None, None, None]).clamp(0, 100)
    kernel = torch.tensor(BLUR, device=l.device)
    padded = F.pad(l, (2, 2, 2, 2), mode="reflect")
    soft = F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None])
    blurred = (draws[:, 6] < 0.5)[:, None, None, None]
    return torch.where(blurred, soft, l), cut(batch.ab)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Each vector's partner is to be told from all other vectors (equation 1): a mean over both directions.

    Args:
        first: (B, D), of any length.
        second: (B, D), their partners.
        temperature: of the softmax over cosines.
    """
    vectors = F.normalize(torch.cat((first, second)))
    logits = vectors @ vectors.T / temperature
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(vectors), device=logits.device).roll(len(first)))

"""Two views of one picture shall lie close together, those of others apart (SimCLR, Chen et al. 2020)."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.device import in_single_precision, memory_format
from tinct.objectives.base import Batch, FeatureTerm, Stream, drawn

__all__ = ["MultiCrop", "Siamese", "nt_xent", "view"]

SIDE = (0.45, 1.0)
"""The side of a view as a share of the crop's: an area of 0.2 to 1. (SimCLR's 0.08 is of whole photographs.)"""
SMALL, SMALL_SIDE = 4, (0.25, 0.6)
"""How many small views there are, and their sides: areas of 0.06 to 0.36."""
HIDDEN, VECTOR, TEMPERATURE = 512, 128, 0.2
"""The head's hidden width, the length of its vectors, and the temperature of the softmax over their cosines."""
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

    def __init__(self, channels: list[int]) -> None:
        """Build the head for the last of the encoder's feature maps, whose `channels` are given finest first."""
        super().__init__()
        self.head = nn.Sequential(nn.Linear(channels[-1], HIDDEN), nn.ReLU(inplace=True), nn.Linear(HIDDEN, VECTOR))

    def prepare(self, batch: Batch) -> Batch:
        """See `FeatureTerm.prepare`: (B, ...) becomes (2B, ...), the first views and then the second."""
        return together(batch, [view(batch, one) for one in draws(batch, 2, Stream.VIEWS)])

    def loss(self, features: list[Tensor], batch: Batch, small: Sequence[Tensor] = ()) -> Tensor:
        """See `FeatureTerm.loss`."""
        first, second = self.head(features[-1].mean((2, 3))).float().chunk(2)
        return nt_xent(first, second, TEMPERATURE)


class MultiCrop(Siamese):
    """Four small views beside the two: each shall lie close to both (multi-crop, Caron et al. 2020, section 3.2).

    They are half as wide, so that all four have as many pixels as one.
    """

    name = "multicrop"

    def prepare(self, batch: Batch) -> Batch:
        """See `FeatureTerm.prepare`; the small views, (4B, ...) of half the width, come one after the other."""
        small = together(batch, [view(batch, one, SMALL_SIDE, 2) for one in draws(batch, SMALL, Stream.SMALL_VIEWS)])
        return replace(super().prepare(batch), small=small)

    def loss(self, features: list[Tensor], batch: Batch, small: Sequence[Tensor] = ()) -> Tensor:
        """See `FeatureTerm.loss`: a mean over the pairs of a large view with the other or a small one."""
        large, others = (self.head(maps[-1].mean((2, 3))).float() for maps in (features, small))
        first, second = large.chunk(2)
        pairs = [(first, second), *itertools.product((first, second), others.chunk(SMALL))]
        return torch.stack([nt_xent(*pair, TEMPERATURE) for pair in pairs]).mean()


def together(batch: Batch, views: list[tuple[Tensor, Tensor]]) -> Batch:
    """One batch of several views of each picture, L and ab, all first views before all second ones."""
    l, ab = (torch.cat(parts) for parts in zip(*views, strict=True))
    return Batch(l.contiguous(memory_format=memory_format(l.device)), ab, batch.keys.repeat(len(views)))


def draws(batch: Batch, views: int, stream: Stream) -> list[Tensor]:
    """For each view the (B, 7) numbers that `view` takes."""
    return list(drawn(batch.keys, (views, 7), stream).to(batch.l).unbind(1))


def view(batch: Batch, draws: Tensor, sides: tuple[float, float] = SIDE, shrink: int = 1) -> tuple[Tensor, Tensor]:
    """L and ab of a part of each picture, brought to size, maybe mirrored, L in other light and maybe blurred.

    Args:
        batch: of B pictures.
        draws: (B, 7) in [0, 1), what to do with each.
        sides: the least and the largest side of the part, as shares.
        shrink: the result is this many times smaller than the picture.
    """
    side = sides[0] + (sides[1] - sides[0]) * draws[:, 0]
    mirror = torch.where(draws[:, 1] < 0.5, -1.0, 1.0)
    matrix = torch.zeros(len(draws), 2, 3, device=draws.device)
    matrix[:, 0, 0], matrix[:, 1, 1] = side * mirror, side
    matrix[:, :, 2] = (2 * draws[:, 2:4] - 1) * (1 - side)[:, None]

    def cut(planes: Tensor) -> Tensor:
        height, width = (length // shrink for length in planes.shape[2:])
        grid = F.affine_grid(matrix, [*planes.shape[:2], height, width], align_corners=False)
        # within a picture, reflection is what border is; MPS has known the latter since torch 2.13 only
        return F.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)

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
        first: (B, D) in single precision, of any length.
        second: (B, D), their partners.
        temperature: of the softmax over cosines.
    """
    vectors = F.normalize(torch.cat((first, second)))
    with in_single_precision(vectors.device):
        logits = vectors @ vectors.T / temperature
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(vectors), device=logits.device).roll(len(first)))

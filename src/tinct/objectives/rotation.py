"""Rotation prediction (Gidaris et al. 2018): the cheap baseline pretext, alone or beside colouring."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.objectives.base import Batch, FeatureTerm

__all__ = ["Rotation"]


class Rotation(FeatureTerm):
    """Each picture is turned by 0, 90, 180 or 270 degrees; a linear head on the pooled last map says by how many.

    Gidaris et al. show all four turns of a picture in one batch; here each picture shows one, drawn from its key, so
    that a step costs one pass and colouring can use the same, turned, pictures.
    """

    name = "rotation"
    before_others = True

    def __init__(self, channels: list[int]) -> None:
        """Build the head for the last feature map of `channels`."""
        super().__init__()
        self.head = nn.Linear(channels[-1], 4)

    def prepare(self, batch: Batch) -> Batch:
        """See `FeatureTerm.prepare`."""
        turns = turns_of(batch.keys)
        return replace(batch, l=turn(batch.l, turns), ab=turn(batch.ab, turns))

    def loss(self, features: list[Tensor], batch: Batch, small: Sequence[Tensor] = ()) -> Tensor:
        """See `FeatureTerm.loss`."""
        return F.cross_entropy(self.head(features[-1].mean((2, 3))).float(), turns_of(batch.keys))


def turns_of(keys: Tensor) -> Tensor:
    """The number of quarter turns, 0 to 3, that follows from each key."""
    return keys & 3


def turn(pictures: Tensor, turns: Tensor) -> Tensor:
    """Turn square pictures (B, C, H, H), each by its own number of quarter turns (B,)."""
    turned = torch.empty_like(pictures)
    for quarter in range(4):
        chosen = turns == quarter
        turned[chosen] = torch.rot90(pictures[chosen], quarter, (2, 3))
    return turned

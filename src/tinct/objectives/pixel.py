"""Regression of ab: L1 as in pix2pix, and Huber as in Zhang et al. (2017)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tinct.color import denormalize_ab, normalize_ab
from tinct.objectives.base import ColourTerm

__all__ = ["L1", "Huber"]

KNEE = float(normalize_ab(torch.tensor(10.0, dtype=torch.float32, device="cpu")))
"""Where Huber's loss becomes linear: 10 Lab units."""


class L1(ColourTerm):
    """Mean absolute error of `ab_norm` (Isola et al. 2017, equation 3)."""

    name = "l1"
    out_channels = 2

    def loss(self, output: Tensor, ab: Tensor) -> Tensor:
        """See `ColourTerm.loss`."""
        return F.l1_loss(output.float(), normalize_ab(ab))

    def decode(self, output: Tensor) -> Tensor:
        """See `ColourTerm.decode`."""
        return denormalize_ab(output.float()) * self.decoding.gain


class Huber(L1):
    """Smooth L1 of `ab_norm`: quadratic below 10 Lab units, so that near-greys do not pull towards grey."""

    name = "huber"

    def loss(self, output: Tensor, ab: Tensor) -> Tensor:
        """See `ColourTerm.loss`."""
        return F.huber_loss(output.float(), normalize_ab(ab), delta=KNEE)

"""Classification over a grid of the ab plane (Zhang et al. 2016, "Colorful Image Colorization")."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tinct.color import ab_centres
from tinct.objectives.base import ColourTerm

__all__ = ["Bins"]

UNIFORM = 0.5
"""The share of the uniform distribution in the smoothed prior: lambda of equation 4."""


class Bins(ColourTerm):
    """Cross-entropy with each pixel's ab shared out over its four nearest bins, rare colours weighing more.

    Differs from Zhang et al. in four ways. The soft target is bilinear, over four bins, instead of a Gaussian over
    five: its mean is the true colour, except at the edge of the gamut (there up to 8 Lab units off, for 4 % of all sRGB
    colours more than 0.5), and it costs four look-ups. The grid's step is 20 Lab units instead of
    10: 75 channels instead of about 261, at a quarter of the cost; `decode` averages, so that colours stay smooth.
    The prior that weights follow from is not smoothed by a Gaussian (theirs has a sigma of 5); the bilinear shares and
    the wide step spread it. And each of a pixel's four bins has its own weight, where they weigh the pixel by its
    nearest bin alone: so the weights can be taken back exactly (`decode`).
    """

    name = "bins"
    centres: Tensor
    table: Tensor
    weight: Tensor

    def __init__(self, step: int = 20) -> None:
        """Grid the ab plane in steps of this many Lab units."""
        super().__init__()
        self.step = step
        centres = ab_centres(step)
        self.out_channels = len(centres)
        self.reach = int(centres.abs().max()) // step + 1
        axis = torch.arange(-self.reach, self.reach + 1, dtype=torch.float32) * step
        cells = torch.cartesian_prod(axis, axis)
        # Cells outside the gamut stand for the nearest one inside: bilinear shares at its edge may fall there.
        self.register_buffer("table", torch.cdist(cells, centres).argmin(1), persistent=False)
        self.register_buffer("centres", centres.clone(), persistent=False)
        self.register_buffer("weight", torch.ones(len(centres)))

    def encode(self, ab: Tensor) -> tuple[Tensor, Tensor]:
        """ab (B, 2, h, w) to four bins (B, 4, h, w) int64 and their shares (B, 4, h, w), which add up to 1."""
        side = 2 * self.reach + 1
        grid = (ab / self.step + self.reach).clamp(0, side - 1)
        low = grid.floor().clamp(max=side - 2)
        a, b = (grid - low).unbind(1)
        corner = (low[:, 0] * side + low[:, 1]).long()
        cells = torch.stack((corner, corner + 1, corner + side, corner + side + 1), dim=1)
        shares = torch.stack(((1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b), dim=1)
        return self.table[cells], shares

    def loss(self, output: Tensor, ab: Tensor) -> Tensor:
        """See `ColourTerm.loss`; rebalanced as in section 2.2, once `fit` has seen the data.

        A mean over pixels, not over their weights: those average to 1 over the data, and a batch's own sum would make
        the loss of two half batches differ from that of the whole.
        """
        bins, shares = self.encode(ab)
        shares = shares * self.weight[bins]
        nll = -F.log_softmax(output.float(), dim=1).gather(1, bins)
        return (shares * nll).sum(dim=1).mean()

    def decode(self, output: Tensor) -> Tensor:
        """See `ColourTerm.decode`: the annealed mean (equation 5).

        Cross-entropy with weights w makes the softmax a share of w p, so that subtracting log w gives p, the
        probabilities among the pictures, which are less vivid and less often wrong.
        """
        how = self.decoding
        logits = output.float() - how.prior * self.weight.log()[:, None, None]
        return self.mean_of((logits / how.temperature).softmax(dim=1)) * how.gain

    def mean_of(self, probabilities: Tensor) -> Tensor:
        """Probabilities (B, Q, h, w) to their mean colour (B, 2, h, w)."""
        return torch.einsum("bqhw,qc->bchw", probabilities, self.centres)

    def fit(self, ab: Tensor) -> None:
        """Set the weights of equation 4 from the pictures' own colours; they average to 1 over those pictures."""
        bins, shares = (part.flatten().cpu() for part in self.encode(ab))  # Apple's GPUs have no float64
        prior = torch.zeros(self.out_channels, dtype=torch.float64).index_add_(0, bins, shares.double())
        prior /= prior.sum()
        weight = 1 / ((1 - UNIFORM) * prior + UNIFORM / self.out_channels)
        self.weight.copy_(weight / (prior * weight).sum())

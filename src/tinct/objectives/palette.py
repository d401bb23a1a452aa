"""Which colours are there, cell by cell: colouring without a decoder (after Larsson et al. 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.objectives.base import Batch, FeatureTerm
from tinct.objectives.bins import Bins

__all__ = ["Palette", "palette"]

MAPS = 2
"""How many of the deepest feature maps answer."""


class Palette(FeatureTerm):
    """Each cell of the encoder's two deepest maps tells the shares of the ab bins in its part of the picture.

    Larsson et al. ("Colorization as a Proxy Task for Visual Understanding") let hypercolumns predict
    histograms of the colours around a pixel. Here a linear map of the deepest features has to, so that what the
    colours follow from must be there, and a step costs little more than the encoder's pass. It makes no colorizer.
    """

    name = "palette"

    def __init__(self, channels: list[int]) -> None:
        """Build a linear head for each of the last two maps of `channels`, finest first."""
        super().__init__()
        self.bins = Bins()
        self.heads = nn.ModuleList(nn.Conv2d(count, self.bins.out_channels, 1) for count in channels[-MAPS:])

    def fit(self, ab: Tensor) -> None:
        """See `FeatureTerm.fit`: rare colours weigh more, as in `Bins`."""
        self.bins.fit(ab)

    def loss(self, features: list[Tensor], batch: Batch, small: Sequence[Tensor] = ()) -> Tensor:
        """See `FeatureTerm.loss`: cross-entropy with the cells' shares, a mean over cells and over the two maps."""
        losses = []
        for head, features_of in zip(self.heads, features[-MAPS:], strict=True):
            logits = head(features_of).float()
            shares = palette(self.bins, batch.ab, logits.shape[-2:]) * self.bins.weight[:, None, None]
            losses.append(-(shares * F.log_softmax(logits, dim=1)).sum(1).mean())
        return torch.stack(losses).mean()


def palette(bins: Bins, ab: Tensor, cells: torch.Size) -> Tensor:
    """Shares (B, Q, h, w) of the ab bins in each of `cells` = (h, w) parts of ab (B, 2, H, W); they add up to 1.

    H and W must be multiples of h and w.
    """
    batch, _, height, width = ab.shape
    found, shares = bins.encode(ab)
    per_pixel = ab.new_zeros(batch, bins.out_channels, height, width).scatter_add_(1, found, shares)
    return F.avg_pool2d(per_pixel, (height // cells[0], width // cells[1]))

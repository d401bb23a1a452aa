"""Several plausible colourings from a network that gives a distribution over ab bins."""

import torch
from torch import Tensor, nn

from tinct.objectives.bins import Bins
from tinct.weights import ColourNet

__all__ = ["Sampling"]

TEMPERATURE = 0.38
"""Of what is drawn from, whatever the best answer's is: at 0.6 draws cast one hue over whole pictures, green or red."""


class Sampling(nn.Module):
    """A colour network with ab bins that can draw.

    One Gumbel variable a bin is added everywhere to the logits, scaled so that the bin that then leads in a pixel is an
    exact draw from that pixel's distribution annealed by `TEMPERATURE` (Gumbel's maximum, see Maddison et al. 2014).
    Since all pixels share the variables, neighbours draw alike: a wall stays one wall. Averaging over the bins as ever
    keeps colours smooth.
    """

    samples = True

    def __init__(self, network: ColourNet) -> None:
        """Wrap `network`, whose colour term is `Bins`."""
        super().__init__()
        assert isinstance(network.colour, Bins)  # others give one colour a pixel, nothing to draw from
        self.network, self.colour = network, network.colour

    def forward(self, l: Tensor, seed: int | None = None) -> Tensor:
        """L* (B, 1, H, W) in [0, 100] to ab (B, 2, H/s, W/s) in Lab units: the mean colour, or the draw of `seed`."""
        if seed is None:
            ab: Tensor = self.network(l)
            return ab
        output = self.network.output(l).float()
        generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device draws the same
        uniform = torch.rand(self.colour.out_channels, 1, 1, generator=generator, dtype=torch.float64)
        gumbel = -(-uniform.clamp(1e-12, 1 - 1e-12).log()).log()
        return self.colour.decode(output + TEMPERATURE * gumbel.float().to(output.device))

"""What is trained: an encoder, a decoder where colours are learned, and the heads of the terms."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.color import lab_to_srgb, normalize_l, srgb_to_lab, stretch_levels
from tinct.device import memory_format
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives import make_terms
from tinct.objectives.ageing import age
from tinct.objectives.base import Batch, FeatureTerm, Stream, drawn

__all__ = ["Pretext", "some_in_colour", "take_apart", "to_chroma_resolution"]

SATURATION = (0.6, 1.4)
"""What chroma is multiplied by where a picture comes in colour: the jitter of SimCLR at strength 0.5 (appendix A)."""


class Pretext(nn.Module):
    """The terms over one pass of one encoder; the learner weighs them.

    Attributes:
        encoder: what transfers.
        generator: `encoder` with a decoder, or None without a colour term.
        colour: the colour term, or None.
        in_colour: the share of pictures, or of their views, that an encoder of RGB input is fed in colour.
    """

    def __init__(
        self,
        encoder: Encoder,
        weights: dict[str, float],
        chroma_stride: int = 4,
        width: int = 64,
        in_colour: float = 0.0,
    ) -> None:
        """Put decoder and heads for the terms of `weights` on `encoder`.

        Raises:
            TinctError: see `make_terms`.
        """
        super().__init__()
        self.colour, self.features = make_terms(weights, encoder.channels)
        self.encoder, self.in_colour = encoder, in_colour
        self.generator = Generator(encoder, self.colour.out_channels, chroma_stride, width) if self.colour else None

    def fit(self, ab: Tensor) -> None:
        """Let every term learn its statistics from the chroma (N, 2, h, w) of a sample of the training pictures."""
        if self.colour is not None:
            self.colour.fit(ab)
        for term in self.terms():
            term.fit(ab)

    def prepare(self, batch: Batch) -> Batch:
        """Let every feature term change the batch, those first whose changes others shall see; then colour some."""
        keys = batch.keys
        for term in sorted(self.terms(), key=lambda term: not term.before_others):
            batch = term.prepare(batch)
        if not self.in_colour:
            return batch
        small = batch.small
        if small is not None:
            small = some_in_colour(small, keys, self.in_colour, Stream.COLOUR_OF_SMALL_VIEWS)
        return replace(some_in_colour(batch, keys, self.in_colour, Stream.COLOUR), small=small)

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """The unweighted loss of each term on a prepared batch, and the generator's output (None without colour)."""
        maps = self.encoder(what_is_seen(batch))
        small = () if batch.small is None else self._unrecorded(what_is_seen(batch.small))
        losses = {term.name: term.loss(maps, batch, small) for term in self.terms()}
        if self.generator is None or self.colour is None:
            return losses, None
        output = self.generator.decode(maps, normalize_l(batch.l))
        return {self.colour.name: self.colour.loss(output, batch.ab), **losses}, output

    def _unrecorded(self, fed: Tensor) -> list[Tensor]:
        """Feature maps of small views; the norms' running statistics, for use, stay those of pictures at full size."""
        norms = [one for one in self.encoder.modules() if isinstance(one, nn.BatchNorm2d | nn.SyncBatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        maps: list[Tensor] = self.encoder(fed)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return maps

    def terms(self) -> list[FeatureTerm]:
        """The feature terms."""
        return [term for term in self.features.values() if isinstance(term, FeatureTerm)]


def what_is_seen(batch: Batch) -> Tensor:
    """What the encoder is fed."""
    return normalize_l(batch.l) if batch.fed is None else batch.fed


def some_in_colour(batch: Batch, keys: Tensor, share: float, stream: Stream) -> Batch:
    """Feed a share of the pictures with their colours, less or more saturated, the others grey.

    Args:
        batch: N views of each of B pictures, all first views before all second ones.
        keys: (B,), from which follows what is done, to each view for itself.
        share: of the views, in colour.
        stream: as in `drawn`.
    """
    numbers = drawn(keys, (len(batch.l) // len(keys), 2), stream).transpose(0, 1).reshape(-1, 2, 1, 1, 1).to(batch.l)
    saturation = SATURATION[0] + (SATURATION[1] - SATURATION[0]) * numbers[:, 1]
    ab = F.interpolate(batch.ab, batch.l.shape[2:], mode="bilinear", align_corners=False)
    coloured = 2 * lab_to_srgb(torch.cat((batch.l, ab * saturation), 1)) - 1
    fed = torch.where(numbers[:, 0] < share, coloured, normalize_l(batch.l))
    return replace(batch, fed=fed.contiguous(memory_format=memory_format(fed.device)))


@torch.no_grad()
def take_apart(pixels: Tensor, keys: Tensor, stride: int, aged: float = 0.0, stretched: bool = False) -> Batch:
    """Photographs (B, 3, H, W) uint8 to L at full and ab at a `stride`-th of the resolution.

    Args:
        pixels: the photographs.
        keys: see `Batch`.
        stride: of the colours.
        aged: the share of them whose L is that of old ones.
        stretched: whether each L reaches from black to white, as what a finished colorizer is given.
    """
    lab = srgb_to_lab(pixels)
    l = age(pixels, keys, aged) if aged else lab[:, :1]
    if stretched:
        l = stretch_levels(l)
    return Batch(l.contiguous(memory_format=memory_format(l.device)), F.avg_pool2d(lab[:, 1:], stride), keys)


def to_chroma_resolution(batch: Batch) -> Tensor:
    """L of a batch at the resolution of its ab, as the discriminator sees it."""
    return F.avg_pool2d(batch.l, batch.l.shape[-1] // batch.ab.shape[-1])

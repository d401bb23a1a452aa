"""The words that objectives and the training loop share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor, nn

from tinct.errors import TinctError

__all__ = ["Batch", "ColourTerm", "Decoding", "FeatureTerm", "Stream", "drawn"]


@dataclass(frozen=True)
class Decoding:
    """How a generator's output is read as colour: in training by the defaults, in use by what calibration chose.

    Attributes:
        gain: chroma is multiplied by this.
        temperature: of the annealed mean over ab bins (Zhang et al. 2016, section 2.3: 0.38 keeps colours vivid and in
            one piece).
        prior: how much of the rebalancing of rare ab bins is taken back, from 0 to 1, where the probabilities are
            those of the pictures again.
    """

    gain: float = 1.0
    temperature: float = 0.38
    prior: float = 0.0

    @classmethod
    def read(cls, values: Any) -> "Decoding":
        """What a file's header says.

        Raises:
            TinctError: it is not of this form, or a number is out of range.
        """
        limits = {"gain": (0.0, 10.0), "temperature": (1e-3, 10.0), "prior": (0.0, 1.0)}
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or not set(values) <= set(known):
            raise TinctError(f"decoding is {values!r}; expected numbers for {', '.join(known)}")
        for name, value in values.items():
            low, high = limits[name]
            if type(value) not in (int, float) or not (math.isfinite(value) and low <= value <= high):
                raise TinctError(f"decoding: {name} is {value!r}; expected {low:g} to {high:g}")
        return cls(**values)


@dataclass  # not frozen: Fabric copies it field by field under mixed precision
class Batch:
    """Photographs on the device, taken apart.

    Attributes:
        l: (B, 1, H, W) L* in [0, 100].
        ab: (B, 2, H/s, W/s) in Lab units, s the chroma stride.
        keys: (B,) int64, a random number of each picture's position in the run: what a term draws must follow from it.
        small: smaller views, which the encoder is shown apart, for the term that asked for them.
        fed: (B, 3, H, W) sRGB in [-1, 1], what the encoder sees where some pictures come in colour; None for L alone.
    """

    l: Tensor
    ab: Tensor
    keys: Tensor
    small: "Batch | None" = None
    fed: Tensor | None = None


class Stream(IntEnum):
    """What a picture's key draws: numbers of one stream say nothing of those of another.

    Terms of other packages take whole numbers of 1000 or more.
    """

    VIEWS = 0
    SMALL_VIEWS = 1
    AGEING = 2
    GRAIN = 3
    COLOUR = 4
    COLOUR_OF_SMALL_VIEWS = 5


def drawn(keys: Tensor, shape: Sequence[int], stream: int) -> Tensor:
    """Numbers in [0, 1) that follow from the pictures' keys alone, (B, *shape) on the CPU; other streams are others."""
    generators = [torch.Generator().manual_seed(key + stream) for key in keys.tolist()]
    return torch.stack([torch.rand(*shape, generator=generator) for generator in generators])


class ColourTerm(nn.Module, ABC):
    """Says how a generator's output encodes ab.

    Attributes:
        name: as in a recipe.
        out_channels: channels of the generator's output.
        decoding: how `decode` reads it.
    """

    name: str
    out_channels: int
    decoding: Decoding = Decoding()

    @abstractmethod
    def loss(self, output: Tensor, ab: Tensor) -> Tensor:
        """How far `output` (B, out_channels, h, w) is from `ab` (B, 2, h, w): a scalar."""

    @abstractmethod
    def decode(self, output: Tensor) -> Tensor:
        """`output` (B, out_channels, h, w) to ab (B, 2, h, w) in Lab units, differentiably."""

    def fit(self, ab: Tensor) -> None:
        """Learn statistics, kept as buffers, from the chroma (N, 2, h, w) of a sample of the training pictures."""


class FeatureTerm(nn.Module, ABC):
    """A pretext on the encoder's features that may change the batch before the encoder sees it.

    Attributes:
        name: as in a recipe.
        before_others: whether it changes pictures that other terms then take views of.
    """

    name: str
    before_others: bool = False

    def fit(self, ab: Tensor) -> None:
        """See `ColourTerm.fit`."""

    def prepare(self, batch: Batch) -> Batch:
        """The batch as the encoder shall see it."""
        return batch

    @abstractmethod
    def loss(self, features: list[Tensor], batch: Batch, small: Sequence[Tensor] = ()) -> Tensor:
        """A scalar from the feature maps of the prepared batch, finest first, and from those of its small views."""

"""The words that objectives and the training loop share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Batch", "ColourTerm", "FeatureTerm"]


@dataclass(frozen=True)
class Batch:
    """Photographs on the device, taken apart.

    Attributes:
        l: (B, 1, H, W) L* in [0, 100].
        ab: (B, 2, H/s, W/s) in Lab units, s the chroma stride.
        keys: (B,) int64, a random number of each picture's position in the run: what a term draws must follow from it.
    """

    l: Tensor
    ab: Tensor
    keys: Tensor


class ColourTerm(nn.Module, ABC):
    """Says how a generator's output encodes ab.

    Attributes:
        name: as in a recipe.
        out_channels: channels of the generator's output.
    """

    name: str
    out_channels: int

    @abstractmethod
    def loss(self, output: Tensor, ab: Tensor) -> Tensor:
        """How far `output` (B, out_channels, h, w) is from `ab` (B, 2, h, w): a scalar."""

    @abstractmethod
    def decode(self, output: Tensor) -> Tensor:
        """`output` (B, out_channels, h, w) to ab (B, 2, h, w) in Lab units, differentiably."""

    def fit(self, ab: Tensor) -> None:
        """Learn statistics, kept as buffers, from the chroma (N, 2, h, w) of a sample of the training pictures."""


class FeatureTerm(nn.Module, ABC):
    """A pretext on the encoder's features that may change the batch before the encoder sees it."""

    name: str

    def prepare(self, batch: Batch) -> Batch:
        """The batch as the encoder shall see it."""
        return batch

    @abstractmethod
    def loss(self, features: list[Tensor], batch: Batch) -> Tensor:
        """A scalar from the feature maps of the prepared batch, finest first."""

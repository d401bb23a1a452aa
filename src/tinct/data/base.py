"""The two things every set of pictures is: a `Source`, and a `LabelledSource` when it has labels."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOWER", "MIN_POSITIVES", "VOID", "LabelledSource", "Source", "fingerprint_of"]

VOID = 255
"""The mask value that stands for "no label here" and is left out of losses and metrics."""

MIN_POSITIVES = 20
"""A class with fewer positives than this among the evaluated pictures is not scored: it would be mostly chance."""

LOWER = "lower min_positives (tinct transfer --min-positives N, tinct compare --settings min_positives=N)"
"""What helps where no class has that many."""


class Source(ABC):
    """A sized, ordered set of pictures, each decoded only when asked for.

    Attributes:
        spec: what the user wrote, such as `voc:DIR`; goes into records.
        split: `train`, `val`, `test` or `all`.
    """

    spec: str
    split: str

    @abstractmethod
    def __len__(self) -> int:
        """The number of pictures, unreadable ones included."""

    @abstractmethod
    def name(self, index: int) -> str:
        """A stable, human-readable name of picture `index`: its path, or `photos:astronaut#17`."""

    @abstractmethod
    def picture(self, index: int, min_side: int | None = None) -> NDArray[np.uint8]:
        """Decode picture `index`: (H, W, 3) sRGB, upright. Several threads may ask at once.

        Args:
            index: 0 <= index < len(self).
            min_side: the result may be a reduced version whose shorter side is at least this many pixels (JPEG
                decodes at 1/2, 1/4 or 1/8 scale for a fraction of the cost); None asks for full size.

        Raises:
            PictureError: the picture is unreadable, gone, or over a limit.
        """

    def stamp(self, index: int) -> tuple[int, int]:
        """What changes when the file of picture `index` does, see `files.stamp`; 0, 0 where none is seen."""
        return 0, 0

    def fingerprint(self) -> str:
        """SHA-256 (16 hex digits) over the names of all pictures in order: the same set gives the same value."""
        return fingerprint_of(self.name(index) for index in range(len(self)))


class LabelledSource(Source):
    """A `Source` with a class list and, for each picture, a multi-label, a mask, or both.

    Attributes:
        classes: the names of the multilabel classes; empty when the source has masks only.
        mask_classes: the names of the mask's values 0, 1, 2, ...; empty when the source has no masks.
        background: the index of the mask's background class, or None where every class is an object.
        groups: (N,) equal for pictures that belong together, of one camera, say; None where nobody said.
    """

    classes: tuple[str, ...] = ()
    mask_classes: tuple[str, ...] = ()
    background: int | None = None
    groups: NDArray[np.int64] | None = None

    def labels(self) -> NDArray[np.float32]:
        """All multi-labels at once: (N, len(classes)), 1 = present, 0 = absent, NaN = unknown."""
        raise NotImplementedError

    def mask(self, index: int) -> NDArray[np.uint8]:
        """The mask of picture `index`: (H, W) class indices, `VOID` = no label, same size as the full picture.

        Raises:
            PictureError: the mask is unreadable, gone, of another size than its picture, or holds unknown values.
        """
        raise NotImplementedError


def fingerprint_of(names: Iterable[str]) -> str:
    """SHA-256 over `names` in order, each ended by a newline: 16 hex digits."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()[:16]

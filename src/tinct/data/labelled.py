"""What the readers of labelled picture files share: paths with labels, and the reading of a mask."""

import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import VOID, LabelledSource
from tinct.data.decode import header, one_sentence, opened
from tinct.data.folder import PathSource
from tinct.errors import PictureError, TinctError

__all__ = [
    *("BY_GRADIENTS", "FOR_GRADIENTS", "LabelledFiles", "Protocol", "Task", "checked_mask", "read_indices"),
    *("require_names", "score_threshold", "spelled"),
]

Task = Literal["multilabel", "segmentation"]
"""What the labels are for. A source opened for one task has that task's labels only."""
Protocol = Literal["finetune", "frozen", "linear", "knn"]
"""How an encoder learns from labels."""
BY_GRADIENTS: tuple[Protocol, ...] = ("finetune", "frozen")
"""The protocols that train a network by gradients; the others fit a probe."""
FOR_GRADIENTS = ("lr", "steps", "batch_size", "weight_decay")
"""Settings of a transfer that play no part in a probe."""


def score_threshold(protocol: Protocol) -> float:
    """The score above which a class is said to be present, a probability of 0.5.

    Scores of nearest neighbours are shares of votes, the others are logits.
    """
    return 0.5 if protocol == "knn" else 0.0


class LabelledFiles(PathSource, LabelledSource):
    """Picture files with labels; each reader fills in `classes` and `read_labels`, or `mask_classes` and `mask`.

    Attributes:
        note: what a user should know about how the set was made up (a split drawn by tinct, say); may be empty.
    """

    note: str = ""

    def labels(self) -> NDArray[np.float32]:
        """See `LabelledSource.labels`; they are read once.

        Raises:
            TinctError: they cannot be read, or no picture is positive for any class.
        """
        return self._labels

    @cached_property
    def _labels(self) -> NDArray[np.float32]:
        labels = self.read_labels()
        if np.isnan(labels).all():
            raise TinctError(f"{self.spec}: no picture of the {self.split} split has a label; label some of them too")
        if not (labels == 1).any():
            raise TinctError(
                f"{self.spec}: the {self.split} split has no positive label for any of its {len(self.classes)} classes"
            )
        return labels

    def read_labels(self) -> NDArray[np.float32]:
        """All multi-labels, (N, len(classes)), for `labels`; a reader of masks alone has none."""
        raise NotImplementedError


def spelled(name: str, root: Path) -> str:
    """A path as the disk has it: lists made on other systems write backslashes, or accents in another normal form.

    As it is written where that is there, or nothing is.
    """
    if name.isascii() and "\\" not in name:
        return name
    slashed = name.replace("\\", "/")
    ways = (name, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")))
    return next((way for way in ways if (root / way).exists()), name)


def read_indices(path: Path) -> NDArray[np.generic]:
    """Read a mask file's raw class indices, (H, W): a palette's indices rather than its colours.

    Raises:
        PictureError: the file is unreadable, gone, beyond a limit of `tinct.data.decode`, or has colour channels.
    """
    with one_sentence(f"{path}: cannot be read as a mask"), opened(path) as image:
        values, lossy, mode = np.asarray(image), image.format in ("JPEG", "MPO"), image.mode
    if lossy:
        raise PictureError(f"{path}: a JPEG, which changes class numbers; make masks anew as PNG")
    if values.ndim != 2:
        raise PictureError(
            f"{path}: a mask of mode {mode}; expected one channel (or a palette) of class numbers; "
            "convert its colours to them once (docs/transfer.md)"
        )
    return values


def checked_mask(
    values: NDArray[np.generic], path: Path, picture: Path, classes: int, void: int = VOID
) -> NDArray[np.uint8]:
    """Check a mask against its picture and its classes.

    Args:
        values: (H, W) raw indices.
        path: the mask's file, for messages.
        picture: the picture's file; its header tells the upright size.
        classes: the number of mask classes.
        void: the value that means void in the file.

    Returns:
        (H, W) uint8, each 0 ... classes-1 or `VOID`.

    Raises:
        PictureError: the sizes differ, or a value stands for no class.
    """
    _, width, height = header(picture)
    if values.shape != (height, width):
        size = f"{values.shape[1]}x{values.shape[0]}"
        raise PictureError(f"{path}: a mask of {size} for {picture.name} of {width}x{height}; make them equal")
    # counting bytes takes a quarter of the time that sorting them does, and this runs for each picture of each epoch
    present = np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)
    unknown = np.setdiff1d(present, [*range(classes), void, VOID])
    if unknown.size:
        listed = ", ".join(str(value) for value in unknown[:5])
        raise PictureError(f"{path}: unknown mask value {listed}; expected 0 to {classes - 1}, or {void} for void")
    return np.where(values == void, VOID, values).astype(np.uint8)


def require_names(source: LabelledSource) -> None:
    """Refuse a source with two classes of one name, since scores go by names.

    Raises:
        TinctError: it has.
    """
    classes = source.classes or source.mask_classes
    twice = next((name for name in classes if classes.count(name) > 1), None)
    if twice is not None:
        raise TinctError(f"{source.spec}: two classes are called {twice!r}; give each a name of its own")

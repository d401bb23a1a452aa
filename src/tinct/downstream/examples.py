"""Labelled pictures for a transfer: which ones, read small, bad ones passed over by name."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinct.data.ahead import READERS, read_ahead
from tinct.data.base import VOID, LabelledSource, Source
from tinct.data.cache import CachedSource
from tinct.data.hashes import dhash
from tinct.data.labelled import Task, require_names
from tinct.data.sources import open_labelled
from tinct.data.subsets import tuning_split
from tinct.data.survey import mask_pixels
from tinct.data.transforms import augment, centre, shrunk, whole
from tinct.errors import PictureError, TinctError
from tinct.files import expanded, stamp

__all__ = [
    "MEMORY",
    "Chunk",
    "Examples",
    "Labelled",
    "evaluation_chunks",
    "forget_labels",
    "held_side",
    "open_labels",
]

SHARPNESS = 1.5
"""Pictures are held with a shorter side of this many times the network's: the smallest training crop is 0.55 of it."""
MEMORY = 1 << 30
"""Bytes of training pictures to hold; those beyond are read again whenever they are wanted."""


@dataclass(frozen=True)
class Labelled:
    """A split of a labelled source, with what can be known of it before its pictures are read.

    Attributes:
        source: for masks, labels, names.
        pictures: the same pictures, maybe cached.
        presence: (N, C) which class is in which picture: multi-labels (NaN = unknown) or mask presence.
        bad: name -> reason of those whose mask cannot be read.
        side: see `held_side`, in pixels.
        task: what the labels are for.
    """

    source: LabelledSource
    pictures: Source
    presence: NDArray[np.float32]
    bad: dict[str, str]
    side: int
    task: Task

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of `presence`'s columns."""
        return self.source.classes if self.task == "multilabel" else self.source.mask_classes

    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The part to choose settings on, and the rest, which label subsets are drawn from, both of usable pictures.

        Raises:
            TinctError: none is usable, or too few are.
        """
        usable = self.usable()
        try:
            return self.tuning_of(usable)
        except TinctError as error:
            if not self.bad:
                raise
            name, reason = next(iter(self.bad.items()))
            more = f"the masks of {len(self.bad)} more cannot be used, for instance {name}: {reason}"
            raise TinctError(f"{self.source.spec}, split {self.source.split}: {error}; {more}") from error

    def tuning_of(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The part of `indices` to choose settings on, and the rest, see `tuning_split`."""
        groups = self.source.groups
        tuning, rest = tuning_split(self.presence[indices], None if groups is None else groups[indices])
        return indices[tuning], indices[rest]

    @property
    def known(self) -> NDArray[np.int64]:
        """The pictures of which some label is known; with masks, all."""
        return np.flatnonzero(~np.isnan(self.presence).all(1))

    def usable(self) -> NDArray[np.int64]:
        """The labelled pictures without bad ones.

        Raises:
            TinctError: there is none.
        """
        good = [index for index in self.known.tolist() if self.source.name(index) not in self.bad]
        if not good:
            split = f"{self.source.spec}, split {self.source.split}"
            if not self.bad:
                raise TinctError(f"{split}: no label is known of any picture; label some")
            name, reason = next(iter(self.bad.items()))
            raise TinctError(f"{split}: none of its masks can be used; for instance {name}: {reason}")
        return np.array(good, np.int64)

    def example(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Picture `index`, its shorter side at most `side`, and its mask as the file has it.

        Raises:
            PictureError: either is unusable.
        """
        picture = shrunk(self.pictures, index, self.side)
        if isinstance(picture, str):
            raise PictureError(picture)
        return picture, self.source.mask(index) if self.task == "segmentation" else None


def held_side(size: int) -> int:
    """The shorter side, in pixels, that pictures are reduced to before a network of `size` is fed parts of them."""
    return math.ceil(SHARPNESS * size)


def open_labels(spec: str, split: str, task: Task, size: int, cache: str | None = None) -> Labelled:
    """Open a split for networks of `size` pixels, with decoded pictures cached in the folder `cache`.

    Raises:
        TinctError: see `open_labelled`; or masks hold nothing but background and void.
    """
    source, presence, bad = _opened(spec, split, task, stamp(expanded(spec.partition(":")[2])))
    side = held_side(size)
    pictures = CachedSource(source, expanded(cache), side) if cache else source
    return Labelled(source, pictures, presence, bad, side, task)


def forget_labels() -> None:
    """Read labels anew the next time they are wanted: their files may have changed since."""
    _opened.cache_clear()


@functools.lru_cache(maxsize=8)  # a grid of transfers opens the same few splits again and again
def _opened(
    spec: str, split: str, task: Task, _: tuple[int, int]
) -> tuple[LabelledSource, NDArray[np.float32], dict[str, str]]:
    source = open_labelled(spec, split, task)
    classes = source.classes if task == "multilabel" else source.mask_classes
    require_names(source)
    if task == "multilabel":
        return source, source.labels(), {}
    presence, bad, void = np.zeros((len(source), len(source.mask_classes)), np.float32), {}, False
    for index, pixels in enumerate(mask_pixels(source)):
        if isinstance(pixels, str):
            bad[source.name(index)] = pixels
        else:
            values = np.flatnonzero(pixels)
            presence[index, values[values != VOID]] = 1
            void |= VOID in values
    if void and not presence[:, np.arange(len(classes)) != source.background].any():
        raise TinctError(f"{spec}: its masks of {split} hold {VOID}, which is void, and no class; write class 1 as 1")
    return source, presence, bad


class Examples:
    """The pictures to train on: all read once, held in memory as far as `MEMORY` goes.

    Attributes:
        indices: of the readable ones, in the source.
        hashes: their difference hashes.
        skipped: name -> reason of the others.
    """

    def __init__(self, labelled: Labelled, indices: NDArray[np.int64]) -> None:
        """Read the pictures `indices`.

        Raises:
            TinctError: none of them can be read.
        """
        self.labelled = labelled
        self.skipped: dict[str, str] = {}
        self._held: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8] | None]] = {}
        usable, hashes, room = [], [], MEMORY
        found = read_ahead(self._tried, indices.tolist(), ahead=2 * READERS)
        for index, example in zip(indices.tolist(), found, strict=True):
            if isinstance(example, str):
                self.skipped[labelled.source.name(index)] = example
                continue
            room -= sum(part.nbytes for part in example if part is not None)
            if room > 0:
                self._held[index] = example
            usable.append(index)
            hashes.append(dhash(example[0]))
        if not usable:
            name, reason = next(iter(self.skipped.items()), ("", "no pictures"))
            raise TinctError(f"{labelled.source.spec}: none of its training pictures can be read: {name}: {reason}")
        self.indices, self.hashes = np.array(usable, np.int64), np.array(hashes, np.uint64)

    def __len__(self) -> int:
        """How many can be read."""
        return len(self.indices)

    def crop(self, position: int, size: int, *key: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """An augmented crop of example `position`, (size, size, 3), and of its mask: a function of `key`."""
        index = int(self.indices[position])
        picture, mask = self._held.get(index) or self._read(index)
        return augment(picture, mask, size, *key)

    def labels(self) -> NDArray[np.float32]:
        """The examples' rows of `presence`."""
        return self.labelled.presence[self.indices]

    def _tried(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None] | str:
        try:
            return self._read(index)
        except PictureError as error:
            return str(error)

    def _read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        picture, mask = self.labelled.example(index)
        if mask is not None and mask.shape[0] > picture.shape[0]:
            height, width = picture.shape[:2]
            mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        return picture, mask


@dataclass(frozen=True)
class Chunk:
    """Some pictures to evaluate on, in order.

    Attributes:
        indices: (n,) in the source.
        pixels: (n, S, S, 3); (n, h, w, 3) with masks, n being 1 or 0.
        masks: (n, H, W), of any size, or None.
        hashes: (n,) difference hashes.
        skipped: index -> reason of those in between that cannot be read.
    """

    indices: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None
    hashes: NDArray[np.uint64]
    skipped: dict[int, str] = field(default_factory=dict)


def evaluation_chunks(labelled: Labelled, indices: NDArray[np.int64], size: int, length: int = 64) -> Iterator[Chunk]:
    """Pictures as they are evaluated.

    For multi-labels the centred squares, `length` at a time; for masks the whole pictures, one at a time, with their
    masks as the files have them.
    """
    masked = labelled.task == "segmentation"
    length = 1 if masked else length

    def read(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, np.uint64] | str:
        try:
            picture, mask = labelled.example(index)
        except PictureError as error:
            return str(error)
        return centre(picture, size) if mask is None else whole(picture, size), mask, dhash(picture)

    found = read_ahead(read, indices.tolist(), ahead=length + 2 * READERS)
    remaining = zip(indices.tolist(), found, strict=True)
    while part := list(islice(remaining, length)):
        kept, pixels, masks, hashes = [], [], [], []
        skipped: dict[int, str] = {}
        for index, example in part:
            if isinstance(example, str):
                skipped[index] = example
                continue
            view, mask, digest = example
            kept.append(index)
            pixels.append(view)
            hashes.append(digest)
            if mask is not None:
                masks.append(mask)
        yield Chunk(
            np.array(kept, np.int64),
            np.array(pixels, np.uint8).reshape(len(kept), *(pixels[0].shape if pixels else (size, size, 3))),
            np.array(masks, np.uint8).reshape(len(kept), *(masks[0].shape if masks else (0, 0))) if masked else None,
            np.array(hashes, np.uint64),
            skipped,
        )

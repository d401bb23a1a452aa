"""The order of pretraining: which photograph is read, and how it is cropped, follow from (seed, epoch, position) alone.

A position counts pictures since the start of a run, through all epochs. Step k of a run with a global batch of B reads
the positions k B to (k + 1) B - 1, whoever reads them: a resumed run starts at its step, and each of several ranks
takes its share of the same positions.
"""

import math
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tinct.data.base import Source
from tinct.data.decode import GREY, is_grey
from tinct.data.hashes import dhash, near
from tinct.data.parallel import begin_worker
from tinct.data.random import rng
from tinct.errors import PictureError

__all__ = ["EXCLUDED", "GREY_SKIP", "HOPELESS", "Crop", "Crops", "Photographs", "Reading", "crops_loader"]

GREY_SKIP = f"grey: mean chroma below {GREY:g}"
EXCLUDED = "excluded: like a picture that must not be seen"
HOPELESS = 1000
"""Where this many pictures in a row are unusable at a run's first position, its source is given up."""
ORDER, CROP = 0, 1  # streams of random numbers


@dataclass(frozen=True)
class Reading:
    """What was read at a position.

    Attributes:
        position: counts pictures since the start of the run.
        key: 62 random bits of this position.
        index: the picture's index in the source, or -1 when no usable one was found.
        hash: its difference hash, or None where that was reported before.
        skipped: (index, reason) of the pictures passed over on the way.
    """

    position: int
    key: int
    index: int
    hash: int | None = None
    skipped: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Crop:
    """One training picture: `pixels` (3, S, S) uint8, and the reading that gave it."""

    pixels: Tensor
    reading: Reading


@dataclass(frozen=True)
class Crops:
    """A batch: `pixels` (B, 3, S, S) uint8, `keys` (B,) int64, and the readings that gave it.

    It comes from another process, where each tensor takes a file descriptor: so there are two, whatever B is.
    """

    pixels: Tensor
    keys: Tensor
    readings: Sequence[Reading]

    def pin_memory(self) -> "Crops":
        """For the loader's pinning thread."""
        return Crops(self.pixels.pin_memory(), self.keys.pin_memory(), self.readings)


class Photographs(Dataset[Crop]):
    """A source's pictures as random crops by position."""

    def __init__(
        self,
        source: Source,
        pool: NDArray[np.uint32],
        size: int,
        seed: int,
        min_crop: float = 0.5,
        excluded: NDArray[np.uint64] | None = None,
    ) -> None:
        """Crop the pictures `pool` of `source`.

        Args:
            source: where pictures come from.
            pool: the indices to train on.
            size: the crop's side in pixels.
            seed: of order and crops.
            min_crop: the smallest crop's side as a share of the picture's shorter side, above 0, at most 1.
            excluded: hashes of pictures to keep out; a copy of one is passed over.
        """
        self.source, self.pool, self.size, self.seed, self.min_crop = source, pool, size, seed, min_crop
        self.excluded = excluded if excluded is not None and len(excluded) else None
        self._epoch, self._order = -1, pool
        self._reported = np.zeros(len(source), bool)
        # JPEGs are reduced by powers of two: between a side and twice that side no version lies that neither gives
        most = math.ceil(size / min_crop)
        self._sides = sorted({min(size << doubling, most) for doubling in range(most.bit_length())})
        self._unusable: dict[int, str] = {}
        self._cleared = np.zeros(len(source), np.int32)  # the height of the last version that was no excluded picture

    def __len__(self) -> int:
        """Pictures an epoch."""
        return len(self.pool)

    def forget(self) -> None:
        """Report each picture anew, as if none had been read."""
        self._reported[:] = False

    def __getitem__(self, position: int) -> Crop:
        """The crop at `position`; where its picture is unusable, of the next one in the epoch's order."""
        epoch, place = divmod(position, len(self.pool))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, rng(self.seed, ORDER, epoch).permutation(self.pool)
        draw = rng(self.seed, CROP, position)
        key = int(draw.integers(1 << 62))
        share = draw.uniform(self.min_crop, 1)
        side = math.ceil(self.size / share)
        skipped: list[tuple[int, str]] = []
        # Only the first position, before which nothing is written, gives up: a later one would end each resumption too.
        for step in range(len(self.pool) if position else min(HOPELESS, len(self.pool))):
            index = int(self._order[(place + step) % len(self.pool)])
            found = self._unusable.get(index) or self._read(index, side)
            if isinstance(found, str):
                vanished = found not in (GREY_SKIP, EXCLUDED) and index not in self._unusable
                if vanished or not self._reported[index]:
                    skipped.append((index, found))
                    self._reported[index] = self._lasts(index, found)
                continue
            picture, hashed = found
            self._reported[index] = True
            pixels = random_crop(picture, self.size, share, draw)
            reading = Reading(position, key, index, None if hashed is None else int(hashed), skipped)
            return Crop(to_tensor(pixels), reading)
        nothing = torch.zeros(3, self.size, self.size, dtype=torch.uint8)
        return Crop(nothing, Reading(position, key, -1, None, skipped))

    def _read(self, index: int, side: int) -> tuple[NDArray[np.uint8], np.uint64 | None] | str:
        """A picture in the version for `side`, with its hash where that is of use, or why it is unusable so."""
        try:
            picture = self.source.picture(index, side)
        except PictureError as error:
            return str(error)
        if is_grey(picture):
            return GREY_SKIP
        if self._reported[index] and (self.excluded is None or self._cleared[index] == len(picture)):
            return picture, None
        hashed = dhash(picture)
        if self.excluded is not None and near(np.array([hashed], np.uint64), self.excluded)[0]:
            return EXCLUDED
        self._cleared[index] = len(picture)
        return picture, hashed

    def _lasts(self, index: int, reason: str) -> bool:
        """Whether a picture is unusable at every position, and so is never read again.

        What is grey, or like an excluded one, in one reduced version may not be so in another; remembered as such, it
        would make crops follow from what their reader happened to read before.
        """
        if index not in self._unusable and (
            reason not in (GREY_SKIP, EXCLUDED) or all(isinstance(self._read(index, at), str) for at in self._sides)
        ):
            self._unusable[index] = reason
        return index in self._unusable


def random_crop(picture: NDArray[np.uint8], size: int, share: float, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Cut a rectangle out, its side `share` of the shorter side and up to 4:3 out of square; maybe flip it.

    Unlike torchvision's RandomResizedCrop, the scale is drawn before the picture is opened: so the decoder knows what
    it may leave out. Hence it is one of sides, whatever the shape; crops of transfers (`transforms.augment`), whose
    pictures are held already, draw a share of the area instead.
    """
    height, width = picture.shape[:2]
    aspect = math.exp(draw.uniform(-0.5, 0.5) * math.log(4 / 3))
    tall, wide = (
        min(share * min(height, width) * stretch, side) for stretch, side in ((aspect, height), (1 / aspect, width))
    )
    top, left = draw.uniform(0, height - tall), draw.uniform(0, width - wide)
    image = Image.fromarray(picture)
    box = (left, top, left + wide, top + tall)
    crop = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return crop[:, ::-1] if draw.random() < 0.5 else crop


def to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 array to (3, H, W) uint8 tensor."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def crops_loader(
    photographs: Photographs,
    batch_size: int,
    steps: range,
    rank: int = 0,
    ranks: int = 1,
    accumulate: int = 1,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterable[Crops]:
    """Batches for `steps` of a run, `accumulate` of them a step: this rank's share of the global `batch_size`.

    They can be gone through once.
    """
    share = batch_size // (ranks * accumulate)
    firsts = (((step * accumulate + part) * ranks + rank) * share for step in steps for part in range(accumulate))
    return DataLoader[Any](
        photographs,
        batch_sampler=(list(range(first, first + share)) for first in firsts),
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin_memory,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_quiet_worker,
        generator=torch.Generator(),  # it draws a seed for the workers, which is not to be from the caller's numbers
    )


def _collate(crops: list[Crop]) -> Crops:
    readings = [crop.reading for crop in crops]
    keys = torch.tensor([reading.key for reading in readings])
    return Crops(torch.stack([crop.pixels for crop in crops]), keys, readings)


def _quiet_worker(_: int) -> None:
    begin_worker()
    torch.set_num_threads(1)  # a worker that spins up a pool takes the cores from the training step
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # sent to the whole group; the parent ends us when it is ready

"""What comes before training: the engine, the pictures that are held out or avoided, and a first look at the others."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from numpy.typing import NDArray

from tinct.config import Config
from tinct.data.base import Source
from tinct.data.hashes import hash_of
from tinct.data.ledger import Ledger
from tinct.data.loader import Photographs, crops_loader
from tinct.data.parallel import each_picture
from tinct.data.photos import Photos
from tinct.data.sources import is_labelled, open_sources
from tinct.errors import TinctError
from tinct.heldout import take_held_out
from tinct.learner import Learner
from tinct.objectives.pretext import take_apart

__all__ = ["hashes_to_avoid", "make_fabric", "prepare", "set_aside"]

HELD_OUT = 64
"""Photographs coloured at every checkpoint."""


def make_fabric(config: Config) -> Fabric:
    """The engine: devices, precision, ranks.

    Raises:
        TinctError: the machine has no such device, or Fabric knows no such setting.
    """
    devices = int(config.devices) if config.devices.isdigit() else config.devices
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=devices,
            strategy=config.strategy,
            precision=config.precision,  # type: ignore[arg-type]
        )
        fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise TinctError(
            f"cannot run with accelerator {config.accelerator}, devices {config.devices}, strategy {config.strategy}, "
            f"precision {config.precision}: {reason}; try --accelerator auto"
        ) from error
    parts = fabric.world_size * config.accumulate
    if config.batch_size % parts:
        raise TinctError(f"batch_size is {config.batch_size}; expected a multiple of devices x accumulate = {parts}")
    return fabric


def set_aside(config: Config, source: Source) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """The indices to train on, and the held-out pictures (N, size, size, 3).

    `photos:` is held out on the right parts of its photographs, which no training crop touches.

    Raises:
        TinctError: nothing is left to train on.
    """
    everything = np.arange(len(source), dtype=np.uint32)
    apart: Source | None = open_sources([config.held_out], "val") if config.held_out else None
    if apart is None and isinstance(source, Photos):
        apart = Photos("val")
    indices, pictures = take_held_out(apart or source, HELD_OUT, config.size)
    pool = everything if apart is not None else np.delete(everything, indices)
    if not len(pool):
        raise TinctError(f"{source.spec}: no pictures to train on; name a source with more of them")
    return pool, pictures


def hashes_to_avoid(specs: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes of the pictures of `specs`; of a labelled source, those of its val split.

    Raises:
        TinctError: one cannot be opened.
    """
    found: list[np.uint64] = []
    for spec in specs:
        source = open_sources([spec], "val" if is_labelled(spec) else "all")
        with each_picture(source, hash_of, f"hashing {spec}") as hashes:
            found += [value for value in hashes if value is not None]
    return np.unique(np.array(found, np.uint64))


def prepare(learner: Learner, photographs: Photographs, pictures: int = 512) -> None:
    """Read the run's first crops: to refuse before anything is written, and for terms that need colours' statistics.

    Raises:
        TinctError: most pictures are unusable.
    """
    ledger = Ledger(photographs.source)
    batch = min(64, pictures)
    chroma = []
    for part in crops_loader(photographs, batch, range(min(pictures, len(photographs)) // batch + 1)):
        ledger.note(part.crops)
        chroma.append(take_apart(part.pixels, part.keys, learner.config.chroma_stride).ab)
    photographs.forget()
    learner.pretext.fit(torch.cat(chroma).to(learner.fabric.device))
    learner.ema.set(learner.pretext)

"""What comes before training: the engine, the pictures that are held out or avoided, and a first look at the others."""

from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tinct.config import Config
from tinct.data.base import Source
from tinct.data.hashes import hash_of
from tinct.data.joined import Joined
from tinct.data.ledger import Ledger
from tinct.data.loader import Photographs, crops_loader
from tinct.data.parallel import each_picture
from tinct.data.photos import Photos
from tinct.data.random import rng
from tinct.data.sources import is_labelled, open_evaluated, open_sources
from tinct.data.transforms import whole_side
from tinct.engine import make_fabric
from tinct.errors import AbsentSplitError, TinctError
from tinct.objectives.pretext import take_apart
from tinct.pretraining.heldout import take_held_out
from tinct.pretraining.learner import Learner

__all__ = ["engine_for", "hashes_to_avoid", "open_excluded", "open_held_out", "prepare", "set_aside"]

HELD_OUT = 64
"""Photographs coloured at every checkpoint."""
SAMPLE = 1
"""The stream of random numbers that chooses `max_pictures`, whatever the run's seed."""
FIRST, FIRST_BATCH = 512, 64
"""Before a run, batches of the latter are read until there are more crops than the former, or than photographs."""


def engine_for(config: Config, launch: bool = True) -> Fabric:
    """The engine, on whose devices a batch has to be divided evenly, into two pictures or more; see `make_fabric`.

    Raises:
        TinctError: it cannot be, or see `make_fabric`.
    """
    fabric = make_fabric(config.accelerator, config.precision, config.devices, config.strategy, launch)
    parts = fabric.world_size * config.accumulate
    if config.batch_size % parts:
        raise TinctError(f"batch_size is {config.batch_size}; expected a multiple of devices x accumulate = {parts}")
    if config.batch_size < 2 * parts:
        raise TinctError(
            f"batch_size is {config.batch_size}; expected {2 * parts} or more, 2 for each of devices x accumulate = "
            f"{parts}, for batch norm's sake"
        )
    return fabric


def set_aside(
    config: Config, source: Source, excluded: NDArray[np.uint64]
) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint64]]:
    """The indices to train on, the held-out pictures (N, side, side, 3), and the hashes to avoid in training.

    Held-out pictures are squares as large as a finished colorizer sees them (`whole_side`). `excluded` are to be
    avoided by both, but for what `held_out` names; copies of what is held out, which may be among the indices, by
    training. What is held out does not depend on `max_pictures`, so that runs on more and on fewer are scored on the
    same. `photos:` is held out on the right parts of its photographs, which no training crop touches, among others too.

    Raises:
        TinctError: nothing is left to train on, or nothing of what `held_out` names can be used.
    """
    pool = np.arange(len(source), dtype=np.uint32)
    side = whole_side(config.size, config.min_crop)
    if config.held_out is not None:
        named = open_held_out(config.held_out)
        _, pictures, hashes = take_held_out(named, HELD_OUT, side, excluded[:0])
        if not len(pictures):
            raise TinctError(
                f"held_out is {config.held_out}, of which none of {min(len(named), 4 * HELD_OUT)} pictures tried can "
                "be used; name colour photographs that can be read (see `tinct data`)"
            )
    elif isinstance(source, Photos):
        _, pictures, hashes = take_held_out(Photos("val"), HELD_OUT, side, excluded)
    else:
        parts = source.parts if isinstance(source, Joined) else (source,)
        candidates = Joined([Photos("val") if isinstance(part, Photos) else part for part in parts])
        count = min(HELD_OUT, len(source) // 8)  # a small source needs its pictures for training
        indices, pictures, hashes = take_held_out(candidates, count, side, excluded)
        pool = np.delete(pool, indices)
    if not len(pool):
        raise TinctError(f"{source.spec}: no pictures to train on; name a source with more of them")
    if config.max_pictures is not None:
        if config.max_pictures > len(pool):
            raise TinctError(
                f"max_pictures is {config.max_pictures}, of {len(pool)} in {source.spec}; lower it, or leave it out"
            )
        pool = np.sort(rng(SAMPLE, len(pool)).permutation(pool)[: config.max_pictures])
    return pool, pictures, np.union1d(excluded, hashes)


def open_held_out(spec: str) -> Source:
    """The pictures that `held_out` means by `spec`: its val split, or all that a text file lists.

    Raises:
        TinctError: it cannot be opened, or has no such split.
    """
    try:
        return open_sources([spec], "val")
    except AbsentSplitError as error:
        raise TinctError(
            f"held_out is {spec}, which has no val split; name a text file of the paths of its pictures, or a folder "
            "that holds train and val"
        ) from error


def open_excluded(spec: str) -> Source:
    """The pictures that `exclude` means by `spec`; of a labelled source, those of its val and test splits.

    Raises:
        TinctError: it cannot be opened.
    """
    return open_evaluated(spec) if is_labelled(spec) else open_sources([spec], "all")


def hashes_to_avoid(specs: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes of the pictures of `specs`; see `open_excluded`.

    Raises:
        TinctError: one cannot be opened, or more than half of its pictures cannot be read, so that they would get in.
    """
    found: list[np.uint64] = []
    for spec in specs:
        source = open_excluded(spec)
        with each_picture(source, hash_of, f"hashing {spec}") as hashes:
            read = [value for value in hashes if value is not None]
        if len(read) < len(source) / 2:
            raise TinctError(
                f"exclude {spec}: {len(source) - len(read)} of its {len(source)} pictures cannot be read, so nothing "
                "keeps them out; mend their paths"
            )
        found += read
    return np.unique(np.array(found, np.uint64))


def prepare(learner: Learner, photographs: Photographs) -> None:
    """Read the run's first crops: to refuse before anything is written, and for terms that need colours' statistics.

    Raises:
        TinctError: most pictures are unusable.
    """
    ledger = Ledger(photographs.source, len(photographs))
    chroma = []
    for part in crops_loader(photographs, FIRST_BATCH, range(min(FIRST, len(photographs)) // FIRST_BATCH + 1)):
        ledger.note(part.readings)
        chroma.append(take_apart(part.pixels, part.keys, learner.config.chroma_stride).ab)
    photographs.forget()
    learner.pretext.fit(torch.cat(chroma).to(learner.fabric.device))

"""`tinct pretrain`: photographs in, a colour-pretrained encoder and a colorizer out."""

import math
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tinct.config import Config, stored
from tinct.data.base import Source
from tinct.data.cache import CachedSource
from tinct.data.hashes import near
from tinct.data.loader import Photographs
from tinct.data.sources import open_sources
from tinct.downstream.examples import open_labels
from tinct.engine import lost_ranks_told
from tinct.errors import TinctError
from tinct.files import alone_in, expanded, write_text
from tinct.inits import seen_before
from tinct.pretraining.learner import Learner
from tinct.pretraining.loop import Training
from tinct.pretraining.preparation import engine_for, hashes_to_avoid, open_excluded, open_held_out, prepare, set_aside
from tinct.runs import Run, read_record
from tinct.screen import open_console, say

__all__ = ["check_run", "pretrain", "pretrain_apart", "run_pretrain"]


def pretrain(config: Config, *, out: Path, resume: bool = False) -> int:
    """Learn from unlabelled photographs by colouring them.

    Ctrl-C ends the step and saves; the same command with --resume goes on from there.

    Args:
        config: what to do.
        out: the run's folder; a new or empty one, without --resume.
        resume: go on with the run that is in `out`, or begin it; a finished one of the same settings is left alone.

    Returns:
        0.

    Raises:
        TinctError: as `run_pretrain`.
        KeyboardInterrupt: as `run_pretrain`.
    """
    done = resume and Run(out).finished()
    run_pretrain(config, out=out, resume=resume)
    if done:
        print(f"{out} is finished; nothing to do")  # noqa: T201
    return 0


@lost_ranks_told()
def run_pretrain(config: Config, *, out: str | Path, resume: bool = False) -> dict[str, Any]:
    """Learn from unlabelled photographs by colouring them; progress is shown on standard error.

    Calls in several threads take turns at each step, and give what each would give alone.

    Args:
        config: what to do.
        out: the run's folder; see `tinct.runs`.
        resume: go on with the run that is in `out`, or begin it; a finished one of the same settings is left alone.

    Returns:
        The record, which is in record.json too.

    Raises:
        TinctError: the settings, the pictures, the folder or the machine make it impossible, or training diverged.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP came while it trained in the main thread; the step was ended and
            saved, so that `resume` goes on there.
    """
    if not isinstance(config, Config):
        raise TinctError(f"config is a {type(config).__name__}; expected tinct.Config(sources=[...], steps=...)")
    out = expanded(out)
    run = Run(out)
    begun = check_run(config, run, resume)
    if begun is None:
        return read_record(out)
    source, learner = begun
    excluded = hashes_to_avoid(config.exclude)
    if learner.fabric.is_global_zero:
        warn_of_seen(config.init, excluded)
    pool, held_out, avoided = set_aside(config, source, excluded)
    if config.cache:
        fabric, side = learner.fabric, math.ceil(config.size / config.min_crop)
        with fabric.rank_zero_first(local=True):  # the machine's other ranks take what the first has built or compared
            source = CachedSource(source, expanded(config.cache), side, compared=fabric.local_rank > 0)
    photographs = Photographs(source, pool, config.size, config.seed, config.min_crop, avoided)
    if run.checkpoint("last") is None:
        prepare(learner, photographs)
    with alone_in(out) if learner.fabric.is_global_zero else nullcontext():
        Training(config, run, learner.fabric, learner, photographs, held_out, resume).go()
    return read_record(out)


def pretrain_apart(config: Config, out: Path) -> None:
    """Pretrain for a program that has more to do, in a process of its own where there are several devices.

    Each further device's process repeats the command that pretrains, which would do the rest again.

    Args:
        config: what to do.
        out: the run's folder; what is there is gone on with.

    Raises:
        TinctError: as `run_pretrain`; what that process was ended by, it has said itself.
        KeyboardInterrupt: as `run_pretrain`.
    """
    if Run(out).finished() or engine_for(config, launch=False).world_size == 1:
        run_pretrain(config, out=out, resume=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "config.yaml"
        write_text(settings, yaml.safe_dump(stored(config), sort_keys=False, allow_unicode=True))
        words = ["pretrain", f"--config={settings}", f"--out={out}", "--resume"]
        # apart from the terminal: Ctrl-C would reach it there too, and a second one ends it without saving
        with subprocess.Popen([sys.executable, "-m", "tinct", *words], start_new_session=True) as process:
            try:
                code = process.wait()
            except KeyboardInterrupt:
                end_group(process)
                process.wait()
                raise
    if code:
        raise TinctError(f"{out}: its pretraining ended with exit code {code} (it says why above)")


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask a process that began a session, and those that it started, to end."""
    if hasattr(os, "killpg"):  # not on Windows
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    else:
        process.terminate()


def check_run(config: Config, run: Run, resume: bool) -> tuple[Source, Learner] | None:
    """Open and build all that a run begins with, on every rank and before hours of preparation; nothing is written.

    Returns:
        Its pictures, and what learns; None if it is finished.

    Raises:
        TinctError: see `run_pretrain`.
    """
    config.check()
    run.check_may_open(stored(config), resume)
    if config.probe is not None:  # else a mistake in it would show at the first checkpoint
        open_labels(config.probe, "train", "multilabel", config.size).parts()
    if resume and run.finished():
        return None
    fabric = engine_for(config)
    source = open_sources(config.sources, config.split)
    for spec in config.exclude:
        open_excluded(spec)
    if config.held_out is not None:
        open_held_out(config.held_out)
    return source, Learner(config, fabric)


def warn_of_seen(init: str, excluded: NDArray[np.uint64]) -> None:
    """Say how many of the pictures with hashes `excluded` (N,) are no news to the weights that a run begins with."""
    before = seen_before(init)
    if before is not None and (count := int(near(excluded, before).sum())):
        line = (
            f"warning: init {init} saw {count} of the excluded pictures, or copies of them, and the encoder counts as "
            "having seen them; start from random to keep them out"
        )
        say(open_console(stderr=True), line, "yellow")

"""Running the cells of a grid: one after another here, or several at a time in processes of their own."""

import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tinct.data.parallel import begin_worker
from tinct.errors import DivergedError, TinctError
from tinct.settings import TransferSettings
from tinct.transfer import run_cell

__all__ = ["TUNING_SEED", "Planned", "run"]

TUNING_SEED = 0x7E57
"""The seed of the transfers that learning rates are chosen by; no reported seed comes near it."""


class Planned(NamedTuple):
    """A cell that is to be there."""

    arm: str
    folder: Path
    settings: TransferSettings


def run(planned: Sequence[Planned], jobs: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Run cells, here or in processes of their own, and give each record when it is there.

    Raises:
        TinctError: a cell failed, or a process was killed.
    """
    if min(jobs, len(planned)) <= 1:
        yield from map(_run_one, planned)
        return
    with _pool(jobs) as pool:
        try:
            for future in as_completed([pool.submit(_run_there, one) for one in planned]):
                yield future.result()
        except BrokenProcessPool as error:
            raise TinctError(
                "a transfer's process was killed, most likely for want of memory (or a script has no `if __name__ == "
                "'__main__':`); the finished ones are kept: repeat the command with fewer --jobs"
            ) from error


def _run_one(planned: Planned) -> tuple[Path, dict[str, Any]]:
    """A cell's folder and record; where a rate that is only tried diverges what is asked of one, and no file."""
    began = time.perf_counter()
    try:
        return planned.folder, run_cell(planned.settings, planned.folder)
    except TinctError as error:
        if isinstance(error, DivergedError) and planned.settings.seed == TUNING_SEED:
            return planned.folder, {"value": -math.inf, "seconds": time.perf_counter() - began}
        raise TinctError(f"{planned.folder}: {error}") from error


def _run_there(planned: Planned) -> tuple[Path, dict[str, Any]]:
    """`_run_one` in a process of the pool, which ends with the cell that is ended: others wait in its queue."""
    try:
        return _run_one(planned)
    except SystemExit:
        os._exit(1)


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that each have one GPU, and their share of the cores; Ctrl-C ends them, and what they had begun."""
    context = multiprocessing.get_context("spawn")  # CUDA cannot be used in a fork
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    names = visible.split(",")
    devices = context.SimpleQueue()
    for job in range(jobs):
        devices.put(names[job % len(names)])
    threads = max(1, (os.cpu_count() or 1) // jobs)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(devices, threads))
    others = set(multiprocessing.active_children())
    try:
        yield pool
    except KeyboardInterrupt:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(devices: Any, threads: int) -> None:
    begin_worker()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ["CUDA_VISIBLE_DEVICES"] = devices.get()
    torch.set_num_threads(threads)

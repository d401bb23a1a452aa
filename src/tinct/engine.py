"""The engine that training runs on: devices, precision, ranks (Lightning Fabric), and the course of its rates."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from tinct.errors import TinctError

__all__ = ["lost_ranks_told", "make_fabric", "readers", "warmup_cosine"]

MOST_READERS = 8
"""For each device; more would take shared memory, of which containers have little."""


def make_fabric(
    accelerator: str, precision: str, devices: str = "1", strategy: str = "auto", launch: bool = True
) -> Fabric:
    """Start the engine; arguments as Fabric's own.

    Where there are several devices, `launch` starts a process for each further one, which repeats the whole command.

    Raises:
        TinctError: the machine has no such device, or Fabric knows no such setting.
    """
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=int(devices) if devices.isdigit() else devices,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
        )
        if launch:
            fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError, TypeError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        remedy = "--accelerator auto" if devices == "1" else "--accelerator auto, or --devices 1"
        raise TinctError(
            f"cannot run with accelerator {accelerator}, devices {devices}, strategy {strategy}, precision "
            f"{precision}: {reason}; try {remedy}"
        ) from error
    return fabric


def readers(fabric: Fabric, asked: int | None) -> int:
    """How many processes read pictures for this rank: what was `asked`, or its share of the cores if none trains."""
    if asked is not None:
        return asked
    if fabric.device.type == "cpu":
        return 1
    return max(1, min(MOST_READERS, (os.cpu_count() or 1) // fabric.world_size))


@contextmanager
def lost_ranks_told() -> Iterator[None]:
    """Within it, gloo's error where another rank is gone is a sentence; that rank says its own.

    Raises:
        TinctError: another rank is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if "closed by peer" not in str(error):
            raise
        raise TinctError("another process of this run has ended; it says why itself") from error


def warmup_cosine(step: int, total: int | None, warmup: int) -> float:
    """Share of the peak learning rate: a linear rise over `warmup` steps, then a cosine to zero at `total`.

    While the total is not known yet, the rate stays at its peak.
    """
    if step < warmup or total is None:
        return min(1.0, (step + 1) / max(1, warmup))
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

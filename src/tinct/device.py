"""A device by its name, how pictures lie in its memory, and random numbers left as they were."""

import contextlib
import random
import threading
from collections.abc import Iterator

import torch

from tinct.errors import TinctError

__all__ = ["in_single_precision", "memory_format", "named_device", "own_draws", "usual_defaults"]

TURNS = threading.RLock()
"""Held by whoever seeds torch's numbers or draws from them: there is one stream of them for all threads."""


def named_device(name: str) -> torch.device:
    """`auto` (the fastest there is), `cpu`, `cuda`, `cuda:1` or `mps` as torch has it.

    Raises:
        TinctError: this machine has none of that name.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # meta has no values
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        # AssertionError: torch was built without it; TypeError: no text
        raise TinctError(f"no device {name} here; expected auto, cpu, cuda, cuda:N or mps") from error
    return device


def memory_format(device: torch.device) -> torch.memory_format:
    """How (B, C, H, W) tensors shall lie in a device's memory: channels last, where convolutions are faster so.

    Not on MPS, where batch norm's gradient then failed up to the middle of 2026 (pytorch/pytorch#188371).
    """
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def in_single_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """What single-precision tensors are put into within it stays single precision, where mixed precision is on, too."""
    if torch.amp.is_autocast_available(device.type):  # not on meta
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """Within it, torch makes float32 on the CPU, whatever its defaults are, which afterwards are as they were.

    The type is all threads' default, so this is for what other libraries build; tinct's encoders do without.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"):
            yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def own_draws() -> Iterator[None]:
    """What is drawn or seeded within it, of torch's numbers and Python's, leaves the caller's own as they were.

    Threads take turns, so it is to hold little: a step of training, and never all of it.
    """
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with TURNS:
        state = random.getstate()
        try:
            with torch.random.fork_rng(devices=gpus):
                yield
        finally:
            random.setstate(state)

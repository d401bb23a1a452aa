"""A device by its name."""

import torch

from tinct.errors import TinctError

__all__ = ["named_device"]


def named_device(name: str) -> torch.device:
    """`auto` (the fastest there is), `cpu`, `cuda`, `cuda:1` or `mps` as torch has it.

    Raises:
        TinctError: this machine has none of that name.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # meta has no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch was built without it
        raise TinctError(f"no device {name} here; expected auto, cpu, cuda, cuda:N or mps") from error
    return device

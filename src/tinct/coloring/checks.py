"""Settings of everything that colours, held to their kinds and ranges."""

import numbers

from tinct.errors import TinctError

__all__ = ["MAX_SATURATION", "MAX_SIZE", "MIN_SIZE", "check_number", "checked_saturation", "checked_size"]

MIN_SIZE = 64
"""The smallest working size, in pixels of the short side; too little memory for it is an error."""

MAX_SIZE = 4096
"""The largest: far beyond what networks were trained at, and a few GB of memory."""

MAX_SATURATION = 4.0


def check_number(name: str, value: object, kind: type = numbers.Integral) -> None:
    """Refuse what is no whole number, or no `kind` of number: what comes from a form or a file may be text.

    Raises:
        TinctError: names it.
    """
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = "a whole number" if kind is numbers.Integral else "a number"
        raise TinctError(f"{name} is {value!r}, a {type(value).__name__}; expected {wanted}")


def checked_saturation(saturation: float) -> float:
    """A saturation of 0 to `MAX_SATURATION` as a plain number; raises `TinctError` for others."""
    check_number("saturation", saturation, numbers.Real)
    if not 0 <= saturation <= MAX_SATURATION:
        raise TinctError(f"saturation is {saturation}; expected 0 to {MAX_SATURATION:g}")
    return float(saturation)  # a Fraction is a number too, but not torch's


def checked_size(size: int) -> int:
    """A working size in range as a plain number; raises `TinctError` for others."""
    check_number("working size", size)
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise TinctError(f"working size is {size}; expected {MIN_SIZE} to {MAX_SIZE} px")
    return int(size)

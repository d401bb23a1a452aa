"""What tinct raises.

Every message is one line that names the offending value, says what was expected and how to mend it.
The command line prints it and leaves with exit code 2.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from inspect import formatannotation
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

__all__ = [
    "AbsentSplitError",
    "DivergedError",
    "PictureError",
    "SeveralError",
    "TinctError",
    "about",
    "check_kinds",
    "one_line",
    "out_of_memory",
    "restartable",
]

OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "ALLOC_FAILED", "Invalid buffer size")
"""What torch says when memory does not suffice: of GPUs, of CPUs, of CPUs on Windows, in cuBLAS, for one on MPS."""


class TinctError(Exception):
    """A mistake its user can mend: a wrong path, an impossible setting, a full disk."""


class AbsentSplitError(TinctError):
    """A source that has no such split, or no labels for such a task, as few have all of them."""


class SeveralError(TinctError):
    """Mistakes of one kind, an argument each: it says the first, `tinct data` lists them."""

    def __str__(self) -> str:
        """The first mistake, in full."""
        return str(self.args[0])


class PictureError(TinctError):
    """One picture that cannot be used: truncated, not an image, over a limit, vanished.

    Long jobs count it, name it in their log and go on with the next picture.
    """


class DivergedError(TinctError):
    """Training with this learning rate made the loss infinite or not a number; another rate may do."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice: only on some devices has torch a class of its own for it."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def one_line(error: BaseException, most: int | None = None) -> str:
    """What an error of a library says, in one line of at most `most` characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


@contextlib.contextmanager
def about(what: object) -> Iterator[None]:
    """Within it, what a `TinctError` says begins with what it is about, and a colon."""
    try:
        yield
    except TinctError as error:
        raise TinctError(f"{what}: {error}") from error


@contextlib.contextmanager
def restartable() -> Iterator[None]:
    """Ctrl-C within it says that the same command goes on, unless it says where it stopped already.

    Raises:
        KeyboardInterrupt: it came.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if str(error):
            raise
        raise KeyboardInterrupt("interrupted; the same command goes on from there") from error


def check_kinds(values: Mapping[str, Any], hints: Mapping[str, Any]) -> None:
    """Hold values to the types that `hints` give their names: programs and files may give others.

    A list may be a tuple, and a float a whole number, as in YAML, but neither infinite nor NaN.

    Raises:
        TinctError: names the first value that is of another type, or none of the words that its name may be.
    """
    for name, value in values.items():
        if not _fits(value, kind := hints[name]):
            kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
            words = [word for one in kinds if get_origin(one) is Literal for word in get_args(one)]
            odd = isinstance(value, float) and not math.isfinite(value)
            wanted = words or ["a finite number" if odd else formatannotation(kind)]
            raise TinctError(f"{name} is {value!r}; expected {', '.join(map(str, wanted))}")


def _fits(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inner
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(all(map(_fits, pair, inner)) for pair in value.items())
    if origin is list:
        return isinstance(value, list | tuple) and all(_fits(one, *inner) for one in value)
    if origin is tuple:
        return isinstance(value, list | tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if kind is float and isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int | float if kind is float else kind) and (kind is bool or not isinstance(value, bool))

"""What `tinct compare` is told, in its words or by a program: arms, lists, rates, settings, transfers at a time."""

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
import yaml

from tinct.errors import TinctError, check_kinds
from tinct.evidence.grid import Arm
from tinct.settings import TransferSettings

__all__ = ["FURTHER", "NAME", "Amounts", "Inits", "Rates", "further", "parallel", "parse_arms", "rates_of", "words"]

Inits = str | Sequence[str | Path] | Mapping[str, str | Path | Sequence[str | Path]]
"""Arms: `random,mine=RUN0:RUN1`, the same as `["random", "mine=RUN0:RUN1"]`, or what each starts from by its name."""
Amounts = str | float | Sequence[str | float]
"""Numbers of labels: `20,0.5,all`, 20, or `[20, 0.5, "all"]`."""
Rates = str | float | Sequence[str | float]
"""Learning rates: `1e-3,3e-4`, 1e-3, or `[1e-3, 3e-4]`."""
OWN = ("source", "task", "init", "protocol", "labels", "seed", "lr", "steps", "size", "weights")
"""The settings of a transfer that the grid itself sets, that have a flag of their own, or that go with one arm only."""
FURTHER = tuple(field.name for field in fields(TransferSettings) if field.name not in OWN)
"""The others."""


NAME = re.compile(r"\w[\w.+-]*")
"""What an arm may be called, since folders are named after it."""
BETWEEN = re.compile(r"(?<!^timm)(?<!:timm)(?!(?:(?<=^[A-Za-z])|(?<=:[A-Za-z])):[\\/]):")
"""What separates encoders; the colons of `timm:NAME` and of a drive, as in `C:\\run`, are their own."""


def parse_arms(inits: Inits) -> tuple[Arm, ...]:
    """Read `random,cgan=RUN0:RUN1,imagenet=imagenet-lite`, and see `Inits`; a nameless arm has the name of its weights.

    Raises:
        TinctError: fewer than two arms, a name or an encoder that is there twice, or a name that no folder can have.
    """
    if isinstance(inits, Mapping):
        arms = [Arm(name, tuple(_encoders(listed, f"inits: {name}"))) for name, listed in inits.items()]
    else:
        arms = []
        for word in words(inits, "inits"):
            name, equals, listed = word.partition("=")
            several = BETWEEN.split(listed if equals else word)
            arms.append(Arm(name if equals else Path(word).name.replace(":", "-"), tuple(several)))
    if len(arms) < 2:
        raise TinctError(f"inits is {inits!r}: there is nothing to compare; name two arms, such as random,colour=RUN")
    names, encoders = [arm.name for arm in arms], [init for arm in arms for init in arm.inits]
    for name, own in arms:
        if not all(own):
            raise TinctError(f"inits: the arm {name!r} lacks an encoder; expected NAME=INIT, such as mine=RUN")
        if name == "random" and own != ("random",):
            raise TinctError(f"inits: the arm 'random' is {':'.join(own)}; that name is the baseline's, choose another")
        if not NAME.fullmatch(name):
            raise TinctError(f"inits: {name!r} cannot name an arm; expected letters, digits, and any of . + - _")
    for what, listing in (("arm", names), ("encoder", encoders)):
        if twice := [one for one in listing if listing.count(one) > 1]:
            raise TinctError(f"inits: the {what} {twice[0]!r} is there twice; expected each once")
    return tuple(arms)


def _encoders(listed: object, what: str) -> list[str]:
    """The encoders of an arm, of which a `Path` stands for itself, whatever colons are in it."""
    members = listed if isinstance(listed, Sequence) and not isinstance(listed, str) else [listed]
    whole = {str(one) for one in members if isinstance(one, Path)}
    return [part for word in words(listed, what) for part in ([word] if word in whole else BETWEEN.split(word))]


def words(given: object, what: str) -> list[str]:
    """What commas separate in a text; the members of a sequence; anything else stands for itself.

    Raises:
        TinctError: there is nothing, something twice, or something that is no text, number or path.
    """
    given = given.tolist() if isinstance(given, np.ndarray) else given
    parts = given.split(",") if isinstance(given, str) else given if isinstance(given, Sequence) else [given]
    plain = all(isinstance(one, str | Real | Path) and not isinstance(one, bool) for one in parts)
    found = [word for one in parts if (word := str(one).strip())]
    if not plain or not found or len(set(found)) < len(found):
        raise TinctError(
            f"{what} is {given!r}; expected different words, numbers or paths, with commas between them or as a list"
        )
    return found


def rates_of(given: Rates) -> list[float]:
    """Learning rates.

    Raises:
        TinctError: one is not a positive number.
    """
    try:
        rates = [float(word) for word in words(given, "lrs")]
    except ValueError:
        rates = [0.0]
    if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise TinctError(f"lrs is {given!r}; expected different positive numbers, such as 1e-3,3e-4, or as a list")
    return rates


def further(settings: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` words as fields of `TransferSettings`.

    Raises:
        TinctError: there is no such field, the grid sets it itself, or the value does not fit.
    """
    hints, read = get_type_hints(TransferSettings), {}
    for word in settings:
        key, _, text = word.partition("=")
        if key not in FURTHER:
            raise TinctError(f"settings: {word!r}; expected KEY=VALUE with one of {', '.join(FURTHER)}")
        read[key] = _read_value(text, hints[key] is float)
        check_kinds({f"settings: {key}": read[key]}, {f"settings: {key}": hints[key]})
    return read


def _read_value(text: str, number: bool) -> Any:
    """A word as YAML has it, but numbers as Python has them: YAML takes 1e-3 for text, and 1 for no float.

    What cannot be read stays text, which fits where text does.
    """
    if number:
        with contextlib.suppress(ValueError):
            return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def parallel(jobs: int | None) -> int:
    """How many transfers to run at a time.

    Raises:
        TinctError: fewer than one is asked for, or no number.
    """
    check_kinds({"jobs": jobs}, {"jobs": int | None})
    if jobs is not None and jobs < 1:
        raise TinctError(f"jobs is {jobs}; expected 1 or more")
    return jobs or max(1, torch.cuda.device_count())

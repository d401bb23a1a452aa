"""What the words of `tinct compare` mean: arms, lists, learning rates, further settings, transfers at a time."""

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
import yaml

from tinct.errors import TinctError
from tinct.grid import Arm
from tinct.settings import TransferSettings

__all__ = ["further", "parallel", "parse_arms", "rates_of", "words"]

OWN = ("source", "task", "init", "protocol", "labels", "seed", "lr", "steps", "size", "weights")
"""The settings of a transfer that the grid itself sets, that have a flag of their own, or that go with one arm only."""


def parse_arms(inits: str) -> tuple[Arm, ...]:
    """Read `random,cgan=RUN0:RUN1,imagenet=imagenet-lite`; an arm without a name is called after its weights.

    Raises:
        TinctError: fewer than two arms, a name or an encoder that is there twice, or a name that no folder can have.
    """
    arms = []
    for word in words(inits, "inits"):
        name, equals, listed = word.partition("=")
        own = re.split(r"(?<!^timm)(?<!:timm):", listed if equals else word)  # the colon of timm:NAME is its own
        arms.append(Arm(name if equals else Path(word).name.replace(":", "-"), tuple(own)))
    if len(arms) < 2:
        raise TinctError(f"inits is {inits!r}: there is nothing to compare; name two arms, such as random,colour=RUN")
    names, encoders = [arm.name for arm in arms], [init for arm in arms for init in arm.inits]
    for name in names:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise TinctError(f"inits: {name!r} cannot name an arm; expected letters, digits, and any of . + - _")
    for what, listing in (("arm", names), ("encoder", encoders)):
        if twice := [one for one in listing if listing.count(one) > 1]:
            raise TinctError(f"inits: the {what} {twice[0]!r} is there twice; expected each once")
    return tuple(arms)


def words(text: str, what: str) -> list[str]:
    """What commas separate.

    Raises:
        TinctError: there is nothing, or something twice.
    """
    found = [word.strip() for word in text.split(",") if word.strip()]
    if not found or len(set(found)) < len(found):
        raise TinctError(f"{what} is {text!r}; expected one or more different values with commas between them")
    return found


def rates_of(text: str) -> list[float]:
    """Learning rates.

    Raises:
        TinctError: one is not a positive number.
    """
    try:
        rates = [float(word) for word in words(text, "lrs")]
    except ValueError:
        rates = [0.0]
    if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
        raise TinctError(
            f"lrs is {text!r}; expected different positive numbers with commas between them, such as 1e-3,3e-4"
        )
    return rates


def further(settings: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` words as fields of `TransferSettings`.

    Raises:
        TinctError: there is no such field, the grid sets it itself, or the value does not fit.
    """
    hints, read = get_type_hints(TransferSettings), {}
    known = [field.name for field in fields(TransferSettings) if field.name not in OWN]
    for word in settings:
        key, _, text = word.partition("=")
        if key not in known:
            raise TinctError(f"settings: {word!r}; expected KEY=VALUE with one of {', '.join(known)}")
        kinds = get_args(hints[key]) or (hints[key],)
        value = _read_value(text, float in kinds)
        if value not in kinds and type(value) not in kinds:
            wanted = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
            raise TinctError(f"settings: {key} is {text!r}; expected {wanted}")
        read[key] = value
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
        TinctError: fewer than one is asked for.
    """
    if jobs is not None and jobs < 1:
        raise TinctError(f"jobs is {jobs}; expected 1 or more")
    return jobs or max(1, torch.cuda.device_count())

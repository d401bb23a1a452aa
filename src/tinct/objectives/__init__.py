"""What to learn: terms that add up, with weights, over one pass of the encoder.

A colour term (`pixel.py`, `bins.py`) says what the generator's output means; at most one is used. A feature term
(`palette.py`, `rotation.py`, `siamese.py`) has a small head of its own on the encoder's deepest feature maps. The
adversary (`adversarial.py`) judges the colours that a colour term decodes. A new term is one file and one line in
`TERMS`; one that learns colours has its name in `COLOUR_TERMS` of `tinct.evidence.wording` too. Other packages bring
theirs by entry points (`tinct.plugins`).
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from tinct.errors import TinctError
from tinct.objectives.base import Batch, ColourTerm, FeatureTerm
from tinct.objectives.bins import Bins
from tinct.objectives.palette import Palette
from tinct.objectives.pixel import L1, Huber
from tinct.objectives.rotation import Rotation
from tinct.objectives.siamese import MultiCrop, Siamese
from tinct.plugins import brought, load

__all__ = ["REPORTED", "TERMS", "Batch", "ColourTerm", "FeatureTerm", "colour_terms", "make_terms"]

TERMS: dict[str, type[ColourTerm] | type[FeatureTerm]] = {
    "l1": L1,
    "huber": Huber,
    "bins": Bins,
    "palette": Palette,
    "rotation": Rotation,
    "siamese": Siamese,
    "multicrop": MultiCrop,
}
"""tinct's own. A `ColourTerm` is made without arguments, a `FeatureTerm` with the encoder's channels."""

REPORTED = {
    *("adversarial", "discriminator", "discriminator_accuracy", "images_per_second", "wait_share"),
    *("ab_error", "ab_error_grey", "psnr", "colourfulness_ratio", "balance", "probe_map"),
}
"""What a run's metrics.csv has beside the terms' losses."""


def make_terms(weights: dict[str, float], channels: list[int]) -> tuple[ColourTerm | None, nn.ModuleDict]:
    """The colour term (or None) and the feature terms that `weights` names.

    Args:
        weights: a weight above 0 for each term's name.
        channels: of the encoder's feature maps, finest first.

    Raises:
        TinctError: an unknown name, two terms that do not go together, none at all, or a weight that is not positive.
    """
    for name, weight in weights.items():
        if not weight > 0:
            raise TinctError(
                f"the weight of term {name!r} is {weight}; expected a positive number (leave the term out)"
            )
    colours = colour_terms(weights)
    if not weights or len(colours) > 1:
        several = f" (here {', '.join(colours)})" if colours else ""
        raise TinctError(
            f"terms are {sorted(weights)}; expected at least one, and at most one that makes a colorizer{several}"
        )
    if {"siamese", "multicrop"} <= weights.keys():
        raise TinctError("terms has siamese and multicrop; multicrop compares the two views, too, so leave siamese out")
    colour = _kind(colours[0])() if colours else None
    return colour, nn.ModuleDict({name: _kind(name)(channels) for name in weights if name not in colours})


def colour_terms(names: Iterable[str]) -> list[str]:
    """Those of `names` that make a colorizer.

    Raises:
        TinctError: there is no such term.
    """
    return [name for name in names if issubclass(_kind(name), ColourTerm)]


def _kind(name: str) -> Any:
    """The class of a term."""
    if name in TERMS:
        return TERMS[name]
    if name not in brought("terms"):
        known = ", ".join([*TERMS, *brought("terms")])
        raise TinctError(f"unknown term {name!r}; expected some of {known}, or install the package that brings it")
    kind = load("terms", name, ColourTerm, FeatureTerm)
    own = getattr(kind, "name", None)
    if own != name or not name.isidentifier():  # by which torch calls it, too
        raise TinctError(f"term {name!r}: its class has the name {own!r}; expected one for both: letters, digits, _")
    if name in REPORTED or hasattr(nn.ModuleDict(), name):
        raise TinctError(f"term {name!r}: tinct or torch calls something else so; rename it in its package")
    return kind

"""What to learn: terms that add up, with weights, over one pass of the encoder.

A colour term (`pixel.py`, `bins.py`) says what the generator's output means; at most one is used. A feature term
(`palette.py`, `rotation.py`, `siamese.py`) has a small head of its own on the encoder's deepest feature maps. The
adversary (`adversarial.py`) judges the colours that a colour term decodes. A new term is one file and one line in
`COLOUR` or `FEATURE`; one that learns colours has its name in `COLOUR_TERMS` of `tinct.evidence.wording` too.
"""

from collections.abc import Callable

from torch import nn

from tinct.errors import TinctError
from tinct.objectives.base import Batch, ColourTerm, FeatureTerm
from tinct.objectives.bins import Bins
from tinct.objectives.palette import Palette
from tinct.objectives.pixel import L1, Huber
from tinct.objectives.rotation import Rotation
from tinct.objectives.siamese import MultiCrop, Siamese

__all__ = ["COLOUR", "Batch", "ColourTerm", "FeatureTerm", "make_terms"]

COLOUR: dict[str, Callable[[], ColourTerm]] = {"l1": L1, "huber": Huber, "bins": Bins}
FEATURE: dict[str, Callable[[list[int]], FeatureTerm]] = {
    "palette": Palette,
    "rotation": Rotation,
    "siamese": Siamese,
    "multicrop": MultiCrop,
}


def make_terms(weights: dict[str, float], channels: list[int]) -> tuple[ColourTerm | None, nn.ModuleDict]:
    """The colour term (or None) and the feature terms that `weights` names.

    Args:
        weights: a weight above 0 for each term's name.
        channels: of the encoder's feature maps, finest first.

    Raises:
        TinctError: an unknown name, two terms that do not go together, none at all, or a weight that is not positive.
    """
    known = [*COLOUR, *FEATURE]
    for name, weight in weights.items():
        if name not in known:
            raise TinctError(f"unknown term {name!r}; expected some of {', '.join(known)}")
        if not weight > 0:
            raise TinctError(
                f"the weight of term {name!r} is {weight}; expected a positive number (leave the term out)"
            )
    colours = [name for name in weights if name in COLOUR]
    if not weights or len(colours) > 1:
        raise TinctError(
            f"terms are {sorted(weights)}; expected at most one of {', '.join(COLOUR)}, and at least one term"
        )
    if {"siamese", "multicrop"} <= weights.keys():
        raise TinctError("terms has siamese and multicrop; multicrop compares the two views, too, so leave siamese out")
    colour = COLOUR[colours[0]]() if colours else None
    return colour, nn.ModuleDict({name: FEATURE[name](channels) for name in weights if name in FEATURE})

"""Which labels an experiment may see: nested subsets that keep every class, and a part to choose settings on."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinct.data.random import rng
from tinct.errors import TinctError

__all__ = ["TUNING_SHARE", "drawn_split", "label_subset", "tuning_split"]

TUNING_SHARE = 0.2
"""The share of a training split that settings are chosen on; label subsets are drawn from the rest."""
VAL_SHARE = 0.2
"""The share held out of a set without a validation split."""

_TUNING_KEY = 0x7E57  # no reported seed enters: the tuning part is the same for every arm, seed and subset


def label_subset(presence: NDArray[np.generic], amount: int | float | str, seed: int) -> NDArray[np.int64]:
    """Draw the pictures whose labels may be seen.

    All amounts of one seed are the beginnings of one order, so the subsets are nested: 5 % is inside 10 %, 50 inside
    400. The order starts with one random positive of each class, rarest class first, and goes on at random.

    Args:
        presence: (N, C), 1 or True where the class is present in the picture: multi-labels (NaN = unknown) or
            the classes of masks. Classes that no picture has are passed over.
        amount: an int, or digits, is a count; a float or a text with a point, over 0 and up to 1, is a share of N,
            rounded; `all` is N.
        seed: draws the order.

    Returns:
        Picture indices, rising.

    Raises:
        TinctError: the amount is no amount, over N, or too small for every class to keep a positive.
    """
    order, cover = _covering_order(presence, rng(seed))
    count = _count(amount, len(presence))
    if count < cover:
        raise TinctError(
            f"{amount} labels: too few to hold a positive of each class; at least {cover} of {len(presence)} are needed"
        )
    return np.sort(order[:count])


def tuning_split(
    presence: NDArray[np.generic], groups: NDArray[np.generic] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set `TUNING_SHARE` of the training pictures aside for choosing settings: the same part for every seed.

    Args:
        presence: as for `label_subset`.
        groups: (N,) equal for pictures that should lie on one side. The share is then half to twice of that; where
            there are too few groups for it, single pictures are drawn as without.

    Returns:
        The tuning part and the rest, picture indices, rising; the rest keeps a positive of every class.

    Raises:
        TinctError: too few pictures for both parts.
    """
    total = len(presence)
    wanted = round(TUNING_SHARE * total)
    aside = _set_aside(presence, np.arange(total) if groups is None else groups, wanted)
    if groups is not None and aside.sum() < wanted / 2:
        return tuning_split(presence)
    if not wanted or (groups is None and aside.sum() < wanted):
        raise TinctError(
            f"{total} pictures are too few to set {TUNING_SHARE:.0%} aside and keep a positive of each class"
        )
    return np.flatnonzero(aside), np.flatnonzero(~aside)


def _set_aside(presence: NDArray[np.generic], groups: NDArray[np.generic], wanted: int) -> NDArray[np.bool_]:
    """(N,) True for about `wanted` pictures, groups as a whole, if the others keep a positive of every class."""
    of = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(of)
    pictures, classes = np.nonzero(np.asarray(presence) == 1)
    within = np.zeros((len(sizes), presence.shape[1]), bool)
    within[of[pictures], classes] = True
    order, cover = _covering_order(within, rng(_TUNING_KEY))
    taken = []
    for group in order[cover:][::-1]:
        if sizes[group] < 2 * wanted:  # then it comes nearer to what is wanted
            taken.append(group)
            wanted -= sizes[group]
    return np.isin(of, taken)


def drawn_split(names: Sequence[str], split: str, groups: NDArray[np.generic] | None = None) -> NDArray[np.bool_]:
    """Draw a split of a set that has none: about `VAL_SHARE` of each group is `val`, the rest `train`, none `test`.

    The side of a picture follows from its name alone, so that it stays there when pictures come, go or change places.
    Only where that would leave a group of several pictures nothing on one side, the nearest one changes over.

    Args:
        names: of N pictures; those of one name, such as their camera's, are on one side.
        split: `train`, `val` or `test`.
        groups: (N,) what to draw within, such as each picture's class. A group of one picture is not split.

    Returns:
        (N,) True where a picture is of that split.
    """
    groups = np.zeros(len(names)) if groups is None else groups
    digests = (hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest() for name in names)
    place = np.array([int.from_bytes(digest) / 2**64 for digest in digests])
    held = place < VAL_SHARE
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        there = place[members]
        if held[members].all():
            held[members[there == there.max()]] = False
        elif not held[members].any() and there.min() < there.max():
            held[members[there == there.min()]] = True
    return {"train": ~held, "val": held}.get(split, np.zeros(len(names), bool))


def _covering_order(presence: NDArray[np.generic], generator: np.random.Generator) -> tuple[NDArray[np.int64], int]:
    """A random order of all pictures, and how long a beginning of it holds a positive of every class."""
    positive = np.asarray(presence) == 1
    shuffled = generator.permutation(len(positive))
    first: list[int] = []
    counts = positive.sum(0)
    for column in np.argsort(counts, kind="stable"):
        if counts[column] and not positive[first, column].any():
            first.append(int(shuffled[positive[shuffled, column].argmax()]))
    rest = shuffled[~np.isin(shuffled, first)]
    return np.concatenate([np.array(first, np.int64), rest]), len(first)


def _count(amount: int | float | str, total: int) -> int:
    """Turn an amount into a count of pictures."""
    if amount == "all":
        return total
    text = str(amount)
    try:
        share = 0.0 if text.isdecimal() else float(text)
    except ValueError:
        share = 0.0
    count = int(text) if text.isdecimal() else round(share * total) if 0 < share <= 1 else 0
    if 0 < share <= 1 and not count:
        raise TinctError(f"{amount} labels: that share of {total} is less than one picture; ask for more")
    if not 0 < count <= total:
        said = f"{amount} labels: expected a count of 1 to {total}, which is train less its tuning part"
        raise TinctError(f"{said}, a share such as 0.2, or all")
    return count

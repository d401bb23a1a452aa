"""Evaluated pictures that pretraining saw: found by content, named for each arm of a grid."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinct.data.hashes import hash_of, near
from tinct.data.parallel import each_picture
from tinct.evidence.grid import Arm, Grid
from tinct.evidence.records import NAMED, not_known
from tinct.inits import Start, against_leak, inherited
from tinct.outputs import PLAN
from tinct.settings import TransferSettings
from tinct.transfer import parts_of

__all__ = ["evaluated_and_seen", "leaks", "untold"]


def evaluated_and_seen(
    arms: Sequence[Arm], starts: dict[str, Start], common: TransferSettings
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """For each arm, the names of evaluated pictures within reach of one that its encoders saw.

    And of arms whose encoders began with weights that had seen some of them, the name of those weights.
    """
    seen: dict[str, list[NDArray[np.uint64]]] = {
        arm.name: [hashes for init in arm.inits if init in starts and (hashes := starts[init].seen) is not None]
        for arm in arms
    }
    if not any(seen.values()):
        return {}, {}
    parts = parts_of(common)
    source, evaluated = parts.evaluated.source, set(parts.where.tolist())
    with each_picture(source, hash_of, "hashing evaluated pictures") as results:
        found = {index: value for index, value in enumerate(results) if value is not None and index in evaluated}
    indices, values = list(found), np.array(list(found.values()), np.uint64)
    names = {
        arm: [source.name(indices[row]) for row in np.flatnonzero(near(values, np.unique(np.concatenate(hashes))))]
        for arm, hashes in seen.items()
        if hashes
    }
    before = {
        arm.name: began
        for arm in arms
        for init in arm.inits
        if names.get(arm.name) and init in starts and (began := inherited(starts[init], values))
    }
    return {arm: listed for arm, listed in names.items() if listed}, before


def untold(arms: Sequence[Arm], starts: dict[str, Start]) -> tuple[str, ...]:
    """The arms with an encoder of which nobody knows all the pictures that it saw."""
    unknown = {
        init for init, start in starts.items() if start.seen is None or not start.provenance.get("seen_known", True)
    }
    return tuple(arm.name for arm in arms if unknown & set(arm.inits))


def leaks(grid: Grid) -> tuple[str, ...]:
    """A line for each arm whose encoders saw evaluated pictures, and one for those of which that is not known."""
    lines = []
    for arm, names in grid.seen.items():
        remedy = against_leak(grid.common.evaluate, grid.common.source, grid.inherited.get(arm))
        more = f" and {len(names) - NAMED} more (see {grid.out / PLAN})" if len(names) > NAMED else ""
        lines.append(
            f"{arm}: {len(names)} evaluated pictures, or near-copies of them, are among those that its encoder saw: "
            f"{', '.join(names[:NAMED])}{more}; {remedy}"
        )
    if grid.untold:
        lines.append(not_known(", ".join(grid.untold)))
    return tuple(lines)

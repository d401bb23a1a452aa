"""What became of the pictures of a run: which were seen, and which were passed over and why."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tinct.data.base import Source
from tinct.data.loader import EXCLUDED, GREY_SKIP, Reading
from tinct.errors import TinctError

__all__ = ["Ledger"]

PATIENCE = 100
"""How many different pictures are tried before a bad share of them ends the run."""


class Ledger:
    """Counts each picture of a source once, however often it is read."""

    def __init__(self, source: Source, pool: int) -> None:
        """Begin with nothing read of the `pool` pictures of `source` that a run draws from."""
        self.source, self.pool = source, pool
        self.hashes = np.zeros(len(source), np.uint64)
        self.positions = np.zeros(len(source), np.int64)  # at which they were taken
        self.seen = np.zeros(len(source), bool)
        self.skipped: dict[int, str] = {}
        self.gone: dict[int, str] = {}  # seen, and unreadable since
        self._tally = Counter[str]()  # of `seen` and `skipped`, which may be millions: nothing counts them at each step

    def note(self, readings: Sequence[Reading]) -> list[tuple[str, str, str]]:
        """Take in what a batch's readings say.

        Returns:
            Kind (`grey` or `unreadable`), name and reason of each picture that is so and was not known as such.

        Raises:
            TinctError: no usable picture was found for a crop, or more than half of the pictures tried so far are
                unreadable.
        """
        news = []
        for reading in readings:
            for index, reason in reading.skipped:
                if self.seen[index] and index not in self.gone and _kind(reason) == "unreadable":
                    self.gone[index] = f"{reason} (it could be before)"
                    news.append(("unreadable", self.source.name(index), self.gone[index]))
                if index not in self.skipped and not self.seen[index]:  # what is grey in one reduced version may not be
                    self.skipped[index] = reason
                    kind = _kind(reason)
                    self._tally[kind] += 1
                    if kind != "excluded":
                        news.append((kind, self.source.name(index), reason))
            if reading.index < 0:
                raise TinctError(self._complaint("found no usable picture"))
            if self.seen[reading.index]:
                continue
            if reading.hash is not None:  # later ones are of other reduced versions
                self.hashes[reading.index], self.positions[reading.index] = reading.hash, reading.position
            self.seen[reading.index] = True
            self._tally["seen"] += 1
            if reading.index in self.skipped:
                self._tally[_kind(self.skipped.pop(reading.index))] -= 1
        tried = self._tally.total()
        if tried >= min(PATIENCE, self.pool) and self._tally["unreadable"] + len(self.gone) > tried / 2:
            raise TinctError(self._complaint("more than half of the pictures cannot be read"))
        return news

    def counts(self) -> dict[str, int]:
        """`pictures`, and of them `seen`, `grey`, `excluded`, `unreadable`: no picture is in two of these.

        Where there are such, also how many of those seen `vanished`: could not be read again later.
        """
        kinds = {kind: self._tally[kind] for kind in ("seen", "grey", "excluded", "unreadable")}
        return {"pictures": len(self.source), **kinds, **({"vanished": len(self.gone)} if self.gone else {})}

    def state(self) -> dict[str, Any]:
        """What `load` takes, in types that a weights-only reader accepts."""
        return {
            "hashes": torch.from_numpy(self.hashes.view(np.int64)),
            "positions": torch.from_numpy(self.positions),
            "seen": torch.from_numpy(self.seen),
            "skipped": dict(self.skipped),
            "gone": dict(self.gone),
        }

    def load(self, *states: dict[str, Any]) -> list[tuple[str, str, str]]:
        """Take over one rank's state, or several ranks' together: of a picture's hashes that of its first reading.

        Returns:
            As `note`, the pictures that were not known to be passed over.
        """
        known = self.skipped.keys() | self.gone.keys()
        for state in states:
            seen = state["seen"].numpy()
            positions = state["positions"].numpy() if "positions" in state else self.positions  # older ones have none
            earlier = seen & (~self.seen | (positions < self.positions))
            self.hashes[earlier] = state["hashes"].numpy().view(np.uint64)[earlier]
            self.positions[earlier] = positions[earlier]
            self.seen |= seen
            self.skipped |= state["skipped"]
            self.gone |= state.get("gone", {})  # older ones have none
        self.skipped = {index: reason for index, reason in self.skipped.items() if not self.seen[index]}
        self._tally = Counter(map(_kind, self.skipped.values()))
        self._tally["seen"] = int(self.seen.sum())
        others = {index: reason for index, reason in (self.skipped | self.gone).items() if index not in known}
        return [(_kind(why), self.source.name(index), why) for index, why in others.items() if why != EXCLUDED]

    def _complaint(self, what: str) -> str:
        counts = self.counts()
        tried = counts["seen"] + len(self.skipped)
        example = next(iter(self.skipped.items()), None)
        named = f"; for instance {self.source.name(example[0])}: {example[1]}" if example else ""
        gone = f" and {len(self.gone)} no longer readable" if self.gone else ""
        return (
            f"{self.source.spec}: {what} (of {tried} tried, {counts['seen']} are usable, {counts['grey']} grey, "
            f"{counts['unreadable']} unreadable{gone}, {counts['excluded']} excluded{named}); see `tinct data`, and "
            "name colour photographs"
        )


def _kind(reason: str) -> str:
    """What `counts` calls a reason to pass a picture over."""
    return {GREY_SKIP: "grey", EXCLUDED: "excluded"}.get(reason, "unreadable")

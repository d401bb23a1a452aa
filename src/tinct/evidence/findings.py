"""What follows from the transfers of a comparison: contrasts of its arms, in numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinct.data.labelled import BY_GRADIENTS
from tinct.evidence.records import Cell, overlap, padded
from tinct.evidence.statistics import Difference, Worth, bootstrap_difference, paired_difference, worth_in_labels

__all__ = [
    *("METRICS", "PER_CELL", "Comparison", "Contrast"),
    *("distinct", "encoder_of", "encoders", "fitted_on_all"),
]

PER_CELL = ("init", "backbone", "weights", "decoder", "labels", "seed", "lr", "cache", "accelerator")
"""Settings that may differ from cell to cell of one comparison; whatever else differs makes another one."""
METRICS = {"map": "mAP", "miou": "mIoU"}


@dataclass(frozen=True)
class Contrast:
    """An arm against the baseline at one number of labels, over their common seeds; values in metric points.

    Attributes:
        arm: its name.
        labels: labelled pictures.
        values: the arm's, by seed.
        baseline: the baseline's, by seed.
        difference: paired over the common seeds, those that only repeat others left out, as in what follows.
        relative: the mean difference in percent of the baseline's mean; None where that is 0.
        worth: the gain in labels.
        worth_ends: the ends of the difference's interval in labels; None without an interval.
        pairs: the cells behind the difference, the arm's and the baseline's.
    """

    arm: str
    labels: int
    values: dict[int, float]
    baseline: dict[int, float]
    difference: Difference
    relative: float | None
    worth: Worth
    worth_ends: tuple[Worth, Worth] | None
    pairs: tuple[list[Cell], list[Cell]]

    @property
    def gain(self) -> bool:
        """Whether a gain is shown: the interval over seed pairs is above 0."""
        return self.difference.interval is not None and self.difference.interval[0] > 0

    @property
    def encoders(self) -> tuple[int, int]:
        """How many encoders are behind the values of the arm, and of the baseline."""
        return encoders(self.pairs[0]), encoders(self.pairs[1])

    @cached_property
    def bootstrap(self) -> tuple[float, float] | None:
        """Interval of the same difference over evaluated pictures; None without predictions."""
        ours, theirs = self.pairs
        cells = [*ours, *theirs]
        if len({cell.record["data"].get("groups_sha256") for cell in cells}) > 1:  # not the same resamples
            return None
        known = [values for cell in cells if (values := cell.resampled) is not None]
        return None if len(known) < len(cells) else bootstrap_difference(known[: len(ours)], known[len(ours) :])


@dataclass(frozen=True)
class Comparison:
    """All cells of one (data, task, protocol) and settings: never pooled with any other.

    Attributes:
        cells: the transfers.
        arms: their names, the baseline first.
        besides: what its title says further, since the rest is another's title too.
    """

    cells: list[Cell]
    arms: list[str]
    besides: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """The arm that the others are compared with."""
        return self.arms[0]

    @property
    def record(self) -> dict[str, Any]:
        """Any one of the records, for what they have in common."""
        return self.cells[0].record

    @property
    def metric(self) -> str:
        """`mAP` or `mIoU`."""
        return METRICS[self.record["metric"]]

    @property
    def title(self) -> str:
        """Data, task, protocol, size, steps, backbone; the input unless grey, what was scored unless val, and more."""
        data, size, backbone = self.record["data"], self.record["size"], self.record["init"]["backbone"]
        parts = [data["spec"], self.record["task"], self.record["protocol"], f"{size} px", backbone]
        if self.record["protocol"] in BY_GRADIENTS:
            parts.insert(-1, f"{self.record['settings']['steps']} steps")
        if self.record["input"] != "grey":
            parts.append(f"fed {self.record['input']}")
        if data["eval_split"] != "val":
            parts.append(f"scored on {data['eval_split']}")
        parts += self.besides
        return " · ".join([*parts, "scored in padded squares"] if padded(self.record) else parts)

    @property
    def note(self) -> str:
        """What every reader must know of the data, such as that they are no evidence."""
        return self.record.get("note") or ""

    @cached_property
    def unreadable(self) -> list[str]:
        """The names of pictures that some transfer had to pass over."""
        return sorted({name for cell in self.cells for name in cell.record["data"].get("unreadable") or ()})

    @cached_property
    def learned(self) -> int:
        """Of how many evaluated pictures, at most, labels showed a copy before."""
        return max(int(overlap(cell.record, "seen_in_training")["pictures"]) for cell in self.cells)

    @cached_property
    def seen(self) -> dict[str, int]:
        """By arm, how many evaluated pictures, at most, an encoder of its had seen; arms without are not in it."""
        counts = dict.fromkeys(self.arms, 0)
        for cell in self.cells:
            counts[cell.arm] = max(counts[cell.arm], int(overlap(cell.record, "seen_by_encoder")["pictures"]))
        return {arm: count for arm, count in counts.items() if count}

    @cached_property
    def amounts(self) -> list[int]:
        """The numbers of labels, rising."""
        return sorted({cell.labels for cell in self.cells})

    def values(self, arm: str, labels: int) -> dict[int, float]:
        """By seed."""
        return {seed: cell.value for seed, cell in self.by_seed(arm, labels).items()}

    def distinct_values(self, arm: str, labels: int) -> list[float]:
        """Those whose pair with the baseline, where it has one, is an observation of its own; see `distinct`."""
        ours = self.by_seed(arm, labels)
        pairs = distinct(ours, ours | self.by_seed(self.baseline, labels), sorted(ours))
        return [ours[seed].value for seed in pairs]

    def by_seed(self, arm: str, labels: int) -> dict[int, Cell]:
        """The cells of an arm at a number of labels."""
        return {cell.seed: cell for cell in self.cells if (cell.arm, cell.labels) == (arm, labels)}

    def inits(self, arm: str) -> list[dict[str, Any]]:
        """What records say of where an arm's weights came from, each start once."""
        found = [cell.record["init"] for cell in self.cells if cell.arm == arm]
        return list({init["name"]: init for init in found}.values())

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Every other arm against the baseline, at every number of labels that both have."""
        found = [self._contrast(arm, labels) for arm in self.arms[1:] for labels in self.amounts]
        return [contrast for contrast in found if contrast is not None]

    def _contrast(self, arm: str, labels: int) -> Contrast | None:
        ours, theirs = self.by_seed(arm, labels), self.by_seed(self.baseline, labels)
        seeds = distinct(ours, theirs, sorted(ours.keys() & theirs.keys()))
        if not seeds:
            return None
        before = [theirs[seed].value for seed in seeds]
        difference = paired_difference([ours[seed].value for seed in seeds], before)
        baseline = {amount: self.distinct_values(self.baseline, amount) for amount in self.amounts}
        curve = {amount: float(np.mean(values)) for amount, values in baseline.items() if values}

        def worth(gain: float) -> Worth:
            # over the baseline's curve, not the arm's own mean: seeds that only one of them has must not count
            return worth_in_labels(curve, labels, curve[labels] + gain)

        ends = difference.interval
        return Contrast(
            arm=arm,
            labels=labels,
            values={seed: cell.value for seed, cell in ours.items()},
            baseline={seed: cell.value for seed, cell in theirs.items()},
            difference=difference,
            relative=100 * difference.mean / float(np.mean(before)) if any(before) else None,
            worth=worth(difference.mean),
            worth_ends=None if ends is None else (worth(ends[0]), worth(ends[1])),
            pairs=([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]),
        )


def distinct(ours: Mapping[int, Cell], theirs: Mapping[int, Cell], seeds: Sequence[int]) -> list[int]:
    """Those seeds whose pair is an observation of its own.

    What is fitted on the features of all labels follows from the encoder alone, so there only the first seed of each
    pair of encoders counts; random weights are other ones for each seed.
    """
    first: dict[tuple[str, ...], int] = {}
    for seed in seeds:
        cells = ours[seed], theirs[seed]
        fixed = all(fitted_on_all(cell.record) for cell in cells)
        first.setdefault(tuple(encoder_of(cell.record["init"]) for cell in cells) if fixed else (str(seed),), seed)
    return list(first.values())


def encoders(cells: Iterable[Cell]) -> int:
    """How many sets of weights cells began with."""
    return len({encoder_of(cell.record["init"]) for cell in cells})


def fitted_on_all(record: Mapping[str, Any]) -> bool:
    """Whether it is a probe on all labels, so that seeds differ in random weights alone."""
    return record.get("protocol") in ("linear", "knn") and record.get("all_labels", record["labels"] in ("all", "1.0"))


def encoder_of(init: dict[str, Any]) -> str:
    """What tells one set of weights from another, whatever its file is called."""
    provenance = init.get("provenance") or {}
    return str(provenance.get("sha256") or f"{init['name']} {provenance.get('seed', '')}")

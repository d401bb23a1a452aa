"""What follows from records of transfers: comparisons of arms, in numbers."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from tinct.data.labelled import BY_GRADIENTS, FOR_GRADIENTS
from tinct.errors import TinctError
from tinct.evidence.records import Cell, overlap, padded
from tinct.evidence.statistics import Difference, Worth, bootstrap_difference, paired_difference, worth_in_labels
from tinct.settings import unusual

__all__ = [
    *("METRICS", "PER_CELL", "UNSAID", "Comparison", "Contrast"),
    *("comparisons", "distinct", "encoders", "fitted_on_all"),
]

PER_CELL = ("init", "backbone", "weights", "decoder", "labels", "seed", "lr", "cache", "accelerator")
"""Settings that may differ from cell to cell of one comparison; whatever else differs makes another one."""
UNSAID = ", 8 times size at most"
"""What older records do not say of how pictures are seen; as it is of panoramas alone, they are one with newer ones."""
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
        return self.difference.low is not None and self.difference.low > 0

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
        apart: whether its title says which settings are no defaults, since the rest is another's title too.
    """

    cells: list[Cell]
    arms: list[str]
    apart: bool = False

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
        if self.apart:
            parts += unusual(self.record, PER_CELL)
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

        low, high = difference.low, difference.high
        ends = None if low is None or high is None else (worth(low), worth(high))
        return Contrast(
            arm=arm,
            labels=labels,
            values={seed: cell.value for seed, cell in ours.items()},
            baseline={seed: cell.value for seed, cell in theirs.items()},
            difference=difference,
            relative=100 * difference.mean / float(np.mean(before)) if any(before) else None,
            worth=worth(difference.mean),
            worth_ends=ends,
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
        first.setdefault(tuple(_encoder(cell.record["init"]) for cell in cells) if fixed else (str(seed),), seed)
    return list(first.values())


def encoders(cells: Iterable[Cell]) -> int:
    """How many sets of weights cells began with."""
    return len({_encoder(cell.record["init"]) for cell in cells})


def fitted_on_all(record: Mapping[str, Any]) -> bool:
    """Whether it is a probe on all labels, so that seeds differ in random weights alone."""
    return record.get("protocol") in ("linear", "knn") and record.get("all_labels", record["labels"] in ("all", "1.0"))


def comparisons(cells: Sequence[Cell], baseline: str | None = None) -> list[Comparison]:
    """Group cells by data, task, protocol and whatever else must be equal between arms.

    The baseline of a group is `baseline` where it has that arm, else its plan's, else that of random weights, whatever
    its name, else its first arm.
    """
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        record = cell.record
        free = PER_CELL if record["protocol"] in BY_GRADIENTS else (*PER_CELL, *FOR_GRADIENTS)
        same = {key: value for key, value in record["settings"].items() if key not in free}
        data = {key: record["data"][key] for key in ("spec", "train_fingerprint", "eval_split", "eval_fingerprint")}
        kind = {key: record[key] for key in ("task", "protocol", "size", "input", "metric")}
        data["view"] = str(record["data"].get("view")).replace(UNSAID, "")
        groups[json.dumps([data, kind, record["init"]["backbone"], same], sort_keys=True)].append(cell)
    made = []
    for group in map(_each_once, groups.values()):
        present = {cell.arm for cell in group}
        planned = [arm for cell in group for arm in cell.plan.get("arms", {}) if arm in present]
        arms = list(dict.fromkeys([*planned, *(cell.arm for cell in group)]))
        pretrained = {cell.arm for cell in group if cell.record["init"]["name"] != "random"}
        from_noise = (arm for arm in arms if arm not in pretrained)
        wanted = (baseline, *(cell.plan.get("baseline") for cell in group), "random", *from_noise, arms[0])
        first = next(arm for arm in wanted if arm in arms)
        arms.sort(key=lambda arm: arm != first)
        used = {cell.record["labels"]: cell.labels for cell in sorted(group, key=lambda cell: cell.labels)}
        group = [replace(cell, pictures=used[cell.record["labels"]]) for cell in group]
        group.sort(key=lambda cell: (arms.index(cell.arm), cell.labels, cell.seed))
        made.append(Comparison(group, arms))
    titles = Counter(one.title for one in made)
    return [replace(one, apart=titles[one.title] > 1) for one in made]


def _each_once(cells: list[Cell]) -> list[Cell]:
    """Drop copies of a cell, under whatever name: a model that was kept of an arm is no further arm.

    Raises:
        TinctError: two cells of one arm, number of labels and seed differ, as those of two grids may, or their labels;
            or an arm has other weights at one number of labels than at another, with the same seed; or they were scored
            on other pictures or classes.
    """
    of_grids = {_transferred(cell.record) for cell in cells if cell.plan}
    cells = [cell for cell in cells if cell.plan or _transferred(cell.record) not in of_grids]
    by_labels = {digest: cell for cell in cells if (digest := cell.record["data"].get("labels_sha256"))}
    if len(by_labels) > 1:
        one, other, *_ = by_labels.values()
        raise TinctError(f"{one.folder} and {other.folder}: their labels differ; report their folders apart")
    scored = {(cell.record["data"]["eval_pictures"], *cell.record["data"]["scored"]): cell for cell in cells}
    if len(scored) > 1:
        (pictures, *names), (others, *other_names), *_ = scored
        one, other, *_ = scored.values()
        on = f"{pictures} and {others} pictures"
        if pictures == others:
            on = f"other classes ({', '.join(sorted({*names} ^ {*other_names})) or 'in another order'})"
        raise TinctError(
            f"{one.folder} and {other.folder}: they were scored on {on}, as where a picture could not be read; mend "
            "that, remove the older cells and run them again"
        )
    found: dict[tuple[str, str, int], Cell] = {}
    weights: dict[tuple[str, int], Cell] = {}
    for cell in cells:
        first = found.setdefault((cell.arm, str(cell.record["labels"]), cell.seed), cell)
        if first.value != cell.value:
            raise TinctError(
                f"{first.folder} and {cell.folder}: both are {cell.arm} at {cell.record['labels']} labels, seed "
                f"{cell.seed}, with other results; report their folders apart"
            )
        begun = weights.setdefault((cell.arm, cell.seed), cell)
        if _encoder(begun.record["init"]) != _encoder(cell.record["init"]):
            raise TinctError(
                f"{begun.folder} and {cell.folder}: both are {cell.arm}, seed {cell.seed}, of other weights; report "
                "their folders apart"
            )
    return list(found.values())


def _encoder(init: dict[str, Any]) -> str:
    """What tells one set of weights from another, whatever its file is called."""
    provenance = init.get("provenance") or {}
    return str(provenance.get("sha256") or f"{init['name']} {provenance.get('seed', '')}")


def _transferred(record: dict[str, Any]) -> tuple[str, str, int, float]:
    """What tells one transfer of a comparison from another, whatever its arm is called."""
    return _encoder(record["init"]), str(record["labels"]), record["seed"], record["settings"]["lr"]

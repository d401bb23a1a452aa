"""From records of transfers to what follows from them: comparisons of arms, in numbers."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinct.errors import TinctError
from tinct.statistics import (
    Difference,
    Worth,
    bootstrap_difference,
    paired_difference,
    resampled_map,
    resampled_miou,
    worth_in_labels,
)

__all__ = [
    "PER_CELL",
    "PLAN",
    "Cell",
    "Comparison",
    "Contrast",
    "Records",
    "comparisons",
    "find_records",
]

PLAN = "compare.json"
"""The file that says which arms a grid has; its cells are below it."""
PER_CELL = ("init", "backbone", "weights", "decoder", "labels", "seed", "lr", "cache", "accelerator")
"""Settings that may differ from cell to cell of one comparison; whatever else differs makes another one."""
METRICS = {"map": "mAP", "miou": "mIoU"}


@dataclass(frozen=True)
class Cell:
    """One transfer.

    Attributes:
        folder: where its record is, and its predictions.
        record: see `tinct.transfer`.
        arm: what it stands for.
        plan: its grid's; {} without a grid.
        pictures: labelled pictures used, by whichever cell of its comparison that asked for as many used most: an
            unreadable one must not tear a pair apart. None before cells are grouped.
    """

    folder: Path
    record: dict[str, Any]
    arm: str
    plan: dict[str, Any] = field(default_factory=dict)
    pictures: int | None = None

    @property
    def labels(self) -> int:
        """The number of labelled pictures."""
        return self.pictures or int(self.record["n_labels"])

    @property
    def seed(self) -> int:
        """The seed of subset, order, augmentation and head."""
        return int(self.record["seed"])

    @property
    def value(self) -> float:
        """The figure to report, 0..100."""
        return float(self.record["value"])

    @property
    def per_class(self) -> dict[str, float]:
        """AP or IoU of each scored class, 0..100."""
        metrics = self.record["metrics"]
        values = metrics["average_precision" if self.record["metric"] == "map" else "iou"]
        wanted = self.record["data"]["scored"]
        return {name: 100 * value for name, value in values.items() if name in wanted}

    @cached_property
    def resampled(self) -> NDArray[np.float64] | None:
        """The metric on bootstrap resamples of the evaluated pictures; None where predictions were not kept."""
        path = self.folder / "predictions.safetensors"
        if not path.exists():
            return None
        from safetensors.numpy import load_file

        kept, data = load_file(path), self.record["data"]
        scored = [data["classes"].index(name) for name in data["scored"]]
        if self.record["metric"] == "miou":
            return resampled_miou(kept["confusions"], scored)
        eleven_point = self.record["settings"]["eleven_point"]
        return resampled_map(kept["scores"][:, scored], kept["labels"][:, scored], eleven_point)


class Records(NamedTuple):
    """What was found: transfers, and pretraining runs by their folder."""

    cells: list[Cell]
    runs: dict[Path, dict[str, Any]]


@dataclass(frozen=True)
class Contrast:
    """An arm against the baseline at one number of labels, over their common seeds; values in metric points.

    Attributes:
        arm: its name.
        labels: labelled pictures.
        values: the arm's, by seed.
        baseline: the baseline's, by seed.
        difference: paired over the common seeds.
        bootstrap: interval of the same difference over evaluated pictures; None without predictions.
        worth: the gain in labels.
        encoders: how many pretrained encoders are behind the arm's values.
    """

    arm: str
    labels: int
    values: dict[int, float]
    baseline: dict[int, float]
    difference: Difference
    bootstrap: tuple[float, float] | None
    worth: Worth
    encoders: int

    @property
    def gain(self) -> bool:
        """Whether a gain is shown: the interval over seed pairs is above 0."""
        return self.difference.low is not None and self.difference.low > 0

    @property
    def relative(self) -> float:
        """The mean difference in percent of the baseline's mean over the same seeds."""
        common = [self.baseline[seed] for seed in self.baseline if seed in self.values]
        return 100 * self.difference.mean / float(np.mean(common))


@dataclass(frozen=True)
class Comparison:
    """All cells of one (data, task, protocol) and settings: never pooled with any other.

    Attributes:
        cells: the transfers.
        arms: their names, the baseline first.
    """

    cells: list[Cell]
    arms: list[str]

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
        """Data, task and protocol, and what was scored unless it is the val split."""
        data = self.record["data"]
        parts = [data["spec"], self.record["task"], self.record["protocol"]]
        return " · ".join(parts + ([f"scored on {data['eval_split']}"] if data["eval_split"] != "val" else []))

    @property
    def note(self) -> str:
        """What every reader must know of the data, such as that they are no evidence."""
        return self.record.get("note") or ""

    @cached_property
    def amounts(self) -> list[int]:
        """The numbers of labels, rising."""
        return sorted({cell.labels for cell in self.cells})

    def values(self, arm: str, labels: int) -> dict[int, float]:
        """By seed."""
        return {cell.seed: cell.value for cell in self._of(arm, labels)}

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Every other arm against the baseline, at every number of labels that both have."""
        found = [self._contrast(arm, labels) for arm in self.arms[1:] for labels in self.amounts]
        return [contrast for contrast in found if contrast is not None]

    def _contrast(self, arm: str, labels: int) -> Contrast | None:
        ours = {cell.seed: cell for cell in self._of(arm, labels)}
        theirs = {cell.seed: cell for cell in self._of(self.baseline, labels)}
        common = sorted(ours.keys() & theirs.keys())
        if not common:
            return None
        difference = paired_difference([ours[s].value for s in common], [theirs[s].value for s in common])
        curve = {
            amount: float(np.mean(list(values.values())))
            for amount in self.amounts
            if (values := self.values(self.baseline, amount))
        }
        # the gain over the baseline's curve, not the arm's own mean: seeds that only one of them has must not count
        worth = worth_in_labels(curve, labels, curve[labels] + difference.mean)
        return Contrast(
            arm=arm,
            labels=labels,
            values={seed: cell.value for seed, cell in ours.items()},
            baseline={seed: cell.value for seed, cell in theirs.items()},
            difference=difference,
            bootstrap=_bootstrap([ours[s] for s in common], [theirs[s] for s in common]),
            worth=worth,
            encoders=len({_encoder(ours[s].record["init"]) for s in common}),
        )

    def _of(self, arm: str, labels: int) -> list[Cell]:
        return [cell for cell in self.cells if (cell.arm, cell.labels) == (arm, labels)]


def find_records(folders: Iterable[Path]) -> Records:
    """Read all records below `folders`, each once; what was scored to choose settings is no evidence and left out.

    Raises:
        TinctError: a folder is absent, holds no record, or a record cannot be read.
    """
    cells: dict[Path, Cell] = {}
    runs: dict[Path, dict[str, Any]] = {}
    plans: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise TinctError(f"{folder}: no such folder; name folders that tinct compare, transfer or pretrain wrote")
        plans |= {path.parent.resolve(): _read(path) for path in folder.rglob(PLAN)}
        paths = sorted(folder.rglob("record.json"))
        if not paths:
            raise TinctError(f"{folder}: no record.json in it or below; name a folder with finished cells or runs")
        for path in paths:
            record, home = _read(path), path.parent.resolve()
            if record.get("what") == "pretrain":
                runs[home] = record
            elif record.get("what") == "transfer" and not _chose_settings(record):
                plan = next((plans[parent] for parent in home.parents if parent in plans), {})
                cells[home] = Cell(home, record, _arm(plan, record), plan)
    return Records(list(cells.values()), runs)


def _chose_settings(record: dict[str, Any]) -> bool:
    """Whether a transfer was there to choose a learning rate; probes choose theirs within themselves."""
    return bool(record["data"]["eval_split"] == "tuning" and record["protocol"] in ("finetune", "frozen"))


def comparisons(cells: Sequence[Cell]) -> list[Comparison]:
    """Group cells by data, task, protocol and whatever else must be equal between arms.

    The baseline of a group is its arm `random`, else the first of its plan, else the first that was read.
    """
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        record = cell.record
        same = {key: value for key, value in record["settings"].items() if key not in PER_CELL}
        data = {key: record["data"][key] for key in ("spec", "train_fingerprint", "eval_split", "eval_fingerprint")}
        kind = {key: record[key] for key in ("task", "protocol", "size", "input", "metric")}
        groups[json.dumps([data, kind, record["init"]["backbone"], same], sort_keys=True)].append(cell)
    made = []
    for group in map(_each_once, groups.values()):
        present = {cell.arm for cell in group}
        planned = [arm for cell in group for arm in cell.plan.get("arms", {}) if arm in present]
        arms = list(dict.fromkeys([*planned, *(cell.arm for cell in group)]))
        arms.sort(key=lambda arm: arm != "random")
        used: dict[str, int] = {}
        for cell in group:
            used[cell.record["labels"]] = max(cell.labels, used.get(cell.record["labels"], 0))
        group = [replace(cell, pictures=used[cell.record["labels"]]) for cell in group]
        group.sort(key=lambda cell: (arms.index(cell.arm), cell.labels, cell.seed))
        made.append(Comparison(group, arms))
    return made


def _each_once(cells: list[Cell]) -> list[Cell]:
    """Drop copies of a cell.

    Raises:
        TinctError: two cells of one arm, number of labels and seed differ, as those of two grids may.
    """
    found: dict[tuple[str, str, int], Cell] = {}
    for cell in cells:
        first = found.setdefault((cell.arm, str(cell.record["labels"]), cell.seed), cell)
        if first.value != cell.value:
            raise TinctError(
                f"{first.folder} and {cell.folder}: both are {cell.arm} at {cell.record['labels']} labels, seed "
                f"{cell.seed}, with other results; report their folders apart"
            )
    return list(found.values())


def _arm(plan: dict[str, Any], record: dict[str, Any]) -> str:
    """The name of a record's arm: as its grid's plan has it, else what its weights were called."""
    name = str(record["init"]["name"])
    return next((arm for arm, inits in plan.get("arms", {}).items() if name in inits), name)


def _encoder(init: dict[str, Any]) -> str:
    """What tells one set of weights from another, whatever its file is called."""
    return str((init.get("provenance") or {}).get("sha256", init["name"]))


def _bootstrap(treated: Sequence[Cell], baseline: Sequence[Cell]) -> tuple[float, float] | None:
    ours, theirs = [cell.resampled for cell in treated], [cell.resampled for cell in baseline]
    known = [values for values in (*ours, *theirs) if values is not None]
    if len(known) < len(ours) + len(theirs):
        return None
    return bootstrap_difference(known[: len(ours)], known[len(ours) :])


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TinctError(f"{path}: no readable record ({error}); remove it and run its command again") from error
    return record

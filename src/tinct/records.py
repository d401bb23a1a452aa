"""Records of transfers and pretraining runs, found below folders: what each says, and which arm it stands for."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinct.errors import TinctError
from tinct.statistics import resampled_map, resampled_miou

__all__ = ["PLAN", "Cell", "Records", "find_records"]

PLAN = "compare.json"
"""The file that says which arms a grid has; its cells are below it."""


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


def _arm(plan: dict[str, Any], record: dict[str, Any]) -> str:
    """The name of a record's arm: as its grid's plan has it, else what its weights were called."""
    name = str(record["init"]["name"])
    return next((arm for arm, inits in plan.get("arms", {}).items() if name in inits), name)


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TinctError(f"{path}: no readable record ({error}); remove it and run its command again") from error
    return record

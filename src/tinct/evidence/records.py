"""Records of transfers and pretraining runs, found below folders: what each says, and which arm it stands for."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tinct.data.labelled import BY_GRADIENTS
from tinct.errors import TinctError, one_line
from tinct.evidence.statistics import resampled_map, resampled_miou
from tinct.files import all_below, read_json
from tinct.outputs import PLAN, RECORD

__all__ = [
    "NAMED",
    "SEEN",
    "Cell",
    "Records",
    "checked_plan",
    "damaged",
    "find_records",
    "not_known",
    "overlap",
    "padded",
    "read_checked",
]

REMEDY = "remove its folder and run its command again"
NUMBER = (int, float)
NONE = type(None)
PER_CLASS = {"map": "average_precision", "miou": "iou"}
"""Where the metrics of a transfer have those of each class."""
MEAN = {"map": "mean_ap", "miou": "mean_iou"}
"""Where they have the mean, as a share."""
SEEN = ("seen_by_encoder", "seen_in_training")
"""Where a transfer's data name evaluated pictures that are no news to it; older records lack the second."""
NAMED = 10
"""How many of them a warning names; a plan names all."""
TRANSFER: dict[str, Any] = {
    **dict.fromkeys(("task", "protocol", "input", "labels"), str),
    "metric": list(PER_CLASS),
    **dict.fromkeys(("value", "seconds"), NUMBER),
    **dict.fromkeys(("seed", "n_labels", "size"), int),
    "settings": {"lr": NUMBER, "eleven_point": bool, "input": str, "size": int, "steps": int},
    "metrics": {},
    "init": {"name": str, "backbone": str, "provenance": {"began_with": (dict, NONE)}, "keys_taken": int},
    "data": {
        **dict.fromkeys(("spec", "train_fingerprint", "eval_split", "eval_fingerprint"), str),
        **dict.fromkeys(("classes", "scored"), list),
        "eval_pictures": int,
        "eval_groups": (int, NONE),
        "unreadable": (list, NONE),
        **dict.fromkeys(SEEN, (dict, NONE)),
    },
}
"""What is asked of a transfer's record: a type, some values, or the same for what lies within. There may be more."""
COLOUR_SCORES = dict.fromkeys(("ab_error", "ab_error_grey", "psnr", "colourfulness_ratio"), NUMBER)
PRETRAIN: dict[str, Any] = {
    "config": {
        **dict.fromkeys(("backbone", "init", "adversarial"), str),
        **dict.fromkeys(("size", "chroma_stride"), int),
        "adversarial_weight": NUMBER,
        "terms": {"*": NUMBER},
    },
    "data": {"spec": str, **dict.fromkeys(("pictures", "seen", "grey", "unreadable", "excluded", "held_out"), int)},
    "seed": int,
    "budget": {"steps": int, "pictures_read": int, "seconds": NUMBER},
    "metrics": {"*": {"*": NUMBER}},
    "selected_with_labels": bool,
    "began_with": (dict, NONE),
}
"""What is asked of a pretraining run's; `*` stands for all keys that are there."""


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
        values = metrics[PER_CLASS[self.record["metric"]]]
        wanted = self.record["data"]["scored"]
        return {name: 100 * value for name, value in values.items() if name in wanted}

    @cached_property
    def resampled(self) -> NDArray[np.float64] | None:
        """The metric on bootstrap resamples of the evaluated pictures; None where predictions were not kept.

        None, too, where all of them are of one group.
        """
        path = self.folder / "predictions.safetensors"
        if not path.exists():
            return None
        with damaged(path):
            kept, data = load_file(path), self.record["data"]
            groups = kept.get("groups")
            if groups is not None and len(set(groups.tolist())) == 1:  # nothing to draw from
                return None
            scored = [data["classes"].index(name) for name in data["scored"]]
            if self.record["metric"] == "miou":
                return resampled_miou(kept["confusions"], scored, groups)
            eleven_point = self.record["settings"]["eleven_point"]
            return resampled_map(kept["scores"][:, scored], kept["labels"][:, scored], eleven_point, groups)


class Records(NamedTuple):
    """What was found: transfers, and pretraining runs by their folder."""

    cells: list[Cell]
    runs: dict[Path, dict[str, Any]]


def find_records(folders: Iterable[Path]) -> Records:
    """Read all records below `folders`, also behind links, each once.

    What was scored to choose settings is no evidence, and left out.

    Raises:
        TinctError: a folder is absent, holds no record, or a record cannot be read.
    """
    cells: dict[Path, Cell] = {}
    runs: dict[Path, dict[str, Any]] = {}
    plans: dict[Path, dict[str, Any]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise TinctError(f"{folder}: no such folder; name folders that tinct compare, transfer or pretrain wrote")
        files = list(all_below(folder))
        plans |= {path.parent.resolve(): checked_plan(path) for path in files if path.name == PLAN}
        paths = sorted(path for path in files if path.name == RECORD)
        if not paths:
            raise TinctError(f"{folder}: no record.json in it or below; name a folder with finished cells or runs")
        for path in paths:
            record, home = read_checked(path), path.parent.resolve()
            if record.get("what") == "pretrain":
                runs[home] = record
            elif record.get("what") == "transfer" and not _chose_settings(record):
                plan = next((plans[parent] for parent in home.parents if parent in plans), {})
                cells[home] = Cell(home, record, _arm(plan, record, home), plan)
    return Records(list(cells.values()), runs)


def _chose_settings(record: dict[str, Any]) -> bool:
    """Whether a transfer was there to choose a learning rate; probes choose theirs within themselves."""
    return bool(record["data"]["eval_split"] == "tuning" and record["protocol"] in BY_GRADIENTS)


def _arm(plan: dict[str, Any], record: dict[str, Any], home: Path) -> str:
    """The name of a record's arm: as its grid's plan has it, else what its weights were called."""
    name = str(record["init"]["name"])
    planned = plan.get("arms", {})
    arms = [str(arm) for arm, inits in planned.items() if name in inits]
    # of an encoder that was given two names, or that has been moved since, the one that the cell's folder has
    begins = (str(arm) for arm in arms or planned if home.name.startswith(f"{arm}-{record['labels']}-"))
    return next(begins, [*arms, name][0])


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """What goes wrong in reading `path` within it is said as one mistake of that file."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, IndexError, ValueError) as error:
        reason = one_line(error)
        raise TinctError(f"{path}: cannot be read ({type(error).__name__}: {reason}); {REMEDY}") from error


def read_checked(path: Path, remedy: str = REMEDY) -> dict[str, Any]:
    """A record, with all in it that reports and cards ask for later; `remedy` ends the line where it has not.

    Raises:
        TinctError: it cannot be read, or something is missing or of another kind; names it.
    """
    record = read_json(path, remedy)
    what = record.get("what")
    wrong = _wrong(record, TRANSFER if what == "transfer" else PRETRAIN if what == "pretrain" else {})
    wrong = wrong or next(filter(None, (_wrong(*further) for further in _further(record))), None)
    wrong = wrong or (_out_of_range(record) if what == "transfer" else None)
    if wrong is not None:
        raise TinctError(f"{path}: {wrong} is missing or not what a record has there; {remedy}")
    return record


def checked_plan(path: Path) -> dict[str, Any]:
    """A grid's plan, with its arms and settings.

    Raises:
        TinctError: it cannot be read, or one of them is missing or of another kind; names it.
    """
    remedy = "put it back, or choose another folder"
    plan = read_json(path, remedy)
    further: dict[str, Any] = {key: {} for key in {"settings", "tuning"} & plan.keys()}
    if wrong := _wrong(plan, {"arms": {"*": list}, "baseline": (str, NONE), **further}):
        raise TinctError(f"{path}: {wrong} is missing or not what a plan has there; {remedy}")
    return plan


def overlap(record: dict[str, Any], key: str) -> dict[str, Any]:
    """How many evaluated pictures were no news to a transfer, and names of some; none where an older record lacks it.

    Args:
        record: of a transfer.
        key: one of `SEEN`.
    """
    found: dict[str, Any] = record["data"].get(key) or {"pictures": 0, "names": []}
    return found


def not_known(names: str) -> str:
    """A line for encoders or colorizers of which nobody knows all the pictures that they saw."""
    return f"{names}: which pictures its weights were made from is not known in full; evaluated ones may be among them"


def padded(record: dict[str, Any]) -> bool:
    """Whether a segmenter was scored on pictures in padded squares, at the network's size, as it is no more."""
    return record["task"] == "segmentation" and "view" not in record["data"]


def _further(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """For `_wrong`, what must be in a record because of something else that is."""
    if record.get("what") == "transfer":
        yield record["metrics"], {PER_CLASS[record["metric"]]: {"*": NUMBER}}, "metrics."
        for key in SEEN:
            if seen := record["data"].get(key):
                yield seen, {"pictures": int, "names": list}, f"data.{key}."
    elif record.get("what") == "pretrain":
        for name, scores in record["metrics"].items():
            if "ab_error" in scores:
                yield scores, COLOUR_SCORES, f"metrics.{name}."


def _out_of_range(record: dict[str, Any]) -> str | None:
    """The first figure of a transfer that cannot be so; its value is one of its own metrics, in percent."""
    mean = record["metrics"].get(MEAN[record["metric"]])
    if isinstance(mean, int | float) and not math.isclose(record["value"], 100 * mean, abs_tol=1e-6):
        return "value"
    return "seed" if record["seed"] < 0 else "n_labels" if record["n_labels"] < 1 else None


def _wrong(content: dict[str, Any], shape: dict[str, Any], where: str = "") -> str | None:
    """The first key of `shape` that `content` does not have as it should be."""
    for key, kind in (dict.fromkeys(content, shape["*"]) if "*" in shape else shape).items():
        value = content.get(key)
        if isinstance(kind, dict):
            found = _wrong(value, kind, f"{where}{key}.") if isinstance(value, dict) else where + key
            if found is not None:
                return found
        elif isinstance(kind, list):
            if value not in kind:
                return where + key
        elif not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
            return where + key
    return None

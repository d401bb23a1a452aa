"""From records of transfers to comparisons: which of them belong together, each once."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tinct.data.labelled import BY_GRADIENTS, FOR_GRADIENTS
from tinct.errors import TinctError
from tinct.evidence.findings import PER_CELL, Comparison, encoder_of
from tinct.evidence.records import Cell
from tinct.settings import unusual

__all__ = ["UNSAID", "comparisons"]

UNSAID = ", 8 times size at most"
"""What older records do not say of how pictures are seen; as it is of panoramas alone, they are one with newer ones."""


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
    for further in (_settings, _fingerprints):
        titles = Counter(one.title for one in made)
        made = [replace(one, besides=(*one.besides, *further(one))) if titles[one.title] > 1 else one for one in made]
    return made


def _settings(made: Comparison) -> list[str]:
    """Those that are no defaults."""
    return unusual(made.record, PER_CELL)


def _fingerprints(made: Comparison) -> list[str]:
    """Of the names of its pictures, those to learn from and those that are scored."""
    data = made.record["data"]
    return [f"pictures {data['train_fingerprint']} and {data['eval_fingerprint']}"]


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
        if encoder_of(begun.record["init"]) != encoder_of(cell.record["init"]):
            raise TinctError(
                f"{begun.folder} and {cell.folder}: both are {cell.arm}, seed {cell.seed}, of other weights; report "
                "their folders apart"
            )
    return list(found.values())


def _transferred(record: dict[str, Any]) -> tuple[str, str, int, float]:
    """What tells one transfer of a comparison from another, whatever its arm is called."""
    return encoder_of(record["init"]), str(record["labels"]), record["seed"], record["settings"]["lr"]

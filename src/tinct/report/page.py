"""What the page shows: a comparison's answer, curves, classes and examples; a run's curves and colours."""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from tinct.data.base import VOID
from tinct.data.labelled import score_threshold
from tinct.data.overlay import class_color
from tinct.evidence import wording
from tinct.evidence.findings import PER_CELL, Comparison
from tinct.evidence.records import Cell, damaged
from tinct.report import figures

__all__ = ["render"]

SHOWN = 6
"""Evaluated pictures that a comparison shows, taken at even intervals."""


def render(made: Sequence[Comparison], runs: Mapping[Path, Mapping[str, Any]]) -> str:
    """The page, which needs nothing beside it: style, figures and pictures are inside."""
    environment = Environment(
        loader=PackageLoader("tinct", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"signed": wording.signed, "said": _said}
    return environment.get_template("page.html.jinja").render(
        sections=[section(one) for one in made], runs=[run(folder, record) for folder, record in runs.items()]
    )


def section(made: Comparison) -> dict[str, Any]:
    """One comparison."""
    settings = made.record["settings"]
    return {
        "made": made,
        "data": made.record["data"],
        "answers": [(contrast, wording.sentence(made, contrast)) for contrast in made.contrasts],
        "curves": Markup(figures.curves(made)) if len(made.cells) > 1 else "",
        "continuation": Markup(figures.continuation(made)),
        "said_of_it": wording.continuation(made),
        "differences": Markup(figures.differences(made)) if made.contrasts else "",
        "columns": wording.columns(made),
        "rows": wording.rows(made),
        "classes": [(amount, Markup(figures.class_bars(made, amount))) for amount in made.amounts],
        "examples": examples(made),
        "colors": figures.arm_colors(made.arms),
        "arms": {arm: made.inits(arm) for arm in made.arms},
        "provisos": wording.provisos(made),
        "settings": {key: value for key, value in settings.items() if key not in PER_CELL},
        "rates": {arm: sorted({cell.record["settings"]["lr"] for cell in _cells(made, arm)}) for arm in made.arms},
        "decoders": {arm: _decoders(made, arm) for arm in made.arms},
        "tuning": made.cells[0].plan.get("tuning", {}),
        "environments": _environments([cell.record for cell in made.cells]),
        "minutes": sum(cell.record["seconds"] for cell in made.cells) / 60,
    }


def examples(made: Comparison) -> dict[str, Any]:
    """The same evaluated pictures for every arm, at the most labels and the first seed that all arms have."""
    for amount in reversed(made.amounts):
        seeds = [set(made.values(arm, amount)) for arm in made.arms]
        if common := set.intersection(*seeds):
            seed = min(common)
            cells = [cell for cell in made.cells if (cell.labels, cell.seed) == (amount, seed)]
            kept = [_predictions(cell.folder) for cell in cells]
            if all("pictures" in one for one in kept):
                items = _segmented(cells, kept) if "masks" in kept[0] else _labelled(cells, kept)
                return {"labels": amount, "seed": seed, "items": items, "legend": _legend(cells, kept)}
    return {}


def run(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """One pretraining run."""
    rows: dict[str, list[tuple[int, float]]] = defaultdict(list)
    path = folder / "metrics.csv"
    with damaged(path):
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()) if path.exists() else []:
            rows[row["name"]].append((int(row["step"]), float(row["value"])))
    sheets = sorted((folder / "samples").glob("step-*.png"))
    return {
        "name": folder.name,
        "kind": wording.pretraining_of({"name": record["config"]["init"], "provenance": record["config"] | record}),
        "record": record,
        "curves": [Markup(figure) for figure in figures.training(rows)],
        "sheet": _inline(sheets[-1]) if sheets else "",
        "coloured": _inline(folder / "coloured.png"),
        "environments": _environments([record]),
    }


def _inline(path: Path) -> str:
    """A picture file for the page; an empty string where there is none."""
    if not path.exists():
        return ""
    with damaged(path), Image.open(path) as image:
        return figures.inline(image)


def _cells(made: Comparison, arm: str) -> list[Cell]:
    return [cell for cell in made.cells if cell.arm == arm]


def _decoders(made: Comparison, arm: str) -> list[str]:
    """How an arm's decoder began, where there is one: fresh, carried, or both."""
    segments = made.record["task"] == "segmentation"
    return sorted({cell.record["settings"].get("decoder", "fresh") for cell in _cells(made, arm)}) if segments else []


def _environments(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Versions, commit and machine of records, each different one once."""
    parts = [{key: record.get(key) for key in ("versions", "commit", "machine")} for record in records]
    return list({json.dumps(part, sort_keys=True): part for part in parts}.values())


def _predictions(folder: Path) -> dict[str, Any]:
    """What a cell predicted on the pictures that are kept to be shown; {} without."""
    path = folder / "predictions.safetensors"
    if not path.exists():
        return {}
    with damaged(path), safe_open(str(path), framework="numpy") as file:
        tensors: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys() if key != "confusions"}  # noqa: SIM118
        header = json.loads((file.metadata() or {}).get("tinct", "{}"))
    if "pictures" not in tensors:
        return {}
    rows = np.unique(np.linspace(0, len(tensors["shown"]) - 1, SHOWN).astype(int))
    for key in ("shown", "pictures", "masks", "truths"):
        if key in tensors:
            tensors[key] = tensors[key][rows]
    return tensors | {"names": [header["names"][number] for number in tensors["shown"]]}


def _labelled(cells: Sequence[Cell], kept: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures with each arm's answers."""
    classes, first = cells[0].record["data"]["classes"], kept[0]
    threshold = score_threshold(cells[0].record["protocol"])
    items = []
    for row, number in enumerate(first["shown"]):
        truth = first["labels"][number]
        answers = {
            cell.arm: _answers(classes, truth, one["scores"][number], threshold)
            for cell, one in zip(cells, kept, strict=True)
        }
        items.append(
            {
                "name": first["names"][row],
                "picture": figures.inline(first["pictures"][row]),
                "truth": [classes[index] for index in np.flatnonzero(truth == 1)],
                "answers": answers,
            }
        )
    return items


def _answers(
    classes: Sequence[str], truth: NDArray[np.float32], scores: NDArray[np.float32], threshold: float
) -> list[tuple[str, str]]:
    """The classes that scores (C,) name, the highest first, then those that they miss: each with what is to be said."""
    found = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] > threshold:
            found.append((classes[index], {1.0: "yes", 0.0: "no"}.get(float(truth[index]), "unknown")))
        elif truth[index] == 1:
            found.append((classes[index], "missed"))
    return found or [("none", "unknown" if np.isnan(truth).any() else "yes")]


def _segmented(cells: Sequence[Cell], kept: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pictures with their true masks and each arm's."""
    first, background = kept[0], _background(cells[0])
    return [
        {
            "name": first["names"][row],
            "picture": figures.inline(picture),
            "truth": figures.inline(figures.mask_over(picture, first["truths"][row], background)),
            "masks": {
                cell.arm: figures.inline(figures.mask_over(picture, one["masks"][row], background))
                for cell, one in zip(cells, kept, strict=True)
            },
        }
        for row, picture in enumerate(first["pictures"])
    ]


def _legend(cells: Sequence[Cell], kept: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Names and colours of the mask classes that are shown."""
    if "masks" not in kept[0]:
        return []
    values = np.unique(np.concatenate([part.ravel() for one in kept for part in (one["masks"], one["truths"])]))
    classes, background = cells[0].record["data"]["classes"], _background(cells[0])
    return [(classes[value], f"rgb{class_color(int(value))}") for value in values if value not in (VOID, background)]


def _background(cell: Cell) -> int | None:
    """The mask value to leave bare."""
    classes = cell.record["data"]["classes"]
    return int(classes.index("background")) if "background" in classes else None


def _said(value: Any) -> str:
    """A setting as one writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(part)}" for key, part in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value)) or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

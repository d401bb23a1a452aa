"""The tables of a report as Markdown and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinct.cards import pretraining_facts
from tinct.data.labelled import BY_GRADIENTS
from tinct.evidence import wording
from tinct.evidence.findings import Comparison
from tinct.evidence.records import padded
from tinct.settings import unusual

__all__ = ["as_csv", "as_markdown"]


def as_markdown(made: Sequence[Comparison], runs: Mapping[Path, Mapping[str, Any]]) -> str:
    """A section for each comparison, with its answers and its table, and one for each pretraining run."""
    lines = ["# Does it help my labels?" if made else "# Pretraining", ""]
    for one in made:
        lines += [f"## {one.title}", "", *(f"- {sentence}" for sentence in wording.sentences(one))]
        columns = wording.columns(one)
        lines += ["", _line(columns), _line("-" if column == "arm" else "-:" for column in columns)]
        lines += [*(_line(row.cells[: len(columns)]) for row in wording.rows(one)), ""]
    for folder, record in runs.items():
        lines += [f"## Pretraining run {folder.name}", "", *pretraining_facts(record), ""]
    return "\n".join(lines)


def as_csv(made: Sequence[Comparison]) -> str:
    """A row for each transfer; `settings` has those that are no defaults, without those that have a column."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    data, kind, budget = ("spec", "eval_split", "eval_pictures"), ("task", "protocol", "size", "input"), ("steps", "lr")
    result = ("labels", "n_labels", "seed", "metric")  # labels as asked for, and how many there were
    rows.writerow([*data, *kind, *budget, "backbone", "settings", "arm", "init", *result, "value"])
    for cell in (cell for one in made for cell in one.cells):
        record = cell.record
        first = [*(record["data"][key] for key in data), *(record[key] for key in kind)]
        trained = record["protocol"] in BY_GRADIENTS
        first += [record["settings"][key] if trained else "" for key in budget]
        settings = [*unusual(record), *["scored in padded squares"] * padded(record)]
        last = [cell.arm, record["init"]["name"], *(record[key] for key in result), f"{cell.value:.4f}"]
        rows.writerow([*first, record["init"]["backbone"], ", ".join(settings), *last])
    return text.getvalue()


def _line(cells: Iterable[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"

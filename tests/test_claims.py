"""The figures within sentences are what the committed records say.

Each row of docs/claims.csv has a page, words as they stand there, with a name in braces for each figure, and the
folders of records (below docs/records) that the figures follow from; `against` has those that are subtracted. `{}` is
a figure that another row holds. `figures` has the names; `{difference:+}` or `{low:.2f}` ask for another format.
"""

import csv
import json
import re
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tinct.evidence.findings import distinct
from tinct.evidence.records import Cell
from tinct.evidence.statistics import paired_difference

ROOT = Path(__file__).parents[1]
RECORDS = ROOT / "docs" / "records"
with (ROOT / "docs" / "claims.csv").open(encoding="utf-8", newline="") as table:
    CLAIMS = list(csv.DictReader(table, strict=True))
ROWS = [row.strip("| ").split(" | ") for row in (ROOT / "docs" / "results-tables.md").read_text().splitlines()]
"""Of the generated tables, which tests/test_results.py holds to the records."""
FIGURE = r"[+−]?\d+(?:[.,]\d+)*"


class Figure(float):
    """A number that is written as pages have it: with one decimal, if no other format is asked for."""

    def __format__(self, spec: str) -> str:
        return format(float(self), spec if "." in spec else f"{spec}z.1f").replace("-", "−")


def read(folders: str) -> dict[Path, dict[str, Any]]:
    """The records in folders, or files, that are named by patterns with spaces between."""
    found: dict[Path, dict[str, Any]] = {}
    for pattern in folders.split():
        paths = [path / "record.json" if path.is_dir() else path for path in sorted(RECORDS.glob(pattern))]
        assert paths, f"docs/records has no {pattern}"
        found |= {path.parent: json.loads(path.read_text(), parse_float=Figure) for path in paths}
    return found


def figures(folders: str, against: str = "") -> dict[str, Any]:
    """What follows from records, by the names that claims have for it; all that a single one holds is in `record`."""
    records = read(folders)
    first, *others = records.values()
    found: dict[str, Any] = {} if others else {"record": first}
    if first["what"] == "pretrain":
        minutes = [Figure(record["budget"]["seconds"] / 60) for record in records.values()]
        found |= {key: sum(record["budget"][key] for record in records.values()) for key in ("steps", "pictures_read")}
        return found | {"minutes": Figure(sum(minutes)), "shortest": min(minutes), "longest": max(minutes)}
    if first["what"] == "evaluate":
        values = {name: Figure(metric["value"]) for name, metric in first["metrics"].items()}
        return found | values | {"share": Figure(values["colourfulness"] / values["colourfulness_truth"])}
    ours = {record["seed"]: Cell(folder, record, "") for folder, record in records.items()}
    assert len(ours) == len(records), "of more than one cell for a seed"
    found["mean"] = Figure(np.mean([cell.value for cell in ours.values()]))
    if not against:
        return found
    theirs = {record["seed"]: Cell(folder, record, "") for folder, record in read(against).items()}
    seeds = distinct(ours, theirs, sorted(ours.keys() & theirs.keys()))
    difference = paired_difference([ours[seed].value for seed in seeds], [theirs[seed].value for seed in seeds])
    found["baseline"] = Figure(np.mean([cell.value for cell in theirs.values()]))
    found["difference"] = Figure(difference.mean)
    if difference.interval is not None:
        found |= dict(zip(("low", "high"), map(Figure, difference.interval), strict=True))
        # intervals over pictures take a while, and tables have them
        interval = "{low} to {high}, df {}".format(difference.pairs - 1, **found)
        row = [f"{first['n_labels']:,}", f"{found['difference']:+}", interval]
        pictures = [(one[6], one[8]) for one in ROWS if [one[0], *one[4:6]] == row]
        if len(pictures) == 1:
            found |= {key: re.findall(FIGURE, cell) for key, cell in zip(("pictures", "worth"), *pictures, strict=True)}
    return found


def said(words: str, page: str) -> list[list[str]]:
    """The named figures at each place where a page has these words."""
    pattern = ""
    for text, field, _, _ in Formatter().parse(" ".join(words.split())):
        pattern += re.escape(text) + ("" if field is None else f"({FIGURE})" if field else FIGURE)
    return [list(place.groups()) for place in re.finditer(pattern, " ".join(page.split()))]


def true(words: str, found: dict[str, Any]) -> list[str]:
    """The same figures as they should be."""
    named = [(field, spec or "") for _, field, spec, _ in Formatter().parse(words) if field]
    return [format(Formatter().get_field(field, (), found)[0], spec) for field, spec in named]


@pytest.mark.parametrize("claim", CLAIMS, ids=[f"line-{line}" for line in range(2, len(CLAIMS) + 2)])
def test_a_sentence_says_what_its_records_say(claim):
    words = claim["words"]
    found = said(words, (ROOT / claim["page"]).read_text(encoding="utf-8"))
    assert found, f"{claim['page']} does not have these words any more: {words}"
    expected = true(words, figures(claim["records"], claim["against"]))
    assert expected, f"holds no figure: {words}"
    assert found == [expected] * len(found), f"{claim['page']}: {words}"


def test_a_changed_figure_is_found():
    words = "adds {difference} points ({low:.2f} to {})"
    found = {"difference": Figure(-0.04), "low": Figure(-1.234)}
    page = "It adds 0.0 points\n  (−1.23 to 4.5). It adds 0.1 points (−1.23 to 4.5)."
    assert true(words, found) == ["0.0", "−1.23"]
    assert said(words, page) == [["0.0", "−1.23"], ["0.1", "−1.23"]]


def test_differences_are_those_of_scipy():
    arms = [f"paper-cpu/multilabel-96/cells/{arm}-400-*" for arm in ("tinct-small-ssl", "random")]
    ours, theirs = ([record["value"] for record in read(arm).values()] for arm in arms)
    expected = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    found = figures(*arms)
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))

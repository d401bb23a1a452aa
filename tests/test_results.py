"""The published tables are what the committed records say."""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records, padded
from tinct.evidence.wording import plain, signed
from tinct.shipped import SHIPPED

DOCS = Path(__file__).parents[1] / "docs"
docs_tables, docs_gains = (SimpleNamespace(**runpy.run_path(str(DOCS / name))) for name in ("tables.py", "gains.py"))

PAGES = "".join(path.read_text() for path in sorted(DOCS.glob("results*.md")))
ROWS = [
    line.strip("| ").split(" | ") for line in PAGES.splitlines() if re.match(r"\| [\d,]+ \| \S+ \| .*, df \d", line)
]
"""The rows of generated tables that hold a difference: labels, arm, score, seeds, difference, intervals and more."""


def test_tables_follow_from_committed_records():
    tables = docs_tables.generated(DOCS / "records")
    assert len(tables) > 1
    for path in DOCS.glob("results*.md"):
        page = path.read_text(encoding="utf-8")
        assert docs_tables.renewed(page, tables) == page, f"python docs/tables.py changes {path.name}"
    assert list(tables) == []


def test_a_stale_table_is_renewed_and_all_else_kept():
    page = "before\n\n### A table\n\n| old |\n| old |\n\n### Another\n\n| kept |\n\nafter\n"
    tables = {"### A table": ["| new |"], "### Of no page": ["| x |"]}
    assert docs_tables.renewed(page, tables) == page.replace("| old |\n| old |", "| new |")
    assert list(tables) == ["### Of no page"]
    page = "### A table\n\n| old |\n"  # with nothing after it
    assert docs_tables.renewed(page, {"### A table": ["| new |"]}) == page.replace("old", "new")


def test_gains_in_the_short_tables_are_those_of_the_generated_ones():
    intervals = {(row[4], row[5].partition(",")[0]) for row in ROWS}
    pictures = {(row[4], row[6]) for row in ROWS}
    found = 0
    for page in (DOCS.parent / "README.md", DOCS / "results.md"):
        for line in (line for line in page.read_text().splitlines() if line.startswith("|")):
            for gain, interval, over in re.findall(
                r"([+−][\d.]+)\*{0,2} \((.*? to [^;)]*)(?:; over pictures ([^)]*))?\)", line
            ):
                assert (gain, interval) in intervals, line
                assert not over or (gain, over) in pictures, line
                found += 1
    assert found > 20


def test_gains_by_minutes_and_pictures_are_those_of_the_generated_tables():
    gains = {(arm, labels, gain) for labels, arm, _, _, gain, *_ in ROWS}
    arms = {
        "3 | 22,036": "features-3min",
        "10 | 22,036": "features-10min",
        "10 | 964": "features-1000",
        "10 | 2,896": "features-3000",
        "10 | 9,663": "features-10000",
        "20 | 22,036": "features-20min",
        "38 (stage 2) | 22,036": "ssl-stage-2",
        "193 (`tinct-small-ssl`) | 22,036": "tinct-small-ssl",
    }
    for start, arm in arms.items():
        [line] = [line for line in PAGES.splitlines() if line.startswith(f"| {start} | ")]
        found = line.strip("| ").split(" | ")[3:]
        amounts = ("400", "2,276", "400", "774")[: 2 if arm == "ssl-stage-2" else 4]  # not measured on VOC 2007
        for gain, labels in zip(found, amounts, strict=True):
            assert (arm, labels, gain) in gains, line


def test_the_drawn_gains_follow_from_committed_records(tmp_path):
    gains = docs_gains.contrasts()
    assert len(gains) == 2 * len(docs_gains.ARMS)
    docs_gains.draw(gains, tmp_path / "gains.svg")
    for path in (tmp_path / "gains.svg", docs_gains.TARGET):
        assert docs_gains.described(gains) in path.read_text(encoding="utf-8"), "python docs/gains.py draws it anew"


def test_figures_of_colour_follow_from_records():
    card = (SHIPPED / "tinct-small.md").read_text()
    paths = list((DOCS / "records").rglob("bsds500*.json"))
    assert paths
    for path in paths:
        found = {name: measured["value"] for name, measured in json.loads(path.read_text())["metrics"].items()}
        share = found["colourfulness"] / found["colourfulness_truth"]
        row = f"| {found['ab_distance']:.2f} | {share:.2f} | {found['psnr_db']:.2f} | {found['ssim']:.3f} |"
        assert row in PAGES
        for figure in (f"{found['ab_distance']:.2f}", f"{share:.2f}"):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", card)  # not as a part of another one


def test_figures_of_backbones_follow_from_records():
    records = [json.loads(path.read_text()) for path in (DOCS / "records" / "backbones").rglob("record.json")]
    assert records
    for record in records:
        last = record["metrics"]["last"]
        figures = f"{last['ab_error']:.2f} | {last['colourfulness_ratio']:.2f}"
        start = "noise" if record["config"]["init"] == "random" else "ImageNet's labels"
        lines = [line for line in PAGES.splitlines() if f" {record['budget']['pictures_read']:,} | {figures} |" in line]
        assert [line for line in lines if f"| {start} |" in line]


@pytest.mark.parametrize(
    ("name", "records", "other"),
    [
        ("tinct-small-ssl", ("paper-cpu", "voc-segmentation"), None),
        ("tinct-small-ssl-rgb", ("rgb",), "tinct-small-ssl"),
    ],
)
def test_figures_of_encoders_follow_from_records(name, records, other):
    card, found = (SHIPPED / f"{name}.md").read_text(), 0
    cells = find_records([DOCS / "records" / folder for folder in records]).cells
    for one in comparisons([cell for cell in cells if not padded(cell.record)]):
        own = {(contrast.arm, contrast.labels): contrast for contrast in one.contrasts}
        for contrast in (contrast for (arm, _), contrast in own.items() if arm == name):
            kind = {"linear": "linear probe", "finetune": "fine-tuned"}[one.record["protocol"]]
            where = f"{kind} at {one.record['size']} px, {one.metric}"
            where = f"VOC {one.record['data']['spec'][-4:]}, {where}" if other else where
            baseline = sum(contrast.baseline.values()) / len(contrast.baseline)
            low, high = map(plain, contrast.difference.interval)
            row = [where, f"{contrast.labels:,}", f"{baseline:.1f}"]
            row += [f"{signed(contrast.difference.mean)} ({low} to {high})"]
            row += [signed(own[other, contrast.labels].difference.mean)] if other else []
            assert f"| {' | '.join(row)} |" in card
            found += 1
    assert found


def test_records_name_no_machine_and_hold_no_pictures():
    for path in (DOCS / "records").rglob("*.json"):
        assert "/home/" not in path.read_text()
        assert "/root" not in path.read_text()
    for path in (DOCS / "records").rglob("*.safetensors"):
        assert b'"pictures"' not in path.read_bytes()[:2000]

"""The page, its Markdown and its CSV: figures of records, whole and self-contained."""

import csv
import functools
import html
import json
import math
import re
import shutil
from dataclasses import asdict

import fake_records
import numpy as np
import pytest
from fake_records import fake_grid, fake_transfer
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

from tinct.cli import main
from tinct.errors import TinctError
from tinct.evidence.findings import PER_CELL, comparisons
from tinct.evidence.grid import Arm, begun
from tinct.evidence.records import find_records
from tinct.evidence.wording import rows
from tinct.files import write_json
from tinct.report import figures, write_report
from tinct.settings import TransferSettings

RUN = {
    "what": "pretrain",
    "config": {
        "backbone": "resnet18",
        "terms": {"bins": 1.0},
        "adversarial": "hinge",
        "adversarial_weight": 0.1,
        "size": 64,
        "chroma_stride": 4,
        "init": "random",
    },
    "data": {"seen": 10, "pictures": 12, "spec": "folder", "grey": 1, "unreadable": 1, "excluded": 0, "held_out": 4},
    "seed": 0,
    "budget": {"steps": 6, "pictures_read": 24, "seconds": 90.0},
    "metrics": {"last": {"ab_error": 9.5, "ab_error_grey": 12.0, "psnr": 24.0, "colourfulness_ratio": 0.9}},
    "selected_with_labels": False,
    "versions": {"python": "3.11.2"},
    "commit": None,
    "machine": {"system": "Linux"},
}


@pytest.fixture
def records(tmp_path):
    arms = {"random": ["random"], "cgan": ["run0", "run1", "run2"]}
    fake_grid(tmp_path / "classes", arms, ("50", "all"), 3)
    fake_grid(tmp_path / "masks", arms, ("50",), 3, task="segmentation", source="mosaic:")
    write_json(tmp_path / "run" / "record.json", RUN)
    (tmp_path / "run" / "samples").mkdir()
    Image.new("RGB", (16, 24), "red").save(tmp_path / "run" / "samples" / "step-6.png")
    (tmp_path / "run" / "metrics.csv").write_text("step,name,value\n3,bins,4.5\n6,bins,4.0\n6,ab_error,9.5\n")
    return tmp_path


def test_a_damaged_sheet_is_named(records):
    sheet = records / "run" / "samples" / "step-6.png"
    sheet.write_bytes(sheet.read_bytes()[:60])
    with pytest.raises(TinctError, match=r"step-6\.png"):
        write_report([records], records / "out.html")


def test_a_page_says_what_the_records_say_and_needs_nothing_else(records):
    page, _, _ = write_report([records], records / "report.html")
    text = page.read_text()
    made = comparisons(find_records([records]).cells)
    assert len(made) == 2
    for one in made:
        assert text.count(f"<h2>{one.title}</h2>") == 1
        for row in rows(one):
            assert row.cells[2] in text
    assert "checks the plumbing; no evidence" in text
    assert "Colour pretraining" in text
    assert "9.5" in text
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*\"", text) == []
    assert re.findall(r"url\((?!#|['\"]?data:)[^)]*\)|@import|<script", text) == []
    assert text.count("data:image/jpeg;base64,") > 3


@pytest.mark.parametrize(
    ("protocol", "threshold", "says"), [("finetune", 0.0, "probability above 0.5"), ("knn", 0.5, "half of the votes")]
)
def test_arms_answer_with_the_classes_above_one_half_and_what_they_miss_is_said(tmp_path, protocol, threshold, says):
    grid = tmp_path / "grid"
    fake_grid(grid, {"random": ["random"], "mine": ["run"]}, ("50",), 1, protocol=protocol)
    for folder in (grid / "cells").iterdir():  # cat, dog, sheep
        with safe_open(folder / "predictions.safetensors", "numpy") as file:
            header, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (no mapping)
        tensors["labels"][[0, 40, 79]] = [[1, 0, 1], [0, 0, 0], [np.nan, 0, 0]]
        tensors["scores"][[0, 40, 79]] = np.add(threshold, [[0.1, 0.2, -0.1], [-1, -2, -3], [0.1, 0, -0.1]])
        save_file(tensors, folder / "predictions.safetensors", header)
    text = write_report([grid], tmp_path / "report.html")[0].read_text()
    assert says in text
    found = re.findall(r"<b>mine</b><ul>(.*?)</ul>", text)
    assert [re.findall(r'"(\w+)">(\w+)<', one) for one in found] == [
        [("no", "dog"), ("yes", "cat"), ("missed", "sheep")],
        [("yes", "none")],
        [("unknown", "cat")],
    ]


def test_the_legend_of_the_classes_covers_no_bar(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "mine": ["run"]}, ("50",), 1)
    (made,) = comparisons(find_records([tmp_path]).cells)
    figure = figures.class_bars(made, 50)
    names = re.findall(r'<text [^>]*y="([\d.]+)"', figure.partition('id="legend_1"')[2])
    axes = re.search(r'id="patch_2">\s*<path d="([^"]*)"', figure)
    assert axes is not None
    assert len(names) == 2
    assert max(map(float, names)) < min(float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", axes[1]))


def test_a_transfer_alone_is_neither_plotted_nor_compared(tmp_path):
    fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50"), tmp_path / "one")
    page, markdown, _ = write_report([tmp_path], tmp_path / "report.html")
    text = page.read_text()
    assert "1 transfer</span>" in text
    assert "against labels" not in text
    for said in (text, markdown.read_text()):
        assert "seeds" in said
        assert "labels' worth" not in html.unescape(said)
    assert "| 1 |\n" in markdown.read_text()


@pytest.mark.filterwarnings("error")
def test_figures_have_room_for_long_names_and_leave_none_out(tmp_path, monkeypatch):
    classes = ["c" * 40 + " and " + "d" * 80, "dog \U0001f415", "sheep"]
    monkeypatch.setitem(fake_records.CLASSES, "multilabel", classes)
    fake_grid(tmp_path / "grid", {"random": ["random"], "_mine": ["run"]}, ("50", "all"), 2)
    page, _, _ = write_report([tmp_path / "grid"], tmp_path / "report.html")
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL))
    shown = [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]
    assert {f"{'c' * 18}…{'d' * 13}", classes[1], "sheep"} <= set(shown)
    legends = [text for text in shown if text.endswith("_mine")]
    assert len(legends) == 3  # of the curve, and of the classes at 50 labels and with all


def test_curves_of_pretraining_are_figures_of_their_own_with_whole_steps(tmp_path):
    write_json(tmp_path / "run" / "record.json", RUN)
    rows = (
        "step,name,value\n20,bins,4.5\n30,bins,4\n20,discriminator_accuracy,0.5\n30,ab_error,9.5\n30,ab_error_grey,12\n"
    )
    (tmp_path / "run" / "metrics.csv").write_text(rows)
    text = html.unescape(write_report([tmp_path], tmp_path / "report.html")[0].read_text())
    drawn = re.findall(r'<svg role="img" aria-label="Pretraining: (.*?)"(.*?)</svg>', text, re.DOTALL)
    assert [title for title, _ in drawn] == ["training loss", "held-out ab error (Lab)", "discriminator's accuracy"]
    for _, figure in drawn:  # a phone shows them one below the other
        steps = re.search(r'id="matplotlib.axis_1".*?id="matplotlib.axis_2"', figure, re.DOTALL)
        assert steps is not None
        assert all(re.fullmatch(r"\d+|step", word) for word in re.findall(r"<text.*?>(.*?)</text>", steps[0]))
    assert "all grey" in drawn[1][1]


def test_settings_that_arms_have_of_their_own_are_not_said_of_all(tmp_path):
    base = TransferSettings("voc:pictures", "segmentation", decoder="carried", backbone="resnet18", accelerator="cpu")
    write_json(tmp_path / "compare.json", {"what": "compare", "arms": {"random": ["random"], "mine": ["run0"]}})
    for name, init in (("random", "random"), ("mine", "run0")):
        cell = begun(base, Arm(name, (init,)), 0, labels="50")
        fake_transfer(cell, tmp_path / "cells" / f"{name}-50-0")
    text = write_report([tmp_path], tmp_path / "report.html")[0].read_text()
    said = text.partition("<summary>Configuration</summary>")[2].partition("</details>")[0]
    assert set(re.findall("<th>(.*?)</th>", said)) == {
        key.replace("_", " ") for key in asdict(base).keys() - set(PER_CELL)
    }
    found = re.findall(r"<b>(\w+)</b> <span class=\"soft\">learning rate 0.001, decoder (\w+)</span>", text)
    assert found == [("random", "fresh"), ("mine", "carried")]


@pytest.mark.parametrize(
    ("known", "after"), [(True, " after ImageNet's labels"), (None, " after weights of unknown making")]
)
def test_a_run_that_began_with_labels_says_so(tmp_path, known, after):
    write_json(tmp_path / "run" / "record.json", RUN | {"supervised": known})
    text = html.unescape(write_report([tmp_path], tmp_path / "report.html")[0].read_text())
    assert f"Colour pretraining{after}" in text


def test_tables_hold_every_transfer(records):
    _, markdown, table = write_report([records], records / "report.html")
    with table.open() as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * 2 * 3 + 2 * 3
    assert {row["arm"] for row in found} == {"random", "cgan"}
    of_classes = [row for row in found if row["metric"] == "map"]
    mean = sum(float(row["value"]) for row in of_classes if (row["arm"], row["n_labels"]) == ("cgan", "50")) / 3
    line = next(line for line in markdown.read_text().splitlines() if line.startswith("| 50 | cgan"))
    assert f"{mean:.1f} ±" in line
    assert "## Pretraining run run" in markdown.read_text()


def test_records_behind_links_are_found_once_and_circles_end(records):
    links = records / "links" / "below"
    links.mkdir(parents=True)
    for name in ("classes", "run"):
        (links / name).symlink_to(records / name)
    (links / "again").symlink_to(records / "run")
    (links / "circle").symlink_to(records / "links")
    (links / "nowhere").symlink_to(links / "nowhere")
    found = find_records([records / "links"])
    assert list(found.runs) == [records / "run"]
    assert sorted(cell.folder for cell in found.cells) == sorted(
        cell.folder for cell in find_records([records / "classes"]).cells
    )
    assert {cell.arm for cell in found.cells} == {"random", "cgan"}


@pytest.mark.parametrize(("out", "says"), [("report.txt", "ends in .html"), ("report.html", "no record")])
def test_what_cannot_be_reported(tmp_path, capsys, out, says):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), "--out", str(tmp_path / out)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / out).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", "path,cat\na.png,1\n"),
        ("README.md", "# Pretraining\n\nHow I did it.\n"),
        ("own.csv", ""),
        ("folder.md", None),
    ],
)
def test_files_that_no_report_wrote_are_left_alone(records, capsys, name, content):
    own = records / name
    own.mkdir() if content is None else own.write_text(content)
    page = own.with_suffix(".html")
    assert main(["report", str(records), "--out", str(page)]) == 2
    assert f"{own} would be replaced, and no report wrote it" in capsys.readouterr().err
    assert content is None or own.read_text() == content
    assert [path.name for path in records.iterdir() if path.stem == own.stem] == [name]


@pytest.mark.parametrize("found", [["classes", "run"], ["run"]])
def test_a_report_takes_the_place_of_an_earlier_one(records, found):
    written = write_report([records / name for name in found], records / "out.html")
    before = [path.read_text() for path in written]
    for path in written[1:]:
        path.write_text(path.read_text() + "more\n")
    assert [path.read_text() for path in write_report([records / name for name in found], written[0])] == before


@pytest.mark.parametrize("content", ["{", "[]", "\xff", '{"what": "pretrain"}'])
def test_a_damaged_record_is_named(records, content):
    (records / "run" / "record.json").write_text(content, encoding="latin-1")
    with pytest.raises(TinctError, match=r"run.record\.json"):
        write_report([records], records / "report.html")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("value", "high", "value is missing or not"),
        ("value", math.nan, "value is missing or not"),
        ("value", 99.5, "value is missing or not"),
        ("seed", -1, "seed is missing or not"),
        ("n_labels", 0, "n_labels is missing or not"),
        ("metrics", None, "metrics is missing or not"),
        ("data", [], "data is missing or not"),
        ("data", {"spec": "x"}, r"data\.train_fingerprint is missing or not"),
        ("metric", "f1", "metric is missing or not"),
        ("metric", "miou", r"metrics\.iou is missing or not"),
        ("metrics", {"average_precision": {"cat": "high"}}, r"metrics\.average_precision\.cat is missing or not"),
    ],
)
def test_a_record_edited_by_hand_is_named(records, key, value, says):
    path = records / "classes" / "cells" / "cgan-50-1" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(TinctError, match=rf"cgan-50-1.record\.json: {says}"):
        write_report([records], records / "report.html")


def keys_of(content: dict, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = [keys_of(value, (*before, key)) for key, value in content.items() if isinstance(value, dict)]
    return [*((*before, key) for key in content), *(keys for found in inner for keys in found)]


@pytest.mark.parametrize("folder", ["run", "classes/cells/cgan-50-1"])
def test_whatever_a_record_lacks_the_page_is_made_or_the_record_named(records, folder):
    path = records / folder / "record.json"
    whole = path.read_text()
    said = {}
    for keys in keys_of(json.loads(whole)):
        record = json.loads(whole)
        inner = functools.reduce(dict.__getitem__, keys[:-1], record)
        del inner[keys[-1]]
        path.write_text(json.dumps(record))
        try:
            write_report([path.parent], records / "report.html")
        except TinctError as error:
            said[".".join(keys)] = str(error)
    assert "no records of" in said.pop("what")
    assert [key for key, message in said.items() if not message.startswith(f"{path}: {key} is missing")] == []
    assert len(said) > 15


@pytest.mark.parametrize("name", ["predictions.safetensors", "../../compare.json"])
def test_a_file_cut_short_is_named(records, name):
    path = (records / "classes" / "cells" / "cgan-50-1" / name).resolve()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TinctError, match=rf"{path.name}: cannot be read"):
        write_report([records], records / "report.html")


def test_evaluated_pictures_that_an_encoder_saw_are_said_once_on_the_page_and_in_markdown(records):
    for path in (records / "classes" / "cells").glob("cgan-*/record.json"):
        path.write_text(path.read_text().replace('"pictures": 0', '"pictures": 7'))
    page = write_report([records / "classes"], records / "report.html")[0]
    for file in (page, page.with_suffix(".md")):
        assert file.read_text().count("saw 7 of the evaluated pictures") == 1


def test_what_an_unfinished_grid_cannot_compare_is_said(records):
    for cell in ("random-50-0", "random-50-2", "cgan-50-1"):
        shutil.rmtree(records / "classes" / "cells" / cell)
    page = write_report([records / "classes"], records / "report.html")[0]
    for text in (page.read_text(), page.with_suffix(".md").read_text()):
        assert "Not compared yet: cgan and random have no seed in common at 50 labels." in text
        assert "There is one arm only" not in text
    for cell in (records / "classes" / "cells").glob("cgan-*"):
        shutil.rmtree(cell)
    text = write_report([records / "classes"], records / "report.html")[0].with_suffix(".md").read_text()
    assert "Not compared yet: nothing of cgan is finished." in text

"""The page, its Markdown and its CSV: figures of records, whole and self-contained."""

import base64
import colorsys
import csv
import functools
import html
import io
import json
import re
import shutil
from dataclasses import asdict, replace

import fake_records
import numpy as np
import pytest
from fake_records import fake_grid, fake_transfer
from matplotlib.colors import to_hex
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy import stats

from tinct.cli import main
from tinct.data.base import VOID
from tinct.errors import TinctError
from tinct.evidence.findings import PER_CELL
from tinct.evidence.grid import Arm, begun
from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records
from tinct.evidence.wording import rows
from tinct.files import write_json
from tinct.report import figures, write_report
from tinct.report.tables import as_csv
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


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    arms = {"random": ["random"], "cgan": ["run0", "run1", "run2"]}
    fake_grid(folder / "classes", arms, ("50", "all"), 3)
    fake_grid(folder / "masks", arms, ("50",), 3, task="segmentation", source="mosaic:")
    write_json(folder / "run" / "record.json", RUN)
    (folder / "run" / "samples").mkdir()
    Image.new("RGB", (16, 24), "red").save(folder / "run" / "samples" / "step-6.png")
    (folder / "run" / "metrics.csv").write_text("step,name,value\n3,bins,4.5\n6,bins,4.0\n6,ab_error,9.5\n")
    return folder


@pytest.fixture
def records(made_once, tmp_path):
    """Two grids and a run, to be changed at will."""
    return shutil.copytree(made_once, tmp_path / "records")


def test_a_damaged_sheet_is_named(records):
    sheet = records / "run" / "samples" / "step-6.png"
    sheet.write_bytes(sheet.read_bytes()[:60])
    with pytest.raises(TinctError, match=r"step-6\.png"):
        write_report([sheet.parents[1]], records / "out.html")


@pytest.fixture
def drawn(monkeypatch):
    """Figures as matplotlib has them, by title."""
    kept = {}

    def keep(figure, title):
        kept[title] = figure
        return ""

    monkeypatch.setattr(figures, "_svg", keep)
    return kept


def texts(labels) -> list[str]:
    return [label.get_text() for label in labels]


def read_cells(folder) -> dict[tuple[str, int], list[dict]]:
    """Records by arm and number of labels, in the order of their seeds."""
    cells = [(path.parent.name.split("-")[0], json.loads(path.read_text())) for path in folder.glob("cells/*/*.json")]
    found = {}
    for arm, record in sorted(cells, key=lambda cell: cell[1]["seed"]):
        found.setdefault((arm, record["n_labels"]), []).append(record)
    return found


def test_curves_draw_means_spreads_and_runs_of_the_records(records, drawn):
    cells = read_cells(records / "classes")
    figures.curves(comparisons(find_records([records / "classes"]).cells)[0])
    (axes,) = drawn["mAP against labelled pictures"].axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("labelled pictures", "mAP", "log")
    assert texts(axes.get_xticklabels()) == ["50", "320"]
    means = {line.get_label(): line for line in axes.lines if line.get_linestyle() == "-"}
    assert texts(axes.get_legend().get_texts()) == list(means) == ["random", "cgan"]
    for band, (arm, line) in zip(axes.collections, means.items(), strict=True):
        values = np.array([[record["value"] for record in cells[arm, labels]] for labels in (50, 320)])
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([[50, 320], values.mean(1)]))
        edges = band.get_paths()[0].vertices
        for labels, mean, spread in zip((50, 320), values.mean(1), values.std(1, ddof=1), strict=True):
            assert set(edges[edges[:, 0] == labels, 1].round(6)) == {round(mean + sign * spread, 6) for sign in (-1, 1)}
        assert to_hex(band.get_facecolor()[0]) == line.get_color()
        runs = [
            one.get_ydata() for one in axes.lines if one.get_marker() == "." and one.get_color() == line.get_color()
        ]
        np.testing.assert_allclose(runs, values)


def test_differences_draw_the_interval_of_the_paired_seeds_and_that_of_the_pictures(records, drawn):
    cells = read_cells(records / "classes")
    (made,) = comparisons(find_records([records / "classes"]).cells)
    figures.differences(made)
    (axes,) = drawn["Paired differences in mAP points"].axes
    assert axes.get_xlabel() == "mAP points over random"
    assert texts(axes.get_yticklabels()) == ["cgan, 50 labels", "cgan, 320 labels"]
    *marks, zero = axes.lines
    assert list(zero.get_xdata()) == [0, 0]
    for row, labels in enumerate((50, 320)):
        pairs = zip(cells["cgan", labels], cells["random", labels], strict=True)
        gains = [ours["value"] - theirs["value"] for ours, theirs in pairs]
        interval = stats.t.interval(0.95, 2, np.mean(gains), stats.sem(gains))
        of_pictures, of_seeds, mean = marks[3 * row : 3 * row + 3]
        assert {line.get_color() for line in (of_pictures, of_seeds, mean)} == {figures.arm_colors(made.arms)["cgan"]}
        np.testing.assert_allclose(mean.get_xydata(), [[np.mean(gains), row]])
        np.testing.assert_allclose(of_seeds.get_xydata(), [[end, row] for end in interval])
        assert list(of_pictures.get_xdata()) == list(made.contrasts[row].bootstrap)
        assert row < of_pictures.get_ydata()[0] < row + 0.5
        assert of_pictures.get_linewidth() < of_seeds.get_linewidth()


@pytest.mark.parametrize(
    ("folder", "metric", "axis"), [("classes", "average_precision", "AP"), ("masks", "iou", "IoU")]
)
def test_bars_are_as_long_as_the_means_of_the_classes(records, drawn, folder, metric, axis):
    cells = read_cells(records / folder)
    figures.class_bars(comparisons(find_records([records / folder]).cells)[0], 50)
    figure = drawn["Each class at 50 labels"]
    (axes,) = figure.axes
    assert axes.get_xlabel() == axis
    means = {
        arm: {name: 100 * np.mean([one["metrics"][metric][name] for one in cells[arm, 50]]) for name in ("cat", "dog")}
        for arm in ("random", "cgan")
    }
    assert texts(figure.legends[0].get_texts()) == [bars.get_label() for bars in axes.containers] == list(means)
    rows = texts(axes.get_yticklabels())
    best = [max(bars[rows.index(name)].get_width() for bars in axes.containers) for name in rows]
    assert best == sorted(best, reverse=True)
    assert axes.yaxis_inverted()  # the first row on top
    for color, bars in zip(figures.arm_colors(list(means)).values(), axes.containers, strict=True):
        assert {to_hex(bar.get_facecolor()) for bar in bars} == {color}
        for name, mean in means[bars.get_label()].items():
            bar = bars[rows.index(name)]
            assert bar.get_width() == pytest.approx(mean)
            assert abs(bar.get_y() + bar.get_height() / 2 - rows.index(name)) < 0.4


def test_pretraining_curves_draw_every_row(drawn):
    rows = {"bins": [(20, 4.5), (30, 4.0)], "l1": [(20, 9.0)], "ab_error": [(30, 9.5)], "ab_error_grey": [(30, 12.0)]}
    figures.training(rows | {"psnr": [(30, 24.0)], "images_per_second": [(30, 100.0)]})
    assert list(drawn) == [f"Pretraining: {name}" for name in ("training loss", "held-out ab error (Lab)", "PSNR (dB)")]
    losses, errors, psnr = (figure.axes[0] for figure in drawn.values())
    assert {line.get_label(): line.get_xydata().tolist() for line in losses.lines} == {
        "bins": [[20, 4.5], [30, 4]],
        "l1": [[20, 9]],
    }
    assert texts(losses.get_legend().get_texts()) == ["bins", "l1"]
    own, grey = errors.lines
    assert own.get_xydata().tolist() == [[30, 9.5]]
    assert (set(grey.get_ydata()), grey.get_linestyle(), texts(errors.texts)) == ({12.0}, "--", ["all grey"])
    assert [line.get_xydata().tolist() for line in psnr.lines] == [[[30, 24]]]


def test_masks_are_laid_over_grey_and_leave_void_and_background_bare():
    picture = np.array([[[200, 100, 0], [10, 20, 30], [250, 250, 250], [90, 0, 90]]], np.uint8)
    grey = (picture @ [0.299, 0.587, 0.114]).round()  # ITU-R BT.601
    over = figures.mask_over(picture, np.array([[0, 2, VOID, 1]], np.uint8), 0)
    assert np.abs(over[0, [0, 2]] - grey[0, [0, 2], None]).max() <= 1
    for place, value in ((1, 2), (3, 1)):
        color = np.multiply(colorsys.hsv_to_rgb(value * 0.618034 % 1, 0.8, 1), 255)
        np.testing.assert_allclose(over[0, place], 0.45 * grey[0, place] + 0.55 * color, atol=2)
    assert np.ptp(figures.mask_over(picture, np.zeros((1, 4), np.uint8), None), axis=2).min() > 50


def shown(url: str) -> np.ndarray:
    """What an `img` of the page holds."""
    with Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2]))) as image:
        return np.asarray(image).astype(float)


def test_masks_side_by_side_are_those_of_the_arms_they_are_under(records):
    text = write_report([records / "masks"], records / "report.html")[0].read_text()
    strips = [
        {name: shown(url) for url, name in re.findall(r'<img src="([^"]*)"[^>]*>(\w+)</div>', strip)}
        for strip in re.findall(r'<div class="strip">(.*?)</div></figure>', text)
    ]
    assert len(strips) == len(fake_records.SHOWN)
    kept = {}
    for arm in ("random", "cgan"):
        with safe_open(records / "masks" / "cells" / f"{arm}-50-0" / "predictions.safetensors", "numpy") as file:
            kept[arm] = {name: file.get_tensor(name) for name in ("pictures", "masks", "truths")}
    for row, strip in enumerate(strips):
        picture = kept["random"]["pictures"][row]
        masks = {"truth": kept["random"]["truths"][row]} | {arm: one["masks"][row] for arm, one in kept.items()}
        expected = {"picture": picture} | {name: figures.mask_over(picture, mask, 0) for name, mask in masks.items()}
        assert list(strip) == list(expected)
        for name, pixels in expected.items():
            np.testing.assert_array_equal(strip[name], shown(figures.inline(pixels)))


def test_the_sheets_of_a_run_are_its_last_one_and_that_of_the_finished_colorizer(records):
    folder = records / "run"
    for name, color in {"samples/step-5.png": "lime", "samples/step-7.png": "blue", "coloured.png": "yellow"}.items():
        Image.new("RGB", (16, 24), color).save(folder / name)
    text = write_report([folder], records / "report.html")[0].read_text()
    sheets = {alt: shown(url) for url, alt in re.findall(r'<img class="sheet" src="([^"]*)" alt="([^"]*)"', text)}
    (finished,) = (sheet for alt, sheet in sheets.items() if alt.startswith("photographs that training never saw"))
    (last,) = (sheet for alt, sheet in sheets.items() if alt.startswith("held-out"))
    np.testing.assert_allclose(finished.mean((0, 1)), (255, 255, 0), atol=3)
    np.testing.assert_allclose(last.mean((0, 1)), (0, 0, 255), atol=3)


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
    assert {(row["labels"], row["n_labels"]) for row in found} == {("50", "50"), ("all", "320")}
    of_classes = [row for row in found if row["metric"] == "map"]
    mean = sum(float(row["value"]) for row in of_classes if (row["arm"], row["n_labels"]) == ("cgan", "50")) / 3
    line = next(line for line in markdown.read_text().splitlines() if line.startswith("| 50 | cgan"))
    assert f"{mean:.1f} ±" in line
    assert "## Pretraining run run" in markdown.read_text()


def test_no_two_rows_of_the_table_are_alike_but_for_their_values(tmp_path):
    base = TransferSettings("voc:pictures", "segmentation", labels="50")
    for name, settings in {
        "plain": base,
        "decayed": replace(base, layer_decay=0.7, decoder="carried", cache="elsewhere", backbone="resnet18"),
        "larger": replace(base, backbone="resnet34"),
        "padded": replace(base, head="unet"),
        "probe": replace(base, task="multilabel", protocol="linear", batch_size=8),
    }.items():
        fake_transfer(settings, tmp_path / name)
    path = tmp_path / "padded" / "record.json"
    record = json.loads(path.read_text())
    del record["data"]["view"]
    write_json(path, record)
    table = csv.DictReader(as_csv(comparisons(find_records([tmp_path]).cells)).splitlines())
    found = [[row[key] for key in ("backbone", "settings", "steps", "lr")] for row in table]
    assert sorted(found) == [
        ["resnet18", "", "", ""],
        ["resnet18", "", "600", "0.001"],
        ["resnet18", "decoder=carried, layer_decay=0.7", "600", "0.001"],
        ["resnet18", "head=unet, scored in padded squares", "600", "0.001"],
        ["resnet34", "", "600", "0.001"],
    ]


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


def keys_of(content: dict, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = [keys_of(value, (*before, key)) for key, value in content.items() if isinstance(value, dict)]
    return [*((*before, key) for key in content), *(keys for found in inner for keys in found)]


@pytest.mark.parametrize("folder", ["run", "classes/cells/cgan-50-1"])
def test_whatever_a_record_lacks_the_page_is_made_or_the_record_named(records, drawn, folder):
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

import json
import shutil

import numpy as np
import pytest
import torch
from fake_records import fake_grid, fake_transfer
from safetensors.numpy import load_file, save_file

from tinct.errors import TinctError
from tinct.evidence.records import find_records, read_checked
from tinct.files import write_json
from tinct.metrics import multilabel_scores
from tinct.settings import TransferSettings

SCORES = {"ab_error": 12.0, "ab_error_grey": 14.0, "psnr": 22.0, "colourfulness_ratio": 0.8}
PRETRAIN = {
    "what": "pretrain",
    "config": {
        "backbone": "resnet18",
        "init": "random",
        "adversarial": "none",
        "size": 96,
        "chroma_stride": 4,
        "adversarial_weight": 1.0,
        "terms": {"bins": 1.0, "rotation": 2},
    },
    "data": {"spec": "photos:", **dict.fromkeys(("pictures", "seen", "grey", "unreadable", "excluded", "held_out"), 3)},
    "seed": 0,
    "budget": {"steps": 10, "pictures_read": 40, "seconds": 1.5},
    "metrics": {"last": {"probe_map": 40.0}, "best": SCORES},
    "selected_with_labels": False,
    "began_with": None,
}
ABSENT = object()


def edit(path, where, value):
    """Change what a record has at a dotted place, or take it out."""
    record = json.loads(path.read_text())
    within, keys = record, where.split(".")
    for key in keys[:-1]:
        within = within[key]
    within[keys[-1]] = value
    if value is ABSENT:
        del within[keys[-1]]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        *[("seed", value, "seed") for value in (-1, 0.5, "1", ABSENT)],
        *[("n_labels", value, "n_labels") for value in (0, "all", ABSENT)],
        *[("value", value, "value") for value in (3.0, "3", float("nan"), ABSENT)],
        *[("metric", value, "metric") for value in ("psnr", ABSENT)],
        ("metric", "miou", "metrics.iou"),
        ("metrics", None, "metrics"),
        ("metrics.average_precision", ABSENT, "metrics.average_precision"),
        ("metrics.average_precision.dog", None, "metrics.average_precision.dog"),
        *[("settings.lr", value, "settings.lr") for value in ("fast", float("nan"))],
        ("settings.eleven_point", 1.0, "settings.eleven_point"),
        ("data", [], "data"),
        ("data", {"spec": "x"}, "data.train_fingerprint"),
        ("data.scored", "cat", "data.scored"),
        ("data.unreadable", 3, "data.unreadable"),
        ("data.seen_by_encoder", {"pictures": "3", "names": []}, "data.seen_by_encoder.pictures"),
        ("data.seen_in_training", {"pictures": 3}, "data.seen_in_training.names"),
        ("init", "random", "init"),
        ("init.provenance", {"began_with": "nothing"}, "init.provenance.began_with"),
    ],
)
def test_a_transfers_record_is_held_to_what_reports_ask_of_it(tmp_path, where, value, named):
    fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50"), tmp_path)
    read_checked(tmp_path / "record.json")
    edit(tmp_path / "record.json", where, value)
    said = rf"record.json: {named} is missing or not what a record has there; remove its folder and run its command"
    with pytest.raises(TinctError, match=said):
        find_records([tmp_path])


@pytest.mark.parametrize(
    ("where", "value", "named"),
    [
        ("config.size", 96.0, "config.size"),
        ("config.terms.rotation", "2", "config.terms.rotation"),
        ("data.held_out", None, "data.held_out"),
        ("budget.steps", 1.5, "budget.steps"),
        ("metrics.last.probe_map", "40", "metrics.last.probe_map"),
        ("metrics.last.ab_error", 12.0, "metrics.last.ab_error_grey"),
        ("metrics.best.psnr", ABSENT, "metrics.best.psnr"),
        ("selected_with_labels", None, "selected_with_labels"),
        ("began_with", ABSENT, None),
        ("began_with", "another", "began_with"),
    ],
)
def test_a_runs_record_is_held_to_what_reports_ask_of_it(tmp_path, where, value, named):
    write_json(tmp_path / "record.json", PRETRAIN)
    assert find_records([tmp_path]).runs == {tmp_path.resolve(): PRETRAIN}
    edit(tmp_path / "record.json", where, value)
    if named is None:  # older ones lack it
        assert find_records([tmp_path]).runs
        return
    with pytest.raises(TinctError, match=rf"record.json: {named} is missing or not what a record has there"):
        find_records([tmp_path])


@pytest.mark.parametrize("eleven_point", [False, True])
def test_classes_that_are_not_scored_are_left_out_of_a_cells_figures(tmp_path, monkeypatch, eleven_point):
    monkeypatch.setattr("tinct.evidence.statistics._weights", lambda n, _: iter([np.ones((1, n))]))
    record = fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50"), tmp_path)
    edit(tmp_path / "record.json", "data.scored", ["sheep", "cat"])
    edit(tmp_path / "record.json", "settings.eleven_point", eleven_point)
    (cell,) = find_records([tmp_path]).cells
    shares = record["metrics"]["average_precision"]
    assert cell.per_class == {name: 100 * shares[name] for name in ("cat", "sheep")}
    kept = {name: torch.tensor(load_file(tmp_path / "predictions.safetensors")[name]) for name in ("scores", "labels")}
    expected = multilabel_scores(**kept, classes=["cat", "dog", "sheep"], scored=[0, 2], eleven_point=eleven_point)
    assert cell.resampled == pytest.approx([100 * expected.mean_ap], abs=1e-4)


def test_classes_of_masks_that_are_not_scored_are_left_out_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tinct.evidence.statistics._weights", lambda n, _: iter([np.ones((1, n))]))
    record = fake_transfer(TransferSettings("voc:pictures", "segmentation", labels="50"), tmp_path)
    edit(tmp_path / "record.json", "data.scored", ["background", "dog"])
    (cell,) = find_records([tmp_path]).cells
    shares = record["metrics"]["iou"]
    assert cell.per_class == {name: 100 * shares[name] for name in ("background", "dog")}
    assert cell.resampled == pytest.approx([50 * (shares["background"] + shares["dog"])])


def test_of_one_group_nothing_can_be_drawn(tmp_path):
    fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50"), tmp_path)
    path = tmp_path / "predictions.safetensors"
    kept = load_file(path)
    for groups, drawn in ((np.zeros(80, np.int64), False), (np.arange(80) // 40, True)):
        save_file(kept | {"groups": groups}, path)
        (cell,) = find_records([tmp_path]).cells
        assert (cell.resampled is not None) == drawn


def test_predictions_that_are_damaged_are_named(tmp_path):
    fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50"), tmp_path)
    path = tmp_path / "predictions.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (cell,) = find_records([tmp_path]).cells
    with pytest.raises(TinctError, match=r"predictions.safetensors: cannot be read \(SafetensorError: .*; remove its"):
        _ = cell.resampled


def test_a_cells_arm_is_that_of_its_plan_whatever_its_encoder_is_called_now(tmp_path):
    arms = {"random": ["random"], "cgan": ["run0"], "one": ["run1"], "two": ["run1"]}
    fake_grid(tmp_path, arms, ("50",), seeds=1)
    cells = tmp_path / "cells"
    edit(cells / "cgan-50-0" / "record.json", "init.name", "moved")
    shutil.copytree(cells / "cgan-50-0", tmp_path / "cgan-50-0-alone")  # as if it were of the plan too
    (cells / "one-50-0").rename(cells / "renamed")
    fake_transfer(TransferSettings("voc:pictures", "multilabel", init="run7", labels="50"), cells / "further")
    found = {cell.folder.name: cell.arm for cell in find_records([tmp_path]).cells}
    assert found == {
        "random-50-0": "random",
        "cgan-50-0": "cgan",
        "renamed": "one",
        "two-50-0": "two",
        "further": "run7",
        "cgan-50-0-alone": "cgan",
    }
    shutil.move(tmp_path / "cgan-50-0-alone", tmp_path.with_name("alone"))
    (cell,) = find_records([tmp_path.with_name("alone")]).cells
    assert cell.arm == "moved"

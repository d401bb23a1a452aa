import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_records import fake_grid, fake_transfer

from tinct.errors import TinctError
from tinct.findings import Cell, Comparison, comparisons, find_records, pretraining_of, signed
from tinct.settings import TransferSettings
from tinct.statistics import paired_difference

RUNS = ["run0", "run1", "run2"]


def cell(arm, labels, seed, value, init=None, **init_fields):
    """A bare record: enough for words."""
    named = {"name": init or arm, "provenance": {"terms": {"bins": 1.0}}, **init_fields}
    record = {"init": named, "n_labels": labels, "seed": seed, "value": value, "metric": "map"}
    return Cell(Path("nowhere"), record, arm)


def compared(*arms, labels=158, one_encoder=False):
    """A comparison of arms given as (name, values by seed), each seed's encoder its own unless said."""
    cells = []
    for arm, values in arms:
        for seed, value in enumerate(values):
            init = None if arm == "random" or one_encoder else f"{arm}{seed}"
            cells.append(cell(arm, labels, seed, value, init))
    return Comparison(cells, list(dict.fromkeys(arm for arm, _ in arms)))


def test_a_gain_in_words():
    values = [36.0, 37.2, 38.0, 39.5, 40.0]
    made = compared(("random", [30, 31, 32, 33, 34]), ("cgan", values))
    made.cells.extend(cell("random", 632, seed, 42.0 + seed) for seed in range(5))
    made = Comparison(made.cells, ["random", "cgan"])
    assert made.sentences() == [
        "Colour pretraining adds 6.1 mAP points (95 % CI 5.9 to 6.4, 5 paired seeds) at 158 labels; "
        "that is what 2.0 times the labels would give."
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            [31, 30, 33],
            "No gain shown: colour pretraining changes mAP by +0.3 points (95 % CI −2.5 to 3.2, 3 paired seeds) at 158 "
            "labels; the interval contains 0.",
        ),
        (
            [28, 29, 30.5],
            "No gain shown: colour pretraining costs 1.8 mAP points (95 % CI −2.6 to −1.1, 3 paired seeds) at 158 "
            "labels.",
        ),
        (
            [30, 31, 32],
            "No gain shown: colour pretraining changes mAP by +0.0 points (95 % CI 0.0 to 0.0, 3 paired seeds) at 158 "
            "labels; the interval contains 0.",
        ),
        (
            [35],
            "No gain shown: one pair of seeds gives no interval. Colour pretraining changed mAP by +5.0 points for "
            "this encoder at 158 labels.",
        ),
    ],
)
def test_no_gain_in_words(values, expected):
    assert compared(("random", [30, 31, 32]), ("cgan", values)).sentences() == [expected]


def test_several_arms_are_told_apart_and_another_baseline_is_named():
    made = compared(("l1", [30, 31, 32]), ("cgan", [36, 37.5, 38]), ("bins", [40, 41.5, 42]))
    first, second = made.sentences()
    assert first.startswith("Colour pretraining (cgan) adds 6.2 mAP points (95 % CI")
    assert "at 158 labels, compared with l1; what that is worth in labels cannot be told: the baseline" in first
    assert second.startswith("Colour pretraining (bins)")


def test_pairs_that_share_encoders_are_said_to():
    made = compared(("random", [30, 31, 32]), ("cgan", [36, 37, 38.5]), one_encoder=True)
    assert "adds 6.2 mAP points for this encoder (" in made.sentences()[0]
    for found in made.cells[3:5]:
        found.record["init"]["name"] = "another"
    assert "points for these 2 encoders (" in Comparison(made.cells, made.arms).sentences()[0]


@pytest.mark.parametrize(
    ("terms", "adversarial", "name", "expected"),
    [
        ({"bins": 1.0}, "none", "run", "Colour pretraining"),
        ({}, "hinge", "run", "Colour pretraining"),
        ({"l1": 1.0, "rotation": 0.5}, "bce", "run", "Colour and rotation pretraining"),
        ({"palette": 1.0, "siamese": 1.0}, "none", "run", "Colour and siamese pretraining"),
        ({"rotation": 1.0}, "none", "run", "Rotation pretraining"),
        ({}, "none", "imagenet-lite", "ImageNet pretraining"),
        ({}, "none", "timm:resnet18", "Pretraining"),
    ],
)
def test_rotation_is_never_called_colour_alone(terms, adversarial, name, expected):
    assert pretraining_of({"name": name, "provenance": {"terms": terms, "adversarial": adversarial}}) == expected


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_a_grid_read_back(tmp_path, task):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50", "all"), seeds=4, task=task)
    (made,) = comparisons(find_records([tmp_path]).cells)
    assert (made.arms, made.amounts) == (["random", "cgan"], [50, 320])
    for contrast, labels in zip(made.contrasts, (50, 320), strict=True):
        ours, theirs = made.values("cgan", labels), made.values("random", labels)
        assert list(ours) == [0, 1, 2, 3]
        assert contrast.difference == paired_difference(list(ours.values()), list(theirs.values()))
        assert contrast.relative == pytest.approx(100 * contrast.difference.mean / np.mean(list(theirs.values())))
        assert contrast.encoders == 3
        low, high = contrast.bootstrap
        assert low < contrast.difference.mean < high
    assert made.metric == {"multilabel": "mAP", "segmentation": "mIoU"}[task]


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_the_bootstrap_scores_as_the_record_did(tmp_path, task, monkeypatch):
    """With every picture drawn once, a resample is the evaluated set."""
    monkeypatch.setattr("tinct.statistics._weights", lambda n, resamples, seed: iter([np.ones((1, n))]))
    fake_transfer(TransferSettings("voc:pictures", task, labels="50"), tmp_path / "cell")
    (found,) = find_records([tmp_path]).cells
    assert found.resampled == pytest.approx([found.value], abs=1e-4)


def test_an_unreadable_labelled_picture_tears_no_pair_apart(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=3)
    path = tmp_path / "cells" / "cgan-50-1" / "record.json"
    path.write_text(path.read_text().replace('"n_labels": 50', '"n_labels": 49'))
    (contrast,) = comparisons(find_records([tmp_path]).cells)[0].contrasts
    assert (contrast.labels, contrast.difference.pairs) == (50, 3)


def test_what_differs_is_not_pooled(tmp_path):
    base = TransferSettings("voc:pictures", "multilabel", labels="50")
    variants = [
        base,
        replace(base, init="run0", lr=3e-4, cache="elsewhere"),  # the same experiment, another arm
        replace(base, protocol="frozen"),
        replace(base, task="segmentation"),
        replace(base, source="voc:others"),
        replace(base, steps=100),
        replace(base, size=64),
        replace(base, backbone="resnet34"),
    ]
    for number, settings in enumerate(variants):
        fake_transfer(settings, tmp_path / str(number))
    made = comparisons(find_records([tmp_path]).cells)
    assert sorted(len(found.cells) for found in made) == [1, 1, 1, 1, 1, 1, 2]


def test_two_grids_that_share_an_arms_name_are_not_mixed(tmp_path):
    for name, runs in (("a", RUNS), ("b", ["other0", "other1", "other2"])):
        fake_grid(tmp_path / name, {"random": ["random"], "colour": runs}, ("50",), seeds=2)
    with pytest.raises(TinctError, match="both are colour at 50 labels, seed 0, with other results"):
        comparisons(find_records([tmp_path]).cells)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    (made,) = comparisons(find_records([tmp_path / "a", tmp_path / "copy"]).cells)
    assert len(made.cells) == 4


def test_tuning_is_no_evidence_and_nothing_counts_twice(tmp_path):
    fake_grid(tmp_path / "grid", {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50", evaluate="tuning"), tmp_path / "t")
    records = find_records([tmp_path, tmp_path / "grid", tmp_path / "grid" / "cells"])
    assert len(records.cells) == 4
    assert {found.arm for found in records.cells} == {"random", "cgan"}


def test_a_missing_prediction_leaves_the_bootstrap_out(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    (tmp_path / "cells" / "random-50-1" / "predictions.safetensors").unlink()
    (contrast,) = comparisons(find_records([tmp_path]).cells)[0].contrasts
    assert contrast.bootstrap is None
    assert contrast.difference.low is not None


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(TinctError, match="absent: no such folder"):
        find_records([tmp_path / "absent"])
    with pytest.raises(TinctError, match=r"no record\.json in it"):
        find_records([tmp_path])
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(TinctError, match=r"record\.json: no readable record"):
        find_records([tmp_path])
    (tmp_path / "record.json").write_text(json.dumps({"what": "evaluate"}))
    assert find_records([tmp_path]).cells == []


def test_signs():
    assert [signed(value) for value in (1.26, -1.26, 0.0, -0.01)] == ["+1.3", "−1.3", "+0.0", "+0.0"]

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fake_records import fake_grid, fake_transfer

from tinct.errors import TinctError
from tinct.evidence.grouping import UNSAID, comparisons
from tinct.evidence.records import find_records
from tinct.evidence.statistics import paired_difference
from tinct.evidence.wording import rows
from tinct.settings import TransferSettings

RUNS = ["run0", "run1", "run2"]


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
        assert contrast.encoders == (3, 4)
        low, high = contrast.bootstrap
        assert low < contrast.difference.mean < high
    assert made.metric == {"multilabel": "mAP", "segmentation": "mIoU"}[task]


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_the_bootstrap_scores_as_the_record_did(tmp_path, task, monkeypatch):
    """With every picture drawn once, a resample is the evaluated set."""
    monkeypatch.setattr("tinct.evidence.statistics._weights", lambda n, _: iter([np.ones((1, n))]))
    fake_transfer(TransferSettings("voc:pictures", task, labels="50"), tmp_path / "cell")
    (found,) = find_records([tmp_path]).cells
    assert found.resampled == pytest.approx([found.value], abs=1e-4)


def test_an_unreadable_labelled_picture_tears_no_pair_apart(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=3)
    path = tmp_path / "cells" / "cgan-50-1" / "record.json"
    path.write_text(path.read_text().replace('"n_labels": 50', '"n_labels": 49'))
    (contrast,) = comparisons(find_records([tmp_path]).cells)[0].contrasts
    assert (contrast.labels, contrast.difference.pairs) == (50, 3)


def test_a_model_that_was_kept_of_an_arm_is_no_further_arm(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "encoder.safetensors").write_bytes(b"weights")
    fake_grid(tmp_path / "grid", {"random": ["random"], "mine": [str(run)]}, ("50", "all"), seeds=2)
    kept = TransferSettings("voc:pictures", "multilabel", init=str(run), labels="all")
    fake_transfer(kept, tmp_path / "model")
    (alone,) = comparisons(find_records([tmp_path / "grid"]).cells)
    assert comparisons(find_records([tmp_path / "grid", tmp_path / "model"]).cells) == [alone]
    (model,) = comparisons(find_records([tmp_path / "model"]).cells)
    assert model.arms == [str(run)]
    fake_transfer(replace(kept, init="others"), tmp_path / "others")
    fake_transfer(replace(kept, lr=3e-3), tmp_path / "another rate")
    (more,) = comparisons(find_records([tmp_path]).cells)
    assert more.arms == ["random", "mine", str(run), "others"]


def test_a_gain_is_read_off_the_baselines_curve_whatever_seeds_only_one_arm_has(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50", "5000"), seeds=4)
    shutil.rmtree(tmp_path / "cells" / "cgan-50-3")
    (made,) = comparisons(find_records([tmp_path]).cells)
    contrast = made.contrasts[0]
    ours, theirs = made.values("cgan", 50), made.values("random", 50)
    assert (list(ours), list(theirs)) == ([0, 1, 2], [0, 1, 2, 3])
    few, many = (np.mean(list(made.values("random", labels).values())) for labels in (50, 5000))
    gain = np.mean([ours[seed] - theirs[seed] for seed in range(3)])
    assert contrast.worth.times == pytest.approx(100 ** (gain / (many - few)))
    assert abs(100 ** ((np.mean(list(ours.values())) - few) / (many - few)) - contrast.worth.times) > 0.1
    gains = contrast.difference.interval
    expected = [None if end <= 0 else min(100.0, 100 ** (end / (many - few))) for end in gains]
    assert [end.times for end in contrast.worth_ends] == pytest.approx(expected)


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


def test_an_arm_is_not_made_of_two_encoders_at_two_numbers_of_labels(tmp_path):
    for runs, labels in (("run0", "50"), ("other", "all")):
        fake_grid(tmp_path / labels, {"random": ["random"], "colour": [runs]}, (labels,), seeds=2)
    with pytest.raises(TinctError, match="both are colour, seed 0, of other weights; report their folders apart"):
        comparisons(find_records([tmp_path]).cells)


def test_tuning_is_no_evidence_and_nothing_counts_twice(tmp_path):
    fake_grid(tmp_path / "grid", {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    fake_transfer(TransferSettings("voc:pictures", "multilabel", labels="50", evaluate="tuning"), tmp_path / "t")
    (tmp_path / "link").symlink_to(tmp_path / "grid")
    records = find_records([tmp_path, tmp_path / "grid", tmp_path / "grid" / "cells", tmp_path / "link"])
    assert len(records.cells) == 4
    assert {found.arm for found in records.cells} == {"random", "cgan"}


def test_grids_fed_grey_and_colour_are_two_comparisons_and_say_so(tmp_path):
    for name in ("grey", "rgb"):
        for init in ("random", "run0"):
            settings = TransferSettings("voc:pictures", "multilabel", init=init, labels="50", input=name)
            fake_transfer(settings, tmp_path / name / init)
    grey, colour = sorted(comparisons(find_records([tmp_path]).cells), key=lambda one: len(one.title))
    assert colour.title == f"{grey.title} · fed rgb"


def test_titles_that_would_be_one_say_what_tells_them_apart(tmp_path):
    base = TransferSettings("voc:pictures", "segmentation", labels="50", layer_decay=0.7, decoder="carried")
    for name, settings in {"a": base, "b": replace(base, layer_decay=1.0), "c": replace(base, steps=100)}.items():
        fake_transfer(settings, tmp_path / name)
    decayed, plain, shorter = (one.title for one in comparisons(find_records([tmp_path]).cells))
    assert decayed == f"{plain} · layer_decay=0.7"
    assert "layer_decay" not in shorter
    (alone,) = comparisons(find_records([tmp_path / "a"]).cells)
    assert alone.title == plain


def test_titles_of_other_pictures_say_which(tmp_path):
    settings = TransferSettings("csv:labels.csv", "multilabel", labels="50")
    for name in ("a", "b"):
        record = fake_transfer(settings, tmp_path / name)
        record["data"]["eval_fingerprint"] = name
        (tmp_path / name / "record.json").write_text(json.dumps(record))
    (alone,) = comparisons(find_records([tmp_path / "a"]).cells)
    both = [one.title for one in comparisons(find_records([tmp_path]).cells)]
    assert both == [f"{alone.title} · pictures 0123456789abcdef and {name}" for name in ("a", "b")]


def test_random_weights_are_the_baseline_by_any_name(tmp_path):
    fake_grid(tmp_path, {"cgan": RUNS, "scratch": ["random"]}, ("50",), seeds=2)
    cells = find_records([tmp_path]).cells
    assert [one.arms for one in comparisons(cells)] == [["scratch", "cgan"]]
    assert [one.arms for one in comparisons(cells, "cgan")] == [["cgan", "scratch"]]


def test_other_groups_leave_the_bootstrap_out(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    for number, path in enumerate(sorted(tmp_path.glob("cells/*/record.json"))):
        record = json.loads(path.read_text())
        record["data"]["groups_sha256"] = "one" if number else "other"
        path.write_text(json.dumps(record))
    (contrast,) = comparisons(find_records([tmp_path]).cells)[0].contrasts
    assert contrast.bootstrap is None


def test_a_missing_prediction_leaves_the_bootstrap_out(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    (tmp_path / "cells" / "random-50-1" / "predictions.safetensors").unlink()
    (contrast,) = comparisons(find_records([tmp_path]).cells)[0].contrasts
    assert contrast.bootstrap is None
    assert contrast.difference.interval is not None


def test_wrong_folders_are_named(tmp_path):
    with pytest.raises(TinctError, match="absent: no such folder"):
        find_records([tmp_path / "absent"])
    with pytest.raises(TinctError, match=r"no record\.json in it"):
        find_records([tmp_path])
    (tmp_path / "record.json").write_text("{")
    with pytest.raises(TinctError, match=r"record\.json: cannot be read"):
        find_records([tmp_path])
    (tmp_path / "record.json").write_text(json.dumps({"what": "evaluate"}))
    assert find_records([tmp_path]).cells == []


def test_what_is_fitted_on_all_labels_counts_once_for_each_pair_of_encoders(tmp_path):
    fake_grid(tmp_path, {"old": ["old"], "new": RUNS}, ("50", "all"), seeds=6, protocol="linear")
    (made,) = comparisons(find_records([tmp_path]).cells)
    few, everything = made.contrasts
    assert (few.difference.pairs, everything.difference.pairs) == (6, 3)
    values = [made.values(arm, 320) for arm in ("new", "old")]
    assert everything.difference == paired_difference(*([one[seed] for seed in range(3)] for one in values))


def test_what_counts_once_counts_once_in_every_figure(tmp_path):
    """A second seed of one encoder is no news, whether it is in the records or not."""
    tables = []
    for name, seeds in (("repeated", 6), ("once", 3)):
        fake_grid(tmp_path / name, {"old": ["old"], "new": RUNS}, ("all",), seeds=seeds, protocol="linear")
        for path in (tmp_path / name).glob("cells/*"):
            arm, _, seed = path.name.split("-")
            first = path.with_name(f"{arm}-all-{int(seed) % 3 if arm == 'new' else 0}")
            if first != path:  # as it is in truth: the same features, the same labels, the same scores
                shutil.copytree(first, path, dirs_exist_ok=True)
                record = json.loads((path / "record.json").read_text()) | {"seed": int(seed)}
                (path / "record.json").write_text(json.dumps(record))
        if seeds == 6:
            shutil.rmtree(tmp_path / name / "cells" / "new-all-5")  # so that no encoder has as many as the others
        (made,) = comparisons(find_records([tmp_path / name]).cells)
        tables.append([row.cells for row in rows(made)])
    assert tables[0] == tables[1]
    assert [cells[3] for cells in tables[0]] == ["1", "3"]


def test_cells_that_were_scored_on_other_pictures_are_not_compared(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    path = tmp_path / "cells" / "cgan-50-1" / "record.json"
    whole = path.read_text()
    for old, new, on in (
        ('"eval_pictures": 80', '"eval_pictures": 79', "80 and 79 pictures"),
        ('"scored": [', '"scored": ["lion",', r"other classes \(lion\)"),
    ):
        path.write_text(whole.replace(old, new))
        with pytest.raises(TinctError, match=rf"random-50-1 and .*cgan-50-1: they were scored on {on}, .* run them"):
            comparisons(find_records([tmp_path]).cells)


def test_random_weights_are_others_for_each_seed(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "new": ["new"]}, ("all",), seeds=4, protocol="linear")
    (contrast,) = comparisons(find_records([tmp_path]).cells)[0].contrasts
    assert contrast.difference.pairs == 4


def test_grids_with_other_labels_are_not_pooled(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    path = tmp_path / "cells" / "cgan-50-1" / "record.json"
    path.write_text(path.read_text().replace('"labels_sha256": "0"', '"labels_sha256": "1"'))
    with pytest.raises(TinctError, match="their labels differ; report their folders apart"):
        comparisons(find_records([tmp_path]).cells)


def test_what_was_scored_in_padded_squares_is_not_pooled_with_whole_pictures(tmp_path):
    for name in ("before", "now"):
        fake_grid(tmp_path / name, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2, task="segmentation")
    for path in (tmp_path / "before").rglob("record.json"):
        record = json.loads(path.read_text())
        del record["data"]["view"]
        path.write_text(json.dumps(record))
    before, now = sorted(comparisons(find_records([tmp_path]).cells), key=lambda one: one.title, reverse=True)
    assert len(before.cells) == len(now.cells) == 4
    assert before.title == f"{now.title} · scored in padded squares"


def test_records_that_leave_the_limit_of_panoramas_unsaid_are_one_with_newer_ones(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2, task="segmentation")
    path = tmp_path / "cells" / "cgan-50-1" / "record.json"
    assert UNSAID in path.read_text()
    path.write_text(path.read_text().replace(UNSAID, ""))
    (made,) = comparisons(find_records([tmp_path]).cells)
    assert len(made.cells) == 4


@pytest.mark.parametrize("edited", [{"arms": None}, {"arms": ["random"]}, {"settings": None}, {"tuning": 3}])
def test_a_plan_that_was_edited_is_named(tmp_path, edited):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=2)
    path = tmp_path / "compare.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edited))
    with pytest.raises(
        TinctError, match=rf"compare.json: {next(iter(edited))} is missing or not what a plan has there"
    ):
        find_records([tmp_path])


def test_a_record_may_name_no_unreadable_pictures_by_null(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "cgan": RUNS}, ("50",), seeds=1)
    for path in tmp_path.rglob("record.json"):
        path.write_text(path.read_text().replace('"unreadable": []', '"unreadable": null'))
    (made,) = comparisons(find_records([tmp_path]).cells)
    assert made.unreadable == []


def test_probes_scored_on_the_tuning_part_are_evidence_and_random_is_the_baseline_wherever_it_stands(tmp_path):
    asked = {"protocol": "linear", "evaluate": "tuning"}
    fake_grid(tmp_path, {"cgan": RUNS, "random": ["random"]}, ("50",), seeds=2, **asked)
    (made,) = comparisons(find_records([tmp_path]).cells)
    assert made.arms == ["random", "cgan"]
    assert len(made.cells) == 4


def test_another_baseline_is_the_plans_or_the_callers(tmp_path):
    fake_grid(tmp_path, {"random": ["random"], "l1": ["a0", "a1"], "cgan": ["b0", "b1"]}, ("50", "all"), seeds=2)
    cells = find_records([tmp_path]).cells
    assert comparisons(cells)[0].baseline == "random"
    assert comparisons(cells, "l1")[0].arms == ["l1", "random", "cgan"]
    (tmp_path / "compare.json").write_text(json.dumps(cells[0].plan | {"baseline": "l1"}))
    cells = find_records([tmp_path]).cells
    (made,) = comparisons(cells)
    assert made.arms == ["l1", "random", "cgan"]
    (found,) = (one for one in made.contrasts if (one.arm, one.labels) == ("cgan", 50))
    before, after = (list(made.values(arm, 50).values()) for arm in ("l1", "cgan"))
    assert found.difference == paired_difference(after, before)
    assert comparisons(cells, "random")[0].baseline == "random"
    assert comparisons([cell for cell in cells if cell.arm != "l1"])[0].baseline == "random"  # until l1 has begun
    (tmp_path / "compare.json").write_text(json.dumps(cells[0].plan | {"baseline": ["l1"]}))
    with pytest.raises(TinctError, match=r"compare\.json: baseline is missing or not what a plan has there"):
        find_records([tmp_path])

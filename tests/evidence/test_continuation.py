"""Arms that went on from one another: who came from whom, what it brought, where a line leads."""

import json

import numpy as np
import pytest
from fake_records import fake_grid
from scipy import stats

from tinct.evidence.continuation import pictures_read, steps, trends
from tinct.evidence.findings import Comparison
from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records
from tinct.evidence.wording import continuation
from tinct.report import figures


def stage(read, earlier=None, **changed):
    terms = {"terms": {"bins": 1.0}, "adversarial": "none", "size": 64, "steps": read // 64, "seed": 0}
    made = {**terms, "pictures_read": read, "fingerprint": "0", **changed}
    return made | ({"began_with": earlier} if earlier else {})


FIRST = stage(1000)
SECOND = stage(1000, FIRST, seed=1)
THIRD = stage(2000, SECOND, seed=2)
GAINS = {"random": 0.0, "first": 1.0, "second": 3.0, "third": 5.0, "other": 2.0}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Four arms: `third` from `second` from `first`, and `other` with as many pictures, from noise."""
    folder = tmp_path_factory.mktemp("grid")
    origins = {"random": {}, "first": FIRST, "second": SECOND, "third": THIRD, "other": stage(1000, seed=9)}
    fake_grid(folder, {arm: [arm] for arm in origins}, ("50", "400"), 3)
    for path in folder.glob("cells/*/record.json"):
        record = json.loads(path.read_text())
        arm = record["init"]["name"]
        record["init"]["provenance"] = origins[arm] | {"sha256": arm, "weights": f"{arm}/encoder.safetensors"}
        record["value"] = 30 + record["seed"] * (1 + 0.02 * ord(arm[0])) + GAINS[arm]
        record["metrics"]["mean_ap"] = record["value"] / 100
        path.write_text(json.dumps(record))
    return folder


@pytest.fixture
def made(grid):
    """That grid, read anew: tests change what they read."""
    return comparisons(find_records([grid]).cells)[0]


def test_pictures_of_all_stages_are_added_up(made):
    read = {arm: pictures_read(made, arm) for arm in made.arms}
    assert read == {"random": None, "first": 1000, "second": 2000, "third": 4000, "other": 1000}


def test_an_arm_is_compared_with_the_latest_that_it_went_on_from(made):
    found = steps(made)
    assert [(step.earlier, step.later, step.labels) for step in found] == [
        ("first", "second", 50),
        ("first", "second", 400),
        ("second", "third", 50),
        ("second", "third", 400),
    ]
    values = [made.values(arm, 400) for arm in ("second", "third")]
    assert found[-1].difference.mean == pytest.approx(np.mean([values[1][s] - values[0][s] for s in range(3)]))
    assert found[-1].difference.pairs == 3
    assert {step.encoders for step in found} == {(1, 1)}
    said = [line for line in continuation(made) if line.startswith("Going on")]
    assert len(said) == 4
    assert all(" points for this encoder (95 % CI" in line for line in said)


def test_the_trend_is_the_least_squares_line_over_doublings(made):
    (few, _) = trends(made)
    assert few.arms == ("first", "second", "third")
    means = [one.difference.mean for one in made.contrasts if one.labels == 50 and one.arm in few.arms]
    slope, level = np.polyfit([0, 1, 2], means, 1)  # doublings of 1000
    assert few.per_doubling.mean == pytest.approx(slope)
    by_seed = [np.polyfit([0, 1, 2], [made.values(arm, 50)[seed] for arm in few.arms], 1)[0] for seed in range(3)]
    assert few.per_doubling.interval == pytest.approx(stats.t.interval(0.95, 2, np.mean(by_seed), stats.sem(by_seed)))
    assert (few.pictures, few.gain) == (16_000, pytest.approx(level + 4 * slope))


def test_a_line_is_over_the_seeds_that_all_of_its_arms_and_the_baseline_have(made):
    def without(arm, seed):
        cells = [cell for cell in made.cells if (cell.arm, cell.seed) != (arm, seed)]
        return trends(Comparison(cells, made.arms)), trends(
            Comparison([one for one in cells if one.seed != seed], made.arms)
        )

    for cell in made.cells:
        if (cell.arm, cell.seed) == ("third", 2):  # which makes the last step a loss
            cell.record["value"] -= 20
    assert [trend.flat for trend in trends(made)] == [True, True]
    for arm in ("first", "second", "random"):
        found, expected = without(arm, 2)
        assert found == expected
        assert [trend.flat for trend in found] == [False, False]


def test_encoders_of_which_there_are_fewer_before_a_step_are_said(made):
    for cell in made.cells:
        if cell.arm == "second":
            cell.record["init"] = cell.record["init"] | {"name": f"second{cell.seed}"}
            cell.record["init"]["provenance"] = SECOND | {"sha256": f"second{cell.seed}"}
    first, second = (step for step in steps(made) if step.labels == 50)
    assert (first.encoders, second.encoders) == ((3, 1), (1, 3))
    said = [line for line in continuation(made) if line.startswith("Going on") and "at 50 labels" in line]
    assert [" points against this encoder (" in said[0], " points for this encoder (" in said[1]] == [True, True]


def test_a_stage_that_others_are_compared_with_is_on_the_line_at_0(made):
    against = Comparison(made.cells, sorted(made.arms, key=lambda arm: arm != "second"))
    assert against.baseline == "second"
    for trend, before in zip(trends(against), trends(made), strict=True):
        assert (trend.arms, trend.per_doubling) == (before.arms, before.per_doubling)
        gain = np.mean(list(made.values("second", trend.labels).values()))
        gain -= np.mean(list(made.values(made.baseline, trend.labels).values()))
        assert trend.gain == pytest.approx(before.gain - gain)


def test_a_curve_that_has_flattened_is_said_and_no_line_is_extended(made):
    for cell in made.cells:
        if cell.arm == "third" and cell.labels == 50:  # 400 still rises
            cell.record["value"] -= 3
    few, many = trends(made)
    assert (few.flat, many.flat) == (True, False)
    said = [line for line in continuation(made) if "line through" in line or "straight line" in line]
    assert said[0] == (
        "No line through first, second, third is extended at 50 labels: third gained nothing over second."
    )
    assert "at 400 labels; it would come to" in said[1]
    assert figures.continuation(made).count("extrapolated, 16,000") == 1


def test_a_slope_that_is_not_shown_is_not_extended(made):
    for cell in made.cells:
        if cell.arm == "third":  # seeds disagree on whether it rises
            cell.record["value"] += (cell.seed - 1) * 9
    assert [(trend.flat, trend.rises) for trend in trends(made)] == [(False, False)] * 2
    assert "points for each doubling of the pictures read (95 % CI −" in continuation(made)[-1]
    assert continuation(made)[-1].endswith(" are not shown.")
    assert "extrapolated" not in figures.continuation(made)


def test_another_recipe_ends_a_trend_but_is_still_a_step(made):
    for cell in made.cells:
        if cell.arm == "third":
            cell.record["init"]["provenance"]["terms"] = {"palette": 1.0}
    assert trends(made) == []
    assert {step.later for step in steps(made)} == {"second", "third"}


def test_a_trend_ends_where_another_recipe_goes_on(made):
    for cell in made.cells:
        if cell.arm == "other":  # goes on from the third, and learns something else
            cell.record["init"]["provenance"] |= {"terms": {"palette": 1.0}, "began_with": THIRD}
    assert [trend.arms for trend in trends(made)] == [("first", "second", "third")] * 2
    assert {step.later for step in steps(made)} == {"second", "third", "other"}


def test_it_is_said_and_drawn(made):
    said = continuation(made)
    assert said[0].startswith("Going on from first to second, from 1,000 to 2,000 pictures read, changes mAP by +")
    assert "extrapolation, not a measurement" in said[-1]
    drawn = figures.continuation(made)
    assert drawn.startswith("<svg")
    assert all(f">{text}<" in drawn for text in ("first, 1,000", "third, 4,000", "extrapolated, 16,000"))
    assert "other" not in drawn


def test_gains_and_their_line_are_drawn_over_the_pictures_read(made, monkeypatch):
    kept = []
    monkeypatch.setattr(figures, "_svg", lambda figure, title: kept.append(figure) or "")
    figures.continuation(made)
    (axes,) = kept[0].axes
    assert (axes.get_xscale(), axes.get_ylabel()) == ("log", "mAP points over random")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["50 labels", "400 labels"]
    read, arms = [1000, 2000, 4000], ("first", "second", "third")
    named = {text.get_text(): text.xy[0] for text in axes.texts}
    places = {f"{arm}, {number:,}": number for arm, number in zip(arms, read, strict=True)}
    assert named == places | {"extrapolated, 16,000": 16_000}
    colors = {line.get_label(): line.get_color() for line in axes.lines if line.get_label().endswith("labels")}
    for labels in (50, 400):
        own = [line for line in axes.lines if line.get_color() == colors[f"{labels} labels"] and len(line.get_xdata())]
        gains = [
            [made.values(arm, labels)[seed] - made.values("random", labels)[seed] for seed in range(3)] for arm in arms
        ]
        means = np.mean(gains, axis=1)
        ends = [stats.t.interval(0.95, 2, np.mean(gain), stats.sem(gain)) for gain in gains]
        slope, level = np.polyfit([0, 1, 2], means, 1)
        dots = [line.get_xydata()[0] for line in own if line.get_marker() == "o"]
        np.testing.assert_allclose(dots, np.column_stack([read, means]))
        bars = [line for line in own if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2]
        np.testing.assert_allclose([bar.get_xdata()[0] for bar in bars], read)
        np.testing.assert_allclose([bar.get_ydata() for bar in bars], ends)
        (dashed,) = (line for line in own if line.get_linestyle() == "--")
        np.testing.assert_allclose(dashed.get_xydata(), [[1000, level], [16_000, level + 4 * slope]])
        joined = [line.get_xydata() for line in own if line not in (*bars, dashed) and line.get_marker() != "o"]
        points = np.column_stack([read, means])
        np.testing.assert_allclose(joined, [points[:2], points[1:]])


def test_arms_from_noise_say_nothing_of_going_on(made):
    for cell in made.cells:
        cell.record["init"]["provenance"].pop("began_with", None)
    assert steps(made) == trends(made) == continuation(made) == []
    assert figures.continuation(made) == ""

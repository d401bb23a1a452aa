"""What is claimed, and what is not, in the words that a person reads."""

from pathlib import Path

import pytest

from tinct.evidence.findings import Comparison
from tinct.evidence.records import Cell
from tinct.evidence.wording import plain, pretraining_of, rows, sentence, sentences, signed


def cell(arm, labels, seed, value, init=None, **init_fields):
    """A bare record: enough for words."""
    made = {"seed": seed} if arm == "random" else {"terms": {"bins": 1.0}}
    named = {"name": init or arm, "provenance": made, **init_fields}
    record = {"init": named, "n_labels": labels, "seed": seed, "value": value, "metric": "map"}
    record |= {"protocol": "finetune", "labels": str(labels), "data": {"unreadable": []}}
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
    assert sentences(made) == [
        "Colour pretraining adds 6.1 mAP points (95 % CI 5.9 to 6.4, 5 paired seeds) at 158 labels; "
        "that is what 2.0 times the labels would give (2.0 to 2.1)."
    ]


def test_nothing_is_a_percentage_of_a_baseline_that_never_scored():
    made = compared(("random", [0.0, 0.0]), ("cgan", [1.0, 2.0]))
    assert made.contrasts[0].relative is None
    assert rows(made)[1].cells[-2] == "–"


@pytest.mark.parametrize(
    ("most", "short", "long"),
    [
        (31.5, "> 4.0 x", "more than 4.0 times the labels would give."),  # even the interval's low end is beyond
        (35.0, "> 4.0 x (1.6 to > 4.0)", "more than 4.0 times the labels would give (1.6 to > 4.0)."),
        (40.0, "2.1 x (1.3 to 3.6)", "that is what 2.1 times the labels would give (1.3 to 3.6)."),
    ],
)
def test_what_a_gain_is_worth_in_labels_is_as_uncertain_as_the_gain(most, short, long):
    made = compared(("random", [30, 30, 30]), ("cgan", [34.0, 35.5, 37.0]))  # +5.5 (1.77 to 9.23)
    made.cells.extend(cell("random", 632, seed, most) for seed in range(3))
    made = Comparison(made.cells, ["random", "cgan"])
    assert rows(made)[1].cells[-1] == short
    assert sentences(made)[0].endswith(long)


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
            "No gain shown: all 3 pairs agree, as they easily do on few pictures or labels, which gives no interval. "
            "Colour pretraining changed mAP by +0.0 points at 158 labels.",
        ),
        (
            [35],
            "No gain shown: one pair of seeds gives no interval. Colour pretraining changed mAP by +5.0 points for "
            "this encoder at 158 labels.",
        ),
    ],
)
def test_no_gain_in_words(values, expected):
    assert sentences(compared(("random", [30, 31, 32]), ("cgan", values))) == [expected]


def test_pairs_that_agree_are_no_gain():
    made = compared(("random", [30, 31]), ("cgan", [35.6, 36.6]))
    assert sentences(made)[0].startswith("No gain shown: all 2 pairs agree")
    assert not made.contrasts[0].gain
    assert rows(made)[1].cells[4:6] == ["+5.6", "–"]


def test_several_arms_are_told_apart_and_another_baseline_is_named():
    made = compared(("l1", [30, 31, 32]), ("cgan", [36, 37.5, 38]), ("bins", [40, 41.5, 42]))
    first, second = sentences(made)
    assert first.startswith("Colour pretraining (cgan) adds 6.2 mAP points (95 % CI")
    assert "at 158 labels, compared with l1; what that is worth in labels cannot be told: the baseline" in first
    assert second.startswith("Colour pretraining (bins)")


def test_random_weights_are_no_pretraining_and_the_baselines_encoder_counts():
    made = compared(("l1", [36, 37.5, 38]), ("random", [30, 31, 32]), ("cgan", [36, 37.5, 39]))
    assert sentences(made)[0].startswith("No gain shown: having random weights (random) costs 6.2 mAP points (95 % CI")
    for found in made.cells[:3]:
        found.record["init"]["name"] = "l1"
    said = sentences(Comparison(made.cells, made.arms))[1]
    assert said.startswith("No gain shown: colour pretraining (cgan) changes mAP by +0.3 points against this encoder (")


def test_random_weights_by_another_name_are_no_pretraining_either():
    made = compared(("l1", [36, 37.5, 38]), ("scratch", [30, 31, 32]))
    for found in made.cells[3:]:
        found.record["init"] |= {"name": "random", "provenance": {"seed": found.seed}}
    assert sentences(made)[0].startswith("No gain shown: having random weights costs 6.2 mAP points (95 % CI")


def test_pairs_that_share_encoders_are_said_to():
    made = compared(("random", [30, 31, 32]), ("cgan", [36, 37, 38.5]), one_encoder=True)
    assert "adds 6.2 mAP points for this encoder (" in sentences(made)[0]
    for found in made.cells[3:5]:
        found.record["init"]["name"] = "another"
    assert "points for these 2 encoders (" in sentences(Comparison(made.cells, made.arms))[0]


@pytest.mark.parametrize(
    ("terms", "adversarial", "name", "expected"),
    [
        ({"bins": 1.0}, "none", "run", "Colour pretraining"),
        ({}, "hinge", "run", "Colour pretraining"),
        ({"l1": 1.0, "rotation": 0.5}, "bce", "run", "Colour and rotation pretraining"),
        ({"palette": 1.0, "siamese": 1.0}, "none", "run", "Colour and two-view pretraining"),
        ({"rotation": 1.0}, "none", "run", "Rotation pretraining"),
        ({"l1": 1.0, "flip": 1.0}, "none", "run", "Colour and flip pretraining"),
        ({"charbonnier": 1.0, "flip": 1.0}, "none", "run", "Charbonnier and flip pretraining"),
        ({}, "none", "imagenet-lite", "ImageNet pretraining"),
        ({}, "none", "timm:resnet18", "Pretraining"),
    ],
)
def test_rotation_is_never_called_colour_alone(terms, adversarial, name, expected):
    assert pretraining_of({"name": name, "provenance": {"terms": terms, "adversarial": adversarial}}) == expected


def test_earlier_runs_and_labels_are_part_of_the_name():
    stage = {"terms": {"bins": 1.0}, "began_with": {"terms": {"siamese": 1.0}, "adversarial": "none"}}
    assert pretraining_of({"name": "run", "provenance": stage}) == "Colour and two-view pretraining"
    labelled = {"terms": {"bins": 1.0}, "supervised": True, "began_with": {"weights": "imagenet"}}
    assert pretraining_of({"name": "run", "provenance": labelled}) == "Colour pretraining after ImageNet's labels"


@pytest.mark.parametrize("changed", [{"labels": "all"}, {"labels": "0.999", "all_labels": True}])
def test_seeds_that_repeat_each_other_are_no_evidence(changed):
    made = compared(("old", [62.5, 62.5, 62.5]), ("new", [62.8, 62.8, 62.80001]), one_encoder=True)
    for one in made.cells:
        one.record.update(protocol="linear", **changed)
    (said,) = sentences(made)
    assert said.startswith(
        "No gain shown: nothing differs from seed to seed, which gives no interval. Colour pretraining"
    )
    assert "+0.3" in said


@pytest.mark.parametrize(("low", "after"), [(7.5, ""), (-2.0, " Over other evaluated pictures it is not sure.")])
def test_a_probe_on_all_labels_is_said_to_vary_with_pictures_too(low, after):
    made = compared(("random", [30, 31, 32]), ("new", [40, 40, 40]), one_encoder=True)
    for one in made.cells:
        one.record.update(protocol="linear", labels="all")
    for one in made.cells[:3]:  # random weights follow from the seed
        one.record["init"]["provenance"] = {"seed": one.seed}
    (contrast,) = Comparison(made.cells, made.arms).contrasts
    vars(contrast)["bootstrap"] = (low, 35.4)  # what would be computed of predictions
    said = sentence(made, contrast)
    assert f"3 paired seeds; over evaluated pictures {plain(low)} to 35.4) at" in said
    assert said.endswith(after or ".")
    for one in made.cells:
        one.record["labels"] = "50"
    assert "over evaluated pictures" not in sentence(made, contrast)


def test_signs():
    assert [signed(value) for value in (1.26, -1.26, 0.0, -0.01)] == ["+1.3", "−1.3", "+0.0", "+0.0"]


def test_each_arm_whose_encoders_saw_evaluated_pictures_is_said_once():
    made = compared(("random", [1.0, 2.0]), ("mine", [3.0, 4.5]), ("other", [3.0, 4.5]))
    for found, count in zip(made.cells[2:5], (3, 5, 0), strict=True):
        found.record["data"]["seen_by_encoder"] = {"pictures": count, "names": ["a.jpg"]}
    said = [line for line in sentences(made) if "saw" in line]
    assert said == [
        "mine: its encoder saw 5 of the evaluated pictures, or near-copies of them, which the records name; what it "
        "gains may be less on others."
    ]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (1, "All evaluated pictures are of one group: there is no interval over them."),
        (2, "over 2 groups of them, each drawn as a whole, and with so few it is too narrow."),
        (20, "over 20 groups of them, each drawn as a whole."),
    ],
)
def test_groups_of_evaluated_pictures_are_said_where_they_matter(groups, said):
    made = compared(("random", [1.0, 2.0]), ("mine", [3.0, 4.5]))
    for found in made.cells:
        found.record["data"]["eval_groups"] = groups
    assert sentences(made)[-1].endswith(said) == (groups == 1)  # no predictions were kept
    vars(made.contrasts[0])["bootstrap"] = (1.0, 2.0)
    assert sentences(made)[-1].endswith(said)
    assert sentences(Comparison(made.cells[:2], made.arms[:1])) == []


def test_pictures_that_could_not_be_read_are_said():
    made = compared(("random", [1.0, 2.0]), ("mine", [3.0, 4.5]))
    made.cells[0].record["data"]["unreadable"] = ["b.jpg", "a.jpg"]
    made.cells[3].record["data"]["unreadable"] = ["a.jpg", "c.jpg", "d.jpg"]
    assert sentences(made)[-1] == (
        "4 labelled pictures could not be read and have no part in this: a.jpg, b.jpg, c.jpg, …."
    )

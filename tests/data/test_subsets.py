import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinct.data.subsets import drawn_split, label_subset, tuning_split
from tinct.errors import TinctError

seeds = st.integers(0, 2**32 - 1)


def presence(seed, count=200):
    """Labels of 6 classes: one never there, one once, one mostly unknown."""
    generator = np.random.default_rng(seed)
    labels = (generator.random((count, 6)) < [0.5, 0.2, 0.05, 0, 0, 0.3]).astype(np.float32)
    labels[generator.integers(count), 4] = 1
    labels[generator.random(count) < 0.8, 5] = np.nan
    labels[0, [1, 2, 5]] = 1
    return labels


@settings(max_examples=40, deadline=None)
@given(seeds, seeds)
def test_subsets_are_nested_and_keep_every_class(data_seed, seed):
    labels = presence(data_seed)
    there = (labels == 1).any(0)
    larger = np.arange(200)
    for amount, count in (("all", 200), (150, 150), ("0.5", 100), (0.25, 50), ("20", 20), ("0.05", 10), (5, 5)):
        subset = label_subset(labels, amount, seed)
        assert len(np.unique(subset)) == len(subset) == count
        assert np.isin(subset, larger).all()
        np.testing.assert_array_equal((labels[subset] == 1).any(0), there)
        larger = subset


def test_subsets_follow_from_the_seed_alone_and_differ_between_seeds():
    labels = presence(0)
    np.testing.assert_array_equal(label_subset(labels, 50, 1), label_subset(labels, 50, 1))
    assert set(label_subset(labels, 50, 1)) != set(label_subset(labels, 50, 2))


def test_a_subset_is_otherwise_a_fair_draw():
    labels = np.zeros((100, 1), np.float32)
    labels[:50] = 1
    drawn = np.zeros(100)
    for seed in range(400):
        drawn[label_subset(labels, 20, seed)] += 1
    assert drawn[:50].sum() == pytest.approx(400 * 10, rel=0.03)
    assert 40 < drawn.min() < drawn.max() < 130  # each about 80 +- 8


@pytest.mark.parametrize("amount", [0, -3, 201, 1.5, 0.0, "1.2", "many", "nan", "inf", "", "-1"])
def test_impossible_amounts_are_refused(amount):
    with pytest.raises(TinctError, match=r"expected a count of 1 to 200"):
        label_subset(presence(0), amount, 0)


def test_a_share_of_less_than_one_picture_says_so():
    with pytest.raises(TinctError, match=r"0.001 labels: that share of 200 is less than one picture"):
        label_subset(presence(0), 0.001, 0)


def test_too_few_labels_for_the_classes_are_refused():
    with pytest.raises(TinctError, match="at least 3 of 6 are needed"):
        label_subset(np.eye(6)[:, :3], 2, 0)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_tuning_part_is_fixed_and_disjoint_and_leaves_every_class(data_seed):
    labels = presence(data_seed)
    tuning, rest = tuning_split(labels)
    np.testing.assert_array_equal(np.sort(np.concatenate([tuning, rest])), np.arange(200))
    assert len(tuning) == 40
    np.testing.assert_array_equal((labels[rest] == 1).any(0), (labels == 1).any(0))
    np.testing.assert_array_equal(tuning_split(labels)[0], tuning)


def test_too_few_pictures_for_a_tuning_part_are_refused():
    with pytest.raises(TinctError, match="too few"):
        tuning_split(np.eye(4))


@pytest.mark.parametrize("sizes", [[1] * 100, [5] * 20, [34, 33, 33], [50, 8, 8, 7, 7, 7, 7, 6], [11] * 6 + [1] * 34])
def test_a_tuning_part_has_whole_groups(sizes):
    groups = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = presence(1, 100)[:, :4]
    tuning, rest = tuning_split(labels, groups)
    assert not set(groups[tuning]) & set(groups[rest])
    np.testing.assert_array_equal(np.sort(np.concatenate([tuning, rest])), np.arange(100))
    assert 10 <= len(tuning) < 40
    np.testing.assert_array_equal((labels[rest] == 1).any(0), (labels == 1).any(0))


def test_with_too_few_groups_a_tuning_part_is_drawn_as_without():
    for groups in (np.zeros(200), np.arange(200) // 100, np.arange(200) < 3):
        np.testing.assert_array_equal(tuning_split(presence(1), groups)[0], tuning_split(presence(1))[0])


NAMES = [f"pictures/{number:03}.jpg" for number in range(400)]


def test_val_is_about_a_fifth_of_each_group_and_never_all_or_nothing_of_one():
    groups = np.array(["a"] * 390 + ["b"] * 4 + ["c"] * 3 + ["d"] * 2 + ["e"])
    held = drawn_split(NAMES, "val", groups)
    assert 60 <= held[:390].sum() <= 96  # 78, and 2.3 standard deviations
    assert all(0 < held[groups == group].sum() < (groups == group).sum() for group in "bcd")
    assert not held[-1]


def test_a_picture_stays_on_its_side_when_others_come_go_or_change_places():
    held = dict(zip(NAMES, drawn_split(NAMES, "val"), strict=True))
    order = np.random.default_rng(0).permutation(400)
    for part in (order, order[:300], order[300:]):
        names = [NAMES[index] for index in part]
        assert [held[name] for name in names] == drawn_split(names, "val").tolist()


def test_pictures_of_one_name_are_on_one_side():
    for count in (1, 2, 3, 40):  # of two or three, one has to change over
        names = [f"camera {number % count}" for number in range(120)]
        train, val = (
            {name for name, held in zip(names, drawn_split(names, split), strict=True) if held}
            for split in ("train", "val")
        )
        assert not train & val
        assert len(train | val) == count
        assert bool(val) == (count > 1)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tinct.data.random import rng
from tinct.errors import TinctError
from tinct.evidence.statistics import (
    bootstrap_difference,
    paired_difference,
    resampled_map,
    resampled_miou,
    worth_in_labels,
)
from tinct.metrics import multilabel_scores, segmentation_scores


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)), min_size=2, max_size=8))
def test_interval_is_scipys(pairs):
    treated, baseline = zip(*pairs, strict=True)
    got = paired_difference(treated, baseline)
    assert got.pairs == len(pairs)
    assert got.mean == pytest.approx(np.mean(treated) - np.mean(baseline), abs=1e-9)
    if np.ptp(np.subtract(treated, baseline)) > 1e-4:
        expected = stats.ttest_rel(treated, baseline).confidence_interval(0.95)
        assert got.interval == pytest.approx((expected.low, expected.high), rel=1e-6, abs=1e-6)


def test_one_pair_has_no_interval_nor_have_equal_differences():
    assert paired_difference([3.0], [1.0]).interval is None
    same = paired_difference([100 / 3 + 5.6, 50.0], [100 / 3, 44.4])  # equal but for rounding
    assert (same.mean, same.interval, same.pairs) == (pytest.approx(5.6), None, 2)
    assert paired_difference([1.0, 1.00009], [0.0, 0.0]).interval is None
    assert paired_difference([1.0, 1.00011], [0.0, 0.0]).interval is not None
    for values in ([1.0, 2.0], []):
        with pytest.raises(TinctError, match=f"{len(values)} and {len(values[1:])} values; expected equal numbers"):
            paired_difference(values, values[1:])


def drawn_resamples(pictures, resamples):
    """The picture indices of each resample, from the counts that the bootstrap draws."""
    counts = rng(0, pictures).multinomial(pictures, np.full(pictures, 1 / pictures), size=resamples)
    return [np.repeat(np.arange(pictures), row) for row in counts]


def multilabel_case(seed):
    """Four classes, many ties, unknown labels, and one class so rare that resamples miss it."""
    generator = np.random.default_rng(seed)
    scores = np.round(generator.normal(0, 2, (30, 4)))
    labels = (generator.random((30, 4)) < 0.4).astype(np.float32)
    labels[generator.random((30, 4)) < 0.2] = np.nan
    labels[:, 3] = 0
    labels[generator.integers(30), 3] = 1
    return scores, labels


@pytest.mark.parametrize(("seed", "eleven_point"), [(0, False), (1, False), (2, True), (3, True)])
def test_resampled_map_is_the_metric_on_naive_resamples(seed, eleven_point, monkeypatch):
    monkeypatch.setattr("tinct.evidence.statistics.RESAMPLES", 20)
    scores, labels = multilabel_case(seed)
    got = resampled_map(scores, labels, eleven_point)
    both = torch.tensor(scores), torch.tensor(labels)
    expected = [
        100 * multilabel_scores(*(part[drawn] for part in both), "abcd", eleven_point=eleven_point).mean_ap
        for drawn in drawn_resamples(30, 20)
    ]
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_resampled_miou_is_the_metric_on_naive_resamples(seed, monkeypatch):
    monkeypatch.setattr("tinct.evidence.statistics.RESAMPLES", 20)
    generator = np.random.default_rng(seed)
    confusions = generator.integers(0, 50, (12, 4, 4))
    confusions[1:, 2] = 0  # class 2 is in one picture only
    got = resampled_miou(confusions, [0, 2, 3])
    expected = [
        100 * segmentation_scores(torch.tensor(confusions[drawn].sum(0)), "abcd", [2, 3], background=0).mean_iou
        for drawn in drawn_resamples(12, 20)
    ]
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_a_resample_without_any_positive_has_no_score():
    scores, labels = np.array([[0.5], [0.3], [0.9]]), np.array([[0.0], [1.0], [0.0]])
    found = resampled_map(scores, labels)
    missed = [1 not in drawn for drawn in drawn_resamples(3, 1000)]  # a thousand, as docs/compare.md says
    assert 200 < sum(missed) < 400
    assert np.isnan(found).tolist() == missed
    confusions = np.zeros((3, 2, 2), int)
    confusions[1, 1] = 3, 1
    assert np.isnan(resampled_miou(confusions, [1])).tolist() == missed
    assert np.nanmax(resampled_miou(confusions, [1])) == np.nanmin(resampled_miou(confusions, [1])) == 25


def test_blocks_of_resamples_do_not_change_them(monkeypatch):
    scores, labels = multilabel_case(0)
    monkeypatch.setattr("tinct.evidence.statistics.RESAMPLES", 50)
    whole = resampled_map(scores, labels)
    monkeypatch.setattr("tinct.evidence.statistics._BLOCK", 30 * 7)
    np.testing.assert_array_equal(resampled_map(scores, labels), whole)


def test_pictures_of_a_group_are_drawn_together(monkeypatch):
    """Each picture three times over: in groups, that is as if each were there once."""
    monkeypatch.setattr("tinct.evidence.statistics.RESAMPLES", 50)
    scores, labels = multilabel_case(0)
    copied = rng(7).permutation(np.repeat(np.arange(30), 3))
    found = resampled_map(scores[copied], labels[copied], groups=10 * copied - 5)
    np.testing.assert_allclose(found, resampled_map(scores, labels), rtol=1e-12)
    assert not np.allclose(found, resampled_map(scores[copied], labels[copied]))
    confusions = rng(8).integers(0, 50, (30, 4, 4))
    found = resampled_miou(confusions[copied], [0, 2, 3], copied)
    np.testing.assert_allclose(found, resampled_miou(confusions, [0, 2, 3]), rtol=1e-12)


def test_the_ends_of_the_bootstrap_are_its_quantiles():
    generator = np.random.default_rng(0)
    treated, baseline = generator.normal(3, 2, (2, 1001)), generator.normal(0, 1, (2, 1001))
    mean = sorted((treated[0] - baseline[0] + treated[1] - baseline[1]) / 2)
    assert bootstrap_difference(list(treated), list(baseline)) == pytest.approx((mean[25], mean[975]))
    unknown = np.append(treated, np.full((2, 7), np.nan), axis=1)  # resamples without any positive
    found = bootstrap_difference(list(unknown), list(np.append(baseline, np.zeros((2, 7)), axis=1)))
    assert found == pytest.approx((mean[25], mean[975]))


def test_the_bootstrap_is_paired():
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 3)) < 0.3).astype(np.float64)
    weak = labels + generator.normal(0, 1.5, labels.shape)
    strong = resampled_map(weak + 0.3 * labels, labels)
    low, high = bootstrap_difference([strong], [resampled_map(weak, labels)])
    assert high - low < np.ptp(np.quantile(strong, [0.025, 0.975])) / 2


@pytest.mark.parametrize(
    ("labels", "value", "times", "at_least", "reason"),
    [
        (100, 35.0, 2.0, False, ""),  # halfway from 100 to 400 on logarithmic labels
        (100, 40.0, 4.0, False, ""),
        (100, 45.0, 4 * 2**0.5, False, ""),
        (100, 55.0, 8.0, True, ""),
        (400, 45.0, 2**0.5, False, ""),
        (100, 30.0, None, False, "no gain"),
        (800, 60.0, None, False, "not trained on more labels"),
    ],
)
def test_worth_in_labels(labels, value, times, at_least, reason):
    worth = worth_in_labels({800: 50.0, 100: 30.0, 400: 40.0}, labels, value)
    assert worth.times == (None if times is None else pytest.approx(times))
    assert worth.at_least == at_least
    assert reason in worth.reason
    assert bool(worth.reason) == (times is None)


def test_a_dip_of_the_baseline_is_passed_over():
    assert worth_in_labels({10: 5.0, 20: 4.0, 40: 8.0}, 10, 6.0).times == pytest.approx(2 * 2**0.5)

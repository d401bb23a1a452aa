import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from tinct.data.base import VOID
from tinct.errors import TinctError
from tinct.metrics import confusions, multilabel_scores, scored_classes, segmentation_scores

seeds = st.integers(0, 2**32 - 1)


def multilabel_case(seed, ties):
    """Random scores and labels of 5 classes: one absent, one with unknowns only, unknowns in the others."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 60))
    scores = generator.normal(0, 30, (count, 5))
    if ties:
        scores = np.round(scores / 30)
    labels = (generator.random((count, 5)) < generator.random(5)).astype(np.float32)
    labels[generator.random((count, 5)) < 0.2] = np.nan
    labels[0, 0] = 1
    labels[:, 3][labels[:, 3] == 1] = 0
    labels[:, 4] = np.nan
    return scores, labels


@settings(max_examples=30, deadline=None)
@given(seeds, st.booleans(), st.sampled_from([0.0, 0.5, -1.0]))
def test_average_precision_and_f1_are_scikit_learns(seed, ties, threshold):
    scores, labels = multilabel_case(seed, ties)
    got = multilabel_scores(torch.tensor(scores), torch.tensor(labels), "abcde", threshold=threshold)
    precision, f1 = {}, {}
    for index, name in enumerate("abcde"):
        known = ~np.isnan(labels[:, index])
        truth = labels[known, index]
        if truth.sum() > 0:
            precision[name] = average_precision_score(truth, scores[known, index])
            f1[name] = f1_score(truth, scores[known, index] > threshold)
    assert got.average_precision == pytest.approx(precision, abs=1e-5)
    assert got.f1 == pytest.approx(f1, abs=1e-6)
    assert got.mean_ap == pytest.approx(np.mean(list(precision.values())), abs=1e-5)
    assert got.mean_f1 == pytest.approx(np.mean(list(f1.values())), abs=1e-6)
    assert not {"d", "e"} & set(got.average_precision)


def devkit_eleven_point(scores, truth):
    """VOCevaldet.m / VOCevalcls.m of the VOC2007 development kit, line by line (no ties)."""
    order = np.argsort(-scores)
    tp, fp = np.cumsum(truth[order] == 1), np.cumsum(truth[order] == 0)
    recall, precision = tp / (truth == 1).sum(), tp / (fp + tp)
    average = 0.0
    for tenth in range(11):
        reached = precision[recall * 10 >= tenth - 1e-9]
        average += (reached.max() if reached.size else 0.0) / 11
    return average


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_eleven_point_precision_is_the_development_kits(seed):
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 80))
    scores, truth = generator.permutation(count) * 1.0, generator.integers(0, 2, count)
    truth[0] = 1
    got = multilabel_scores(
        torch.tensor(scores[:, None]), torch.tensor(truth[:, None]).float(), ["a"], eleven_point=True
    )
    assert got.mean_ap == pytest.approx(devkit_eleven_point(scores, truth), abs=1e-5)


def test_logits_that_a_sigmoid_would_tie_stay_apart():
    scores, labels = torch.tensor([[40.0], [50.0], [60.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    assert multilabel_scores(scores, labels, ["a"]).mean_ap == 1


def test_means_are_over_the_scored_classes_only():
    scores = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    got = multilabel_scores(scores, labels, ["a", "b", "never"], scored=[0, 2])
    assert (got.mean_ap, got.mean_ap_all) == (1.0, 0.75)
    assert (got.mean_f1, got.f1) == (1.0, {"a": 1.0, "b": pytest.approx(2 / 3)})
    with pytest.raises(TinctError, match="positive"):
        multilabel_scores(scores, labels, ["a", "b", "never"], scored=[2])


def test_diverged_scores_are_refused():
    with pytest.raises(TinctError, match="NaN"):
        multilabel_scores(torch.tensor([[torch.nan]]), torch.ones(1, 1), ["a"])


def test_scored_classes_need_enough_positives():
    presence = torch.tensor([[1, 1, torch.nan], [1, 0, 1], [1, 1, 0]])
    assert scored_classes(presence, 2) == [0, 1]
    assert scored_classes(presence == 1, 3) == [0]
    with pytest.raises(TinctError, match=r"the most frequent has 3\).*lower min_positives \(tinct transfer --min-pos"):
        scored_classes(presence, 4)


def naive_iou(prediction, mask, classes):
    iou = {}
    for index in range(classes):
        inter = union = true = 0
        for p, m in zip(prediction.ravel().tolist(), mask.ravel().tolist(), strict=True):
            if m == VOID:
                continue
            inter += p == index and m == index
            union += p == index or m == index
            true += m == index
        if true:
            iou[str(index)] = inter / union
    return iou


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_iou_is_a_naive_count_however_the_pictures_are_batched(seed):
    generator = np.random.default_rng(seed)
    classes, count = int(generator.integers(2, 6)), int(generator.integers(2, 5))
    present = generator.choice(classes, int(generator.integers(1, classes + 1)), replace=False)  # others are absent
    mask = generator.choice(present, (count, 4, 5))
    prediction = generator.integers(0, classes, mask.shape)
    mask[generator.random(mask.shape) < 0.2] = VOID
    mask[0, 0, 0] = present[0]
    prediction, mask = torch.tensor(prediction), torch.tensor(mask)
    whole = confusions(prediction, mask, classes)
    cut = int(generator.integers(1, count))
    parts = [confusions(prediction[part], mask[part], classes) for part in (slice(cut), slice(cut, None))]
    assert torch.equal(whole, torch.cat(parts))
    got = segmentation_scores(whole.sum(0), [str(index) for index in range(classes)])
    expected = naive_iou(prediction, mask, classes)
    assert got.iou == pytest.approx(expected)
    assert got.mean_iou == pytest.approx(np.mean(list(expected.values())))
    known = mask != VOID
    assert got.pixel_accuracy == pytest.approx(float((prediction == mask)[known].double().mean()))
    assert np.sum(got.confusion) == int(known.sum())


def test_background_joins_the_scored_classes_and_absent_ones_are_left_out():
    confusion = torch.tensor([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 5, 1], [0, 0, 0, 0]])
    got = segmentation_scores(confusion, ["background", "cat", "dog", "cow"], scored=[1, 3], background=0)
    assert got.mean_iou == pytest.approx((6 / 9 + 3 / 6) / 2)
    assert got.mean_iou_all == pytest.approx((6 / 9 + 3 / 6 + 5 / 6) / 3)
    with pytest.raises(TinctError, match="none of the 4"):
        segmentation_scores(confusion, ["background", "cat", "dog", "cow"], scored=[3])


@pytest.mark.parametrize(("prediction", "mask"), [(0, 7), (3, 0), (-1, 0)])
def test_values_out_of_range_are_refused(prediction, mask):
    with pytest.raises(TinctError, match="out of range"):
        confusions(torch.full((1, 2, 2), prediction), torch.full((1, 2, 2), mask), 3)

"""How sure a comparison is: paired differences, a bootstrap over pictures, and what a gain is worth in labels."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # of Student's t; scipy.stats takes a second to import

from tinct.data.random import rng
from tinct.errors import TinctError

__all__ = [
    "LEVEL",
    "Difference",
    "Worth",
    "bootstrap_difference",
    "paired_difference",
    "resampled_map",
    "resampled_miou",
    "worth_in_labels",
]

LEVEL = 0.95
"""The coverage of every interval."""
RESAMPLES = 1000
AGREE = 1e-4
"""Differences this near to each other are equal: scores of 0 to 100 are computed in single precision."""
_BLOCK = 2**17  # numbers in one block of resamples: 1 MB, which fits into a cache, takes half the time of 32


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, in the unit of what was compared.

    Attributes:
        mean: over pairs.
        interval: its lower and its upper end; None where there is none: of one pair, or where all pairs agree.
        pairs: how many.
    """

    mean: float
    interval: tuple[float, float] | None
    pairs: int


@dataclass(frozen=True)
class Worth:
    """How many times the labels a gain is worth.

    Attributes:
        times: the factor, 1 or more; None where it cannot be told.
        at_least: the baseline never got there, so `times` is a lower bound.
        reason: why it cannot be told.
    """

    times: float | None
    at_least: bool = False
    reason: str = ""


def paired_difference(treated: Sequence[float], baseline: Sequence[float]) -> Difference:
    """The mean of `treated - baseline` with Student's t interval over pairs.

    Where all pairs agree there is no interval: of width zero it would say that a few pictures, on which scores can
    only be some steps apart, leave no doubt.

    Args:
        treated: one value a pair.
        baseline: the same pairs in the same order.

    Raises:
        TinctError: no pairs, or their numbers differ.
    """
    if len(treated) != len(baseline) or not treated:
        raise TinctError(
            f"{len(treated)} and {len(baseline)} values; expected equal numbers of paired values, 1 or more"
        )
    differences = np.subtract(treated, baseline)
    mean, pairs = float(differences.mean()), len(differences)
    if pairs == 1 or np.ptp(differences) < AGREE:
        return Difference(mean, None, pairs)
    half = float(stdtrit(pairs - 1, 0.5 + LEVEL / 2) * differences.std(ddof=1) / math.sqrt(pairs))
    return Difference(mean, (mean - half, mean + half), pairs)


def bootstrap_difference(
    treated: Sequence[NDArray[np.float64]], baseline: Sequence[NDArray[np.float64]]
) -> tuple[float, float]:
    """The percentile interval (Efron and Tibshirani 1993, section 13.3) of the mean paired difference.

    Args:
        treated: for each pair, the metric on each resample (R,), from `resampled_map` or `resampled_miou`.
        baseline: the same for the other arm, on the same resamples.
    """
    difference = np.mean(treated, axis=0) - np.mean(baseline, axis=0)
    low, high = np.nanquantile(difference, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)


def resampled_map(
    scores: NDArray[np.floating],
    labels: NDArray[np.floating],
    eleven_point: bool = False,
    groups: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """mAP in 0..100 on bootstrap resamples of the pictures: (RESAMPLES,).

    The resamples follow from the pictures' number and groups, so two models scored on one set are scored on the same.
    AP is what `tinct.metrics.multilabel_scores` computes, ties taken together; a class that a resample holds no
    positive of is left out of that resample's mean.

    Args:
        scores: (N, C) of any range, the scored classes only.
        labels: (N, C), 1, 0, or NaN = unknown.
        eleven_point: VOC2007's AP (Everingham et al. 2010, section 4.2) rather than the area.
        groups: (N,) equal for pictures that are drawn together; each is by itself without.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    parts = []
    for weights in _weights(len(scores), groups):
        precision = [
            _average_precision(weights, scores[order[:, c], c], labels[order[:, c], c], order[:, c], eleven_point)
            for c in range(scores.shape[1])
        ]
        parts.append(_mean_of_known(np.stack(precision, axis=1)))
    return 100 * np.concatenate(parts)


def resampled_miou(
    confusions: NDArray[np.integer], scored: Sequence[int], groups: NDArray[np.integer] | None = None
) -> NDArray[np.float64]:
    """mIoU in 0..100 on bootstrap resamples of the pictures: (RESAMPLES,); the same resamples as `resampled_map`.

    Args:
        confusions: (N, K, K) pixel counts of each picture, row = truth, column = prediction.
        scored: the classes of the mean, background included where it counts; one without a true pixel in a resample
            is left out of that resample's mean.
        groups: as of `resampled_map`.
    """
    counts = np.asarray(confusions, np.float64)
    right = np.diagonal(counts, axis1=1, axis2=2)[:, scored]
    truth, predicted = counts.sum(2)[:, scored], counts.sum(1)[:, scored]
    parts = []
    for weights in _weights(len(counts), groups):
        hit, true, said = weights @ right, weights @ truth, weights @ predicted
        iou = np.divide(hit, true + said - hit, out=np.full_like(hit, np.nan), where=true > 0)
        parts.append(_mean_of_known(iou))
    return 100 * np.concatenate(parts)


def worth_in_labels(curve: Mapping[int, float], labels: int, value: float) -> Worth:
    """How many times the labels the baseline needs to reach what another arm reached.

    The baseline between two label counts is read off the straight line on logarithmic labels.

    Args:
        curve: the baseline's mean at each number of labels, `labels` among them.
        labels: at which the other arm was trained.
        value: the other arm's mean there, in the same unit.
    """
    if value <= curve[labels]:
        return Worth(None, reason="there is no gain")
    points = [(count, curve[count]) for count in sorted(curve) if count >= labels]
    if len(points) == 1:
        return Worth(None, reason="the baseline was not trained on more labels")
    for (fewer, below), (more, above) in itertools.pairwise(points):
        if above >= value:
            share = (value - below) / (above - below)
            return Worth(float((fewer / labels) * (more / fewer) ** share))
    return Worth(points[-1][0] / labels, at_least=True)


def _weights(pictures: int, groups: NDArray[np.integer] | None = None) -> Iterator[NDArray[np.float64]]:
    """How often each picture is in each resample, (block, pictures), block after block.

    Pictures of one group are drawn together, as many groups as there are (Davison and Hinkley 1997, section 3.8): those
    of one camera are alike, so that drawn one by one they would seem to tell more than they do.
    """
    of = np.arange(pictures) if groups is None else np.unique(groups, return_inverse=True)[1]
    drawn = _drawn(int(of.max()) + 1, RESAMPLES)
    block = max(1, _BLOCK // pictures)
    for start in range(0, RESAMPLES, block):
        yield drawn[start : start + block, of].astype(np.float64)


@lru_cache(maxsize=1)
def _drawn(units: int, resamples: int) -> NDArray[np.uint16]:
    """How often each of `units` is in each resample, (resamples, units): drawn once for all cells of a comparison."""
    generator, share = rng(0, units), np.full(units, 1 / units)
    return np.stack([generator.multinomial(units, share).astype(np.uint16) for _ in range(resamples)])


def _average_precision(
    weights: NDArray[np.float64],
    scores: NDArray[np.floating],
    labels: NDArray[np.floating],
    order: NDArray[np.integer],
    eleven_point: bool,
) -> NDArray[np.float64]:
    """AP of one class on each resample, (R,); NaN without a positive. `scores` and `labels` are sorted by `order`."""
    known = ~np.isnan(labels)
    scores, labels, order = scores[known], labels[known], order[known]
    positive = np.flatnonzero(labels == 1)
    if not len(positive):
        return np.full(len(weights), np.nan)
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))  # pictures of one score are taken together
    ends = np.unique(last[np.searchsorted(last, positive)])  # where no positive comes in, precision only falls
    counted = weights[:, order[: ends[-1] + 1]]
    said = np.cumsum(np.add.reduceat(counted, [0, *ends[:-1] + 1], axis=1), axis=1)
    hit = np.cumsum(counted[:, positive], axis=1)[:, np.searchsorted(positive, ends, side="right") - 1]
    positives, precision = hit[:, -1:], hit / np.maximum(said, 1)
    if eleven_point:
        reached = [hit >= (tenth / 10 - 1e-6) * positives for tenth in range(11)]
        average = np.mean([np.where(level, precision, 0).max(1) for level in reached], axis=0)
    else:
        average = (np.diff(hit, axis=1, prepend=0) * precision).sum(1) / np.maximum(positives[:, 0], 1)
    return np.where(positives[:, 0] > 0, average, np.nan)


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row means without NaN; NaN for a row of nothing else."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0).sum(1), known.sum(1)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean

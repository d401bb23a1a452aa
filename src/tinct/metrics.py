"""What a transfer is judged by: average precision and F1 for multi-labels, IoU for masks.

One rule throughout: a class that the evaluated pictures do not hold is left out of a mean, never counted as 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_average_precision,
    binary_f1_score,
    binary_precision_recall_curve,
    multiclass_confusion_matrix,
)

from tinct.data.base import LOWER, MIN_POSITIVES, VOID
from tinct.errors import TinctError

__all__ = [
    "MultilabelScores",
    "SegmentationScores",
    "confusions",
    "multilabel_scores",
    "scored_classes",
    "segmentation_scores",
]


@dataclass(frozen=True)
class MultilabelScores:
    """Multilabel classification, all in [0, 1].

    Attributes:
        mean_ap: mean of `average_precision` over the scored classes: the figure to report.
        mean_ap_all: the same over every class that has a positive.
        average_precision: class name -> AP, for every class that has a positive.
        f1: class name -> F1 at the threshold, for the same classes.
        mean_f1: mean of `f1` over the scored classes.
    """

    mean_ap: float
    mean_ap_all: float
    average_precision: dict[str, float]
    f1: dict[str, float]
    mean_f1: float


@dataclass(frozen=True)
class SegmentationScores:
    """Semantic segmentation, all in [0, 1] but the counts.

    Attributes:
        mean_iou: mean of `iou` over the scored classes plus the background: the figure to report.
        mean_iou_all: the same over every class that the masks hold.
        iou: class name -> intersection over union, for every class that the masks hold.
        pixel_accuracy: share of right pixels among all that are not void.
        confusion: pixel counts, row = truth, column = prediction.
    """

    mean_iou: float
    mean_iou_all: float
    iou: dict[str, float]
    pixel_accuracy: float
    confusion: list[list[int]]


def scored_classes(presence: Tensor, minimum: int = MIN_POSITIVES) -> list[int]:
    """The classes that occur in enough pictures to be scored.

    Args:
        presence: (N, C), 1 = present, 0 = absent, NaN = unknown: the evaluated multi-labels, or mask presence.
        minimum: at least this many pictures must hold the class.

    Raises:
        TinctError: no class has that many.
    """
    counts = (presence == 1).sum(0)
    if (counts >= minimum).any():
        return torch.nonzero(counts >= minimum).flatten().tolist()
    most = int(counts.max()) if counts.numel() else 0
    raise TinctError(
        f"no class has {minimum} positives among the {len(presence)} evaluated pictures (the most frequent has "
        f"{most}); evaluate more pictures, or {LOWER}"
    )


def multilabel_scores(
    scores: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    threshold: float = 0.0,
    eleven_point: bool = False,
) -> MultilabelScores:
    """Average precision and F1 of each class; a picture whose label is unknown is left out for that class.

    Args:
        scores: (N, C) real numbers of any range, higher = surer; logits if `threshold` is left alone.
        labels: (N, C), 1 = present, 0 = absent, NaN = unknown.
        classes: C names.
        scored: the classes of the two means; None for all. Those without a positive are left out.
        threshold: F1 counts a score above it as "present".
        eleven_point: VOC2007's AP, the mean of the best precision at recall >= 0, 0.1, ..., 1 (Everingham et al.
            2010, section 4.2), rather than the area under the step curve.

    Raises:
        TinctError: a score is not a number, or no scored class has a positive.
    """
    if bool(torch.isnan(scores).any()):
        raise TinctError("a predicted score is NaN: the model diverged; train it with a lower learning rate")
    precision, f1 = {}, {}
    average = _eleven_point_precision if eleven_point else binary_average_precision
    for index, name in enumerate(classes):
        known = ~torch.isnan(labels[:, index])
        truth, score = labels[known, index].long(), scores[known, index]
        if not bool(truth.any()):
            continue
        precision[name] = float(average(_ranks(score), truth))
        f1[name] = float(binary_f1_score((score > threshold).long(), truth))
    means = [name for name in _names(classes, scored) if name in precision]
    if not means:
        raise TinctError(f"none of the {len(classes)} classes has a positive among the {len(labels)} pictures")
    return MultilabelScores(
        mean_ap=_mean(precision, means),
        mean_ap_all=_mean(precision, list(precision)),
        average_precision=precision,
        f1=f1,
        mean_f1=_mean(f1, means),
    )


def confusions(prediction: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Count pixels, picture by picture: (B, classes, classes) int64, row = truth, column = prediction.

    Sums over pictures and batches are the counts of the whole set, so nothing depends on how it was batched, and a
    bootstrap resamples pictures without looking at pixels again.

    Args:
        prediction: (B, H, W) integers in 0 ... classes-1.
        mask: (B, H, W) integers in the same range, or `VOID`: not counted.
        classes: the number of mask classes.

    Raises:
        TinctError: a value is out of range.
    """
    prediction, mask = prediction.long(), mask.long()
    for what, values in (("predicted class", prediction), ("mask value", mask[mask != VOID])):
        wrong = values[(values < 0) | (values >= classes)]
        if wrong.numel():
            raise TinctError(f"{what} {int(wrong[0])} is out of range: expected 0 to {classes - 1}")
    return torch.stack(
        [
            multiclass_confusion_matrix(predicted, truth, classes, ignore_index=VOID, validate_args=False)
            for predicted, truth in zip(prediction, mask, strict=True)
        ]
    )


def segmentation_scores(
    confusion: Tensor,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    background: int | None = None,
) -> SegmentationScores:
    """IoU = TP / (TP + FP + FN) of each class, over all pixels of the evaluated set together, as VOC does.

    Args:
        confusion: (C, C) pixel counts: the sum of `confusions` over pictures.
        classes: C names of the mask's classes.
        scored: the classes of the mean, besides the background; None for all. A class without a true pixel is left
            out; what was wrongly predicted as that class still counts against the classes it was taken from.
        background: the background's index, or None where every class is an object.

    Raises:
        TinctError: no scored class, nor the background, has a pixel.
    """
    right, truth, predicted = confusion.diag(), confusion.sum(1), confusion.sum(0)
    values = right.double() / (truth + predicted - right)
    iou = {name: float(values[index]) for index, name in enumerate(classes) if truth[index] > 0}
    wanted = set(_names(classes, scored)) | ({classes[background]} if background is not None else set())
    means = [name for name in iou if name in wanted]
    if not means:
        raise TinctError(f"none of the {len(classes)} mask classes has a pixel in the evaluated masks")
    return SegmentationScores(
        mean_iou=_mean(iou, means),
        mean_iou_all=_mean(iou, list(iou)),
        iou=iou,
        pixel_accuracy=float(right.sum().double() / truth.sum()),
        confusion=confusion.tolist(),
    )


def _ranks(scores: Tensor) -> Tensor:
    """Map (N,) scores to [0, 1], keeping order and ties.

    Torchmetrics puts scores outside [0, 1] through a sigmoid, which ties large logits that differ.
    """
    values, ranks = torch.unique(scores, return_inverse=True)
    return torch.as_tensor(ranks, dtype=torch.float64) / len(values)


def _eleven_point_precision(scores: Tensor, truth: Tensor) -> float:
    precision, recall, _ = binary_precision_recall_curve(scores, truth)
    precision, recall = precision[:-1], recall[:-1]  # the last point, (recall 0, precision 1), is made up
    levels = torch.linspace(0, 1, 11) - 1e-6  # recall is float32: 3 of 10 must reach level 0.3
    reached = recall[None, :] >= levels[:, None]
    return float(torch.where(reached, precision, 0).amax(1).mean())


def _names(classes: Sequence[str], indices: Sequence[int] | None) -> list[str]:
    return list(classes) if indices is None else [classes[index] for index in indices]


def _mean(values: dict[str, float], names: Sequence[str]) -> float:
    return sum(values[name] for name in names) / len(names)

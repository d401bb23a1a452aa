"""What frozen features are worth: logistic regression and nearest neighbours on pooled feature maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tinct.data.base import MIN_POSITIVES, LabelledSource
from tinct.downstream.examples import MEMORY, Chunk, Labelled, evaluation_chunks, open_labels
from tinct.downstream.features import extract
from tinct.metrics import multilabel_scores
from tinct.models.encoder import Encoder
from tinct.models.stem import Input

__all__ = ["LinearFit", "Neighbours", "fit_knn", "fit_linear", "probe_encoder"]

STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""L2 strengths to choose from, falling, for standardised features and the mean loss of a picture. Goyal et al. (2019,
appendix B.1) sweep the cost of each class's classifier over decades in the same way."""
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200, 400, 800, 1600)
TEMPERATURE = 0.07
"""Of the neighbours' weights exp(cosine / T), as in Wu et al. (2018), section 3.4."""
QUERIES = 1024
"""Pictures whose cosines with all labelled ones are held at a time."""
_HELD = WeakKeyDictionary[LabelledSource, dict[int, list[Chunk]]]()  # by size; gone with the labels, so never older


@dataclass(frozen=True)
class LinearFit:
    """A linear classifier on raw features: scores are `x @ weight.T + bias`.

    Attributes:
        weight: (C, D) float32.
        bias: (C,) float32.
        strengths: the L2 strength chosen for each class.
        chosen: whether there was a class to choose by; the strongest was taken where there was none.
    """

    weight: Tensor
    bias: Tensor
    strengths: tuple[float, ...]
    chosen: bool = True

    def scores(self, features: Tensor) -> Tensor:
        """(N, D) features to (N, C) logits."""
        return features @ self.weight.T + self.bias


def fit_linear(features: Tensor, labels: Tensor, tuning_features: Tensor, tuning_labels: Tensor) -> LinearFit:
    """Logistic regression of each class, its L2 strength of `STRENGTHS` by average precision on other pictures.

    Args:
        features: (N, D).
        labels: (N, C), 1, 0, or NaN = unknown: left out of that class's fit.
        tuning_features: (M, D), to choose on.
        tuning_labels: (M, C). A class without a positive or a negative here gets the strength that is best over
            the others; the strongest, where no class has both.
    """
    mean, deviation = statistics_of(features)
    x, tuning = ((values - mean) / deviation for values in (features, tuning_features))
    names = [str(index) for index in range(labels.shape[1])]
    weight, bias = x.new_zeros(labels.shape[1], x.shape[1]), x.new_zeros(labels.shape[1])
    told = (tuning_labels == 0).any(0)  # without negatives every ranking is perfect
    fits, precision = [], []
    for strength in STRENGTHS:  # each fit starts from the one before
        weight, bias = logistic(x, labels, strength, weight, bias)
        fits.append((weight, bias))
        found = multilabel_scores(tuning @ weight.T + bias, tuning_labels, names).average_precision
        precision.append([found.get(name, np.nan) if told[index] else np.nan for index, name in enumerate(names)])
    table = np.array(precision)
    chosen = not np.isnan(table).all()
    overall = np.nanmean(table, 1).argmax() if chosen else 0
    best = np.where(np.isnan(table).any(0), overall, np.nan_to_num(table).argmax(0))
    weight = torch.stack([fits[row][0][index] for index, row in enumerate(best)])
    bias = torch.stack([fits[row][1][index] for index, row in enumerate(best)])
    scaled = weight / deviation
    return LinearFit(scaled, bias - scaled @ mean, tuple(STRENGTHS[row] for row in best), chosen)


def statistics_of(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of features (N, D); infinite for a constant, which tells nothing."""
    mean, deviation = features.mean(0), features.std(0, correction=0)
    return mean, torch.where(deviation > 1e-6 * (1 + mean.abs()), deviation, torch.inf)


def logistic(x: Tensor, labels: Tensor, strength: float, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise, for every class at once, the mean over known labels of the logistic loss + strength / 2 |w|^2.

    Args:
        x: (N, D).
        labels: (N, C), NaN = unknown.
        strength: of the penalty; the bias has none.
        weight: (C, D) to start from.
        bias: (C,) to start from.
    """
    known = ~labels.isnan()
    targets, share = labels.nan_to_num(), known / known.sum(0).clamp(min=1)
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=200, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def objective() -> float:
        solver.zero_grad()
        losses = F.binary_cross_entropy_with_logits(x @ weight.T + bias, targets, reduction="none")
        total = (losses * share).sum() + strength / 2 * weight.square().sum()
        total.backward()
        return float(total.detach())

    solver.step(objective)
    return weight.detach(), bias.detach()


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours' votes: weighted by exp(cosine / 0.07) over standardised features.

    Attributes:
        features: (N, D) of the labelled pictures, standardised, each of length 1.
        labels: (N, C), NaN = unknown: no vote.
        mean: (D,) for standardising.
        deviation: (D,).
        k: how many neighbours vote.
    """

    features: Tensor
    labels: Tensor
    mean: Tensor
    deviation: Tensor
    k: int

    def scores(self, features: Tensor) -> Tensor:
        """(M, D) features to (M, C) shares of the votes, in [0, 1]."""
        return torch.cat([self._votes(part) for part in features.split(QUERIES)])

    def _votes(self, features: Tensor) -> Tensor:
        queries = F.normalize((features - self.mean) / self.deviation)
        near = (queries @ self.features.T).topk(min(self.k, len(self.features)))
        votes = ((near.values - near.values[:, :1]) / TEMPERATURE).exp()[:, :, None]
        labels = self.labels[near.indices]
        known = ~labels.isnan()
        return (votes * labels.nan_to_num()).sum(1) / (votes * known).sum(1).clamp(min=1e-12)


def fit_knn(features: Tensor, labels: Tensor, tuning_features: Tensor, tuning_labels: Tensor) -> Neighbours:
    """Nearest neighbours, their number chosen by mAP on other pictures; arguments as of `fit_linear`."""
    mean, deviation = statistics_of(features)
    unit = F.normalize((features - mean) / deviation)
    names = [str(index) for index in range(labels.shape[1])]
    candidates = [
        Neighbours(unit, labels, mean, deviation, k) for k in NEIGHBOURS if k <= max(len(features), NEIGHBOURS[0])
    ]
    return max(
        candidates,
        key=lambda candidate: multilabel_scores(candidate.scores(tuning_features), tuning_labels, names).mean_ap,
    )


def probe_encoder(encoder: Encoder, spec: str, size: int, input: Input = "grey") -> float:
    """Score an encoder's frozen features during pretraining, on labelled training pictures only.

    Features of the train split of `spec`, L2 strengths chosen on a fifth of what is not the tuning part, mAP on the
    tuning part (`tuning_split`: a fixed fifth of train), over its classes with 20 positives (over all where none has
    that many). A run that is steered by this has seen labels.

    Args:
        encoder: its mode and weights are left as they are.
        spec: a labelled source with multi-labels.
        size: of the centred squares, in pixels.
        input: what the encoder is fed.

    Returns:
        mAP, 0 to 100.

    Raises:
        TinctError: `spec` has no multi-labels, or too few pictures.
    """
    labelled = open_labels(spec, "train", "multilabel", size)
    evaluated, rest = labelled.parts()
    tuning, fitted = labelled.tuning_of(rest)
    features = extract(encoder, _squares(labelled, size), input)
    parts = [features.of(indices) for indices in (fitted, tuning, evaluated)]
    x, y = zip(*((part.values, torch.from_numpy(labelled.presence[part.indices])) for part in parts), strict=True)
    fit = fit_linear(x[0], y[0], x[1], y[1])
    scored = torch.nonzero((y[2] == 1).sum(0) >= MIN_POSITIVES).flatten().tolist()
    return 100 * multilabel_scores(fit.scores(x[2]), y[2], labelled.classes, scored or None).mean_ap


def _squares(labelled: Labelled, size: int) -> Iterator[Chunk]:
    """All labelled pictures of a split; the first ones, as far as `MEMORY` goes, are held between checkpoints."""
    held = _HELD.setdefault(labelled.source, {}).setdefault(size, [])
    yield from held
    done = sum(len(chunk.indices) + len(chunk.skipped) for chunk in held)
    room = MEMORY - sum(chunk.pixels.nbytes for chunk in held)
    for chunk in evaluation_chunks(labelled, labelled.known[done:], size):
        room -= chunk.pixels.nbytes
        if room >= 0:
            held.append(chunk)
        yield chunk

"""What is done with an encoder and labels: train a network on them, or fit on its frozen features."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from tinct.data.hashes import near
from tinct.data.labelled import score_threshold
from tinct.data.random import torch_seed
from tinct.device import own_draws
from tinct.downstream.examples import Examples, Labelled, evaluation_chunks
from tinct.downstream.features import STAGES, Features, cached_features
from tinct.downstream.finetune import train
from tinct.downstream.trained import build_network, logits_of, mask_of, shape_of
from tinct.errors import TinctError
from tinct.inits import Start, carried_decoder
from tinct.metrics import confusions, multilabel_scores, scored_classes, segmentation_scores
from tinct.models.heads import Classifier, Segmenter
from tinct.probe import fit_knn, fit_linear
from tinct.screen import say
from tinct.settings import TransferSettings
from tinct.shipped import resolve
from tinct.weights import load_strict

__all__ = ["Parts", "Result", "fit_probe", "near_copies", "score", "scored_in", "train_network"]

_HEAD = 0x4EAD  # the stream of random numbers that a head is drawn from


@dataclass(frozen=True)
class Parts:
    """Which pictures are for what.

    Attributes:
        train: the train split.
        chosen: its pictures whose labels may be used.
        tuning: its pictures to choose settings on.
        evaluated: the split that is scored.
        where: the pictures of it that are.
        all_labels: whether `chosen` is all that may be used, so that no seed draws another subset.
    """

    train: Labelled
    chosen: NDArray[np.int64]
    tuning: NDArray[np.int64]
    evaluated: Labelled
    where: NDArray[np.int64]
    all_labels: bool


@dataclass(frozen=True)
class Result:
    """What came of a protocol.

    Attributes:
        indices: (N,) the evaluated pictures.
        hashes: (N,) their difference hashes.
        output: (N, C) scores, or (N, K, K) confusions.
        skipped: name -> reason of the unreadable pictures of all parts.
        learned: (L,) the difference hashes of the labelled pictures used.
        tuned: those of the labelled pictures that a probe chose its strength on; a learning rate is chosen elsewhere.
        network: the trained network, or None where there is none to keep.
        shape: how to build it; see `build_network`.
        said: more on where weights came from.
        metrics: figures besides the scores.
    """

    indices: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    output: Tensor
    skipped: dict[str, str]
    learned: NDArray[np.uint64]
    network: nn.Module | None
    shape: dict[str, Any]
    said: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tuned: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))


def train_network(settings: TransferSettings, start: Start, parts: Parts, fabric: Fabric, console: Console) -> Result:
    """`finetune` and `frozen`: train a network, evaluate it once."""
    shape = shape_of(settings.task, parts.train.classes, settings.head)
    decoder, said = None, {}
    if settings.decoder == "carried":
        decoder, shape["stride"], shape["width"], said["decoder"] = carried_decoder(settings.init)
    with own_draws():
        torch.manual_seed(torch_seed(settings.seed, _HEAD))  # every arm's head starts alike
        network = build_network(start.encoder, shape)
    if decoder is not None and isinstance(network, Segmenter):
        load_strict(network.decoder, decoder, resolve(settings.init, "encoder").parent / said["decoder"])
    examples = Examples(parts.train, parts.chosen)
    model, loss = train(network, examples, settings, fabric, console)
    indices, hashes, outputs, skipped = [], [], [], dict(examples.skipped)
    model.eval()
    for chunk in evaluation_chunks(parts.evaluated, parts.where, settings.size):
        skipped |= named(parts.evaluated, chunk.skipped)
        if not len(chunk.indices):
            continue
        if chunk.masks is None:
            outputs.append(logits_of(model, chunk.pixels, settings.fed))
        else:
            predicted = mask_of(model, chunk.pixels[0], settings.fed, *chunk.masks.shape[1:])
            pair = torch.from_numpy(predicted)[None], torch.from_numpy(chunk.masks)
            outputs.append(confusions(*pair, len(shape["classes"])).int())
        indices.append(chunk.indices)
        hashes.append(chunk.hashes)
    if not outputs:
        name, reason = next(iter(skipped.items()))
        raise TinctError(f"no picture of the {settings.evaluate} split can be read; for instance {name}: {reason}")
    return Result(
        np.concatenate(indices),
        np.concatenate(hashes),
        torch.cat(outputs),
        skipped,
        examples.hashes,
        network.cpu().eval(),
        shape,
        said,
        {"train_loss": loss},
    )


def fit_probe(settings: TransferSettings, start: Start, parts: Parts, fabric: Fabric, console: Console) -> Result:
    """`linear` and `knn`: fit on features, with the strength or number that is best on the tuning part."""
    encoder = start.encoder.to(fabric.device)

    def features(labelled: Labelled, indices: NDArray[np.int64]) -> Features:
        return cached_features(encoder, labelled, indices, settings.size, settings.fed, settings.cache)

    say(console, "taking features")
    drawn_from = parts.chosen
    if settings.cache:  # all that any subset is drawn from, so that the subsets of a comparison share one pass
        drawn_from = np.setdiff1d(parts.train.known, parts.tuning)
    fitted, tuning = features(parts.train, drawn_from).of(parts.chosen), features(parts.train, parts.tuning)
    evaluated = features(parts.evaluated, parts.where)
    labels, tuning_labels = (torch.from_numpy(parts.train.presence[part.indices]) for part in (fitted, tuning))
    skipped = named(parts.train, fitted.skipped | tuning.skipped) | named(parts.evaluated, evaluated.skipped)
    shape = shape_of(settings.task, parts.train.classes, settings.head, STAGES, peaks=True)
    network: Classifier | None = None
    if settings.protocol == "linear":
        fit = fit_linear(fitted.values, labels, tuning.values, tuning_labels)
        if not fit.chosen:
            say(
                console,
                "the probe's strength could not be chosen: no class has both a positive and a negative among the "
                f"{len(tuning_labels)} pictures set aside for it; the strongest was taken",
            )
        output = fit.scores(evaluated.values)
        metrics: dict[str, Any] = {"l2": list(fit.strengths)}
        with own_draws():
            network = Classifier(encoder, len(shape["classes"]), STAGES, peaks=True).cpu().eval()
        network.linear.load_state_dict({"weight": fit.weight, "bias": fit.bias})
    else:
        neighbours = fit_knn(fitted.values, labels, tuning.values, tuning_labels)
        output = neighbours.scores(evaluated.values)
        metrics = {"neighbours": neighbours.k}
    return Result(
        evaluated.indices,
        evaluated.hashes,
        output,
        skipped,
        fitted.hashes,
        network,
        shape,
        metrics=metrics,
        tuned=tuning.hashes,
    )


def named(labelled: Labelled, skipped: dict[int, str]) -> dict[str, str]:
    """Reasons by the pictures' names rather than their indices."""
    return {labelled.source.name(index): reason for index, reason in skipped.items()}


def scored_in(evaluated: Labelled, indices: NDArray[np.int64], settings: TransferSettings) -> list[int]:
    """The classes that have enough positives among the pictures `indices`, which can be asked before any is read.

    A multilabel class that no picture is known to lack is left out: every score of it is perfect.

    Raises:
        TinctError: none has.
    """
    presence = torch.from_numpy(evaluated.presence[indices])
    if settings.task == "multilabel":
        enough = scored_classes(presence, settings.min_positives)
        scored = [index for index in enough if (presence[:, index] == 0).any()]  # any ranking of others is perfect
        if not scored:
            raise TinctError(
                f"{settings.source}: no evaluated picture is known to lack any class with {settings.min_positives} "
                "positives there; say 0 where a class is absent (an empty cell is unknown)"
            )
        return scored
    if evaluated.source.background is not None:
        presence[:, evaluated.source.background] = 0  # it is in every picture, and alone no evidence
    return scored_classes(presence, settings.min_positives)


def score(
    result: Result, evaluated: Labelled, settings: TransferSettings, scored: list[int]
) -> tuple[float, list[str], dict[str, Any]]:
    """The figure to report (0 to 100), the classes that it is over, and all other metrics.

    Args:
        result: what came of the protocol.
        evaluated: the split that is scored.
        settings: of the transfer.
        scored: what `scored_in` found; those without a positive in what could be read are left out.

    Raises:
        TinctError: no class is left, or a score is not a number.
    """
    names = evaluated.classes
    if settings.task == "multilabel":
        threshold = score_threshold(settings.protocol)
        presence = torch.from_numpy(evaluated.presence[result.indices])
        found = multilabel_scores(result.output, presence, names, scored, threshold, settings.eleven_point)
        value, metrics, within = found.mean_ap, asdict(found), found.average_precision
    else:
        background = evaluated.source.background
        masks = segmentation_scores(result.output.long().sum(0), names, scored, background)
        value, metrics, within = masks.mean_iou, asdict(masks), masks.iou  # a class may be lost in smaller masks
        scored = sorted({*scored, background}) if background is not None else scored
    return 100 * value, [names[index] for index in scored if names[index] in within], {**metrics, **result.metrics}


def near_copies(known: NDArray[np.uint64], evaluated: Labelled, result: Result) -> list[str]:
    """Names of the evaluated pictures that are among those whose difference hashes are `known`, or copies of them."""
    return [evaluated.source.name(int(index)) for index in result.indices[near(result.hashes, known)]]

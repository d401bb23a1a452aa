"""Transfer: an encoder and labels in, a score on pictures it never trained on out, as one record."""

import hashlib
import time
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from tinct.data.base import fingerprint_of
from tinct.data.subsets import label_subset
from tinct.data.transforms import WHOLE
from tinct.device import own_draws
from tinct.downstream.examples import Labelled, forget_labels, open_labels
from tinct.downstream.predictions import overlay_places, write_predictions
from tinct.downstream.protocols import Parts, Result, fit_probe, near_copies, score, scored_in, train_network
from tinct.downstream.trained import save_trained
from tinct.engine import make_fabric
from tinct.environment import environment
from tinct.errors import AbsentSplitError, TinctError
from tinct.evidence.findings import METRICS
from tinct.files import alone_in, expanded, write_json
from tinct.inits import Start, against_leak, inherited, load_init
from tinct.outputs import RECORD, check_out
from tinct.screen import open_console, say
from tinct.settings import TransferSettings

__all__ = ["contents_of", "parts_of", "run_cell", "run_transfer", "transfer"]

NAMED, LISTED = 50, 10
"""How many pictures a record names, and a warning, where there may be many."""
NOTES = {"mosaic:": "checks the plumbing; no evidence"}


def transfer(settings: TransferSettings, *, out: Path, predictions: bool = False) -> int:
    """Train on labels from an encoder, and score it on pictures that training never saw.

    Args:
        settings: what to do.
        out: folder for record.json, predictions.safetensors and model.safetensors.
        predictions: write predictions.csv (multilabel: probabilities, or shares of nearest neighbours' votes) and
            overlays too.

    Returns:
        0.

    Raises:
        TinctError: as `run_transfer`.
    """
    console = open_console(stderr=True)
    record = run_transfer(settings, out, predictions=predictions, console=console)
    scored, name = record["data"]["scored"], METRICS[record["metric"]]
    print(  # noqa: T201
        f"{name} {record['value']:.2f} over {len(scored)} classes, {record['n_labels']} labels, "
        f"{record['data']['eval_pictures']} pictures of {record['data']['eval_split']}"
        + (f" ({record['note']})" if record["note"] else "")
    )
    if rare := [name for name in record["data"]["classes"] if name not in scored]:
        want = f"for want of {settings.min_positives} positives there, or of a negative"
        say(open_console(), f"not scored, {want}: {', '.join(rare)}")
    return 0


def parts_of(settings: TransferSettings) -> Parts:
    """Which pictures the settings train on, choose on and score.

    Raises:
        TinctError: the labels cannot be opened, there are not as many as asked for, the splits have other classes, or a
            probe has no positive to choose its strength on.
    """
    labelled = open_labels(settings.source, "train", settings.task, settings.size, settings.cache)
    tuning, rest = labelled.parts()
    if settings.evaluate == "tuning":
        evaluated, where = labelled, tuning
        if not settings.trains:  # which need another part to choose their strength on
            tuning, rest = labelled.tuning_of(rest)
    else:
        evaluated = _evaluated(settings)
        evaluated.usable()  # or says why none is
        where = evaluated.known
        for number, (ours, theirs) in enumerate(zip_longest(labelled.classes, evaluated.classes)):
            if ours != theirs:
                raise TinctError(
                    f"{settings.source}: class {number} is {ours!r} in train and {theirs!r} in {settings.evaluate}; "
                    "give both splits the same classes in the same order"
                )
    if not settings.trains and not (labelled.presence[tuning] == 1).any():
        raise TinctError(
            f"{settings.source}: none of the {len(tuning)} training pictures set aside to choose the probe's strength "
            "on has any class; label more pictures, or take --protocol finetune"
        )
    chosen = rest[label_subset(labelled.presence[rest], settings.labels, settings.seed)]
    return Parts(labelled, chosen, tuning, evaluated, where, all_labels=len(chosen) == len(rest))


def _evaluated(settings: TransferSettings) -> Labelled:
    """The split that is scored.

    Raises:
        AbsentSplitError: the labels have no such split; names another where they have that.
    """
    try:
        return open_labels(settings.source, settings.evaluate, settings.task, settings.size, settings.cache)
    except AbsentSplitError as error:
        other = {"val": "test", "test": "val"}[settings.evaluate]
        try:
            open_labels(settings.source, other, settings.task, settings.size)
        except TinctError:
            raise error from None
        remedy = f"--evaluate {other} scores that one (in tinct compare: --settings evaluate={other})"
        raise AbsentSplitError(f"{error}; {remedy}") from error


def contents_of(parts: Parts) -> dict[str, str]:
    """What tells the pictures and labels of a record from others: digests of names, and of labels with their classes.

    Where evaluated pictures have groups, by which an interval over pictures draws them, of these too. Pictures without
    a label have no part in it, as they have none in a transfer.

    Of masks it is which classes each holds, not where they are; and what a segmenter sees of a picture that is scored,
    since that was a padded square once.
    """
    evaluated, known = parts.evaluated, parts.train.known
    labels = hashlib.sha256(repr((parts.train.classes, evaluated.classes)).encode())
    for presence in (parts.train.presence[known], evaluated.presence[parts.where]):
        labels.update(np.ascontiguousarray(presence).tobytes())

    def grouping(groups: NDArray[np.int64]) -> bytes:
        """Which of some pictures are of one group, whatever groups there are besides."""
        return np.unique(groups, return_inverse=True)[1].tobytes()

    if parts.train.source.groups is not None:  # they decide which part settings are chosen on
        labels.update(grouping(parts.train.source.groups[known]))
    groups = evaluated.source.groups
    drawn = {} if groups is None else {"groups_sha256": hashlib.sha256(grouping(groups[parts.where])).hexdigest()[:16]}
    return {
        "train_fingerprint": fingerprint_of(parts.train.source.name(int(index)) for index in known),
        "eval_fingerprint": fingerprint_of(evaluated.source.name(int(index)) for index in parts.where),
        "labels_sha256": labels.hexdigest()[:16],
        **drawn,
        **({"view": WHOLE} if evaluated.task == "segmentation" else {}),
    }


def run_transfer(
    settings: TransferSettings,
    out: str | Path,
    *,
    predictions: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train on a label subset, evaluate once, and write what came out.

    Calls in several threads take turns at each step, since torch has one stream of numbers for them; side by side they
    run in processes.

    Args:
        settings: what to do.
        out: a folder for record.json, predictions.safetensors and model.safetensors (nearest neighbours have none).
        predictions: write predictions.csv (multilabel) and overlays, too.
        console: where to say which weights were loaded, what to beware of, and how far it is; nowhere by default.

    Returns:
        The record, which is in record.json too.

    Raises:
        TinctError: the settings, the labels, the weights or the folder make it impossible, or training diverged.
    """
    if not isinstance(settings, TransferSettings):
        raise TinctError(f"settings is a {type(settings).__name__}; expected tinct.TransferSettings(source, task, ...)")
    forget_labels()  # in a notebook they may have been corrected since
    return run_cell(settings, expanded(out), predictions, keep_model=True, console=console)


def run_cell(
    settings: TransferSettings,
    out: Path,
    predictions: bool = False,
    keep_model: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """`run_transfer` for one of many on the same labels, which are read once for all of them."""
    settings.check()
    check_out(out, "transfer")
    _refuse_finished(out)
    console = console or Console(quiet=True)
    began = time.perf_counter()
    fabric = make_fabric(settings.accelerator, settings.precision)
    with own_draws():  # the caller's go on as they were
        start = load_init(
            settings.init,
            input=settings.input,
            backbone=settings.backbone,
            weights=settings.weights,
            seed=settings.seed,
        )
    say(console, start.report())
    settings = replace(settings, input="grey" if start.encoder.in_channels == 1 else "rgb")
    parts = parts_of(settings)
    evaluated = parts.evaluated
    classes = scored_in(evaluated, parts.where, settings)  # before anything is trained for it
    if predictions:
        overlay_places(evaluated.source.name(int(index)) for index in parts.where)
    with alone_in(out):
        _refuse_finished(out)  # another process may have ended one since
        work = train_network if settings.trains else fit_probe
        result = work(settings, start, parts, fabric, console)
        record = record_of(settings, start, parts, result, score(result, evaluated, settings, classes))
        record["seconds"] = round(time.perf_counter() - began, 3)
        warn(console, {**parts.train.bad, **result.skipped}, record["data"], inherited(start, result.hashes))
        try:
            if keep_model and result.network is not None:
                keep = ("task", "data", "init", "labels", "n_labels", "seed", "metric", "value")
                said = {"size": settings.size, "input": settings.fed, "background": evaluated.source.background}
                kept = {**said, "transfer": {key: record[key] for key in keep}}
                save_trained(out / "model.safetensors", result.network, start.encoder, result.shape, kept)
            write_predictions(out, result, evaluated, settings.size, settings.fed, predictions)
            write_json(out / RECORD, record)
        except TinctError as error:  # the disk is full, say: hours should not end without a figure
            raise TinctError(f"{error} (it scored {record['value']:.2f})") from error
        return record


def _refuse_finished(out: Path) -> None:
    if (out / RECORD).exists():
        raise TinctError(f"out is {out}, which holds a finished transfer; choose another folder")


def record_of(
    settings: TransferSettings,
    start: Start,
    parts: Parts,
    result: Result,
    scores: tuple[float, list[str], dict[str, Any]],
) -> dict[str, Any]:
    """All that is said of a transfer but the time it took; `scores` is what `score` gives."""
    value, scored, metrics = scores
    evaluated, groups = parts.evaluated, parts.evaluated.source.groups
    seen = [] if start.seen is None else near_copies(start.seen, evaluated, result)
    learned = near_copies(np.concatenate([result.learned, result.tuned]), evaluated, result)
    return {
        "what": "transfer",
        "task": settings.task,
        "protocol": settings.protocol,
        "data": {
            "spec": settings.source,
            **contents_of(parts),
            "eval_split": settings.evaluate,
            "eval_pictures": len(result.indices),
            **({} if groups is None else {"eval_groups": len(np.unique(groups[result.indices]))}),
            "classes": list(evaluated.classes),
            "scored": scored,
            "unreadable": sorted({**parts.train.bad, **result.skipped}),
            "seen_by_encoder": {"pictures": len(seen), "names": seen[:NAMED]},
            "seen_in_training": {"pictures": len(learned), "names": learned[:NAMED]},
        },
        "init": {
            "name": settings.init,
            "backbone": start.encoder.backbone,
            "provenance": {**start.provenance, **result.said},
            "keys_taken": len(start.taken),
        },
        "labels": settings.labels,
        "n_labels": len(result.learned),
        "all_labels": parts.all_labels,
        "seed": settings.seed,
        "size": settings.size,
        "input": settings.fed,
        "settings": asdict(settings),
        "metric": "map" if settings.task == "multilabel" else "miou",
        "value": value,
        "metrics": metrics,
        "note": NOTES.get(settings.source) or getattr(evaluated.source, "note", "") or None,
        **environment(),
    }


def warn(console: Console, skipped: dict[str, str], data: dict[str, Any], began: str | None = None) -> None:
    """Say which pictures were passed over, and which evaluated ones the encoder or the labels had shown before.

    `data` is that part of the record; `began` names what the encoder began with, where that saw such pictures.
    """
    for name, reason in skipped.items():
        say(console, f"passed over: {name}: {reason}")
    kinds = (
        ("seen_by_encoder", "pretraining saw", against_leak(data["eval_split"], data["spec"], began)),
        ("seen_in_training", "among the labelled training pictures are", "take them out of one of the two"),
    )
    for key, where, remedy in kinds:
        if count := data[key]["pictures"]:
            more = f" and {count - LISTED} more" if count > LISTED else ""
            listed = f"of the evaluated pictures, or copies of them: {', '.join(data[key]['names'][:LISTED])}{more}"
            say(console, f"warning: {where} {count} {listed}; {remedy}")

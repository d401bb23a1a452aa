"""Transfers that never happened: records and predictions such as `run_transfer` leaves, from made-up scores."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from tinct.data.random import rng
from tinct.data.transforms import WHOLE
from tinct.errors import TinctError
from tinct.files import write_json
from tinct.metrics import multilabel_scores, segmentation_scores
from tinct.settings import TransferSettings
from tinct.transfer import contents_of, parts_of

CLASSES = {"multilabel": ["cat", "dog", "sheep"], "segmentation": ["background", "cat", "dog"]}
PICTURES = 80
SHOWN = np.array([0, 40, 79])


def fake_transfer(settings: TransferSettings, out: Path, *, predictions: bool = False) -> dict[str, Any]:
    """Take the place of `run_transfer`: better with more labels, and with any pretraining; a function of settings."""
    count = {"all": 320}.get(settings.labels) or int(settings.labels)
    gain = 0.0 if settings.init == "random" else 0.5
    skill = 0.35 * np.log10(count) + gain - abs(np.log10(settings.lr) + 3)
    noise = rng(settings.seed, sum(settings.init.encode()), count)
    truth = rng(7)
    classes = CLASSES[settings.task]
    pictures = truth.integers(0, 256, (len(SHOWN), 32, 32, 3)).astype(np.uint8)
    out.mkdir(parents=True, exist_ok=True)
    if settings.task == "multilabel":
        labels = (truth.random((PICTURES, 3)) < 0.4).astype(np.float32)
        scores = skill * labels + noise.normal(0, 1, labels.shape) - skill / 2
        result = multilabel_scores(torch.tensor(scores), torch.tensor(labels), classes)
        kept, metric, value = {"scores": scores, "labels": labels}, "map", result.mean_ap
    else:
        counts = truth.integers(1, 200, (PICTURES, 3))
        share = np.clip(0.3 + 0.2 * skill + noise.normal(0, 0.1, (PICTURES, 3)), 0, 1)
        confusions = np.zeros((PICTURES, 3, 3), np.int32)
        for row in range(3):
            confusions[:, row, row] = share[:, row] * counts[:, row]
            confusions[:, row, (row + 1) % 3] = counts[:, row] - confusions[:, row, row]
        result = segmentation_scores(torch.tensor(confusions.sum(0)), classes, [1, 2], background=0)
        masks = noise.integers(0, 3, (2, len(SHOWN), 32, 32)).astype(np.uint8)
        kept = {"confusions": confusions, "masks": masks[0], "truths": masks[1]}
        metric, value = "miou", result.mean_iou
    header = {"tinct": json.dumps({"names": [f"picture {number}" for number in range(PICTURES)], "classes": classes})}
    save_file({**kept, "shown": SHOWN, "pictures": pictures}, out / "predictions.safetensors", header)
    record = {
        "what": "transfer",
        "task": settings.task,
        "protocol": settings.protocol,
        "data": {
            "spec": settings.source,
            **contents(settings),
            "eval_split": settings.evaluate,
            "unreadable": [],
            "eval_pictures": PICTURES,
            "classes": classes,
            "scored": classes,
            "seen_by_encoder": {"pictures": 0, "names": []},
        },
        "init": {
            "name": settings.init,
            "backbone": settings.backbone or "resnet18",
            "provenance": provenance(settings),
            "keys_taken": 0 if settings.init == "random" else 120,
        },
        "labels": settings.labels,
        "n_labels": count,
        "seed": settings.seed,
        "size": settings.size,
        "input": settings.fed,
        "settings": asdict(settings) | {"input": settings.fed},
        "metric": metric,
        "value": 100 * value,
        "metrics": asdict(result),
        "seconds": 1.5,
        "note": "checks the plumbing; no evidence" if settings.source == "mosaic:" else None,
        "versions": {"python": "3.11.2", "torch": "2.14.0"},
        "commit": "0" * 40,
        "machine": {"system": "Linux", "processor": "x86_64", "cores": 2, "threads": 1, "cuda": None},
        "command": "tinct transfer",
    }
    write_json(out / "record.json", record)
    return record


def contents(settings: TransferSettings) -> dict[str, str]:
    """The digests of what there is to learn from; made-up ones where there is nothing."""
    try:
        return contents_of(parts_of(settings))
    except TinctError:
        digests = dict.fromkeys(("train_fingerprint", "eval_fingerprint"), "0123456789abcdef")
        made_up = digests | {"labels_sha256": "0"}
        return made_up | ({"view": WHOLE} if settings.task == "segmentation" else {})


def provenance(settings: TransferSettings) -> dict[str, Any]:
    """Where weights came from, and their digest where there are any."""
    if settings.init == "random":
        return {"weights": "random", "seed": settings.seed}
    path = Path(settings.init) / "encoder.safetensors"
    digest = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]} if path.exists() else {}
    return {"terms": {"bins": 1.0}, "adversarial": "none", **digest}


def fake_grid(out: Path, inits: dict[str, list[str]], labels: tuple[str, ...], seeds: int, **changed: Any) -> None:
    """A grid as `tinct compare` leaves it."""
    first = replace(TransferSettings("voc:pictures", "multilabel"), **changed)
    write_json(out / "compare.json", {"what": "compare", "arms": inits})
    for arm, names in inits.items():
        for amount in labels:
            for seed in range(seeds):
                cell = replace(first, init=names[seed % len(names)], labels=amount, seed=seed)
                fake_transfer(cell, out / "cells" / f"{arm}-{amount}-{seed}")

"""Predictions on files: tensors for statistics and reports, tables and overlays for eyes."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from tinct.data.overlay import draw_labels
from tinct.errors import TinctError
from tinct.examples import Labelled, evaluation_chunks
from tinct.files import atomic_path, write_bytes, write_text
from tinct.models.stem import Input
from tinct.protocols import Result
from tinct.trained import logits_of

__all__ = ["png_names", "save_image", "write_predictions", "write_table"]

SHOWN = 12
"""Evaluated pictures that predictions.safetensors holds as the network saw them, for reports to show."""
OVERLAYS = 48
"""Overlays to draw, at most; evenly spread over the evaluated pictures."""


def write_predictions(out: Path, result: Result, evaluated: Labelled, size: int, input: Input, overlays: bool) -> None:
    """Write predictions.safetensors, and on request predictions.csv (multilabel) and overlays.

    predictions.safetensors holds `scores` (N, C) and `labels` (N, C), or `confusions` (N, K, K) int32, with the N
    pictures' names and the classes in its header; and, for some of them, their numbers `shown` (M,), `pictures`
    (M, S, S, 3) uint8, and for segmentation `masks` and `truths` (M, S, S) uint8.
    """
    names = [evaluated.source.name(int(index)) for index in result.indices]
    shown = np.unique(np.linspace(0, len(names) - 1, OVERLAYS if overlays else SHOWN).astype(np.int64))
    (chunk,) = evaluation_chunks(evaluated, result.indices[shown], size, length=len(shown))
    tensors = {"shown": torch.from_numpy(shown), "pictures": torch.from_numpy(chunk.pixels)}
    masks: NDArray[np.uint8] | None = None
    if chunk.masks is None:
        tensors |= {"scores": result.output, "labels": torch.from_numpy(evaluated.presence[result.indices])}
    else:
        assert result.network is not None
        predicted = logits_of(result.network, chunk.pixels, input).argmax(1).to(torch.uint8)
        tensors |= {"confusions": result.output, "masks": predicted, "truths": torch.from_numpy(chunk.masks)}
        masks = predicted.numpy()
    header = {"tinct": json.dumps({"kind": "predictions", "names": names, "classes": evaluated.classes})}
    write_bytes(
        out / "predictions.safetensors", save({key: value.contiguous() for key, value in tensors.items()}, header)
    )
    if not overlays:
        return
    once = list(dict.fromkeys(names))  # a table may list a picture twice
    places = dict(zip(once, png_names(once), strict=True))
    if masks is None:
        write_table(out / "predictions.csv", names, evaluated.classes, result.output)
    for row, number in enumerate(shown):
        if masks is None:
            best = result.output[number].topk(min(3, len(evaluated.classes))).indices.tolist()
            image = draw_labels(chunk.pixels[row], [evaluated.classes[index] for index in best])
        else:
            image = draw_labels(chunk.pixels[row], evaluated.classes, masks[row], evaluated.source.background)
        save_image(out / "overlays" / places[names[number]], image)


def write_table(path: Path, names: Sequence[str], classes: Sequence[str], scores: Tensor) -> None:
    """Write a CSV file: a row a picture, a column a class."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", *classes])
    rows.writerows([name, *(f"{value:.6g}" for value in row)] for name, row in zip(names, scores.tolist(), strict=True))
    write_text(path, text.getvalue())


def png_names(names: Sequence[str]) -> list[Path]:
    """Where PNGs about pictures go in a folder, never outside: a.png for a.jpg, or a.jpg.png where a.png is there too.

    Raises:
        TinctError: two pictures have one name.
    """
    whole = [
        Path(
            *(
                part.replace(":", "_")
                for part in PurePosixPath(name.replace(os.sep, "/")).parts
                if part not in ("/", "..", ".")
            )
        )
        for name in names
    ]
    longer = [path.with_name(f"{path.name}.png") for path in whole]
    places = [path.with_suffix(".png") for path in whole]
    while twice := {path for path, count in Counter(places).items() if count > 1}:
        before, places = places, [long if path in twice else path for path, long in zip(places, longer, strict=True)]
        if places == before:
            raise TinctError(f"two pictures would be written to {min(twice)}; give them to two runs with an out each")
    return places


def save_image(path: Path, image: Image.Image) -> None:
    """Write a PNG atomically."""
    with atomic_path(path) as unfinished:
        image.save(unfinished)

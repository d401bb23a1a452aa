"""Predictions on files: tensors for statistics and reports, tables and overlays for eyes."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinct.data.base import VOID
from tinct.data.overlay import draw_labels
from tinct.data.transforms import letterbox, whole
from tinct.downstream.examples import Labelled, evaluation_chunks
from tinct.downstream.protocols import Result
from tinct.downstream.trained import mask_of
from tinct.errors import TinctError
from tinct.files import write_image, write_text
from tinct.models.stem import Input
from tinct.weights import write_weights

__all__ = ["overlay_places", "png_names", "write_predictions", "write_table"]

SHOWN = 12
"""Evaluated pictures that predictions.safetensors holds, small, for reports to show."""
MID_GREY = 128
"""Around pictures that are not square, where squares are shown."""
OVERLAYS = 48
"""Overlays to draw, at most; evenly spread over the evaluated pictures."""


def write_predictions(out: Path, result: Result, evaluated: Labelled, size: int, input: Input, overlays: bool) -> None:
    """Write predictions.safetensors, and on request predictions.csv (multilabel: probabilities) and overlays.

    predictions.safetensors holds `scores` (N, C) and `labels` (N, C), or `confusions` (N, K, K) int32, with the N
    pictures' names and the classes in its header; where the source has them, their `groups` (N,) int64; and, for some
    of them, their numbers `shown` (M,), `pictures` (M, S, S, 3) uint8, and for segmentation `masks` and `truths`
    (M, S, S) uint8, void around what is not square.
    """
    names = [evaluated.source.name(int(index)) for index in result.indices]
    shown = np.unique(np.linspace(0, len(names) - 1, OVERLAYS if overlays else SHOWN).astype(np.int64))
    tensors = {"shown": torch.from_numpy(shown)}
    masks: NDArray[np.uint8] | None = None
    if evaluated.task == "multilabel":
        (chunk,) = evaluation_chunks(evaluated, result.indices[shown], size, length=len(shown))
        pictures = chunk.pixels
        tensors |= {"scores": result.output, "labels": torch.from_numpy(evaluated.presence[result.indices])}
    else:
        pictures, masks, truths = _masked(result, evaluated, result.indices[shown], size, input)
        tensors |= {"confusions": result.output, "masks": torch.from_numpy(masks), "truths": torch.from_numpy(truths)}
    tensors["pictures"] = torch.from_numpy(pictures)
    if (groups := evaluated.source.groups) is not None:
        tensors["groups"] = torch.from_numpy(groups[result.indices])
    said = {"kind": "predictions", "names": names, "classes": evaluated.classes}
    write_weights(out / "predictions.safetensors", tensors, said)
    if not overlays:
        return
    places = overlay_places(names)
    if masks is None:
        votes = result.network is None  # nearest neighbours' shares; the others give logits
        write_table(
            out / "predictions.csv", names, evaluated.classes, result.output if votes else result.output.sigmoid()
        )
    for row, number in enumerate(shown):
        if masks is None:
            best = result.output[number].topk(min(3, len(evaluated.classes))).indices.tolist()
            image = draw_labels(pictures[row], [evaluated.classes[index] for index in best])
        else:
            image = draw_labels(pictures[row], evaluated.classes, masks[row], evaluated.source.background)
        write_image(out / "overlays" / places[names[number]], image)


def _masked(
    result: Result, evaluated: Labelled, indices: NDArray[np.int64], size: int, input: Input
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures, predicted and true masks, in squares of `size` pixels."""
    assert result.network is not None
    pictures, masks, truths = [], [], []
    for index in indices.tolist():
        picture, truth = evaluated.example(index)
        assert truth is not None
        predicted = mask_of(result.network, whole(picture, size), input, *truth.shape)
        pictures.append(letterbox(picture, size, MID_GREY))
        masks.append(letterbox(predicted, size, VOID))
        truths.append(letterbox(truth, size, VOID))
    return np.stack(pictures), np.stack(masks), np.stack(truths)


def write_table(path: Path, names: Sequence[str], classes: Sequence[str], scores: Tensor) -> None:
    """Write a CSV file: a row a picture, a column a class."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", *classes])
    rows.writerows([name, *(f"{value:.6g}" for value in row)] for name, row in zip(names, scores.tolist(), strict=True))
    write_text(path, text.getvalue())


def overlay_places(names: Iterable[str]) -> dict[str, Path]:
    """Where the overlay of each picture goes in its folder, by name; a list may have a picture twice.

    Raises:
        TinctError: see `png_names`.
    """
    once = list(dict.fromkeys(names))
    return dict(zip(once, png_names(once), strict=True))


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

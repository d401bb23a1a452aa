"""`tinct predict`: what a trained classifier or segmenter says of pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from tinct.data.ahead import read_ahead
from tinct.data.base import Source
from tinct.data.overlay import class_color, draw_labels
from tinct.data.sources import open_pictures, results_in
from tinct.data.transforms import centre, shrunk, whole
from tinct.device import named_device
from tinct.downstream.examples import held_side
from tinct.downstream.predictions import png_names, write_table
from tinct.downstream.trained import load_trained, logits_of, mask_of
from tinct.errors import PictureError, TinctError, check_kinds
from tinct.files import alone_in, as_plain, expanded, write_image, write_json
from tinct.outputs import check_out
from tinct.screen import open_console, say

__all__ = ["predict", "run_predict"]

BATCH = 16


@dataclass(frozen=True)
class Small:
    """A picture as evaluation would read it: its index and name in the source, and its pixels (H, W, 3), small."""

    index: int
    name: str
    small: NDArray[np.uint8]


def predict(
    model: str,
    pictures: list[str],
    *,
    out: Path,
    threshold: float = 0.5,
    overlays: bool = True,
    device: str = "auto",
) -> int:
    """`run_predict` for the command line: progress, results and warnings are printed.

    Returns:
        0, or 1 when a picture could not be read; it is named.

    Raises:
        TinctError: as `run_predict`.
    """
    made = run_predict(
        model,
        pictures,
        out=out,
        threshold=threshold,
        overlays=overlays,
        device=device,
        console=open_console(stderr=True),
    )
    return 1 if made["unreadable"] else 0


def run_predict(
    model: str | Path,
    pictures: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    threshold: float = 0.5,
    overlays: bool = True,
    device: str = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Apply what `tinct transfer` trained to pictures.

    A classifier writes predictions.json and predictions.csv: a probability for each class (of a classifier trained
    with --balanced, one that makes both answers equally frequent). A segmenter writes a PNG for each picture into
    masks/, at the picture's own size, whose values are class numbers, and predictions.json: each class's share of the
    pixels. Overlays show either on the picture. A PNG is called after its picture, a.png, or a.jpg.png where a.png is
    there too. Paths are relative to the folder; of several, they begin with the folder as it was given.

    Args:
        model: a model.safetensors, or the folder of the transfer that wrote it.
        pictures: files, folders of pictures, or text files of paths.
        out: the folder to write to.
        threshold: a class is present, in overlays and in predictions.json, when its probability is above.
        overlays: also draw the answers on the pictures.
        device: where the network runs: auto, cpu, cuda, cuda:N or mps.
        console: where to say how far it is; nowhere by default.

    Returns:
        What predictions.json holds: `pictures`, each with its `path` and the classes that are `present` with the
        `probabilities` of all, or the `shares` of a mask; the `classes`; and how many pictures were `unreadable`.

    Raises:
        TinctError: the model or a source cannot be read, there is no such device, two pictures have one name, or `out`
            cannot be written, is the pictures' folder, or holds earlier predictions or what another command made.
    """
    out, console = expanded(out), console or Console(quiet=True)
    words: list[str] = as_plain([pictures] if isinstance(pictures, str | Path) else pictures)
    threshold = as_plain(threshold)
    check_kinds({"pictures": words, "threshold": threshold}, {"pictures": list[str], "threshold": float})
    check_out(out, "predict")
    _refuse_earlier(out)
    if out.is_dir() and any(out.samefile(folder) for folder in map(expanded, words) if folder.is_dir()):
        raise TinctError(f"out is {out}, the pictures' own folder, where overlays would count as such; choose another")
    network, meta = load_trained(model)
    network.to(named_device(device))
    source = open_pictures(words)
    if not 0 <= threshold <= 1:
        raise TinctError(f"threshold is {threshold}; expected a probability, 0 to 1")
    drawn = overlays or meta["task"] == "segmentation"
    places = png_names([source.name(index) for index in range(len(source))]) if drawn else []
    with alone_in(out):
        _refuse_earlier(out)  # another process may have made some since
        return _write(network, meta, source, places, str(model), out, threshold, overlays, console)


def _refuse_earlier(out: Path) -> None:
    # an interrupted command leaves masks and overlays, which would be taken for some of these, or for pictures
    if any((out / name).exists() for name in ("predictions.json", "masks", "overlays")):
        raise TinctError(
            f"out is {out}, which holds predictions, masks or overlays already; choose another folder, or remove it"
        )


def _write(
    network: nn.Module,
    meta: dict[str, Any],
    source: Source,
    places: Sequence[Path],
    model: str,
    out: Path,
    threshold: float,
    overlays: bool,
    console: Console,
) -> dict[str, Any]:
    """Do what `predict` says, once nothing speaks against it; `places` are the PNGs' names by index, where drawn."""
    for folder in results_in(source):
        pass_over(f"{folder}, which tinct wrote", console)
    answers: list[dict[str, Any]] = []
    rows: list[tuple[str, Tensor]] = []
    for batch in readable(source, held_side(meta["size"]), console):
        if meta["task"] == "multilabel":
            squares = np.stack([centre(one.small, meta["size"]) for one in batch])
            for one, row in zip(batch, logits_of(network, squares, meta["input"]).sigmoid(), strict=True):
                values = {kind: round(value, 6) for kind, value in zip(meta["classes"], row.tolist(), strict=True)}
                present = [kind for kind, value in values.items() if value > threshold]
                rows.append((one.name, row))
                answers.append({"path": one.name, "present": present, "probabilities": values})
                if overlays:
                    write_image(out / "overlays" / places[one.index], draw_labels(one.small, present))
        else:
            for one, picture, mask in segmented(network, source, batch, meta, console):
                answers.append({"path": one.name, "shares": shares(mask, meta["classes"])})
                write_image(out / "masks" / places[one.index], indexed(mask))
                if overlays:
                    overlay = draw_labels(picture, meta["classes"], mask, meta["background"])
                    write_image(out / "overlays" / places[one.index], overlay)
    failed = len(source) - len(answers)
    said = {"what": "predict", "model": model, "classes": meta["classes"], "unreadable": failed, "pictures": answers}
    write_json(out / "predictions.json", said)
    if rows:
        table = torch.stack([row for _, row in rows])
        write_table(out / "predictions.csv", [name for name, _ in rows], meta["classes"], table)
    say(console, f"pictures done: {len(answers)}, unreadable: {failed}; see {out}")
    return said


def readable(source: Source, side: int, console: Console) -> Iterator[list[Small]]:
    """Batches of what can be read; what cannot is named on the console."""
    pictures = enumerate(read_ahead(lambda index: shrunk(source, index, side), range(len(source)), ahead=2 * BATCH))
    while part := list(islice(pictures, BATCH)):
        batch = []
        for index, small in part:
            if isinstance(small, str):
                pass_over(small, console)
            else:
                batch.append(Small(index, source.name(index), small))
        if batch:
            yield batch


def pass_over(why: str, console: Console) -> None:
    """Name a picture or folder that has no part in this, and the reason."""
    say(console, f"passed over: {why}")


def segmented(
    network: nn.Module, source: Source, batch: Sequence[Small], meta: dict[str, Any], console: Console
) -> Iterator[tuple[Small, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Each picture, whole, and its mask (H, W) of class numbers.

    One that cannot be read at full size, though it was at a smaller one, is named on the console.
    """
    for one in batch:
        try:
            picture = source.picture(one.index)
        except PictureError as error:
            pass_over(str(error), console)
            continue
        yield one, picture, mask_of(network, whole(one.small, meta["size"]), meta["input"], *picture.shape[:2])


def shares(mask: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, float]:
    """Each present class's share of a mask's pixels."""
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    return {kind: round(int(count) / mask.size, 6) for kind, count in zip(classes, counts, strict=True) if count}


def indexed(mask: NDArray[np.uint8]) -> Image.Image:
    """A mask as an image whose values are its class numbers, with a palette of the overlays' colours."""
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, *(part for value in range(1, 256) for part in class_color(value))])
    return image

"""`tinct embed`: a row of features for each picture, for search, clustering, or somebody else's classifier.

Rows are appended to a folder beside the result, OUT.partial, a batch at a time, and made into OUT at the end: memory
does not grow with the number of pictures, and an interrupted run goes on where it was. Batches always have the same
pictures in the same places, the last one filled up, so the result is the same either way.
"""

import importlib.util
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from tinct.data.ahead import read_ahead
from tinct.data.base import Source
from tinct.data.sources import open_pictures
from tinct.data.transforms import centre, shrunk
from tinct.device import named_device, own_draws
from tinct.downstream.examples import held_side
from tinct.errors import TinctError, check_kinds, restartable
from tinct.exporting.row_store import FORMATS, Row, Store
from tinct.files import alone_in, as_plain, expanded, in_full
from tinct.inits import load_init
from tinct.models.encoder import Encoder
from tinct.models.heads import pooled
from tinct.models.stem import Input, network_input
from tinct.screen import open_console, progress_bar, say
from tinct.settings import encoder_size
from tinct.weights import weights_digest

__all__ = ["Pool", "embed", "run_embed"]

Pool = Literal["avg", "max", "avgmax"]


def embed(
    encoder: str,
    pictures: list[str],
    *,
    out: Path,
    pool: Pool = "avg",
    layer: int = -1,
    size: int | None = None,
    input: Input | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
) -> int:
    """`run_embed` for the command line: progress, results and warnings are printed.

    Returns:
        0, or 1 where a picture could not be read; it is named.

    Raises:
        TinctError: as `run_embed`.
    """
    made = run_embed(
        encoder,
        pictures,
        out=out,
        pool=pool,
        layer=layer,
        size=size,
        input=input,
        backbone=backbone,
        weights=weights,
        batch_size=batch_size,
        workers=workers,
        device=device,
        console=open_console(stderr=True),
    )
    return 1 if made["rows"] < made["total"] else 0


def run_embed(
    encoder: str | Path,
    pictures: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    pool: Pool = "avg",
    layer: int = -1,
    size: int | None = None,
    input: Input | None = None,
    backbone: str | None = None,
    weights: str | Path | None = None,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Write a row of features for each picture; an interrupted run goes on where it was.

    OUT.npy holds the rows, (N, D) float32, and OUT.npy.txt their paths, a line each; a CSV file has the columns path,
    f0, f1, ...; a Parquet file has path and vector. Paths are relative to the folder; of several, they begin with the
    folder as it was given. A file called after it, rows.npy.json beside rows.npy, says how the features were made and
    what was skipped.

    Args:
        encoder: a run's folder or its encoder.safetensors, or whatever else `tinct transfer --init` takes.
        pictures: files, folders of pictures, or text files of paths.
        out: FILE.npy, FILE.csv or FILE.parquet.
        pool: avg, max, or avgmax (both, one after the other) over a feature map.
        layer: which feature map, finest first; -1 is the deepest.
        size: the largest centred square of a picture is brought to this many pixels, a multiple of 32; by default what
            the weights were trained with, but at least 96; 224 where they do not say.
        input: grey or rgb; by default rgb for tinct's encoders that saw colour in pretraining, grey for all others.
        backbone: a timm name, for weights that do not say theirs.
        weights: a safetensors file for timm:NAME.
        batch_size: pictures in a pass.
        workers: threads that read pictures.
        device: where the network runs: auto, cpu, cuda, cuda:N or mps.
        console: where to say how far it is; nowhere by default.

    Returns:
        How the features were made, as in OUT.json: `rows` were written for `total` pictures, and `skipped` says which
        could not be read, and why, the first 1000 of them.

    Raises:
        TinctError: the encoder, the pictures or a setting make it impossible, or `out` is there already or cannot be
            written.
        KeyboardInterrupt: Ctrl-C came; the same call goes on from there.
    """
    out, encoder, weights = expanded(out), str(encoder), None if weights is None else str(weights)
    words: list[str] = as_plain([pictures] if isinstance(pictures, str | Path) else pictures)
    layer, size, batch_size, workers = as_plain((layer, size, batch_size, workers))
    given = {"pool": pool, "layer": layer, "size": size, "input": input, "batch_size": batch_size, "workers": workers}
    check_kinds({**given, "pictures": words}, {**get_type_hints(run_embed), "pictures": list[str]})
    console = console or Console(quiet=True)
    if out.suffix not in FORMATS:
        raise TinctError(f"out is {out}; expected a file ending in {', '.join(FORMATS)}")
    if out.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise TinctError("writing parquet needs pyarrow; pip install 'tinct[parquet]', or choose .npy or .csv")
    _refuse_existing(out)
    if min(batch_size, workers) < 1:
        raise TinctError(f"batch_size is {batch_size} and workers {workers}; expected at least 1")
    with own_draws():
        start = load_init(encoder, input=input, backbone=backbone, weights=weights)
    input = "grey" if start.encoder.in_channels == 1 else "rgb"
    size = encoder_size(start.provenance.get("size")) if size is None else size
    if size < 32 or size % 32:
        raise TinctError(f"size is {size}; expected a multiple of 32")
    maps = len(start.encoder.channels)
    if not -maps <= layer < maps:
        raise TinctError(f"layer is {layer}; {start.encoder.backbone} has {maps}, so expected {-maps} to {maps - 1}")
    say(console, start.report())
    source = open_pictures(words)
    network = start.encoder.eval().requires_grad_(False).to(named_device(device))
    width = start.encoder.channels[layer] * (2 if pool == "avgmax" else 1)
    how = {
        "encoder": start.provenance,
        "weights": weights_digest(start.encoder)[:16],
        "pictures": source.fingerprint(),
        "input": input,
        "size": size,
        "pool": pool,
        "layer": layer,
        "width": width,
        "batch_size": batch_size,
    }
    store = Store(out, width, batch_size, len(source))
    with alone_in(store.folder):
        if out.exists():  # another process has ended since, and its folder is gone
            with suppress(OSError):
                store.folder.rmdir()
            _refuse_existing(out)
        # another folder's pictures may have the same names; the result does not say where they were
        begin = store.open({**how, "source": in_full(words)})
        if begin:
            say(console, f"pictures done already: {begin} of {len(source)}")
        with (
            restartable(),
            progress_bar(console, transient=True) as progress,
            closing(_read(source, begin, batch_size, size, workers)) as batches,
        ):
            bar = progress.add_task("embedding", total=len(source), completed=begin)
            for names, squares in batches:
                rows = _features(network, squares, batch_size, size, input, pool, layer)
                store.append(names, squares, rows)
                for square in squares:
                    if isinstance(square, str):
                        say(console, f"passed over: {square}")
                progress.advance(bar, len(names))
        made = store.finish(how)
    say(console, f"{made['rows']} rows of {width} in {out}, pictures skipped: {made['total'] - made['rows']}")
    return made


def _refuse_existing(out: Path) -> None:
    beside = [Path(f"{out}{end}") for end in (".json", *([".txt"] if out.suffix == ".npy" else []))]
    own = [out, *([] if Store.partial(out).exists() else beside)]  # a run that was killed at its end may have left some
    if there := [path for path in own if path.exists()]:
        raise TinctError(f"out is {out}, and {there[0]} exists; choose another name or remove it")


def _read(
    source: Source, begin: int, batch: int, size: int, workers: int
) -> Generator[tuple[list[str], list[NDArray[np.uint8] | str]]]:
    """Batches of names and centred squares (size, size, 3), or why there is none; two batches are read ahead."""
    side = held_side(size)

    def square(index: int) -> NDArray[np.uint8] | str:
        small = shrunk(source, index, side)
        return small if isinstance(small, str) else centre(small, size)

    with closing(read_ahead(square, range(begin, len(source)), ahead=3 * batch, threads=workers)) as squares:
        for first in range(begin, len(source), batch):
            part = list(islice(squares, batch))
            yield [source.name(first + place) for place in range(len(part))], part


@torch.inference_mode()
def _features(
    network: Encoder,
    squares: list[NDArray[np.uint8] | str],
    batch: int,
    size: int,
    input: Input,
    pool: Pool,
    layer: int,
) -> Row:
    """(B, D) float32 of a batch; rows of pictures that cannot be read mean nothing."""
    pixels = np.zeros((batch, size, size, 3), np.uint8)
    for place, square in enumerate(squares):
        if not isinstance(square, str):
            pixels[place] = square
    device = next(network.parameters()).device
    found: Tensor = network(network_input(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2), input))[layer]
    vectors = found.amax((2, 3)) if pool == "max" else pooled([found], (0,), peaks=pool == "avgmax")
    rows: Row = vectors.float().cpu().numpy()[: len(squares)]
    if not np.isfinite(rows).all():
        raise TinctError(f"{network.backbone}: a feature is not finite; check the weights")
    return rows

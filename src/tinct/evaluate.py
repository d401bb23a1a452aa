"""`tinct evaluate`: how near a colorizer comes to the true colours, each figure with how it was measured."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from tinct.color import as_bytes, as_planes, greyed, srgb_to_lab
from tinct.color_metrics import SSIM_WINDOW, ab_distance, ab_l1, colorfulness, mean_ciede2000, psnr, ssim
from tinct.coloring.checks import checked_saturation, checked_size
from tinct.colorize import Colorizer
from tinct.data.base import Source
from tinct.data.decode import GREY, is_grey
from tinct.data.hashes import dhash, near
from tinct.data.joined import Joined
from tinct.data.sources import open_sources
from tinct.device import own_draws
from tinct.environment import environment
from tinct.errors import PictureError, TinctError, check_kinds
from tinct.evidence.records import NAMED, not_known
from tinct.extractors import frechet_distances, perceptual_distances
from tinct.files import as_plain, read_json, write_json
from tinct.inits import seen_by
from tinct.screen import column, open_console, say
from tinct.shipped import resolve
from tinct.weights import read_weights

__all__ = ["PROTOCOLS", "evaluate", "run_evaluate"]

PROTOCOLS = {
    "psnr_db": "PSNR over the three sRGB channels of 8 bits together, mean of the pictures' dB, "
    "without those that equal the truth, which have none",
    "psnr_grey_db": "the same for the all-grey answer: the picture's own L*, no colour",
    "ssim": "SSIM (Wang et al. 2004: 11x11 Gaussian of sigma 1.5), mean over sRGB channels and pictures",
    "ab_l1": "mean of |a - a'| and |b - b'| in Lab units over pixels and pictures",
    "ab_distance": "mean distance in the ab plane in Lab units over pixels and pictures",
    "ab_distance_grey": "the same for the all-grey answer",
    "ciede2000": "mean CIEDE2000 (Sharma et al. 2005) over pixels and pictures",
    "colourfulness": "mean colourfulness M3 of the results (Hasler and Suesstrunk 2003)",
    "colourfulness_truth": "the same of the true pictures",
    "frechet_lite0": "Frechet distance over pooled features of EfficientNet-lite0 at 224 px; not FID, and to be "
    "compared only over the same pictures",
    "fid_inception": "FID (Heusel et al. 2017): Frechet distance over the 2048 pooled features of Inception-v3, with "
    "torch-fidelity's weights and resizing; biased for few pictures, so to be compared only over the same ones",
    "perceptual_lite0": "mean over pictures of LPIPS's formula (Zhang et al. 2018, equation 1) with weights 1, over "
    "the five feature maps of EfficientNet-lite0; not LPIPS; pictures of more than 2 megapixels are shrunk to that",
    "lpips_alex": "LPIPS (Zhang et al. 2018, version 0.1, AlexNet), mean over pictures of at least 64 px; those of "
    "more than 2 megapixels are shrunk to that",
}
"""How each figure is measured, beside which it is shown and recorded."""
COMPARED_PIXELS = 1 << 21
"""Pixels at which a network compares pictures, at most: beyond, its feature maps fill the memory."""
OTHER = "choose another --out"


def evaluate(  # noqa: D417  (the others: run_evaluate)
    colorizer: str,
    sources: list[str],
    *,
    split: str = "all",
    limit: int | None = None,
    size: int | None = None,
    side: int | None = None,
    saturation: float = 1.0,
    device: str = "auto",
    out: Path | None = None,
) -> int:
    """`run_evaluate` for the command line: progress, results and warnings are printed.

    Args:
        out: a JSON file for the record.

    Returns:
        0.

    Raises:
        TinctError: as `run_evaluate`; or `out` holds something else.
    """
    if out and (out.is_dir() or (out.is_file() and read_json(out, OTHER).get("what") != "evaluate")):
        raise TinctError(f"out is {out}, which tinct evaluate did not make; {OTHER}")
    record = run_evaluate(
        colorizer,
        sources,
        split=split,
        limit=limit,
        size=size,
        side=side,
        saturation=saturation,
        device=device,
        console=open_console(stderr=True),
    )
    try:
        if out is not None:
            write_json(out, record)
    finally:  # an hour's work is shown even where it cannot be written
        _show(record, open_console())
    return 0


def run_evaluate(
    colorizer: str | Path,
    sources: str | Path | Sequence[str | Path],
    *,
    split: str = "all",
    limit: int | None = None,
    size: int | None = None,
    side: int | None = None,
    saturation: float = 1.0,
    device: str = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Colour photographs from their lightness and compare with the truth.

    Pictures go through exactly what `tinct colorize` does, one by one, at their full size unless `side` is given. Grey
    ones are left out: they have no colour to compare with. Those that the colorizer was trained on, or copies of them,
    are counted and said.

    Args:
        colorizer: the name of a colorizer that comes with tinct, a colorizer.safetensors, or the folder of a run.
        sources: folders, text files of paths, `photos:`, or labelled sources such as `voc:DIR` (their pictures only).
        split: train, val, test or all; of `photos:`, all are the right halves, which no training takes.
        limit: look at this many pictures only, the first ones.
        size: short side, in pixels, at which the network looks (default: the model's).
        side: shrink pictures to this shorter side first.
        saturation: chroma is multiplied by this, 0 to 4.
        device: where the network runs: auto, cpu, cuda, cuda:N or mps.
        console: where to say how far it is; nowhere by default.

    Returns:
        The record: `metrics` has the `value` and the `protocol` of each figure, the rest says what was measured.
        `data["seen_by_colorizer"]["pictures"]` is how many it was trained on, None where nobody knows.

    Raises:
        TinctError: the colorizer or a source cannot be opened, no colour picture is among them, or
            EfficientNet-lite0's weights are not installed.
    """
    limit, side = as_plain((limit, side))
    if side is not None and (type(side) is not int or side < SSIM_WINDOW):
        raise TinctError(f"side is {side!r}; expected a whole number of pixels, at least {SSIM_WINDOW}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise TinctError(f"limit is {limit!r}; expected a whole number of pictures, at least 1")
    saturation, size = checked_saturation(saturation), None if size is None else checked_size(size)
    specs: list[str] = as_plain([sources] if isinstance(sources, str | Path) else sources)
    check_kinds({"sources": specs}, {"sources": list[str]})
    source = _open(specs, split)
    model = Colorizer.load(colorizer, device)
    begin = time.perf_counter()
    count = len(source) if limit is None else min(limit, len(source))
    left_out = {"grey": 0, "unreadable": 0, "small": 0, "not coloured": 0}
    scores, hashes = list[dict[str, float]](), dict[int, np.uint64]()
    with own_draws():
        perceptual, frechet = perceptual_distances(), frechet_distances()
    said = console or Console(quiet=True)
    for index in track(range(count), "evaluating", console=said):
        try:
            if (truth := _truth(source, index, side, left_out)) is None:
                continue
        except PictureError as error:
            name = source.name(index)
            say(said, str(error) if name in str(error) else f"{name}: {error}")
            left_out["unreadable"] += 1
            continue
        try:
            with own_draws():
                result = model(truth, size=size, saturation=saturation)
        except PictureError as error:
            say(said, f"{source.name(index)}: {error}")
            left_out["not coloured"] += 1
            continue
        hashes[index] = dhash(truth)
        rgb, true_rgb = as_planes(result[None]), as_planes(truth[None])
        scores.append(_scores(rgb, true_rgb, perceptual))
        for distance in frechet.values():
            distance.update(true_rgb, real=True)
            distance.update(rgb, real=False)
    if not scores:
        raise TinctError(f"{', '.join(specs)}: no colour picture; left out: {_listed(left_out)}; name another source")
    values = {name: [score[name] for score in scores if math.isfinite(score[name])] for name in scores[0]}
    metrics = {name: sum(found) / len(found) for name, found in values.items() if found}
    seen = _seen(resolve(colorizer, "colorizer"), source, hashes)
    _warn(said, str(colorizer), seen)
    if len(scores) > 1:  # a distance between distributions
        metrics |= {name: float(distance.compute()) for name, distance in frechet.items()}
    return {
        "what": "evaluate",
        "colorizer": str(colorizer),
        "data": {
            "sources": specs,
            "split": split,
            "pictures": len(scores),
            "left_out": left_out,
            "seen_by_colorizer": seen,
            "fingerprint": source.fingerprint(),
        },
        "protocol": {
            "pictures": f"the first {count} of the source" if count < len(source) else "all of the source",
            "left_out": f"grey: mean chroma below {GREY:g}; small: a side below {SSIM_WINDOW} px",
            "side": side or "as they are",
            "working_size": size or model.size,
            "saturation": saturation,
            "result": "8-bit sRGB after guided enlargement and gamut clipping, as tinct colorize writes it",
        },
        "metrics": {name: {"value": value, "protocol": PROTOCOLS[name]} for name, value in metrics.items()},
        "seconds": time.perf_counter() - begin,
        **environment(),
    }


def _open(sources: list[str], split: str) -> Source:
    """The pictures; all of `photos:` would be those that pretraining takes, so that its right halves stand for them."""
    if split != "all" or "photos:" not in sources:
        return open_sources(sources, split)
    return Joined([open_sources([spec], "val" if spec == "photos:" else split) for spec in sources])


def _seen(path: Path, source: Source, hashes: dict[int, np.uint64]) -> dict[str, Any]:
    """How many evaluated pictures the colorizer in a file was trained on, or copies of them, and names of some."""
    seen = seen_by(path)
    if seen is None:
        return {"pictures": None, "names": [], "known_in_full": False}
    found = near(np.array(list(hashes.values()), np.uint64), seen)
    names = [source.name(index) for index, one in zip(hashes, found, strict=True) if one]
    known = read_weights(path)[1].get("seen_known", True)
    return {"pictures": len(names), "names": names[:NAMED], "known_in_full": known}


def _warn(console: Console, colorizer: str, seen: dict[str, Any]) -> None:
    if count := seen["pictures"]:
        listed = ", ".join(seen["names"]) + (", ..." if count > NAMED else "")
        say(console, f"warning: pretraining saw {count} of the evaluated pictures, or copies of them: {listed}")
    elif not seen["known_in_full"]:
        say(console, not_known(colorizer))


def _truth(source: Source, index: int, side: int | None, left_out: dict[str, int]) -> NDArray[np.uint8] | None:
    picture = source.picture(index, side)
    if side is not None and min(picture.shape[:2]) > side:
        # torch's antialiased bilinear, as figures were published by; Pillow's bicubic (`transforms`) gives others
        scale = side / min(picture.shape[:2])
        size = [round(length * scale) for length in picture.shape[:2]]
        picture = as_bytes(F.interpolate(as_planes(picture[None]), size, mode="bilinear", antialias=True)[0])
    if min(picture.shape[:2]) < SSIM_WINDOW:
        left_out["small"] += 1
    elif is_grey(picture):
        left_out["grey"] += 1
    else:
        return picture
    return None


def _scores(rgb: Tensor, truth: Tensor, perceptual: dict[str, Callable[[Tensor, Tensor], Tensor]]) -> dict[str, float]:
    lab, true_lab = srgb_to_lab(rgb), srgb_to_lab(truth)
    grey = greyed(truth).mul(255).round() / 255
    values = {
        "psnr_db": psnr(rgb, truth),
        "psnr_grey_db": psnr(grey, truth),
        "ssim": ssim(rgb, truth),
        "ab_l1": ab_l1(lab[:, 1:], true_lab[:, 1:]),
        "ab_distance": ab_distance(lab[:, 1:], true_lab[:, 1:]),
        "ab_distance_grey": ab_distance(torch.zeros_like(true_lab[:, 1:]), true_lab[:, 1:]),
        "ciede2000": mean_ciede2000(lab, true_lab),
        "colourfulness": colorfulness(rgb),
        "colourfulness_truth": colorfulness(truth),
        **{name: distance(_as_seen(rgb), _as_seen(truth)) for name, distance in perceptual.items()},
    }
    return {name: float(value) for name, value in values.items()}


def _as_seen(rgb: Tensor) -> Tensor:
    """A picture (1, 3, H, W) for a network to compare: shrunk to `COMPARED_PIXELS` where it has more."""
    scale = (COMPARED_PIXELS / (rgb.shape[2] * rgb.shape[3])) ** 0.5
    if scale >= 1:
        return rgb
    size = [max(1, round(side * scale)) for side in rgb.shape[2:]]
    return F.interpolate(rgb, size, mode="bilinear", antialias=True)


def _listed(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in left_out.items() if count) or "none"


def _show(record: dict[str, Any], console: Console) -> None:
    data, left_out = record["data"], _listed(record["data"]["left_out"])
    table = Table(column("figure"), column("value", "right"), column("how it is measured"))
    for name, metric in record["metrics"].items():
        table.add_row(name, f"{metric['value']:.3f}", metric["protocol"])
    said = f"{record['colorizer']} on {data['pictures']} pictures of {', '.join(data['sources'])}; left out: {left_out}"
    say(console, said)
    console.print(table)

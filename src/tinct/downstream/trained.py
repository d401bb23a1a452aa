"""A trained classifier or segmenter: run over pictures, and as one file that says how to build and feed it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.coloring.upsample import rows_of
from tinct.device import own_draws
from tinct.errors import TinctError
from tinct.models.encoder import Encoder
from tinct.models.heads import SMP, Classifier, Segmenter, smp_segmenter
from tinct.models.stem import Input, give_bias, network_input, stem_name
from tinct.shipped import resolve
from tinct.weights import check_header, header_error, load_strict, read_weights, write_weights

__all__ = ["build_network", "load_trained", "logits_of", "mask_of", "save_trained", "shape_of"]

KINDS = {"multilabel": "classifier", "segmentation": "segmenter"}
MAX_CLASSES = 1 << 15
"""The most that a header may name."""
STRIP = 1 << 24
"""Logits of a strip of enlarged rows: 64 MB."""


def build_network(encoder: Encoder, shape: Mapping[str, Any]) -> nn.Module:
    """Put the head that `shape` describes on an encoder.

    Args:
        encoder: its weights stay.
        shape: `task`, `classes` (names); for multilabel `stages` and `peaks`; for segmentation `head`, `stride`,
            `width`.

    Raises:
        TinctError: the head cannot be had, or cannot use this backbone.
    """
    classes = len(shape["classes"])
    if shape["task"] == "multilabel":
        return Classifier(encoder, classes, shape["stages"], shape["peaks"])
    if shape["head"] in SMP:
        return smp_segmenter(encoder, shape["head"], classes)
    return Segmenter(encoder, classes, shape["stride"], shape["width"])


def save_trained(
    path: Path, network: nn.Module, encoder: Encoder, shape: Mapping[str, Any], said: Mapping[str, Any]
) -> None:
    """Write a network that `build_network` made on `encoder`; `said` goes into the header too."""
    header = {
        "kind": KINDS[shape["task"]],
        "backbone": encoder.backbone,
        "in_channels": encoder.in_channels,
        "stem_bias": f"{stem_name(encoder.body)}.bias" in encoder.body.state_dict(),
        **shape,
        **said,
    }
    write_weights(path, network.state_dict(), header)


def load_trained(model: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read what `save_trained` wrote: the network, ready to use, and the header.

    Args:
        model: the file, or the folder of the transfer that wrote it.

    Raises:
        TinctError: the file is absent, damaged, or something else.
    """
    path = resolve(model, "model")
    tensors, meta = read_weights(path)
    if meta.get("kind") not in KINDS.values():
        found = meta.get("kind", "weights of another program")
        raise TinctError(f"{path}: holds {found}; expected the model.safetensors that tinct transfer writes")
    check_header(meta, path, "backbone", "in_channels", "size")
    with own_draws(), torch.device("cpu"):
        encoder = Encoder(meta["backbone"], meta["in_channels"])
        _check_shape(meta, path, len(encoder.channels))
        stem = stem_name(encoder.body)
        if meta["stem_bias"] and stem is not None:
            give_bias(encoder.body.get_submodule(stem))
        network = build_network(encoder, meta).float()  # whatever torch's defaults are
    load_strict(network, tensors, path)
    return network.eval().requires_grad_(False), meta


def _check_shape(meta: dict[str, Any], path: Path, maps: int) -> None:
    """Hold a header to what building and feeding the network takes for granted, whose encoder has this many `maps`."""
    names, stages, background = (meta.get(name, "missing") for name in ("classes", "stages", "background"))
    good = {
        "task": (meta.get("task"), meta["kind"]) in list(KINDS.items()),
        "classes": _listed(names, MAX_CLASSES) and all(isinstance(name, str) for name in names),
        "input": meta.get("input") in ("grey", "rgb"),
        "stem_bias": type(meta.get("stem_bias")) is bool,
    }
    if meta["kind"] == "classifier":
        good["stages"] = _listed(stages, maps) and all(type(one) is int and -maps <= one < maps for one in stages)
        good["peaks"] = type(meta.get("peaks")) is bool
    else:
        good["head"] = meta.get("head") in ("decoder", *SMP)
        good["background"] = background is None or type(background) is int
    wrong = [name for name, fine in good.items() if not fine]
    if wrong:
        raise header_error(path, wrong[0], meta.get(wrong[0]))
    if meta.get("head") == "decoder":
        check_header(meta, path, "stride", "width")


def _listed(value: Any, most: int) -> bool:
    return isinstance(value, list) and 0 < len(value) <= most


@torch.no_grad()
def logits_of(network: nn.Module, pixels: NDArray[np.uint8], input: Input) -> Tensor:
    """Run a network, on the device it is on, over pictures (B, H, W, 3) as it is to see them; logits are on the CPU."""
    device = next(network.parameters()).device
    logits: Tensor = network(network_input(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2), input))
    return logits.float().cpu()


def mask_of(network: nn.Module, picture: NDArray[np.uint8], input: Input, height: int, width: int) -> NDArray[np.uint8]:
    """A segmenter's mask (height, width) of a picture (h, w, 3) as it is to see it.

    The logits are enlarged bilinearly, and each pixel has the class of the largest; a strip of rows at a time, as with
    81 classes 12 megapixels would take 4 GB at once.
    """
    logits = logits_of(network, picture[None].copy(), input)  # Pillow's pixels cannot be written to, which torch minds
    count, below = logits.shape[1:3]
    wide = F.interpolate(logits, size=(below, width), mode="bilinear", align_corners=False)[0].numpy()
    mask = np.empty((height, width), np.uint8)
    rows = max(1, STRIP // (count * width))
    for top in range(0, height, rows):
        mask[top : top + rows] = rows_of(wide, top, min(rows, height - top), height).argmax(0)
    return mask


def shape_of(
    task: str, classes: Sequence[str], head: str, stages: Sequence[int] = (-1,), peaks: bool = False
) -> dict[str, Any]:
    """What `build_network` takes, for a fresh head."""
    if task == "multilabel":
        return {"task": task, "classes": list(classes), "stages": list(stages), "peaks": peaks}
    return {"task": task, "classes": list(classes), "head": head, "stride": 4, "width": 64}

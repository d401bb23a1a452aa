"""A trained classifier or segmenter as one file that says how to build and feed it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tinct.errors import TinctError
from tinct.models.encoder import Encoder
from tinct.models.heads import SMP, Classifier, Segmenter, smp_segmenter
from tinct.models.stem import give_bias, stem_name
from tinct.weights import load_strict, read_weights, write_weights

__all__ = ["build_network", "load_trained", "save_trained", "shape_of"]

KINDS = {"multilabel": "classifier", "segmentation": "segmenter"}


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


def load_trained(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Read what `save_trained` wrote: the network, ready to use, and the header.

    Args:
        path: the file, or the folder of the transfer that wrote it.

    Raises:
        TinctError: the file is absent, damaged, or something else.
    """
    path = path / "model.safetensors" if path.is_dir() else path
    tensors, meta = read_weights(path)
    if meta.get("kind") not in KINDS.values():
        found = meta.get("kind", "weights of another program")
        raise TinctError(f"{path}: holds {found}; expected the model.safetensors that tinct transfer writes")
    encoder = Encoder(meta["backbone"], meta["in_channels"])
    stem = stem_name(encoder.body)
    if meta["stem_bias"] and stem is not None:
        give_bias(encoder.body.get_submodule(stem))
    network = build_network(encoder, meta)
    load_strict(network, tensors, path)
    return network.eval().requires_grad_(False), meta


def shape_of(
    task: str, classes: Sequence[str], head: str, stages: Sequence[int] = (-1,), peaks: bool = False
) -> dict[str, Any]:
    """What `build_network` takes, for a fresh head."""
    if task == "multilabel":
        return {"task": task, "classes": list(classes), "stages": list(stages), "peaks": peaks}
    return {"task": task, "classes": list(classes), "head": head, "stride": 4, "width": 64}

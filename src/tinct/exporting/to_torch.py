"""timm, torchvision and segmentation-models-pytorch: write, read back, compare; each gives its part of the report."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import load_file
from torch import Tensor, nn

from tinct.errors import TinctError, one_line
from tinct.exporting.parity import compare, sample_inputs
from tinct.exporting.subject import FED, Subject
from tinct.files import write_bytes, write_json
from tinct.models.heads import SMP, smp_keys
from tinct.models.layouts import from_torchvision, torchvision_name
from tinct.models.stem import Input, stem_name
from tinct.weights import FED_KEY, load_strict, packed

__all__ = ["to_segmentation_models", "to_timm", "to_torchvision"]

NAME = "encoder.safetensors"


def to_timm(subject: Subject, folder: Path, half: bool) -> dict[str, Any]:
    """config.json and model.safetensors, as timm's hub folders are."""
    encoder, classes = subject.timm_encoder(), subject.classes()
    body: Any = encoder.body
    config: dict[str, Any] = body.default_cfg
    channels = encoder.in_channels
    tensors = dict(body.state_dict()) | subject.classifier(str(config["classifier"]))
    kept = ("pool_size", "fixed_input_size", "first_conv", "classifier")
    document = {
        "architecture": encoder.backbone,
        "num_classes": len(classes),
        "num_features": body.num_features,
        "model_args": {"in_chans": channels},
        "pretrained_cfg": {key: config[key] for key in kept if key in config}
        | {
            "custom_load": False,
            "input_size": [channels, subject.size, subject.size],
            "interpolation": "bilinear",  # with the next two, `tinct.data.transforms.centre`
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [0.5] * channels,
            "std": [0.5] * channels,
            "num_classes": len(classes),
        },
    }
    if classes:
        document["label_names"] = classes
    write_json(folder / "config.json", document)
    save_tensors(tensors, folder / "model.safetensors", half, subject.input)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    last = "logits" if classes else "pooled"
    ours = subject.network if classes else body
    found = compare(
        lambda fed: (*encoder(fed), ours(fed)),
        lambda fed: (*theirs.forward_intermediates(fed, intermediates_only=True), theirs(fed)),
        sample_inputs(subject.input),
        [*(f"stride{reduction}" for reduction in encoder.reductions), last],
        half,
    )
    return {
        "what": f"timm's {encoder.backbone}" + (f" with {len(classes)} classes" if classes else ""),
        "open": f'timm.create_model("local-dir:{folder}", pretrained=True)',
        "fed": FED[subject.input],
        "untrained": sorted(encoder.unused),
        **held(subject, classes),
        "parity": found,
    }


NO_PLACE = {
    "colorizer": "its decoder, which makes the colours, has no place there",
    "classifier": "its classifier has no place there, or reads feature maps that a plain network's does not",
    "segmenter": "its head, which makes the masks, has no place there",
}


def held(subject: Subject, classes: Sequence[str]) -> dict[str, Any]:
    """What an export says of its content: what other libraries' networks have no place for, and how to use the rest.

    `classes` are those that the other library's network tells apart.
    """
    whole = subject.kind == "encoder" or subject.encoder is None or bool(classes)
    left = None if whole else f"the encoder alone: {NO_PLACE[subject.kind]}; --to onnx takes all"
    return {"left_out": left, **subject.use(alone=not whole)}


def to_torchvision(subject: Subject, path: Path, half: bool) -> dict[str, Any]:
    """torchvision's state dict; without a classifier where there is none to give."""
    import torchvision

    encoder, classes = subject.timm_encoder(), subject.classes()
    body: Any = encoder.body
    name = torchvision_name(encoder.backbone)
    if name is None or name not in torchvision.models.list_models(torchvision.models):
        raise TinctError(f"torchvision has no {encoder.backbone}; it has ResNets, for one; export --to timm or onnx")
    network = torchvision.models.get_model(name, weights=None)
    head = next(key for key, layer in reversed(list(network.named_modules())) if isinstance(layer, nn.Linear))
    network.set_submodule(head, nn.Linear(body.num_features, len(classes)) if classes else nn.Identity())
    stem = next(key for key, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    network.set_submodule(stem, copy.deepcopy(body.get_submodule(str(stem_name(body)))))
    own = body.state_dict() | subject.classifier(head)
    names = {key: key if key.startswith(f"{head}.") else from_torchvision(key) for key in network.state_dict()}
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    fits = {names[key] for key in shapes} == set(own) and all(
        own[names[key]].numel() == shape.numel() for key, shape in shapes.items()
    )
    if not fits:
        raise TinctError(f"torchvision's {name} is built differently from timm's; export --to timm or onnx")
    save_tensors({key: own[ours].reshape(shapes[key]) for key, ours in names.items()}, path, half, subject.input)
    network.load_state_dict(load_file(path), strict=True)
    network.eval()
    ours = subject.network if classes else body
    found = compare(
        lambda fed: [ours(fed)],
        lambda fed: [network(fed)],
        sample_inputs(subject.input),
        ["logits" if classes else "pooled"],
        half,
    )
    changes = [f"{head} = Linear({body.num_features}, {len(classes)})" if classes else f"{head} = Identity()"]
    changes += [f"{stem} for 1 channel"] if encoder.in_channels == 1 else []
    return {
        **held(subject, classes),
        "what": f"torchvision's {name}",
        "open": f'{name}() with {" and ".join(changes)}, load_state_dict(safetensors.torch.load_file("{path}"))',
        "fed": FED[subject.input],
        "parity": found,
    }


def to_segmentation_models(subject: Subject, folder: Path, half: bool) -> dict[str, Any]:
    """The weights of a `tu-` encoder; or, of a head of that library, its own folder of the whole network."""
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise TinctError("segmentation-models-pytorch is not installed; pip install 'tinct[segmentation]'") from error
    backbone = subject.meta["backbone"]
    if subject.meta.get("head") in SMP:
        network: Any = subject.network
        network.save_pretrained(folder)
        save_tensors(network.state_dict(), folder / "model.safetensors", half, subject.input)
        (folder / "README.md").unlink(missing_ok=True)  # a template that nobody filled in
        whole = smp.from_pretrained(folder).eval()
        found = compare(
            lambda fed: [network(fed)],
            lambda fed: [whole(fed)],
            sample_inputs(subject.input),
            ["logits"],
            half,
        )
        what, opened = f"{type(network).__name__} with tu-{backbone}", f'smp.from_pretrained("{folder}")'
    else:
        encoder = subject.timm_encoder()
        channels = encoder.in_channels
        inner = smp_encoder(smp, backbone, channels)
        own = encoder.body.state_dict()
        tensors = {theirs: own[key] for theirs, key in smp_keys(encoder, inner).items()}
        save_tensors(tensors, folder / NAME, half, subject.input)
        load_strict(inner, load_file(folder / NAME), folder / NAME)
        levels = len(encoder.reductions)
        found = compare(
            encoder,
            lambda fed: inner(fed)[-levels:],
            sample_inputs(subject.input),
            [f"stride{reduction}" for reduction in encoder.reductions],
            half,
        )
        what = f"segmentation-models-pytorch's encoder tu-{backbone}"
        opened = (
            f'smp.Unet("tu-{backbone}", encoder_weights=None, in_channels={channels}).encoder.load_state_dict('
            f'safetensors.torch.load_file("{folder / NAME}"))'
        )
    return {**held(subject, ()), "what": what, "open": opened, "fed": FED[subject.input], "parity": found}


def smp_encoder(smp: Any, backbone: str, channels: int) -> nn.Module:
    """A `tu-` encoder with random weights."""
    try:
        encoder: nn.Module = smp.encoders.get_encoder(f"tu-{backbone}", in_channels=channels, weights=None)
    except Exception as error:  # smp and timm refuse backbones in many ways
        reason = one_line(error, 200)
        raise TinctError(f"segmentation-models-pytorch cannot use {backbone} ({reason}); export --to timm") from error
    return encoder.eval()


def save_tensors(tensors: dict[str, Tensor], path: Path, half: bool, fed: Input) -> None:
    """Write safetensors that say what they are fed; with `half`, tensors of two axes or more in half precision.

    Norms, biases and running statistics stay in float32: they are few, and a running variance may not fit.
    """
    stored = {key: value.half() if half and value.ndim >= 2 else value for key, value in tensors.items()}
    write_bytes(path, packed(stored, {"format": "pt", FED_KEY: fed}))

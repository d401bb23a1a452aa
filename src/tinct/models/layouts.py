"""Whose names a file of weights uses, told by the names alone: timm's, torchvision's, lightly's or lightly-train's.

timm and torchvision call the parts of a ResNet alike. torchvision's ConvNeXt and RegNet have names of their own, which
`from_torchvision` translates. lightly's models keep their encoder in `backbone`, as a ResNet cut into a sequence or as
the network itself; lightly-train's checkpoints keep it in `embedding_model.wrapped_model`, `student_` and `teacher_`
before it where there are two; of these the teacher is the average, and the one it exports.
"""

import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinct.errors import TinctError, one_line

__all__ = [
    "PICKLES",
    "Translation",
    "classifier_names",
    "from_torchvision",
    "read_pickle",
    "torchvision_name",
    "translate",
]

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
"""Suffixes of torch's own files, which are read as weights only: no code in them is run."""

LIGHTLY = ("backbone.", "teacher.backbone.", "student.backbone.", "teacher_backbone.", "student_backbone.")
LIGHTLY_TRAIN = tuple(
    f"{start}{inner}."
    for start in (
        *(f"{who}embedding_model.wrapped_model." for who in ("", "teacher_", "student_")),
        *("wrapped_model.", ""),
    )
    for inner in ("_model", "_features")
)
SEQUENCE = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Places in `Sequential(*resnet.children())`; 2 and 3 (activation, pooling) have no weights."""

CONVNEXT = {"block.0": "conv_dw", "block.2": "norm", "block.3": "mlp.fc1", "block.5": "mlp.fc2", "layer_scale": "gamma"}
REGNET = {
    "proj.0": "downsample.conv",
    "proj.1": "downsample.bn",
    "f.a.0": "conv1.conv",
    "f.a.1": "conv1.bn",
    "f.b.0": "conv2.conv",
    "f.b.1": "conv2.bn",
    "f.se": "se",
    "f.c.0": "conv3.conv",
    "f.c.1": "conv3.bn",
}
REGNET_SIZES = {"004": "400mf", "008": "800mf", "016": "1_6gf", "032": "3_2gf"} | {
    size: f"{int(size) // 10}gf" for size in ("080", "160", "320")
}
"""timm's and torchvision's names of the same networks (hundreds of megaflops)."""


@dataclass(frozen=True)
class Translation:
    """How a file's names became timm's.

    Attributes:
        layout: whose names they were.
        names: theirs to timm's, for every tensor that was used.
        left: those of other parts of the file: projection heads, a second copy of the encoder, a classifier.
    """

    layout: str
    names: dict[str, str]
    left: tuple[str, ...]

    def report(self) -> str:
        """The mapping, part by part, in a line."""
        pairs: dict[str, tuple[str, str]] = {}
        for theirs, ours in self.names.items():
            part = _part(ours)
            while ours != part and _tail(theirs) == _tail(ours) and "." in theirs:
                theirs, ours = theirs.rpartition(".")[0], ours.rpartition(".")[0]
            pairs.setdefault(part, (theirs, ours if ours == part else f"{ours} and so on"))
        changed = [f"{theirs} -> {ours}" for theirs, ours in pairs.values() if theirs != ours]
        return f"layout: {self.layout}" + (f"; {', '.join(changed)}" if changed else "")


def translate(tensors: Mapping[str, Tensor], body: nn.Module, path: Path) -> tuple[dict[str, Tensor], Translation]:
    """Bring weights under timm's names.

    The channels of the first convolution may differ from `body`'s, and counters of batch norm
    (`num_batches_tracked`, absent from older files) are set to 0.

    Args:
        tensors: somebody's.
        body: the timm model that they are for.
        path: their file, for messages.

    Returns:
        The tensors of `body`, and of its classifier if there is one; and how they got there.

    Raises:
        TinctError: they fit no known layout; names the closest, and what does not fit.
    """
    wanted = {key: tuple(value.shape) for key, value in body.state_dict().items()}
    heads = classifier_names(body)
    tried = [_try(tensors, wanted, heads, *layout) for layout in _layouts()]
    best = max(tried, key=lambda found: found.score)  # the first of equals: plain names before wrapped ones
    if best.missing or best.extra or best.wrong:
        raise TinctError(
            f"{path}: its weights do not fit this {type(body).__name__}: by {best.layout} names (the closest layout), "
            f"{len(best.missing)} missing{_some(best.missing)}, {len(best.extra)} left over{_some(best.extra)}, "
            f"{len(best.wrong)} of another shape{_some(best.wrong)}; check backbone"
        )
    counters = {key: torch.zeros(shape, dtype=torch.long) for key, shape in wanted.items() if _counter(key)}
    renamed = {
        ours: tensors[theirs].reshape(wanted[ours]) if ours.endswith(".gamma") else tensors[theirs]
        for theirs, ours in best.names.items()
    }
    left = tuple(key for key in tensors if key not in best.names)
    return counters | renamed, Translation(best.layout, best.names, left)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The weights in one of torch's own files, or under `state_dict`, `model` or `teacher` in it.

    Raises:
        TinctError: the file is absent or damaged, holds objects other than weights, or no weights.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TinctError(f"{path}: no such file; expected weights") from error
    except pickle.UnpicklingError as error:
        raise TinctError(
            f"{path}: holds objects besides weights, which are not run here; export its state dict (lightly-train: "
            "lightly_train.export) or convert it to safetensors"
        ) from error
    except Exception as error:  # what unpickling raises follows from the damage
        raise TinctError(f"{path}: cannot be read ({one_line(error, 120)}); fetch it again") from error
    for name in ("state_dict", "model", "teacher"):
        content = content[name] if isinstance(content, dict) and isinstance(content.get(name), dict) else content
    found = content.items() if isinstance(content, dict) else ()
    tensors = {key: value for key, value in found if isinstance(value, Tensor)}
    if not tensors:
        raise TinctError(f"{path}: holds no state dict; expected names and tensors")
    return {str(key).removeprefix("module."): value for key, value in tensors.items()}


def classifier_names(body: nn.Module) -> tuple[str, ...]:
    """What timm calls the layers of a network's classifier; () where it says nothing of one."""
    config: dict[str, Any] = getattr(body, "default_cfg", {})
    heads = config.get("classifier") or ()
    return (heads,) if isinstance(heads, str) else tuple(heads)


def torchvision_name(backbone: str) -> str | None:
    """What torchvision calls a timm backbone that it may have; None where it has none."""
    family, _, size = backbone.removesuffix("_tv").partition("_")
    if family in ("regnetx", "regnety"):
        return f"regnet_{family[-1]}_{REGNET_SIZES[size]}" if size in REGNET_SIZES else None
    return backbone


def from_torchvision(key: str) -> str:
    """timm's name for one of torchvision's; itself where both use the same."""
    for rule in (_convnext, _regnet):
        if (name := rule(key)) is not None:
            return name
    return key


def _convnext(key: str) -> str | None:
    if head := re.fullmatch(r"classifier\.([02])\.(\w+)", key):
        return f"head.{'norm' if head[1] == '0' else 'fc'}.{head[2]}"
    found = re.fullmatch(r"features\.(\d)\.(\d+)\.(?:(block\.\d|layer_scale)\b\.?)?(\w*)", key)
    if found is None:
        return None
    place, inner, part, leaf = int(found[1]), found[2], found[3], found[4]
    if part in CONVNEXT and place % 2:
        return f"stages.{place // 2}.blocks.{inner}.{CONVNEXT[part]}" + (f".{leaf}" if leaf else "")
    if part is None and place % 2 == 0:
        return f"{f'stages.{place // 2}.downsample' if place else 'stem'}.{inner}.{leaf}"
    return None


def _regnet(key: str) -> str | None:
    found = re.fullmatch(r"trunk_output\.block(\d)\.block\1-(\d+)\.(.+)", key)
    if found is not None:
        part = next((part for part in REGNET if found[3].startswith(f"{part}.")), None)
        return f"s{found[1]}.b{int(found[2]) + 1}.{REGNET[part]}{found[3][len(part) :]}" if part else None
    stem = re.fullmatch(r"stem\.([01])\.(\w+)", key)
    return f"stem.{'conv' if stem[1] == '0' else 'bn'}.{stem[2]}" if stem else None


def _sequence(key: str) -> str | None:
    place, _, rest = key.partition(".")
    return f"{SEQUENCE[place]}.{rest}" if place in SEQUENCE else None


@dataclass(frozen=True)
class _Trial:
    layout: str
    names: dict[str, str]
    missing: list[str]
    extra: list[str]
    wrong: list[str]

    @property
    def score(self) -> int:
        """How well it explains the encoder; a classifier does not count."""
        return -len(self.missing) - len(self.wrong)


Rule = Callable[[str], str | None]


def _layouts() -> list[tuple[str, str, Rule]]:
    """Name, prefix and rule of each, the likeliest first."""
    return [
        ("timm's (torchvision's are the same for a ResNet)", "", str),
        ("torchvision's", "", from_torchvision),
        *(("lightly's", prefix, rule) for prefix in LIGHTLY for rule in (str, from_torchvision, _sequence)),
        *(
            ("lightly-train's", prefix, rule)
            for prefix in LIGHTLY_TRAIN
            for rule in (str, lambda key: from_torchvision(f"features.{key}"))
        ),
    ]


def _try(
    tensors: Mapping[str, Tensor],
    wanted: dict[str, tuple[int, ...]],
    heads: tuple[str, ...],
    layout: str,
    prefix: str,
    rule: Rule,
) -> _Trial:
    names, extra = {}, []
    for theirs in tensors:
        if not theirs.startswith(prefix):
            continue
        ours = rule(theirs.removeprefix(prefix))
        if ours in ("fc.weight", "fc.bias") and heads:  # torchvision's RegNet too calls its classifier so
            ours = f"{heads[0]}.{_tail(ours)}"
        if ours is not None and (ours in wanted or ours.rpartition(".")[0] in heads):
            names[theirs] = ours
        elif not _counter(theirs):
            extra.append(theirs)
    got = set(names.values())
    missing = [key for key in wanted if key not in got and not _counter(key)]
    wrong = [
        theirs for theirs, ours in names.items() if ours in wanted and not _fits(tensors[theirs], ours, wanted[ours])
    ]
    return _Trial(layout, names, missing, extra, wrong)


def _fits(value: Tensor, ours: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor has its place's shape, but for the input's channels, and for a layer scale's (C, 1, 1)."""
    given = tuple(value.shape)
    if ours.endswith(".gamma"):
        return value.numel() == shape[0]
    stem = len(shape) == 4 and {shape[1], given[1] if len(given) == 4 else 0} <= {1, 3}
    return given == shape or (stem and (given[0], *given[2:]) == (shape[0], *shape[2:]))


def _counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _part(ours: str) -> str:
    """The part of a timm model that a tensor is in, as a user would name it."""
    parts = ours.split(".")
    return ".".join(parts[: 2 if parts[0] in ("blocks", "stages", "stem", "head") else 1])


def _tail(key: str) -> str:
    return key.rpartition(".")[2]


def _some(keys: list[str]) -> str:
    return f" ({', '.join(sorted(keys)[:5])}{', …' if len(keys) > 5 else ''})" if keys else ""

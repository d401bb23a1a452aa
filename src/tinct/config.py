"""The settings of a pretraining run: flags on the command line, keys of a recipe, fields here."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from tinct.errors import TinctError, about, check_kinds, one_line
from tinct.files import as_plain

__all__ = [
    *("BUDGETS", "LARGEST", "RECIPES", "TIMED_STEPS", "Config", "Precision"),
    *("read_yaml", "recipe_file", "recipes", "stored"),
]

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16"]
"""Those of Lightning Fabric's that leave weights in single precision, as files and scores want them; the last three are
its short names of the others."""
RECIPES = Path(__file__).parent / "recipes"
BUDGETS = ("steps", "epochs", "minutes")
"""The settings of which a run has one: how long to train."""
TIMED_STEPS = 30
"""Steps after which a budget in minutes becomes one in steps."""
LARGEST = {"width": 1024, "size": 4096}
"""The most that settings, and headers of weights, may ask for: networks for larger ones could take all memory."""
LARGEST_SEED = 2**64 - 1
"""What torch takes."""
LEAST_FOR_DISCRIMINATOR = 8
"""Pixels of colour that the smallest discriminator covers."""


@dataclass(frozen=True)
class Config:
    """Everything that a pretraining run follows from. A `Path` becomes text.

    Args:
        sources: folders, text files of paths, `photos:`, labelled sources (their pictures only).
        exclude: sources whose pictures, and copies of them, are kept out; of a labelled one the val and
            test splits.
        split: `train` leaves the other splits of a recognised layout alone; `all` takes everything.
        held_out: a source whose val split is coloured to measure progress, or a text file of paths, all of them;
            by default a part of `sources` is set aside.
        max_pictures: train on this many of the pictures, the first of a fixed shuffle, so that fewer are part of more;
            unusable ones among them are not replaced. By default all.
        cache: folder for decoded pictures, so that later epochs and runs skip decoding. Crops are cut from shrunk
            copies then, and differ a little.
        size: side of the training crops in pixels, a multiple of 32.
        min_crop: smallest crop's side as a share of a picture's shorter side.
        aged: share of the pictures whose lightness is that of old photographs: plates that see no red, soft, faded,
            grainy (`tinct.objectives.ageing`).
        backbone: the encoder's network, by timm's name of it.
        in_channels: 1 for an encoder that is fed lightness, 3 for one that is fed RGB (three times the same for a grey
            picture).
        in_colour: share of the pictures, or of their views, that are fed in colour if `in_channels` is 3, for encoders
            meant for colour pictures. Not with l1, huber or bins, whose decoder would be shown the answer.
        init: `random`; a file of weights to start from, an encoder's in timm's names or a colorizer.safetensors; the
            name of shipped weights; or `imagenet-lite`, EfficientNet-lite0, lite1 or lite2 (by `backbone`) trained on
            ImageNet's labels, which makes better colours and no evidence for self-supervised learning.
        init_std: draw the first weights of all convolutions from N(0, this standard deviation), as pix2pix does; by
            default they are drawn as the libraries do.
        chroma_stride: colours are learned at 1/1, 1/2, 1/4 or 1/8 of the resolution; coarser is faster.
        width: channels of the decoder at its finest level.
        terms: what to learn, with weights: at most one of l1, huber, bins, which make a colorizer; palette
            (colours without a decoder); rotation; siamese (two views a picture), or
            multicrop (four small ones beside them).
        adversarial: the discriminator's loss; none trains without one.
        adversarial_weight: weight of the adversarial loss beside the terms'.
        adversarial_start: share of the run that passes before the discriminator joins.
        discriminator_width: filters in the discriminator's first layer.
        discriminator_norm: the discriminator's normalization: of its weights (spectral) or its feature maps (instance).
        discriminator_lr: the discriminator's peak learning rate.
        batch_size: pictures a step, over all devices and accumulated parts together.
        accumulate: parts a step's pictures are taken in, to save memory. Batch norm, siamese and multicrop look at the
            pictures of a part only, and spectral norm takes a step of its own in each, so with these the result differs
            from that of an undivided step.
        steps: the budget in steps of training; give one of steps, epochs, minutes.
        epochs: the budget in passes over the pictures.
        minutes: the budget in minutes of training on this machine, turned into steps once, after the first 30 of them.
        lr: peak learning rate of AdamW, after a linear warm-up and before a cosine to zero.
        betas: AdamW's decay rates of the means of gradients and of their squares, for both networks.
        weight_decay: AdamW's weight decay.
        warmup_steps: length of the warm-up, at most a fifth of the run unless the budget is in minutes.
        clip: largest norm of the generator's gradient.
        ema: the network that is evaluated and kept is a running average of the one that is trained, and this is its
            decay. It starts from 0 and rises as timm has it: at step s it is 1 - s^(-2/3), until that is larger; 0.999
            is reached after 31,623 steps.
        checkpoint_every: steps between checkpoints, each with held-out scores and a sample sheet.
        best: the held-out score that the colorizer is chosen by.
        probe: a labelled source to score a linear probe on at every checkpoint; such a run has looked at labels, its
            record says so, and `tinct compare` refuses it.
        seed: the random seed of weights, order and crops.
        accelerator: the kind of device to train on, in Lightning Fabric's words: auto, cpu, cuda, mps.
        devices: how many of them; auto takes all GPUs there are.
        strategy: how several devices train together: auto, or Lightning Fabric's ddp.
        precision: of the arithmetic: 32-true, or bf16-mixed or 16-mixed, which are meant for GPUs. 16-mixed goes only
            without an adversary. 32, bf16 and 16 are short for these.
        workers: processes that read pictures, for each device; by default one on a CPU, on a GPU a share of the cores.

    Example:
        >>> config = Config(sources=["photos:"], steps=100, size=64)
        >>> config.check()
        >>> Config(sources=["photos:"], steps=100, size=50).check()
        Traceback (most recent call last):
        ...
        tinct.errors.TinctError: size is 50; expected a multiple of 32, such as 64
    """

    sources: list[str] = field(default_factory=list, metadata={"positional": True})
    exclude: list[str] = field(default_factory=list)
    split: Literal["train", "all"] = "train"
    held_out: str | None = None
    max_pictures: int | None = None
    cache: str | None = None
    size: int = 96
    min_crop: float = 0.5
    aged: float = 0.0
    backbone: str = "resnet18"
    in_channels: int = 1
    in_colour: float = 0.0
    init: str = "random"
    init_std: float | None = None
    chroma_stride: int = 4
    width: int = 64
    terms: dict[str, float] = field(default_factory=lambda: {"bins": 1.0})
    adversarial: Literal["none", "bce", "lsgan", "hinge"] = "none"
    adversarial_weight: float = 0.1
    adversarial_start: float = 0.3
    discriminator_width: int = 64
    discriminator_norm: Literal["spectral", "instance"] = "spectral"
    discriminator_lr: float = 2e-4
    batch_size: int = 64
    accumulate: int = 1
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.05
    warmup_steps: int = 100
    clip: float = 1.0
    ema: float = 0.999
    checkpoint_every: int = 500
    best: Literal["balance", "ab_error", "psnr"] = "balance"
    probe: str | None = None
    seed: int = 0
    accelerator: str = "auto"
    devices: str = "auto"
    strategy: Literal["auto", "ddp"] = "auto"
    precision: Precision = "32-true"
    workers: int | None = None

    def __post_init__(self) -> None:
        """Let paths be text, and NumPy's numbers Python's, those in `terms` too."""
        vars(self).update({name: as_plain(value) for name, value in vars(self).items()})

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            TinctError: names the first setting that is out of range.
        """
        check_kinds(vars(self), get_type_hints(Config))
        positive = ("size", "batch_size", "accumulate", "checkpoint_every", "lr", "discriminator_lr", "clip", "width")
        for name in (*positive, "discriminator_width", *BUDGETS, "init_std", "max_pictures"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TinctError(f"{name} is {value}; expected a positive number")
        for name, most in LARGEST.items():
            if getattr(self, name) > most:
                raise TinctError(f"{name} is {getattr(self, name)}; expected {most} at most")
        for name in ("weight_decay", "warmup_steps", "workers", "adversarial_weight"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise TinctError(f"{name} is {value}; expected 0 or more")
        shares = [(name, 0, 1) for name in ("aged", "in_colour", "adversarial_start", "ema")]
        for name, low, high in (("min_crop", 0.05, 1), *shares, ("seed", 0, LARGEST_SEED)):
            if not low <= getattr(self, name) <= high:
                raise TinctError(f"{name} is {getattr(self, name)}; expected {low} to {high}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise TinctError(f"betas are {self.betas}; expected two numbers of 0 or more, below 1")
        if self.batch_size < 2:
            raise TinctError(f"batch_size is {self.batch_size}; expected 2 or more, for batch norm's sake")
        if self.in_colour and self.in_channels != 3:
            raise TinctError(f"in_colour is {self.in_colour}, and in_channels {self.in_channels}; set in_channels to 3")
        if self.chroma_stride not in (1, 2, 4, 8):
            raise TinctError(f"chroma_stride is {self.chroma_stride}; expected 1, 2, 4 or 8")
        if self.width % 8:
            raise TinctError(f"width is {self.width}; expected a multiple of 8, which are normalized together")
        chroma = self.size // self.chroma_stride
        if self.adversarial != "none" and chroma < LEAST_FOR_DISCRIMINATOR:
            raise TinctError(
                f"chroma_stride is {self.chroma_stride} at size {self.size}, so colours are {chroma} px wide; the "
                f"discriminator needs {LEAST_FOR_DISCRIMINATOR}: lower chroma_stride, or enlarge size"
            )
        if self.adversarial != "none" and self.precision in ("16", "16-mixed"):
            raise TinctError(
                f"precision is {self.precision} with adversarial {self.adversarial}: the two networks' gradients would "
                "be scaled by one factor, which either's step changes; take bf16-mixed or 32-true"
            )
        budgets = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(budgets) != 1:
            raise TinctError(
                f"the budget is given as {' and '.join(budgets) or 'nothing'}; give one of steps, epochs, minutes"
            )
        if self.size % 32:
            raise TinctError(
                f"size is {self.size}; expected a multiple of 32, such as {max(32, round(self.size / 32) * 32)}"
            )
        if self.minutes is not None and self.warmup_steps < TIMED_STEPS:
            raise TinctError(
                f"warmup_steps is {self.warmup_steps}; expected at least {TIMED_STEPS} with a budget in minutes"
            )


def stored(config: Config) -> dict[str, Any]:
    """The configuration as a YAML file gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def recipes() -> list[str]:
    """The names of the shipped recipes; files of whole experiments, which name arms, are for `tinct reproduce`."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if "\narms:" not in path.read_text(encoding="utf-8"))


def recipe_file(name: str) -> Path:
    """The file of a shipped recipe.

    Raises:
        TinctError: there is no such recipe.
    """
    if name not in recipes():
        raise TinctError(f"unknown recipe {name!r}; expected one of {', '.join(recipes())}")
    return RECIPES / f"{name}.yaml"


class UniqueKeys(yaml.SafeLoader):
    """YAML where a key that is there twice is a mistake; YAML itself takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See `yaml.SafeLoader`."""
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise TinctError(f"line {key.start_mark.line + 1}: {key.value!r} is there twice; expected it once")
        return super().construct_mapping(node, deep)


UniqueKeys.add_implicit_resolver(  # 1e-3 is text to YAML 1.1, which wants 1.0e-3
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(path: Path, **replaced: str) -> dict[str, Any]:
    """What a YAML file holds, each `{name}` in its texts replaced by what is given for the name.

    Raises:
        TinctError: it cannot be read, holds no mapping, or has a key twice.
    """
    try:
        with about(path):
            content = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except OSError as error:
        raise TinctError(f"{path}: {error.strerror or error}; expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise TinctError(f"{path}: not in UTF-8 ({error.reason}); expected YAML") from error
    except yaml.YAMLError as error:
        raise TinctError(f"{path}: no YAML ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise TinctError(f"{path}: {'empty' if content is None else 'no mapping'}; expected lines of KEY: VALUE")
    try:
        return {key: _filled(value, replaced) for key, value in content.items()}
    except RecursionError as error:
        raise TinctError(f"{path}: an alias (*) stands within its own anchor (&); write out what it means") from error


def _filled(value: Any, replaced: Mapping[str, str]) -> Any:
    """A value with each `{name}` in its texts replaced, whatever characters stand in for it."""
    if isinstance(value, dict):
        return {key: _filled(one, replaced) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, replaced) for one in value]
    if isinstance(value, str):
        for name, text in replaced.items():
            value = value.replace(f"{{{name}}}", text)
    return value

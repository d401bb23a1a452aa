"""The settings of a transfer: flags on the command line, cells of a comparison, fields here."""

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from tinct.config import LARGEST, Precision
from tinct.data.base import MIN_POSITIVES
from tinct.data.labelled import BY_GRADIENTS, FOR_GRADIENTS, Protocol, Task
from tinct.errors import TinctError, check_kinds
from tinct.files import as_plain

__all__ = ["Head", "Split", "TransferSettings", "encoder_size", "unusual"]

Split = Literal["val", "test", "tuning"]
Head = Literal["decoder", "unet", "fpn", "deeplabv3plus"]
TOLD = (
    *("source", "task", "init", "backbone", "protocol", "labels", "evaluate", "seed", "size", "input", "lr", "steps"),
    *("cache", "accelerator"),
)
"""What a table or title has another place for, or what makes no other result."""


@dataclass(frozen=True)
class TransferSettings:
    """Everything that a transfer follows from: equal settings give equal records (on a CPU, times aside).

    A `Path` becomes text, and so does a number of labels.

    Args:
        source: a labelled source: voc:DIR, coco:DIR, camvid:DIR, csv:FILE, folder:DIR, mosaic:
        task: multilabel or segmentation.
        init: random, tinct-small-ssl or tinct-small-ssl-rgb (for pictures in colour), which come with tinct, a run's
            folder or its encoder.safetensors, timm:NAME, imagenet-lite, or a file of weights (safetensors, or .pth read
            as tensors only) in the names of timm, torchvision, lightly or lightly-train.
        backbone: the encoder's network by timm's name, for random (by default resnet18) and for weights that do not say
            theirs.
        weights: a safetensors file for timm:NAME, in place of a download.
        protocol: finetune (everything), frozen (the head only), linear or knn (on features of an untouched encoder).
        labels: how many labelled pictures may be used: a count, a share such as 0.2, or all; small ones are inside
            larger ones, and every class keeps a positive.
        evaluate: the split to score: val, test, or tuning, a fixed fifth of train that no label subset touches; linear
            and knn then choose their strength on a fifth of the rest.
        seed: the random seed of weights, label subset, order and augmentation.
        size: height and width of the network's input in pixels, a multiple of 32; of a whole picture that is segmented,
            its shorter side.
        input: grey or rgb; by default rgb for an encoder that saw colour in pretraining, grey for all others.
        head: for segmentation: decoder, unet, fpn, deeplabv3plus (the last three from
            segmentation-models-pytorch).
        decoder: for segmentation with head decoder: with fresh weights, or those of the run's colorizer (carried).
        lr: AdamW's peak learning rate.
        layer_decay: factor of the learning rate from layer to layer towards the input; 1 for none, 0.7 is usual.
        weight_decay: AdamW's weight decay.
        steps: how many updates of the weights.
        batch_size: pictures an update.
        balanced: weigh positives and negatives of each class alike.
        min_positives: classes with fewer evaluated positives are not scored.
        eleven_point: score by VOC 2007's average precision, of eleven points of the curve.
        cache: a folder for decoded pictures and features, to be shared by many transfers.
        accelerator: the kind of device to train on: auto, cpu, cuda, mps.
        precision: of the arithmetic: 32-true, or bf16-mixed or 16-mixed, which are meant for GPUs; 32, bf16 and 16 are
            short for these.
    """

    source: str = field(metadata={"positional": True})
    task: Task
    init: str = "random"
    backbone: str | None = None
    weights: str | None = None
    protocol: Protocol = "finetune"
    labels: str = "all"
    evaluate: Split = "val"
    seed: int = 0
    size: int = 96
    input: Literal["grey", "rgb"] | None = None  # `Input` of tinct.models.stem, without torch: reports need none
    head: Head = "decoder"
    decoder: Literal["fresh", "carried"] = "fresh"
    lr: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    steps: int = 600
    batch_size: int = 32
    balanced: bool = False
    min_positives: int = MIN_POSITIVES
    eleven_point: bool = False
    cache: str | None = None
    accelerator: str = "auto"
    precision: Precision = "32-true"

    def __post_init__(self) -> None:
        """Let paths and numbers of labels be text, and NumPy's numbers Python's."""
        vars(self).update({name: as_plain(value) for name, value in vars(self).items()})
        labels: Any = self.labels
        if isinstance(labels, int | float) and not isinstance(labels, bool):
            vars(self)["labels"] = str(labels)

    @property
    def trains(self) -> bool:
        """Whether the protocol trains a network by gradients, so that a learning rate plays a part."""
        return self.protocol in BY_GRADIENTS

    @property
    def fed(self) -> Literal["grey", "rgb"]:
        """What the network is fed; a transfer has made up its mind by the time it asks."""
        return self.input or "grey"

    def command(self) -> str:
        """The `tinct transfer` that repeats it, but for `--out`: what is not a default, quoted for a shell."""
        idle = () if self.trains else FOR_GRADIENTS
        words = ["tinct", "transfer", self.source]
        for key in fields(self)[1:]:
            value = getattr(self, key.name)
            if value != key.default and key.name not in idle:
                words += [f"--{key.name.replace('_', '-')}", *([] if value is True else [f"{value}"])]
        return shlex.join(words)

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            TinctError: names the first setting that is out of range or does not go with another.
        """
        check_kinds(vars(self), get_type_hints(TransferSettings))
        for name in ("lr", "steps", "layer_decay", "min_positives"):
            if not getattr(self, name) > 0:
                raise TinctError(f"{name} is {getattr(self, name)}; expected a positive number")
        if self.size < 32 or self.size % 32:
            raise TinctError(f"size is {self.size}; expected a multiple of 32, such as {max(32, self.size // 32 * 32)}")
        if self.size > LARGEST["size"]:
            raise TinctError(f"size is {self.size}; expected {LARGEST['size']} at most")
        if self.batch_size < 2:
            raise TinctError(f"batch_size is {self.batch_size}; expected 2 or more, for batch norm's sake")
        if self.weight_decay < 0:
            raise TinctError(f"weight_decay is {self.weight_decay}; expected 0 or more, such as 0.05")
        if self.layer_decay > 1:
            raise TinctError(f"layer_decay is {self.layer_decay}; expected 1 at most, which is none, such as 0.7")
        if self.layer_decay != 1 and self.protocol != "finetune":
            raise TinctError(f"layer_decay goes with protocol finetune, not with {self.protocol}; leave it out")
        if self.layer_decay != 1 and self.head != "decoder":
            raise TinctError(f"layer_decay goes with head decoder, not with {self.head}; leave it out")
        if not self.trains and self.task != "multilabel":
            raise TinctError(f"protocol {self.protocol} is for multilabel; use frozen for {self.task}")
        if self.balanced and not self.trains:
            raise TinctError(f"balanced goes with finetune and frozen, not with {self.protocol}; leave it out")
        for name in ("balanced", "eleven_point"):
            if self.task == "segmentation" and getattr(self, name):
                raise TinctError(f"{name} goes with multilabel, not with segmentation; leave it out")
        for name in ("head", "decoder"):
            if self.task == "multilabel" and getattr(self, name) != getattr(TransferSettings, name):
                raise TinctError(f"{name} is {getattr(self, name)}, which is for segmentation; leave it out")
        if self.decoder == "carried" and self.head != "decoder":
            raise TinctError(f"head {self.head} cannot carry a colorizer's decoder over; use --head decoder")


def unusual(record: Mapping[str, Any], besides: Collection[str] = ()) -> list[str]:
    """What a transfer's record has of further settings that are no defaults, such as `layer_decay=0.7`.

    Without `besides`, and without those that play no part in its protocol.
    """
    idle = () if record["protocol"] in BY_GRADIENTS else FOR_GRADIENTS
    further = [key for key in fields(TransferSettings) if key.name not in (*TOLD, *idle, *besides)]
    found = ((key, record["settings"].get(key.name, key.default)) for key in further)
    return [f"{key.name}={value}" for key, value in found if value != key.default]


def encoder_size(pretrained: int | None) -> int:
    """Pixels of the square an encoder is fed where nobody says.

    What it was pretrained at, or what transfers take if that is more: features learned from small crops are better on
    larger pictures (docs/results-transfer.md). 224 where its weights do not say.
    """
    return 224 if pretrained is None else max(pretrained, TransferSettings.size)

"""Transfer: an encoder and labels in, a score on pictures it never trained on out, as one record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinct.data.labelled import Task
from tinct.errors import TinctError
from tinct.metrics import MIN_POSITIVES

__all__ = ["TransferSettings", "run_transfer"]


@dataclass(frozen=True)
class TransferSettings:
    """Everything that a transfer follows from: equal settings give equal records (on CPU, times aside).

    Args:
        source: a labelled source, such as `voc:DIR`.
        task: `multilabel` or `segmentation`.
        init: where the encoder's weights come from; see `tinct.inits`.
        backbone: a timm name; needed by `random` (resnet18 without) and by weights that do not say theirs.
        weights: a safetensors file for `timm:NAME`, in place of a download.
        protocol: `finetune` trains everything; `frozen` the head only, over an encoder whose weights and norm
            statistics stay as they are; `linear` and `knn` fit on features of an untouched encoder.
        labels: how many labelled pictures may be used: a count, a share such as 0.2, or all.
        evaluate: the split that is scored; `tuning` is the part of train that no label subset touches.
        seed: of random weights, label subset, order and augmentation.
        size: height and width of the network's input in pixels, a multiple of 32.
        input: `grey` gives L* to the network, `rgb` colours; first convolutions are folded to fit.
        head: for segmentation: `decoder` is the colorizer's own kind; `unet`, `fpn`, `deeplabv3plus` are those of
            segmentation-models-pytorch.
        decoder: `fresh`, or `carried` over from the run's colorizer.
        lr: peak learning rate of AdamW, after a warm-up over a twentieth of the steps and before a cosine to zero.
        layer_decay: the learning rate's factor from each layer of the encoder to the one before it; 1 for none.
        weight_decay: AdamW's.
        steps: updates; 600 of 32 pictures suit hundreds of labels on a CPU, many thousands ask for more.
        batch_size: pictures an update.
        balanced: weigh positives and negatives of each class alike (multilabel).
        min_positives: a class with fewer evaluated positives is not scored.
        eleven_point: VOC2007's average precision.
        cache: a folder for decoded pictures and features, shared by many transfers.
        accelerator: as in Lightning Fabric: auto, cpu, cuda, mps.
        precision: as in Lightning Fabric: 32-true, bf16-mixed, 16-mixed.
    """

    source: str
    task: Task
    init: str = "random"
    backbone: str | None = None
    weights: str | None = None
    protocol: Literal["finetune", "frozen", "linear", "knn"] = "finetune"
    labels: str = "all"
    evaluate: Literal["val", "test", "tuning"] = "val"
    seed: int = 0
    size: int = 96
    input: Literal["grey", "rgb"] = "grey"
    head: Literal["decoder", "unet", "fpn", "deeplabv3plus"] = "decoder"
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
    precision: str = "32-true"


def run_transfer(
    settings: TransferSettings, out: Path, *, predictions: bool = False, keep_model: bool = True
) -> dict[str, Any]:
    """Train on a label subset, evaluate once, and write what came out.

    Args:
        settings: what to do.
        out: a folder for record.json, predictions.safetensors and model.safetensors.
        predictions: write predictions as a table, and overlays, too.
        keep_model: write model.safetensors, for `tinct predict`.

    Returns:
        The record.

    Raises:
        TinctError: the settings, the labels, the weights or the folder make it impossible, or training diverged.
    """
    raise TinctError("not there yet")

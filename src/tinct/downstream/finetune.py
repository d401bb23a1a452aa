"""Training a network on labelled pictures."""

import functools
import math
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.data.ahead import READERS, read_ahead
from tinct.data.base import VOID
from tinct.data.random import rng, torch_seed
from tinct.device import memory_format, own_draws
from tinct.downstream.examples import Examples
from tinct.engine import warmup_cosine
from tinct.errors import DivergedError
from tinct.models.encoder import Encoder
from tinct.models.stem import network_input
from tinct.settings import TransferSettings

__all__ = ["positive_weights", "train"]

CLIP = 1.0
"""Largest norm of the gradient."""
WARMUP = 0.05
"""Share of the steps in which the learning rate rises."""
HEAVIEST = 50.0
"""The most that a positive counts for, against a negative of its class."""
_ORDER, _CROP, _NETWORK = 10, 11, 12  # streams of random numbers


def train(
    network: nn.Module, examples: Examples, settings: TransferSettings, fabric: Fabric, console: Console
) -> tuple[nn.Module, float]:
    """Train with AdamW. Order, crops and dropout of each step follow from (seed, step) alone.

    With the protocol `frozen` the encoder has no gradients and stays in evaluation mode, so that not even its norm
    statistics move.

    Args:
        network: see `tinct.downstream.trained.build_network`.
        examples: what to train on.
        settings: how.
        fabric: device and precision.
        console: shows a progress bar, unless quiet.

    Returns:
        The network as set up by `fabric`, in training mode, and the mean loss of the last tenth of the steps.

    Raises:
        DivergedError: the loss became infinite or not a number.
    """
    network.to(fabric.device).to(memory_format=memory_format(fabric.device))
    network.train()
    if settings.protocol == "frozen":
        network.get_submodule("encoder").requires_grad_(False).eval()
    model, optimizer = fabric.setup(network, torch.optim.AdamW(groups(network, settings), settings.lr))
    labels = torch.from_numpy(examples.labels())
    weights = positive_weights(labels).to(fabric.device) if settings.balanced else None
    losses: list[float] = []
    warmup = max(1, round(WARMUP * settings.steps))
    batches = read_ahead(lambda step: batch(examples, labels, step, settings), range(settings.steps), ahead=READERS)
    shown = track(batches, "training", settings.steps, console=console, disable=console.quiet, transient=True)
    for step, (pixels, targets) in enumerate(shown):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * group.get("lr_scale", 1.0) * warmup_cosine(step, settings.steps, warmup)
        with own_draws():
            torch.manual_seed(torch_seed(settings.seed, _NETWORK, step))  # for dropout
            output = model(network_input(pixels.to(fabric.device), settings.fed))
        loss = loss_of(output.float(), targets.to(fabric.device), weights)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise DivergedError(f"the loss became {losses[-1]} at step {step}; lower lr (it is {settings.lr:g})")
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP, error_if_nonfinite=False)
        optimizer.step()
        optimizer.zero_grad()
    return model, float(np.mean(losses[-max(1, settings.steps // 10) :]))


def groups(network: nn.Module, settings: TransferSettings) -> list[dict[str, Any]]:
    """AdamW's parameter groups: biases and norms are not decayed, frozen parameters are left out.

    With a `layer_decay`, the rates of the encoder's layers fall towards the input (Bao et al. 2022, as in timm).
    """
    decay = settings.weight_decay
    if settings.layer_decay == 1:
        plain: list[dict[str, Any]] = param_groups_weight_decay(network, decay)
        return [group for group in plain if group["params"]]
    assert isinstance(network.encoder, Encoder)  # so check the settings
    rest = nn.ModuleDict({name: child for name, child in network.named_children() if name != "encoder"})
    layered = param_groups_layer_decay(network.encoder.body, decay, layer_decay=settings.layer_decay)
    return [*layered, *param_groups_weight_decay(rest, decay)]


def batch(examples: Examples, labels: Tensor, step: int, settings: TransferSettings) -> tuple[Tensor, Tensor]:
    """The pictures (B, 3, S, S) uint8 of a step, and their labels (B, C) or masks (B, S, S)."""
    count, length = len(examples), settings.batch_size
    pixels, targets = [], []
    for position in range(step * length, (step + 1) * length):
        epoch, place = divmod(position, count)
        chosen = int(order(settings.seed, epoch, count)[place])
        picture, mask = examples.crop(chosen, settings.size, settings.seed, _CROP, position)
        pixels.append(torch.from_numpy(picture))
        targets.append(labels[chosen] if mask is None else torch.tensor(mask))
    return torch.stack(pixels).permute(0, 3, 1, 2), torch.stack(targets)


@functools.lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The examples' order in an epoch."""
    return rng(seed, _ORDER, epoch).permutation(count)


def loss_of(output: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Mean cross-entropy over what is labelled: binary for (B, C) logits, of pixels for (B, K, H, W)."""
    if output.ndim == 4:
        total = F.cross_entropy(output, targets.long(), ignore_index=VOID, reduction="sum")
        return total / (targets != VOID).sum().clamp(min=1)
    known = ~targets.isnan()
    losses = F.binary_cross_entropy_with_logits(output, targets.nan_to_num(), pos_weight=weights, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def positive_weights(labels: Tensor) -> Tensor:
    """What a positive counts for so that both sides of a class weigh alike: negatives / positives, at most `HEAVIEST`.

    Args:
        labels: (N, C), NaN = unknown. A class without positives gets 1.
    """
    positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
    ratio = (negative / positive.clamp(min=1)).clamp(1 / HEAVIEST, HEAVIEST)
    return torch.where(positive > 0, ratio, 1.0)

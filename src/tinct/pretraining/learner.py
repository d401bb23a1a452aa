"""What learns: generator, discriminator, their optimizers and the average, and the one step that trains them."""

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.layers import convert_sync_batchnorm
from timm.optim import param_groups_weight_decay
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from tinct.config import Config
from tinct.data.loader import Crops
from tinct.data.random import torch_seed
from tinct.device import memory_format, own_draws
from tinct.errors import TinctError
from tinct.inits import load_init
from tinct.models.discriminator import PatchDiscriminator
from tinct.models.encoder import Encoder
from tinct.models.stem import refit, trained_on
from tinct.objectives import TERMS, colour_terms
from tinct.objectives.adversarial import discriminator_loss, generator_loss
from tinct.objectives.base import Batch
from tinct.objectives.pretext import Pretext, take_apart, to_chroma_resolution
from tinct.shipped import resolve
from tinct.weights import ColourNet, cast, load_strict, read_weights

__all__ = ["Learner"]


class Learner:
    """The networks of a run on their device; `learn` is a step.

    Attributes:
        pretext: encoder, decoder and heads.
        discriminator: or None.
        ema: the average of `pretext`, which is evaluated and kept.
        history: what the file that the weights began with says of itself; {} for random ones.
    """

    @own_draws()
    def __init__(self, config: Config, fabric: Fabric) -> None:
        """Build everything from the seed, the same on every rank.

        Raises:
            TinctError: unknown backbone, impossible terms, or initial weights that do not fit.
        """
        torch.manual_seed(config.seed)
        self.config, self.fabric = config, fabric
        pretext = Pretext(
            Encoder(config.backbone, config.in_channels),
            config.terms,
            config.chroma_stride,
            config.width,
            config.in_colour,
        )
        if config.adversarial != "none" and pretext.colour is None:
            raise TinctError(
                f"adversarial is {config.adversarial}, which judges colours, and terms ({', '.join(config.terms)}) "
                f"make none: set adversarial to none, or add one of {', '.join(colour_terms(TERMS))} to terms"
            )
        if config.in_colour and pretext.colour is not None:
            raise TinctError(
                f"in_colour is {config.in_colour}, and terms has {pretext.colour.name}, whose decoder would be shown "
                "the colours it shall find: set in_colour to 0, or take palette instead"
            )
        if config.init_std is not None:
            normal_init(pretext, config.init_std)
        self.history = start_from(config.init, pretext) if config.init != "random" else {}
        if fabric.world_size > 1 and fabric.device.type == "cuda":
            synchronise_norms(pretext)
        self.pretext = pretext.to(fabric.device).to(memory_format=memory_format(fabric.device))
        self.ema = Average(self.pretext, config.ema, use_warmup=True)
        self.model, self.optimizer = fabric.setup(
            self.pretext,
            self._adamw(self.pretext, config.weight_decay, config.lr),
        )
        self.discriminator: PatchDiscriminator | None = None
        if config.adversarial != "none":
            self._add_discriminator()

    def _add_discriminator(self) -> None:
        config = self.config
        self.discriminator = PatchDiscriminator(
            config.size // config.chroma_stride, config.discriminator_width, config.discriminator_norm
        )
        if config.init_std is not None:
            normal_init(self.discriminator, config.init_std)
        self.discriminator.to(self.fabric.device).to(memory_format=memory_format(self.fabric.device))
        self.wrapped_discriminator, self.discriminator_optimizer = self.fabric.setup(
            self.discriminator,
            self._adamw(self.discriminator, 0.0, config.discriminator_lr),
        )

    def _adamw(self, module: nn.Module, weight_decay: float, lr: float) -> torch.optim.AdamW:
        groups = param_groups_weight_decay(module, weight_decay)[::-1]  # biases and norms, not decayed, come last
        # One pass over the weights instead of ten; Fabric cannot clip fused steps under fp16's gradient scaling.
        return torch.optim.AdamW(groups, lr, self.config.betas, fused=not self.config.precision.startswith("16"))

    @own_draws()
    def learn(
        self, parts: Iterable[Crops], step: int, rate: float, adversarial_weight: float | None
    ) -> dict[str, float]:
        """Take one step.

        Both networks answer to each other as they were before the step, so that a step may be taken in parts.

        Args:
            parts: the step's `config.accumulate` batches.
            step: counted from 0.
            rate: share of the peak learning rates.
            adversarial_weight: of the adversarial term; None leaves the discriminator out of this step.

        Returns:
            The mean of each loss over the parts and ranks, and the discriminator's accuracy.

        Raises:
            TinctError: a loss or a gradient is not finite; weights are as before the step, though running
                statistics of batch norms are not.
        """
        torch.manual_seed(torch_seed(self.config.seed, step, self.fabric.global_rank))  # for backbones with dropout
        weights = {**self.config.terms, "adversarial": adversarial_weight or 0.0}
        sums: dict[str, float] = defaultdict(float)
        means: dict[str, float] = {}
        for part in parts:
            batch = self._batch(part)
            losses, output = self.model(batch)
            watched: dict[str, Tensor] = {}
            if adversarial_weight is not None and output is not None:
                losses["adversarial"], watched = self._adversarial_losses(batch, output)
            for name, value in (losses | watched).items():
                sums[name] += float(value.detach()) / self.config.accumulate
            means = self._over_ranks(sums, step)  # at each part, so that a bad loss stops all ranks at once
            total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
            self.fabric.backward(total / self.config.accumulate)
        self._update(step, rate, adversarial_weight is not None)
        return means

    def _batch(self, part: Crops) -> Batch:
        """Crops on the device, as the networks see them."""
        pixels, keys = part.pixels.to(self.fabric.device), part.keys.to(self.fabric.device)
        colours = self.pretext.colour is not None
        batch = take_apart(pixels, keys, self.config.chroma_stride, self.config.aged, stretched=colours)
        return self.pretext.prepare(batch)

    def _adversarial_losses(self, batch: Batch, output: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's adversarial loss; on the way, the discriminator's gradients, in one pass."""
        assert self.discriminator is not None
        assert self.pretext.colour is not None
        kind = self.config.adversarial
        fake = self.pretext.colour.decode(output)
        l = to_chroma_resolution(batch)
        pairs = torch.cat((l, l)), torch.cat((batch.ab, fake.detach()))
        real_logits, fake_logits = self.wrapped_discriminator(*pairs).chunk(2)
        loss = discriminator_loss(kind, real_logits, fake_logits)
        self.fabric.backward(loss / self.config.accumulate)
        # The generator's pass must leave no gradients in the discriminator, nor wake its distributed wrapper.
        self.discriminator.requires_grad_(False)
        with self.fabric.autocast():
            adversarial = generator_loss(kind, self.discriminator(l, fake))
        self.discriminator.requires_grad_(True)
        middle = 0.5 if kind == "lsgan" else 0.0
        right = ((real_logits > middle).float().mean() + (fake_logits <= middle).float().mean()) / 2
        return adversarial, {"discriminator": loss, "discriminator_accuracy": right}

    def _update(self, step: int, rate: float, adversarial: bool) -> None:
        norm = self.fabric.clip_gradients(
            self.model, self.optimizer, max_norm=self.config.clip, error_if_nonfinite=False
        )
        norms = {"gradient": norm}
        if adversarial:  # measured alone: this one is not clipped
            norms["discriminator's gradient"] = self.fabric.clip_gradients(
                self.wrapped_discriminator, self.discriminator_optimizer, max_norm=math.inf, error_if_nonfinite=False
            )
        if not self.config.precision.startswith("16"):  # fp16 skips such steps by itself
            self._over_ranks({name: float(value) for name, value in norms.items() if value is not None}, step)
        pairs = [(self.optimizer, self.config.lr)]
        if adversarial:
            pairs.append((self.discriminator_optimizer, self.config.discriminator_lr))
        for optimizer, peak in pairs:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
            optimizer.step()
            optimizer.zero_grad()
        self.ema.update(self.pretext, step)

    def _over_ranks(self, values: dict[str, float], step: int) -> dict[str, float]:
        """Means over the ranks.

        Bad numbers stop a run before they reach the weights: on all ranks at once, as one alone would leave the others
        waiting.

        Raises:
            TinctError: names the first value that is infinite or not a number on any rank.
        """
        own = torch.tensor([*values.values()], device=self.fabric.device)
        summed: Any = self.fabric.all_reduce(own, reduce_op="sum")
        means = dict(zip(values, (summed / self.fabric.world_size).tolist(), strict=True))
        for name, value in means.items():
            if not math.isfinite(value):
                raise TinctError(
                    f"{name} became {value} at step {step}; the last checkpoint is kept: "
                    "lower lr or clip, or use precision 32-true, in a new run"
                )
        return means

    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by file name."""
        found: dict[str, nn.Module] = {"generator": self.pretext, "ema": self.ema.module}
        return found if self.discriminator is None else found | {"discriminator": self.discriminator}

    def optimizers(self) -> dict[str, Any]:
        """The optimizers' states by name, and fp16's scale."""
        precision = self.fabric.strategy.precision.state_dict()
        states = {"generator": self.optimizer.state_dict(), "precision": precision}
        if self.discriminator is not None:
            states["discriminator"] = self.discriminator_optimizer.state_dict()
        return states

    def load_optimizers(self, states: dict[str, Any]) -> None:
        """Take over what `optimizers` gave."""
        self.optimizer.load_state_dict(states["generator"])
        if self.discriminator is not None:
            self.discriminator_optimizer.load_state_dict(states["discriminator"])
        if scale := states.get("precision"):  # older checkpoints have none
            self.fabric.strategy.precision.load_state_dict(scale)


class Average(ModelEmaV3):  # type: ignore[misc]  # timm is untyped
    """timm's average, each tensor taken once: it goes by names, and a generator's encoder has two."""

    @torch.no_grad()
    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Go a share of 1 - `decay` of the way to the parameters and buffers of `model`."""
        own, others = ([*one.parameters(), *one.buffers()] for one in (self.module, model))
        for mean, value in zip(own, others, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def start_from(init: str, pretext: Pretext) -> dict[str, Any]:
    """Take weights from a file: a colorizer's, decoder and all, or else an encoder's in timm's names; or ImageNet's.

    Args:
        init: a file, the name of shipped weights, or `imagenet-lite`.
        pretext: where they go; its heads, and its decoder unless a colorizer brings one, keep their random weights.

    Returns:
        What the file says of itself; {} where it is not tinct's.

    Raises:
        TinctError: the file cannot be read, or its weights do not fit.
    """
    encoder = pretext.encoder
    if init == "imagenet-lite":
        start = load_init(init, input="grey" if encoder.in_channels == 1 else "rgb", backbone=encoder.backbone)
        load_strict(encoder.body, start.encoder.body.state_dict(), Path(init))
        return start.provenance
    path = resolve(init, "encoder", others=("random", "imagenet-lite"))
    tensors, meta = read_weights(path)
    tensors = cast(tensors, torch.float)
    if meta.get("kind") == "encoder" and meta.get("in_channels") != encoder.in_channels:
        tensors = refit(encoder.backbone, tensors, "grey" if encoder.in_channels == 1 else "rgb", trained_on(meta))[1]
    if meta.get("kind") != "colorizer":
        load_strict(encoder.body, tensors, path)
    elif pretext.generator is None or pretext.colour is None:
        raise TinctError(f"{path}: is a colorizer, and terms has no colours; start from its run's encoder.safetensors")
    else:
        load_strict(ColourNet(pretext.generator, pretext.colour, meta), tensors, path)
    return meta


def synchronise_norms(pretext: Pretext) -> None:
    """Let batch norms take the statistics of all ranks, by timm's function, which keeps the activations inside its own.

    It loses them where it comes by a norm twice, as over the whole pretext, whose encoder is the generator's too.
    """
    for part in (pretext.encoder, pretext.features):
        convert_sync_batchnorm(part)


def normal_init(module: nn.Module, std: float) -> None:
    """Draw all convolutions from N(0, std), as pix2pix does with 0.02 (Isola et al. 2017, section 6.2).

    Those under spectral norm are left alone: their scale has no effect.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not nn.utils.parametrize.is_parametrized(layer):
            nn.init.normal_(layer.weight, 0, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

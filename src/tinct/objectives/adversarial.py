"""Adversarial losses on a discriminator's logits: the discriminator's side and the generator's."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ADVERSARIAL", "discriminator_loss", "generator_loss"]


def _bce(logits: Tensor, real: bool) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))


def _lsgan(logits: Tensor, real: bool) -> Tensor:
    return (logits - float(real)).square().mean()


def _hinge(logits: Tensor, real: bool) -> Tensor:
    return F.relu(1 - logits if real else 1 + logits).mean()


ADVERSARIAL: dict[str, Callable[[Tensor, bool], Tensor]] = {"bce": _bce, "lsgan": _lsgan, "hinge": _hinge}
"""Goodfellow et al. 2014 (non-saturating), Mao et al. 2017 (targets 0 and 1), Lim and Ye 2017."""


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """The mean of the losses on real and on fake logits; the halving is pix2pix's (Isola et al. 2017, section 3.3)."""
    judge = ADVERSARIAL[kind]
    return (judge(real.float(), True) + judge(fake.float(), False)) / 2


def generator_loss(kind: str, fake: Tensor) -> Tensor:
    """What the generator pays for fakes that are seen through."""
    return -fake.float().mean() if kind == "hinge" else ADVERSARIAL[kind](fake.float(), True)

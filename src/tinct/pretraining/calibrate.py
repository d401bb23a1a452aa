"""How vivid a finished colorizer should be: its decoding, chosen on held-out photographs.

A network that is unsure answers with dull colours, one that is trained to favour rare colours with wrong ones. Which
decoding strikes the balance depends on what was learned, so it is looked for once training is over.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tinct.color import clip_to_gamut, lab_to_srgb, srgb_to_lab, stretch_levels
from tinct.color_metrics import ab_distance, colorfulness
from tinct.models.generator import Generator
from tinct.objectives.base import ColourTerm, Decoding
from tinct.objectives.bins import Bins
from tinct.objectives.pretext import Pretext
from tinct.pretraining.heldout import Colourer
from tinct.weights import ColourNet

__all__ = ["COLOURFULNESS", "calibrate", "recalibrate"]

COLOURFULNESS = 0.85
"""The share of the truth's colourfulness to reach at the resolution of chroma; enlarged, up to 0.05 are lost.

Less looks faded, more makes wrong guesses loud: on 64 of VOC 2012's val pictures each further 0.05 cost tinct-small 0.4
to 0.5 of ab error.
"""
GAINS = (0.5, 2.5)
"""How far chroma may be scaled. A network that needs more has learned little, and its cast would be blown up."""
TEMPERATURES = (0.38, 0.6)
"""Colder ones draw colours to the centres of bins (Zhang et al.'s 0.38 is meant for a grid twice as fine), warmer ones
mix hues: a sky that could be blue or red comes out purple."""
PRIORS = (0.0, 0.25, 0.5, 0.75, 1.0)
BATCH = 32
"""Pictures in a pass."""
SIDE = 32
"""A picture is judged by this many rows of its colour, or up to twice as many: at stride 1 all would be too slow."""


@torch.no_grad()
def calibrate(
    generator: Generator,
    colour: ColourTerm,
    pictures: NDArray[np.uint8],
    device: torch.device,
    priors: Sequence[float] = PRIORS,
) -> Decoding:
    """Find the decoding of least ab error among those that reach `COLOURFULNESS`.

    Args:
        generator: on `device`.
        colour: its colour term; how it decodes is put back after.
        pictures: (N, H, W, 3) photographs in colour that training did not see; without any, nothing is changed.
        device: where to run.
        priors: those to choose from.

    Returns:
        The decoding; for terms without bins, only `gain` differs from the default.
    """
    before = colour.decoding
    if not len(pictures):
        return before
    truth = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    parts, every = [], 1
    for part in truth.split(BATCH):
        output = generator(stretch_levels(srgb_to_lab(part.to(device))[:, :1])).cpu()
        every = max(1, output.shape[-1] // SIDE)
        parts.append(output[:, :, ::every, ::every])
    outputs, stride = torch.cat(parts), truth.shape[-1] // output.shape[-1]
    coarse = F.avg_pool2d(truth.float(), stride)[:, :, ::every, ::every].round() / 255  # much faster to judge

    bins = isinstance(colour, Bins)
    tried = [
        Decoding(temperature=temperature, prior=prior)
        for temperature in (TEMPERATURES if bins else (before.temperature,))
        for prior in (priors if bins else (before.prior,))
    ]
    try:
        colour.cpu()
        answers = torch.stack([_decoded(colour, how, outputs) for how in tried])
    finally:
        colour.decoding = before
        colour.to(device)

    lab, colourful = srgb_to_lab(coarse), colorfulness(coarse).mean()
    result = partial(_result, answers, lab)  # gains only multiply what was decoded
    low, high = (torch.full((len(tried),), gain, dtype=torch.float64) for gain in GAINS)
    for _ in range(6):  # colourfulness rises with the gain: bisections find the least that does, within 3 %
        middle = (low * high).sqrt()
        reached = _lacking(result(middle), colourful) == 0
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    choices: list[tuple[float, float, float, Decoding]] = []
    for gains in (torch.ones_like(high), (1000 * high).ceil() / 1000):
        rgb = result(gains)
        lacks, errors = _lacking(rgb, colourful), _errors(rgb, lab)
        choices += zip(lacks.tolist(), errors.tolist(), gains.tolist(), tried, strict=True)
    _, _, gain, decoding = min(choices, key=lambda choice: choice[:2])
    return replace(decoding, gain=gain)


def _decoded(colour: ColourTerm, decoding: Decoding, outputs: Tensor) -> Tensor:
    colour.decoding = decoding
    return colour.decode(outputs)


def _result(answers: Tensor, lab: Tensor, gains: Tensor) -> Tensor:
    """The colours (K, N, 3, H, W) of answers (K, N, 2, H, W) times a gain each (K,), on L* of `lab` (N, 3, H, W)."""
    scaled = gains.float()[:, None, None, None, None] * answers
    l = lab[:, :1].expand(len(answers), -1, -1, -1, -1)
    return lab_to_srgb(clip_to_gamut(torch.cat((l, scaled), dim=2)))


def _lacking(rgb: Tensor, colourful: Tensor) -> Tensor:
    """By how much results (K, N, 3, H, W) lack colourfulness (K,), where `colourful` is the mean of the true ones."""
    ratio = colorfulness(rgb.flatten(0, 1)).view(rgb.shape[:2]).mean(1) / colourful
    return (COLOURFULNESS - ratio).clamp(min=0)


def _errors(rgb: Tensor, lab: Tensor) -> Tensor:
    """The ab errors of results (K, N, 3, H, W), (K,); `lab` (N, 3, H, W) are the true pictures."""
    return torch.stack([ab_distance(srgb_to_lab(one)[:, 1:], lab[:, 1:]).mean() for one in rgb])


def recalibrate(pretext: Pretext, pictures: NDArray[np.uint8], device: torch.device) -> Colourer | None:
    """Let a pretext's colour term decode as `calibrate` finds best from now on.

    Returns:
        How it then colours, from L to ab; None where it learns no colours.
    """
    generator, colour = pretext.generator, pretext.colour
    if generator is None or colour is None:
        return None
    colour.decoding = calibrate(generator, colour, pictures, device)
    return ColourNet(generator, colour, {})

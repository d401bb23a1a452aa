"""What networks are fed, and how a first convolution that was trained on something else is made to fit.

There are two inputs, both in [-1, 1], and every network of a transfer gets the same one:

    grey  u = L*/50 - 1       (B, 1, H, W), L* of CIE Lab (D65)
    rgb   u_c = 2 v_c - 1     (B, 3, H, W), v = sRGB in [0, 1], gamma-encoded

Weights come trained on one of two things:

    lightness  x_c = L*/50 - 1 in each of 1 or 3 channels: tinct's own encoders
    colour     x_c = (v_c - m_c) / s_c in 3 channels: timm's, with the mean m and deviation s that timm states; and
               tinct's own that saw some pictures in colour, as rgb above (m = s = 1/2)

The first convolution's new weights W' and added bias b follow:

    lightness -> grey   W' = sum_c W_c
    lightness -> rgb    W'_c = y_c sum_k W_k             y = luma weights, which sum to 1
    colour -> rgb       W'_c = W_c / (2 s_c),            b = sum_c,window W_c (1/2 - m_c) / s_c
    colour -> grey      W'   = sum_c W_c / (2 s_c),      b as above

`lightness -> grey` and `colour -> rgb` are exact, but that with b (m other than 1/2) the outermost ring of outputs sees
zero padding as mid-grey where it was the mean. The other two take L*/100 for the sRGB value of a grey picture, which is
at most 0.034 off (at mid-grey), and luma for L*: L* is not linear in RGB, and over the embedded photographs the
difference has an RMS of 0.04 of the range (BT.709's weights, which are meant for linear light, give 0.06), the most
in saturated green (0.29 too dark), then red (0.23) and blue (0.21).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tinct.color import normalize_l, srgb_to_lab
from tinct.device import memory_format
from tinct.errors import TinctError
from tinct.models.encoder import Encoder

__all__ = [
    "COLOUR",
    "LUMA",
    "Input",
    "Statistics",
    "fold_stem",
    "give_bias",
    "lightness_of",
    "network_input",
    "refit",
    "stem_name",
    "trained_on",
]

Input = Literal["grey", "rgb"]
Statistics = tuple[Sequence[float], Sequence[float]]
"""Mean and standard deviation of each channel that an RGB network was trained with."""

COLOUR: Statistics = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
"""Those of `rgb` above."""

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, section 2.5.1: for gamma-encoded values."""


def network_input(pixels: Tensor, kind: Input) -> Tensor:
    """(B, 3, H, W) uint8 sRGB to what the network sees: (B, 1, H, W) or (B, 3, H, W) float32 in [-1, 1]."""
    values = pixels.float() / 255
    fed = normalize_l(srgb_to_lab(values)[:, :1]) if kind == "grey" else 2 * values - 1
    return fed.contiguous(memory_format=memory_format(fed.device))


def lightness_of(fed: Tensor) -> Tensor:
    """The (B, 1, H, W) grey picture, in [-1, 1], within a network's input: exact for grey, luma for rgb."""
    if fed.shape[1] == 1:
        return fed
    return (fed * torch.tensor(LUMA, device=fed.device, dtype=fed.dtype)[:, None, None]).sum(1, keepdim=True)


def fold_stem(weight: Tensor, to: Input, trained: Statistics | None) -> tuple[Tensor, Tensor | None]:
    """Change a first convolution for another input, by the formulas above.

    Args:
        weight: (O, I, k, k).
        to: the input wanted.
        trained: statistics of the RGB input it was trained on; None for lightness in each of its channels.

    Returns:
        The weight, (O, 1, k, k) or (O, 3, k, k), and the bias (O,) to add; None for none.
    """
    if trained is None:
        total = weight.sum(1, keepdim=True)
        return (total if to == "grey" else total * weight.new_tensor(LUMA)[:, None, None]), None
    mean, deviation = (weight.new_tensor(values) for values in trained)
    scaled = weight / (2 * deviation)[:, None, None]
    offset = weight.sum((2, 3)) @ ((0.5 - mean) / deviation)
    bias = offset if bool((mean != 0.5).any()) else None
    return (scaled.sum(1, keepdim=True) if to == "grey" else scaled), bias


def trained_on(meta: dict[str, Any]) -> Statistics | None:
    """What tinct's own encoder was trained on, by its header: lightness (None), or colour for part of the time."""
    return COLOUR if meta.get("in_colour") else None


def stem_name(body: nn.Module) -> str | None:
    """The name of a timm model's first convolution; None where timm names none, or several."""
    names = getattr(body, "default_cfg", {}).get("first_conv")
    names = [names] if isinstance(names, str) else list(names or [])
    return names[0] if len(names) == 1 else None


def give_bias(layer: nn.Module) -> None:
    """Add a bias of zeros to a convolution without one."""
    assert isinstance(layer, nn.Conv2d)
    if layer.bias is None:
        layer.bias = nn.Parameter(layer.weight.new_zeros(layer.out_channels))


def refit(
    backbone: str, tensors: dict[str, Tensor], to: Input, trained: Statistics | None
) -> tuple[Encoder, dict[str, Tensor]]:
    """An encoder for the input `to`, and `tensors` (of the same backbone, trained on something else) changed to fit it.

    Raises:
        TinctError: the first convolution is not among the tensors, or cannot be folded.
    """
    encoder = Encoder(backbone, 1 if to == "grey" else 3)
    own = {key: value.shape for key, value in encoder.body.state_dict().items()}
    if trained is None and to == "grey" and own == {key: value.shape for key, value in tensors.items()}:
        return encoder, tensors  # nothing to change
    stem = stem_name(encoder.body)
    if stem is None:
        raise TinctError(f"timm does not name the first convolution of {backbone}; pick another backbone")
    layer = encoder.body.get_submodule(stem)
    if not isinstance(layer, nn.Conv2d) or "Std" in type(layer).__name__:  # standardised weights undo any scaling
        raise TinctError(f"{stem} of {backbone} is a {type(layer).__name__}, which cannot be folded; pick another")
    if f"{stem}.weight" not in tensors:
        raise TinctError(f"no {stem}.weight among the weights for {backbone}; check the backbone they were made with")
    weight, bias = fold_stem(tensors[f"{stem}.weight"], to, trained)
    changed = tensors | {f"{stem}.weight": weight}
    if bias is not None:
        give_bias(layer)
        changed[f"{stem}.bias"] = bias + tensors.get(f"{stem}.bias", 0)
    return encoder, changed

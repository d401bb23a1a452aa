"""Proof that an export is what it came from: the same input tensors through both, and the largest difference.

The inputs are photographs (scikit-image's), at two sizes and batch sizes, so that what depends on size would show.
A difference is judged against the output's own scale: |a - b| <= tolerance * max(1, largest |a|) for each output, which
for outputs within [-1, 1] is the plain difference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from skimage import data
from torch import Tensor, nn

from tinct.color import srgb_to_lab
from tinct.errors import TinctError
from tinct.models.encoder import Encoder
from tinct.models.stem import Input, lightness_of, network_input

__all__ = [
    "as_fed",
    "as_list",
    "compare",
    "fold_error",
    "rounding_error",
    "sample_inputs",
    "sample_pictures",
]

SINGLE = 1e-4
HALF = 1e-3
"""Tolerances. In half precision both sides have the rounded weights; `rounding_error` says what rounding them costs."""

Forward = Callable[[Tensor], Sequence[Tensor]]


def sample_pictures() -> list[Tensor]:
    """Photographs (B, 3, H, W) uint8: two squares of 128 px, and a single one of 96 x 160."""
    squares = [data.astronaut()[20:276:2, 90:346:2], data.coffee()[60:316:2, 150:406:2]]
    wide = [data.chelsea()[20:212:2, 70:390:2]]
    return [torch.stack([torch.tensor(part).permute(2, 0, 1) for part in group]) for group in (squares, wide)]


def sample_inputs(kind: Input | str) -> list[Tensor]:
    """What networks are fed for `sample_pictures`, see `as_fed`."""
    return [as_fed(pixels, kind) for pixels in sample_pictures()]


def as_fed(pixels: Tensor, kind: Input | str) -> Tensor:
    """Pictures (B, 3, H, W) uint8 as `grey`, `rgb`, or `lightness`, which is L* (B, 1, H, W)."""
    if kind == "lightness":
        return srgb_to_lab(pixels.float() / 255)[:, :1]
    return network_input(pixels, "grey" if kind == "grey" else "rgb")


@torch.no_grad()
def compare(
    ours: Forward, theirs: Forward, inputs: Sequence[Tensor], names: Sequence[str], half: bool = False
) -> dict[str, Any]:
    """Run both on the same tensors.

    Args:
        ours: the network exported, to its outputs.
        theirs: what was read back.
        inputs: tensors for both.
        names: of the outputs.
        half: whether weights were rounded to half precision, for which the tolerance is larger.

    Returns:
        For the report: `largest_difference` and its `relative` form, of each output and over all.

    Raises:
        TinctError: they differ by more than the tolerance, in number or in shape, or are not finite.
    """
    outputs: dict[str, dict[str, float]] = {}
    tolerance = HALF if half else SINGLE
    for fed in inputs:
        for name, a, b in _paired(ours(fed), theirs(fed), names):
            found = outputs.setdefault(name, {"largest_difference": 0.0, "relative": 0.0, "largest_value": 0.0})
            difference, scale = float((a - b.float()).abs().max()), float(a.abs().max())
            relative = difference / max(1.0, scale)
            if not relative <= tolerance:  # NaN too
                raise TinctError(
                    f"{name} of what was read back differs by {difference:.2g} (values up to {scale:.2g}), over the "
                    f"tolerance of {tolerance:g}; nothing was written. This backbone cannot be exported so"
                )
            for key, value in zip(found, (difference, relative, scale), strict=True):
                found[key] = max(found[key], value)
    return {
        "largest_difference": max(found["largest_difference"] for found in outputs.values()),
        "relative": max(found["relative"] for found in outputs.values()),
        "tolerance": tolerance,
        "inputs": [list(fed.shape) for fed in inputs],
        "outputs": outputs,
    }


def _paired(ours: Sequence[Tensor], theirs: Sequence[Tensor], names: Sequence[str]) -> list[tuple[str, Tensor, Tensor]]:
    shapes = [[tuple(value.shape) for value in values] for values in (ours, theirs)]
    if shapes[0] != shapes[1] or len(names) != len(ours):
        raise TinctError(f"what was read back gives shapes {shapes[1]}, expected {shapes[0]}; nothing was written")
    return list(zip(names, ours, theirs, strict=True))


@torch.no_grad()
def rounding_error(exact: nn.Module, rounded: nn.Module, inputs: Sequence[Tensor]) -> dict[str, float]:
    """What half precision changes: of all outputs, the largest difference in shares of its output's largest value."""
    worst, squares = 0.0, []
    for fed in inputs:
        for a, b in zip(as_list(exact(fed)), as_list(rounded(fed)), strict=True):
            worst = max(worst, float((a - b).abs().max() / a.abs().max()))
            squares.append(float((a - b).norm() / a.norm()))
    return {"largest": worst, "relative_rms": max(squares)}


def as_list(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """A network's one output, or its several, as a list."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@torch.no_grad()
def fold_error(grey: Encoder, rgb: Encoder) -> dict[str, Any]:
    """What an encoder of lightness loses when luma weights fold it for RGB input (see `tinct.models.stem`).

    Both are asked about the same photographs; and the folded input, luma, is compared with lightness over a grid of all
    colours of sRGB too, in steps of 1/16.

    Args:
        grey: the encoder that sees L*.
        rgb: the same, folded.

    Returns:
        For the report: input errors as shares of the range, and the features' as shares of their own RMS.
    """
    axis = torch.arange(0, 256, 15)
    cube = torch.cartesian_prod(axis, axis, axis).to(torch.uint8).T[None, :, None]
    over_cube = _input_error(cube)[0, 0, 0].abs()
    worst = int(over_cube.argmax())
    eye = 255 * torch.eye(3, dtype=torch.uint8)[..., None, None]
    primaries = {name: colour[None] for name, colour in zip(("red", "green", "blue"), eye, strict=True)}
    pictures = sample_pictures()
    errors = torch.cat([_input_error(pixels).flatten() for pixels in pictures])
    features: dict[str, float] = {}
    for name, level in (("finest", 0), ("deepest", -1)):
        a = torch.cat([grey(network_input(pixels, "grey"))[level].flatten() for pixels in pictures])
        b = torch.cat([rgb(network_input(pixels, "rgb"))[level].flatten() for pixels in pictures])
        features[name] = round(float((a - b).norm() / a.norm()), 5)
    return {
        "formula": "W'_c = y_c sum_k W_k, with y = (0.299, 0.587, 0.114), ITU-R BT.601 luma in place of L*/100",
        "input_rms": round(float(errors.square().mean().sqrt()), 5),
        "input_largest": round(float(errors.abs().max()), 5),
        "input_largest_of_all_colours": round(float(over_cube.max()), 5),
        "worst_colour": cube[0, :, 0, worst].tolist(),
        "primaries": {name: round(float(_input_error(colour)), 5) for name, colour in primaries.items()},
        "features_relative_rms": features,
    }


def _input_error(pixels: Tensor) -> Tensor:
    """Luma less L*/100, (B, 1, H, W)."""
    return (lightness_of(network_input(pixels, "rgb")) - network_input(pixels, "grey")) / 2

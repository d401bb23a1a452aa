"""From samples to L*, and from L* and ab to samples: what `tinct.color` does, faster, a strip at a time.

In numpy, whose operations stay in the thread that asks: strips are shared out to threads that never wait for each
other, where torch's would after every operation: that took 14 times as long beside two busy programs.
Powers are looked up in tables over the square root of linear light, whose even steps suit both curves. The tests hold
both functions to `tinct.color`, from which every constant comes.
"""

import functools
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tinct.color import BISECTIONS, LAB_EPSILON, LAB_SLOPE, RGB_TO_XYZ, SRGB_KNEE, TOLERANCE, XYZ_TO_RGB
from tinct.pictures.picture import Pixels, top

__all__ = ["lightness", "srgb"]

Plane: TypeAlias = NDArray[np.float32]

STEPS = 1 << 17
"""Steps of a table: L* is met within 0.0015, samples within 1 of 65,535."""
LIGHT_KNEE = SRGB_KNEE / 12.92
LAB_KNEE = np.float32(LAB_EPSILON ** (1 / 3))


def lightness(pixels: Pixels) -> Plane:
    """L* of (n, W) or (n, W, 3) samples as `tinct.pictures.picture.Picture` holds them: (n, W) float32 in [0, 100]."""
    if pixels.ndim == 2:
        if pixels.dtype.kind == "f":
            return _lightness().take(_step(_decoded(pixels)))
        return _grey_lightness(top(pixels)).take(pixels)
    y = np.zeros(pixels.shape[:2], np.float32)
    for channel, weight in enumerate(RGB_TO_XYZ[1]):
        plane = pixels[..., channel]
        light = _decoded(plane) if pixels.dtype.kind == "f" else _linear_light(top(pixels)).take(plane)
        light *= np.float32(weight)
        y += light
    return _lightness().take(_step(y))


def srgb(l: Plane, ab: Plane, dtype: np.dtype[np.generic]) -> Pixels:
    """The sRGB samples of a strip; colours outside the gamut lose chroma, never lightness or hue.

    Args:
        l: (n, W) L* in [0, 100].
        ab: (2, n, W) in Lab units.
        dtype: uint8 or uint16 for full-range samples, float32 for [0, 1].

    Returns:
        (n, W, 3) of that type.
    """
    lab = np.concatenate((l[None], ab)).reshape(3, -1)
    linear = _linear(lab)
    outside = np.flatnonzero(~_fits(linear))
    if len(outside):
        linear[:, outside] = _linear(_clipped(lab[:, outside]))
    result = np.empty((*l.shape, 3), dtype)
    encoded = _curve(linear.clip(0, 1)) if dtype.kind == "f" else _encoded(top(result)).take(_step(linear))
    for channel in range(3):
        result[..., channel] = encoded[channel].reshape(l.shape)
    return result


def _linear(lab: Plane) -> Plane:
    """Linear sRGB, unclipped, of (3, N) Lab: `tinct.color.lab_to_srgb` up to its curve."""
    f = np.empty_like(lab)
    np.multiply(lab[0], np.float32(1 / 116), out=f[1])
    f[1] += np.float32(16 / 116)
    for number, divisor in ((0, 500), (2, -200)):
        np.multiply(lab[1 + number // 2], np.float32(1 / divisor), out=f[number])
        f[number] += f[1]
    # the line below the knee and the cube above it, added up
    line = np.minimum(f, LAB_KNEE)
    line -= LAB_KNEE
    line *= np.float32(1 / LAB_SLOPE)
    np.maximum(f, LAB_KNEE, out=f)
    xyz = f * f
    xyz *= f
    xyz += line
    rgb, part = line, f[0]  # their room, used again
    for channel, weights in enumerate(XYZ_TO_RGB.astype(np.float32)):
        np.multiply(xyz[0], weights[0], out=rgb[channel])
        for number in (1, 2):  # a matrix product would start threads of its own
            rgb[channel] += np.multiply(xyz[number], weights[number], out=part)
    return rgb


def _fits(linear: Plane) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = (linear.min(axis=0) >= -TOLERANCE) & (linear.max(axis=0) <= 1 + TOLERANCE)
    return within


def _clipped(lab: Plane) -> Plane:
    """`tinct.color.clip_to_gamut` for (3, N) colours that are all outside."""
    low, high = np.zeros_like(lab[0]), np.ones_like(lab[0])  # grey always fits
    tried = lab.copy()
    for _ in range(BISECTIONS):
        middle = (low + high) * np.float32(0.5)
        np.multiply(lab[1:], middle, out=tried[1:])
        fits = _fits(_linear(tried))
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    np.multiply(lab[1:], low, out=tried[1:])
    return tried


def _step(light: Plane) -> NDArray[np.int32]:
    """Where light in [0, 1] is found in `_lightness` and `_encoded`; changes `light`."""
    light.clip(0, 1, out=light)
    np.sqrt(light, out=light)
    light *= np.float32(STEPS)
    light += np.float32(0.5)
    return light.astype(np.int32)


def _decoded(value: NDArray[np.floating]) -> Plane:
    """The sRGB curve from samples in [0, 1] to linear light."""
    light = np.where(value > SRGB_KNEE, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
    return light.astype(np.float32, copy=False)


def _curve(light: NDArray[np.floating]) -> NDArray[np.floating]:
    """The inverse of `_decoded`."""
    return np.where(light > LIGHT_KNEE, 1.055 * light ** (1 / 2.4) - 0.055, 12.92 * light)


def _lab_lightness(light: NDArray[np.floating]) -> Plane:
    """L* of linear light in [0, 1]."""
    f = np.where(light > LAB_EPSILON, np.cbrt(light), LAB_SLOPE * light + 16 / 116)
    return (116 * f - 16).astype(np.float32)


@functools.cache
def _grey_lightness(white: int) -> Plane:
    return _lab_lightness(_linear_light(white))


@functools.cache
def _linear_light(white: int) -> Plane:
    return _decoded(np.arange(white + 1) / white)


@functools.cache
def _lightness() -> Plane:
    return _lab_lightness((np.arange(STEPS + 1) / STEPS) ** 2)


@functools.cache
def _encoded(white: int) -> Pixels:
    curve: Pixels = np.rint(_curve((np.arange(STEPS + 1) / STEPS) ** 2) * white)
    return curve.astype(np.uint8 if white == 255 else np.uint16)

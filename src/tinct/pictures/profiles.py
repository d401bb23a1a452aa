"""Colour profiles (ICC.1:2022): what a picture's numbers mean, brought to sRGB.

8 bits go through LittleCMS by way of Pillow. Pillow has no 16-bit colour, so there the profiles that scanners and
cameras embed (one curve for grey; three curves and a matrix for colour) are evaluated here.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from tinct.data.srgb import transform_to_srgb
from tinct.errors import PictureError

__all__ = ["srgb", "to_srgb"]

Curve = NDArray[np.float64]

GRID = np.linspace(0, 1, 4097)
"""Where curves are sampled; between, linear interpolation of a gamma of 2.4 errs by less than a 16-bit step."""


@functools.cache
def srgb() -> bytes:
    """The profile that results are tagged with: LittleCMS's sRGB, its date of creation fixed so that bytes repeat."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    content[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(content)


def to_srgb(profile: bytes, dtype: Any, channels: int) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """The function that brings an array of pixels from `profile` to sRGB.

    None where nothing is to be done: `profile` is sRGB, or damaged, or made for another kind of picture (viewers
    ignore these too).

    Args:
        profile: an ICC profile.
        dtype: uint8 or uint16.
        channels: 1 for (H, W) arrays, 3 for (H, W, 3).

    Raises:
        PictureError: the samples have 16 bits and the profile holds tables, or curves that lead to Lab.
    """
    transform = transform_to_srgb(profile, "L" if channels == 1 else "RGB")
    if transform is None:
        return None
    if dtype == np.uint16:
        return _model(profile, channels)
    if channels == 3:
        return lambda pixels: np.asarray(transform.apply(Image.fromarray(pixels)))
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    table = np.asarray(transform.apply(ramp))[0, :, 1]
    return lambda pixels: table[pixels]


def _model(profile: bytes, channels: int) -> Callable[[NDArray[np.uint16]], NDArray[np.uint16]]:
    """The curve-and-matrix model (ICC.1:2022, annex F.3) from 16-bit samples to 16-bit sRGB."""
    try:
        tags, target = _tags(profile), _tags(srgb())
        if b"A2B0" in tags or profile[20:24] != b"XYZ ":
            raise ValueError("tables go before curves, and curves to Lab are of another meaning")
        curves = [_curve(tags[name]) for name in ((b"kTRC",) if channels == 1 else (b"rTRC", b"gTRC", b"bTRC"))]
        encode = _curve(target[b"rTRC"])
        matrix = np.eye(1) if channels == 1 else np.linalg.solve(_colorants(target), _colorants(tags))
    except (ArithmeticError, LookupError, ValueError, struct.error) as error:
        raise PictureError("16 bits with a table-based colour profile; convert it to sRGB first") from error

    def convert(pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        planes = pixels.reshape(-1, channels).T / 65535
        linear = matrix @ np.stack([np.interp(plane, GRID, curve) for plane, curve in zip(planes, curves, strict=True)])
        encoded: NDArray[np.uint16] = np.rint(np.interp(linear, encode, GRID) * 65535).astype(np.uint16)
        return encoded.T.reshape(pixels.shape)

    return convert


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(min(count, 1000)))
    return {name: profile[start : start + length] for name, start, length in entries}


def _colorants(tags: dict[bytes, bytes]) -> NDArray[np.float64]:
    """XYZ of the three primaries, in columns (s15Fixed16Number, section 4.6)."""
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    return np.array(columns, float).T / 65536


def _curve(tag: bytes) -> Curve:
    """A tone curve, sampled at `GRID` (curveType, section 10.6; parametricCurveType, section 10.18)."""
    kind, length = tag[:4], struct.unpack_from(">I", tag, 8)[0]
    if kind == b"curv":
        values = np.array(struct.unpack_from(f">{length}H", tag, 12), float)
        if length < 2:
            return np.power(GRID, values[0] / 256 if length else 1.0)
        return np.interp(GRID, np.linspace(0, 1, length), values / 65535)
    if kind != b"para":
        raise ValueError(f"unknown curve {kind!r}")
    (function,) = struct.unpack_from(">H", tag, 8)
    given = struct.unpack_from(f">{(1, 3, 4, 5, 7)[function]}i", tag, 12)
    g, *rest = (value / 65536 for value in given)
    a, b, c, d, e, f = (rest + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(rest) :])[:6]
    power: Curve = np.maximum(a * GRID + b, 0) ** g
    curve: Curve = np.where(d <= GRID, power + e, c * GRID + f)
    if function in (1, 2):  # (aX + b)^g + c above -b/a, and c below
        curve = np.where(-b / a <= GRID, power, 0) + (c if function == 2 else 0)
    return curve

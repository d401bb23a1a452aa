"""sRGB, CIE Lab and the space of chroma, in float32 whatever the autocast: pure functions of tensors.

The white point is D65 for the 2 degree observer; the matrix is the one of IEC 61966-2-1 (sRGB) as scikit-image uses it.
"""

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tinct.errors import TinctError

__all__ = [
    "BISECTIONS",
    "LAB_EPSILON",
    "LAB_SLOPE",
    "LUMINANCE",
    "RGB_TO_XYZ",
    "SRGB_KNEE",
    "TOLERANCE",
    "XYZ_TO_RGB",
    "ab_centres",
    "as_bytes",
    "as_planes",
    "clip_to_gamut",
    "denormalize_ab",
    "greyed",
    "in_gamut",
    "lab_to_srgb",
    "normalize_ab",
    "normalize_l",
    "srgb_to_lab",
    "srgb_to_lightness",
    "stretch_levels",
]

AB_SCALE = 110.0
"""Lab units that become 1 in `ab_norm`; sRGB reaches -107.9 to 98.3 (as in Isola et al. 2017's colorization)."""

RGB_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
) / np.array([[0.95047], [1.0], [1.08883]])
"""Linear RGB to XYZ relative to the white point."""
LUMINANCE = tuple(RGB_TO_XYZ[1].tolist())
"""What linear red, green and blue add to luminance."""
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ)
LAB_EPSILON = 0.008856
"""Below this the cube root gives way to a line (CIE 15:2004, section 8.2.1); (6/29)^3 rounded, as scikit-image does."""
LAB_SLOPE = 7.787
SRGB_KNEE = 0.04045
"""Below this the sRGB curve is a line (IEC 61966-2-1)."""
TOLERANCE = 1e-4
"""In linear light, beyond which a colour is outside sRGB: a third of an 8-bit step in the shadows, where steps are
finest."""
BISECTIONS = 12
"""Halvings that find the largest share of a chroma that fits, to 2^-12."""
LEVELS = 128
"""Places across and down that `stretch_levels` knows of: as many at any size, so that ONNX can say it too, and a power
of two, so that it rounds to the same ones."""
MIDDLE = slice(21, 107)
"""Those of them, across and down, at which it looks: borders, film's holes and dark corners lie outside."""
BEYOND = 74
"""Of those 86 x 86, how many the darkest and lightest levels may leave beyond: 1 %."""
MOST = 4.0
"""The most that contrast is multiplied by: what is hardly there is noise."""


def srgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to CIE Lab.

    Args:
        rgb: (..., 3, H, W), in [0, 1] of any float type, or 8-bit values as uint8, which is faster.

    Returns:
        (..., 3, H, W) float32: L* in [0, 100], a* and b* in Lab units. Gradients are finite everywhere.

    Raises:
        TinctError: `rgb` is no tensor, of another shape, or neither of floats nor of bytes.

    Example:
        >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(3, 1, 1)
        >>> [round(value) for value in srgb_to_lab(red).flatten().tolist()]
        [53, 80, 67]
    """
    _check_tensor(rgb, "rgb", or_bytes=True)
    with torch.autocast(rgb.device.type, enabled=False):
        x, y, z = _root(_mix(_light(rgb), RGB_TO_XYZ)).unbind(-3)
        return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), dim=-3)


def srgb_to_lightness(rgb: Tensor, sensitivity: Tensor) -> Tensor:
    """L* of what a film of another sensitivity than the eye's would show.

    Args:
        rgb: (B, 3, H, W), as of `srgb_to_lab`.
        sensitivity: (B, 3, 1, 1), what linear red, green and blue count for; with a sum of 1 white stays white. With
            `LUMINANCE` the L* is that of CIE Lab.

    Returns:
        (B, 1, H, W) float32 in [0, 100].
    """
    with torch.autocast(rgb.device.type, enabled=False):
        return 116 * _root((_light(rgb) * sensitivity).sum(-3, keepdim=True)) - 16


def stretch_levels(l: Tensor) -> Tensor:
    """Let each picture reach from black to white, as "auto levels" does: what faded lightly is as it was.

    Its levels are the 74th darkest and lightest of 7,396 evenly spread pixels of the middle. Contrast is multiplied by
    1 to `MOST`; what then reaches less far keeps its place between black and white.

    Args:
        l: (B, 1, H, W) L* in [0, 100].

    Returns:
        The same shape, in [0, 100].
    """
    places = F.interpolate(l, (LEVELS, LEVELS), mode="nearest")[:, :, MIDDLE, MIDDLE]
    rising = places.flatten(1).sort(dim=1).values[:, :, None, None]
    black, white = rising[:, BEYOND - 1 : BEYOND], rising[:, -BEYOND : 1 - BEYOND]
    reach = white - black
    factor = (100 / reach.clamp(min=1e-3)).clamp(max=MOST)
    start = (100 - factor * reach) * black / (100 - reach).clamp(min=1e-3)
    return (start + factor * (l - black)).clamp(0, 100)


def lab_to_srgb(lab: Tensor) -> Tensor:
    """Convert CIE Lab to sRGB, each channel clipped to [0, 1]; see `clip_to_gamut` for a kinder way to clip.

    Args:
        lab: (..., 3, H, W) in Lab units, any float type.

    Returns:
        (..., 3, H, W) float32 in [0, 1]. Gradients are finite everywhere.

    Raises:
        TinctError: `lab` is no tensor, of another shape, or not of floats.
    """
    _check_tensor(lab, "lab")
    with torch.autocast(lab.device.type, enabled=False):
        linear = _lab_to_linear(lab.float()).clamp(0, 1)
        knee = SRGB_KNEE / 12.92
        curve = 1.055 * linear.clamp(min=knee) ** (1 / 2.4) - 0.055
        return torch.where(linear > knee, curve, 12.92 * linear).clamp(0, 1)


def greyed(rgb: Tensor) -> Tensor:
    """Its lightness without its colour: (..., 3, H, W) float32 sRGB in [0, 1] of `rgb` as of `srgb_to_lab`."""
    l = srgb_to_lab(rgb).narrow(-3, 0, 1)
    return lab_to_srgb(torch.cat((l, torch.zeros_like(l), torch.zeros_like(l)), dim=-3))


def as_bytes(rgb: Tensor) -> NDArray[np.uint8]:
    """Planes (3, H, W) in [0, 1], rounded to a picture (H, W, 3) of 8 bits that others can show or write."""
    pixels: NDArray[np.uint8] = rgb.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    return pixels


def as_planes(pixels: NDArray[np.uint8]) -> Tensor:
    """The inverse of `as_bytes`, of one picture or many: (..., H, W, 3) of 8 bits to (..., 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels).movedim(-1, -3).float() / 255


def in_gamut(lab: Tensor) -> Tensor:
    """Whether a colour exists in sRGB, within `TOLERANCE`: (..., 1, H, W) booleans for (..., 3, H, W) Lab."""
    linear = _lab_to_linear(lab.float())
    return ((linear >= -TOLERANCE) & (linear <= 1 + TOLERANCE)).all(dim=-3, keepdim=True)


def clip_to_gamut(lab: Tensor) -> Tensor:
    """Bring colours into sRGB by reducing their chroma; L* and hue stay as they are.

    The largest share of the chroma that fits is found by bisection, to 2^-BISECTIONS; pixels inside the gamut are
    returned untouched.

    Args:
        lab: (..., 3, H, W) in Lab units; L* is clamped to [0, 100] first.

    Returns:
        (..., 3, H, W) float32.
    """
    with torch.autocast(lab.device.type, enabled=False):
        lab = lab.float()
        lab = torch.cat((lab.narrow(-3, 0, 1).clamp(0, 100), lab.narrow(-3, 1, 2)), dim=-3)
        outside = ~in_gamut(lab).squeeze(-3)
        if not outside.any():
            return lab
        pixels = lab.movedim(-3, -1)[outside].T[:, :, None]  # (3, pixels outside, 1)
        lightness, chroma = pixels[:1], pixels[1:]
        low = torch.zeros_like(lightness)  # always fits: grey is in the gamut
        high = torch.ones_like(lightness)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            fits = in_gamut(torch.cat((lightness, middle * chroma)))
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        clipped = lab.movedim(-3, -1).clone()
        clipped[outside] = torch.cat((lightness, low * chroma))[:, :, 0].T
        return clipped.movedim(-1, -3).contiguous()


def normalize_l(l: Tensor) -> Tensor:
    """L* in [0, 100] to [-1, 1]."""
    return l / 50 - 1


def normalize_ab(ab: Tensor) -> Tensor:
    """Lab units to about [-1, 1]."""
    return ab / AB_SCALE


def denormalize_ab(ab_norm: Tensor) -> Tensor:
    """The inverse of `normalize_ab`."""
    return ab_norm * AB_SCALE


@functools.cache
def ab_centres(step: int) -> Tensor:
    """The centres of the square cells of side `step` (Lab units) in the ab plane that sRGB reaches.

    A cell is reached when a colour of a dense RGB cube rounds to it. Zhang et al. (2016, section 2.1) count 313 cells
    at step 10 by a looser test.

    Returns:
        (Q, 2) float32, sorted by a then b; (0, 0) is always among them.
    """
    axis = torch.linspace(0, 1, 65, dtype=torch.float32, device="cpu")
    cube = torch.cartesian_prod(axis, axis, axis).T[:, :, None]
    cells = (srgb_to_lab(cube)[1:, :, 0].T / step).round()
    reached: Tensor = torch.unique(cells, dim=0)
    return reached * step


def _check_tensor(value: object, name: str, or_bytes: bool = False) -> None:
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise TinctError(f"{name} is a {kind}; expected a tensor (..., 3, H, W), as torch.from_numpy makes of an array")
    if value.ndim < 3 or value.shape[-3] != 3:
        raise TinctError(f"{name} has the shape {tuple(value.shape)}; expected (..., 3, H, W)")
    if not (value.is_floating_point() or (or_bytes and value.dtype == torch.uint8)):
        raise TinctError(f"{name} is of {value.dtype}; expected floats{', or bytes (torch.uint8)' * or_bytes}")


def _light(rgb: Tensor) -> Tensor:
    """sRGB of either kind to linear light."""
    if rgb.dtype == torch.uint8:
        return _levels(rgb.device).index_select(0, rgb.flatten().int()).view(rgb.shape)
    return _linear(rgb.float())


def _root(xyz: Tensor) -> Tensor:
    # The line below epsilon and the root above it, added up: several times faster here than where() over pow().
    root = (xyz.clamp(min=LAB_EPSILON).log() / 3).exp()
    return root + LAB_SLOPE * (xyz.clamp(max=LAB_EPSILON) - LAB_EPSILON)


def _linear(rgb: Tensor) -> Tensor:
    return torch.where(rgb > SRGB_KNEE, ((rgb.clamp(min=SRGB_KNEE) + 0.055) / 1.055) ** 2.4, rgb / 12.92)


@functools.cache
def _levels(device: torch.device) -> Tensor:
    return _linear(torch.arange(256, dtype=torch.float32, device=device) / 255)


def _lab_to_linear(lab: Tensor) -> Tensor:
    l, a, b = lab.unbind(-3)
    y = (l + 16) / 116
    f = torch.stack((y + a / 500, y, y - b / 200), dim=-3)
    knee = LAB_EPSILON ** (1 / 3)
    return _mix(torch.where(f > knee, f.clamp(min=knee) ** 3, (f - 16 / 116) / LAB_SLOPE), XYZ_TO_RGB)


def _mix(pixels: Tensor, matrix: NDArray[np.float64]) -> Tensor:
    # Written out, because a matrix product would run in TF32 on some GPUs and lose the third digit.
    x, y, z = pixels.unbind(-3)
    return torch.stack([float(i) * x + float(j) * y + float(k) * z for i, j, k in matrix], dim=-3)

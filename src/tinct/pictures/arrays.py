"""Arrays and tensors, of whatever numbers, as pictures."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinct.errors import TinctError
from tinct.pictures.picture import Picture

__all__ = ["from_array", "from_tensor"]

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def from_array(array: NDArray[Any]) -> Picture:
    """A picture of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, or float in [0, 1].

    Raises:
        TinctError: it is of another shape, type or range.
    """
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or not array.size:
        raise TinctError(f"array of shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not empty")
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        if array.dtype.kind != "f":
            raise TinctError(f"array of {array.dtype}; expected uint8, uint16, or float in [0, 1]")
        _check_range(array.min(), array.max())
        array = array.astype(np.float32, copy=False)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if channels == 1:
        return Picture(array.reshape(array.shape[:2]))
    return Picture(array[..., :3], array[..., 3] if channels == 4 else None)


def from_tensor(batch: Tensor) -> list[Picture]:
    """The pictures of a tensor (B, 1 or 3, H, W) of uint8 or float in [0, 1]; raises as `from_array`."""
    if batch.ndim != 4 or batch.shape[1] not in (1, 3) or not batch.numel():
        raise TinctError(f"tensor of shape {tuple(batch.shape)}; expected (B, 1 or 3, H, W), not empty")
    if batch.layout != torch.strided or batch.is_meta:
        raise TinctError(f"tensor of layout {batch.layout} on {batch.device}; expected a dense one that has values")
    batch = batch.detach().resolve_neg()  # which numpy does not know
    if batch.dtype != torch.uint8:
        if batch.dtype not in FLOATS:
            raise TinctError(f"tensor of {batch.dtype}; expected uint8, or float in [0, 1]")
        _check_range(float(batch.min()), float(batch.max()))
        batch = batch.float()
    arrays = batch.cpu().permute(0, 2, 3, 1).numpy()
    return [from_array(array) for array in arrays]


def _check_range(low: float, high: float) -> None:
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise TinctError(f"values from {low:.9g} to {high:.9g}; expected 0 to 1")

"""`tinct.load_encoder` and `tinct.load_colorizer`: weights by their name, their file, or the folder of their run."""

from pathlib import Path
from typing import Any

from tinct import weights
from tinct.models.encoder import Encoder
from tinct.shipped import resolve

__all__ = ["load_colorizer", "load_encoder"]


def load_encoder(model: str | Path) -> tuple[Encoder, dict[str, Any]]:
    """Load an encoder, in float32 and ready to use (`.train()` it to go on learning), and what its file says of it.

    Args:
        model: the name of one that comes with tinct or was fetched (`tinct weights list` shows them), the path of an
            `encoder.safetensors`, or a run's folder.

    Returns:
        The encoder, in evaluation mode, and the file's description. It takes pictures (B, 1, H, W), L*/50 - 1 with L*
        of CIE Lab (D65) in [0, 100]; or, where `in_channels` is 3 and `in_colour` above 0, (B, 3, H, W), 2 v - 1 with v
        gamma-encoded sRGB in [0, 1]; H and W in multiples of 32. It gives a list of feature maps
        (B, C, H/r, W/r), finest first, with C and r of its `channels` and `reductions`.

    Raises:
        TinctError: there is none, or its file is damaged, of another kind, or not what its hash says.
    """
    return weights.load_encoder(resolve(model, "encoder"))


def load_colorizer(model: str | Path) -> weights.ColourNet:
    """Load a colorizer as a torch module from L to ab, in float32 and ready to use; what its file says is its `meta`.

    Args:
        model: as `load_encoder`'s, with a `colorizer.safetensors`. `Colorizer.load` takes the same, and colours whole
            pictures.

    Returns:
        The module, in evaluation mode and frozen. It takes L* (B, 1, H, W) of CIE Lab (D65), in [0, 100], H and W in
        multiples of 32, and gives ab (B, 2, H/s, W/s) in Lab units, s being `meta["chroma_stride"]`: enlarged
        bilinearly, they go with the picture's own L* to sRGB (`tinct.lab_to_srgb`).

    Raises:
        TinctError: as `load_encoder`.
    """
    return weights.load_colorizer(resolve(model, "colorizer"))

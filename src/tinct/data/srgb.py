"""From a loaded picture of any mode and profile to 8 bits of sRGB."""

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms, TiffImagePlugin

__all__ = ["to_srgb", "transform_to_srgb", "whole_range"]


def whole_range(samples: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Grey samples of a TIFF from 0, black, to 65,535: Pillow leaves 12 bits as they are, and white as 0."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.tag_v2.get(258) == (12,):
            samples = np.rint(samples * (65535 / 4095)).astype(np.uint16)
        if image.tag_v2.get(262) == 0:
            samples = 65535 - samples
    return samples


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert a loaded picture of any mode to RGB in sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's inverted kind
    if image.mode.startswith("I;16"):  # before transparency, for which Pillow would cut 16 bits off at 255
        samples = whole_range(np.array(image, np.uint16), image)
        if isinstance(key := image.info.get("transparency"), int):
            samples[samples == key] = 65535  # over white
        image = Image.fromarray(((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    elif image.has_transparency_data:
        image = _over_white(image)
    elif image.mode in ("I", "F"):
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    elif image.mode == "LAB":
        return _lab_transform().apply(image)
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    if profile:
        transform = transform_to_srgb(profile, image.mode)
        if transform is not None:
            return transform.apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Lay a picture with transparency over white; a grey one stays grey, so that its colour profile still fits."""
    rgba = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(rgba, mask=rgba.getchannel("A"))
    return white.convert("L") if image.mode in ("L", "LA", "La") else white


def _to_8_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale 32-bit values, whose file does not say their range, from the narrowest usual range that holds them."""
    numbers = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    peak = numbers.max()
    ranges = [65535.0, 255.0] + [1.0] * (values.dtype.kind == "f")
    top = min((top for top in ranges if top >= peak), default=peak)
    return np.rint(numbers.clip(0, top) * (255 / top)).astype(np.uint8)


@lru_cache(maxsize=1)
def _lab_transform() -> ImageCms.ImageCmsTransform:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


@lru_cache(maxsize=32)
def transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from an embedded profile to sRGB; None where there is nothing to do or nothing that can be done.

    A profile is taken for sRGB by what it does, since its name may be anything.
    """
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, TypeError):  # damaged, or made for another mode than the picture's
        return None
    if mode == "CMYK":
        return transform
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(64, 64, 3)
    probe = Image.fromarray(grid if mode == "RGB" else grid[..., 0])
    change = np.asarray(transform.apply(probe), int) - np.asarray(probe.convert("RGB"), int)
    return transform if np.abs(change).max() > 2 else None

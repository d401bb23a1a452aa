"""Reading picture files whole: every depth, profile, transparency and piece of metadata that colouring must keep."""

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from tinct.data.decode import drop_false_xmp, one_sentence, opened, refuse_planes
from tinct.data.srgb import to_srgb, whole_range
from tinct.errors import PictureError
from tinct.pictures import deep, jpeg2000, profiles
from tinct.pictures.metadata import metadata_of, with_resolution
from tinct.pictures.picture import FORMATS, ONLY_READ, Picture, Pixels, samples_of, strips

__all__ = ["MAX_BYTES", "form_in", "from_pil", "pixel_count", "read"]

MAX_BYTES = 1 << 31
"""The largest file that is read: 2 GB, three times a 16-bit scan of 100 megapixels."""
SUBFILE_TYPE = 254
"""TIFF's tag of what a page is to the others (TIFF 6.0, section 8); bit 0 says a smaller copy."""
SMALLER = (1, 3, 5, 7)
"""Its values with bit 0; a damaged tag may be of any type."""
SUB_PAGES, SAMPLE_FORMAT, DNG_VERSION = 330, 339, 50706
"""TIFF's tags of pages within a page, of what samples are (2: signed), and what every DNG has."""


def read(source: Path | bytes, name: str | None = None) -> Picture:
    """Read a picture file: JPEG, PNG, WebP, TIFF, BMP, AVIF, JPEG 2000, PGM, PPM, and HEIC where pillow-heif is there.

    An embedded profile is applied, so that pixels are sRGB. Palettes, CMYK and the like become RGB. A TIFF that Pillow
    decodes comes upright. A thumbnail in EXIF, which would show the picture as it was, is left out.

    Args:
        source: a path, or the content of a file.
        name: what to call it in messages; the path by default.

    Raises:
        PictureError: the file is absent, damaged, over `MAX_BYTES` or a limit of `tinct.data.decode`, animated, or of a
            kind whose pixels would not survive (32 bits a sample); one line that says which.
    """
    name = name or (str(source) if isinstance(source, Path) else "picture")
    with one_sentence(name), _open(source) as image:
        return _picture(image, source, name)


def from_pil(image: Image.Image) -> Picture:
    """Take a Pillow image of any mode with its metadata; raises `PictureError` as `read` does."""
    with one_sentence("image"):
        return _picture(image, None, "image")


def pixel_count(source: Path | bytes) -> int:
    """How many pixels a picture's header promises; raises `PictureError` as `read` does."""
    with one_sentence("picture"), _open(source) as image:
        return image.width * image.height


def form_in(content: bytes) -> str:
    """The format, a key of `FORMATS`, that a file's content is in; PNG where it is in none of them."""
    with contextlib.suppress(PictureError), one_sentence("picture"), _open(content) as image:
        return kind if (kind := _kind(image)) in FORMATS else "PNG"
    return "PNG"


def _open(source: Path | bytes) -> Image.Image:
    return opened(source, (*FORMATS, *ONLY_READ), MAX_BYTES)


def _picture(image: Image.Image, source: Path | bytes | None, name: str) -> Picture:
    if not image.width * image.height:
        raise PictureError(f"{image.width}x{image.height} pixels; expected at least 1x1")
    drop_false_xmp(image)
    _refuse_previews_and_signed(image)
    kind = _kind(image)
    if kind == "JPEG2000" and source is not None:
        jpeg2000.complete(image, source.read_bytes() if isinstance(source, Path) else source)
    frames = _frames(image)
    if frames > 1 and kind != "JPEG":  # further frames of a JPEG are previews and depth maps
        remedy = "split it into files of one each" if source is not None else "give a copy() of the one that is meant"
        raise PictureError(f"holds {frames} pictures; {remedy}")
    without_pillow = _other_decoder(image, source)
    if image.mode in ("I", "F") and without_pillow is None:
        raise PictureError("32 bits a sample, or signed ones; convert it to 16 bits")
    reduced = source is not None and kind in ("PNG", "TIFF") and deep.is_reduced(image)  # known until it is decoded
    turned = without_pillow is None and _lies_on_its_side(image)
    if without_pillow is None:
        _load(image)  # before anything else: PNG may have metadata after its pixels
    carried = metadata_of(image)
    if turned and carried["dpi"]:
        carried["dpi"] = carried["dpi"][::-1]
        carried["exif"] = carried["exif"] and with_resolution(carried["exif"], carried["dpi"])
    profile = image.info.get("icc_profile")
    if without_pillow is not None:
        samples = without_pillow()
    elif reduced and source is not None:
        samples = deep.key_to_alpha(deep.by_two_passes(image, partial(_open, source)), image.info.get("transparency"))
    else:
        samples, profile = _decoded(image, profile)
    pixels, alpha = _apart(samples)
    convert = profiles.to_srgb(profile, pixels.dtype, 1 if pixels.ndim == 2 else 3) if profile else None
    if convert is not None:
        for rows in strips(pixels.shape[0], pixels.shape[1]):
            pixels[rows] = convert(pixels[rows])
    return Picture(pixels, alpha, format=kind, name=name, **carried)


def _other_decoder(image: Image.Image, source: Path | bytes | None) -> Callable[[], Pixels] | None:
    """What decodes an opened file of 16 bits a sample in Pillow's place; None where Pillow is to do it.

    Raises:
        PictureError: Pillow alone could, and would misread it.
    """
    if source is not None and deep.for_tifffile(image):
        return partial(deep.by_tifffile, source)
    if source is not None and deep.netpbm_peak(image):
        return partial(deep.by_netpbm, image, source)
    refuse_planes(image)
    if source is None and (image.format, image.mode) == ("PPM", "I"):  # whose samples Pillow spreads over 16 bits
        return lambda: np.array(image).astype(np.uint16)[..., None]
    return None


def _decoded(image: Image.Image, profile: bytes | None) -> tuple[Pixels, bytes | None]:
    """The samples (H, W, bands) that Pillow has decoded, and the profile that is still to be applied."""
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        return deep.key_to_alpha(whole_range(np.array(image, np.uint16)[..., None], image), key), profile
    if image.mode not in ("L", "LA", "RGB", "RGBA") or key is not None:
        image, profile = _plain(image, profile)
    return samples_of(image), profile


def _apart(samples: Pixels) -> tuple[Pixels, Pixels | None]:
    """Pixels (H, W) or (H, W, 3), and alpha (H, W), of samples (H, W, 1 to 4)."""
    colours = samples[..., : 1 if samples.shape[2] < 3 else 3]
    pixels = colours.squeeze(2) if colours.shape[2] == 1 else colours
    if samples.shape[2] in (1, 3):
        return pixels, None
    return np.ascontiguousarray(pixels), np.ascontiguousarray(samples[..., -1])


def _frames(image: Image.Image) -> int:
    """How many pictures a file holds, smaller copies of a TIFF's first one not counted (its tag NewSubfileType)."""
    here, info = image.tell(), dict(image.info)
    frames: int = getattr(image, "n_frames", 1)
    if frames == 1 or not isinstance(image, TiffImagePlugin.TiffImageFile):
        return frames
    copies = 0
    for number in range(1, frames):
        image.seek(number)
        copies += image.tag_v2.get(SUBFILE_TYPE) in SMALLER
    image.seek(here)
    image.info = info  # without what Pillow has added of the others
    return frames - copies


def _refuse_previews_and_signed(image: Image.Image) -> None:
    """Refuse a TIFF whose first page is not the picture, as in cameras' raw files, or would be misread by Pillow."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    if DNG_VERSION in tags or (tags.get(SUBFILE_TYPE) in SMALLER and SUB_PAGES in tags):
        raise PictureError("a camera's raw file, of which only a preview could be read; develop it to TIFF first")
    formats = tags.get(SAMPLE_FORMAT, ())
    if 2 in (formats if isinstance(formats, tuple) else (formats,)):
        raise PictureError("signed samples; convert it to unsigned ones, of 8 or 16 bits")


def _lies_on_its_side(image: Image.Image) -> bool:
    """Whether a picture is turned by a right angle when it is decoded: a TIFF by Pillow, a HEIC by its reader."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    return tags.get(ExifTags.Base.Orientation, image.info.get("original_orientation")) in (5, 6, 7, 8)


def _load(image: Image.Image) -> None:
    """Decode. An uncompressed TIFF that lies on its side is misread where Pillow maps the file into memory (12.3)."""
    key = image.info.get("transparency")
    if isinstance(image, PngImagePlugin.PngImageFile) and isinstance(key, int) and image.tile:
        # Pillow spreads samples of 2 and 4 bits over 0..255 and leaves the transparent one as it is
        image.info["transparency"] = key * {"L;2": 85, "L;4": 17}.get(str(image.tile[0].args), 1)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()
        return
    name, image.filename = image.filename, ""  # what it would map
    try:
        image.load()
    finally:
        image.filename = name


def _kind(image: Image.Image) -> str:
    return {"MPO": "JPEG", None: "PNG"}.get(image.format, str(image.format))


def _plain(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Bring the rarer modes to L, LA, RGB or RGBA; give the profile that is still to be applied."""
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("1", "L", "La")
        return image.convert(("LA" if grey else "RGBA") if image.has_transparency_data else "RGB"), profile
    if image.mode == "1":
        return image.convert("L"), profile
    return to_srgb(image), None

"""Colouring photographs from Python: `Colorizer`, for pictures, Pillow images, arrays and tensors."""

import contextlib
import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tinct.color import srgb_to_lab
from tinct.coloring import upsample
from tinct.coloring.checks import MIN_SIZE, check_number, checked_saturation, checked_size
from tinct.coloring.hints import Hint, checked_hints, corrected, locate
from tinct.coloring.sampling import Sampling
from tinct.coloring.upsample import Chroma
from tinct.data.transforms import MULTIPLE, whole_side
from tinct.device import named_device
from tinct.errors import PictureError, TinctError, out_of_memory
from tinct.objectives.bins import Bins
from tinct.pictures import render
from tinct.pictures.arrays import from_array, from_tensor
from tinct.pictures.borders import inside
from tinct.pictures.picture import Picture, reduced, strips
from tinct.pictures.readers import from_pil
from tinct.pictures.writers import to_pil
from tinct.shipped import resolve
from tinct.weights import load_colorizer

__all__ = ["Colorizer", "paint", "working_size"]

logger = logging.getLogger(__name__)

MAX_ASPECT = 4
"""The network's long side is at most this many times its size; longer pictures are seen smaller."""

Network = Callable[..., Tensor]
Some = TypeVar("Some", Image.Image, NDArray[Any], Tensor)


@contextlib.contextmanager
def _on_the_cpu() -> Iterator[None]:
    """Make pictures on the CPU, torch's default or not; raise `PictureError` for want of memory, however it is said."""
    try:
        with torch.device("cpu"):
            yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise PictureError("not enough memory to colour a picture") from error


class Colorizer:
    """Colours photographs; safe to use from several threads at once.

    The network sees a small copy (`size` pixels on the short side) and gives coarse colour, which is raised to full
    size along the picture's own edges; the picture's lightness passes through. A colour picture is coloured anew from
    its lightness.

    Everything that colours raises `PictureError` for an image that Pillow cannot decode, and for an empty Pillow
    image; where there is not enough memory even at `MIN_SIZE`; and when a network gives colours that are not finite:
    there is never an uncoloured result in place of an error. It raises `TinctError` for an argument of the wrong kind,
    shape (empty arrays and tensors, too) or range, and for a seed given to a network that has one answer only.

    When memory runs short the working size is lowered, and a warning is logged to `tinct.colorize`.

    Attributes:
        size: the default working size.
        name: what the model is called.
        device: where the network runs.
    """

    def __init__(self, network: Network, size: int, name: str, device: str | torch.device) -> None:
        """Wrap a network.

        Args:
            network: L* (B, 1, h, w) float32 in [0, 100], h and w multiples of 32, to ab (B, 2, h/s, w/s) in Lab units
                for any stride s. One that has the attribute `samples = True` also takes the keyword `seed` and draws
                one of several plausible answers.
            size: pixels of the short side that the network sees, at least `MIN_SIZE`.
            name: what to call the model.
            device: where to run it.

        Raises:
            TinctError: there is no such device, or the size is out of range.
        """
        self.device = named_device(str(device))
        self.network = network.to(self.device).eval() if isinstance(network, nn.Module) else network
        self.size = checked_size(size)
        self.name = name

    @classmethod
    def load(cls, model: str | Path, device: str | torch.device = "auto") -> "Colorizer":
        """Load a colorizer.

        Args:
            model: the name of one that comes with tinct or was fetched (`tinct weights list` shows them), the path of a
                `colorizer.safetensors`, or a run's folder.
            device: `auto` (the fastest there is), `cpu`, `cuda`, `cuda:1`, `mps`.

        Raises:
            TinctError: there is no such model or device, or its file is damaged or not what its hash says.
        """
        if not isinstance(model, (str, Path)):
            raise TinctError(f"model is a {type(model).__name__}; expected a name or a path")
        chosen = named_device(str(device))
        network = load_colorizer(resolve(model, "colorizer"))
        size = whole_side(network.meta["size"], network.meta.get("min_crop", 1.0))
        return cls(Sampling(network) if isinstance(network.colour, Bins) else network, size, str(model), chosen)

    def __call__(
        self,
        image: Some,
        *,
        saturation: float = 1.0,
        seed: int | None = None,
        size: int | None = None,
        hints: Sequence[Hint] = (),
    ) -> Some:
        """Colour an image, or a batch of them.

        Args:
            image: a Pillow image of up to 16 bits a sample; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of
                uint8, uint16, or float in [0, 1], the fourth channel being alpha; a tensor (B, 1 or 3, H, W) of uint8
                or float in [0, 1].
            saturation: chroma is multiplied by this, 0 to 4.
            seed: draw one of several plausible answers; None asks for the network's best.
            size: working size; the model's by default.
            hints: known colours of one picture, such as `(120, 340, "#2040a0")`: a column and a row of the upright
                picture, in pixels from its top left corner, and #rrggbb, a CSS name or "keep". Their lightness does
                not count. What is near and looks alike changes too; saturation leaves hints as they are.

        Returns:
            The same kind: a Pillow image in RGB or RGBA with the metadata of `image`, tagged sRGB; an array (H, W, 3)
            or (H, W, 4), or a tensor (B, 3, H, W), of the same type.

        Raises:
            PictureError: the image cannot be decoded, memory does not suffice, or colours are not finite.
            TinctError: the image or a setting is of the wrong kind, shape or range.
        """
        settings: dict[str, Any] = {"saturation": saturation, "seed": seed, "size": size, "hints": hints}
        if isinstance(image, Image.Image):
            return to_pil(self.colour([from_pil(image)], **settings)[0])
        if isinstance(image, np.ndarray):
            coloured = self.colour([from_array(image)], **settings)[0]
            planes = [coloured.pixels] if coloured.alpha is None else [coloured.pixels, coloured.alpha]
            return np.dstack(planes).astype(image.dtype, copy=False)
        if isinstance(image, Tensor):
            coloured_batch = self.colour(from_tensor(image), **settings)
            stacked = torch.stack([torch.from_numpy(picture.pixels).permute(2, 0, 1) for picture in coloured_batch])
            return stacked.to(image.device, image.dtype)
        raise TinctError(f"cannot colour a {type(image).__name__}; expected a Pillow image, an array or a tensor")

    def samples(self, image: Some, count: int, *, seed: int = 0, **settings: Any) -> list[Some]:
        """Draw `count` plausible answers, for the seeds `seed`, `seed + 1`, ...; the rest is as in `__call__`."""
        check_number("count", count)
        if count < 1:
            raise TinctError(f"count is {count}; expected at least 1")
        check_number("seed", seed)
        return [self(image, seed=seed + index, **settings) for index in range(count)]

    @_on_the_cpu()
    def colour(self, pictures: Sequence[Picture], *, in_place: bool = False, **settings: Any) -> list[Picture]:
        """Colour pictures; settings as in `__call__`. `in_place` lets the pixels of colour pictures be overwritten."""
        found = self.chroma(pictures, **settings)
        return [paint(picture, chroma, in_place) for picture, chroma in zip(pictures, found, strict=True)]

    @_on_the_cpu()
    def chroma(
        self, pictures: Sequence[Picture], *, saturation: float = 1.0, hints: Sequence[Hint] = (), **settings: Any
    ) -> list[Chroma]:
        """Find the colour of pictures, each decided on all that its borders (`tinct.pictures.borders`) hold."""
        saturation = checked_saturation(saturation)
        boxes = [inside(picture.pixels) for picture in pictures]
        known = locate(plain, pictures, boxes) if (plain := checked_hints(hints)) else None
        boxes = [known.box] if known else boxes
        within = [picture.cut(box) for picture, box in zip(pictures, boxes, strict=True)]
        found = self.coarse(within, **settings)
        fitted = [upsample.fit(l, ab * saturation, box) for (l, ab), box in zip(found, boxes, strict=True)]
        return [corrected(fitted[0], found[0][0], known, upsample.fit(*found[0]))] if known else fitted

    @_on_the_cpu()
    def coarse(
        self, pictures: Sequence[Picture], *, seed: int | None = None, size: int | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """What the network sees of each picture, (h, w) L*, and the colour it gives, (2, h/s, w/s) in Lab units.

        Pictures of one working size share a batch.
        """
        if seed is not None:
            check_number("seed", seed)
            if not getattr(self.network, "samples", False):
                raise TinctError(f"{self.name} gives one answer a picture; leave seed and samples out")
            if not 0 <= seed < 1 << 63:
                raise TinctError(f"seed is {seed}; expected 0 to 2^63 - 1")
            seed = int(seed)  # numpy's are numbers too, but not torch's
        size = self.size if size is None else checked_size(size)
        batches: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            batches.setdefault(working_size(*picture.size, size), []).append(index)
        found: dict[int, tuple[Tensor, Tensor]] = {}
        for shape, members in batches.items():
            l = torch.stack([srgb_to_lab(reduced(pictures[i], *shape).expand(3, -1, -1))[:1] for i in members])
            for index, (seen, ab) in zip(members, self._look(l, seed), strict=True):
                if not ab.isfinite().all():
                    raise PictureError(f"{pictures[index].name}: {self.name} gave colours that are not finite")
                found[index] = seen, ab
        return [found[index] for index in range(len(pictures))]

    def _look(self, l: Tensor, seed: int | None) -> list[tuple[Tensor, Tensor]]:
        """Run the network on (B, 1, h, w) L*; give each picture's (h, w) L* as seen and its (2, h/s, w/s) ab."""
        try:
            with torch.inference_mode():
                ab = self.network(l.to(self.device), **({} if seed is None else {"seed": seed}))
                shape = tuple(getattr(ab, "shape", ()))
                if len(shape) != 4 or shape[:2] != (len(l), 2):
                    raise TinctError(f"{self.name} gave a shape of {shape}; expected ({len(l)}, 2, h, w)")
            return list(zip(l[:, 0], ab.float().cpu(), strict=True))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        if len(l) > 1:
            return self._look(l[: len(l) // 2], seed) + self._look(l[len(l) // 2 :], seed)
        if max(l.shape[2:]) <= MIN_SIZE:
            raise PictureError(f"not enough memory to colour a picture, even at {MIN_SIZE} px")
        height, width = (max(MULTIPLE, side * 3 // 4 // MULTIPLE * MULTIPLE) for side in l.shape[2:])
        logger.warning("out of memory: working size lowered to %dx%d px", width, height)
        return self._look(F.interpolate(l, (height, width), mode="bilinear", antialias=True), seed)


def paint(picture: Picture, chroma: Chroma, in_place: bool = False) -> Picture:
    """Give a picture its colour, as many strips of rows at a time as torch has threads.

    `in_place` reuses the pixels of a colour picture.
    """
    height, width = picture.pixels.shape[:2]
    stored = chroma.turned(picture.orientation)
    reuse = in_place and picture.pixels.ndim == 3
    result = picture.pixels if reuse else np.empty((height, width, 3), picture.pixels.dtype)

    def paint_rows(rows: slice) -> None:
        l = render.lightness(picture.pixels[rows])
        result[rows] = render.srgb(l, stored.rows(l, rows.start, height), result.dtype)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        deque(pool.map(paint_rows, strips(height, width)), maxlen=0)  # which raises what a strip raised
    return dataclasses.replace(picture, pixels=result)


def working_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(h, w) at which the network sees a picture: `size` on the short side, in multiples of `MULTIPLE`.

    A picture longer than `MAX_ASPECT` times its short side is seen smaller, so that none costs more than that.
    """
    scale = min(size / min(height, width), MAX_ASPECT * size / max(height, width))
    rows, columns = (max(MULTIPLE, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height, width))
    return rows, columns

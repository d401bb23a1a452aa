"""What the defects of old photographs do to a colorizer: the same photographs, in colours that are known, aged.

Each defect apart and all together, at the pictures' full size, by other code than `tinct.objectives.ageing` has. Per
defect: the mean ab error, and the mean chroma over the truth's, both at the resolution of the network's colour.
And within borders of a tenth of the short side, paper or black, at full size: as they are coloured, and as they were if
borders were not looked for (`tinct.pictures.borders`).

    python benchmarks/old_photographs.py PHOTOS [--colorizers tinct-small ...]
"""

import argparse
import itertools
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from skimage.color import rgb2gray
from skimage.filters import gaussian
from skimage.util import random_noise
from torch.nn import functional as F

from tinct import Colorizer
from tinct.color import srgb_to_lab
from tinct.coloring import upsample
from tinct.data.decode import is_grey
from tinct.data.sources import open_sources
from tinct.pictures.picture import Picture
from tinct.pictures.render import lightness

Grey = np.ndarray
"""(H, W) floats in [0, 1], gamma-encoded."""


def plate(rgb: np.ndarray, *sensitivity: float) -> Grey:
    """What a plate shows that is so sensitive to red, green and blue light."""
    shown: Grey = ((rgb / 255) ** 2.2 @ np.array(sensitivity)) ** (1 / 2.2)
    return shown


def soft(grey: Grey, share: float) -> Grey:
    blurred: Grey = gaussian(grey, share * min(grey.shape))
    return blurred


def faded(grey: Grey) -> Grey:
    return 0.2 + 0.6 * grey


def grainy(grey: Grey, deviation: float) -> Grey:
    noisy: Grey = random_noise(grey, var=deviation**2, rng=0)
    return noisy


DEFECTS: dict[str, Callable[[np.ndarray], Grey]] = {
    "none": rgb2gray,
    "plate that sees no red": lambda rgb: plate(rgb, 0.0, 0.6, 0.4),
    "plate that sees blue": lambda rgb: plate(rgb, 0.0, 0.15, 0.85),
    "dark, exponent 1.6": lambda rgb: rgb2gray(rgb) ** 1.6,
    "light, exponent 0.6": lambda rgb: rgb2gray(rgb) ** 0.6,
    "faded to 0.2 and 0.8": lambda rgb: faded(rgb2gray(rgb)),
    "soft, 0.5 % of the short side": lambda rgb: soft(rgb2gray(rgb), 0.005),
    "soft, 1 %": lambda rgb: soft(rgb2gray(rgb), 0.01),
    "grain of 0.1": lambda rgb: grainy(rgb2gray(rgb), 0.1),
    "no red, soft (0.5 %), faded, grainy": lambda rgb: grainy(faded(soft(plate(rgb, 0.0, 0.6, 0.4), 0.005)), 0.05),
}


def measure(colorizer: Colorizer, photographs: list[np.ndarray], age: Callable[[np.ndarray], Grey]) -> str:
    errors, chroma, truths = [], [], []
    for rgb in photographs:
        grey = np.rint(255 * age(rgb).clip(0, 1)).astype(np.uint8)
        _, ab = colorizer.coarse([Picture(grey)])[0]
        height, width = ab.shape[1:]
        truth = F.adaptive_avg_pool2d(srgb_to_lab(torch.tensor(rgb).permute(2, 0, 1))[1:], (height, width))
        errors.append(float((ab - truth).norm(dim=0).mean()))
        chroma.append(float(ab.norm(dim=0).mean()))
        truths.append(float(truth.norm(dim=0).mean()))
    return f"{np.mean(errors):.2f}, {np.mean(chroma) / np.mean(truths):.2f}"


BORDERS: dict[str, tuple[str, float]] = {
    "paper at all sides": ("all", 0.9),
    "black at all sides": ("all", 0.03),
    "black to the left and right": ("sides", 0.03),
}


def within(colorizer: Colorizer, photographs: list[np.ndarray], where: str, level: float, aware: bool) -> str:
    """Error and chroma of what a border is around, and the mean chroma that the border itself gets."""
    errors, chroma, truths, outside = [], [], [], []
    for rgb in photographs:
        height, width = rgb.shape[:2]
        beside = min(height, width) // 10
        above = beside if where == "all" else 0
        sides = ((above, above), (beside, beside))
        grey = grainy(np.pad(np.zeros((height, width)), sides, constant_values=level), 0.01)
        grey[above : above + height, beside : beside + width] = rgb2gray(rgb)
        picture = Picture(np.rint(255 * grey).astype(np.uint8))
        found = colorizer.chroma([picture])[0] if aware else upsample.fit(*colorizer.coarse([picture])[0])
        ab = found.rows(lightness(picture.pixels), 0, len(grey))
        inner = ab[:, above : above + height, beside : beside + width]
        truth = srgb_to_lab(torch.tensor(rgb).permute(2, 0, 1))[1:].numpy()
        errors.append(np.linalg.norm(inner - truth, axis=0).mean())
        chroma.append(np.linalg.norm(inner, axis=0).mean())
        truths.append(np.linalg.norm(truth, axis=0).mean())
        around = np.linalg.norm(ab, axis=0).sum() - np.linalg.norm(inner, axis=0).sum()
        outside.append(around / (grey.size - height * width))
    return f"{np.mean(errors):.2f}, {np.mean(chroma) / np.mean(truths):.2f}; {np.mean(outside):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of photographs in colour")
    parser.add_argument("--colorizers", nargs="+", default=["tinct-small"])
    given = parser.parse_args()
    source = open_sources([given.photos], "all")
    photographs = [rgb for rgb in (source.picture(index) for index in range(len(source))) if not is_grey(rgb)]
    colorizers = {name: Colorizer.load(name, "cpu") for name in given.colorizers}
    table = Table("defect", *(f"{name}: error, chroma" for name in colorizers))
    for defect, age in track(DEFECTS.items(), "ageing", console=Console(stderr=True), transient=True):
        table.add_row(defect, *(measure(colorizer, photographs, age) for colorizer in colorizers.values()))
    Console(width=120).print(table)
    table = Table("border", "colorizer", "as it is: error, chroma; on the border", "if not looked for")
    for (border, (where, level)), (name, colorizer) in itertools.product(BORDERS.items(), colorizers.items()):
        both = (within(colorizer, photographs, where, level, aware) for aware in (True, False))
        table.add_row(border, name, *both)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

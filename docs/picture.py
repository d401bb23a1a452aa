"""Make the pictures of the docs in docs/images, coloured.jpg and hints.jpg, by `python docs/picture.py`."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tinct.colorize import Colorizer
from tinct.data.photos import photographs
from tinct.demo import sheet_of

IMAGES = Path(__file__).parent / "images"

PLACES = {
    "coffee": [(100, 260), (230, 350), (420, 300), (330, 385), (240, 285), (300, 130), (560, 60), (60, 300)],
    "astronaut": [(40, 440), (230, 240), (150, 300), (40, 60), (75, 150), (15, 235), (300, 30), (480, 30)],
}
"""Columns and rows where a user gives away the true colour."""


def hinted(colorizer: Colorizer, photograph: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    """Coloured without hints, with them, and in truth, side by side, 250 pixels high."""
    mean = [photograph[y - 3 : y + 4, x - 3 : x + 4].mean(axis=(0, 1)).astype(int) for x, y in places]
    hints = [(x, y, "#{:02x}{:02x}{:02x}".format(*rgb)) for (x, y), rgb in zip(places, mean, strict=True)]
    marked = Image.fromarray(colorizer(photograph, hints=hints))
    draw = ImageDraw.Draw(marked)
    for x, y, colour in hints:
        draw.ellipse([x - 9, y - 9, x + 9, y + 9], fill=colour, outline="white", width=2)
    views = [Image.fromarray(colorizer(photograph)), marked, Image.fromarray(photograph)]
    small = [view.resize((250 * view.width // view.height, 250), Image.Resampling.LANCZOS) for view in views]
    return np.hstack([np.pad(np.asarray(view), ((0, 6), (0, 6), (0, 0)), constant_values=255) for view in small])


if __name__ == "__main__":
    colorizer, found = Colorizer.load("tinct-small", "cpu"), photographs()
    Image.fromarray(sheet_of(colorizer, found.values())).save(IMAGES / "coloured.jpg", quality=90)
    rows = [hinted(colorizer, found[name], places) for name, places in PLACES.items()]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.vstack(padded)).save(IMAGES / "hints.jpg", quality=88)

"""Labelled pictures made on the fly, which a tiny network learns in seconds."""

from pathlib import Path

import numpy as np
from PIL import Image


def make_table(folder, train=30, val=12, side=48):
    """Write pictures of bars, discs, both or neither, with masks, and the table that `csv:` reads; give its spec."""
    rows = ["path,mask,split,bars,disc"]
    draw = np.random.default_rng(0)
    for number in range(train + val):
        bars, disc = number % 2, number // 2 % 2
        picture = draw.integers(90, 120, (side, side, 3)).astype(np.uint8)
        mask = np.zeros((side, side), np.uint8)
        if bars:
            picture[2 : side // 2, ::4] = 230
            mask[2 : side // 2] = 1
        if disc:
            grid = np.arange(side)
            place = draw.integers(side // 3, 2 * side // 3)
            inside = (grid[:, None] - 3 * side // 4) ** 2 + (grid - place) ** 2 < (side / 6) ** 2
            picture[inside] = 10
            mask[inside] = 2
        Image.fromarray(picture).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}-mask.png")
        split = "train" if number < train else "val"
        rows.append(f"{number}.png,{number}-mask.png,{split},{bars},{disc}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    return f"csv:{folder / 'table.csv'}"


def by_chance(spec, shares, seed):
    """Draw the labels of such a table anew, each class in its share of the pictures, and leave some cells empty."""
    path = Path(spec.removeprefix("csv:"))
    header, *rows = path.read_text().split()
    draw = np.random.default_rng(seed)
    labels = (draw.random((len(rows), len(shares))) < shares).astype(int).astype(str)
    labels[draw.random(labels.shape) < 0.1] = ""
    drawn = [",".join([*row.split(",")[:3], *cells]) for row, cells in zip(rows, labels, strict=True)]
    path.write_text("\n".join([header, *drawn]) + "\n")
    return spec

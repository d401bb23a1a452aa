"""How still colours hold in a film, frame by frame alone and in line with their past, and how long that takes.

Films with known colours: pans over photographs, two columns and one row a frame, and folders of frames in order. Per
film: the mean change of colour from a frame to the next at the same place, which for a picture that hardly moves should
be about the truth's; and the mean error. Both in Lab units, at the resolution of the network's colour.

    python benchmarks/film.py [--frames FOLDER ...] [--photos FOLDER]
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from tinct import Colorizer, colorize_film
from tinct.color import srgb_to_lab
from tinct.coloring.steady import Steady
from tinct.data.sources import open_sources
from tinct.pictures.picture import Picture

PANS, LENGTH = 12, 30
"""Photographs that are panned over, and frames of each."""


def pans(spec: str) -> Iterator[list[np.ndarray]]:
    source = open_sources([spec], "all")
    for index in range(min(PANS, len(source))):
        picture = source.picture(index)
        height, width = picture.shape[0] - 2 * LENGTH, picture.shape[1] - 4 * LENGTH
        if min(height, width) >= 128:
            yield [picture[LENGTH + n : LENGTH + n + height, 2 * n : 2 * n + width] for n in range(LENGTH)]


def frames(folder: str) -> list[np.ndarray]:
    source = open_sources([folder], "all")
    return [source.picture(index) for index in range(len(source))]


def change(colours: list[torch.Tensor]) -> float:
    return statistics.fmean(float((b - a).norm(dim=0).mean()) for a, b in itertools.pairwise(colours))


def error(colours: list[torch.Tensor], truth: list[torch.Tensor]) -> float:
    return statistics.fmean(float((a - b).norm(dim=0).mean()) for a, b in zip(colours, truth, strict=True))


def measure(film: list[np.ndarray], colorizer: Colorizer) -> list[float]:
    """The truth's change; change and error of frames alone; the same in line; milliseconds a frame for that."""
    found = [colorizer.coarse([Picture(frame)])[0] for frame in film]
    alone = [ab for _, ab in found]
    truth = [
        F.adaptive_avg_pool2d(srgb_to_lab(torch.tensor(frame).permute(2, 0, 1) / 255)[1:], (height, width))
        for frame, (_, height, width) in zip(film, [ab.shape for ab in alone], strict=True)
    ]
    steady, begin = Steady(), time.perf_counter()
    inline = [steady(l, ab) for l, ab in found]
    took = 1000 * (time.perf_counter() - begin) / len(film)
    return [change(truth), change(alone), error(alone, truth), change(inline), error(inline, truth), took]


def frames_a_second(colorizer: Colorizer, height: int, width: int) -> float:
    """Reading, colouring and writing a grey film: the samples of a photograph in another shape, moving sideways."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "grey.mp4")
        with av.open(source, "w") as film:
            track = film.add_stream("libx264", rate=24)
            track.height, track.width, track.pix_fmt = height, width, "yuv420p"
            photograph = open_sources(["photos:"], "all").picture(0)
            grey = np.resize(photograph.mean(axis=2).astype(np.uint8), (height, width))
            for number in range(48):
                film.mux(track.encode(av.VideoFrame.from_ndarray(np.roll(grey, number, 1), "gray")))
            film.mux(track.encode(None))
        begin = time.perf_counter()
        done, _ = colorize_film(source, Path(folder, "coloured.mp4"), colorizer)
        return done / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", nargs="*", default=[], help="folders, each a film's frames in order of name")
    parser.add_argument("--photos", default="photos:", help="what is panned over")
    given = parser.parse_args()
    panned = list(pans(given.photos))
    if not panned:
        parser.error(f"none of the first {PANS} photographs of {given.photos} is large enough; name larger ones")
    colorizer = Colorizer.load("tinct-small", "cpu")
    table = Table("film", "truth's change", "alone: change", "error", "in line: change", "error", "ms a frame")
    for name, films in [(folder, [frames(folder)]) for folder in given.frames] + [("pans", panned)]:
        means = np.mean([measure(film, colorizer) for film in films], axis=0)
        table.add_row(name, *(f"{value:.2f}" for value in means))
    Console(width=120).print(table)
    for height, width in ((480, 640), (720, 1280)):
        rates = [frames_a_second(colorizer, height, width) for _ in range(3)]
        print(f"RESULT film_{height}={statistics.median(rates):.2f} frames/s, reading and writing included")


if __name__ == "__main__":
    main()

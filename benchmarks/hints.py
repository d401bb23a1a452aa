"""What hints are worth: photographs in colours that are known, from which a made-up user gives away a few.

The user points either anywhere, or each time where the colours are most wrong (averaged over a fourteenth of the short
side), and gives the true mean colour of the 3x3 pixels there, as the network sees them. Per number of hints: the mean
ab error at that resolution, with hints spread as `tinct.coloring.hints` does, by distance alone, and, for users who
point anywhere, by a graph's Laplacian: changes of neighbours differ little, with the weights of Levin et al. (2004,
equation 2) for one variance. Settings of all three ways were chosen on VOC 2012's val pictures.

    python benchmarks/hints.py PHOTOS [--split all] [--limit 100] [--colorizer tinct-small]
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor
from torch.nn import functional as F

from tinct import Colorizer
from tinct.color import srgb_to_lab
from tinct.coloring import hints, upsample
from tinct.coloring.upsample import Chroma
from tinct.data.decode import is_grey
from tinct.data.sources import open_sources
from tinct.pictures.picture import Picture, reduced

COUNTS = (1, 3, 10, 30)

Spread = Callable[[Chroma, Tensor, hints.Known], Tensor]
"""From a prediction, (H, W) L* and hints to colours, (2, H, W)."""


def ours(chroma: Chroma, l: Tensor, known: hints.Known) -> Tensor:
    return colours(hints.corrected(chroma, l, known, chroma), l)


def by_distance(chroma: Chroma, l: Tensor, known: hints.Known) -> Tensor:
    with everything_alike():
        return ours(chroma, l, known)


def laplacian(chroma: Chroma, l: Tensor, known: hints.Known) -> Tensor:
    """Changes that differ little between neighbours of like L*, and are what hints say where there are any."""
    height, width = l.shape
    number = np.arange(height * width).reshape(height, width)
    pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    first, second = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
    levels = l.numpy().ravel()
    weight = np.exp(-((levels[first] - levels[second]) ** 2) / (2 * 3.0**2)) + 1e-6
    both = (np.concatenate([weight, weight]), (np.concatenate([first, second]), np.concatenate([second, first])))
    affinity = sparse.csr_matrix(both, (height * width, height * width))
    row, column = (known.places.T * torch.tensor([[height], [width]])).long()
    at = (row * width + column).numpy()
    held = np.full(height * width, 1e-5)  # towards no change, where hints are far
    held[at] = 100.0
    guess = colours(chroma, l)
    wanted = np.zeros((height * width, 2))
    wanted[at] = 100.0 * (known.ab - guess[:, row, column].T).numpy()
    system = sparse.diags(np.asarray(affinity.sum(axis=1)).ravel() + held) - affinity
    change = spsolve(system.tocsc(), wanted)
    return guess + torch.from_numpy(change.T.reshape(2, height, width)).float()


@contextmanager
def everything_alike() -> Iterator[None]:
    before = hints.REACH, hints.LIKE_L, hints.LIKE_AB
    hints.REACH, hints.LIKE_L, hints.LIKE_AB = 0.15, 1e9, 1e9  # a shorter reach is better then
    try:
        yield
    finally:
        hints.REACH, hints.LIKE_L, hints.LIKE_AB = before


def colours(chroma: Chroma, l: Tensor) -> Tensor:
    return torch.from_numpy(chroma.rows(l.numpy(), 0, len(l)))


def error(ab: Tensor, truth: Tensor) -> Tensor:
    distance: Tensor = (ab - truth).norm(dim=0)
    return distance


def told(places: list[tuple[int, int]], truth: Tensor) -> hints.Known:
    height, width = truth.shape[1:]
    ab = [truth[:, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2].mean(dim=(1, 2)) for r, c in places]
    shares = [((r + 0.5) / height, (c + 0.5) / width) for r, c in places]
    return hints.Known((slice(0, height), slice(0, width)), torch.tensor(shares, dtype=torch.float64), torch.stack(ab))


def anywhere(chroma: Chroma, l: Tensor, truth: Tensor, spread: Spread, seed: int) -> list[float]:
    draw = np.random.default_rng(seed)
    places = [(int(draw.integers(l.shape[0])), int(draw.integers(l.shape[1]))) for _ in range(max(COUNTS))]
    return [float(error(spread(chroma, l, told(places[:count], truth)), truth).mean()) for count in COUNTS]


def where_wrong(chroma: Chroma, l: Tensor, truth: Tensor, spread: Spread, seed: int) -> list[float]:
    ab, found = colours(chroma, l), []
    places: list[tuple[int, int]] = []
    width = min(l.shape) // 28 * 2 + 1
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in l.shape), indexing="ij")
    for count in range(1, max(COUNTS) + 1):
        wrong = error(ab, truth)[None, None]
        around = F.avg_pool2d(wrong, width, 1, width // 2, count_include_pad=False)[0, 0]
        for row, column in places:  # nobody says the same twice
            around[((rows - row).abs() <= width // 2) & ((columns - column).abs() <= width // 2)] = 0
        places.append(divmod(int(around.argmax()), l.shape[1]))
        ab = spread(chroma, l, told(places, truth))
        if count in COUNTS:
            found.append(float(error(ab, truth).mean()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of photographs in colour, or another source")
    parser.add_argument("--split", default="all")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--colorizer", default="tinct-small")
    given = parser.parse_args()
    source = open_sources([given.photos], given.split)
    colorizer = Colorizer.load(given.colorizer, "cpu")
    users = {"anywhere": anywhere, "where it is most wrong": where_wrong}
    ways: dict[str, Spread] = {"ours": ours, "by distance alone": by_distance, "by a Laplacian": laplacian}
    results: dict[tuple[str, str], list[list[float]]] = {}
    without = []
    for index in track(range(min(len(source), given.limit)), "asking", console=Console(stderr=True), transient=True):
        if is_grey(rgb := source.picture(index)):
            continue
        picture = Picture(np.ascontiguousarray(rgb))
        ((l, ab),) = colorizer.coarse([picture])
        truth = srgb_to_lab(reduced(picture, *l.shape))[1:]
        chroma = upsample.fit(l, ab)
        without.append(float(error(colours(chroma, l), truth).mean()))
        for user, way in ((user, way) for user in users for way in ways):
            if (user, way) != ("where it is most wrong", "by a Laplacian"):  # solves a system for each hint: slow
                results.setdefault((user, way), []).append(users[user](chroma, l, truth, ways[way], index))
    table = Table("user points", "hints spread", *(f"{count} hints" for count in COUNTS))
    for (user, way), found in results.items():
        table.add_row(user, way, *(f"{value:.2f}" for value in np.mean(found, axis=0)))
    console = Console(width=120)
    console.print(f"{len(without)} photographs; without hints {np.mean(without):.2f}", table)


if __name__ == "__main__":
    main()

"""Photographs per second on one core, from JPEG bytes to (l, ab) crops of 128 pixels.

Compares tinct's loader (decoding at reduced scale, grey check and all; with and without its cache) with the usual way:
Pillow decodes the whole picture, crops and resizes it, and scikit-image converts it to Lab. Both cut the same crops:
a random one of half to all of the shorter side. The ways take turns, and medians over the rounds are reported.

`floor` is what no way can beat that reads the JPEG: decoding it at 1/8 scale, which is its entropy decoding and little
else.

    python benchmarks/input_pipeline.py [--quick] [--files FOLDER]
"""

import argparse
import io
import json
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage.color import rgb2lab

from tinct.color import srgb_to_lab
from tinct.data.base import Source
from tinct.data.cache import CachedSource
from tinct.data.decode import decode
from tinct.data.loader import Photographs, crops_loader, random_crop
from tinct.data.photos import photographs
from tinct.data.random import rng

SIZE, MIN_CROP, BATCH = 128, 0.5, 16


class Memory(Source):
    """JPEG files held in memory, so that no disk is measured."""

    spec, split = "memory", "train"

    def __init__(self, files: list[bytes], repeat: int) -> None:
        self.files, self.repeat = files, repeat

    def __len__(self) -> int:
        return len(self.files) * self.repeat

    def name(self, index: int) -> str:
        """For messages and the cache's fingerprint."""
        return f"{index} of {len(self.files[index % len(self.files)])} bytes"

    def picture(self, index: int, min_side: int | None = None) -> np.ndarray:
        """Decode."""
        return decode(self.files[index % len(self.files)], min_side)


def make_files(width: int, height: int, count: int, quality: int) -> list[bytes]:
    """JPEGs with the detail of real photographs at any size: mirrored tiles of scikit-image's, at their own scale."""
    files = []
    for index in range(count):
        photograph = list(photographs().values())[index % 8]
        pad = [(0, max(0, height - photograph.shape[0])), (0, max(0, width - photograph.shape[1])), (0, 0)]
        tiled = np.pad(photograph, pad, mode="symmetric")[:height, :width]
        stream = io.BytesIO()
        Image.fromarray(tiled).save(stream, "JPEG", quality=quality)
        files.append(stream.getvalue())
    return files


def usual(source: Memory) -> None:
    for index in range(len(source)):
        draw = rng(0, index)
        share = draw.uniform(MIN_CROP, 1)
        with Image.open(io.BytesIO(source.files[index % len(source.files)])) as image:
            picture = np.asarray(image.convert("RGB"))
        lab = rgb2lab(random_crop(picture, SIZE, share, draw)).astype(np.float32)
        torch.from_numpy(lab.transpose(2, 0, 1)).contiguous().split([1, 2])


def tinct(photographs: Photographs) -> None:
    steps = len(photographs) // BATCH
    for batch in crops_loader(photographs, BATCH, range(steps)):
        srgb_to_lab(batch.pixels.float() / 255).split([1, 2], dim=1)


def floor(source: Memory) -> None:
    for index in range(len(source)):
        with Image.open(io.BytesIO(source.files[index % len(source.files)])) as image:
            image.draft(None, (1, 1))
            image.load()


def rates(source: Memory, cache: Path, rounds: int) -> dict[str, float]:
    """Photographs a second for each way: the median over rounds in which the ways take turns."""
    cached = CachedSource(source, cache, round(SIZE / MIN_CROP), processes=1)
    ready, ready_cached = (
        Photographs(each, np.arange(len(source), dtype=np.uint32), SIZE, seed=0, min_crop=MIN_CROP)
        for each in (source, cached)
    )
    ways: dict[str, Callable[[], None]] = {
        "usual": lambda: usual(source),
        "tinct": lambda: tinct(ready),
        "cached": lambda: tinct(ready_cached),
        "floor": lambda: floor(source),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if round_:  # the first one warms up, and hashes every picture once
                seconds[name].append(time.perf_counter() - start)
    return {name: len(source) / float(np.median(taken)) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--files", type=Path, help="measure the JPEGs of this folder in place of the generated ones")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 3 if arguments.quick else 9
    if arguments.files:
        files = [path.read_bytes() for path in sorted(arguments.files.rglob("*.jp*g"))[:64]]
        sets = {"files": Memory(files[: len(files) // BATCH * BATCH] or files * BATCH, 1)}
    else:
        sets = {
            "bsds": Memory(make_files(481, 321, 8, quality=95), 8),
            "12mp": Memory(make_files(4000, 3000, 4 if arguments.quick else 8, quality=90), 4),
        }
    table = Table(
        "files", "bytes a picture", "way", "photographs/s", "ms each", "times the usual way", "share of floor"
    )
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as cache:
        for title, source in sets.items():
            measured = rates(source, Path(cache), rounds)
            size = f"{np.mean([len(file) for file in source.files]):,.0f}"
            for way, rate in measured.items():
                ratio, share = rate / measured["usual"], rate / measured["floor"]
                table.add_row(title, size, way, f"{rate:.1f}", f"{1e3 / rate:.2f}", f"{ratio:.2f}", f"{share:.2f}")
                title, size = "", ""
            name = next(key for key, value in sets.items() if value is source)
            result[f"speedup_{name}"] = round(measured["tinct"] / measured["usual"], 2)
            result[f"speedup_cached_{name}"] = round(measured["cached"] / measured["usual"], 2)
            result[f"share_of_floor_{name}"] = round(measured["tinct"] / measured["floor"], 2)
            result[f"rate_{name}"] = round(measured["tinct"], 1)
    # the cache is for files that are much larger than what is trained on
    result["speedup_cached"] = result[f"speedup_cached_{list(sets)[-1]}"]
    result |= {"torch": torch.__version__, "pillow": version("pillow"), "skimage": version("scikit-image")}
    result |= {"machine": platform.machine(), "threads": 1, "rounds": rounds}
    Console().print(table)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()

"""Colouring files: seconds and peak memory at 512 px and 12 megapixels against full-size U-Nets, and to 100 megapixels.

Everything from the JPEG on disk to the JPEG on disk is timed, one picture at a time, on the CPU. The peers are
segmentation-models-pytorch U-Nets that give ab at full size; they read, convert and write with tinct's own code, so
that only the network and its resolution differ. The peers' weights are random. Each case runs in a process of its own,
which ends with its own peak of resident memory.

    python benchmarks/colorize.py [--quick] [--model NAME]
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PEERS = {"unet-resnet34": "resnet34", "unet-convnext-tiny": "tu-convnext_tiny"}
SIZES = {"512": (512, 512), "12mp": (3000, 4000)}
CURVE = {1: (1000, 1000), 12: (3000, 4000), 50: (6250, 8000), 100: (10000, 10000)}


def make(path: Path, height: int, width: int, deep: bool) -> None:
    """A grey JPEG, or a 16-bit RGB TIFF, of a photograph enlarged, with grain so that it compresses as a scan does."""
    import numpy as np
    from PIL import Image
    from skimage import data

    photo = Image.fromarray(data.camera() if not deep else data.astronaut()).resize((width, height))
    rng = np.random.default_rng(0)
    tile = rng.integers(-6, 7, (256, width, *((3,) if deep else ())), dtype=np.int16)
    pixels = np.asarray(photo).copy()
    for top in range(0, height, 256):
        rows = pixels[top : top + 256]
        rows[:] = (rows + tile[: len(rows)]).clip(0, 255)
    if not deep:
        Image.fromarray(pixels).save(path, quality=92)
        return
    import tifffile

    tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb", compression="zlib")


def tinct_case(source: Path, model: str) -> Callable[[Path], dict[str, float]]:
    """Give the function that colours `source` with tinct."""
    from tinct.colorize import Colorizer, paint
    from tinct.pictures.readers import read
    from tinct.pictures.writers import write

    colorizer = Colorizer.load(model, "cpu")

    def run(target: Path) -> dict[str, float]:
        marks = [time.perf_counter()]
        picture = read(source)
        marks.append(time.perf_counter())
        found = colorizer.chroma([picture])
        marks.append(time.perf_counter())
        picture = paint(picture, found[0], in_place=True)
        marks.append(time.perf_counter())
        write(picture, target)
        marks.append(time.perf_counter())
        names = ("read", "network", "raise and convert", "write")
        return {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}

    return run


def peer_case(source: Path, encoder: str) -> Callable[[Path], dict[str, float]]:
    """Give the function that colours `source` with a U-Net at full size."""
    import dataclasses

    import numpy as np
    import segmentation_models_pytorch as smp
    import torch
    from torch.nn import functional as F

    from tinct.pictures import render
    from tinct.pictures.picture import strips
    from tinct.pictures.readers import read
    from tinct.pictures.writers import write

    torch.manual_seed(0)
    network = smp.Unet(encoder, encoder_weights=None, in_channels=1, classes=2).eval()

    def run(target: Path) -> dict[str, float]:
        marks = [time.perf_counter()]
        picture = read(source)
        marks.append(time.perf_counter())
        height, width = picture.pixels.shape
        with torch.inference_mode():
            l = render.lightness(picture.pixels)
            padded = F.pad(torch.from_numpy(l)[None, None], (0, -width % 32, 0, -height % 32), mode="replicate")
            ab = (network(padded / 50 - 1)[0, :, :height, :width] * 20).clamp(-60, 60).numpy()
        marks.append(time.perf_counter())
        result = np.empty((height, width, 3), np.uint8)

        def convert(rows: slice) -> None:
            result[rows] = render.srgb(l[rows], ab[:, rows], np.dtype(np.uint8))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(convert, strips(height, width)))
        marks.append(time.perf_counter())
        write(dataclasses.replace(picture, pixels=result), target)
        marks.append(time.perf_counter())
        names = ("read", "network", "raise and convert", "write")
        return {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}

    return run


def child(case: str, source: str, repeats: int, model: str) -> None:
    """Run one case and print what it took."""
    import torch

    run = tinct_case(Path(source), model) if case == "tinct" else peer_case(Path(source), PEERS[case])
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        target = Path(folder) / f"out{Path(source).suffix}"
        times = [run(target) for _ in range(repeats + (repeats > 1))][-repeats:]  # the first warms up
    parts = {name: statistics.median(measured[name] for measured in times) for name in times[0]}
    seconds = statistics.median(sum(measured.values()) for measured in times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts in KiB
    print(json.dumps({"seconds": seconds, "parts": parts, "peak_mb": peak}))


def apart(path: Path, height: int, width: int, deep: bool) -> None:
    """`make` in a process of its own: Linux hands a parent's peak of memory on to its children, which are measured."""
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(path, height, width, deep))
    maker.start()
    maker.join()


def measure(case: str, source: Path, repeats: int, model: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--case", case, "--source", str(source), "--repeats", str(repeats)]
    command += ["--model", model]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case} on {source.name} failed: {done.stderr.strip().splitlines()[-1:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 megapixels for 12, fewer repeats and sizes")
    parser.add_argument("--model", default="tinct-small", help="a name or a colorizer.safetensors")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        child(arguments.case, arguments.source, arguments.repeats, arguments.model)
        return
    sizes = SIZES | ({"12mp": (1500, 2000)} if arguments.quick else {})
    curve = {mp: size for mp, size in CURVE.items() if not arguments.quick or mp != 50}
    speed: dict[tuple[str, str], dict[str, Any]] = {}
    memory: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for label, size in sizes.items():
            source = Path(folder) / f"{label}.jpg"
            apart(source, *size, False)
            repeats = 1 if label != "512" else 5 if arguments.quick else 15
            for case in ("tinct", *PEERS):
                speed[label, case] = measure(case, source, repeats, arguments.model)
        for mp, size in curve.items():
            source = Path(folder) / f"{mp}.jpg"
            apart(source, *size, False)
            memory[f"{mp} MP grey JPEG"] = measure("tinct", source, 1, arguments.model)
        source = Path(folder) / "deep.tif"
        apart(source, *CURVE[100], True)
        memory["100 MP 16-bit RGB TIFF"] = measure("tinct", source, 1, arguments.model)
    show(speed, memory, arguments)


def show(
    speed: dict[tuple[str, str], dict[str, Any]], memory: dict[str, dict[str, Any]], arguments: argparse.Namespace
) -> None:
    console = Console()
    table = Table("picture", "colorizer", "s", "pictures/s", "peak, MB", "parts, s")
    for (label, case), row in speed.items():
        parts = ", ".join(f"{name} {seconds:.3f}" for name, seconds in row["parts"].items())
        table.add_row(label, case, f"{row['seconds']:.3f}", f"{1 / row['seconds']:.2f}", f"{row['peak_mb']:.0f}", parts)
    console.print(table)
    table = Table("picture", "s", "peak, MB")
    for label, row in memory.items():
        table.add_row(label, f"{row['seconds']:.2f}", f"{row['peak_mb']:.0f}")
    console.print(table)

    def speedup(label: str, case: str) -> float:
        ratio: float = speed[label, case]["seconds"] / speed[label, "tinct"]["seconds"]
        return round(ratio, 1)

    result = {
        "model": arguments.model,
        "quick": arguments.quick,
        "speedup_512": speedup("512", "unet-convnext-tiny"),
        "speedup_12mp": speedup("12mp", "unet-convnext-tiny"),
        "speedup_512_resnet34": speedup("512", "unet-resnet34"),
        "speedup_12mp_resnet34": speedup("12mp", "unet-resnet34"),
        "seconds_512": round(speed["512", "tinct"]["seconds"], 4),
        "seconds_12mp": round(speed["12mp", "tinct"]["seconds"], 3),
        "peak_mb_1mp": round(memory["1 MP grey JPEG"]["peak_mb"]),
        "peak_mb_100mp": round(max(row["peak_mb"] for label, row in memory.items() if label.startswith("100"))),
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()

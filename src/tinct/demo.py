"""The whole chain on the photographs inside scikit-image, in minutes: it shows the plumbing and is no evidence."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from tinct.color import as_bytes, as_planes, greyed
from tinct.colorize import Colorizer
from tinct.compare import run_compare, show
from tinct.config import Config
from tinct.data.labelled import Task
from tinct.data.photos import photographs, right
from tinct.data.transforms import centre
from tinct.errors import TinctError, restartable
from tinct.files import write_image
from tinct.outputs import check_out
from tinct.pretrain import run_pretrain
from tinct.report import check_page, write_report
from tinct.screen import open_console, say

__all__ = ["demo", "sheet_of"]

TASKS: tuple[Task, ...] = ("multilabel", "segmentation")
TILE = 192
"""Side of a photograph on the sheet, in pixels."""


@restartable()
def demo(*, out: Path = Path("demo"), steps: int = 240, transfer_steps: int = 55, seeds: int = 3) -> int:
    """Pretrain on the embedded photographs, transfer to both tasks, colour what was held out, write one report.

    An interrupted demo goes on where it was; a finished one prints its results again.

    Args:
        out: folder for everything.
        steps: steps of pretraining, 32 pictures each.
        transfer_steps: steps of each transfer, 16 pictures each.
        seeds: paired seeds of the comparisons.

    Returns:
        0.

    Raises:
        TinctError: a number is below 1, or the folder holds something else, or cannot be written.
    """
    for name, number in {"steps": steps, "transfer_steps": transfer_steps, "seeds": seeds}.items():
        if number < 1:  # else found after pretraining, and called as the comparisons call it
            raise TinctError(f"{name} is {number}; expected 1 or more")
    check_out(out, "demo")
    check_page(page := out / "report.html")
    console = open_console()
    heading(console, "1/4  Learning from the left halves of eight photographs, without labels")
    run = out / "pretrained"
    config = Config(
        sources=["photos:"],
        size=64,
        batch_size=32,
        steps=steps,
        adversarial="hinge",
        checkpoint_every=max(1, steps // 3),
        warmup_steps=30,
        devices="1",  # each further one would repeat this command
    )
    run_pretrain(config, out=run, resume=True)
    results = []
    for number, task in enumerate(TASKS, start=2):
        heading(console, f"{number}/4  Does it help {task}? Random against colour-pretrained, {seeds} paired seeds")
        results.append(
            run_compare(
                "mosaic:",
                task=task,
                inits=f"random,colour={run}",
                out=out / task,
                labels="100",
                seeds=seeds,
                steps=transfer_steps,
                batch_size=16,
            )
        )
    heading(console, "4/4  Colouring the right halves, which nothing was trained on")
    sheet = colour_right_halves(run)
    write_report([out], page)
    for result in results:
        console.print()
        show(result, console)
    say(console, f"\nPictures: {sheet}\nReport:   {page}")
    return 0


def heading(console: Console, text: str) -> None:
    """Say what comes next."""
    say(console, f"\n{text}", "bold")


def colour_right_halves(run: Path) -> Path:
    """Write RUN/coloured.png: the right halves in grey, coloured, and in truth, one row each.

    Raises:
        TinctError: the run holds no colorizer.
    """
    path = run / "coloured.png"
    try:
        colorizer = Colorizer.load(run / "colorizer.safetensors")
    except TinctError as error:
        raise TinctError(f"{error} (remove {run} to begin the demo anew)") from error
    write_image(path, Image.fromarray(sheet_of(colorizer, map(right, photographs().values()))))
    return path


def sheet_of(colorizer: Colorizer, pictures: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The middles of colour pictures (H, W, 3) in grey, coloured, and in truth: three rows of tiles, (3 T, N T, 3)."""
    tiles = [centre(picture, TILE) for picture in pictures]
    truth = as_planes(np.stack(tiles))
    grey = greyed(truth)
    rows = torch.stack((grey, colorizer(grey), truth))  # (3, N, 3, T, T) to rows of tiles
    return as_bytes(rows.permute(2, 0, 3, 1, 4).reshape(3, 3 * TILE, -1))

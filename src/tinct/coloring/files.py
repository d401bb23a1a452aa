"""`tinct colorize`: files, folders, globs or standard input, coloured and written with all they carried; films too."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import ProgressColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tinct.coloring.checks import checked_saturation, checked_size
from tinct.coloring.hints import parse_hints
from tinct.coloring.jobs import Job, batches, clashes, find_jobs, form_of
from tinct.coloring.work import How, batch, done, film
from tinct.colorize import Colorizer
from tinct.errors import PictureError, TinctError, restartable
from tinct.screen import column, open_console, progress_bar, say

__all__ = ["colorize"]


def colorize(
    inputs: list[str],
    *,
    out: Path,
    model: str = "tinct-small",
    size: int | None = None,
    format: str | None = None,
    overwrite: bool = False,
    saturation: float = 1.0,
    seed: int | None = None,
    samples: int = 1,
    compare: bool = False,
    keep_colour: bool = False,
    hints: list[str] = [],  # noqa: B006  (the command line's way to say: several words)
    batch_size: int = 8,
    device: str = "auto",
    workers: int = 2,
) -> int:
    """Colour photographs and films; what is done already is skipped, a bad file is reported and the rest goes on.

    Args:
        inputs: files, films among them, folders (with all below but hidden files), globs, or - for standard input.
        out: a folder, whose structure follows the inputs'; for a single input also a file, or - for standard output.
        model: the name of a colorizer that comes with tinct, a colorizer.safetensors, or the folder of a run.
        size: short side, in pixels, at which the network looks at a picture (default: the model's).
        format: of pictures: jpeg, png, webp, tiff, bmp, avif or heic; the input's own by default.
        overwrite: colour again what is there already.
        saturation: chroma is multiplied by this, 0 to 4.
        seed: draw a plausible version, where the model can; with --samples, the seed of the first (0 by default).
        samples: write this many plausible versions (NAME-1, NAME-2, ...), where the model can draw them.
        compare: also write NAME-compare.jpg, a sheet of before and after; NAME.png-compare.jpg beside a NAME.jpg.
        keep_colour: leave colour photographs as they are; sepia and other toned prints count as monochrome.
        hints: known colours of a single picture, each as COLUMN,ROW=COLOUR (pixels from its top left corner; #2040a0 or
            a name such as tan); what is near and looks alike changes too.
        batch_size: pictures that go through the network together.
        device: where the network runs: auto, cpu, cuda, cuda:N or mps.
        workers: threads that read and write pictures.

    Returns:
        0, or 1 where some pictures failed (a table says which and why).

    Raises:
        TinctError: no picture among the inputs, an impossible setting, or nowhere to write.
    """
    for name, count in {"samples": samples, "batch_size": batch_size, "workers": workers}.items():
        if count < 1:
            raise TinctError(f"{name} is {count}; expected at least 1")
    saturation = checked_saturation(saturation)
    size = None if size is None else checked_size(size)
    if str(out) == "-" and (samples > 1 or compare):
        raise TinctError("standard output takes one picture; leave out --samples and --compare or name a folder")
    known = tuple(parse_hints(hints))
    jobs = find_jobs(inputs, out, form_of(format))
    if format is not None and all(job.film for job in jobs):
        raise TinctError(f"format is {format}, which is of pictures; leave it out: a film's is that of its file's name")
    if known and len(jobs) > 1:
        raise TinctError(f"hints are of one picture, but there are {len(jobs)}; colour it alone")
    if known and keep_colour:
        raise TinctError("--hints change a picture that --keep-colour may leave as it is; leave one of them out")
    drawn = samples > 1 or seed is not None
    seeds = tuple((seed or 0) + sample for sample in range(samples)) if drawn else (None,)
    how = How(size, saturation, seeds, compare, keep_colour, overwrite, known)
    if not overwrite and any(isinstance(job.source, bytes) and done(job, how) for job in jobs):
        raise TinctError(f"{out} has a result already, maybe of another picture; give --overwrite or another name")
    changed = [path for job in jobs if known and not job.film for path in job.results(samples, compare)]
    if not overwrite and any(map(os.path.isfile, changed)):
        raise TinctError(f"{out} has a result already, maybe with other hints; give --overwrite or another name")
    failures = clashes(jobs, samples, compare, keep_colour)
    why = "" if find_spec("av") else "is a film; pip install 'tinct[film]' to colour films"
    if samples > 1 or compare or keep_colour or known:
        why = "a film is coloured without --samples, --compare, --keep-colour and --hints"
    if why:
        failures |= dict.fromkeys((job for job in jobs if job.film), why)
    todo = [job for job in jobs if job not in failures and (overwrite or not done(job, how))]
    console = open_console(stderr=True)
    counts = {"coloured": 0, "left as they are": 0, "there already": len(jobs) - len(todo) - len(failures)}
    if todo:
        colorizer = Colorizer.load(model, device)
        with (
            restartable() if len(todo) > 1 and not overwrite else nullcontext(),
            ThreadPoolExecutor(workers) as pool,
            progress_bar(console, _Speed(), TimeRemainingColumn()) as progress,
        ):
            bar = progress.add_task("colouring", total=len(todo))
            grouped = batches([job for job in todo if not job.film], batch_size)
            pictures = (outcome for some in grouped for outcome in batch(some, colorizer, how, pool))
            films = ((job, film(job, colorizer, how, batch_size, progress)) for job in todo if job.film)
            try:
                for job, outcome in itertools.chain(pictures, films):
                    progress.advance(bar)
                    if isinstance(outcome, PictureError):
                        failures[job] = str(outcome).removeprefix(f"{job.name}: ")
                    else:
                        counts[outcome] += 1
            except TinctError:  # such as a full disk
                progress.stop()
                _report(console, counts, failures, out)
                raise
    _report(console, counts, failures, out)
    return 1 if failures else 0


def _report(console: Console, counts: dict[str, int], failures: dict[Job, str], out: Path) -> None:
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "coloured")
    again = " (--overwrite colours them anew)" if counts["there already"] else ""
    place = out if out.exists() else out.parent  # of several versions, none is called as asked
    where = f"; see {place}" if any(counts.values()) and str(out) != "-" else ""
    say(console, said + again + where)
    if failures:
        table = Table(column("failed"), column("why"), title=f"{len(failures)} failed", title_justify="left")
        for job, why in failures.items():
            table.add_row(Text(job.name), Text(why))
        console.print(table)


class _Speed(ProgressColumn):
    """Pictures a second since the start: they come in batches, so that rich's rate of late is of a moment's burst."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:.2f} pictures/s" if task.completed and task.elapsed else "")

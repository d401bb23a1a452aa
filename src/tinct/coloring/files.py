"""`tinct colorize`: files, folders, globs or standard input, coloured and written with all they carried; films too."""

import errno
import io
import itertools
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tinct.coloring.jobs import Job, batches, clashes, find_jobs, form_of
from tinct.coloring.upsample import Chroma
from tinct.colorize import Colorizer, check_saturation, checked_size, paint
from tinct.errors import PictureError, TinctError, out_of_memory
from tinct.files import write_bytes
from tinct.pictures.picture import Picture, is_monochrome, view
from tinct.pictures.readers import read
from tinct.pictures.writers import encode, write
from tinct.screen import column, open_console, progress_bar, say

__all__ = ["colorize"]

NAME_ERRORS = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EILSEQ, errno.ELOOP)
"""What is wrong with one result's name alone."""


@dataclass(frozen=True)
class How:
    """What is done to every picture; see `colorize`."""

    size: int | None
    saturation: float
    seeds: tuple[int | None, ...]
    compare: bool
    keep_colour: bool
    overwrite: bool


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
    batch_size: int = 8,
    device: str = "auto",
    workers: int = 2,
) -> int:
    """Colour photographs and films; what is done already is skipped, a bad file is reported and the rest goes on.

    Args:
        inputs: files, films among them, folders (with all below but hidden files), globs, or - for standard input.
        out: a folder, whose structure follows the inputs'; for a single input also a file, or - for standard output.
        model: the name of a colorizer that comes with tinct, or the path of a colorizer.safetensors.
        size: short side, in pixels, at which the network looks at a picture (default: the model's).
        format: jpeg, png, webp, tiff, bmp, avif or heic; the input's own by default.
        overwrite: colour again what is there already.
        saturation: chroma is multiplied by this, 0 to 4.
        seed: draw a plausible version, where the model can; of several samples the first one's seed, 0 without.
        samples: write so many plausible versions (NAME-1, NAME-2, ...), where the model can draw them.
        compare: also write NAME-compare.jpg, a sheet of before and after; NAME.png-compare.jpg beside a NAME.jpg.
        keep_colour: leave colour photographs as they are; sepia and other toned prints count as monochrome.
        batch_size: pictures that go through the network together.
        device: auto, cpu, cuda, cuda:N or mps.
        workers: pictures that are read, or written, at a time.

    Returns:
        0, or 1 where some pictures failed (a table says which and why).

    Raises:
        TinctError: no picture among the inputs, an impossible setting, or nowhere to write.
    """
    for name, count in {"samples": samples, "batch_size": batch_size, "workers": workers}.items():
        if count < 1:
            raise TinctError(f"{name} is {count}; expected at least 1")
    check_saturation(saturation)
    size = None if size is None else checked_size(size)
    if str(out) == "-" and (samples > 1 or compare):
        raise TinctError("standard output takes one picture; leave out --samples and --compare or name a folder")
    jobs = find_jobs(inputs, out, form_of(format))
    drawn = samples > 1 or seed is not None
    seeds = tuple((seed or 0) + sample for sample in range(samples)) if drawn else (None,)
    how = How(size, saturation, seeds, compare, keep_colour, overwrite)
    if not overwrite and any(isinstance(job.source, bytes) and _done(job, how) for job in jobs):
        raise TinctError(f"{out} has a result already, maybe of another picture; give --overwrite or another name")
    failures = clashes(jobs, samples, compare, keep_colour)
    if samples > 1 or compare or keep_colour:
        why = "a film is coloured without --samples, --compare and --keep-colour"
        failures |= dict.fromkeys((job for job in jobs if job.film), why)
    elif find_spec("av") is None:
        why = "is a film; pip install 'tinct[film]' to colour films"
        failures |= dict.fromkeys((job for job in jobs if job.film), why)
    todo = [job for job in jobs if job not in failures and (overwrite or not _done(job, how))]
    console = open_console(stderr=True)
    counts = {"coloured": 0, "left as they are": 0, "there already": len(jobs) - len(todo) - len(failures)}
    if todo:
        colorizer = Colorizer.load(model, device)
        with ThreadPoolExecutor(workers) as pool, progress_bar(console, _Speed(), TimeRemainingColumn()) as progress:
            bar = progress.add_task("colouring", total=len(todo))
            grouped = batches([job for job in todo if not job.film], batch_size)
            pictures = (outcome for batch in grouped for outcome in _batch(batch, colorizer, how, pool))
            films = ((job, _film(job, colorizer, how, batch_size, progress)) for job in todo if job.film)
            try:
                for job, outcome in itertools.chain(pictures, films):
                    progress.advance(bar)
                    if isinstance(outcome, PictureError):
                        failures[job] = str(outcome).removeprefix(f"{job.name}: ")
                    else:
                        counts[outcome] += 1
            except TinctError:  # such as a full disk
                progress.stop()
                _report(console, counts, failures)
                raise
    _report(console, counts, failures)
    return 1 if failures else 0


Outcome = str | PictureError


def _batch(jobs: list[Job], colorizer: Colorizer, how: How, pool: ThreadPoolExecutor) -> Iterator[tuple[Job, Outcome]]:
    """Read, colour and write pictures together; give what came of each."""
    pictures: list[tuple[Job, Picture]] = []
    for job, picture in zip(jobs, pool.map(_read, jobs), strict=True):
        if isinstance(picture, PictureError):
            yield job, picture
        elif how.keep_colour and (kept := _keep(job, picture, how)):
            yield job, kept
        else:
            pictures.append((job, picture))
    found = _chroma([picture for _, picture in pictures], colorizer, how)
    finish = partial(_finish, how=how)
    for (job, _), outcome in zip(pictures, pool.map(finish, pictures, found), strict=True):
        yield job, outcome


def _read(job: Job) -> Picture | PictureError:
    try:
        return read(job.source, job.name)
    except PictureError as error:
        return error


def _keep(job: Job, picture: Picture, how: How) -> Outcome | None:
    """Pass a colour photograph through, byte for byte where its format stays; None of one that is to be coloured."""
    try:
        if is_monochrome(picture):
            return None
        if job.target is not None and job.target.is_file() and not how.overwrite:
            return "there already"  # where samples or a sheet are asked for, whose absence says nothing of these
        if (job.form or picture.form) != picture.format:
            _put(picture, job.target, job.form)
        elif job.target is None:
            _to_stdout(_content(job.source))
        else:
            write_bytes(job.target, _content(job.source))
    except (TinctError, RuntimeError, MemoryError) as error:
        return _of_this_picture(error)
    return "left as they are"


def _chroma(pictures: list[Picture], colorizer: Colorizer, how: How) -> list[list[Chroma] | PictureError]:
    """The colour of each picture, once for each seed; where a batch fails, its pictures are tried one by one."""
    try:
        drawn = [colorizer.chroma(pictures, saturation=how.saturation, seed=seed, size=how.size) for seed in how.seeds]
    except PictureError as error:
        if len(pictures) == 1:
            return [error]
        return [_chroma([picture], colorizer, how)[0] for picture in pictures]
    return [list(versions) for versions in zip(*drawn, strict=True)]


def _finish(work: tuple[Job, Picture], found: list[Chroma] | PictureError, how: How) -> Outcome:
    """Paint and write one picture in all its versions."""
    job, picture = work
    if isinstance(found, PictureError):
        return found
    try:
        views = [view(picture)] if how.compare else []
        last = len(found) - 1
        for index, (target, chroma) in enumerate(zip(job.versions(len(found)), found, strict=True)):
            if target is not None and _kept(target, how):
                views += [_earlier(target, views[0])] if how.compare else []
                continue
            # the last version may take the place of the input, which halves the memory of a large scan
            coloured = paint(picture, chroma, in_place=index == last)
            _put(coloured, target, job.form)
            views += [view(coloured)] if how.compare else []
        if how.compare and (sheet := job.sheet()) and not _kept(sheet, how):
            write(Picture(_beside(views), format="JPEG", name=job.name), sheet)
    except (TinctError, RuntimeError, MemoryError) as error:
        return _of_this_picture(error)
    return "coloured"


def _earlier(result: Path, like: torch.Tensor) -> torch.Tensor:
    seen = view(read(result, str(result)))
    if seen.shape != like.shape:
        raise PictureError(f"{result} is of a picture of another size; give --overwrite, or another out")
    return seen


def _kept(result: Path, how: How) -> bool:
    """Whether a result is there and stays, while another of the same picture's is missing."""
    return not how.overwrite and os.path.isfile(result)


def _film(job: Job, colorizer: Colorizer, how: How, batch_size: int, progress: Progress) -> Outcome:
    """Colour one film; a bar counts its frames."""
    from tinct.coloring.film import colorize_film, frame_count

    assert isinstance(job.source, Path)  # else it were no film
    assert job.target is not None
    bar = progress.add_task(job.source.name, total=None)
    try:
        progress.update(bar, total=frame_count(job.source))
        _, damaged = colorize_film(
            job.source,
            job.target,
            colorizer,
            size=how.size,
            saturation=how.saturation,
            seed=how.seeds[0],
            batch_size=batch_size,
            after_frame=lambda: progress.advance(bar),
        )
    except (TinctError, RuntimeError, MemoryError) as error:
        return _of_this_picture(error)
    finally:
        progress.remove_task(bar)
    if damaged:
        say(progress.console, f"{job.name}: could not be decoded in {damaged} places")
    return "coloured"


def _of_this_picture(error: Exception) -> PictureError:
    """The error as one of a single picture, where others may fare better; a full disk or a closed folder is raised."""
    if isinstance(error, PictureError):
        return error
    if out_of_memory(error):
        return PictureError("not enough memory to colour it")
    if isinstance(error.__cause__, OSError) and error.__cause__.errno in NAME_ERRORS:
        return PictureError(str(error))
    raise error


def _put(picture: Picture, target: Path | None, form: str | None) -> None:
    if target is not None:
        write(picture, target, form)
        return
    buffer = io.BytesIO()
    encode(picture, buffer, form)
    _to_stdout(buffer.getbuffer())


def _to_stdout(content: bytes | memoryview) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise TinctError(f"cannot write to standard output: {error.strerror or error}") from error


def _beside(views: list[torch.Tensor]) -> NDArray[np.uint8]:
    """Views side by side on white, 8 pixels apart."""
    gap = torch.ones(3, views[0].shape[1], 8)
    parts = [part for view in views for part in (view, gap)][:-1]
    samples: NDArray[np.uint8] = torch.cat(parts, dim=2).mul(255).round().byte().permute(1, 2, 0).numpy()
    return samples


def _content(source: Path | bytes) -> bytes:
    try:
        return source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:  # gone since it was read
        raise PictureError(error.strerror or str(error)) from error


def _done(job: Job, how: How) -> bool:
    results = job.results(len(how.seeds), how.compare)
    return bool(results) and all(os.path.isfile(path) for path in results)  # no error for names that are too long


def _report(console: Console, counts: dict[str, int], failures: dict[Job, str]) -> None:
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "coloured")
    console.print(said + (" (--overwrite colours them anew)" if counts["there already"] else ""))
    if failures:
        table = Table(column("failed"), column("why"), title=f"{len(failures)} failed", title_justify="left")
        for job, why in failures.items():
            table.add_row(Text(job.name), Text(why))
        console.print(table)


class _Speed(ProgressColumn):
    """Pictures a second since the start: they come in batches, so that rich's rate of late is of a moment's burst."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / task.elapsed:.2f} pictures/s" if task.completed and task.elapsed else "")

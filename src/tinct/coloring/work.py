"""What `tinct colorize` does with a batch of pictures, or a film: read it, find its colours, paint and write."""

import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from tinct.color import as_bytes
from tinct.coloring.hints import Hint
from tinct.coloring.jobs import Job
from tinct.coloring.upsample import Chroma
from tinct.colorize import Colorizer, paint
from tinct.data.decode import GREY
from tinct.errors import PictureError, TinctError, out_of_memory
from tinct.files import write_bytes
from tinct.pictures.picture import Picture, toning, view
from tinct.pictures.readers import read
from tinct.pictures.writers import encode, write
from tinct.screen import say

__all__ = ["How", "Outcome", "batch", "done", "film"]

logger = logging.getLogger(__name__)

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
    hints: tuple[Hint, ...]


Outcome = str | PictureError


def batch(jobs: list[Job], colorizer: Colorizer, how: How, pool: ThreadPoolExecutor) -> Iterator[tuple[Job, Outcome]]:
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
        if (chroma := toning(picture)) is not None:
            if chroma >= GREY:
                said = "is of one hue, taken for a toned print and coloured; if it is a colour photograph, copy it"
                logger.warning("%s %s", job.name, said)
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
    if not pictures:  # of which hints would be none
        return []
    settings: dict[str, Any] = {"saturation": how.saturation, "size": how.size, "hints": how.hints}
    try:
        drawn = [colorizer.chroma(pictures, seed=seed, **settings) for seed in how.seeds]
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
        last, some_there = len(found) - 1, False
        for index, (target, chroma) in enumerate(zip(job.versions(len(found)), found, strict=True)):
            if target is not None and _there_already(target, how):
                some_there = True
                views += [_earlier(target, views[0])] if how.compare else []
                continue
            # the last version may take the place of the input, which halves the memory of a large scan
            coloured = paint(picture, chroma, in_place=index == last)
            _put(coloured, target, job.form)
            views += [view(coloured)] if how.compare else []
        # one that is there lacks the versions added now; where there were none, it is of a picture with another suffix
        if how.compare and (sheet := job.sheet()) and (some_there or not _there_already(sheet, how)):
            write(Picture(_beside(views), format="JPEG", name=job.name), sheet)
    except (TinctError, RuntimeError, MemoryError) as error:
        return _of_this_picture(error)
    return "coloured"


def _earlier(result: Path, like: torch.Tensor) -> torch.Tensor:
    seen = view(read(result, str(result)))
    if seen.shape != like.shape:
        raise PictureError(f"{result} is of a picture of another size; give --overwrite, or another out")
    return seen


def _there_already(result: Path, how: How) -> bool:
    """Whether a result is there and stays, while another of the same picture's is missing."""
    return not how.overwrite and os.path.isfile(result)


def film(job: Job, colorizer: Colorizer, how: How, batch_size: int, progress: Progress) -> Outcome:
    """Colour one film; a bar counts its frames."""
    from tinct.coloring.film import colorize_film, frame_count

    assert isinstance(job.source, Path)  # otherwise it would not be a film
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
        say(progress.console, f"{job.name}: damaged places: {damaged}")
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
    with buffer.getbuffer() as content:  # released whatever happens: Python 3.13 objects to buffers that are not
        _to_stdout(content)


def _to_stdout(content: bytes | memoryview) -> None:
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever read it has left, which the command line knows what to do about
        raise
    except OSError as error:
        raise TinctError(f"cannot write to standard output: {error.strerror or error}") from error


def _beside(views: list[torch.Tensor]) -> NDArray[np.uint8]:
    """Views side by side on white, 8 pixels apart."""
    gap = torch.ones(3, views[0].shape[1], 8)
    parts = [part for view in views for part in (view, gap)][:-1]
    return as_bytes(torch.cat(parts, dim=2))


def _content(source: Path | bytes) -> bytes:
    try:
        return source.read_bytes() if isinstance(source, Path) else source
    except OSError as error:  # gone since it was read
        raise PictureError(error.strerror or str(error)) from error


def done(job: Job, how: How) -> bool:
    """Whether all that a job makes is there."""
    results = job.results(len(how.seeds), how.compare)
    return bool(results) and all(os.path.isfile(path) for path in results)  # no error for names that are too long

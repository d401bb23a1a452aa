"""Which pictures and films `tinct colorize` is asked for, and where each result goes."""

import glob
import itertools
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from tinct.errors import PictureError, TinctError
from tinct.files import all_below, expanded, walked
from tinct.pictures.picture import FILM_FORMATS, FILM_SUFFIXES, FORMATS, READ_SUFFIXES, SUFFIXES
from tinct.pictures.readers import MAX_BYTES, form_in, pixel_count

__all__ = ["Job", "batches", "clashes", "find_jobs", "form_of"]

logger = logging.getLogger(__name__)

ENDINGS = (*SUFFIXES, *READ_SUFFIXES, *FILM_SUFFIXES)
"""Of what is looked for in folders."""

OTHER_PICTURES = (".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2")
"""Of pictures that neither tinct nor Pillow reads: JPEG XL, and cameras' raw files."""

BATCH_PIXELS = 32_000_000
"""A batch is closed once its pictures have this many pixels; a larger picture goes alone."""


@dataclass(frozen=True)
class Job:
    """One picture, or film, to colour.

    Attributes:
        source: a path, or the content of standard input.
        target: where to, None being standard output.
        form: the result's format, a key of `FORMATS`; None keeps the input's.
        alike: another result differs in its suffix only, so that the sheet is called after all of the name.
    """

    source: Path | bytes
    target: Path | None
    form: str | None = None
    alike: bool = False

    @property
    def film(self) -> bool:
        """Whether it is a film, which its name says."""
        return isinstance(self.source, Path) and self.source.suffix.lower() in FILM_SUFFIXES

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return str(self.source) if isinstance(self.source, Path) else "standard input"

    def versions(self, count: int) -> list[Path | None]:
        """Where `count` versions of the picture go."""
        if self.target is None or count == 1:
            return [self.target]
        return [self.target.with_stem(f"{self.target.stem}-{number + 1}") for number in range(count)]

    def sheet(self) -> Path | None:
        """Where the before/after sheet goes."""
        if self.target is None:
            return None
        return self.target.with_name(f"{self.target.name if self.alike else self.target.stem}-compare.jpg")

    def results(self, versions: int, compare: bool, keep_colour: bool = False) -> list[Path]:
        """All files that the job writes, or may write where it leaves colour photographs as they are."""
        paths = [*self.versions(versions), self.sheet() if compare else None, self.target if keep_colour else None]
        return list(dict.fromkeys(path for path in paths if path is not None))


def form_of(name: str | None) -> str | None:
    """The format that `--format` names; raises `TinctError` where there is none such."""
    if name is None:
        return None
    if f".{name.lower()}" not in SUFFIXES:
        raise TinctError(f"format is {name}; expected jpeg, png, webp, tiff, bmp, avif or heic")
    form = SUFFIXES[f".{name.lower()}"]
    Image.init()
    if form not in Image.SAVE:
        extra = "pip install 'tinct[heic]'" if form == "HEIF" else "install a Pillow that has it"
        raise TinctError(f"{name} cannot be written here; {extra}, or choose another format")
    return form


def find_jobs(inputs: list[str], output: Path, form: str | None) -> list[Job]:
    """Find the pictures that `inputs` name, and where each goes."""
    endings = (*SUFFIXES, *FILM_FORMATS)
    if str(output) != "-" and output.is_file() and output.suffix.lower() not in endings:
        raise TinctError(f"out is {output}, a file; expected a folder, or a file ending in {', '.join(endings)}")
    if inputs == ["-"]:
        if sys.stdin is None:
            raise TinctError("standard input is closed; name a file instead of -")
        content = sys.stdin.buffer.read(MAX_BYTES + 1)
        return [_single(content, Path("stdin").with_suffix(FORMATS[form_in(content)][0]), output, form)]
    found = list(dict.fromkeys(_found(inputs, output)))
    if not found:
        raise TinctError(f"no picture in {', '.join(inputs)}; expected files ending in {', '.join(ENDINGS)}")
    if len(found) == 1 and not any(expanded(one).is_dir() for one in inputs):
        return [_single(*found[0], output, form)]
    if str(output) == "-" or (output.suffix.lower() in endings and not output.is_dir()):
        raise TinctError(f"{len(found)} pictures cannot go to {output}; name a folder")
    jobs = [Job(path, output / _renamed(relative, form), form) for path, relative in found]
    stems = Counter(job.sheet() for job in jobs)
    return [replace(job, alike=stems[job.sheet()] > 1) for job in jobs]


def _found(inputs: list[str], output: Path) -> Iterator[tuple[Path, Path]]:
    """Give each picture's path, and where in the output folder it belongs."""
    for name in map(os.path.expanduser, inputs):
        path = Path(name)
        if not name:
            raise TinctError("an input is empty; expected a file, a folder or a pattern (. is the current folder)")
        if name == "-":
            raise TinctError("- (standard input) is expected alone")
        if path.is_dir():
            if _identity(path) == _identity(output):
                raise TinctError(f"out is {output}, the folder of the pictures themselves; choose another")
            yield from _below(path, all_below(path), output)
        elif not path.exists() and glob.has_magic(name) and (matches := sorted(_matches(name))):
            fixed = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
            files = (file for match in matches for file in (all_below(match) if match.is_dir() else [match]))
            yield from _below(Path(*fixed), _once(files), output)
        else:  # a file; or one that is missing, or a pattern that nothing fits, which reading it says
            yield path, Path(path.name)


def _matches(pattern: str) -> Iterator[Path]:
    """What fits a pattern; `**` walks each folder once, where glob's own goes round links to folders above."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(pattern))
        return
    place = parts.index("**")
    for start in glob.glob(str(Path(*parts[:place]))):
        if not (rest := parts[place + 1 :]):
            yield Path(start)
            continue
        for folder, _ in walked(Path(start)):
            yield from _matches(str(Path(glob.escape(str(folder)), *rest)))


def _once(files: Iterable[Path]) -> list[Path]:
    """Each file of a folder once, by its shortest path, whichever links lead there."""
    first: dict[tuple[Path, str], Path] = {}
    for file in sorted(files, key=lambda file: len(file.parts)):
        first.setdefault((_real(file.parent), file.name), file)
    return list(first.values())


def _below(folder: Path, files: Iterable[Path], output: Path) -> Iterator[tuple[Path, Path]]:
    """Give those of `files` that look like pictures or films, without hidden ones and results of an earlier run.

    A link that leads nowhere is given too: reading it says so. Pictures of other formats are counted in the log.
    """
    results = _real(output)
    apart = _real(folder) in results.parents
    others: Counter[str] = Counter()
    for file in files:
        relative = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        earlier = apart and results in _real(file).parents
        if hidden or earlier or not (file.is_file() or file.is_symlink()):
            continue
        suffix = file.suffix.lower()
        if suffix in ENDINGS:
            yield file, relative
        elif suffix in OTHER_PICTURES or suffix in Image.registered_extensions():
            others[suffix] += 1
    if others:
        listed = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        logger.warning("%s: passed over pictures of formats that are not coloured: %s", folder, listed)


def _real(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve`, it takes links that go round in circles."""
    return Path(os.path.realpath(path))


def _identity(path: Path) -> object:
    """What is equal for two names of one file: on macOS and Windows they may differ in case."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # not there, or no name that a file can have
        return _real(path)
    return status.st_dev, status.st_ino


def _single(source: Path | bytes, relative: Path, output: Path, form: str | None) -> Job:
    film = Job(source, None).film
    if str(output) == "-":
        if film:
            raise TinctError(f"{source!s} is a film, which cannot go to standard output; name a file or a folder")
        return Job(source, None, form)
    endings = FILM_FORMATS.keys() if film else SUFFIXES.keys()
    others = {*Image.registered_extensions(), *FILM_SUFFIXES} - endings
    if not output.is_dir() and output.suffix.lower() in others:
        raise TinctError(f"out is {output}; expected a folder, or a file ending in {', '.join(endings)}")
    if output.is_dir() or output.suffix.lower() not in endings:
        return Job(source, output / _renamed(relative, form), form)
    if film:
        return Job(source, output)
    named = form_of(output.suffix[1:])
    if form not in (None, named):
        raise TinctError(f"out is {output} but format is {form}; leave one of them out")
    return Job(source, output, named)


def _renamed(relative: Path, form: str | None) -> Path:
    if relative.suffix.lower() in FILM_SUFFIXES:
        return relative if relative.suffix.lower() in FILM_FORMATS else relative.with_suffix(next(iter(FILM_FORMATS)))
    if form is None and relative.suffix.lower() in READ_SUFFIXES:
        form = "PNG"
    if form is None or SUFFIXES.get(relative.suffix.lower()) == form:
        return relative
    return relative.with_suffix(FORMATS[form][0])


def clashes(jobs: list[Job], versions: int = 1, compare: bool = False, keep_colour: bool = False) -> dict[Job, str]:
    """Jobs that would overwrite an input or another's result, with the reason."""
    sources = {_identity(job.source) for job in jobs if isinstance(job.source, Path)}
    taken: dict[Path, str] = {}
    failures: dict[Job, str] = {}
    for job in jobs:
        results = job.results(versions, compare, keep_colour)
        for path in results:
            if _identity(path) in sources:
                failures.setdefault(job, f"{path.name} would overwrite the input {path}; choose another --out")
            elif path in taken:
                why = f"{path.name} would overwrite that of {taken[path]}; use another format or folder"
                failures.setdefault(job, why)
        if job not in failures:
            taken |= dict.fromkeys(results, job.name)
    return failures


def batches(jobs: list[Job], batch_size: int) -> Iterator[list[Job]]:
    """Group jobs by number and by pixels, so that memory stays bounded."""
    batch: list[Job] = []
    pixels = 0
    for job in jobs:
        size = _size(job)
        if batch and (len(batch) == batch_size or pixels + size > BATCH_PIXELS):
            yield batch
            batch, pixels = [], 0
        batch.append(job)
        pixels += size
    if batch:
        yield batch


def _size(job: Job) -> int:
    try:
        return pixel_count(job.source)
    except PictureError:  # reading it will say why
        return 0

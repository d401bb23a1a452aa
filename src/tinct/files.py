"""Writing files so that nobody ever sees half of one."""

import contextlib
import errno
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinct.errors import TinctError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    *(
        "all_below",
        "alone_in",
        "as_json",
        "as_plain",
        "atomic_path",
        "check_utf8",
        "check_writable",
        "expanded",
        "in_full",
        "read_json",
        "settle",
        "stamp",
        "sync",
        "unwritable",
    ),
    *("walked", "write_bytes", "write_image", "write_json", "write_text"),
]

UMASK = os.umask(0)  # which can be read only by setting it, for all threads: so once, while there is one
os.umask(UMASK)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What only the place that is written to can be."""
REMEDIES = {
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space or choose another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a folder you may write to"),
}
"""What to do about what the system says where something cannot be written; choose another folder, of all else."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; sync it and rename it to `path` when the block ends well.

    On any failure the unfinished file is removed and `path` is as it was. The temporary name keeps the suffix
    of `path`, because many writers choose their format by it.

    Raises:
        TinctError: the folder cannot be written, `path` is one, or the disk is full; or the block could not have
            another file, which is named.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = os.fsencode(path.stem)[:64].decode("utf-8", "ignore")  # names are limited in bytes
        handle, name = tempfile.mkstemp(prefix=f".{start}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(path, error) from error
    unfinished = Path(name)
    try:
        yield unfinished
        sync(unfinished)
        unfinished.chmod(0o666 & ~UMASK)  # mkstemp's 0600 would hide the file from the group
        unfinished.replace(path)
        sync(path.parent)
    except OSError as error:
        raise unwritable(path, error, unfinished) from error
    finally:
        unfinished.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError, temporary: Path | None = None) -> TinctError:
    """What to raise where the system does not let `path` be written.

    With `temporary`, what is written before it is moved there, errors of any other file, such as one that was to be
    copied, are told from those.
    """
    name = str(error.filename)  # of a film it is an address, file:NAME
    own = error.filename is None or str(temporary) in name or name in (str(path), str(path.parent))
    if temporary and not own and error.errno not in FULL:  # shutil.copyfile names what it reads, whichever it is
        return TinctError(f"{name}: {error.strerror or error}, while {path} was being written; check it and try again")
    remedy = REMEDIES.get(error.errno or 0, "choose another folder")
    return TinctError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def all_below(folder: Path) -> Iterator[Path]:
    """All files below a folder in order, as `walked` finds them."""
    return (Path(inner, file) for inner, files in walked(folder) for file in files)


def walked(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all below it in order, through links too, each once, with the names of its files.

    Raises:
        TinctError: a folder cannot be read.
    """
    seen = set[str]()

    def refuse(error: OSError) -> None:
        raise TinctError(f"{error.filename}: {error.strerror}; leave it out, or let it be read") from error

    for name, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        # unlike `Path.resolve`, it takes links that go round in circles
        if (real := os.path.realpath(name)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield Path(name), sorted(files)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically; bytes of file names that are none pass through."""
    write_bytes(path, content.encode("utf-8", "surrogateescape"))


def write_image(path: Path, image: "Image") -> None:
    """Write an image to `path` atomically, in the format that its suffix names."""
    with atomic_path(path) as unfinished:
        image.save(unfinished)


def expanded(path: str | Path) -> Path:
    """`path` with a leading ~ replaced by the home folder; left as it is where nobody has one, which reading says.

    Raises:
        TinctError: it is no text and no path.
    """
    if not isinstance(path, str | Path):
        raise TinctError(f"{path!r:.60} is a {type(path).__name__}; expected a path")
    return Path(os.path.expanduser(path))


def as_plain(value: Any) -> Any:
    """A value as settings and records have it, in lists and dicts too: paths are text, NumPy's numbers are Python's."""
    if isinstance(value, dict):
        return {key: as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(as_plain, value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def in_full(spec: Any, start: Path = Path()) -> Any:
    """A source, an init or a list of them, paths in full: `photos`, `./photos/` and a link there are one place.

    Relative paths start from `start`, by default the working folder. What is no text comes back as it is; a prefix such
    as `csv:` stays before its path, and the year of a VOC behind. `photos:`, which has no path, stays as it is.
    """
    if isinstance(spec, list):
        return [in_full(one, start) for one in spec]
    if not isinstance(spec, str):
        return spec
    prefix, _, path = spec.partition(":") if re.match(r"\w\w+:", spec) else ("", "", spec)  # C: is no prefix
    if not path:  # photos:, mosaic:
        return spec
    year = re.search(r"@20\d\d$", path) if prefix == "voc" else None
    end = year.start() if year else len(path)
    return f"{prefix}:{os.path.realpath(start / expanded(path[:end]))}{path[end:]}"


def check_writable(folder: Path) -> None:
    """Make a folder, and for a moment a file in it: better refused now than after hours of work for it.

    Raises:
        TinctError: neither can be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error


def check_utf8(name: str, path: Path) -> None:
    """Refuse a path, called `name`, that some library takes as text only.

    Raises:
        TinctError: it holds bytes that are not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise TinctError(f"{name} is {str(path)!r}; expected a name in UTF-8, choose another") from error


@contextlib.contextmanager
def alone_in(folder: Path, wait: bool = False) -> Iterator[None]:
    """Make a folder, and hold it for this process while the block runs, however that ends; Windows only makes it.

    Args:
        folder: which one.
        wait: for whoever holds it, where that takes a moment only.

    Raises:
        TinctError: another process holds it, or it cannot be made.
    """
    check_writable(folder)
    if sys.platform == "win32":  # which has no such locks
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems of networks have none either
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise TinctError(
                    f"{folder} is being written by another process; wait for its end, or choose another folder"
                ) from error
        yield
    finally:
        os.close(descriptor)


def as_json(content: Any) -> str:
    """`content` as indented JSON. NaN and infinities are refused: JSON has none."""
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as `as_json` has it, atomically."""
    write_text(path, as_json(content))


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """What a JSON file holds.

    Raises:
        TinctError: it is absent, cannot be read, or holds no object; `remedy` ends the line.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:  # ValueError: no JSON, or no text
        raise TinctError(f"{path}: cannot be read ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise TinctError(f"{path}: holds {type(content).__name__}, expected a JSON object; {remedy}")
    return content


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written anew: its time in nanoseconds and its size; 0, 0 where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def sync(path: Path) -> None:
    """Force a file's content, or a folder's entries, to disk."""
    windows = os.name == "nt"
    if windows and path.is_dir():  # which cannot be opened there
        return
    descriptor = os.open(path, os.O_RDWR if windows else os.O_RDONLY)  # Windows syncs only what may be written
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some file systems, of networks for one, know no such thing for folders
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def settle(folder: Path) -> None:
    """Force a new folder and the files in it to disk, readable as the umask says: some writers let only the owner."""
    for path in (*folder.rglob("*"), folder):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~UMASK)
        sync(path)

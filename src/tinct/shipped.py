"""Weights by name: those that come with tinct, and those fetched or added later, each held to its SHA-256.

A shelf is a folder with a `manifest.json`, weights in safetensors format and their cards:

    {"format": 1, "weights": {"tinct-small": {"file": "tinct-small.safetensors", "sha256": "...", "size": 24117248,
        "kind": "colorizer", "licence": "Apache-2.0", "card": "tinct-small.md"}}}

An entry may also say where a hub keeps the file: `"hub": {"repo": "OWNER/NAME", "revision": "COMMIT"}`; such weights
may be absent from the shelf until they are fetched. One shelf is inside the package, the other is the user's own.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from tinct.errors import TinctError, check_kinds
from tinct.files import alone_in, atomic_path, expanded, read_json, write_json
from tinct.outputs import RECORD

__all__ = [
    *("RESERVED", "SHIPPED", "Entry"),
    *("add", "check_name", "digest", "entries", "keeping_seen", "own_shelf", "put", "resolve", "seen_beside", "verify"),
]

SHIPPED = Path(__file__).parent / "shipped_weights"
"""The shelf inside the package."""

FORMAT = 1
"""Version of the manifest."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What a name may be: it also names files, so no folder can be smuggled in."""

RESERVED = ("random", "imagenet-lite")
"""Words that mean an encoder already, so that weights of that name could not be had."""


@dataclass(frozen=True)
class Entry:
    """Weights on a shelf, maybe not fetched yet.

    Attributes:
        name: what they are called.
        file: the file's bare name on the shelf.
        sha256: its hash, 64 hexadecimal digits.
        size: its length in bytes.
        kind: `colorizer` or `encoder`.
        licence: an SPDX name.
        card: the bare name of the text that says what the weights are; empty where there is none.
        hub: `repo` and `revision` where a hub has them too.
        shelf: the folder.
    """

    name: str
    file: str
    sha256: str
    size: int
    kind: str
    licence: str
    card: str = ""
    hub: dict[str, str] = dataclasses.field(default_factory=dict)
    shelf: Path = SHIPPED

    @property
    def path(self) -> Path:
        """Where the file is, or would be."""
        return self.shelf / self.file

    @property
    def fetching(self) -> str:
        """The command that brings the file, again or at last; of weights that no hub has, only a copy can."""
        place = "" if self.shelf in (SHIPPED, own_shelf()) else f" --shelf {shlex.quote(str(self.shelf))}"
        return f"tinct weights fetch {self.name}{place}{'' if self.hub else ' --mirror FOLDER, one that holds a copy'}"

    @property
    def gone(self) -> bool:
        """Whether the file was there once and is no more; the package's may have to be fetched first."""
        return self.shelf != SHIPPED and not self.path.exists()

    @property
    def seen(self) -> Path:
        """Where hashes of the pictures that an encoder saw would be."""
        return self.path.with_suffix(".seen.npy")


def own_shelf() -> Path:
    """The user's own shelf: `$TINCT_WEIGHTS`, or `tinct/weights` in the user's cache folder."""
    if named := os.environ.get("TINCT_WEIGHTS"):
        return expanded(named)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tinct" / "weights"


def entries(*shelves: Path) -> dict[str, Entry]:
    """All weights by name, of the package's shelf and then the user's own unless other shelves are given.

    Where two shelves know a name, the first one's hash holds, wherever the file is.

    Raises:
        TinctError: a manifest is damaged.
    """
    found: dict[str, Entry] = {}
    for shelf in shelves or (SHIPPED, own_shelf()):
        for name, entry in _manifest(shelf).items():
            first = found.setdefault(name, entry)
            if not first.path.exists() and entry.path.exists():
                found[name] = dataclasses.replace(first, file=entry.file, shelf=shelf)
    return found


def resolve(model: str | Path, *kinds: str, others: Sequence[str] = ()) -> Path:
    """The file that `model` means: the name of weights, a file, or the folder of a run.

    A name in a text goes before a file that is called so, in a Path after it.

    Args:
        model: what a user wrote.
        kinds: what its file may hold, `encoder`, `colorizer` or `model`; of a folder, the first KIND.safetensors.
        others: what else the caller would have taken, for the error.

    Raises:
        TinctError: there is none (one line lists the names there are), it is not fetched yet, or its file is damaged.
    """
    name, path = str(model), expanded(model)
    known = entries() if NAME.fullmatch(name) and (isinstance(model, str) or not path.exists()) else {}
    if name in known:
        verify(known[name])
        return known[name].path
    if path.is_dir():
        files = [path / f"{kind}.safetensors" for kind in kinds]
        there = [file for file in files if file.exists()]
        what = None if there else _what(path)
        if what == "transfer" and "model" in kinds:
            raise TinctError(
                f"{name}: its transfer kept no model, as nearest neighbours and the cells of tinct compare do not; "
                "run tinct transfer with its settings, and finetune, frozen or linear as protocol, into another folder"
            )
        if what is not None:
            remedy = "choose one that has made it"
            if "encoder" in kinds and (path / "model.safetensors").exists():
                remedy = f"tinct export {name} FOLDER --to timm puts its encoder into FOLDER/model.safetensors"
            raise TinctError(f"{name}: holds a {what} run without {files[0].name}; {remedy}")
        return (there or files)[0]
    if not path.exists():
        named = sorted(name for name, entry in entries().items() if entry.kind in kinds)
        expected = ", ".join((*others, *named, "a run's folder"))
        files_there = " or ".join(f"{kind}.safetensors" for kind in kinds)
        raise TinctError(f"{name}: no such file, nor weights of that name; expected {expected} or its {files_there}")
    return path


def _what(folder: Path) -> str | None:
    """What the record in a folder is of; None where there is none."""
    record = folder / RECORD
    return read_json(record, "put it back, or choose another folder").get("what") if record.exists() else None


def seen_beside(file: Path) -> Path | None:
    """The hashes of the pictures that the weights in a file saw, where they lie beside it: on a shelf, or in a run."""
    beside = (file.with_suffix(".seen.npy"), file.with_name("seen.npy"))
    return next((path for path in beside if path.exists()), None)


def verify(entry: Entry) -> None:
    """Hold a file to its hash.

    Raises:
        TinctError: it is absent or not what the manifest says.
    """
    if not entry.path.is_file():
        raise TinctError(f"{entry.name} is not here, no file {entry.path}; run: {entry.fetching}")
    found = digest(entry.path)
    if found != entry.sha256:
        remedy = "reinstall tinct" if entry.shelf == SHIPPED else f"run: {entry.fetching}"
        raise TinctError(
            f"{entry.path}: damaged, its SHA-256 is {found[:12]}... but {entry.sha256[:12]}... is expected; {remedy}"
        )


def add(
    name: str, file: Path, card: Path | None, *, shelf: Path, licence: str = "unknown", half: bool = False
) -> Entry:
    """Put weights on a shelf: copies the file and its card and writes the manifest's entry, which may replace another.

    The hashes of the pictures that they saw go with them, where their run left them beside.

    Args:
        name: what to call them.
        file: an encoder or colorizer in safetensors format.
        card: a text that says what they are, or None.
        shelf: the folder.
        licence: an SPDX name.
        half: store them in half precision; they are computed with in single precision all the same.

    Raises:
        TinctError: the name cannot be theirs (see `check_name`), or a file is absent or none of tinct's.
    """
    from tinct.weights import copy_in_half, read_weights

    check_name(name)
    if name in _manifest(SHIPPED) and shelf.resolve() != SHIPPED.resolve():
        raise TinctError(f"{name} is the name of weights that come with tinct; choose another")
    kind = read_weights(file)[1].get("kind")
    if kind not in ("colorizer", "encoder"):
        raise TinctError(f"{file}: holds {kind or 'weights of another program'}; expected a colorizer or an encoder")
    try:
        text = card.read_text(encoding="utf-8") if card is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise TinctError(f"{card}: cannot be read as text ({error}); expected the weights' card") from error
    entry = Entry(name, f"{name}.safetensors", "", 0, kind, licence, f"{name}.md" if card else "", shelf=shelf)
    with contextlib.ExitStack() as files:  # moved last, the weights after all: failures before leave what was there
        unfinished = files.enter_context(atomic_path(entry.path))
        (copy_in_half if half else shutil.copyfile)(file, unfinished)
        entry = dataclasses.replace(entry, sha256=digest(unfinished), size=unfinished.stat().st_size)
        if card is not None:
            files.enter_context(atomic_path(shelf / entry.card)).write_bytes(text.encode())
        files.enter_context(keeping_seen(entry, seen_beside(file)))
        put(entry)
    return entry


def put(entry: Entry) -> None:
    """Write an entry into the manifest of its shelf, after whoever writes another; a replaced one's card goes."""
    with alone_in(entry.shelf, wait=True):
        before = _manifest(entry.shelf)
        known = before | {entry.name: entry}
        weights = {name: _described(known[name]) for name in sorted(known)}
        write_json(entry.shelf / "manifest.json", {"format": FORMAT, "weights": weights})
        for card in {one.card for one in before.values()} - {"", *(one.card for one in known.values())}:
            (entry.shelf / card).unlink(missing_ok=True)


@contextlib.contextmanager
def keeping_seen(entry: Entry, seen: Path | None) -> Iterator[None]:
    """Put hashes of pictures with weights when the block ends well; without any, those of weights of that name go."""
    if seen is None:
        yield
        entry.seen.unlink(missing_ok=True)
    else:
        with atomic_path(entry.seen) as unfinished:
            shutil.copyfile(seen, unfinished)
            yield


def check_name(name: str) -> None:
    """Refuse a name that weights cannot have.

    Raises:
        TinctError: it cannot be a file's, or means other weights already.
    """
    if not NAME.fullmatch(f"{name}.safetensors") or name.endswith(".safetensors"):
        raise TinctError(
            f"{name!r} cannot name weights; expected letters, digits, dots, dashes and underscores, and no .safetensors"
        )
    if name in RESERVED:
        raise TinctError(f"{name!r} cannot name weights, since --init {name} means others; choose another name")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(entry).items() if value and key not in ("name", "shelf")}


def _manifest(shelf: Path) -> dict[str, Entry]:
    path = shelf / "manifest.json"
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT:
            raise TinctError(f"{path}: written by a newer tinct (format {content['format']}); upgrade tinct")
        return {name: _entry(name, said, shelf) for name, said in content["weights"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TinctError(f"{path}: damaged ({error}); remove it, or reinstall tinct") from error


def _entry(name: str, said: dict[str, Any], shelf: Path) -> Entry:
    try:
        check_kinds(said, get_type_hints(Entry))
    except TinctError as error:
        raise ValueError(f"of the entry {name!r}, {error}") from error
    entry = Entry(name=name, shelf=shelf, **said)
    bare = all(NAME.fullmatch(part) for part in (name, entry.file, entry.card or "card"))
    if not bare or not re.fullmatch("[0-9a-f]{64}", entry.sha256):
        raise ValueError(f"the entry {name!r} has an impossible name or hash")
    if entry.hub and not {"repo", "revision"} <= entry.hub.keys():
        raise ValueError(f"the hub of the entry {name!r} has no repo or no revision")
    return entry

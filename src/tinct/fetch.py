"""`tinct weights`: what is there, whether it is whole, and further ones from a hub, a mirror or a folder.

A download is written beside its place, held to length and hash, and moved there only when both are right.
"""

import dataclasses
import http.client
import re
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from tinct import shipped
from tinct.errors import TinctError, one_line
from tinct.files import atomic_path, expanded
from tinct.screen import column, open_console, say
from tinct.shipped import Entry, add, check_name, digest, entries, keeping_seen, own_shelf, put, seen_beside, verify

__all__ = ["fetch", "weights"]

MAX_BYTES = 1 << 31
"""The largest file that is fetched, where no manifest says its length: 2 GB."""

TAKES = {
    "list": ("shelf",),
    "verify": ("shelf",),
    "fetch": ("mirror", "revision", "sha256", "licence", "shelf"),
    "add": ("licence", "shelf", "half"),
}
"""The options of each verb."""

TIMEOUT = 60
"""Seconds of silence after which a mirror is given up."""


def weights(
    action: list[str],
    *,
    mirror: str | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    licence: str | None = None,
    shelf: Path | None = None,
    half: bool = False,
) -> int:
    """List weights that have names, verify them, fetch further ones, or add one's own.

    Weights come with tinct or lie on your own shelf (TINCT_WEIGHTS, by default tinct/weights in your cache folder).
    Nothing is downloaded except by fetch.

    Args:
        action: list; verify [NAME ...]; fetch NAME, where the manifest knows it, or fetch OWNER/REPO/FILE of a hub,
            with revision and sha256; add NAME FILE [CARD], for weights that you made, in place of any that the shelf
            has under that name.
        mirror: fetch from this folder or http(s) address, which holds the file, instead of the hub.
        revision: the hub's commit; only fetch OWNER/REPO/FILE takes it.
        sha256: the hash that the file must have; only fetch OWNER/REPO/FILE takes it.
        licence: what add and fetch OWNER/REPO/FILE record, an SPDX name (default: unknown).
        shelf: where add and fetch put weights (default: your own shelf), and the folder that list and verify look at
            (default: that and the package's).
        half: add stores them in half precision.

    Returns:
        0, or 1 where weights failed verification.

    Raises:
        TinctError: an unknown action or name, an option that the action does not take, a shelf to look at that is not
            there, a download that fails or is not what was asked for.
    """
    verb, *rest = action
    options = {
        "mirror": mirror,
        "revision": revision,
        "sha256": sha256,
        "licence": licence,
        "shelf": shelf,
        "half": half,
    }
    for option, value in options.items():
        if value and option not in TAKES.get(verb, options):
            raise TinctError(f"{option} is {value}, which {verb} does not take; leave --{option} out")
    if shelf is not None and verb in ("list", "verify") and not shelf.is_dir():
        raise TinctError(f"shelf is {shelf}: no such folder; expected one that weights were added to")
    place = shelf or own_shelf()
    shelves = (shelf,) if shelf else ()
    console = open_console()
    if verb == "list" and not rest:
        _list(entries(*shelves), console)
    elif verb == "verify":
        return _verify(entries(*shelves), rest, console)
    elif verb == "fetch" and len(rest) == 1:
        entry = fetch(_wanted(rest[0], revision, sha256, licence, place), mirror)
        say(console, f"{entry.name}: {entry.path}")
    elif verb == "add" and len(rest) in (2, 3):
        card = expanded(rest[2]) if len(rest) == 3 else None
        before = entries(place).get(rest[0])
        entry = add(rest[0], expanded(rest[1]), card, licence=licence or "unknown", shelf=place, half=half)
        say(console, f"{entry.name}: {entry.path}")
        if before is not None and (before.sha256 != entry.sha256 or (before.card and not entry.card)):
            with_card = ", and its card" if before.card else ""
            say(console, f"replaced: the {before.kind} of that name, SHA-256 {before.sha256[:12]}...{with_card}")
    else:
        raise TinctError(
            f"cannot do {' '.join(action)!r}; expected list, verify [NAME ...], fetch NAME, fetch OWNER/REPO/FILE "
            "or add NAME FILE [CARD]"
        )
    return 0


def fetch(entry: Entry, mirror: str | None = None) -> Entry:
    """Bring weights to their shelf and write them into its manifest.

    The hashes of the pictures that they saw come with them from a folder, and stay where the shelf has them already, as
    the card does.

    Args:
        entry: which, with the hash that they must have, and where to.
        mirror: a folder or an http(s) address that holds the file; without one, the hub is asked.

    Returns:
        The entry, with what the file says of itself.

    Raises:
        TinctError: the file cannot be had, or is not what the entry says; the shelf is as it was.
    """
    from tinct.weights import read_weights  # torch takes seconds to import, and a list of weights needs none

    copy = None
    with atomic_path(entry.path) as unfinished:
        try:
            if mirror is None:
                _from_hub(entry, unfinished)
            elif urlsplit(mirror).scheme in ("http", "https"):
                _from_address(f"{mirror.rstrip('/')}/{quote(entry.file)}", entry, unfinished)
            else:
                copy = expanded(mirror) / entry.file
                with copy.open("rb") as source:
                    _copy(source, unfinished, entry)
        except (OSError, ValueError, http.client.HTTPException) as error:
            elsewhere = "--mirror" if mirror is None else "another --mirror"
            raise TinctError(f"{entry.name} cannot be fetched: {_reason(error)}; try again, or {elsewhere}") from error
        if (found := digest(unfinished)) != entry.sha256:
            raise TinctError(
                f"{entry.name} was fetched but is not what was asked for: its SHA-256 is {found[:12]}..., "
                f"{entry.sha256[:12]}... is expected; try again, or check the hash"
            )
        kind = read_weights(unfinished)[1].get("kind", "weights of another program")
        entry = dataclasses.replace(entry, size=unfinished.stat().st_size, kind=kind)
        # of the same weights, on this shelf or another; one by one, as a name's file may lie on one that has others
        shelves = map(entries, (entry.shelf, shipped.SHIPPED, own_shelf()))
        before = [known[entry.name] for known in shelves if entry.name in known]
        before = [one for one in before if one.sha256 == entry.sha256]
        card = next((one.card for one in before if one.card and (entry.shelf / one.card).is_file()), "")
        seen = (None if copy is None else seen_beside(copy), *(one.seen for one in before))
        entry = dataclasses.replace(entry, card=card)
        with keeping_seen(entry, next((path for path in seen if path is not None and path.exists()), None)):
            put(entry)  # the files are moved last: failures before leave what was there
    return entry


def _wanted(what: str, revision: str | None, sha256: str | None, licence: str | None, shelf: Path) -> Entry:
    """The entry that `fetch WHAT` asks for, on the shelf where it shall be, which may know the name alone."""
    known = entries(shipped.SHIPPED, shelf, own_shelf())
    if what in known:
        if revision or sha256 or licence:
            raise TinctError(
                f"{what}'s revision, hash and licence are in the manifest; leave --revision, --sha256 and --licence out"
            )
        return dataclasses.replace(known[what], shelf=shelf)
    owner, _, rest = what.partition("/")
    repo, _, file = rest.partition("/")
    if not file:
        names = ", ".join(sorted(known)) or "none yet"
        raise TinctError(f"no weights are called {what!r}; expected one of ({names}) or OWNER/REPO/FILE")
    if not revision or not re.fullmatch("[0-9a-fA-F]{64}", sha256 or ""):
        raise TinctError(f"fetching {what} needs --revision COMMIT and --sha256 of 64 hexadecimal digits")
    bare = Path(file).name
    if not bare.endswith(".safetensors"):
        raise TinctError(f"{file}: expected a .safetensors file")
    name = bare.removesuffix(".safetensors")
    check_name(name)
    hub = {"repo": f"{owner}/{repo}", "revision": revision, "file": file}
    if name in known and known[name].sha256 != str(sha256).lower():
        raise TinctError(f"{name} is the name of other weights already ({known[name].path}); rename the file")
    return Entry(name, bare, str(sha256).lower(), 0, "", licence or "unknown", hub=hub, shelf=shelf)


def _from_hub(entry: Entry, target: Path) -> None:
    """Download from a hub, which `HF_ENDPOINT` may name."""
    if not entry.hub and entry.path.exists():
        raise TinctError(
            f"{entry.name} is here already, and no hub is known to have it; name another place with --mirror"
        )
    if not entry.hub:
        raise TinctError(f"no hub is known to have {entry.name}; name a folder or address with --mirror")
    from huggingface_hub import hf_hub_download

    with tempfile.TemporaryDirectory() as folder:
        file = entry.hub.get("file", entry.file)
        try:
            path = hf_hub_download(entry.hub["repo"], file, revision=entry.hub["revision"], local_dir=folder)
        except Exception as error:  # the hub's client raises errors of many libraries
            raise ValueError(one_line(error, 200)) from error
        with open(path, "rb") as source:
            _copy(source, target, entry)


def _from_address(address: str, entry: Entry, target: Path) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "tinct"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        _copy(answer, target, entry)


def _copy(source: IO[bytes], target: Path, entry: Entry) -> None:
    """Copy no more than is expected, and no less."""
    limit = entry.size or MAX_BYTES
    with target.open("wb") as file:
        while piece := source.read(1 << 20):
            if file.tell() + len(piece) > limit:
                raise ValueError(f"the file is longer than the {limit} bytes that are expected")
            file.write(piece)
        if file.tell() < entry.size:
            raise ValueError(f"the file ends after {file.tell()} of the {entry.size} bytes that are expected")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.url} answered {error.code} {error.reason}"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"no file {error.filename}"
    return one_line(error)


def _list(known: dict[str, Entry], console: Console) -> None:
    if not known:
        console.print("no weights have names yet; give the path of a run's colorizer.safetensors as a model")
        return
    texts = ("licence", "SHA-256", "where")
    table = Table(Column("name", no_wrap=True), column("kind"), column("MB", "right"), *map(column, texts))
    for name, entry in sorted(known.items()):
        where = str(entry.path) if entry.path.exists() else f"not here; {entry.fetching}"
        megabytes = f"{entry.size / 1e6:.1f}"
        table.add_row(name, entry.kind, megabytes, entry.licence, entry.sha256[:12], Text(where))
    console.print(table)


def _verify(known: dict[str, Entry], names: list[str], console: Console) -> int:
    if missing := [name for name in names if name not in known]:
        raise TinctError(
            f"no weights are called {missing[0]!r}; expected some of: {', '.join(sorted(known)) or 'none'}"
        )
    failed = False
    all_there = [name for name in sorted(known) if known[name].path.exists() or known[name].gone]
    for name in names or all_there:
        try:
            verify(known[name])
            say(console, f"{name}: whole")
        except TinctError as error:
            failed = True
            say(console, str(error))
    if not names and not all_there:
        console.print("no weights to verify")
    return int(failed)

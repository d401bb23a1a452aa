"""What tinct wrote into a folder: no command writes over what another made, or takes it for photographs."""

from contextlib import suppress
from pathlib import Path

from tinct.errors import TinctError
from tinct.files import read_json

__all__ = ["PLAN", "RECORD", "check_out", "holds_results"]

PLAN = "compare.json"
"""The file that says which arms a grid has; its cells are below it."""
RECORD = "record.json"
"""The file that says what a run or a transfer was, and what came of it."""
RECORDS = (PLAN, RECORD, "predictions.json")
"""Files that say which command made their folder."""


def check_out(out: Path, what: str) -> None:
    """Refuse a file, and a folder that holds what another kind of command than `what` made.

    Raises:
        TinctError: it is, it does, or what is in it cannot be read.
    """
    if out.exists() and not out.is_dir():
        raise TinctError(f"out is {out}, a file; expected a folder")
    files = [path for name in RECORDS if (path := out / name).exists()]
    made = {str(read_json(path, "choose another --out").get("what", what)) for path in files}
    if _begun(out):
        made.add("pretrain")
    if others := made - {what}:
        raise TinctError(f"out is {out}, which holds what tinct {min(others)} made; choose another folder")


def holds_results(folder: Path) -> bool:
    """Whether tinct wrote a folder: it has a record, or the beginnings of a run."""
    for name in RECORDS:
        with suppress(TinctError):
            if (folder / name).exists() and "what" in read_json(folder / name, "leave it out"):
                return True
    return _begun(folder)


def _begun(folder: Path) -> bool:
    """Whether it is that of a pretraining run, which has no record before its end."""
    return (folder / "config.yaml").exists() and (folder / "log.jsonl").exists()

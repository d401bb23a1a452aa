"""Reports: records in, one self-contained page out, with its tables as Markdown and CSV beside it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from tinct.errors import TinctError
from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records
from tinct.files import expanded, write_text

__all__ = ["check_page", "report", "write_report"]

BEGINNINGS = {
    ".md": ("# Does it help my labels?\n\n## ", "# Pretraining\n\n## "),
    ".csv": ("spec,eval_split,eval_pictures,",),
}
"""How the tables of a report begin, those of earlier versions too."""


def report(folders: list[str], *, out: Path, baseline: str | None = None) -> int:
    """Make one HTML page of all records in FOLDERS; its tables go into a .md and a .csv beside it.

    Args:
        folders: what `tinct compare`, `transfer` or `pretrain` wrote; everything below them is read, also behind links.
        out: the page, such as report.html. A .md or .csv of that name that no report wrote is left as it is, and
            refused.
        baseline: the arm that the others are compared with, where there is one of that name; by default what each grid
            was given, else the one of random weights, else the first.

    Returns:
        0.

    Raises:
        TinctError: as `write_report`.
    """
    for path in write_report(folders, out, baseline):
        print(f"wrote {path}")  # noqa: T201
    return 0


def write_report(
    folders: str | Path | Sequence[str | Path], out: str | Path, baseline: str | None = None
) -> list[Path]:
    """Write the page, and its tables as Markdown and CSV beside it.

    Every figure is a record's; pictures and curves are what the records' folders hold. Nothing is measured again.

    Args:
        folders: folders with records in them or below, or one of them.
        out: the page's file, ending in .html.
        baseline: see `report`.

    Returns:
        The three files.

    Raises:
        TinctError: `out` is no .html file, what lies beside it is no report's (see `check_page`), a folder holds no
            records, a record cannot be read, or no arm is called `baseline`.
    """
    from tinct.report.page import render  # matplotlib and jinja2 take a second to import
    from tinct.report.tables import as_csv, as_markdown

    folders = [folders] if isinstance(folders, str | Path) else folders
    out = expanded(out)
    check_page(out)
    records = find_records([expanded(folder) for folder in folders])
    if not records.cells and not records.runs:
        raise TinctError(f"{', '.join(map(str, folders))}: no records of transfers or pretraining runs in there")
    made = comparisons(records.cells, baseline)
    arms = dict.fromkeys(arm for one in made for arm in one.arms)
    if baseline is not None and baseline not in arms:
        raise TinctError(f"baseline is {baseline!r}; expected one of the arms, {', '.join(arms)}")
    texts = {
        out: render(made, records.runs),
        out.with_suffix(".md"): as_markdown(made, records.runs),
        out.with_suffix(".csv"): as_csv(made),
    }
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def check_page(out: Path) -> None:
    """Refuse a page whose tables would take the place of somebody's own files, which nobody named.

    Raises:
        TinctError: `out` is no .html file, or no report wrote the .md or .csv of its name.
    """
    if out.suffix != ".html":
        raise TinctError(f"out is {out}; expected a file that ends in .html")
    for suffix, beginnings in BEGINNINGS.items():
        if (path := out.with_suffix(suffix)).exists() and not _begins(path, beginnings):
            raise TinctError(f"{path} would be replaced, and no report wrote it; choose another --out, or move it away")


def _begins(path: Path, beginnings: tuple[str, ...]) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(100).startswith(tuple(beginning.encode() for beginning in beginnings))
    return False

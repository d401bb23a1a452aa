"""Bring the tables of docs/results*.md up to date with the records in docs/records.

    python docs/tables.py

Under each heading that `tinct report` gives a comparison, the table is replaced. Comparisons that no page has yet are
printed, for somebody to choose their place. All else remains to be changed by hand. Where the short tables of README.md
and results.md and those of the cards no longer agree, tests/test_results.py says so, and tests/test_claims.py does
for figures within sentences.
"""

from itertools import takewhile
from pathlib import Path

from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records
from tinct.report.tables import as_markdown

DOCS = Path(__file__).parent


def generated(folder: Path) -> dict[str, list[str]]:
    """The table of each comparison below `folder`, by its heading."""
    tables: dict[str, list[str]] = {}
    heading = ""
    for line in as_markdown(comparisons(find_records([folder]).cells), {}).splitlines():
        if line.startswith("## "):
            heading = f"#{line}"
        elif line.startswith("|"):
            tables.setdefault(heading, []).append(line)
    return tables


def renewed(page: str, tables: dict[str, list[str]]) -> str:
    """`page` with the tables whose headings it has; these are taken out of `tables`."""
    lines, old = [], iter(page.splitlines())
    for line in old:
        lines.append(line)
        if line in tables:
            lines += ["", *tables.pop(line), ""]
            next(old)
            list(takewhile(lambda row: row.startswith("|"), old))
    return "\n".join(lines).rstrip("\n") + "\n"  # a table may be a page's end


if __name__ == "__main__":
    tables = generated(DOCS / "records")
    for path in sorted(DOCS.glob("results*.md")):
        path.write_text(renewed(path.read_text(encoding="utf-8"), tables), encoding="utf-8")
    for heading, table in tables.items():
        print("\n".join(["", heading, "", *table]))

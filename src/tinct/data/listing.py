"""What `tinct data` found, as tables and lists for people."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinct.data.base import LOWER, MIN_POSITIVES
from tinct.data.hashes import DISTANCE
from tinct.screen import column, say

__all__ = ["first_of", "show"]

SHOWN = 10
"""Lines of a list that may be long; JSON has all of it."""


def show(document: dict[str, Any], console: Console) -> None:
    """Print the document of `tinct data`."""
    for part in document["sets"]:
        side, grey, near_grey = part["shorter_side"], part["grey"], part["near_grey"]
        table = Table(column(), column(), show_header=False)
        table.add_row("pictures", f"{part['pictures']:,}, of which {len(part['unreadable']):,} unreadable")
        if part["note"]:
            table.add_row("note", _plain(part["note"]))
        if part["other_files"]:
            table.add_row("other files", _plain(_endings(part["other_files"])))
        if part["results"]:
            table.add_row("results", _plain(f"passed over, since tinct wrote them: {', '.join(part['results'])}"))
        if side:
            sizes = f"{side['min']} · {side['median']:.0f} · {side['max']} pixels (least, median, greatest)"
            table.add_row("shorter side", sizes)
        table.add_row("modes", ", ".join(f"{mode} {count:,}" for mode, count in part["modes"].items()))
        table.add_row("grey", f"{grey['share']:.1%} (mean Lab chroma below {grey['chroma_below']:g})")
        table.add_row("grey or nearly", f"{near_grey['share']:.1%} (below {near_grey['chroma_below']:g})")
        table.add_row(
            "near-duplicates", f"{len(part['near_duplicates']):,} pairs (at most {DISTANCE} of 64 hash bits differ)"
        )
        table.add_row("fingerprint", part["fingerprint"])
        said = ", ".join([part["split"], *part["tasks"]])
        console.print(_plain(f"{part['spec']} ({said})"), table, sep="\n")
    for part in document["sets"]:
        where = f"{part['spec']} ({part['split']})"
        _list(console, f"Unreadable in {where}", [f"{bad['name']}: {bad['reason']}" for bad in part["unreadable"]])
        _list(console, f"Grey in {where}", part["grey"]["names"])
        _list(console, f"Near-duplicates within {where}", [" = ".join(pair) for pair in part["near_duplicates"]])
    for pair in document["across"]:
        first, second = (f"{end['spec']} ({end['split']})" for end in (pair["first"], pair["second"]))
        leak = pair["first"]["spec"] == pair["second"]["spec"]
        title = f"In two splits: {first} and {second}" if leak else f"Near-duplicates of {first} in {second}"
        _list(console, title, [" = ".join(names) for names in pair["near_duplicates"]])
    for key in dict.fromkeys((labels["spec"], labels["task"]) for labels in document["labels"]):
        _show_labels([labels for labels in document["labels"] if (labels["spec"], labels["task"]) == key], console)
    for path in document["overlays"]:
        say(console, f"wrote {path}")
    for one in document["no_overlays"]:
        which = ", ".join(filter(None, (one["spec"], one["task"])))
        say(console, f"no overlays of {which}: {one['reason']}")


def _show_labels(splits: list[dict[str, Any]], console: Console) -> None:
    """One table for a source and task: a row for each class, columns for each split."""
    title = f"{splits[0]['spec']}, {splits[0]['task']}"
    usable = [labels for labels in splits if "positives" in labels]
    for labels in splits:
        _list(console, f"{title} ({labels['split']})", labels.get("errors", []))
        mismatches = [bad["reason"] for bad in labels.get("mismatches", [])]
        _list(console, f"Masks that do not fit in {title} ({labels['split']})", mismatches)
    if not usable:
        return
    table = Table(column("class"))
    columns: list[dict[str, str]] = []
    for labels in usable:
        positives, unscored = labels["positives"], {*labels["too_rare"], *labels.get("never_absent", ())}
        table.add_column(f"{labels['split']}: {labels['pictures']:,}", justify="right", overflow="fold")
        columns.append({name: f"{count:,}{'*' if name in unscored else ' '}" for name, count in positives.items()})
        if "pixel_share" in labels:
            table.add_column("of pixels", justify="right")
            shares = {**labels["pixel_share"], "(void)": labels["void_share"]}
            columns.append({name: f"{share:.2%}" for name, share in shares.items()})
        elif any(labels["unknown"].values()):
            table.add_column("unknown", justify="right")
            columns.append({name: f"{count:,}" for name, count in labels["unknown"].items()})
    for name in dict.fromkeys(name for cells in columns for name in cells):
        table.add_row(_plain(name), *(cells.get(name, "") for cells in columns))
    why = f"*: under {MIN_POSITIVES}, too rare to score" + ", or never said to be absent" * ("unknown" in usable[0])
    console.print(_plain(f"{title}: pictures of each class ({why})"), table, sep="\n")
    for labels in usable:
        if count := labels.get("unlabelled"):
            has = "picture of {} has no label: it has" if count == 1 else "pictures of {} have no label: they have"
            say(console, f"{count:,} {has.format(labels['split'])} no part in a transfer.")
        if labels["split"] != "train" and not labels["scored"]:
            rare = {*labels["too_rare"]} - {*labels.get("never_absent", ())}
            found = "no picture is known to lack one"
            if rare:
                most = max(labels["positives"][name] for name in rare)
                found = f"the most frequent is in {most:,} of its pictures; {LOWER}"
            say(console, f"No class of {labels['split']} can be scored: {found}")


def _endings(others: dict[str, int]) -> str:
    """How many files have no picture's ending, and which endings are the most frequent."""
    frequent = [f"{ending or 'none'} {count:,}" for ending, count in list(others.items())[:SHOWN]]
    return f"{sum(others.values()):,} passed over, by the ending of their names: {', '.join(frequent)}"


def _list(console: Console, title: str, lines: list[str]) -> None:
    if lines:
        say(console, "\n  ".join([f"{title}: {len(lines):,}", *first_of(lines, " (--json lists all)")]))


def first_of(lines: Sequence[str], hint: str = "") -> list[str]:
    """As many as are shown, and how many there are more."""
    return [*lines[:SHOWN], *[f"… and {len(lines) - SHOWN:,} more{hint}"] * (len(lines) > SHOWN)]


def _plain(text: str) -> Text:
    """Text that is not markup, whatever brackets and broken characters file names have."""
    return Text(text.encode("utf-8", "replace").decode())

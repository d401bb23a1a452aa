"""`tinct data`: what is in a source, before anything is trained on it."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from json import dumps
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinct.data.base import LOWER, MIN_POSITIVES, VOID, LabelledSource, Source
from tinct.data.decode import GREY, NEAR_GREY
from tinct.data.folder import PathSource
from tinct.data.hashes import DISTANCE, near_pairs
from tinct.data.labelled import LabelledFiles, Task, require_names
from tinct.data.overlay import file_stems, write_samples
from tinct.data.sources import check_split, is_labelled, open_labelled, open_sources, results_in
from tinct.data.survey import Survey, mask_pixels, survey
from tinct.errors import AbsentSplitError, SeveralError, TinctError
from tinct.screen import column, open_console, say

__all__ = ["data"]

SHOWN = 10  # of a list that may be long; JSON has all of it
TASKS: tuple[Task, ...] = get_args(Task)


def data(sources: list[str], *, split: str = "train", json: bool = False, out: Path | None = None) -> int:
    """Report what is in one or more sources of pictures.

    Counts, sizes, modes, grey and nearly grey pictures, unreadable files by name and reason, how many files are passed
    over because their names do not end as a picture's do, and near-duplicates within and across sources. For labelled
    sources, of every split: positives of each class, mask values and their share of the pixels, classes too rare to
    score, cells of a table that are no label, masks that do not fit their picture, and pictures that appear in two
    splits.

    Args:
        sources: folders, text files of paths, `photos:`, or labelled sources such as `voc:DIR`.
        split: which split of an unlabelled source to look at: train, val, test or all.
        json: print one JSON document instead of tables.
        out: a folder for three sample overlays (PNG) of each labelled source and task.

    Returns:
        0.

    Raises:
        TinctError: a source is absent, empty, or of an unknown kind; or `out` cannot be written.
    """
    check_split(split)  # labelled sources are looked at in all of theirs
    sets = [part for spec in sources for part in _open(spec, split)]
    surveys: dict[str, Survey] = {}  # the two tasks of a split often have the same pictures
    for part in sets:
        if part.pictures not in surveys:
            surveys[part.pictures] = survey(part.source)
    distinct = list({part.pictures: part for part in sets}.values())
    document: dict[str, Any] = {
        "sets": [_describe(part, surveys[part.pictures]) for part in distinct],
        "across": [
            _across(first, surveys[first.pictures], second, surveys[second.pictures])
            for first, second in combinations(distinct, 2)
        ],
        "labels": [_describe_labels(part) for part in sets if isinstance(part.source, LabelledSource)],
    } | (_overlays(sets, out) if out else {"overlays": [], "no_overlays": []})
    if json:
        sys.stdout.write(dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        _show(document, open_console())
    return 0


@dataclass(frozen=True)
class _Set:
    """One split of one source; of a labelled source, for one task."""

    source: Source
    task: Task | None = None

    @property
    def pictures(self) -> str:
        """Equal for sets of the same pictures."""
        return f"{self.source.spec} {self.source.split} {self.source.fingerprint()}"


def _open(spec: str, split: str) -> list[_Set]:
    """A source as it is, or every split and task of a labelled one."""
    if not is_labelled(spec):
        return [_Set(open_sources([spec], split))]
    sets, refusals = [], []
    for task, part in product(TASKS, ("train", "val", "test")):
        try:
            sets.append(_Set(open_labelled(spec, part, task), task))
        except AbsentSplitError as error:  # few sets have every split and both tasks
            refusals.append(error)
        except SeveralError as error:
            raise TinctError("; ".join(_first(error.args))) from error
    if not sets:
        raise refusals[0]
    return sets


def _describe(part: _Set, seen: Survey) -> dict[str, Any]:
    source, count = part.source, len(seen.indices)

    def range_of(values: NDArray[np.int64]) -> dict[str, float] | None:
        if not count:
            return None
        return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}

    def why(index: int) -> str:
        """The reason without the path, since pictures are named as in the rest of the listing."""
        reason = seen.unreadable[index]
        return reason.removeprefix(f"{source.path(index)}: ") if isinstance(source, PathSource) else reason

    def below(threshold: float) -> dict[str, Any]:
        names = [source.name(index) for index in seen.indices[seen.chroma < threshold]]
        share = len(names) / max(count, 1)
        return {"pictures": len(names), "share": share, "chroma_below": threshold, "names": names}

    return {
        "spec": source.spec,
        "split": source.split,
        "fingerprint": source.fingerprint(),
        "pictures": len(source),
        "note": source.note if isinstance(source, LabelledFiles) else "",
        "unreadable": [{"name": source.name(index), "reason": why(index)} for index in seen.unreadable],
        "other_files": dict(source.others.most_common()) if isinstance(source, PathSource) else {},
        "results": results_in(source),
        "width": range_of(seen.sizes[:, 0]),
        "height": range_of(seen.sizes[:, 1]),
        "shorter_side": range_of(seen.sizes.min(1)),
        "modes": dict(Counter(seen.modes.tolist()).most_common()),
        "grey": below(GREY),
        "near_grey": below(NEAR_GREY),  # the grey ones included
        "near_duplicates": [
            [source.name(seen.indices[i]), source.name(seen.indices[j])] for i, j in near_pairs(seen.hashes)
        ],
    }


def _across(first: _Set, seen_first: Survey, second: _Set, seen_second: Survey) -> dict[str, Any]:
    """Pictures of one set that are in another as well; between splits of one source, that is a leak."""
    return {
        "first": {"spec": first.source.spec, "split": first.source.split},
        "second": {"spec": second.source.spec, "split": second.source.split},
        "near_duplicates": [
            [first.source.name(seen_first.indices[i]), second.source.name(seen_second.indices[j])]
            for i, j in near_pairs(seen_first.hashes, seen_second.hashes)
        ],
    }


def _describe_labels(part: _Set) -> dict[str, Any]:
    source = part.source
    assert isinstance(source, LabelledSource)
    described: dict[str, Any] = {"spec": source.spec, "split": source.split, "task": part.task, "pictures": len(source)}
    try:
        require_names(source)
        labels = source.labels() if source.classes else None
    except TinctError as error:
        return described | {"errors": [*error.args]}
    if labels is not None:
        names, positives = source.classes, (labels == 1).sum(0).tolist()
        unknown = np.isnan(labels)
        described["unknown"] = dict(zip(names, unknown.sum(0).tolist(), strict=True))
        described["unlabelled"] = int(unknown.all(1).sum())
    else:
        masks = list(mask_pixels(source))
        mismatches = {index: mask for index, mask in enumerate(masks) if isinstance(mask, str)}
        pixels = np.array([mask for mask in masks if not isinstance(mask, str)], np.int64).reshape(-1, 256)
        names, positives = source.mask_classes, (pixels > 0).sum(0).tolist()[: len(source.mask_classes)]
        share = pixels.sum(0) / max(pixels.sum(), 1)
        described["pixel_share"] = {name: float(share[value]) for value, name in enumerate(names)}
        described["void_share"] = float(share[VOID])
        described["mismatches"] = [{"name": source.name(index), "reason": why} for index, why in mismatches.items()]
    counts = dict(zip(names, positives, strict=True))
    scored = [name for value, name in enumerate(names) if source.classes or value != source.background]
    too_rare = [name for name in scored if counts[name] < MIN_POSITIVES]
    return described | {"positives": counts, "too_rare": too_rare, "scored": len(scored) - len(too_rare)}


def _overlays(sets: list[_Set], folder: Path) -> dict[str, Any]:
    """Write samples of each labelled source and task, and say of which there are none and why."""
    first = {(part.source.spec, part.task): part.source for part in reversed(sets)}
    stems = file_stems(dict.fromkeys(spec for spec, _ in first))
    written: list[str] = []
    lacking = []
    for (spec, task), source in first.items():
        drawn: list[Path] | str = "it has no labels"
        if isinstance(source, LabelledSource):
            drawn = write_samples(source, folder, f"{stems[spec]}-{task}")
        if isinstance(drawn, str):
            lacking.append({"spec": spec, "task": task, "reason": drawn})
        else:
            written += map(str, drawn)
    return {"overlays": written, "no_overlays": lacking}


def _show(document: dict[str, Any], console: Console) -> None:
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
        console.print(_plain(f"{part['spec']} ({part['split']})"), table, sep="\n")
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
    columns: list[list[str]] = []
    for labels in usable:
        positives, rare = labels["positives"], labels["too_rare"]
        table.add_column(f"{labels['split']}: {labels['pictures']:,}", justify="right", overflow="fold")
        columns.append([f"{count:,}{'*' if name in rare else ' '}" for name, count in positives.items()] + [""])
        if "pixel_share" in labels:
            table.add_column("of pixels", justify="right")
            columns.append([f"{share:.2%}" for share in (*labels["pixel_share"].values(), labels["void_share"])])
        elif any(labels["unknown"].values()):
            table.add_column("unknown", justify="right")
            columns.append([f"{count:,}" for count in labels["unknown"].values()] + [""])
    names = [*usable[0]["positives"], *["(void)"] * ("pixel_share" in usable[0])]
    for name, *cells in zip(names, *columns, strict=False):
        table.add_row(_plain(name), *cells)
    console.print(
        _plain(f"{title}: pictures of each class (*: under {MIN_POSITIVES}, too rare to score)"), table, sep="\n"
    )
    for labels in usable:
        if count := labels.get("unlabelled"):
            has = "picture of {} has no label: it has" if count == 1 else "pictures of {} have no label: they have"
            say(console, f"{count:,} {has.format(labels['split'])} no part in a transfer.")
        if labels["split"] != "train" and not labels["scored"]:
            most = max(labels["positives"][name] for name in labels["too_rare"])
            found = f"the most frequent is in {most:,} of its pictures"
            say(console, f"No class of {labels['split']} can be scored: {found}; {LOWER}")


def _endings(others: dict[str, int]) -> str:
    """How many files have no picture's ending, and which endings are the most frequent."""
    frequent = [f"{ending or 'none'} {count:,}" for ending, count in list(others.items())[:SHOWN]]
    return f"{sum(others.values()):,} passed over, by the ending of their names: {', '.join(frequent)}"


def _list(console: Console, title: str, lines: list[str]) -> None:
    if lines:
        say(console, "\n  ".join([f"{title}: {len(lines):,}", *_first(lines, " (--json lists all)")]))


def _first(lines: Sequence[str], hint: str = "") -> list[str]:
    """As many as are shown, and how many there are more."""
    return [*lines[:SHOWN], *[f"… and {len(lines) - SHOWN:,} more{hint}"] * (len(lines) > SHOWN)]


def _plain(text: str) -> Text:
    """Text that is not markup, whatever brackets and broken characters file names have."""
    return Text(text.encode("utf-8", "replace").decode())

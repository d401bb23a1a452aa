"""`tinct data`: what is in a source, before anything is trained on it."""

import sys
from collections import Counter
from dataclasses import dataclass
from itertools import combinations, product
from json import dumps
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tinct.data.base import MIN_POSITIVES, VOID, LabelledSource, Source
from tinct.data.decode import GREY, NEAR_GREY
from tinct.data.folder import PathSource
from tinct.data.hashes import near_pairs
from tinct.data.labelled import LabelledFiles, Task, require_names
from tinct.data.listing import first_of, show
from tinct.data.overlay import file_stems, write_samples
from tinct.data.sources import check_split, is_labelled, open_labelled, open_sources, results_in
from tinct.data.survey import Survey, mask_pixels, survey
from tinct.errors import AbsentSplitError, SeveralError, TinctError
from tinct.screen import open_console

__all__ = ["data"]

TASKS: tuple[Task, ...] = get_args(Task)


def data(sources: list[str], *, split: str = "train", json: bool = False, out: Path | None = None) -> int:
    """Report what is in one or more sources of pictures.

    Counts, sizes, modes, grey and nearly grey pictures, unreadable files by name and reason, how many files are passed
    over because their names do not end as a picture's do, and near-duplicates within and across sources. For labelled
    sources, of every split: positives of each class, mask values and their share of the pixels, classes too rare to
    score or never absent, cells of a table that are no label, masks that do not fit their picture, and pictures that
    appear in two splits of one task.

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
    distinct: dict[tuple[str, ...], _Pictures] = {}
    for part in sets:
        key = part.source.spec, part.source.split, part.source.fingerprint()
        if key not in distinct:
            distinct[key] = _Pictures(part.source, survey(part.source), [])
        distinct[key].tasks.append(part.task)
    document: dict[str, Any] = {
        "sets": [_describe(one) for one in distinct.values()],
        "across": [_across(*pair) for pair in combinations(distinct.values(), 2) if _meet(*pair)],
        "labels": [_describe_labels(part) for part in sets if isinstance(part.source, LabelledSource)],
    } | (_overlays(sets, out) if out else {"overlays": [], "no_overlays": []})
    if json:
        sys.stdout.write(dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        show(document, open_console())
    return 0


@dataclass(frozen=True)
class _Set:
    """One split of one source; of a labelled source, for one task."""

    source: Source
    task: Task | None = None


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a split and what was seen of them; the two tasks of a labelled source often have the same."""

    source: Source
    seen: Survey
    tasks: list[Task | None]


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
            raise TinctError("; ".join(first_of(error.args))) from error
    if not sets:
        raise refusals[0]
    return sets


def _describe(part: _Pictures) -> dict[str, Any]:
    source, seen, count = part.source, part.seen, len(part.seen.indices)

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
        "tasks": [task for task in part.tasks if task is not None],
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


def _meet(first: _Pictures, second: _Pictures) -> bool:
    """Whether something may learn from both, or be scored on one: the tasks of a source may split it differently."""
    return first.source.spec != second.source.spec or not set(first.tasks).isdisjoint(second.tasks)


def _across(first: _Pictures, second: _Pictures) -> dict[str, Any]:
    """Pictures of one set that are in another as well; between splits of one source, that is a leak."""
    return {
        "first": {"spec": first.source.spec, "split": first.source.split},
        "second": {"spec": second.source.spec, "split": second.source.split},
        "near_duplicates": [
            [first.source.name(first.seen.indices[i]), second.source.name(second.seen.indices[j])]
            for i, j in near_pairs(first.seen.hashes, second.seen.hashes)
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
        described["never_absent"] = [names[column] for column in np.flatnonzero(~(labels == 0).any(0))]
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
    unscored = {*too_rare, *described.get("never_absent", ())}
    return described | {"positives": counts, "too_rare": too_rare, "scored": len(scored) - len(unscored)}


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

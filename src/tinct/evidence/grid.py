"""A paired grid of transfers on disk: which cells are to be there, which are, and running the others."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import TimeElapsedColumn

from tinct.data.labelled import FOR_GRADIENTS
from tinct.data.subsets import TUNING_SHARE
from tinct.environment import environment
from tinct.errors import TinctError
from tinct.evidence.findings import PER_CELL
from tinct.evidence.records import checked_plan, padded, read_checked
from tinct.evidence.workers import TUNING_SEED, Planned, run
from tinct.files import in_full, write_json
from tinct.outputs import PLAN, RECORD
from tinct.screen import open_console, progress_bar
from tinct.settings import TransferSettings

__all__ = [
    *("Arm", "Grid"),
    *("as_begun", "check_finished", "read_plan", "run_cells", "write_plan"),
]


class Arm(NamedTuple):
    """A name, and one encoder or several, which seeds start from in turn."""

    name: str
    inits: tuple[str, ...]

    def init(self, seed: int) -> str:
        """The encoder that a seed starts from."""
        return self.inits[seed % len(self.inits)]


@dataclass(frozen=True)
class Grid:
    """What to transfer.

    Attributes:
        arms: at least two.
        amounts: numbers of labels, as written.
        seeds: how many.
        lrs: learning rates to choose from.
        tuning_labels: the number of labels that they are chosen at: the middle one as written, or what it began with.
        common: the settings that all cells share.
        digests: SHA-256 of each init's weights; none for `random`.
        untold: the arms with an encoder of which nobody knows all the pictures that it saw.
        out: the folder.
        baseline: the arm that the others are compared with; None for what `comparisons` takes.
        contents: for each evaluated split the digests of pictures and labels; see `contents_of`.
        seen: for each arm, the names of evaluated pictures that are among those its encoders saw, or copies of them.
        inherited: of arms whose encoders began with weights that had seen such pictures, the name of those weights.
    """

    arms: tuple[Arm, ...]
    amounts: tuple[str, ...]
    seeds: int
    lrs: tuple[float, ...]
    tuning_labels: str
    common: TransferSettings
    digests: dict[str, str | None]
    untold: tuple[str, ...]
    out: Path
    baseline: str | None = None
    contents: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)
    inherited: dict[str, str] = field(default_factory=dict)

    def tuning(self) -> list[Planned]:
        """The cells that learning rates are chosen by; none where the protocol has no rate, or there is no choice."""
        if not self.common.trains or len(self.lrs) == 1:
            return []
        fewer = max(1, round(TUNING_SHARE * self.common.min_positives))  # the tuning part is small
        base = replace(self.common, evaluate="tuning", labels=self.tuning_labels, min_positives=fewer)
        return [
            Planned(
                arm.name,
                self.out / "tuning" / f"{arm.name}-{lr:g}",
                begun(base, arm, TUNING_SEED, lr=lr),
            )
            for arm in self.arms
            for lr in self.lrs
        ]

    def cells(self, rates: dict[str, float] | None = None) -> list[Planned]:
        """The cells that are reported, seed by seed, so that an unfinished grid is as paired as can be.

        Args:
            rates: the learning rate of each arm; the first of those to choose from stands for one that is not chosen.
        """
        rates = dict.fromkeys((arm.name for arm in self.arms), self.lrs[0]) | (rates or {})
        return [
            Planned(
                arm.name,
                self.out / "cells" / f"{arm.name}-{amount}-{seed}",
                begun(self.common, arm, seed, labels=amount, lr=rates[arm.name]),
            )
            for seed in range(self.seeds)
            for amount in self.amounts
            for arm in self.arms
        ]


def begun(common: TransferSettings, arm: Arm, seed: int, **own: Any) -> TransferSettings:
    """The settings of an arm's cell. Random weights have no decoder to carry over, where the others do."""
    init = arm.init(seed)
    decoder = "fresh" if init == "random" else common.decoder
    return replace(common, init=init, decoder=decoder, seed=seed, **own)


def check_finished(grid: Grid, planned: Sequence[Planned], any_rate: bool = True) -> None:
    """Refuse a grid whose finished cells are not what is planned, before it is changed.

    Args:
        grid: the grid.
        planned: its cells.
        any_rate: take any learning rates, as long as these are not chosen yet.

    Raises:
        TinctError: one is not.
    """
    for one in planned:
        _finished(grid, one, any_rate)


def run_cells(grid: Grid, planned: Sequence[Planned], jobs: int, title: str) -> list[dict[str, Any]]:
    """The records of cells, in order; those on disk are taken as they are.

    A learning rate that is tried and diverges has the value -inf; it is tried again when the grid is resumed.

    Raises:
        TinctError: a cell failed (those that were finished stay), or one on disk is not what is planned.
    """
    if not planned:
        return []
    records: dict[Path, dict[str, Any] | None] = {one.folder: _finished(grid, one) for one in planned}
    missing = [one for one in planned if records[one.folder] is None]
    # cells take so long that rich has no recent rate to say what remains
    with progress_bar(open_console(stderr=True), TimeElapsedColumn()) as progress:
        bar = progress.add_task(title, total=len(planned), completed=len(planned) - len(missing))
        for folder, made in run(missing, jobs):
            records[folder] = made
            progress.advance(bar)
    return [record for one in planned if (record := records[one.folder]) is not None]


def _finished(grid: Grid, planned: Planned, any_rate: bool = False) -> dict[str, Any] | None:
    """The record of a finished cell, or None. `any_rate` takes any learning rate.

    Raises:
        TinctError: the cell was made with other settings or labels, or from other weights of the same name.
    """
    if not (planned.folder / RECORD).exists():
        return None
    record = read_checked(planned.folder / RECORD)
    remedy = "choose another --out, or remove that folder"
    no_matter = {"cache", "accelerator"} | ({"lr"} if any_rate else set())
    no_matter |= set() if planned.settings.trains else set(FOR_GRADIENTS)
    digest = grid.digests.get(planned.settings.init)
    same = record["init"]["provenance"].get("sha256") == digest
    no_matter |= {"init"} if same and digest else set()  # they may lie elsewhere now
    for key, value in asdict(planned.settings).items():
        before = record["settings"].get(key)
        if before != value and key not in no_matter:
            remedy = f"if they are the same, call from where it began; if not, {remedy}" if key == "source" else remedy
            raise TinctError(f"{planned.folder} was made with {key} {before!r}, now it is {value!r}; {remedy}")
    if not same:
        raise TinctError(f"{planned.folder} began with other weights than {planned.settings.init} has now; {remedy}")
    if padded(record):
        raise TinctError(f"{planned.folder} was scored on pictures in padded squares, as tinct did before; {remedy}")
    for key, now in grid.contents.get(planned.settings.evaluate, {}).items():
        if record["data"].get(key, now) != now:  # older records lack some
            spec = planned.settings.source
            what = "pictures, labels or groups"
            raise TinctError(f"{planned.folder} was made with other {what} than {spec} has now; {remedy}")
    return record


def read_plan(out: Path) -> dict[str, Any]:
    """The plan of the grid in `out`; {} if there is none.

    Raises:
        TinctError: it cannot be read.
    """
    path = out / PLAN
    return checked_plan(path) if path.exists() else {}


def as_begun(out: Path, source: str, arms: tuple[Arm, ...]) -> tuple[str, tuple[Arm, ...]]:
    """A source and arms, their places spelled as in the grid that is in `out`, so that its cells stay comparable."""
    plan = read_plan(out)
    settings, arms_before = plan.get("settings", {}), plan.get("arms", {})

    def spelled(spec: str, before: Sequence[str]) -> str:
        return next((one for one in before if in_full(one) == in_full(spec)), spec)

    source = spelled(source, [settings["source"]] if "source" in settings else [])
    return source, tuple(
        Arm(arm.name, tuple(spelled(init, arms_before.get(arm.name, [])) for init in arm.inits)) for arm in arms
    )


def write_plan(
    grid: Grid, rates: dict[str, float] | None = None, scores: dict[str, dict[float, float]] | None = None
) -> dict[str, Any]:
    """Write what the grid is, with the arms that earlier calls gave it.

    Args:
        grid: the grid.
        rates: the learning rate of each arm, once they are chosen.
        scores: what they were chosen by: the score of each arm and rate on the tuning part, -inf where it diverged.
    """
    before = read_plan(grid.out)
    tried = {
        arm: {f"{lr:g}": value if math.isfinite(value) else "diverged" for lr, value in by_rate.items()}
        for arm, by_rate in (scores or {}).items()
    }
    tuning = before.get("tuning", {})
    scored = tuning.get("scores", {})
    if tuning.get("labels") == grid.tuning_labels:  # rates that were tried before, and are not now, stay known
        tried = {arm: scored.get(arm, {}) | by_rate for arm, by_rate in tried.items()}
    plan = {
        "what": "compare",
        "arms": before.get("arms", {}) | {arm.name: list(arm.inits) for arm in grid.arms},
        "baseline": grid.baseline or before.get("baseline"),
        "labels": list(grid.amounts),
        "seeds": grid.seeds,
        "settings": {key: value for key, value in asdict(grid.common).items() if key not in PER_CELL},
        "tuning": {
            "labels": grid.tuning_labels,
            "seed": TUNING_SEED,
            "scores": scored | tried,
            "rates": tuning.get("rates", {}) | (rates or {}),
        },
        "seen": before.get("seen", {}) | grid.seen,
        **environment(),
    }
    write_json(grid.out / PLAN, plan)
    return plan

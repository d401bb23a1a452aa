"""Does it help my labels? Arms, numbers of labels and seeds in, one paired grid of transfers and its answer out."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tinct.data.labelled import BY_GRADIENTS, Protocol, Task
from tinct.errors import TinctError, restartable
from tinct.evidence import wording
from tinct.evidence.findings import Comparison
from tinct.evidence.grid import Grid, check_finished, run_cells, write_plan
from tinct.evidence.grouping import comparisons
from tinct.evidence.leaks import leaks
from tinct.evidence.parsing import Amounts, Inits, Rates, further, parallel
from tinct.evidence.planning import DEFAULT_AMOUNTS, LRS, SEEDS, make_grid
from tinct.evidence.records import Cell
from tinct.evidence.workers import Planned
from tinct.files import alone_in, expanded
from tinct.outputs import RECORD
from tinct.screen import column, open_console, say
from tinct.settings import TransferSettings

__all__ = ["CompareResult", "compare", "run_compare", "show"]

WIDE = 110
"""Columns of a terminal that has room for the whole table."""


@dataclass(frozen=True)
class CompareResult:
    """A finished grid.

    Attributes:
        out: its folder; `tinct report` reads it.
        comparison: what it says, with the records.
        rates: the learning rate of each arm.
        warnings: what makes it say less, a line each.
    """

    out: Path
    comparison: Comparison
    rates: dict[str, float]
    warnings: tuple[str, ...] = ()

    @property
    def answers(self) -> list[str]:
        """A sentence or two for each arm and number of labels, and what every reader must know of the data."""
        return wording.sentences(self.comparison)


@restartable()
def compare(
    source: str,
    *,
    task: Task,
    inits: str,
    out: Path,
    labels: str | None = None,
    seeds: int = SEEDS,
    protocol: Protocol = "finetune",
    steps: int | None = None,
    size: int | None = None,
    lrs: str = LRS,
    baseline: str | None = None,
    settings: list[str] = [],  # noqa: B006  (the command line's way to say: several words)
    jobs: int | None = None,
    dry_run: bool = False,
) -> int:
    """Does pretraining help on these labels? A paired grid of transfers; the answer first, then the table.

    The learning rate is chosen once for each arm, on a fixed part of train that no label subset touches, with a seed
    that is not reported and the middle one of the numbers of labels as they are written. The same command resumes an
    interrupted grid, and one with more seeds, labels or arms adds to it.

    Args:
        source: a labelled source, such as `voc:DIR`.
        task: multilabel or segmentation.
        inits: the arms, such as `random,tinct-small-ssl,mine=RUN0:RUN1:RUN2`, each as `tinct transfer` takes it; with
            several encoders in an arm, seed s starts from number s modulo their count.
        out: the grid's folder.
        labels: numbers of labelled pictures, such as `50,400,0.2,all`; shares have a point. By default 50 and all, or
            all alone where 50 are too many, or too few for a positive of each class.
        seeds: paired seeds, each with its own label subset, order, augmentation and head.
        protocol: finetune, frozen, linear or knn; see `tinct transfer`.
        steps: updates of each transfer; by default 600, and 60 for `mosaic:`.
        size: height and width of the input in pixels (of pictures to segment, the shorter side); by default 96, and 64
            for `mosaic:`.
        lrs: learning rates to choose from.
        baseline: the arm that the others are compared with, such as `l1`; by default what the grid was last given, if
            it is among the arms, else the one of random weights, else the first.
        settings: further settings of `tinct transfer`, such as `input=rgb layer_decay=0.7`.
        jobs: transfers at a time; by default one for each GPU, or one.
        dry_run: run one cell, list all, and estimate the time of those to do.

    Returns:
        0.

    Raises:
        TinctError: as `run_compare`.
    """
    budget: dict[str, Any] = {key: value for key, value in {"steps": steps, "size": size}.items() if value is not None}
    budget |= {"baseline": baseline, **further(settings)}
    grid = make_grid(
        source, task=task, inits=inits, out=out, labels=labels, seeds=seeds, protocol=protocol, lrs=lrs, **budget
    )
    console = open_console()
    known = leaks(grid)
    if labels is None and grid.amounts != DEFAULT_AMOUNTS:
        say(console, f"labels: {','.join(grid.amounts)}, since 50 do not fit; --labels says others")
    warn(known, console)
    if dry_run:
        estimate(grid, parallel(jobs), console)
    else:
        result = run_grid(grid, parallel(jobs))
        show(result, console, known)
    return 0


def warn(lines: Iterable[str], console: Console) -> None:
    """Print what makes a comparison say less."""
    for line in lines:
        say(console, f"warning: {line}", "yellow")


def run_compare(
    source: str | Path,
    *,
    task: Task,
    inits: Inits,
    out: str | Path,
    labels: Amounts | None = None,
    seeds: int = SEEDS,
    protocol: Protocol = "finetune",
    lrs: Rates = LRS,
    baseline: str | None = None,
    jobs: int | None = None,
    **settings: Any,
) -> CompareResult:
    """What `compare` does, for programs.

    Args:
        source: see `compare`, as for all that is not said here.
        task: multilabel or segmentation.
        inits: `"random,mine=RUN0:RUN1"`, `["random", "mine=RUN0:RUN1"]`, or by their names, such as
            `{"random": "random", "mine": ["RUN0", "RUN1"]}`.
        out: the grid's folder.
        labels: `"20,0.5,all"`, `[20, 0.5, "all"]`, or one of them: an int is a count, a float a share. None: see
            `compare`.
        seeds: how many.
        protocol: finetune, frozen, linear or knn.
        lrs: `"1e-3,3e-4"`, `[1e-3, 3e-4]`, or one of them.
        baseline: see `compare`.
        jobs: transfers at a time; several need an `if __name__ == "__main__":` in a script, which each runs again.
        **settings: further fields of `TransferSettings`, such as `size=128, input="rgb"`.

    Returns:
        The finished grid.

    Raises:
        TinctError: an arm, its weights, the labels or the folder make it impossible, or an arm was steered by labels.
    """
    settings |= {"out": expanded(out), "baseline": baseline}
    grid = make_grid(source, task=task, inits=inits, labels=labels, seeds=seeds, protocol=protocol, lrs=lrs, **settings)
    return run_grid(grid, parallel(jobs))


def run_grid(grid: Grid, jobs: int) -> CompareResult:
    """Run what is not there yet: first what chooses the learning rates, then the reported cells.

    Raises:
        TinctError: a cell failed, or an arm diverged at all learning rates.
    """
    name = grid.out.absolute().name  # one of several in an experiment
    scores: dict[str, dict[float, float]] = {arm.name: {} for arm in grid.arms}
    with alone_in(grid.out):  # two at once would lose each other's arms in the plan
        write_plan(grid)
        tuning = grid.tuning()
        for one, record in zip(tuning, run_cells(grid, tuning, jobs, f"{name}, learning rates"), strict=True):
            scores[one.arm][one.settings.lr] = record["value"]
        for arm, tried in scores.items():
            if tried and max(tried.values()) == -math.inf:
                raise TinctError(f"{arm} diverged at all learning rates, {listed(tried)}; try smaller lrs")
        rates = {arm: max(tried, key=tried.__getitem__, default=grid.lrs[0]) for arm, tried in scores.items()}
        cells = grid.cells(rates)
        check_finished(grid, cells, any_rate=False)
        plan = write_plan(grid, rates, scores) | {"arms": {arm.name: list(arm.inits) for arm in grid.arms}}
        records = run_cells(grid, cells, jobs, f"{name}, transfers")
    (made,) = comparisons([Cell(one.folder, record, one.arm, plan) for one, record in zip(cells, records, strict=True)])
    warnings = leaks(grid) + diverged(scores) + edges(grid, rates) + fed_grey(cells, records)
    return CompareResult(grid.out, made, rates, warnings)


def estimate(grid: Grid, jobs: int, console: Console) -> None:
    """Print all cells and how long those to do take, measured by running the first, which is kept."""
    tuning, cells = grid.tuning(), grid.cells()
    with alone_in(grid.out):
        write_plan(grid)
        (record,) = run_cells(grid, [*tuning, *cells][:1], 1, "measuring one")
    table = Table(*map(column, ("cell", "starts from", "labels", "seed", "state")))
    left = 0
    for one in (*tuning, *cells):
        own, done = one.settings, (one.folder / RECORD).exists()
        left, state = left + (not done), "done" if done else "to do"
        table.add_row(str(one.folder.relative_to(grid.out)), own.init, own.labels, str(own.seed), state)
    console.print(table)
    minutes = left * record["seconds"] / jobs / 60
    say(
        console,
        f"{len(tuning) + len(cells)} cells, {left} to do: about {minutes:.1f} minutes "
        f"({record['seconds']:.1f} s a cell, measured on the first one; {jobs} at a time)",
    )


def show(result: CompareResult, console: Console, said: Collection[str] = ()) -> None:
    """Print the warnings but for those that were `said` before, the answer, then the table."""
    made = result.comparison
    warn((line for line in result.warnings if line not in said), console)
    for answer in result.answers:
        console.print(answer, style="bold")
    headings = wording.columns(made)
    if console.width < WIDE:
        headings = headings[:-2]  # the answers say the rest
    columns = (column(heading, "left" if heading == "arm" else "right") for heading in headings)
    table = Table(*columns, title=made.title, title_justify="left")
    for row in wording.rows(made):
        table.add_row(*row.cells[: len(headings)], end_section=row.arm == made.arms[-1])
    console.print(table)
    rates = ", ".join(f"{arm} {rate:g}" for arm, rate in result.rates.items())
    learned = made.record["protocol"] in BY_GRADIENTS
    say(console, "± is the standard deviation over seeds" + (f"; learning rates: {rates}." if learned else "."))
    say(console, f"A page of it: tinct report {result.out} --out report.html")
    if made.record["protocol"] != "knn":
        say(console, f"To keep the best: {winner(made).command()} --out model")


def winner(made: Comparison) -> TransferSettings:
    """The settings of the arm that is best on average with the most labels, as its first seed has them.

    Its encoder is where the last call says, not where it lay when the cell was run.
    """
    most = made.amounts[-1]
    means = {arm: float(np.mean(values)) for arm in made.arms if (values := list(made.values(arm, most).values()))}
    seed, best = min(made.by_seed(max(means, key=means.__getitem__), most).items())
    inits = best.plan["arms"][best.arm]
    return replace(TransferSettings(**best.record["settings"]), init=inits[seed % len(inits)], cache=None)


def diverged(scores: dict[str, dict[float, float]]) -> tuple[str, ...]:
    """A line where learning rates were tried that diverged, and so were not taken."""
    lost = {arm: [lr for lr, value in tried.items() if value == -math.inf] for arm, tried in scores.items()}
    named = "; ".join(f"{arm} {listed(rates)}" for arm, rates in lost.items() if rates)
    return (f"training diverged at learning rates that were tried ({named}), which were not taken",) if named else ()


def fed_grey(cells: Sequence[Planned], records: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """A line where encoders that saw colour in pretraining were fed grey."""
    saw = [bool(record["init"]["provenance"].get("in_colour")) and record["input"] == "grey" for record in records]
    named = ", ".join(sorted({one.arm for one, blind in zip(cells, saw, strict=True) if blind}))
    remedy = "try input=rgb (in tinct compare: --settings input=rgb)"
    return (f"{named}: saw colour in pretraining, and was fed grey; {remedy}",) if named else ()


def listed(rates: Iterable[float]) -> str:
    """Learning rates in words."""
    return ", ".join(f"{rate:g}" for rate in rates)


def edges(grid: Grid, rates: dict[str, float]) -> tuple[str, ...]:
    """A line where the best learning rate was the largest or smallest tried, so that a better one may lie beyond."""
    beyond = {max(grid.lrs): 3.0, min(grid.lrs): 1 / 3}
    at = {arm: rate for arm, rate in rates.items() if rate in beyond} if grid.tuning() else {}
    if not at:
        return ()
    more = {f"{rate * beyond[rate]:.0e}" for rate in at.values()}
    named = ", ".join(f"{arm} {rate:g}" for arm, rate in at.items())
    wider = ",".join([*sorted(more), *(f"{lr:g}" for lr in grid.lrs)])
    return (f"the best learning rate was at the edge of those tried ({named}); try lrs {wider} in another folder",)

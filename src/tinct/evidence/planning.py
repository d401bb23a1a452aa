"""From what `tinct compare` is told to a grid, with all checked that can be before hours are spent."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinct.data.labelled import Protocol, Task
from tinct.device import own_draws
from tinct.downstream.examples import forget_labels
from tinct.downstream.protocols import scored_in
from tinct.errors import TinctError, check_kinds
from tinct.evidence.grid import Grid, as_begun, check_finished, read_plan
from tinct.evidence.leaks import evaluated_and_seen, untold
from tinct.evidence.parsing import FURTHER, Amounts, Inits, Rates, parse_arms, rates_of, words
from tinct.files import as_plain
from tinct.inits import RANDOM_BACKBONE, Start, carried_decoder, load_init
from tinct.outputs import check_out
from tinct.settings import TransferSettings
from tinct.transfer import contents_of, parts_of

__all__ = ["DEFAULT_AMOUNTS", "LRS", "SEEDS", "make_grid"]

SEEDS, LRS = 3, "1e-2,3e-3,1e-3,3e-4"
"""What a comparison is made of where nobody says; at 96 px or more random weights were best at 1e-2 or 3e-3."""
QUICK = {"steps": 60, "size": 64}
"""What `mosaic:` gets where nothing is said: it checks the plumbing, and should do so in minutes."""
DEFAULT_AMOUNTS = ("50", "all")
"""Numbers of labels where nobody says, as far as they fit."""


def make_grid(
    source: str | Path,
    *,
    task: Task,
    inits: Inits,
    out: Path,
    labels: Amounts | None = None,
    seeds: int = SEEDS,
    protocol: Protocol = "finetune",
    lrs: Rates = LRS,
    baseline: str | None = None,
    later: Collection[str] = (),
    **settings: Any,
) -> Grid:
    """Check all that can be checked before hours are spent; see `compare`. `later` names inits that are not made yet.

    Raises:
        TinctError: as `run_compare`.
    """
    if unknown := sorted(settings.keys() - {"steps", "size", *FURTHER}):
        raise TinctError(f"unknown keyword {unknown[0]!r}; further ones are steps, size, {', '.join(FURTHER)}")
    seeds = as_plain(seeds)
    check_kinds({"seeds": seeds}, {"seeds": int})
    if seeds < 1:
        raise TinctError(f"seeds is {seeds}; expected 1 or more (an interval needs 2)")
    spec, arms = as_begun(out, str(source), parse_arms(inits))
    if baseline is not None and baseline not in (names := [arm.name for arm in arms]):
        raise TinctError(f"baseline is {baseline!r}; expected one of the arms, {', '.join(names)}")
    quick: dict[str, Any] = QUICK if spec == "mosaic:" else {}
    common = TransferSettings(spec, task, protocol=protocol, **{**quick, **settings})
    common.check()
    check_out(out, "compare")
    if common.evaluate == "tuning" and common.trains:
        raise TinctError("evaluate is tuning, where learning rates are chosen; take val, or protocol linear or knn")
    forget_labels()  # in a notebook they may have been corrected since
    pretrained = [init for arm in arms for init in arm.inits if init != "random" and init not in later]
    with own_draws():
        starts = {init: load_init(init, input=common.input, backbone=common.backbone) for init in pretrained}
    plan = read_plan(out)  # a grid goes on as it was begun
    planned = plan.get("settings", {}).get("input")
    saw_colour = any(start.encoder.in_channels == 3 for start in starts.values())
    common = replace(common, input=common.input or planned or ("rgb" if saw_colour else "grey"))
    if common.decoder == "carried":
        for init in starts:
            carried_decoder(init)
    amounts = tuple(default_amounts(common) if labels is None else words(labels, "labels"))
    tuned_at = plan.get("tuning", {}).get("labels") if (out / "tuning").exists() else None
    grid = Grid(
        arms=arms,
        amounts=amounts,
        seeds=seeds,
        lrs=tuple(rates_of(lrs)),
        tuning_labels=str(tuned_at or amounts[(len(amounts) - 1) // 2]),
        common=replace(common, backbone=common_backbone(starts, common.backbone)),
        digests={init: start.provenance.get("sha256") for init, start in starts.items()},
        untold=untold(arms, starts),
        out=out,
        baseline=baseline,
    )
    contents: dict[str, dict[str, str]] = {}
    for one in (*grid.cells(), *grid.tuning()[:1]):
        if one.arm == arms[0].name:  # the others' parts are the same
            parts = parts_of(one.settings)
            scored_in(parts.evaluated, parts.where, one.settings)
            if one.settings.evaluate not in contents:
                contents[one.settings.evaluate] = contents_of(parts)
    grid = replace(grid, contents=contents)
    check_finished(grid, [*grid.tuning(), *grid.cells()])
    seen, before = evaluated_and_seen(arms, starts, common)
    return replace(grid, seen=seen, inherited=before)


def default_amounts(common: TransferSettings) -> tuple[str, ...]:
    """Those of `DEFAULT_AMOUNTS` that fit; what else is wrong with the labels will be said of all of them."""
    try:
        parts_of(replace(common, labels=DEFAULT_AMOUNTS[0]))
    except TinctError:
        return DEFAULT_AMOUNTS[1:]
    return DEFAULT_AMOUNTS


def common_backbone(starts: dict[str, Start], asked: str | None) -> str:
    """The backbone that all arms share.

    Raises:
        TinctError: they do not share one, or one was chosen by labels.
    """
    for init, start in starts.items():
        if start.provenance.get("selected_with_labels"):
            raise TinctError(
                f"{init}: was steered by a probe on labels, so it is no evidence for learning without them; pretrain "
                "again without --probe"
            )
    backbones = {start.encoder.backbone: init for init, start in starts.items()}
    if len(backbones) > 1:
        listed = ", ".join(f"{init} is a {backbone}" for backbone, init in backbones.items())
        raise TinctError(f"inits: {listed}; expected one backbone throughout, or the networks are compared as well")
    return asked or next(iter(backbones), RANDOM_BACKBONE)

"""A whole experiment from one file: pretraining runs for each arm and seed, paired comparisons, one report."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tinct.compare import run_compare, show
from tinct.config import BUDGETS, RECIPES, Config, read_yaml, recipe_file
from tinct.errors import TinctError, about, restartable
from tinct.evidence.grid import Grid
from tinct.evidence.parsing import FURTHER, NAME, parallel, words
from tinct.evidence.planning import make_grid
from tinct.files import expanded
from tinct.objectives import colour_terms
from tinct.outputs import RECORD, check_out
from tinct.pretrain import check_run, pretrain_apart
from tinct.pretraining.preparation import engine_for
from tinct.report import check_page, write_report
from tinct.runs import Run
from tinct.screen import open_console, say
from tinct.settings import TransferSettings
from tinct.shipped import RESERVED, resolve

__all__ = ["Experiment", "read_experiment", "reproduce"]

TAKEN = ("pretrained", "report.html", "report.md", "report.csv")
"""Names in an experiment's folder that comparisons cannot have."""


@dataclass(frozen=True)
class Experiment:
    """What a file asks for.

    Attributes:
        runs: each pretraining run's settings by name, such as `cgan-0`: the arm and its seed.
        comparisons: the keywords of `run_compare` by name, `out` aside.
    """

    runs: dict[str, Config]
    comparisons: dict[str, dict[str, Any]]


@restartable()
def reproduce(experiment: str, *, data: Path, out: Path, dry_run: bool = False) -> int:
    """Run an experiment from its file: pretrain every arm, compare, report. The same command goes on where it stopped.

    Args:
        experiment: paper, paper-cpu, yardstick, scaling, or a YAML file of the same form.
        data: the folder that the file's `{data}` stands for.
        out: folder for runs, comparisons and report.html.
        dry_run: say what would be run and what of it is done, check that it could begin, and stop.

    Returns:
        0.

    Raises:
        TinctError: the file or something that it asks for is impossible, or a run or a transfer failed.
    """
    console = open_console()
    plan = read_experiment(experiment, data, out)
    if dry_run:
        for line in described(plan, out):
            say(console, line)
    check_out(out, "reproduce")
    check_page(page := out / "report.html")
    check_runs(plan, out)  # a mistake must not show after hours of pretraining
    grids = check_comparisons(plan, out)
    if dry_run:
        for line in compared_so_far(plan, grids):
            say(console, line)
        return 0
    for name, config in plan.runs.items():
        pretrain_apart(config, out / "pretrained" / name)
    results = [run_compare(**keywords, out=out / name) for name, keywords in plan.comparisons.items()]
    write_report([out], page)
    for result in results:
        show(result, console)
    say(console, f"Report: {page}")
    return 0


def check_runs(plan: Experiment, out: Path) -> None:
    """Refuse runs that could not begin, or not go on with what is in `out`; of those that start from another, later.

    Raises:
        TinctError: one cannot.
    """
    pretrained = out / "pretrained"
    before = set[str]()
    for name, config in plan.runs.items():
        if expanded(config.init).is_relative_to(pretrained):  # which may not be there yet
            if not before.intersection(expanded(config.init).relative_to(pretrained).parts[:1]):
                raise TinctError(f"run {name}: init is {config.init}, which is no run before it; choose one, or a file")
            before.add(name)
            continue
        before.add(name)
        with about(f"run {name}"):
            one_device = replace(config, devices="1", strategy="auto")  # each further one would repeat this command
            if check_run(one_device, Run(pretrained / name), resume=True) is not None:
                engine_for(config, launch=False)


def check_comparisons(plan: Experiment, out: Path) -> dict[str, Grid]:
    """Refuse comparisons that could not be run, or not go on with what is in `out`, once all runs are there.

    Returns:
        What each would transfer, by its name.

    Raises:
        TinctError: one cannot.
    """
    runs = {str(out / "pretrained" / name): config for name, config in plan.runs.items()}
    later = {run for run in runs if not (Path(run) / "encoder.safetensors").exists()}
    grids = {}
    for title, keywords in plan.comparisons.items():
        own = {key: value for key, value in keywords.items() if key != "jobs"}
        with about(f"comparison {title}"):
            parallel(keywords.get("jobs"))
            grids[title] = grid = make_grid(**own, out=out / title, later=later)
            check_arms(grid, {run: runs[run] for run in later}, keywords.get("backbone"))
    return grids


def check_arms(grid: Grid, later: dict[str, Config], asked: str | None) -> None:
    """Hold runs that are not made yet to what `make_grid` asks of those that are.

    Raises:
        TinctError: one is steered by labels, has another backbone, or will have no decoder to carry over.
    """
    named = [init for arm in grid.arms for init in arm.inits if init in later]
    made = any(init not in later and init != "random" for arm in grid.arms for init in arm.inits)
    backbone = grid.common.backbone if made or asked or not named else later[named[0]].backbone
    for init in named:
        config, name = later[init], Path(init).name
        if config.probe is not None:
            raise TinctError(f"{name}: probe is {config.probe}; a run that labels steer is no evidence, leave it out")
        if config.backbone != backbone:
            raise TinctError(f"{name} is a {config.backbone}, another arm a {backbone}; expected one backbone")
        if grid.common.decoder == "carried" and not colour_terms(config.terms):
            raise TinctError(f"decoder is carried, but {name} makes no colorizer; use fresh, or leave that arm out")


def read_experiment(name: str, data: Path, out: Path) -> Experiment:
    """Read a shipped experiment or a file.

    Args:
        name: `paper`, `paper-cpu`, `yardstick`, `scaling`, or a path.
        data: what `{data}` stands for in the file, which quotes it, as YAML takes braces for a mapping.
        out: where runs will be; comparisons name them.

    Raises:
        TinctError: there is no such file, it is not of this form, a setting is unknown or out of range, or the name of
            `out` cannot be part of an arm.
    """
    if set(":,") & set(str(out).removeprefix(out.drive)):
        raise TinctError(f"out is {out}; expected no colon and no comma in it, which separate encoders and arms")
    path = RECIPES / f"{name}.yaml"
    path = path if path.exists() else expanded(name)
    if not path.is_file():
        raise TinctError(f"experiment is {name!r}; expected paper, paper-cpu, yardstick, scaling, or a YAML file")
    content = read_yaml(path, data=str(data))
    with about(path):
        check_form(content)
        arms, seeds = content["arms"], range(content["pretraining_seeds"])
        runs = {
            f"{arm}-{seed}": configured(arm, content["pretrain"] | settings, seed)
            for seed in seeds
            for arm, settings in arms.items()
        }
        folders = {arm: [str(out / "pretrained" / f"{arm}-{seed}") for seed in seeds] for arm in arms}
        inits = {arm: f"{arm}={':'.join(own)}" for arm, own in folders.items()}
        comparisons = {title: compared(title, keywords, inits) for title, keywords in content["compare"].items()}
    return Experiment(runs, comparisons)


def check_form(content: dict[str, Any]) -> None:
    """Hold an experiment's file to what it must have.

    Raises:
        TinctError: names the first thing that is not as it should be.
    """
    groups = ("pretrain", "arms", "compare")
    if absent := [key for key in ("pretraining_seeds", *groups) if key not in content]:
        raise TinctError(f"has no {absent[0]}; expected pretraining_seeds, {', '.join(groups)}")
    seeds = content["pretraining_seeds"]
    if type(seeds) is not int or seeds < 1:
        raise TinctError(f"pretraining_seeds is {seeds!r}; expected a whole number, 1 or more")
    for group in groups:
        if not isinstance(content[group], dict):
            raise TinctError(f"{group} is {content[group]!r}; expected lines of NAME: ... below it")
    if unknown := [key for key in content if key not in ("pretraining_seeds", *groups)]:
        raise TinctError(f"has {unknown[0]!r}; expected pretraining_seeds, {', '.join(groups)}")
    if "random" in content["arms"]:
        raise TinctError("arms has 'random', the name of the baseline of random weights; choose another")
    for group in groups[1:]:
        for name, settings in content[group].items():
            if isinstance(name, str) and (not NAME.fullmatch(name) or (group == "compare" and name in TAKEN)):
                raise TinctError(f"{group} has {name!r}, which cannot name a folder here; choose another")
            if not isinstance(name, str) or not isinstance(settings, dict):
                said = "nothing" if settings is None else repr(settings)
                raise TinctError(
                    f"{group} has {name!r} with {said}; expected a name and its settings in braces, {{}} for none"
                )


def configured(arm: str, settings: dict[str, Any], seed: int) -> Config:
    """A run's settings on top of those of its recipe.

    Raises:
        TinctError: a setting is unknown or out of range; names the arm.
    """
    with about(f"arm {arm}"):
        if "recipe" not in settings:
            raise TinctError("pretrain has no recipe; expected one, such as fast, that the other settings change")
        recipe = read_yaml(recipe_file(settings["recipe"]))
        if any(budget in settings for budget in BUDGETS):
            recipe = {key: value for key, value in recipe.items() if key not in BUDGETS}
        if "seed" in settings:
            raise TinctError(f"seed is {settings['seed']!r}, which pretraining_seeds gives each run; leave it out")
        known = {"recipe", *(field.name for field in fields(Config))}
        if unknown := sorted(settings.keys() - known):
            raise TinctError(f"unknown setting {unknown[0]!r} of pretraining; see tinct pretrain --help")
        own = {key: value for key, value in settings.items() if key != "recipe"}
        config = Config(**{**recipe, **own, "seed": seed})
        config.check()
        return config


def compared(title: str, keywords: dict[str, Any], inits: dict[str, str]) -> dict[str, Any]:
    """The keywords of `run_compare` for a comparison, its arms with their runs.

    Args:
        title: of the comparison.
        keywords: as the file has them.
        inits: what `--inits` says of each arm that is pretrained.

    Raises:
        TinctError: a keyword is unknown, a setting out of range, or a value of another kind.
    """
    own = {"source", "task", "inits", "labels", "seeds", "protocol", "lrs", "baseline", "jobs"}
    known = own | {"steps", "size", *FURTHER}
    if unknown := sorted(keywords.keys() - known):
        raise TinctError(f"unknown keyword {unknown[0]!r} of comparison {title}; expected some of {sorted(known)}")
    if absent := [key for key in ("source", "task", "inits") if key not in keywords]:
        raise TinctError(f"comparison {title} has no {absent[0]}; expected source, task and inits at least")
    common = {key: keywords[key] for key in keywords.keys() - {"inits", "seeds", "lrs", "baseline", "jobs", "labels"}}
    with about(f"comparison {title}"):
        TransferSettings(**common).check()
        arms = words(keywords["inits"], "inits")
        for arm in arms:
            if NAME.fullmatch(arm) and arm not in (*inits, *RESERVED):
                resolve(arm, "encoder", others=(*inits, *RESERVED))  # a slip shows before all else is opened
    return keywords | {"inits": ",".join(inits.get(arm, arm) for arm in arms)}


def described(plan: Experiment, out: Path) -> Iterator[str]:
    """The runs that would be pretrained, a line each."""
    for name, config in plan.runs.items():
        budget = next(f"{getattr(config, one)} {one}" for one in BUDGETS if getattr(config, one) is not None)
        terms = " + ".join(config.terms) + (f" + {config.adversarial} GAN" if config.adversarial != "none" else "")
        run = out / "pretrained" / name
        done = " (done)" if Run(run).finished() else ""
        yield f"pretrain {run}: {terms}, {config.backbone}, {config.size} px, {budget}{done}"


def compared_so_far(plan: Experiment, grids: dict[str, Grid]) -> Iterator[str]:
    """The comparisons that would be made, a line each, with how many of their transfers are there."""
    for title, grid in grids.items():
        listed = ", ".join(f"{key} {value}" for key, value in plan.comparisons[title].items())
        cells = [*grid.tuning(), *grid.cells()]
        done = sum((one.folder / RECORD).exists() for one in cells)
        yield f"compare {grid.out}: {listed} ({done} of {len(cells)} cells)"

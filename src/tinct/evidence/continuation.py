"""Does more pretraining help? Arms that went on from one another, and what they gained on the way."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinct.evidence.findings import Comparison, distinct, encoders
from tinct.evidence.statistics import Difference, paired_difference

__all__ = ["AHEAD", "Step", "Trend", "pictures_read", "stages_of", "steps", "trends"]

AHEAD = 4
"""How many times the pictures of the last arm a trend is extended to."""
WHAT_IT_WAS = ("terms", "adversarial", "size", "steps", "pictures_read", "seed", "fingerprint")
"""What tells one stage of pretraining from another in the headers of later ones."""


@dataclass(frozen=True)
class Step:
    """From one arm to one that began where it ended, at one number of labels; values in metric points.

    Attributes:
        earlier: an arm.
        later: an arm that goes on from it, with no other arm between.
        labels: labelled pictures.
        difference: the later less the earlier, paired over the seeds that both have.
        encoders: how many are behind the values of the later arm, and of the earlier.
    """

    earlier: str
    later: str
    labels: int
    difference: Difference
    encoders: tuple[int, int]


@dataclass(frozen=True)
class Trend:
    """A straight line through three arms or more of one recipe, against the logarithm of the pictures they had read.

    All of it is over the seeds that these arms and the baseline have in common, without those that only repeat others.

    Attributes:
        arms: the first to the last.
        labels: labelled pictures.
        per_doubling: points gained with each doubling of the pictures read; its interval is over seed pairs.
        pictures: `AHEAD` times those of the last arm.
        gain: what the line gives there, in points over the baseline: an extrapolation, no measurement.
        flat: whether the last arm gained nothing over the one before it, so that the line promises too much.
    """

    arms: tuple[str, ...]
    labels: int
    per_doubling: Difference
    pictures: int
    gain: float
    flat: bool

    @property
    def rises(self) -> bool:
        """Whether there is reason to extend the line: its slope is shown, and the last arm still gained."""
        return not self.flat and self.per_doubling.interval is not None and self.per_doubling.interval[0] > 0


def pictures_read(made: Comparison, arm: str) -> int | None:
    """Pictures that pretraining had read until the arm's end, all its stages together; None where it is not known.

    An arm of several encoders has the mean of theirs.
    """
    origins = _origins(made, arm)
    if not origins or not all(stage.get("pictures_read") for stages in origins for stage in stages):
        return None
    return round(sum(int(stage["pictures_read"]) for stages in origins for stage in stages) / len(origins))


def steps(made: Comparison) -> list[Step]:
    """Every arm that began where another ended, with that other, at every number of labels."""
    found = []
    for later, earlier in _parents(made).items():
        for labels in made.amounts:
            ours, theirs = made.by_seed(later, labels), made.by_seed(earlier, labels)
            if seeds := distinct(ours, theirs, sorted(ours.keys() & theirs.keys())):
                values = ([cells[seed].value for seed in seeds] for cells in (ours, theirs))
                behind = encoders(ours[seed] for seed in seeds), encoders(theirs[seed] for seed in seeds)
                found.append(Step(earlier, later, labels, paired_difference(*values), behind))
    return found


def trends(made: Comparison) -> list[Trend]:
    """A trend for each last arm of three or more that share their recipe, at every number of labels."""
    parents = _parents(made)
    gone_on = {earlier for later, earlier in parents.items() if _recipe(made, later) == _recipe(made, earlier)}
    found = []
    for last in parents.keys() - gone_on:
        arms = [last]
        while (earlier := parents.get(arms[-1])) and _recipe(made, earlier) == _recipe(made, last):
            arms.append(earlier)
        lines = (_trend(made, arms[::-1], labels) for labels in made.amounts if len(arms) > 2)
        found += [line for line in lines if line is not None]
    return sorted(found, key=lambda trend: (made.arms.index(trend.arms[-1]), trend.labels))


def _trend(made: Comparison, arms: list[str], labels: int) -> Trend | None:
    """The line through `arms`, the mean of those of the seeds; None where there is no seed that all have."""
    cells = [made.by_seed(arm, labels) for arm in (made.baseline, *arms)]
    seeds = distinct(cells[1], cells[-1], sorted(set.intersection(*map(set, cells))))
    if not seeds:
        return None
    pictures = [pictures_read(made, arm) or 0 for arm in arms]
    baseline, *values = np.array([[one[seed].value for seed in seeds] for one in cells])
    slopes, levels = np.polyfit(np.log2(pictures), values, 1)
    per_doubling = paired_difference(slopes.tolist(), [0.0] * len(seeds))
    ahead, flat = AHEAD * pictures[-1], bool(values[-1].mean() <= values[-2].mean())
    gain = float((levels - baseline).mean() + per_doubling.mean * np.log2(ahead))
    return Trend(tuple(arms), labels, per_doubling, ahead, gain, flat)


def stages_of(init: dict[str, Any]) -> list[dict[str, Any]]:
    """What is known of the stages of an init's pretraining, the last one first."""
    stages = [init.get("provenance") or {}]
    while earlier := stages[-1].get("began_with"):
        stages.append(earlier)
    return stages


def _parents(made: Comparison) -> dict[str, str]:
    """For each arm that began where others had ended, the latest of those."""
    read = {arm: pictures for arm in made.arms if (pictures := pictures_read(made, arm))}
    own = {arm: [_identity(stages) for stages in _origins(made, arm)] for arm in read}
    found = {}
    for arm in read:
        ancestors = [_identity(stages[i:]) for stages in _origins(made, arm) for i in range(1, len(stages))]
        earlier = [other for other in read if read[other] < read[arm] and any(one in ancestors for one in own[other])]
        if earlier:
            found[arm] = max(earlier, key=read.__getitem__)
    return found


def _recipe(made: Comparison, arm: str) -> Any:
    """What the arm's last stage learned, and at which size."""
    return [[stages[0].get(key) for key in ("terms", "adversarial", "size")] for stages in _origins(made, arm)][:1]


def _origins(made: Comparison, arm: str) -> list[list[dict[str, Any]]]:
    """For each encoder of an arm the stages of its pretraining, the last one first; none for random weights."""
    return [stages for stages in map(stages_of, made.inits(arm)) if stages[0].get("terms")]


def _identity(stages: list[dict[str, Any]]) -> list[list[Any]]:
    return [[stage.get(key) for key in WHAT_IT_WAS] for stage in stages]

"""What comparisons of arms say, worded: sentences, the rows of a table, and the name of a pretraining."""

from typing import Any, NamedTuple

import numpy as np

from tinct.evidence.continuation import Step, pictures_read, stages_of, steps, trends
from tinct.evidence.findings import Comparison, Contrast, fitted_on_all
from tinct.evidence.statistics import Difference, Worth

__all__ = [
    "COLOUR_TERMS",
    "Row",
    "columns",
    "continuation",
    "plain",
    "pretraining_of",
    "provisos",
    "rows",
    "sentence",
    "sentences",
    "signed",
]

NAMED = 3
"""Unreadable pictures that are named where many may be."""
FEW = 20
"""Groups below which an interval over them is said to be too narrow, as it is with few (to Cameron, Gelbach and Miller
2008, 5 to 30 are)."""
COLOUR_TERMS = {"l1", "huber", "bins", "palette"}


class Row(NamedTuple):
    """A row of a comparison's table.

    Attributes:
        labels: labelled pictures.
        arm: its name.
        mean: over seeds, those that only repeat others left out.
        spread: standard deviation over them; None with one.
        seeds: how many they are.
        contrast: with the baseline; None for the baseline itself.
    """

    labels: int
    arm: str
    mean: float
    spread: float | None
    seeds: int
    contrast: Contrast | None

    @property
    def cells(self) -> list[str]:
        """As text, for `columns`."""
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        first = [f"{self.labels:,}", self.arm, f"{self.mean:.1f}{spread}", str(self.seeds)]
        if self.contrast is None:
            return [*first, "", "", "", "", ""]
        pictures = self.contrast.bootstrap
        return [
            *first,
            signed(self.contrast.difference.mean),
            _interval(self.contrast),
            "–" if pictures is None else _ends(pictures),
            "–" if self.contrast.relative is None else f"{signed(self.contrast.relative)} %",
            _times(self.contrast),
        ]


def columns(comparison: Comparison) -> list[str]:
    """The table's header; an arm alone has no differences."""
    named = ["labels", "arm", comparison.metric, "seeds"]
    differences = ["difference", "95 % CI over seeds", "over pictures", "relative", "labels' worth"]
    return named + differences * (len(comparison.arms) > 1)


def rows(comparison: Comparison) -> list[Row]:
    """The table: a row for each number of labels and arm."""
    contrasts = {(contrast.arm, contrast.labels): contrast for contrast in comparison.contrasts}
    found = []
    for labels in comparison.amounts:
        for arm in comparison.arms:
            if values := comparison.distinct_values(arm, labels):
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                contrast = contrasts.get((arm, labels))
                found.append(Row(labels, arm, float(np.mean(values)), spread, len(values), contrast))
    return found


def sentences(comparison: Comparison) -> list[str]:
    """The answer, one sentence or two for each contrast, and one for each that an unfinished grid lacks."""
    answers = [sentence(comparison, contrast) for contrast in comparison.contrasts]
    return [*answers, *continuation(comparison), *provisos(comparison)]


def continuation(comparison: Comparison) -> list[str]:
    """What arms that went on from others gained by it, and where that might lead."""
    said = []
    for step in steps(comparison):
        read = " to ".join(f"{pictures_read(comparison, arm):,}" for arm in (step.earlier, step.later))
        difference, pairs = step.difference, step.difference.pairs
        verdict = f" ({'one value' if pairs == 1 else f'all {pairs} pairs agree'}, no interval)"
        if difference.interval is not None:
            low, high = difference.interval
            verdict = "; the interval contains 0" if low <= 0 <= high else ""
        said.append(
            f"Going on from {step.earlier} to {step.later}, from {read} pictures read, changes {comparison.metric} by "
            f"{signed(difference.mean)} points{_reach(step)}{_confidence(difference)} at {step.labels:,} labels"
            f"{verdict}."
        )
    for trend in trends(comparison):
        slope, arms = trend.per_doubling, ", ".join(trend.arms)
        each = f"{signed(slope.mean)} points for each doubling of the pictures read{_confidence(slope)}"
        if trend.rises:
            said.append(
                f"A straight line through {arms} gives {each}, at {trend.labels:,} labels; it would come to "
                f"{signed(trend.gain)} at {trend.pictures:,}. That is an extrapolation, not a measurement, and such "
                "curves flatten."
            )
        else:
            last = f"{trend.arms[-1]} gained nothing over {trend.arms[-2]}"
            why = last if trend.flat else f"{each} are not shown"
            said.append(f"No line through {arms} is extended at {trend.labels:,} labels: {why}.")
    return said


def provisos(comparison: Comparison) -> list[str]:
    """What makes the answers say less: the data, pictures that were no news or could not be read, what is missing."""
    said, names = [], comparison.unreadable
    if comparison.note:
        said.append(f"{comparison.record['data']['spec']} {comparison.note}.")
    groups = comparison.record["data"].get("eval_groups", 0)
    if groups == 1 and comparison.contrasts:
        said.append("All evaluated pictures are of one group: there is no interval over them.")
    elif groups and any(contrast.bootstrap for contrast in comparison.contrasts):
        few = ", and with so few it is too narrow" if groups < FEW else ""
        said.append(f"The interval over pictures is over {groups} groups of them, each drawn as a whole{few}.")
    if names:
        more = ", …" if len(names) > NAMED else ""
        said.append(
            f"{len(names)} labelled pictures could not be read and have no part in this: "
            f"{', '.join(names[:NAMED])}{more}."
        )
    said += [
        f"{arm}: its encoder saw {count} of the evaluated pictures, or near-copies of them, which the records name; "
        "what it gains may be less on others."
        for arm, count in comparison.seen.items()
    ]
    if comparison.learned:
        said.append(
            f"Evaluated pictures (up to {comparison.learned}), or near-copies of them, are among the labelled training "
            f"pictures: every {comparison.metric} here is too high, and differences may be; tinct data names them."
        )
    return said + _missing(comparison)


def _missing(comparison: Comparison) -> list[str]:
    """What a table shows, or a plan names, and nothing compares."""
    compared = {(contrast.arm, contrast.labels) for contrast in comparison.contrasts}
    planned = {arm for cell in comparison.cells for arm in cell.plan.get("arms", {})}
    return [
        f"Not compared yet: {arm} and {comparison.baseline} have no seed in common at {labels:,} labels."
        for arm in comparison.arms[1:]
        for labels in comparison.amounts
        if (arm, labels) not in compared and comparison.values(arm, labels)
    ] + [f"Not compared yet: nothing of {arm} is finished." for arm in sorted(planned - set(comparison.arms))]


def sentence(comparison: Comparison, contrast: Contrast) -> str:
    """What one contrast says; a gain is claimed only where the interval over seed pairs is above 0."""
    difference, metric, where = contrast.difference, comparison.metric, f"at {contrast.labels:,} labels"
    subject = _subject(comparison, contrast.arm)
    if comparison.baseline != "random":
        where += f", compared with {comparison.baseline}"
    if difference.interval is None:
        repeated = len(contrast.values.keys() & contrast.baseline.keys()) > 1
        why = "nothing differs from seed to seed, which gives" if repeated else "one pair of seeds gives"
        if difference.pairs > 1:
            why = f"all {difference.pairs} pairs agree, as they easily do on few pictures or labels, which gives"
        return (
            f"No gain shown: {why} no interval. {subject} changed {metric} by "
            f"{signed(difference.mean)} points{_reach(contrast)} {where}."
        )
    low, high = difference.interval
    pictures = _over_pictures(comparison, contrast)
    interval = _reach(contrast) + _confidence(difference, pictures)
    lower = subject if subject.startswith("ImageNet") else subject[0].lower() + subject[1:]
    if high < 0:
        size = plain(-difference.mean)
        return f"No gain shown: {lower} costs {size} {metric} points{interval} {where}."
    if low <= 0:
        change = f"changes {metric} by {signed(difference.mean)} points{interval} {where}"
        return f"No gain shown: {lower} {change}; the interval contains 0."
    gain = f"{subject} adds {plain(difference.mean)} {metric} points{interval} {where}; "
    gain += _in_labels(contrast)
    if contrast.bootstrap is not None and contrast.bootstrap[0] <= 0:
        known = "" if pictures else f" (bootstrap {_ends(contrast.bootstrap)})"
        gain += f" Over other evaluated pictures it is not sure{known}."
    return gain


def pretraining_of(init: dict[str, Any]) -> str:
    """Name a pretraining by what was learned, in earlier runs too: with more in it than colour, never that alone."""
    stages = stages_of(init)
    terms = {term for stage in stages for term in stage.get("terms") or {}}
    colour = any(stage.get("adversarial", "none") != "none" for stage in stages) or bool(terms & COLOUR_TERMS)
    parts = ["colour"] if colour else []
    parts += ["rotation"] if "rotation" in terms else []
    parts += ["two-view"] if terms & {"siamese", "multicrop"} else []
    parts += sorted(terms - COLOUR_TERMS - {"rotation", "siamese", "multicrop"})  # which others have added
    labels = any(stage.get("supervised") for stage in stages)
    unknown = any(stage.get("supervised", False) is None for stage in stages)
    if parts:
        before = " after ImageNet's labels" if labels else " after weights of unknown making" if unknown else ""
        return f"{' and '.join(parts).capitalize()} pretraining{before}"
    return "ImageNet pretraining" if init["name"] == "imagenet-lite" else "Pretraining"


def plain(value: float) -> str:
    """One decimal, with a true minus sign; none before 0.0."""
    return f"{value:z.1f}".replace("-", "−")


def signed(value: float) -> str:
    """One decimal with its sign; plus before 0.0."""
    return f"{value:+z.1f}".replace("-", "−")


def _ends(interval: tuple[float, float]) -> str:
    return " to ".join(map(plain, interval))


def _confidence(difference: Difference, pictures: str = "") -> str:
    """The t interval in brackets, within a sentence; "" where there is none."""
    if difference.interval is None:
        return ""
    return f" (95 % CI {_ends(difference.interval)}, {difference.pairs} paired seeds{pictures})"


def _times(contrast: Contrast) -> str:
    """What a gain is worth in labels, in short: `2.3 x (1.4 to > 4.0)`, `> 4.0 x`, or a dash."""
    if contrast.worth.times is None or not contrast.gain:
        return "–"
    return f"{_factor(contrast.worth)} x{_range(contrast)}"


def _factor(worth: Worth) -> str:
    return f"{'> ' if worth.at_least else ''}{worth.times:.1f}"


def _range(contrast: Contrast) -> str:
    """What the ends of a gain's interval are worth; "" where even the lower one is beyond the baseline's curve."""
    if contrast.worth_ends is None or contrast.worth_ends[0].at_least:
        return ""
    return " ({} to {})".format(*map(_factor, contrast.worth_ends))


def _interval(contrast: Contrast) -> str:
    """The t interval in short, with its degrees of freedom; a dash where there is none."""
    difference = contrast.difference
    return "–" if difference.interval is None else f"{_ends(difference.interval)}, df {difference.pairs - 1}"


def _in_labels(contrast: Contrast) -> str:
    worth = contrast.worth
    if worth.times is None:
        return f"what that is worth in labels cannot be told: {worth.reason}."
    times = f"{'more than ' if worth.at_least else ''}{worth.times:.1f} times"
    return f"that is what {times} the labels would give{_range(contrast)}."


def _reach(found: Contrast | Step) -> str:
    """How far the interval reaches, by whichever of the two sides has fewer encoders."""
    ours, theirs = found.encoders
    pairs = found.difference.pairs
    return _scope(ours, pairs) if ours <= theirs else _scope(theirs, pairs, "against")


def _scope(encoders: int, pairs: int, word: str = "for") -> str:
    """Pairs that share an encoder say nothing of other encoders."""
    if encoders == pairs > 1:
        return ""
    return f" {word} this encoder" if encoders == 1 else f" {word} these {encoders} encoders"


def _over_pictures(comparison: Comparison, contrast: Contrast) -> str:
    """The interval over pictures, where that over seeds is of random weights alone."""
    cells = comparison.by_seed(contrast.arm, contrast.labels).values()
    if contrast.bootstrap is None or not all(fitted_on_all(cell.record) for cell in cells):
        return ""
    return f"; over evaluated pictures {_ends(contrast.bootstrap)}"


def _subject(comparison: Comparison, arm: str) -> str:
    """What the arm's pretraining was, from where its weights say they come from; random ones had none."""
    init = comparison.inits(arm)[0]
    subject = "Having random weights" if init["name"] == "random" else pretraining_of(init)
    return subject if len(comparison.arms) == 2 else f"{subject} ({arm})"

"""Figures as SVG that takes the page's font and text colour, and pictures as data for its `img` elements."""

import base64
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image

from tinct.data.base import VOID
from tinct.data.overlay import class_color
from tinct.evidence import wording
from tinct.evidence.continuation import pictures_read, steps, trends
from tinct.evidence.findings import Comparison

__all__ = ["arm_colors", "class_bars", "continuation", "curves", "differences", "inline", "mask_over", "training"]

FEW = 5
"""Arms whose legend finds room among the curves."""
LONG = 32
"""Letters of a name that a figure has room for."""
_BASELINE = "#8d949e"
_COLORS = (
    "#e8590c",
    "#1c7ed6",
    "#2f9e44",
    "#9c36b5",
    "#e0a100",
    "#0c8599",
    "#d6336c",
    "#5c940d",
    "#845ef7",
    "#795548",
)
_INK = "#010203"  # drawn in this, the page's own text colour takes its place
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tinct",
    "font.size": 10,
    "text.parse_math": False,  # a class may be called $x$
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}


def curves(made: Comparison) -> str:
    """The metric against the number of labels: a line through means, a band of one standard deviation, each run."""
    with rc_context(_STYLE):
        figure, axes = _figure(5.2, 3.4)
        for arm, color in arm_colors(made.arms).items():
            own = [row for row in wording.rows(made) if row.arm == arm]
            amounts, mean = [row.labels for row in own], np.array([row.mean for row in own])
            spread = np.array([row.spread or 0 for row in own])
            axes.fill_between(amounts, mean - spread, mean + spread, color=color, alpha=0.18, linewidth=0)
            axes.plot(amounts, mean, color=color, label=_named(arm), marker="o", markersize=5)
            for amount in amounts:
                runs = made.distinct_values(arm, amount)
                axes.plot([amount] * len(runs), runs, ".", color=color, markersize=4, alpha=0.55)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(made.amounts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([f"{amount:,}" for amount in made.amounts])
        axes.set(xlabel="labelled pictures", ylabel=made.metric)
        axes.grid(axis="y")
        beside: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": _across(made.arms)}
        axes.legend(**(beside if len(made.arms) > FEW else {"loc": "best"}))
        return _svg(figure, f"{made.metric} against labelled pictures")


def differences(made: Comparison) -> str:
    """Every paired difference: thick the t interval over seed pairs, thin the bootstrap over pictures."""
    contrasts = sorted(made.contrasts, key=lambda contrast: (contrast.labels, made.arms.index(contrast.arm)))
    with rc_context(_STYLE):
        figure, axes = _figure(5.2, max(1.9, 0.42 * len(contrasts) + 1.0))
        colors = arm_colors(made.arms)
        for row, contrast in enumerate(contrasts):
            color, gap = colors[contrast.arm], contrast.difference
            if contrast.bootstrap is not None:
                axes.plot(contrast.bootstrap, [row + 0.2] * 2, color=color, linewidth=1.2, alpha=0.8)
            if gap.interval is not None:
                axes.plot(gap.interval, [row] * 2, color=color, linewidth=4, alpha=0.45, solid_capstyle="round")
            axes.plot(gap.mean, row, "o", color=color, markersize=7)
        axes.axvline(0, color=_INK, linewidth=0.9)
        axes.set_yticks(range(len(contrasts)), [f"{_named(one.arm)}, {one.labels:,} labels" for one in contrasts])
        axes.set_ylim(len(contrasts) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{made.metric} points over {made.baseline}")
        axes.grid(axis="x")
        return _svg(figure, f"Paired differences in {made.metric} points")


def continuation(made: Comparison) -> str:
    """Gains of arms that went on from others, against the pictures they had read, and where a line through them leads.

    Bars are t intervals over seed pairs; "" where no arm went on from another.
    """
    linked, lines = steps(made), [trend for trend in trends(made) if trend.rises]
    if not linked:
        return ""
    gains = {(one.arm, one.labels): one.difference for one in made.contrasts}
    read = {arm: pictures_read(made, arm) or 0 for step in linked for arm in (step.earlier, step.later)}
    colors = series_colors(made.amounts)
    with rc_context(_STYLE):
        figure, axes = _figure(7.6, 3.4)
        for labels, color in colors.items():
            points = {arm: gains[arm, labels] for arm in read if (arm, labels) in gains}
            for arm, gap in points.items():
                if gap.interval is not None:
                    axes.plot([read[arm]] * 2, gap.interval, color=color, linewidth=3, alpha=0.3)
                axes.plot(read[arm], gap.mean, "o", color=color, markersize=6)
            for pair in ((step.earlier, step.later) for step in linked if step.labels == labels):
                if points.keys() >= set(pair):
                    axes.plot([read[arm] for arm in pair], [points[arm].mean for arm in pair], color=color)
            for trend in (trend for trend in lines if trend.labels == labels):
                first = trend.gain - trend.per_doubling.mean * np.log2(trend.pictures / read[trend.arms[0]])
                axes.plot([read[trend.arms[0]], trend.pictures], [first, trend.gain], "--", color=color, linewidth=1.2)
            axes.plot([], [], color=color, marker="o", label=f"{labels:,} labels")
        ends = {f"{_named(arm)}, {pictures:,}": pictures for arm, pictures in read.items()}
        ends |= {f"extrapolated, {trend.pictures:,}": trend.pictures for trend in lines}
        for text, pictures in ends.items():
            axes.annotate(text, (pictures, 1.01), xycoords=("data", "axes fraction"), rotation=55, fontsize=8)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(ends.values())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels([])
        axes.set(
            xlabel="pictures read in pretraining, logarithmic", ylabel=f"{made.metric} points over {made.baseline}"
        )
        axes.grid(axis="y")
        axes.legend(loc="best")
        return _svg(figure, "Gains against pictures read in pretraining")


def class_bars(made: Comparison, amount: int) -> str:
    """The metric of each class, mean over seeds, for each arm at one number of labels."""
    per_arm: dict[str, list[dict[str, float]]] = {arm: [] for arm in made.arms}
    for cell in made.cells:
        if cell.labels == amount:
            per_arm[cell.arm].append(cell.per_class)
    per_arm = {arm: found for arm, found in per_arm.items() if found}
    means = {
        arm: {name: float(np.mean([one[name] for one in found])) for name in found[0]} for arm, found in per_arm.items()
    }
    first = next(iter(means.values()))
    names = sorted(first, key=lambda name: -max(mean[name] for mean in means.values()))
    height = 0.8 / len(means)
    across, colors = _across(means), arm_colors(made.arms)
    with rc_context(_STYLE):
        bars = max(2.0, len(names) * (0.14 + 0.11 * len(means)) + 0.9)
        figure, axes = _figure(5.2, bars + 0.2 * -(-len(means) // across))
        for place, (arm, mean) in enumerate(means.items()):
            rows = np.arange(len(names)) + (place - (len(means) - 1) / 2) * height
            axes.barh(rows, [mean[name] for name in names], height=0.88 * height, color=colors[arm], label=_named(arm))
        axes.set_yticks(range(len(names)), map(_named, names))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlabel("AP" if made.metric == "mAP" else "IoU")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        figure.legend(loc="outside upper left", ncols=across)
        return _svg(figure, f"Each class at {amount} labels")


def training(rows: Mapping[str, Sequence[tuple[int, float]]]) -> list[str]:
    """A pretraining run's curves, one figure each: losses, and scores on held-out photographs.

    Args:
        rows: for each series of metrics.csv, its steps and values.
    """
    titles = {
        "ab_error": "held-out ab error (Lab)",
        "colourfulness_ratio": "colourfulness / the truth's",
        "psnr": "PSNR (dB)",
        "probe_map": "linear probe (mAP)",
        "discriminator_accuracy": "discriminator's accuracy",
    }
    apart = {*titles, "ab_error_grey", "balance", "images_per_second", "wait_share"}
    losses = {name: points for name, points in rows.items() if name not in apart}
    panels = [("training loss", losses)] * bool(losses)
    panels += [(title, {name: rows[name]}) for name, title in titles.items() if name in rows]
    return [
        _panel(title, series, rows.get("ab_error_grey", []) if "ab_error" in series else []) for title, series in panels
    ]


def _panel(title: str, series: Mapping[str, Sequence[tuple[int, float]]], grey: Sequence[tuple[int, float]]) -> str:
    """One figure of `training`; `grey` has the score of pictures that are left grey, a dashed line."""
    with rc_context(_STYLE | {"font.size": 9}):
        figure, axes = _figure(3.8, 2.2)
        for name, color in series_colors(series).items():
            steps, values = zip(*series[name], strict=True)
            axes.plot(steps, values, color=color, linewidth=1.6, label=name, marker="." * (len(steps) < 3))
        if grey:
            axes.axhline(grey[0][1], color=_BASELINE, linestyle="--", linewidth=1)
            where, at = (1, grey[0][1]), ("axes fraction", "data")
            axes.annotate("all grey", where, xycoords=at, ha="right", va="bottom", fontsize=8)
        if len(series) > 1:
            axes.legend(fontsize=8)
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(axis="y")
        return _svg(figure, f"Pretraining: {title}")


def inline(picture: NDArray[np.uint8] | Image.Image) -> str:
    """A picture as a JPEG data URL."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.convert("RGB").save(buffer, "JPEG", quality=88, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def mask_over(picture: NDArray[np.uint8], mask: NDArray[np.uint8], background: int | None) -> NDArray[np.uint8]:
    """Lay a mask (H, W) over a greyed picture (H, W, 3); void and background are left as they are."""
    grey = np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))
    colors = np.array([class_color(value) for value in range(256)], np.uint8)[mask]
    blended = (0.45 * grey + 0.55 * colors).astype(np.uint8)
    bare = (mask == VOID) | (mask == background) if background is not None else mask == VOID
    return np.where(bare[..., None], grey, blended).astype(np.uint8)


def _named(name: str) -> str:
    """An arm's or a class's name as a figure has room for it; the tables have it in full."""
    short = name if len(name) <= LONG else f"{name[: LONG - 14]}…{name[-13:]}"
    return f"\u2060{short}" if short.startswith("_") else short  # matplotlib leaves such names out of legends


def _across(names: Iterable[str]) -> int:
    """Columns of a legend that find room side by side."""
    return max(1, min(3, 60 // max(len(_named(name)) for name in names)))


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def arm_colors(arms: Sequence[str]) -> dict[str, str]:
    """The color of each arm, grey for the baseline, which is the first."""
    return {arms[0]: _BASELINE} | series_colors(arms[1:])


def series_colors(names: Iterable[Any]) -> dict[Any, str]:
    """The color of each of several series: mid-tones, legible on white and on black."""
    return dict(zip(names, itertools.cycle(_COLORS), strict=False))  # beyond ten they begin again


def _svg(figure: Figure, title: str) -> str:
    """The `svg` element alone, its title said to those who cannot see it, its ink and font the page's."""
    buffer = io.StringIO()
    with warnings.catch_warnings():  # the page's font draws what matplotlib's lacks
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;]*;", "font-family: inherit;", text)
    text = re.sub(r'(<svg [^>]*?)width="\S+" height="\S+"', r"\1", text)  # the page says how large
    return text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)

"""Draw docs/images/gains.svg by `python docs/gains.py`: what each way of learning adds to a linear probe."""

from collections import Counter
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from tinct.evidence.findings import Contrast
from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records
from tinct.evidence.wording import plain, signed

DOCS = Path(__file__).parent
TARGET = DOCS / "images" / "gains.svg"
TITLE = "voc:data/VOCdevkit@2012 · multilabel · linear · 96 px · resnet18"
ARMS = {
    "l1": "colours, plain L1",
    "bins": "colours, bins",
    "cgan": "colours, bins and a GAN",
    "rotation-20min": "rotation, 20 min",
    "simclr-20min": "two views (SimCLR), 20 min",
    "features-20min": "views and palettes, 20 min",
    "tinct-small-ssl": "tinct-small-ssl",
}
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "tinct",
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}


def contrasts() -> list[Contrast]:
    """The arms' gains over random weights, at the numbers of labels that all of them have, fewer first."""
    [made] = [one for one in comparisons(find_records([DOCS / "records" / "paper-cpu"]).cells) if one.title == TITLE]
    chosen = [one for one in made.contrasts if one.arm in ARMS]
    counts = Counter(one.labels for one in chosen)
    chosen = [one for one in chosen if counts[one.labels] == len(ARMS)]
    return sorted(chosen, key=lambda one: (one.labels, list(ARMS).index(one.arm)))


def described(gains: list[Contrast]) -> str:
    """The figure in words, which it carries so that a test can tell when it is stale."""
    said = []
    for one in gains:
        ends = one.difference.interval
        interval = "" if ends is None else f" ({plain(ends[0])} to {plain(ends[1])})"
        said.append(f"{ARMS[one.arm]}, {one.labels:,} labels: {signed(one.difference.mean)}{interval}")
    return "; ".join(said)


def draw(gains: list[Contrast], target: Path) -> None:
    """A panel for each number of labels: points are means, bars 95 % intervals over paired seeds."""
    amounts = sorted({one.labels for one in gains})
    with rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        panels = figure.subplots(1, len(amounts), sharex=True, sharey=True)
        for axes, amount in zip(panels, amounts, strict=True):
            for row, one in enumerate(gain for gain in gains if gain.labels == amount):
                color = "#e8590c" if one.arm == "tinct-small-ssl" else "#1c7ed6"
                if one.difference.interval is not None:
                    bar = {"color": color, "alpha": 0.35, "linewidth": 6, "solid_capstyle": "round"}
                    axes.plot(one.difference.interval, [row] * 2, **bar)
                axes.plot(one.difference.mean, row, "o", color=color, markersize=8)
            axes.axvline(0, color="black", linewidth=0.9)
            axes.grid(axis="x", alpha=0.25, linewidth=0.6)
            axes.tick_params(axis="y", length=0)
            axes.set_title(f"{amount:,} labels", loc="left", fontsize=11)
            axes.set_xlabel("mAP points over random weights")
        panels[0].set_yticks(range(len(ARMS)), list(ARMS.values()))
        panels[0].set_ylim(len(ARMS) - 0.4, -0.6)
        figure.savefig(target, facecolor="white", metadata={"Description": described(gains), "Date": None})


if __name__ == "__main__":
    draw(contrasts(), TARGET)

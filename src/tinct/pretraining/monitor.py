"""What a person sees of a run: a progress bar, metrics, held-out scores, sample sheets."""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from torch.utils.tensorboard import SummaryWriter

from tinct.config import Config
from tinct.data.ledger import Ledger
from tinct.data.sources import results_in
from tinct.engine import readers
from tinct.errors import TinctError
from tinct.pretraining.calibrate import recalibrate
from tinct.pretraining.heldout import colour_scores, sample_sheet
from tinct.pretraining.learner import Learner
from tinct.probe import probe_encoder
from tinct.runs import Run
from tinct.screen import moves, open_console, say

__all__ = ["Monitor", "errors_handed_on"]

EVERY = 20
"""Steps between rows of metrics; what is left at the end makes a shorter one."""
LONG_WAIT = 0.2
"""Share of the time that is spent waiting for pictures from which a run says how to shorten it."""
PASSED_OVER = ("grey", "unreadable", "excluded", "vanished")
SHORT = {"adversarial": "adv", "discriminator": "D", "discriminator_accuracy": "D right"}
"""Names that a terminal has no room for."""


@contextmanager
def errors_handed_on() -> Iterator[None]:
    """Within it, a thread that an error of a file ends prints nothing: TensorBoard's raises it at the next call."""
    hook = threading.excepthook

    def but_for_files(unhandled: threading.ExceptHookArgs) -> None:
        if not isinstance(unhandled.exc_value, OSError):
            hook(unhandled)

    threading.excepthook = but_for_files
    try:
        yield
    finally:
        threading.excepthook = hook


class Monitor:
    """Watches a run from its first rank; on the others it does nothing."""

    def __init__(
        self,
        run: Run,
        config: Config,
        fabric: Fabric,
        ledger: Ledger,
        held_out: NDArray[np.uint8],
        step: int,
        begun: Mapping[str, Any] | None,
    ) -> None:
        """Watch `run`, which goes on after `step`, in the middle of a row of metrics where there is one `begun`."""
        self.run, self.config, self.ledger, self.held_out, self._step = run, config, ledger, held_out, step
        self.active = fabric.is_global_zero
        self._readers = readers(fabric, config.workers)
        self.console = open_console(stderr=True)
        self.console.quiet = not self.active
        self.latest: dict[str, float] = {}
        self._of_step: list[str] = []
        self._waits_told = False
        self._wait_shares: list[float] = []  # of full rows
        self._forget()
        if begun is not None:
            self._sums.update(begun["sums"])
            self._counts.update(begun["counts"])
            self._steps = int(begun["steps"])
            self._seconds, self._waited = float(begun["seconds"]), float(begun["waited"])

    def __enter__(self) -> "Monitor":
        """Show the bar."""
        self.progress = Progress(
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", table_column=Column(ratio=1, overflow="fold")),
            console=self.console,
            expand=True,
            disable=not moves(self.console),
        )
        self.task = self.progress.add_task("", total=None, text="")
        if self.active:
            with self._curves():
                self.board = SummaryWriter(str(self.run.folder))
            source = self.ledger.source
            self.run.log("start", pictures=len(source), source=source.spec, results_passed_over=results_in(source))
        self.progress.start()  # last: what fails above leaves no bar behind
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Take the bar away, write what is left of the metrics, and close the files."""
        self.progress.stop()
        if self.active:
            if self._steps:
                self._write_row()
            with self._curves():
                self.board.close()
            if error is not None:
                event = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                self.run.log(event, reason=str(error))

    def step(self, step: int, total: int | None, losses: dict[str, float], seconds: float, waited: float) -> None:
        """Take in what one step of `seconds` gave, `waited` of them spent on waiting for pictures."""
        if not self.active:
            return
        for name, value in losses.items():
            self._sums[name] += value
            self._counts[name] += 1
        self._step = step
        self._steps += 1
        self._seconds += seconds
        self._waited += waited
        self._of_step = [f"{self._images_per_second():.0f} images/s"]
        self._of_step += [f"{SHORT.get(name, name)} {value:.2f}" for name, value in losses.items()]
        self._show(step, total)
        if step % EVERY == 0:
            self._write_row()

    def scores(self, learner: Learner, step: int) -> dict[str, float]:
        """Score the average on the held-out photographs and draw the sample sheet; {} where nothing colours."""
        average: Any = learner.ema.module
        device = learner.fabric.device
        colourer = recalibrate(average, self.held_out, device)
        if colourer is None or not len(self.held_out):
            scores: dict[str, float] = {}
        else:
            scores = colour_scores(colourer, self.held_out, device)
            sheet = sample_sheet(self.run.folder / "samples" / f"step-{step:07d}.png", colourer, self.held_out, device)
            with self._curves():
                self.board.add_image("held out: grey, truth, now", sheet, step, dataformats="HWC")
        if self.config.probe is not None:
            scores["probe_map"] = probe_encoder(
                average.encoder, self.config.probe, self.config.size, "rgb" if self.config.in_colour else "grey"
            )
        self._write(step, scores)
        self.latest = scores
        self._show()
        if self.progress.disable:  # a log, not a terminal
            total = self.progress.tasks[0].total
            say(self.console, f"step {step}{'' if total is None else f' of {total:.0f}'}: {self._text()}")
        self.run.log("checkpoint", step=step, **scores, **self.ledger.counts())
        return scores

    def passed_over(self, kind: str, name: str, reason: str) -> None:
        """Name a picture that is `grey` or `unreadable`."""
        if self.active:
            self.run.log(kind, picture=name, reason=reason)

    def finished(self, step: int, seconds: float) -> None:
        """Say what came out."""
        counts = self.ledger.counts()
        self.run.log("finished", step=step, seconds=seconds, **counts)
        passed_over = ", ".join(f"{counts[key]} {key}" for key in PASSED_OVER if counts.get(key))
        scores = self.latest
        ab = (
            f", held-out ab error {scores['ab_error']:.2f} (grey: {scores['ab_error_grey']:.2f})"
            if "ab_error" in scores
            else ""
        )
        say(
            self.console,
            f"{self.run.folder}: {step} steps, {counts['seen']} pictures seen"
            + (f" (passed over: {passed_over})" if passed_over else "")
            + ab,
        )

    def _show(self, step: int | None = None, total: int | None = None) -> None:
        """Bring the bar up to date."""
        self.progress.update(self.task, text=self._text(), completed=step, total=total)

    def _text(self) -> str:
        """The last step's speed and losses, and the last checkpoint's score."""
        score = [f"held-out ab {self.latest['ab_error']:.1f}"] if "ab_error" in self.latest else []
        return " · ".join([*self._of_step, *score])

    def _images_per_second(self) -> float:
        return self.config.batch_size * self._steps / max(self._seconds, 1e-9)

    def _write_row(self) -> None:
        """Write the means over the steps since the last row."""
        row = {name: value / self._counts[name] for name, value in self._sums.items()}
        row["images_per_second"] = self._images_per_second()
        row["wait_share"] = self._waited / self._seconds
        self._write(self._step, row)
        if self._steps == EVERY and not self._waits_told:
            self._wait_shares.append(row["wait_share"])
            self._tell_of_waits()
        self._forget()

    def _tell_of_waits(self) -> None:
        """Say once how to wait less, if waiting takes long; the first row, in which readers start, does not count."""
        share = float(np.mean(self._wait_shares[1:] or [0.0]))
        if share > LONG_WAIT:
            self._waits_told = True
            cached = "" if self.config.cache else ", or begin a run with --cache FOLDER"
            waits = f"{share:.0%} of the time is spent waiting for pictures"
            say(self.console, f"{waits}: raise --workers ({self._readers} now){cached}")

    def _write(self, step: int, values: dict[str, float]) -> None:
        self.run.metrics(step, values)
        with self._curves():
            for name, value in values.items():
                if math.isfinite(value):
                    self.board.add_scalar(name, value, step, time.time())

    @contextmanager
    def _curves(self) -> Iterator[None]:
        """Within it, what TensorBoard's writer raises becomes a `TinctError` that names its file and the remedy."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise TinctError(
                f"cannot write {self.run.folder / 'events.*'}: {reason}; free some space and --resume"
            ) from error

    def begun(self) -> dict[str, Any]:
        """What the next row of metrics is made of so far, for the run that goes on from here."""
        totals = {"steps": self._steps, "seconds": self._seconds, "waited": self._waited}
        return {"sums": dict(self._sums), "counts": dict(self._counts), **totals}

    def _forget(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0

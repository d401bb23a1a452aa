"""The loop of pretraining: steps up to a budget, checkpoints, interruptions, and going on where it was."""

import errno
import hashlib
import itertools
import math
import multiprocessing
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from numpy.typing import NDArray

from tinct.config import TIMED_STEPS, Config, stored
from tinct.data.ledger import Ledger
from tinct.data.loader import Crops, Photographs, crops_loader
from tinct.engine import readers, warmup_cosine
from tinct.errors import TinctError
from tinct.files import read_json, write_json
from tinct.pretraining.learner import Learner
from tinct.pretraining.monitor import Monitor, errors_handed_on
from tinct.pretraining.results import write_results
from tinct.runs import DAMAGED, Run

__all__ = ["Training"]


class Training:
    """A run under way: what its steps share."""

    def __init__(
        self,
        config: Config,
        run: Run,
        fabric: Fabric,
        learner: Learner,
        photographs: Photographs,
        held_out: NDArray[np.uint8],
        resume: bool,
    ) -> None:
        """Begin the run, or take it up at its last checkpoint."""
        self.config, self.run, self.fabric, self.learner = config, run, fabric, learner
        self.photographs, self.held_out = photographs, held_out
        self.ledger = Ledger(photographs.source, len(photographs))
        self.pictures = photographs.source.fingerprint()  # once: it goes over all names
        self.kept = hashlib.sha256(held_out.tobytes()).hexdigest()[:16]
        self.step, self.seconds, self.best = 0, 0.0, math.inf
        self.durations: list[float] = []  # of the steps that a budget in minutes is measured on
        self.begun: dict[str, Any] | None = None  # of the metrics' next row
        self.stopping, self.scored = False, True
        self.total = self._known_total()
        checkpoint = fabric.broadcast(run.open(stored(config), resume) if fabric.is_global_zero else None)
        if checkpoint is not None:
            for name, module in learner.modules().items():
                checkpoint.load_into(name, module)
            self._check_pictures(checkpoint.state)
            states = checkpoint.optimizers()
            learner.load_optimizers(states)
            self.ledger.load(states["ledger"])
            self.step, self.seconds = checkpoint.state["step"], checkpoint.state["seconds"]
            best = checkpoint.state["best"]  # older ones have Infinity for None
            self.best = math.inf if best is None else best
            self.durations = checkpoint.state.get("durations", [])
            self.begun = checkpoint.state.get("begun")
            self.scored = checkpoint.state["scores"] is not None

    def go(self) -> None:
        """Train to the end of the budget, or raise KeyboardInterrupt with a checkpoint saved."""
        config = self.config
        loader = crops_loader(
            self.photographs,
            config.batch_size,
            range(self.step, sys.maxsize),  # a budget in minutes has no end yet
            self.fabric.global_rank,
            self.fabric.world_size,
            config.accumulate,
            readers(self.fabric, config.workers),
            pin_memory=self.fabric.device.type == "cuda",
        )
        with (
            errors_handed_on(),
            readers_watched(),
            Monitor(self.run, config, self.fabric, self.ledger, self.held_out, self.step, self.begun) as monitor,
            interruptible(self),
            # an error's traceback would keep the loader's processes, and a program waits for them when it ends
            closing(part for part in loader) as batches,
        ):
            if self.step == self.total and not self.scored:  # it was stopped, and is ended where it stands
                self._checkpoint(monitor, scored=True)
            while self.total is None or self.step < self.total:
                self._learn(batches, monitor)
                stop = self._stop_asked()  # once: a rank that is signalled later must not leave alone
                due = self.step % config.checkpoint_every == 0 or self.step == self.total
                if due or stop:
                    self._checkpoint(monitor, scored=due)
                if stop and self.step != self.total:
                    raise KeyboardInterrupt(
                        f"stopped after step {self.step}, which is saved; the same command goes on from there "
                        "(tinct pretrain: with --resume)"
                    )
            if self.fabric.is_global_zero:
                write_results(self.run, config, self.learner, self.ledger, self.held_out, self.step, self.seconds)
                monitor.finished(self.step, self.seconds)
        self.fabric.barrier()

    def _learn(self, batches: Iterator[Crops], monitor: Monitor) -> None:
        """One step, from reading its pictures on; a budget in minutes becomes one in steps once enough were timed."""
        began = time.perf_counter()
        parts = list(itertools.islice(batches, self.config.accumulate))
        waited = time.perf_counter() - began
        for news in itertools.chain.from_iterable(self.ledger.note(part.readings) for part in parts):
            monitor.passed_over(*news)
        losses = self.learner.learn(parts, self.step, self._rate(), self._adversarial_weight())
        self.step += 1
        duration = time.perf_counter() - began
        self.seconds += duration
        monitor.step(self.step, self.total, losses, duration, waited)
        if self.total is None:
            self.durations.append(duration)
            if self.step == TIMED_STEPS:
                self._fix_total()

    def _rate(self) -> float:
        """Share of the peak learning rates; in short runs of known length the warm-up is a fifth at most."""
        warmup = self.config.warmup_steps
        if self.config.minutes is None and self.total is not None:
            warmup = min(warmup, self.total // 5)
        return warmup_cosine(self.step, self.total, warmup)

    def _adversarial_weight(self) -> float | None:
        """The weight of the adversarial term at this step; None where the discriminator has no part.

        While a budget in minutes is being measured, it looks on at first, with no weight, so that its cost is known.
        """
        config = self.config
        if config.adversarial == "none":
            return None
        if config.adversarial_start == 0:
            return config.adversarial_weight
        if self.total is None or (config.minutes is not None and self.step < TIMED_STEPS):
            return 0.0 if self.step < TIMED_STEPS // 2 else None
        return config.adversarial_weight if self.step >= config.adversarial_start * self.total else None

    def _check_pictures(self, state: dict[str, Any]) -> None:
        """Refuse to go on with other pictures than the run began with, which its order and ledger are of.

        Raises:
            TinctError: they are others.
        """
        source = self.ledger.source
        if state.get("pictures", self.pictures) != self.pictures:
            raise TinctError(
                f"{source.spec}: its files are not those that {self.run.folder} began with ({len(source)} now); put "
                "them back to resume, or begin a new run"
            )
        if state.get("held_out", self.kept) != self.kept:  # older checkpoints have none
            raise TinctError(
                f"{source.spec}: the pictures held out are not those that {self.run.folder} began with, so files or "
                "what is excluded have changed; put them back to resume, or begin a new run"
            )

    def _known_total(self) -> int | None:
        """The budget in steps, as far as it is known."""
        config = self.config
        if config.steps is not None:
            return config.steps
        if config.epochs is not None:
            return math.ceil(config.epochs * len(self.photographs) / config.batch_size)
        path = self.run.folder / "budget.json"
        return int(read_json(path, DAMAGED).get("steps", 0)) or None if path.exists() else None

    def _fix_total(self) -> None:
        """Turn minutes into steps, once, and store it before any further step."""
        minutes = self.config.minutes or 0.0
        half = TIMED_STEPS // 2
        with_discriminator = statistics.median(self.durations[5:half])  # the first steps fill caches
        without = statistics.median(self.durations[half:])
        share = self.config.adversarial_start
        seconds = share * without + (1 - share) * with_discriminator
        total = self.fabric.broadcast(max(TIMED_STEPS, round(60 * minutes / seconds)))
        if self.fabric.is_global_zero:
            write_json(self.run.folder / "budget.json", {"minutes": minutes, "steps": total})
            self.run.log("budget", minutes=minutes, steps=total)
        self.total = total

    def _checkpoint(self, monitor: Monitor, scored: bool) -> None:
        """Score, show and save; every rank takes part, because each knows its own pictures.

        What is saved only because the run was stopped is not `scored`: the best is chosen among the same as without.
        """
        if self.fabric.world_size > 1:
            ledgers: list[Any] = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(ledgers, self.ledger.state())
            for news in self.ledger.load(*ledgers):
                monitor.passed_over(*news)
        if self.fabric.is_global_zero:
            scores, name = monitor.scores(self.learner, self.step) if scored else None, self.config.best
            value = scores[name] * (-1 if name == "psnr" else 1) if scores and name in scores else math.inf
            better, self.best = value < self.best, min(self.best, value)
            best = self.best if math.isfinite(self.best) else None
            state: dict[str, Any] = {"step": self.step, "seconds": self.seconds, "best": best, "scores": scores}
            state |= {
                "pictures": self.pictures,
                "held_out": self.kept,
                "durations": self.durations,
                "begun": monitor.begun(),
            }
            colour: Any = self.learner.ema.module.colour
            if scores and colour is not None:
                state["decoding"] = asdict(colour.decoding)
            optimizers = {**self.learner.optimizers(), "ledger": self.ledger.state()}
            self.run.save(self.learner.modules(), optimizers, state, better)
        self.fabric.barrier()

    def _stop_asked(self) -> bool:
        """Whether any rank was interrupted."""
        if self.fabric.world_size > 1:
            flag = torch.tensor(float(self.stopping), device=self.fabric.device)
            return bool(self.fabric.all_reduce(flag, reduce_op="sum"))
        return self.stopping


@contextmanager
def interruptible(training: Training) -> Iterator[None]:
    """Within it, Ctrl-C, SIGTERM and a closed terminal let the step end and be saved; a second one stops at once.

    Signals reach a program's main thread alone: in another one nothing is changed.
    """

    def handle(number: int, _: FrameType | None) -> None:
        if training.stopping:
            raise KeyboardInterrupt
        training.stopping = True

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        numbers.append(signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def readers_watched() -> Iterator[None]:
    """Within it, the error where a process that reads pictures is lost, which may come at any line, is a sentence.

    It is torch's own, or that of the connection on which pictures come. After any error none of them stays: they take
    no other signal, and Python would wait for them at its end.

    Raises:
        TinctError: one was lost, or there are too many open files to hear from it.
    """
    others = set(multiprocessing.active_children())
    try:
        yield
    except Exception as error:  # of any kind: they would be waited for after each
        remaining = set(multiprocessing.active_children()) - others
        for reader in remaining:
            reader.kill()
        if not _of_a_lost_reader(error, bool(remaining)):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0].split(". ")[0].rstrip(".")
        raise TinctError(
            f"a process that reads pictures was lost ({reason}); free memory, allow more open files (ulimit -n), or "
            "lower workers, and go on from the last checkpoint (tinct pretrain: with --resume)"
        ) from error


def _of_a_lost_reader(error: Exception, reading: bool) -> bool:
    """Whether it is torch's error, or that of the connection to those processes, where there are any `reading`."""
    if isinstance(error, RuntimeError):
        return str(error).startswith(("DataLoader worker", "Pin memory thread", "Too many open"))
    if isinstance(error, BrokenPipeError):  # whoever read what is printed has left
        return False
    if isinstance(error, EOFError | ConnectionError):
        return reading and "in DataLoader worker process" not in str(error)  # as torch hands on what a source raises
    return reading and isinstance(error, OSError) and error.errno == errno.EMFILE

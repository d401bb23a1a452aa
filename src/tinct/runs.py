"""The run folder: configuration, log, metrics, checkpoints that are whole or absent, and the record.

config.yaml  budget.json (of a budget in minutes)  log.jsonl  metrics.csv  events.*  samples/step-*.png  seen.npy
checkpoints/step-N/{generator,discriminator,ema}.safetensors optim.pt state.json; last.json and best.json name one
encoder.safetensors  encoder.json  colorizer.safetensors  record.json  README.md
"""

import csv
import io
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from tinct.config import BUDGETS, Config, stored
from tinct.errors import TinctError, one_line
from tinct.files import as_json, check_utf8, in_full, read_json, settle, sync, write_json, write_text
from tinct.outputs import RECORD
from tinct.weights import load_strict, read_weights

__all__ = ["DAMAGED", "Checkpoint", "Run", "read_record"]

PLACES = {"sources", "exclude", "held_out", "init", "probe"}
"""Settings that name places, however they are spelled."""
FREE = ("cache", "workers", "accelerator", "devices", "strategy")
"""Settings that may change when a run is resumed; a cache's place, but not whether there is one."""
DAMAGED = "the run was damaged from outside: put the file back, or begin a new run"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk; `state` is the content of its state.json."""

    folder: Path
    state: dict[str, Any]

    def load_into(self, name: str, module: nn.Module) -> None:
        """Load `name`.safetensors strictly."""
        path = self.folder / f"{name}.safetensors"
        load_strict(module, read_weights(path)[0], path)

    def optimizers(self) -> dict[str, Any]:
        """The optimizers' states by name."""
        path = self.folder / "optim.pt"
        try:
            states: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # what unpickling raises follows from the damage
            reason = one_line(error, 120)
            raise TinctError(f"{path}: cannot be read ({type(error).__name__}: {reason}); {DAMAGED}") from error
        return states


class Run:
    """One run's folder. Everything in it is written whole or appended a line at a time."""

    def __init__(self, folder: Path) -> None:
        """Point at `folder`, which need not exist."""
        self.folder = folder
        self.checkpoints = folder / "checkpoints"

    def check_may_open(self, config: Mapping[str, Any], resume: bool) -> None:
        """Refuse what `open` would refuse; nothing is written.

        Raises:
            TinctError: the folder holds something else, a run of another configuration, or a run and `resume` is not
                set; or its name is not in UTF-8.
        """
        check_utf8("out", self.folder)  # else TensorBoard's writer refuses it, once the run has begun
        if self.folder.exists() and not self.folder.is_dir():
            raise TinctError(f"out is {self.folder}, a file; expected a folder's name")
        written = self.folder / "config.yaml"
        if written.exists():
            if not resume:
                raise TinctError(
                    f"out is {self.folder}, which holds another run; choose another folder, or --resume "
                    "(from Python, resume=True) to go on"
                )
            self.check_same(config)
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise TinctError(f"out is {self.folder}, which holds other files; choose a new or empty folder")

    def open(self, config: Mapping[str, Any], resume: bool) -> Checkpoint | None:
        """Make the folder, or continue the run that is in it; the checkpoint to go on from, if there is one.

        Raises:
            TinctError: as `check_may_open`, or the folder cannot be written.
        """
        self.check_may_open(config, resume)
        written = self.folder / "config.yaml"
        if not written.exists():
            write_text(written, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            self.log("begun", folder=str(Path.cwd()))
        checkpoint = self.checkpoint("last")
        self._drop_rows_after(checkpoint.state if checkpoint else {"step": 0})
        return checkpoint

    def check_same(self, config: Mapping[str, Any]) -> None:
        """Hold settings to those the run began with; those of `FREE` may be others, but neither come nor go.

        A budget of as many steps as the last checkpoint has is taken in place of the run's own: it ends the run there.

        Raises:
            TinctError: one differs, or config.yaml cannot be read.
        """
        written = self.folder / "config.yaml"
        try:
            # a setting that an older tinct had not heard of was what it is by default
            before = stored(Config()) | dict(yaml.safe_load(written.read_bytes()))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise TinctError(f"{written}: cannot be read ({one_line(error)}); {DAMAGED}") from error
        starts = (Path(), self._begun_in())  # the second, for a run that is resumed from another working folder

        def same(key: str) -> bool:
            old, new = before.get(key), config[key]
            if key in PLACES:
                return any(in_full(old, start) == in_full(new) for start in starts)
            return old == new or (key in FREE and None not in (old, new))

        changed = [key for key in config if not same(key)]
        remedy = "resume with the same settings or choose another folder"
        if changed and set(changed) <= set(BUDGETS) and (last := self.checkpoint("last")):
            if config["steps"] == last.state["step"]:
                return
            remedy += f", or end it where it is with steps {last.state['step']}"
        if changed:
            key = changed[0]
            raise TinctError(
                f"{key} is {config[key]!r}, but the run in {self.folder} began with {before.get(key)!r}; {remedy}"
            )

    def _begun_in(self) -> Path:
        """The working folder that the run began in; the present one where its log does not say."""
        try:
            with (self.folder / "log.jsonl").open(encoding="utf-8") as log:
                return Path(json.loads(log.readline())["folder"])
        except (OSError, ValueError, LookupError, TypeError):  # an older run, or a damaged log
            return Path()

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint that `last` or `best` names, or None."""
        pointer = self.folder / f"{name}.json"
        if not pointer.exists():
            return None
        folder = self.folder / str(read_json(pointer, DAMAGED).get("checkpoint"))
        return Checkpoint(folder, read_json(folder / "state.json", DAMAGED))

    def save(
        self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Any], state: Mapping[str, Any], best: bool
    ) -> None:
        """Write the checkpoint of `state["step"]`, then let (`best` and) `last` name it, then drop those unnamed.

        Raises:
            TinctError: the disk is full or not writable; earlier checkpoints are as they were.
        """
        target = self.checkpoints / f"step-{state['step']}"
        if target.exists():
            write_json(target / "state.json", state)  # it may be scored now
        else:
            self._write_checkpoint(target, modules, optimizers, state)
        named = {"checkpoint": target.relative_to(self.folder).as_posix(), "step": state["step"]}
        if best:  # first: its score is in the state that the last one goes on with
            write_json(self.folder / "best.json", named)
        write_json(self.folder / "last.json", named)
        kept = {found.folder for name in ("last", "best") if (found := self.checkpoint(name))}
        ours = (folder for name in ("step-*", ".unfinished-*") for folder in self.checkpoints.glob(name))
        for folder in ours:  # what others put there (.DS_Store, .nfs…) is theirs
            if folder not in kept and folder.is_dir():
                shutil.rmtree(folder)

    def _write_checkpoint(
        self, target: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Any], state: Mapping[str, Any]
    ) -> None:
        beside = None
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self.checkpoints))
            for name, module in modules.items():
                save_file(_plain(module.state_dict()), beside / f"{name}.safetensors")
            with (beside / "optim.pt").open("wb") as file:  # so that a full disk is an OSError, not torch's internals
                torch.save(dict(optimizers), file)
            (beside / "state.json").write_text(as_json(state), encoding="utf-8")
            settle(beside)
            beside.rename(target)
            sync(self.checkpoints)
        except (OSError, RuntimeError, SafetensorError) as error:  # the latter are how libraries report a full disk
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise TinctError(f"cannot write checkpoint {target}: {reason}; free some space and --resume") from error

    def log(self, event: str, **values: Any) -> None:
        """Append one event to log.jsonl."""
        self._append("log.jsonl", json.dumps({"time": round(time.time(), 3), "event": event, **values}) + "\n")

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one row to metrics.csv: step, name, value."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([step, name, f"{value:.6g}"] for name, value in values.items())
        self._append("metrics.csv", text.getvalue())

    def _append(self, name: str, text: str) -> None:
        try:
            with (self.folder / name).open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise TinctError(
                f"cannot write {self.folder / name}: {error.strerror}; free some space and --resume"
            ) from error

    def _drop_rows_after(self, state: Mapping[str, Any]) -> None:
        """Forget the metrics of steps that will be taken again, and of a row that an interruption cut short."""
        step, scores = state["step"], state.get("scores") or {}
        cut_short = bool((state.get("begun") or {}).get("steps"))

        def stays(row: Sequence[str]) -> bool:
            if len(row) != 3 or not row[0].isdecimal():
                return False
            return int(row[0]) < step or (int(row[0]) == step and (row[1] in scores or not cut_short))

        path = self.folder / "metrics.csv"
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:] if path.exists() else []
        kept = [["step", "name", "value"], *filter(stays, rows)]
        write_text(path, "".join(f"{','.join(row)}\n" for row in kept))

    def finished(self) -> bool:
        """Whether the run has its record."""
        return (self.folder / RECORD).exists()


def read_record(folder: Path) -> dict[str, Any]:
    """A run's record.

    Raises:
        TinctError: there is none that can be read.
    """
    return read_json(folder / RECORD, f"is {folder} a finished run?")


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory, as safetensors wants them."""
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}

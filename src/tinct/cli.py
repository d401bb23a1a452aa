"""The command line: a command is a typed function, imported when it is called."""

import importlib
import inspect
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from tinct.arguments import parse
from tinct.errors import TinctError, out_of_memory

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": ("tinct.demo:demo", "see all of it on the photographs inside scikit-image"),
    "pretrain": ("tinct.pretrain:pretrain", "learn from unlabelled photographs by colouring them"),
    "colorize": ("tinct.coloring.files:colorize", "colour photographs"),
    "evaluate": ("tinct.evaluate:evaluate", "score a colorizer on photographs"),
    "transfer": ("tinct.transfer:transfer", "train on labels from an encoder, and score it"),
    "predict": ("tinct.predict:predict", "apply a trained classifier or segmenter to pictures"),
    "compare": ("tinct.compare:compare", "measure what pretraining adds on your labels"),
    "report": ("tinct.report:report", "make a page of what was measured"),
    "serve": ("tinct.app:serve", "colour photographs on a page in the browser"),
    "weights": ("tinct.fetch:weights", "list, verify and fetch weights that have names"),
    "export": ("tinct.export:export", "write weights for timm, torchvision, ONNX and others, and prove it"),
    "embed": ("tinct.embed:embed", "write a row of features for each picture"),
    "card": ("tinct.cards:card", "describe a run in Markdown, from its record"),
    "reproduce": ("tinct.reproduce:reproduce", "run a whole experiment: pretrain every arm, compare, report"),
    "data": ("tinct.data.inspect:data", "report what is in a set of photographs"),
}
"""name: where its function is, and what it does in a few words."""
WAIT_POLICY = "passive"
"""How torch's threads wait for each other: asleep, where OpenMP would have them spin. On an idle machine that makes no
difference to speak of; beside another program training is half as fast again (`benchmarks/beside_work.py`)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 done in part (the output says which part failed), 2 a mistake in the call, its data or
        its settings (one line on standard error), 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # as standard error: names may be of any bytes, and Windows writes into a pipe in an encoding without many letters
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help"):
        print(usage())  # noqa: T201
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("tinct"))  # noqa: T201
        return 0
    name, *rest = words
    command: Callable[..., int | None] = main  # until its own is imported, for which memory may not suffice
    try:
        if name not in COMMANDS:
            raise TinctError(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}")
        from tinct.data.decode import hide_warnings  # not above: numpy takes its time

        hide_warnings()
        heed_endings()
        if "torch" not in sys.modules:  # it reads these once; a program that called us has its own way
            os.environ.setdefault("OMP_WAIT_POLICY", WAIT_POLICY)
            os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what an older torch lacks on MPS the CPU does
        module, _, function = COMMANDS[name][0].partition(":")
        command = getattr(importlib.import_module(module), function)
        return command(**parse(name, command, rest)) or 0
    except TinctError as error:
        print(f"tinct {name}: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return 2
    except OSError as error:  # a folder that may not be entered, a name that is too long: nothing that tinct can mend
        where = f"{error.filename}: " if error.filename else ""
        print(f"tinct {name}: {where}{error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 2
    except (MemoryError, RuntimeError) as error:  # torch's own are RuntimeErrors; it is not imported here
        if not out_of_memory(error):
            raise
        print(f"tinct {name}: out of memory; {lighter(command)}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt as error:
        print(error if str(error) else "interrupted", file=sys.stderr)  # noqa: T201
        return 130


def heed_endings() -> None:
    """Let SIGTERM, and the closing of the terminal, end a command as Ctrl-C does: unfinished files are removed."""
    if threading.current_thread() is threading.main_thread():
        for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup has one ignored
                signal.signal(number, signal.default_int_handler)


def lighter(command: Callable[..., Any]) -> str:
    """What to do where memory does not suffice: lower those of its options that take it."""
    bundles = [kind for kind in get_type_hints(command).values() if is_dataclass(kind)]
    names = {*inspect.signature(command).parameters, *(field.name for bundle in bundles for field in fields(bundle))}
    options = [f"--{option.replace('_', '-')}" for option in ("batch_size", "size", "jobs") if option in names]
    return f"lower {' or '.join(options)}" if options else "end other programs, or take a machine with more"


def usage() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: tinct COMMAND ...", "", *lines, "", "tinct COMMAND --help says more of one."])

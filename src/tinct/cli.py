"""The command line: a command is a typed function, imported when it is called."""

import _thread
import contextlib
import importlib
import inspect
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from tinct.arguments import bundles_of, parse
from tinct.errors import TinctError, one_line, out_of_memory

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": ("tinct.demo:demo", "try all of it on the photographs that come with scikit-image"),
    "pretrain": ("tinct.pretrain:pretrain", "learn from unlabelled photographs by colouring them"),
    "colorize": ("tinct.coloring.files:colorize", "colour photographs and films"),
    "evaluate": ("tinct.evaluate:evaluate", "score a colorizer on colour photographs"),
    "transfer": ("tinct.transfer:transfer", "train a classifier or segmenter from an encoder, and score it"),
    "predict": ("tinct.predict:predict", "apply a trained classifier or segmenter to pictures"),
    "compare": ("tinct.compare:compare", "measure what pretraining adds on your labels"),
    "report": ("tinct.report:report", "make a page from the records of experiments"),
    "serve": ("tinct.app:serve", "colour photographs on a web page on this machine"),
    "weights": ("tinct.fetch:weights", "list, verify, fetch and add named weights"),
    "export": ("tinct.export:export", "write weights for timm, torchvision, ONNX and others, and check them"),
    "embed": ("tinct.embed:embed", "write a row of features for each picture"),
    "card": ("tinct.cards:card", "describe a run in Markdown, from its record"),
    "reproduce": ("tinct.reproduce:reproduce", "run a whole experiment: pretrain every arm, compare, report"),
    "data": ("tinct.data.inspect:data", "show what is in a set of photographs"),
}
"""name: where its function is, and what it does in a few words."""
WAIT_POLICY = "passive"
"""How torch's threads wait for each other: asleep, where OpenMP would have them spin. On an idle machine that makes no
difference to speak of; beside another program training is half as fast again (`benchmarks/beside_work.py`)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 done, 1 done in part (the output says which part failed), 2 a mistake in the call, its data or
        its settings (one line on standard error), 130 interrupted, 141 stopped without a word because whoever read the
        output has left, as shells call what SIGPIPE ends.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: Callable[..., int | None] = main  # until its own is imported, for which memory may not suffice
    said = " ".join(["tinct", *words[:1]])
    try:
        with usable_output(), endings_heeded():
            if not words or words[0] in ("-h", "--help"):
                print(usage())  # noqa: T201
                return 0
            if words[0] == "--version":
                from importlib.metadata import version

                print(version("tinct"))  # noqa: T201
                return 0
            name, *rest = words
            if name not in COMMANDS:
                raise TinctError(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}")
            from tinct.data.decode import hide_warnings  # not above: numpy takes its time

            hide_warnings()
            if "torch" not in sys.modules:  # it reads these once; a program that called us has its own way
                os.environ.setdefault("OMP_WAIT_POLICY", WAIT_POLICY)
                os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # what MPS lacks the CPU does
            module, _, function = COMMANDS[name][0].partition(":")
            command = getattr(importlib.import_module(module), function)
            return command(**parse(name, command, rest)) or 0
    except BrokenPipeError:
        return 141
    except TinctError as error:
        complain(f"{said}: {one_line(error)}")
        return 2
    except OSError as error:  # a folder that may not be entered, a name that is too long: nothing that tinct can mend
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{said}: {where}{error.strerror or error}")
        return 2
    except (MemoryError, RuntimeError) as error:  # torch's own are RuntimeErrors; it is not imported here
        if not out_of_memory(error):
            raise
        complain(f"{said}: out of memory; {lighter(command)}")
        return 2
    except KeyboardInterrupt as error:
        complain(str(error) or "interrupted")
        return 130
    finally:
        let_go()


@contextlib.contextmanager
def usable_output() -> Iterator[None]:
    """Take what a command prints, of any letters and also where nobody does, and send all of it off at the end.

    Raises:
        OSError: it cannot be: the disk is full, the pipe is closed.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    # as standard error: names may be of any bytes, and Windows' pipes and plain ASCII have an encoding of few letters
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except SystemExit:  # after --help
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def complain(text: str) -> None:
    """Print a line on standard error, if anybody reads that."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)  # noqa: T201


def let_go() -> None:
    """Drop what cannot be printed, or Python would try again at its end, and fail with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def endings_heeded() -> Iterator[None]:
    """Let SIGTERM, and the closing of the terminal, end a command as Ctrl-C does: unfinished files are removed.

    Where the interruption comes in a destructor, which Python lets no error leave, it is sent again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    hook = sys.unraisablehook
    numbers = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # nohup has one ignored

    timers: list[threading.Timer] = []

    def send_again(lost: "sys.UnraisableHookArgs") -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)
            return
        timers.append(threading.Timer(0.1, interrupt))  # when the destructor has ended
        timers[-1].daemon = True
        timers[-1].start()

    sys.unraisablehook = send_again
    for number in ours:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for timer in timers:
            timer.cancel()
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def interrupt() -> None:
    """Interrupt the main thread, also where it sleeps; not by SIGINT, which the background of a script has ignored."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def lighter(command: Callable[..., Any]) -> str:
    """What to do where memory does not suffice: lower those of its options that take it."""
    names = {*inspect.signature(command).parameters}
    names |= {field.name for bundle in bundles_of(command).values() for field in fields(bundle)}
    options = [f"--{option.replace('_', '-')}" for option in ("batch_size", "size", "jobs") if option in names]
    return f"lower {' or '.join(options)}" if options else "end other programs, or take a machine with more"


def usage() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(["usage: tinct COMMAND ...", "", *lines, "", "tinct COMMAND --help lists its options."])

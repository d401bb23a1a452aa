"""What goes to a terminal, or into a pipe or file, where lines have no end and nothing is cut."""

from datetime import timedelta
from typing import Any, Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

__all__ = ["column", "moves", "open_console", "progress_bar", "say"]

ENDLESS = 10_000
"""Columns of what is no terminal; rich would take 80, and shorten what does not fit."""
LOGGED_EVERY = 60.0
"""Seconds between lines of a log that take a bar's place."""


def open_console(stderr: bool = False) -> Console:
    """Standard output, or standard error, for people and for pipes; texts are printed as they are."""
    console = _Console(stderr=stderr, markup=False, highlight=False)
    if not moves(console):
        console.width = ENDLESS
    return console


def moves(console: Console) -> bool:
    """Whether a bar can move there: in a terminal or notebook, not in a pipe or file."""
    return console.is_terminal or console.is_jupyter


class _Console(Console):
    """One whose closed pipe is an error like others, where rich would end the program as if it were done in part."""

    def on_broken_pipe(self) -> None:
        """See `rich.console.Console`."""
        raise BrokenPipeError


def say(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is on any console, also a program's own, unbroken, so that a path in it can be copied.

    What a file's name has that is no text becomes a question mark.
    """
    plain = text.encode("utf-8", "replace").decode()
    console.print(plain, style=style, markup=False, highlight=False, soft_wrap=True)


def progress_bar(console: Console, *last: ProgressColumn, transient: bool = False) -> Progress:
    """A bar with its task's description before and its count behind, then `last`, by default the time that remains.

    Where none can move, a line a minute takes its place.
    """
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    kind = Progress if moves(console) else _Log
    return kind(*columns, *(last or (TimeRemainingColumn(),)), console=console, transient=transient)


class _Log(Progress):
    """Lines such as `colouring: 12 of 300, 0:01:00`, the first after a minute."""

    def __init__(self, *columns: ProgressColumn, console: Console, transient: bool) -> None:
        super().__init__(*columns, console=console, transient=transient, disable=True)
        self._due = self.get_time() + LOGGED_EVERY

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """See `rich.progress.Progress`."""
        super().advance(task_id, advance)
        self._log(task_id)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """See `rich.progress.Progress`."""
        super().update(task_id, **changes)
        self._log(task_id)

    def _log(self, task_id: TaskID) -> None:
        if self.get_time() < self._due:
            return
        self._due = self.get_time() + LOGGED_EVERY
        task = next(task for task in self.tasks if task.id == task_id)
        total = "" if task.total is None else f" of {task.total:.0f}"
        say(
            self.console,
            f"{task.description}: {task.completed:.0f}{total}, {timedelta(seconds=int(task.elapsed or 0))}",
        )


def column(heading: str = "", justify: Literal["left", "right"] = "left") -> Column:
    """A table's column whose long words go on in the next line, where rich would end them with an ellipsis."""
    return Column(heading, justify=justify, overflow="fold")

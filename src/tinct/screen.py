"""What goes to a terminal, or into a pipe or file, where lines have no end and nothing is cut."""

from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

__all__ = ["column", "open_console", "progress_bar", "say"]

ENDLESS = 10_000
"""Columns of what is no terminal; rich would take 80, and shorten what does not fit."""


def open_console(stderr: bool = False) -> Console:
    """Standard output, or standard error, for people and for pipes; texts are printed as they are."""
    console = _Console(stderr=stderr, markup=False, highlight=False)
    if not console.is_terminal and not console.is_jupyter:
        console.width = ENDLESS
    return console


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
    """A bar with its task's description before and its count behind, then `last`, by default the time that remains."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    return Progress(*columns, *(last or (TimeRemainingColumn(),)), console=console, transient=transient)


def column(heading: str = "", justify: Literal["left", "right"] = "left") -> Column:
    """A table's column whose long words go on in the next line, where rich would end them with an ellipsis."""
    return Column(heading, justify=justify, overflow="fold")

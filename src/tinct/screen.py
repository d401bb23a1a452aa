"""What goes to a terminal, or into a pipe or file, where lines have no end and nothing is cut."""

from typing import Literal

from rich.console import Console
from rich.table import Column

__all__ = ["column", "open_console"]

ENDLESS = 10_000
"""Columns of what is no terminal; rich would take 80, and shorten what does not fit."""


def open_console(stderr: bool = False) -> Console:
    """Standard output, or standard error, for people and for pipes; texts are printed as they are, without markup."""
    console = Console(stderr=stderr, markup=False)
    if not console.is_terminal and not console.is_jupyter:
        console.width = ENDLESS
    return console


def column(heading: str = "", justify: Literal["left", "right"] = "left") -> Column:
    """A table's column whose long words go on in the next line, where rich would end them with an ellipsis."""
    return Column(heading, justify=justify, overflow="fold")

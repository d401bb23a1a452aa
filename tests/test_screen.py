import os
import pty
import re
import subprocess
import sys

from rich.console import Console
from rich.progress import TimeElapsedColumn
from rich.table import Table

from tinct.screen import column, open_console, progress_bar, say

LONG = "a/long/name/" * 30
SAY = """
from rich.table import Table
from tinct.screen import column, open_console
table = Table(column("failed"), column("why", "right"))
table.add_row("a/long/name/" * 30, "gone")
open_console().print(table)
"""


def test_a_pipe_takes_whole_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for stderr in (False, True):
        table = Table(column("failed"), column("why"))
        table.add_row(LONG, "gone")
        open_console(stderr).print(table)
        said = capsys.readouterr()
        assert f"{LONG} │ gone" in (said.err if stderr else said.out)
        open_console(stderr).print(" ".join([LONG] * 20))
        said = capsys.readouterr()
        assert (said.err if stderr else said.out).count("\n") == 1


def test_a_line_is_said_as_it_is_on_any_console(capsys):
    for console in (open_console(), Console(width=40, force_terminal=True)):
        say(console, f"[bold]{LONG}\udcff 12")
        assert capsys.readouterr().out == f"[bold]{LONG}? 12\n"


def test_a_bar_says_its_title_as_it_is(capsys):
    with progress_bar(open_console(), TimeElapsedColumn()) as progress:
        progress.update(progress.add_task("[red] in DIR", total=3), completed=2)
    assert re.fullmatch(r"\[red\] in DIR \S+ +2/3 0:00:0\d", capsys.readouterr().out.strip())


def test_a_terminal_folds():
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", SAY], stdout=theirs, check=True, env={**os.environ, "COLUMNS": "60"})
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        shown = terminal.read1(1 << 16).decode()
    assert "…" not in shown
    rows = [line.split("│")[1].strip() for line in shown.splitlines() if line.count("│") == 3]
    assert "".join(rows) == LONG
    assert len(shown.splitlines()[0]) == 60

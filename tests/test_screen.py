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
    with progress_bar(Console(force_terminal=True, no_color=True, width=90), TimeElapsedColumn()) as progress:
        progress.update(progress.add_task("[red] in DIR", total=3), completed=2)
    assert re.search(r"\[red\] in DIR \S+ +2/3 0:00:0\d", re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().out))


def test_a_log_has_a_line_a_minute_in_place_of_a_bar(capsys):
    console, clock = open_console(), [1000.0]
    console.get_time = lambda: clock[0]
    with progress_bar(console) as progress:
        bar, film = progress.add_task("[red] in DIR", total=3), progress.add_task("a film", total=None)
        for task, clock[0] in ((bar, 1030.0), (bar, 1090.0), (film, 1100.0), (film, 1160.0)):
            progress.advance(task)
    assert capsys.readouterr().out.splitlines() == ["[red] in DIR: 2 of 3, 0:01:30", "a film: 2, 0:02:40"]
    with progress_bar(open_console()) as progress:
        assert list(progress.track(range(3))) == [0, 1, 2]
    assert capsys.readouterr().out == ""


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

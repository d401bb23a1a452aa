"""The overview of commands, and what each says of itself."""

import importlib
import re

import pytest

from tinct.cli import COMMANDS, main


def test_the_overview_has_a_line_for_each_command(capsys):
    assert main(["--help"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [f"{name} {words}" for name, (_, words) in COMMANDS.items() if f"{name} {words}" not in lines] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_docstring_in_plain_text(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    page = capsys.readouterr().out
    module, _, function = COMMANDS[name][0].partition(":")
    text = getattr(importlib.import_module(module), function).__doc__
    said = re.split(r"\n *(?:Args|Returns|Raises):\n", text)[0].replace("`", "")
    assert "".join(said.split()) in "".join(page.split())  # which is wrapped, at hyphens too
    assert "`" not in page
    assert "<class" not in page
    assert "Raises" not in page

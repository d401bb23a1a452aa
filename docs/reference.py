"""What the site's pages of commands and files get from the source: every `--help`, and every file's one idea."""

import ast
import contextlib
import importlib
import io
import os
from pathlib import Path
from unittest import mock

from tinct.arguments import parse
from tinct.cli import COMMANDS

PACKAGE = Path(__file__).parents[1] / "src" / "tinct"
WIDTH = "90"


def commands() -> str:
    """A section a command, with what its `--help` says."""
    return "\n".join(
        f"## {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n```text\n{_help(name, where)}\n```\n"
        for name, (where, summary) in COMMANDS.items()
    )


def files() -> str:
    """A section a folder of the package, with the first line of each file's docstring."""
    folders = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    return "\n".join(_section(folder) for folder in folders)


def _help(name: str, where: str) -> str:
    module, _, function = where.partition(":")
    text = io.StringIO()
    command = getattr(importlib.import_module(module), function)
    with mock.patch.dict(os.environ, COLUMNS=WIDTH), contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        parse(name, command, ["--help"])
    return text.getvalue().rstrip()


def _section(folder: Path) -> str:
    name = "/".join(("tinct", *folder.relative_to(PACKAGE).parts))
    rows = [f"| `{path.stem}` | {_idea(path)} |" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    return "\n".join((f"## {name}\n\n{_idea(folder / '__init__.py')}\n", "| file | idea |\n|---|---|", *rows, ""))


def _idea(path: Path) -> str:
    documented = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(documented.split("\n\n")[0].split())


PAGES = {"commands": commands, "files": files}
"""page: what stands below its text."""

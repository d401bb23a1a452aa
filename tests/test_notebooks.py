"""The notebooks run from top to bottom, with a few steps in place of many."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def test_both_are_there():
    assert [path.stem for path in NOTEBOOKS] == ["my-own-pictures", "ten-minutes"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("TINCT_NOTEBOOK_STEPS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # pictures and paths of one machine stay out of it
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output for cell in codes for output in cell.outputs]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in shown]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", "".join(texts))
    assert re.search(r"\b(2 paired seeds|all 2 pairs agree)\b", " ".join(plain.split()))
    assert not {"1", "2", "130"} & set(texts)  # exit codes of commands that failed

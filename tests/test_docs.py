"""What README and docs tell people to type is what tinct takes."""

import doctest
import importlib
import lzma
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_colourful
from fake_films import photograph, write_film
from PIL import Image

from tinct.arguments import parse
from tinct.cli import COMMANDS
from tinct.evaluate import PROTOCOLS
from tinct.evidence.records import COLOUR_SCORES
from tinct.objectives.base import Decoding

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> set[str]:
    """`tinct ...` lines of shell blocks, and whole commands in running text or tables."""
    lines = [line.partition("  #")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    spans = re.findall(r"`(tinct [a-z]+ [^`]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL))
    return {line for line in (*lines, *(" ".join(span.split()) for span in spans)) if line.startswith("tinct ")}


TYPED = sorted({line for page in PAGES for line in commands(page)})


def test_there_is_something_to_type():
    assert len(TYPED) > 15


@pytest.mark.parametrize("line", TYPED)
def test_what_is_typed_is_understood(line, tmp_path, monkeypatch):
    _, name, *words = shlex.split(line)
    assert name in COMMANDS, line
    monkeypatch.chdir(tmp_path)
    if "--config" in words:  # the one file that is read while parsing
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "config.yaml").write_text("sources: ['photos:']\nsteps: 3\n")
    module, _, function = COMMANDS[name][0].partition(":")
    parse(name, getattr(importlib.import_module(module), function), words)


def test_every_command_is_named_in_the_readme():
    text = PAGES[0].read_text()
    assert [name for name in COMMANDS if f"tinct {name}" not in text] == []


def test_every_figure_of_colour_is_explained_under_the_key_that_records_have():
    page = (ROOT / "docs" / "method.md").read_text()
    assert [key for key in (*PROTOCOLS, *COLOUR_SCORES, "balance") if f"`{key}`" not in page] == []


@pytest.mark.parametrize("module", ["color", "config", "data.sources"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(f"tinct.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(ROOT / "docs"), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "tinct-small" in (tmp_path / "site" / "index.html").read_text()
    assert list((tmp_path / "site" / "_downloads").glob("*/tinct-small.md"))  # a link out of the folder of pages
    commands, files = ((tmp_path / "site" / f"{page}.html").read_text() for page in ("commands", "files"))
    assert [name for name in COMMANDS if f"usage: tinct {name}" not in commands] == []
    assert "<h2>tinct/pretraining" in files
    assert "The loop of pretraining" in files
    assert "<mi>&#x003BB;</mi>" in (tmp_path / "site" / "method.html").read_text()
    pages = [page.read_text() for page in (tmp_path / "site").glob("*.html")]
    assert [found for page in pages for found in re.findall('<(?:script|link)[^>]* (?:src|href)="http.*?"', page)] == []


def test_python_in_the_readme(tmp_path, monkeypatch):
    (example,) = blocks(ROOT / "README.md", "python")
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("old-photo.jpg")
    write_colourful(tmp_path / "my-photos", 2)
    names: dict = {}
    exec(example, names)
    assert (names["coloured"].mode, names["coloured"].size) == ("RGB", (256, 256))
    assert np.load("features.npy").shape == (2, names["encoder"].channels[-1])


def test_colouring_from_python_as_the_docs_have_it(tmp_path, monkeypatch):
    (example,) = blocks(ROOT / "docs" / "colour.md", "python")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    packed = (ROOT / "tests" / "fixtures" / "colorizer-v1.safetensors.xz").read_bytes()
    (tmp_path / "run" / "colorizer.safetensors").write_bytes(lzma.decompress(packed))
    Image.linear_gradient("L").resize((384, 384)).save("old.jpg", dpi=(300, 300), xmp=b"<x:xmpmeta/>")
    write_film(tmp_path / "old.avi", [photograph()] * 2)
    names: dict = {}
    exec(example, names)
    assert (tmp_path / "coloured.mp4").stat().st_size > 0
    assert (names["coloured"].mode, names["coloured"].size) == ("RGB", (384, 384))
    red, _, blue = names["blue"].getpixel((120, 340))
    assert blue > red + 5  # light as the place is
    with Image.open("new.jpg") as new:
        assert (new.info["dpi"], new.info["xmp"]) == ((300, 300), b"<x:xmpmeta/>")
        assert new.info["icc_profile"] == names["coloured"].info["icc_profile"]


def test_an_objective_and_sources_as_the_docs_have_them():
    """They run as a package in test_plugins."""
    objective, source, labelled = blocks(ROOT / "docs" / "extend.md", "python")
    for example in (objective, source, labelled):  # which people copy
        as_a_module = f'"""A docstring."""\n\n{example}'
        ruff = ["ruff", "check", "--stdin-filename", str(ROOT / "src" / "tinct" / "data" / "example.py"), "-"]
        checked = subprocess.run([sys.executable, "-m", *ruff], input=as_a_module, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
    names: dict = {}
    exec(objective, names)
    term, ab = names["Charbonnier"](), torch.randn(2, 2, 4, 4)
    assert term.decode(torch.zeros(1, term.out_channels, 4, 4)).shape == (1, 2, 4, 4)
    assert float(term.loss(ab / 110, ab)) == pytest.approx(1)  # ab_norm is ab / 110
    term.decoding = Decoding(gain=1.5)  # as calibration sets it
    assert torch.allclose(term.decode(ab / 110), 1.5 * ab)

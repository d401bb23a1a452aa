"""What a user installs: the wheel alone, without a network, colours a picture."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tinct.shipped import SHIPPED, entries

ROOT = Path(__file__).parents[1]
OFFLINE = """
import socket, sys
def refuse(*_): raise OSError("the network is cut")
socket.socket.connect = socket.getaddrinfo = refuse
sys.path.insert(0, sys.argv.pop(1))
import tinct
assert str(tinct.__file__).startswith(sys.path[0]), tinct.__file__
from tinct.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(folder / done.stdout.split()[-1]) as file:
        file.extractall(folder / "unpacked")
    return folder / "unpacked"


def tinct(wheel, *words):
    command = [sys.executable, "-c", OFFLINE, wheel, *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)


def test_the_wheel_holds_recipes_page_and_weights(wheel):
    inside = {path.name for path in wheel.rglob("*") if path.is_file()}
    assert {"fast.yaml", "paper.yaml", "page.js", "py.typed", "manifest.json"} <= inside
    assert {entry.file for entry in entries(SHIPPED).values()} <= inside


def test_the_wheel_colours_a_picture_without_a_network(wheel, tmp_path):
    Image.fromarray(data.astronaut()).convert("L").resize((160, 120)).save(tmp_path / "grey.png")
    done = tinct(wheel, "colorize", tmp_path / "grey.png", "-o", tmp_path / "out.png", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    coloured = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
    assert coloured.shape == (120, 160, 3)
    assert np.abs(coloured[..., 0] - coloured[..., 2]).mean() > 3  # in colour
    verified = tinct(wheel, "weights", "verify")
    assert verified.returncode == 0, verified.stderr

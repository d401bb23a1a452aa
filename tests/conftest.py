"""Fakes that many tests share: small, generated, the same every time."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that asks the network shall fail at once
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start

import numpy as np
import pytest
import torch
from fake_labels import make_table
from PIL import Image

# A shell that starts the tests in the background has these ignored, and so would have what tests send signals to.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

torch.set_num_threads(1)  # bit-equality tests compare runs with the same threads; and the suite runs in parallel


@pytest.fixture
def colourful(tmp_path: Path) -> Path:
    """A folder of 12 small colour PNGs: smooth gradients with a blob each, all different."""
    folder = tmp_path / "pictures"
    write_colourful(folder, 12)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spec of a small table of labelled pictures."""
    return make_table(tmp_path_factory.mktemp("labels"))


@pytest.fixture
def odd_defaults(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Defaults of torch's that a program around tinct may have set."""
    monkeypatch.setattr("tinct.models.encoder._SEEN", {})
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    assert (torch.get_default_dtype(), torch.get_default_device().type) == (torch.float64, "meta")
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def write_colourful(folder: Path, count: int, side: int = 48, seed: int = 0) -> None:
    """Write `count` PNGs of `side` pixels, each a two-colour gradient with a disc in a third colour."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    for index in range(count):
        first, second, third = draw.integers(0, 256, (3, 3))
        ramp = (np.cos(draw.uniform(0, 6)) * x + np.sin(draw.uniform(0, 6)) * y)[..., None]
        picture = first + (second - first) * (ramp - ramp.min()) / np.ptp(ramp)
        cx, cy = draw.uniform(0.2, 0.8, 2)
        picture[(x - cx) ** 2 + (y - cy) ** 2 < 0.03] = third
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{index:04d}.png")

import os
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import connector

from tinct.engine import MOST_READERS, make_fabric, readers
from tinct.errors import TinctError


@pytest.mark.parametrize(
    ("device", "cores", "ranks", "asked", "number"),
    [
        ("cpu", 64, 1, None, 1),  # its cores train
        ("cpu", 64, 2, 3, 3),
        ("cuda", 6, 1, None, 6),
        ("cuda", 64, 1, None, MOST_READERS),
        ("cuda", 8, 4, None, 2),
        ("cuda", 2, 4, None, 1),
        ("cuda", 8, 1, 0, 0),
        ("mps", None, 1, None, 1),  # what the cores are is not known
    ],
)
def test_a_gpu_has_its_share_of_the_cores_to_read_pictures(monkeypatch, device, cores, ranks, asked, number):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert readers(SimpleNamespace(device=torch.device(device), world_size=ranks), asked) == number


def test_in_a_notebook_several_devices_are_refused_with_what_helps(monkeypatch):
    monkeypatch.setattr(connector, "_IS_INTERACTIVE", True)
    with pytest.raises(TinctError, match=r"cannot run with .*, devices 2, .*; try --accelerator auto, or --devices 1$"):
        make_fabric("cpu", "32-true", "2")

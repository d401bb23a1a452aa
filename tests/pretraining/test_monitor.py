"""What is scored at a checkpoint, and what a run says on its way."""

import numpy as np
import pytest
import torch

from tinct.config import Config, stored
from tinct.data.ledger import Ledger
from tinct.data.photos import Photos
from tinct.engine import make_fabric
from tinct.pretraining.heldout import colour_scores
from tinct.pretraining.learner import Learner
from tinct.pretraining.monitor import Monitor
from tinct.runs import Run
from tinct.weights import ColourNet


def test_the_average_is_scored(tmp_path):
    config = Config(sources=["photos:"], backbone="test_resnet", width=8, size=32, steps=1, adversarial="none")
    fabric = make_fabric("cpu", "32-true")
    learner = Learner(config, fabric)
    with torch.no_grad():
        for parameter in learner.pretext.parameters():
            parameter.fill_(torch.nan)
    run = Run(tmp_path / "run")
    run.open(stored(config), False)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    with Monitor(run, config, fabric, Ledger(Photos(), 8), pixels, 0, None) as monitor:
        scores = monitor.scores(learner, 1)
    average = learner.ema.module
    finished = ColourNet(average.generator, average.colour, {})  # which decodes as it was calibrated by now
    assert scores == pytest.approx(colour_scores(finished, pixels, torch.device("cpu")))


@pytest.mark.parametrize(
    ("waited", "cache", "said"),
    [
        ((0.9, 0.1, 0.1), None, ""),  # readers start in the first row
        ((0.1, 0.1, 0.25), None, ""),
        ((0.1, 0.3, 0.4), None, "30% of the time is spent waiting for pictures: raise --workers (1 now), or begin"),
        ((0.1, 0.1, 0.4), "cache", "25% of the time is spent waiting for pictures: raise --workers (1 now)\n"),
    ],
)
def test_long_waits_for_pictures_are_said_once(waited, cache, said, tmp_path, capsys):
    config = Config(sources=["photos:"], steps=60, cache=cache)
    run = Run(tmp_path / "run")
    run.open(stored(config), False)
    none = np.empty((0, 64, 64, 3), np.uint8)
    with Monitor(run, config, make_fabric("cpu", "32-true"), Ledger(Photos(), 8), none, 0, None) as monitor:
        for row, share in enumerate(waited):
            for step in range(20):
                monitor.step(20 * row + step + 1, 60, {"bins": 1.0}, 1.0, share)
    lines = capsys.readouterr().err
    assert said in lines
    assert lines.count("waiting for pictures") == bool(said)

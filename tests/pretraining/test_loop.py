"""The course of a run's rates and adversary, its budget, and what it is shown, with steps that only look on."""

import errno
import json
import math
import multiprocessing
import time
from types import SimpleNamespace

import numpy as np
import pytest
import test_pretrain
import torch

from tinct.config import Config
from tinct.data.loader import Photographs
from tinct.data.sources import open_sources
from tinct.errors import TinctError
from tinct.pretrain import run_pretrain
from tinct.pretraining import loop
from tinct.pretraining.learner import Learner
from tinct.pretraining.preparation import set_aside


@pytest.fixture
def steps(monkeypatch):
    """What each step was given: its batches, its rate and the adversary's weight; a step takes as long as `lasting`."""
    seen, clock = SimpleNamespace(parts=[], rates=[], weights=[], lasting=lambda step: 1.0), [0.0]

    def look(self, parts, step, rate, weight):
        assert step == len(seen.rates)
        seen.parts += parts
        seen.rates.append(rate)
        seen.weights.append(weight)
        clock[0] += seen.lasting(step)
        return {"l1": 1.0}

    monkeypatch.setattr(Learner, "learn", look)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    return seen


def cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


@pytest.fixture
def tiny(colourful):
    """Settings of runs whose pictures are few, and of no steps that are scored on the way."""

    def changed(**changes: object) -> Config:
        few = {"sources": [str(colourful)], "terms": {"l1": 1.0}, "backbone": "test_resnet", "checkpoint_every": 99}
        return test_pretrain.tiny(**few, **changes)

    return changed


@pytest.mark.parametrize("warmup", [2, 100])  # a fifth of the steps at most
def test_rates_rise_and_fall_and_the_adversary_joins(tmp_path, tiny, steps, warmup):
    settings = {"steps": 14, "adversarial_weight": 0.2, "adversarial_start": 0.5}
    run_pretrain(tiny(warmup_steps=warmup, **settings), out=tmp_path / "run")
    assert steps.rates == pytest.approx([0.5, 1.0, *(cosine(step / 12) for step in range(12))])
    assert steps.weights == [None] * 7 + [0.2] * 7


@pytest.mark.parametrize(
    ("changes", "weight"),
    [
        ({"adversarial": "none", "steps": 3}, None),
        ({"adversarial_start": 0.0, "minutes": 0.01, "warmup_steps": 30, "steps": None}, 0.3),
        ({"adversarial_start": 1.0, "steps": 3}, None),
    ],
)
def test_an_adversary_may_be_there_always_or_never(tmp_path, tiny, steps, changes, weight):
    run_pretrain(tiny(adversarial_weight=0.3, **changes), out=tmp_path / "run")
    assert set(steps.weights) == {weight}


def test_minutes_become_the_steps_that_fit(tmp_path, tiny, steps):
    slow = dict.fromkeys(range(5), 100.0) | {7: 40.0, 20: 30.0}  # filling caches, and what else the machine did
    lengths = slow | dict.fromkeys(range(11, 15), 3.0)  # so 2 s in the middle with the discriminator, and 1 s without
    steps.lasting = lambda step: lengths.get(step, 1.0)
    budget = {"steps": None, "minutes": 1.0, "warmup_steps": 40}
    record = run_pretrain(tiny(**budget, adversarial_weight=0.2, adversarial_start=0.9), out=tmp_path / "run")
    total = 55  # 60 s of nine steps without to one with
    assert json.loads((tmp_path / "run" / "budget.json").read_text())["steps"] == record["budget"]["steps"] == total
    assert record["budget"]["seconds"] == sum(map(steps.lasting, range(total)))
    rising = [(step + 1) / 40 for step in range(40)]
    assert steps.rates == pytest.approx([*rising, *(cosine(step / 15) for step in range(15))])
    assert steps.weights == [0.0] * 15 + [None] * 35 + [0.2] * 5


@pytest.mark.parametrize("accumulate", [1, 2])
def test_order_and_crops_follow_from_the_runs_seed(tmp_path, tiny, steps, accumulate):
    config = tiny(seed=5, min_crop=0.7, steps=3, accumulate=accumulate)
    run_pretrain(config, out=tmp_path / "run")
    source = open_sources(config.sources)
    pool, _, _ = set_aside(config, source, np.empty(0, np.uint64))
    alone = {seed: Photographs(source, pool, 32, seed, 0.7) for seed in (5, 6)}
    readings = [reading for part in steps.parts for reading in part.readings]
    pixels, keys = (torch.cat([getattr(part, name) for part in steps.parts]) for name in ("pixels", "keys"))
    for position, reading in enumerate(readings):
        assert reading.position == position
        expected, other = alone[5][position], alone[6][position].reading
        assert (reading.index, reading.key) == (expected.reading.index, expected.reading.key)
        assert keys[position] == reading.key != other.key
        assert pixels[position].equal(expected.pixels)
    assert len(readings) == len(pixels) == 12
    assert [reading.index for reading in readings] != [alone[6][position].reading.index for position in range(12)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EOFError(), r"reads pictures was lost \(EOFError\); .* allow more open files \(ulimit -n\)"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), r"lost \(.*Connection refused\)"),
        (OSError(errno.EMFILE, "Too many open files"), r"lost \(.*Too many open files\)"),
        (RuntimeError("Pin memory thread exited unexpectedly"), r"lost \(Pin memory thread exited unexpectedly\)"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), None),  # of what is printed
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (EOFError("Caught EOFError in DataLoader worker process 0.\nOriginal Traceback"), None),  # of a source
    ],
)
def test_a_broken_connection_to_a_reader_is_a_sentence(error, said):
    reader = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    expected = pytest.raises(type(error)) if said is None else pytest.raises(TinctError, match=said)
    with expected, loop.readers_watched():
        reader.start()
        raise error
    reader.join()
    assert reader.exitcode < 0  # it would be waited for


def test_without_readers_no_error_is_theirs():
    with pytest.raises(EOFError), loop.readers_watched():
        raise EOFError

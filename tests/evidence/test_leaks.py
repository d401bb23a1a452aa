from types import SimpleNamespace

import numpy as np
import pytest
from fake_labels import make_table

from tinct.data.hashes import hash_of
from tinct.downstream.examples import open_labels
from tinct.evidence.grid import Arm
from tinct.evidence.leaks import evaluated_and_seen
from tinct.settings import TransferSettings


@pytest.mark.parametrize("evaluate", ["val", "tuning"])
def test_what_is_not_scored_is_no_leak(tmp_path, evaluate):
    spec = make_table(tmp_path)
    train, val = (open_labels(spec, split, "multilabel", 32) for split in ("train", "val"))
    part, where = (val, np.arange(12)) if evaluate == "val" else (train, train.parts()[0])
    known = [[hash_of(one.source, index) for index in range(len(one.source))] for one in (train, val)]
    starts = {
        "all": SimpleNamespace(provenance={}, seen=np.array(known[0] + known[1], np.uint64)),
        "none": SimpleNamespace(provenance={}, seen=np.zeros(0, np.uint64)),
        "foreign": SimpleNamespace(provenance={}, seen=None),
    }
    arms = [
        Arm(name, inits) for name, inits in (("x", ("none", "all")), ("y", ("foreign", "none")), ("z", ("random",)))
    ]
    found = evaluated_and_seen(arms, starts, TransferSettings(spec, "multilabel", evaluate=evaluate, size=32))
    assert found == ({"x": [part.source.name(int(index)) for index in where]}, {})

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_labels import make_table

from tinct.data.hashes import hash_of
from tinct.downstream.examples import open_labels
from tinct.evidence.grid import Arm
from tinct.evidence.leaks import evaluated_and_seen, leaks, untold
from tinct.settings import TransferSettings


@pytest.mark.parametrize("evaluate", ["val", "tuning"])
def test_what_is_not_scored_is_no_leak(tmp_path, evaluate):
    spec = make_table(tmp_path)
    rows = (tmp_path / "table.csv").read_text().splitlines()
    (tmp_path / "table.csv").write_text("\n".join([*rows[:-1], "41.png,,val,,"]))  # without labels, it is not scored
    train, val = (open_labels(spec, split, "multilabel", 32) for split in ("train", "val"))
    part, where = (val, np.arange(11)) if evaluate == "val" else (train, train.parts()[0])
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


def test_arms_with_an_encoder_of_unknown_pictures_are_told():
    known, none = np.arange(3, dtype=np.uint64), np.zeros(0, np.uint64)
    starts = {
        "told": SimpleNamespace(seen=known, provenance={"seen_known": True}),
        "older": SimpleNamespace(seen=known, provenance={}),
        "partly": SimpleNamespace(seen=known, provenance={"seen_known": False}),
        "foreign": SimpleNamespace(seen=None, provenance={}),
        "random": SimpleNamespace(seen=none, provenance={}),
    }
    arms = [Arm(name, inits) for name, inits in (("a", ("told", "older")), ("b", ("told", "partly")))]
    assert untold([*arms, Arm("c", ("random",)), Arm("d", ("foreign",))], starts) == ("b", "d")


@pytest.mark.parametrize(
    ("evaluate", "of_its_own", "begun"),
    [
        (
            "val",
            "leave them out of the val split, or pretrain another encoder with --exclude voc:here",
            "it started from run0, which saw them: start from random with --exclude voc:here, or leave them out of the",
        ),
        (
            "tuning",
            *["they are training pictures: --exclude keeps them out as a text file of paths, or score another split"]
            * 2,
        ),
    ],
)
def test_a_leak_names_ten_pictures_and_a_remedy_that_is_at_hand(evaluate, of_its_own, begun):
    grid = SimpleNamespace(
        common=SimpleNamespace(source="voc:here", evaluate=evaluate),
        arms=[Arm("ours", ("tinct-small-ssl", "run")), Arm("theirs", ("tinct-small-ssl",))],
        seen={"ours": [f"p{number}" for number in range(12)], "theirs": [f"p{number}" for number in range(10)]},
        untold=("x", "y"),
        inherited={"theirs": "run0"},
        out=Path("grid"),
    )
    ours, theirs, unknown = leaks(grid)
    said = "evaluated pictures, or near-copies of them, are among those that its encoder saw: "
    names = ", ".join(f"p{number}" for number in range(10))
    assert ours == f"ours: 12 {said}{names} and 2 more (see {Path('grid', 'compare.json')}); {of_its_own}"
    assert theirs.startswith(f"theirs: 10 {said}{names}; {begun}")
    assert unknown.startswith("x, y: which pictures its weights were made from is not known in full")

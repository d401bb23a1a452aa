from pathlib import Path

import numpy as np
import pytest

from tinct.errors import TinctError
from tinct.evidence.grid import Arm
from tinct.evidence.parsing import further, parallel, parse_arms, rates_of, words


def test_arms_as_written():
    assert parse_arms("random,cgan=a/run0:b/run1,timm:resnet18,t=timm:resnet18.a1:x:timm:b,w/enc.safetensors") == (
        Arm("random", ("random",)),
        Arm("cgan", ("a/run0", "b/run1")),
        Arm("timm-resnet18", ("timm:resnet18",)),
        Arm("t", ("timm:resnet18.a1", "x", "timm:b")),
        Arm("enc.safetensors", ("w/enc.safetensors",)),
    )
    assert [Arm("x", ("a", "b", "c")).init(seed) for seed in range(5)] == ["a", "b", "c", "a", "b"]


def test_values_of_a_program_mean_what_their_words_do():
    arms = parse_arms("random,mine=a/run0:a/run1,b=c")
    assert parse_arms(["random", "mine=a/run0:a/run1", "b=c"]) == arms
    assert parse_arms({"random": "random", "mine": [Path("a/run0"), "a/run1"], "b": Path("c")}) == arms
    assert parse_arms({"random": "random", "mine": "a/run0,a/run1", "b": ["c"]}) == arms
    assert parse_arms({"random": "random", "at": Path("enc 12:30")})[1] == Arm("at", ("enc 12:30",))
    assert parse_arms(("random", Path("a/run0")))[1] == Arm("run0", ("a/run0",))
    assert words("20, 0.5,all", "labels") == words([20, 0.5, "all"], "labels") == ["20", "0.5", "all"]
    assert words(20, "labels") == words(range(20, 30, 10), "labels") == ["20"]
    assert words(np.array([20, 30]), "labels") == words(20 + np.arange(0, 20, 10), "labels") == ["20", "30"]
    assert rates_of([1e-3, 3e-4]) == rates_of(("1e-3", "3e-4")) == rates_of("1e-3,3e-4")
    assert rates_of(0.1) == [0.1]


@pytest.mark.parametrize("given", [None, True, [True], [None], [["a"]], [], {"a": 1}, [20, "20"]])
def test_values_of_other_kinds_are_refused_in_a_line(given):
    with pytest.raises(TinctError, match=r"labels is .*; expected different words, numbers or paths"):
        words(given, "labels")
    with pytest.raises(TinctError, match=r"lrs is .*; expected different"):
        rates_of(given)
    with pytest.raises(TinctError, match="inits"):
        parse_arms(given)


def test_jobs_are_a_number():
    with pytest.raises(TinctError, match="jobs is '2'; expected int"):
        parallel("2")


@pytest.mark.parametrize(
    ("inits", "said"),
    [
        ("random", "nothing to compare"),
        ("", "expected different words, numbers or paths"),
        ("random,a b=run", "'a b' cannot name an arm"),
        ("random=run,x=other", "the arm 'random' is run; that name is the baseline's"),
        ("a/random,x=other", "the arm 'random' is a/random; that name is the baseline's"),
        ("random,mine=", "the arm 'mine' lacks an encoder; expected NAME=INIT"),
        ("random,mine=run:", "the arm 'mine' lacks an encoder"),
        ("random,x=run,x=other", "the arm 'x' is there twice"),
        ("random,x=run,y=run", "the encoder 'run' is there twice"),
    ],
)
def test_wrong_arms_are_named(inits, said):
    with pytest.raises(TinctError, match=said):
        parse_arms(inits)


@pytest.mark.parametrize(
    ("listed", "inits"),
    [
        (r"C:\a:D:/b:c", (r"C:\a", "D:/b", "c")),
        ("timm:resnet18:C:\\a", ("timm:resnet18", "C:\\a")),
        ("run:/a:/b", ("run", "/a", "/b")),
        ("a:b", ("a", "b")),
    ],
)
def test_a_drives_colon_separates_no_encoders(listed, inits):
    assert parse_arms(f"random,mine={listed}")[1].inits == inits


def test_wrong_settings_are_named():
    assert further(["input=rgb", "layer_decay=1", "weight_decay=1e-4", "balanced=true", "cache=x"]) == {
        "input": "rgb",
        "layer_decay": 1.0,
        "weight_decay": 1e-4,
        "balanced": True,
        "cache": "x",
    }
    for word, said in [
        ("seed=3", "expected KEY=VALUE with one of"),
        ("input=green", "input is 'green'; expected grey, rgb"),
        ("balanced=3", "balanced is 3; expected bool"),
        ("batch_size=1.5", "batch_size is 1.5; expected int"),
        ("weight_decay=1.2.3", "weight_decay is '1.2.3'; expected float"),
        ("balanced={", "balanced is '{'; expected bool"),
    ]:
        with pytest.raises(TinctError, match=said):
            further([word])
    for lrs in ("0.1,x", "0", "-1", "", "1e-3,0.001", "nan", "inf"):
        with pytest.raises(TinctError, match="lrs is"):
            rates_of(lrs)

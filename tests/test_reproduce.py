"""Whole experiments from a file: parsed, said, run and taken up again."""

import json
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest

from tinct.cli import main
from tinct.errors import TinctError
from tinct.evidence.parsing import parse_arms
from tinct.reproduce import check_comparisons, read_experiment

TINY = """
pretraining_seeds: 2
pretrain:
  {sources: ["{data}:"], recipe: l1, backbone: mobilenetv3_small_050, width: 8, size: 32, batch_size: 4, steps: 2,
   accelerator: cpu, workers: 0}
arms:
  cgan: {adversarial: hinge, adversarial_start: 0.0, discriminator_width: 4}
compare:
  classes: {source: "mosaic:", task: multilabel, inits: "random,cgan", labels: "20", seeds: 2, steps: 2, size: 32,
            lrs: "1e-3"}
"""


CLASSES = 'compare:\n  classes: {source: "mosaic:", task: multilabel, inits: "random,cgan"'
assert CLASSES in TINY
CPU = {"l1", "cgan", "rotation"} | {f"{name}-20min" for name in ("features", "simclr", "cgan", "bins", "l1", "l1-cgan")}


@pytest.mark.parametrize(("name", "arms"), [("paper", {"l1", "cgan"}), ("paper-cpu", CPU)])
def test_shipped_experiments_hold_together(name, arms):
    plan = read_experiment(name, Path("pictures"), Path("out"))
    assert {run.rpartition("-")[0] for run in plan.runs} == arms
    assert {keywords["task"] for keywords in plan.comparisons.values()} == {"multilabel", "segmentation"}
    for config in plan.runs.values():
        assert all(source.startswith("pictures/") for source in config.sources)
        assert config.init == "random"  # no labels, nor weights that saw some, before the transfer
        for keywords in plan.comparisons.values():
            assert keywords["source"] in config.exclude  # the evaluated pictures are kept out
    adversarial = {run: config.adversarial for run, config in plan.runs.items()}
    assert adversarial["l1-0"] == "none"
    assert adversarial["cgan-0"] != "none"


def test_the_yardstick_is_kept_from_the_val_split_and_its_budgets_are_in_steps():
    plan = read_experiment("yardstick", Path("pictures"), Path("out"))
    assert all(config.steps and config.minutes is None for config in plan.runs.values())
    assert {config.init for config in plan.runs.values()} == {"random"}
    (keywords,) = plan.comparisons.values()
    assert (keywords["protocol"], keywords["evaluate"]) == ("linear", "tuning")
    assert keywords["source"] in next(iter(plan.runs.values())).exclude


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("seeds: 2, steps", "seeds: 2, step", "unknown keyword 'step' of comparison classes"),
        ("size: 32,", "size: 33,", "arm cgan: size is 33; expected a multiple of 32"),
        ("multilabel", "multilabel, lr: 1", "unknown keyword 'lr' of comparison classes"),
        ("multilabel", "multilabel, settings: [input=rgb]", "unknown keyword 'settings' of comparison classes"),
        ('inits: "random,cgan", ', "", "comparison classes has no inits; expected source, task and inits"),
        ("multilabel", "multi-label", "comparison classes: task is 'multi-label'; expected multilabel, segmentation"),
        ("random,cgan", "random,cgna", "comparison classes: cgna: no such file, nor weights of that name"),
        ("random,cgan", "random,cgna", "cgan, random, imagenet-lite"),
        ('"20"', '"20000"', "comparison classes: 20000 labels"),
        ("1e-3", "fast", "comparison classes: lrs is 'fast'"),
        ("seeds: 2, steps", "baseline: l1, steps", "comparison classes: baseline is 'l1'; expected one of the arms"),
        ("seeds: 2, steps", "seeds: 0, steps", "comparison classes: seeds is 0"),
        ("seeds: 2, steps", "jobs: 0, steps", "comparison classes: jobs is 0"),
        ("seeds: 2, steps", 'seeds: "2", steps', "seeds is '2'; expected int"),
        ("seeds: 2, steps", 'jobs: "2", steps', "comparison classes: jobs is '2'; expected int | None"),
        ("adversarial: hinge", "adversarial: hing", "adversarial is 'hing'; expected"),
        ("compare:", "  b: {terms: {nonsense: 1}}\ncompare:", "run b-0: unknown term 'nonsense'"),
        ("compare:", "  b: {backbone: nope}\ncompare:", "run b-0: unknown backbone 'nope'"),
        ("compare:", '  "../b": {}\ncompare:', "arms has '../b', which cannot name a folder here"),
        ("  classes:", "  pretrained:", "compare has 'pretrained', which cannot name a folder here"),
        ("compare:", "  b: {init: gone.safetensors}\ncompare:", "run b-0: gone.safetensors: no such file"),
        (
            "compare:",
            "  b: {init: OUT/pretrained/z-0}\ncompare:",
            "pretrained/z-0, which is no run before it; choose one, or a file",
        ),
        ("compare:", "  b: {seed: 5}\ncompare:", "seed is 5, which pretraining_seeds gives each run"),
        ("compare:", "comparre: {}\ncompare:", "has 'comparre'; expected pretraining_seeds, pretrain, arms, compare"),
        ("  classes:", "  report.html:", "compare has 'report.html', which cannot name a folder here"),
        (
            CLASSES,
            "  b: {backbone: resnet10t}\n" + CLASSES.replace("cgan", "cgan,b"),
            "comparison classes: b-0 is a resnet10t, another arm a mobilenetv3_small_050; expected one",
        ),
        (
            CLASSES,
            '  b: {probe: "mosaic:"}\n' + CLASSES.replace("cgan", "b"),
            "comparison classes: b-0: probe is mosaic:; a run that labels steer is no evidence",
        ),
        (
            CLASSES,
            "  b: {terms: {rotation: 1}, adversarial: none}\n"
            + CLASSES.replace("cgan", "b").replace("multilabel", "segmentation, decoder: carried"),
            "comparison classes: decoder is carried, but b-0 makes no colorizer",
        ),
        ("compare:", '  b: {sources: ["gone"]}\ncompare:', "run b-0: gone"),
        ("compare:", '  b: {exclude: ["gone"]}\ncompare:', "run b-0: gone"),
        ("compare:", "  b: {held_out: gone}\ncompare:", "run b-0: gone"),
    ],
)
def test_mistakes_show_before_any_pretraining(tmp_path, capsys, was, becomes, said):
    text = TINY.replace("seeds: 2\n", "seeds: 1\n").replace(was, becomes.replace("OUT", str(tmp_path / "out")))
    (tmp_path / "tiny.yaml").write_text(text)
    words = ["reproduce", str(tmp_path / "tiny.yaml"), "--data", "photos", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("was", "becomes"), [("compare:", "  b: {held_out: gone}\ncompare:"), ('"20"', '"20000"')])
def test_a_dry_run_looks_for_mistakes_in_runs_and_in_comparisons_too(tmp_path, was, becomes):
    (tmp_path / "tiny.yaml").write_text(TINY.replace(was, becomes))
    words = ["reproduce", str(tmp_path / "tiny.yaml"), "--data", "photos", "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(words) == 2
    assert not (tmp_path / "out").exists()


def test_an_arm_may_start_from_a_run_that_is_made_before_it(tmp_path, monkeypatch, capsys):
    first, inits = tmp_path / "out" / "pretrained" / "cgan-0", []

    def pretend(config, _):
        inits.append(config.init)
        if len(inits) == 4:
            raise KeyboardInterrupt

    (tmp_path / "tiny.yaml").write_text(TINY.replace("compare:", f"  later: {{init: {first}}}\ncompare:"))
    monkeypatch.setattr("tinct.reproduce.pretrain_apart", pretend)
    assert main(["reproduce", str(tmp_path / "tiny.yaml"), "--data", "photos", "--out", str(tmp_path / "out")]) == 130
    assert inits == ["random", str(first)] * 2
    assert capsys.readouterr().err == "interrupted; the same command goes on from there\n"


def test_a_report_that_could_not_be_written_shows_before_any_pretraining(tmp_path, monkeypatch, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "report.md").write_text("my own")
    monkeypatch.setattr("tinct.reproduce.pretrain_apart", None)
    assert main(["reproduce", str(tmp_path / "tiny.yaml"), "--data", "photos", "--out", str(tmp_path)]) == 2
    assert "report.md would be replaced, and no report wrote it" in capsys.readouterr().err


def test_numbers_and_spaces_are_taken_as_meant(tmp_path):
    for inits in ('"random, cgan"', "[random, cgan]"):
        text = TINY.replace('"20"', "[20, all]").replace('"random,cgan"', inits).replace('"1e-3"', "[1e-3, 0.1]")
        (tmp_path / "tiny.yaml").write_text(text)
        plan = read_experiment(str(tmp_path / "tiny.yaml"), Path("x"), tmp_path)
        runs = [f"{tmp_path}/pretrained/cgan-{seed}" for seed in (0, 1)]
        assert plan.comparisons["classes"]["inits"] == f"random,cgan={runs[0]}:{runs[1]}"
        check_comparisons(plan, tmp_path)


def test_an_experiment_runs_and_goes_on(tmp_path, capsys):
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(TINY)
    words = ["reproduce", str(file), "--data", "photos", "--out", str(out)]
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("pretrain ") == 2
    assert "l1 + hinge GAN" in said
    assert "lrs 1e-3 (0 of 4 cells)\n" in said
    assert "(done)" not in said
    assert not out.exists()
    assert main(words) == 0
    assert "2 paired seeds" in capsys.readouterr().out
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("2 steps (done)\n") == 2
    assert "lrs 1e-3 (4 of 4 cells)\n" in said
    cells = sorted((out / "classes" / "cells").glob("*/record.json"))
    assert [path.parent.name for path in cells] == ["cgan-20-0", "cgan-20-1", "random-20-0", "random-20-1"]
    starts = [json.loads(path.read_text())["init"]["name"] for path in cells[:2]]
    assert starts == [str(out / "pretrained" / f"cgan-{seed}") for seed in (0, 1)]
    made = {path: path.stat().st_mtime_ns for path in out.rglob("record.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("record.json")} == made
    assert (out / "report.html").exists()


def test_runs_on_several_devices_leave_the_rest_to_one_process(tmp_path):
    """Its own process, since what starts ranks starts again whatever program it finds itself in."""
    file, out = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(
        TINY.replace("pretraining_seeds: 2", "pretraining_seeds: 1").replace("workers: 0", 'workers: 0, devices: "2"')
    )
    command = [sys.executable, "-m", "tinct", "reproduce", str(file), "--data", "photos", "--out", str(out)]
    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, timeout=300)
    assert (dry.returncode, dry.stdout.count("pretrain ")) == (0, 1), dry.stderr
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Report: ") == 1
    assert json.loads((out / "pretrained" / "cgan-0" / "record.json").read_text())["config"]["devices"] == "2"
    assert len(list(out.glob("classes/cells/*/record.json"))) == 4


def test_batches_that_several_devices_cannot_share_show_before_any_pretraining(tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(TINY.replace("workers: 0", 'devices: "3"'))
    words = ["reproduce", str(tmp_path / "tiny.yaml"), "--data", "photos", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "run cgan-0: batch_size is 4; expected a multiple of devices x accumulate = 3" in capsys.readouterr().err


def test_an_interrupted_experiment_stops_there(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt("stopped after step 1")

    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.setattr("tinct.reproduce.pretrain_apart", interrupted)
    words = ["reproduce", str(tmp_path / "tiny.yaml"), "--data", "photos", "--out", str(tmp_path / "out")]
    assert main(words) == 130
    assert "stopped after step 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arms: [", r"bad.yaml: no YAML \(while parsing"),
        ("", "bad.yaml: empty; expected lines of KEY: VALUE"),
        ("steps: 3", "bad.yaml: has no pretraining_seeds; expected pretraining_seeds, pretrain, arms, compare"),
        (TINY[: TINY.index("compare:")], "has no compare"),
        (TINY.replace("seeds: 2\n", "seeds: two\n"), "pretraining_seeds is 'two'; expected a whole number"),
        (
            TINY.replace("cgan: {", "cgan:\n  x: {"),
            "arms has 'cgan' with nothing; expected a name",
        ),
        (TINY.replace("cgan: {", "2: {"), "arms has 2 with"),
        (TINY.replace("arms:", "arms: [x]\nbrms:"), r"arms is \['x'\]; expected lines of NAME"),
        (TINY.replace("compare:", "  cgan: {}\ncompare:"), "bad.yaml: line 8: 'cgan' is there twice"),
        (TINY.replace("width: 8", "width: 8, width: 16"), "line 4: 'width' is there twice"),
        (TINY.replace("cgan: {", "random: {"), "arms has 'random', the name of the baseline"),
        (TINY.replace("recipe: l1, ", ""), "pretrain has no recipe"),
        (TINY.replace("width: 8", "breadth: 8"), "unknown setting 'breadth'"),
        (TINY.replace("steps: 2,\n", "steps: -2,\n"), "steps is -2"),
        (TINY.replace("recipe: l1", "recipe: l11"), "unknown recipe 'l11'"),
    ],
)
def test_files_that_are_none(tmp_path, text, says):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(TinctError, match=says):
        read_experiment(str(tmp_path / "bad.yaml"), tmp_path, tmp_path)


def test_a_folder_is_no_experiment_and_out_must_not_part_names(tmp_path, capsys):
    assert main(["reproduce", str(tmp_path), "--data", "x", "--out", str(tmp_path / "out")]) == 2
    assert "expected paper, paper-cpu, yardstick, scaling, or a YAML file" in capsys.readouterr().err
    assert main(["reproduce", "yardstick", "--data", "x", "--out", str(tmp_path / "10:30")]) == 2
    assert "expected no colon and no comma" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a, b", 'the "best"', "a: b #1", "{out}", r"a\b"])
def test_a_folder_may_be_called_anything(tmp_path, name):
    text = TINY.replace("{data}:", "{data}/photos").replace("mosaic:", "voc:{data}@2012")
    (tmp_path / "tiny.yaml").write_text(text)
    plan = read_experiment(str(tmp_path / "tiny.yaml"), tmp_path / name, tmp_path / "out")
    assert [config.sources for config in plan.runs.values()] == [[f"{tmp_path / name}/photos"]] * 2
    assert plan.comparisons["classes"]["source"] == f"voc:{tmp_path / name}@2012"


def test_an_experiment_may_lie_on_a_drive():
    data, out = PureWindowsPath(r"C:\data"), PureWindowsPath(r"D:\out")
    plan = read_experiment("paper-cpu", data, out)
    assert {config.sources[0] for config in plan.runs.values()} == {r"C:\data/tiny-imagenet-200"}
    for keywords in plan.comparisons.values():
        assert keywords["source"] == r"voc:C:\data/VOCdevkit@2012"
        arms = {arm.name: arm.inits for arm in parse_arms(keywords["inits"])}
        assert arms.pop("random") == ("random",)
        assert {init.rpartition("-")[0] for inits in arms.values() for init in inits} == {
            rf"D:\out\pretrained\{name}" for name in arms
        }

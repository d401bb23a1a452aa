import json
import os
import re
import shlex
import shutil
import signal
import threading
import time
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from fake_labels import make_table
from fake_records import fake_transfer
from rich.console import Console

import tinct.evidence.workers
from tinct.arguments import parse
from tinct.cli import main
from tinct.compare import compare, run_compare, show
from tinct.data.hashes import dhash
from tinct.data.mosaic import Mosaic
from tinct.errors import DivergedError, TinctError
from tinct.evidence.grouping import comparisons
from tinct.evidence.planning import make_grid
from tinct.evidence.records import find_records
from tinct.evidence.workers import TUNING_SEED
from tinct.files import atomic_path
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives import make_terms
from tinct.transfer import transfer
from tinct.weights import save_colorizer, save_encoder

TINY = "test_resnet"


@pytest.fixture
def transfers(monkeypatch):
    """Every transfer that was run: fakes, a few milliseconds each."""
    done = []

    def run(settings, out, **options):
        done.append(settings)
        return fake_transfer(settings, out, **options)

    monkeypatch.setattr(tinct.evidence.workers, "run_cell", run)
    return done


@pytest.fixture
def runs(tmp_path):
    """Three pretraining runs, as far as a transfer looks at them."""
    folders = [tmp_path / f"run{number}" for number in range(3)]
    for number, folder in enumerate(folders):
        folder.mkdir()
        meta = {"terms": {"bins": 1.0}, "adversarial": "none", "seed": number, "selected_with_labels": False}
        save_encoder(folder / "encoder.safetensors", Encoder(TINY), meta)
        np.save(folder / "seen.npy", np.zeros(0, np.uint64))
    return [str(folder) for folder in folders]


def kill_itself(planned):
    os.kill(os.getpid(), signal.SIGKILL)


def begin_what_never_ends(planned):
    """In a process of the pool, whose `tinct.evidence.workers` is as it was."""

    def forever(_):
        with atomic_path(planned.folder / "record.json"):
            time.sleep(600)

    tinct.evidence.workers._run_one = forever
    return tinct.evidence.workers._run_there(planned)


def keep(folder):
    """The records below a folder, by path."""
    return {path.relative_to(folder): path.read_text() for path in sorted(folder.rglob("record.json"))}


def test_the_grid_is_paired_and_tuned_once_for_each_arm(tmp_path, transfers, runs):
    result = run_compare(
        "mosaic:",
        task="multilabel",
        inits=f"random,colour={':'.join(runs)}",
        out=tmp_path / "out",
        seeds=4,
        steps=9,
        lrs="1e-3,3e-4",
    )
    tuning, cells = transfers[:4], transfers[4:]
    assert all(settings.evaluate == "tuning" and settings.seed == TUNING_SEED for settings in tuning)
    assert [(settings.init, settings.lr) for settings in tuning] == [
        ("random", 1e-3),
        ("random", 3e-4),
        (runs[TUNING_SEED % 3], 1e-3),
        (runs[TUNING_SEED % 3], 3e-4),
    ]
    assert len(cells) == 2 * 2 * 4
    free = {"init": "", "lr": 0.0}  # nothing else may tell one arm's transfer from another's
    ours = [replace(settings, **free) for settings in cells if settings.init != "random"]
    assert ours == [replace(settings, **free) for settings in cells if settings.init == "random"]
    assert {settings.seed: settings.init for settings in cells if settings.init != "random"} == {
        seed: runs[seed % 3] for seed in range(4)
    }
    assert {(s.backbone, s.evaluate, s.steps, s.size, s.lr) for s in cells} == {(TINY, "val", 9, 64, 1e-3)}
    assert result.rates == {"random": 1e-3, "colour": 1e-3}
    assert result.comparison.arms == ["random", "colour"]
    assert [contrast.difference.pairs for contrast in result.comparison.contrasts] == [4, 4]
    assert result.answers[-1] == "mosaic: checks the plumbing; no evidence."
    plan = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert plan["arms"] == {"random": ["random"], "colour": runs}
    assert plan["tuning"]["rates"] == result.rates
    assert plan["tuning"]["labels"] == "50"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seeds": "2"}, "seeds is '2'; expected int"),
        ({"settings": ["input=rgb"]}, "unknown keyword 'settings'; further ones are steps, size, backbone"),
        ({"lr": 1e-3}, "unknown keyword 'lr'"),
        ({"labels": [20, 1000]}, "1000 labels: expected a count"),
    ],
)
def test_wrong_keywords_of_a_program_are_refused_in_a_line(tmp_path, runs, wrong, said):
    with pytest.raises(TinctError, match=said):
        run_compare("mosaic:", task="multilabel", inits=["random", runs[0]], out=tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_grid_goes_on_whatever_way_its_places_are_spelled(tmp_path, transfers, runs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    spec = make_table(tmp_path / "set", train=16, val=6)
    named = {"task": "multilabel", "labels": "4", "min_positives": 1, "lrs": "1e-3", "seeds": 2}
    first = run_compare("csv:set/table.csv", inits="random,x=run0:run1", out=tmp_path / "out", **named)
    done = len(transfers)
    ways = ((spec, f"random,x={runs[0]}/:./run1"), ("csv:./set//table.csv", f"random,x=run0:{runs[1]}"))
    for source, inits in ways:
        again = run_compare(source, inits=inits, out=tmp_path / "out", **named)
        assert again.answers == first.answers
    assert len(transfers) == done
    with pytest.raises(TinctError, match="was made with init 'run0', now it is 'run2'"):
        run_compare(spec, inits="random,x=run2:run1", out=tmp_path / "out", **named)
    monkeypatch.chdir(tmp_path / "set")
    with pytest.raises(TinctError, match=r"now it is 'csv:table\.csv'; if they are the same, call from where it began"):
        run_compare("csv:table.csv", inits=f"random,x={runs[0]}:{runs[1]}", out=tmp_path / "out", **named)


def test_another_baseline_is_kept_and_changed_without_running_anything_again(tmp_path, transfers, runs, capsys):
    words = ["compare", "mosaic:", "--task", "multilabel", "--inits", f"random,l1={runs[0]},cgan={runs[1]}"]
    words += ["--protocol", "linear", "--labels", "50", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert main([*words, "--baseline", "l2"]) == 2
    assert capsys.readouterr().err == "tinct compare: baseline is 'l2'; expected one of the arms, random, l1, cgan\n"
    assert main([*words, "--baseline", "l1"]) == 0
    done, plan = len(transfers), tmp_path / "out" / "compare.json"
    for further, baseline in (([], "l1"), (["--baseline", "random"], "random"), ([], "random")):
        assert ("compared with l1" in " ".join(capsys.readouterr().out.split())) == (baseline == "l1" or bool(further))
        assert main([*words, *further]) == 0
        assert json.loads(plan.read_text())["baseline"] == baseline
    assert len(transfers) == done
    page = tmp_path / "report.html"
    assert main(["report", str(tmp_path / "out"), "--baseline", "l2", "--out", str(page)]) == 2
    assert capsys.readouterr().err == "tinct report: baseline is 'l2'; expected one of the arms, random, l1, cgan\n"
    assert not page.exists()
    assert main(["report", str(tmp_path / "out"), "--baseline", "cgan", "--out", str(page)]) == 0
    assert "compared with cgan" in page.with_suffix(".md").read_text()


def test_a_progress_line_names_its_grid(tmp_path, transfers, runs, monkeypatch, capsys):
    monkeypatch.setattr("tinct.screen.LOGGED_EVERY", 0.0)
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "labels": "50", "seeds": 1, "lrs": "1e-3,3e-4"}
    run_compare("mosaic:", out=tmp_path / "voc", **arguments)
    said = capsys.readouterr().err
    assert "voc, learning rates: 4 of 4, 0:00:" in said
    assert "voc, transfers: 2 of 2, 0:00:" in said


def test_the_best_rate_on_the_tuning_part_is_taken(tmp_path, transfers, runs, monkeypatch):
    def better_when_slow(settings, out, **options):
        settings_ = replace(settings, lr=1e-3 if settings.lr == 3e-4 and settings.init == "random" else 1e-2)
        record = fake_transfer(settings_, out, **options)
        record["settings"]["lr"] = settings.lr
        return record

    monkeypatch.setattr(tinct.evidence.workers, "run_cell", better_when_slow)
    result = run_compare("mosaic:", task="multilabel", inits=f"random,x={runs[0]}", out=tmp_path / "out", labels="50")
    assert result.rates["random"] == 3e-4


@pytest.mark.parametrize(("protocol", "lrs"), [("linear", "1e-3,3e-4"), ("knn", "1e-3,3e-4"), ("finetune", "3e-4")])
def test_where_there_is_no_rate_to_choose_none_is(tmp_path, transfers, runs, protocol, lrs):
    run_compare(
        "mosaic:", task="multilabel", inits=f"random,x={runs[0]}", out=tmp_path / "out", protocol=protocol, lrs=lrs
    )
    assert len(transfers) == 12
    assert not (tmp_path / "out" / "tuning").exists()
    assert {settings.lr for settings in transfers} == {float(lrs.split(",")[0])}


@pytest.mark.parametrize(("protocol", "refused"), [("linear", False), ("knn", False), ("finetune", True)])
def test_a_grid_goes_on_with_other_rates_and_steps_where_they_play_no_part(
    tmp_path, transfers, runs, protocol, refused
):
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out", "protocol": protocol}
    first = run_compare("mosaic:", **arguments, seeds=1, lrs="1e-3")
    with pytest.raises(TinctError, match=r"was made with lr 0\.001, now it is 0\.0003") if refused else nullcontext():
        run_compare("mosaic:", **arguments, seeds=2, lrs="3e-4")
    assert len(transfers) == (4 if refused else 8)
    further = {"steps": 90, "batch_size": 8, "weight_decay": 0.1}
    with pytest.raises(TinctError, match="was made with weight_decay") if refused else nullcontext():
        again = run_compare("mosaic:", **arguments, seeds=3, lrs="1e-3", **further)
        assert again.comparison.values("x", 50).items() > first.comparison.values("x", 50).items()
    (made,) = comparisons(find_records([tmp_path / "out"]).cells)
    assert len(made.cells) == (4 if refused else 12)


def test_rates_are_never_chosen_on_what_is_scored(tmp_path, transfers, runs):
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out", "evaluate": "tuning"}
    with pytest.raises(TinctError, match="evaluate is tuning, where learning rates are chosen"):
        run_compare("mosaic:", **arguments)
    run_compare("mosaic:", **arguments, protocol="linear")
    assert {settings.evaluate for settings in transfers} == {"tuning"}


def test_an_interrupted_grid_resumed_gives_the_records_of_an_uninterrupted_one(tmp_path, transfers, runs, monkeypatch):
    arguments = {"task": "segmentation", "inits": f"random,x={':'.join(runs)}", "labels": "50,all", "seeds": 2}
    whole = run_compare("mosaic:", out=tmp_path / "whole", **arguments)
    ran = len(transfers)

    def interrupted(settings, out, **options):
        if len(transfers) == ran + 7:
            (out / "half").mkdir(parents=True)
            raise KeyboardInterrupt
        transfers.append(settings)
        return fake_transfer(settings, out, **options)

    run = tinct.evidence.workers.run_cell
    monkeypatch.setattr(tinct.evidence.workers, "run_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_compare("mosaic:", out=tmp_path / "parts", **arguments)
    monkeypatch.setattr(tinct.evidence.workers, "run_cell", run)
    resumed = run_compare("mosaic:", out=tmp_path / "parts", **arguments)
    assert len(transfers) == 2 * ran  # nothing ran twice
    assert keep(tmp_path / "parts") == keep(tmp_path / "whole")
    assert resumed.answers == whole.answers
    run_compare("mosaic:", out=tmp_path / "parts", **{**arguments, "seeds": 3})
    assert len(transfers) == 2 * ran + 4  # one more seed of two amounts and two arms


def test_cells_made_otherwise_are_not_taken(tmp_path, transfers, runs):
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out", "labels": "50"}
    run_compare("mosaic:", **arguments)
    with pytest.raises(TinctError, match=r"random-0.01 was made with steps 60, now it is 90; choose another --out"):
        run_compare("mosaic:", **arguments, steps=90)
    with pytest.raises(TinctError, match="was made with task 'multilabel', now it is 'segmentation'"):
        run_compare("mosaic:", **{**arguments, "task": "segmentation"})
    shutil.copy(f"{runs[1]}/encoder.safetensors", runs[0])
    with pytest.raises(TinctError, match=f"began with other weights than {runs[0]} has now"):
        run_compare("mosaic:", **arguments)


def test_encoders_that_lie_elsewhere_now_are_still_the_same(tmp_path, transfers, runs):
    arguments = {"task": "multilabel", "out": tmp_path / "out", "labels": "50"}
    first = run_compare("mosaic:", inits=f"random,x={runs[0]}", **arguments)
    shutil.copytree(runs[0], tmp_path / "moved")
    count = len(transfers)
    again = run_compare("mosaic:", inits=f"random,x={tmp_path / 'moved'}", **arguments)
    assert len(transfers) == count
    assert again.answers == first.answers
    assert {cell.arm for cell in find_records([tmp_path / "out"]).cells} == {"random", "x"}
    shown = Console(width=400, record=True)
    show(again, shown)
    (kept,) = re.findall("To keep the best: .*", shown.export_text())
    assert str(tmp_path / "moved") in kept


def test_by_default_few_labels_are_all_that_there_are(tmp_path, transfers, runs, capsys):
    spec = make_table(tmp_path, train=30, val=12)
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "settings": ["min_positives=1"], "dry_run": True}
    assert compare(spec, out=tmp_path / "few", **arguments) == 0
    said = capsys.readouterr().out
    assert "labels: all, since 50 do not fit; --labels says others" in said
    assert "cells/x-all-0" in said
    with pytest.raises(TinctError, match="50 labels: expected a count of 1 to"):
        compare(spec, out=tmp_path / "asked", labels="50,all", **arguments)
    assert compare("mosaic:", out=tmp_path / "many", **arguments) == 0
    assert "cells/x-50-0" in capsys.readouterr().out


def test_numpys_numbers_are_taken_for_pythons(tmp_path, transfers, runs):
    found = make_grid(
        "mosaic:",
        task="multilabel",
        inits="random,tinct-small-ssl",
        out=tmp_path,
        labels=np.array([20, 30]),
        seeds=np.int64(2),
    )
    assert (found.seeds, found.amounts) == (2, ("20", "30"))


@pytest.mark.parametrize(
    ("best", "says"),
    [
        (1e-2, ["(random 0.01, x 0.01); try lrs 3e-02,0.01,0.003,0.001,0.0003 in another folder"]),
        (3e-3, []),
        (3e-4, ["try lrs 1e-04,"]),
    ],
)
def test_a_best_rate_at_the_edge_is_said(tmp_path, transfers, runs, monkeypatch, best, says):
    def best_at(settings, out, **options):
        record = fake_transfer(replace(settings, lr=1e-3), out, **options)
        record["settings"]["lr"] = settings.lr
        return record | {"value": 50.0 if settings.lr == best else 40.0}

    monkeypatch.setattr(tinct.evidence.workers, "run_cell", best_at)
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out"}
    found = run_compare("mosaic:", **arguments, labels="50").warnings
    assert len(found) == len(says)
    assert all(part in line for part, line in zip(says, found, strict=True))


def test_warnings_that_were_not_said_come_with_the_answer(tmp_path, transfers, runs):
    result = run_compare("mosaic:", task="multilabel", inits=f"random,x={runs[0]}", out=tmp_path / "out", labels="50")
    console = Console(width=160, record=True)
    show(replace(result, warnings=("an old one", "a new one")), console, said=["an old one"])
    assert console.export_text().startswith("warning: a new one\n" + result.answers[0][:60])


def test_a_failing_cell_is_named(tmp_path, monkeypatch, runs):
    def fail(settings, out, **options):
        raise TinctError("it diverged")

    monkeypatch.setattr(tinct.evidence.workers, "run_cell", fail)
    with pytest.raises(TinctError, match=r"random-0\.01: it diverged"):
        run_compare("mosaic:", task="multilabel", inits=f"random,x={runs[0]}", out=tmp_path / "out")


def test_a_rate_that_diverges_is_not_taken_and_said(tmp_path, transfers, runs, monkeypatch, capsys):
    run, tries = tinct.evidence.workers.run_cell, []

    def fast_ones_diverge(settings, out, **options):
        if settings.lr >= 3e-3:
            tries.append(settings.init)
            raise DivergedError("the loss became nan at step 7; lower lr (it is 0.003)")
        return run(settings, out, **options)

    monkeypatch.setattr(tinct.evidence.workers, "run_cell", fast_ones_diverge)
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out", "labels": "50"}
    assert compare("mosaic:", **arguments) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "warning: training diverged at learning rates that were tried (random 0.01, 0.003; x 0.01, 0.003), which"
        in said
    )
    assert "learning rates: random 0.001, x 0.001" in said
    plan = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert plan["tuning"]["scores"]["x"]["0.003"] == "diverged"
    assert not (tmp_path / "out" / "tuning" / "x-0.003" / "record.json").exists()
    done = len(transfers)
    assert run_compare("mosaic:", **arguments).rates == {"random": 1e-3, "x": 1e-3}
    assert (len(transfers), tries) == (
        done,
        ["random", "random", runs[0], runs[0]] * 2,
    )  # tried again, and nothing else
    with pytest.raises(TinctError, match=r"random diverged at all learning rates, 0\.003, 0\.01; try smaller lrs"):
        run_compare("mosaic:", **{**arguments, "out": tmp_path / "all", "lrs": "3e-3,1e-2"})
    with pytest.raises(TinctError, match=r"cells/random-50-0: the loss became nan at step 7"):
        run_compare("mosaic:", **{**arguments, "out": tmp_path / "one", "lrs": "3e-3"})


def test_arms_of_earlier_calls_are_not_said_to_be_missing(tmp_path, transfers, runs):
    for run in runs[:2]:
        inits = f"random,x{run[-1]}={run}"
        found = run_compare("mosaic:", task="multilabel", inits=inits, out=tmp_path / "out", labels="50", lrs="1e-3")
    assert found.comparison.arms == ["random", "x1"]
    assert not any("Not compared" in line for line in found.answers)
    assert len(json.loads((tmp_path / "out" / "compare.json").read_text())["arms"]) == 3


def test_two_transfers_at_a_time_give_the_records_of_one_at_a_time(tmp_path, runs):
    table = make_table(tmp_path, train=40, val=8)
    common = {"labels": "20", "seeds": 2, "protocol": "linear", "size": 32, "min_positives": 1}
    found = {}
    for jobs in (1, 2):
        out = tmp_path / f"jobs{jobs}"
        inits = {"random": "random", "mine": runs[0]}
        result = run_compare(table, task="multilabel", inits=inits, out=out, jobs=jobs, **common)
        records = {path: json.loads(text) for path, text in keep(out).items()}
        kept = ("data", "init", "n_labels", "value", "metrics")
        found[jobs] = result.answers, {path: [record[key] for key in kept] for path, record in records.items()}
    assert len(found[1][1]) == 4
    assert found[1] == found[2]


def test_a_killed_process_is_said_in_a_line(tmp_path, monkeypatch, runs):
    monkeypatch.setattr(tinct.evidence.workers, "_run_there", kill_itself)
    with pytest.raises(TinctError, match="process was killed"):
        run_compare(
            "mosaic:", task="multilabel", inits=f"random,x={runs[0]}", out=tmp_path / "out", protocol="linear", jobs=2
        )


def test_ctrl_c_ends_the_cells_that_run_and_begins_no_others(tmp_path, monkeypatch, runs):
    out = tmp_path / "out"

    def interrupt():
        while not list(out.glob("cells/*/.record-*")):
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(tinct.evidence.workers, "_run_there", begin_what_never_ends)
    threading.Thread(target=interrupt, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_compare(
            "mosaic:", task="multilabel", inits=f"random,x={runs[0]}", out=out, protocol="linear", jobs=2, seeds=3
        )
    assert time.monotonic() - began < 300
    assert {path.name for path in out.rglob("*") if path.is_file()} == {"compare.json"}


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinct.compare.make_grid", interrupted)
    words = ["--task", "multilabel", "--inits", "random,x=RUN", "--out", str(tmp_path / "out")]
    assert main(["compare", "mosaic:", *words]) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on from there\n"


def test_a_decoder_is_carried_over_where_there_is_one(tmp_path, transfers, runs):
    arguments = {"task": "segmentation", "inits": f"random,x={runs[0]}", "out": tmp_path / "out"}
    with pytest.raises(
        TinctError, match=r"decoder is carried, but init .*run0 has no colorizer\.safetensors beside it"
    ):
        run_compare("mosaic:", **arguments, labels="50", decoder="carried")
    assert transfers == []
    encoder = Encoder(TINY)
    colour, _ = make_terms({"l1": 1.0}, encoder.channels)
    save_colorizer(
        tmp_path / "run0" / "colorizer.safetensors", Generator(encoder, colour.out_channels, 4, 8), colour, {}
    )
    run_compare("mosaic:", **arguments, labels="50", decoder="carried")
    assert {(one.init, one.decoder) for one in transfers} == {("random", "fresh"), (runs[0], "carried")}


def test_what_labels_steered_and_other_backbones_are_refused(tmp_path, runs):
    save_encoder(tmp_path / "steered.safetensors", Encoder(TINY), {"selected_with_labels": True})
    arguments = {"task": "multilabel", "out": tmp_path / "out"}
    for backbone in (None, TINY):
        with pytest.raises(TinctError, match=r"steered\.safetensors: was steered by a probe on labels"):
            run_compare("mosaic:", inits=f"random,x={tmp_path}/steered.safetensors", backbone=backbone, **arguments)
    with pytest.raises(TinctError, match="expected one backbone throughout"):
        run_compare("mosaic:", inits=f"imagenet-lite,x={runs[0]}", **arguments)


def test_evaluated_pictures_that_an_encoder_saw_are_named(tmp_path, transfers, runs, capsys):
    pictures = Mosaic("", "val", "multilabel")
    copies = [dhash(pictures.picture(index)) ^ np.uint64(5) for index in range(12)]  # two bits off
    np.save(f"{runs[0]}/seen.npy", np.array([1], np.uint64))
    for run, part in ((runs[1], copies[:5]), (runs[2], copies[5:])):  # all encoders of an arm count
        np.save(f"{run}/seen.npy", np.unique(np.array(part, np.uint64)))
    inits = f"random,clean={runs[0]},seen={runs[1]}:{runs[2]}"
    assert compare("mosaic:", task="multilabel", inits=inits, out=tmp_path / "out", labels="50", seeds=2) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "warning: seen: 12 evaluated pictures, or near-copies of them" in said
    assert "mosaic:val/0, mosaic:val/1," in said
    assert "and 2 more" in said
    assert "; leave them out of the val split, or pretrain another encoder with --exclude mosaic:" in said
    on = tmp_path / "on"
    on.mkdir()
    shutil.copy(f"{runs[1]}/seen.npy", on)
    save_encoder(on / "encoder.safetensors", Encoder(TINY), {"init": runs[1]})
    assert compare("mosaic:", task="multilabel", inits=f"random,on={on}", out=tmp_path / "2", labels="50", seeds=1) == 0
    remedy = f"; it started from {runs[1]}, which saw them: start from random with --exclude mosaic:, or leave them out"
    assert remedy in " ".join(capsys.readouterr().out.split())
    assert "clean:" not in said
    plan = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert plan["seen"] == {"seen": [f"mosaic:val/{index}" for index in range(12)]}


def test_dry_run_lists_cells_and_measures_one(tmp_path, transfers, runs, capsys):
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out", "labels": "50"}
    compare("mosaic:", dry_run=True, **arguments)
    said = capsys.readouterr().out
    assert len(transfers) == 1
    assert "cells/x-50-2" in said
    assert "14 cells, 13 to do: about 0.3 minutes (1.5 s a cell" in " ".join(said.split())  # the measured one is kept
    compare("mosaic:", **arguments)
    assert len(transfers) == 14  # the measured one was kept
    compare("mosaic:", dry_run=True, **arguments)
    assert "14 cells, 0 to do: about 0.0 minutes" in " ".join(capsys.readouterr().out.split())


def test_the_answer_comes_first(tmp_path, transfers, runs, capsys):
    result = run_compare("mosaic:", task="multilabel", inits=f"random,x={':'.join(runs)}", out=tmp_path / "out")
    console = Console(width=160, record=True)
    show(result, console, said=result.warnings)
    text = console.export_text()
    assert text.startswith(result.answers[0][:60])
    contrast = result.comparison.contrasts[0]
    assert f"{contrast.difference.mean:+.1f}" in text
    assert "df 2" in text
    assert text.index("no evidence") < text.index("learning rates: random 0.001, x 0.001")
    best = max(
        ("random", "x"),
        key=lambda arm: np.mean(list(result.comparison.values(arm, result.comparison.amounts[-1]).values())),
    )
    (said,) = re.findall(r"To keep the best: (tinct transfer .*) --out model", " ".join(text.split()))
    kept = parse("transfer", transfer, [*shlex.split(said)[2:], "--out", "model"])["settings"]
    assert kept.init in {"random": ["random"], "x": runs}[best]
    assert (kept.lr, kept.labels, kept.size, kept.steps) == (1e-3, "all", 64, 60)


def test_the_command_line(tmp_path, transfers, runs, capsys):
    words = f"compare mosaic: --task multilabel --inits random,x={runs[0]} --labels 50 --seeds 1 --lrs 1e-3 --out"
    assert main([*words.split(), str(tmp_path / "out"), "--settings", "input=rgb", "batch_size=8"]) == 0
    assert {(settings.input, settings.batch_size) for settings in transfers} == {("rgb", 8)}
    assert "No gain shown: one pair of seeds" in capsys.readouterr().out
    assert main([*words.split(), str(tmp_path / "other"), "--settings", "nonsense=1"]) == 2
    assert "settings: 'nonsense=1'" in capsys.readouterr().err


def test_numbers_that_make_no_grid_are_named(tmp_path):
    for arguments, said in [
        ({"seeds": 0}, "seeds is 0"),
        ({"jobs": 0}, "jobs is 0"),
        ({"labels": "50,50"}, "labels is '50,50'"),
    ]:
        with pytest.raises(TinctError, match=said):
            run_compare("mosaic:", task="multilabel", inits="random,x=imagenet-lite", out=tmp_path, **arguments)


def test_too_few_positives_are_said_before_any_transfer(tmp_path, transfers, runs):
    (tmp_path / "labels").mkdir()
    spec = make_table(tmp_path / "labels")
    arguments = {"task": "multilabel", "inits": f"random,x={runs[0]}", "out": tmp_path / "out", "labels": "all"}
    with pytest.raises(TinctError, match="no class has 20 positives among the 12 evaluated pictures"):
        run_compare(spec, **arguments)
    assert transfers == []
    run_compare(spec, **arguments, min_positives=3, seeds=1)
    assert transfers


FIRST_ROW = "0.png,0-mask.png,train,0,0"
CHANGED = FIRST_ROW.replace("train,0", "train,1")
ANOTHER = FIRST_ROW.replace("0.png", "another.png", 1)


@pytest.mark.parametrize("correct", [lambda text: text.replace(FIRST_ROW, CHANGED), lambda text: f"{text}{ANOTHER}\n"])
def test_a_grid_does_not_go_on_with_other_labels(tmp_path, transfers, runs, correct):
    asked = {"task": "multilabel", "inits": f"random,colour={runs[0]}", "labels": "10", "lrs": "1e-3"}
    asked |= {"min_positives": 1, "out": tmp_path / "out"}
    spec = make_table(tmp_path)
    run_compare(spec, seeds=1, **asked)
    before, plan = keep(tmp_path / "out"), (tmp_path / "out" / "compare.json").read_text()
    table = tmp_path / "table.csv"
    table.write_text(correct(table.read_text()))
    with pytest.raises(TinctError, match=r"was made with other pictures, labels or groups than csv:.* has now"):
        run_compare(spec, seeds=2, **asked)
    assert keep(tmp_path / "out") == before
    assert (tmp_path / "out" / "compare.json").read_text() == plan


def test_a_grid_scored_in_padded_squares_does_not_go_on(tmp_path, transfers, runs):
    asked = {"task": "segmentation", "inits": f"random,mine={runs[0]}", "labels": "20", "lrs": "1e-3", "out": tmp_path}
    run_compare("mosaic:", seeds=1, **asked)
    for path in tmp_path.rglob("record.json"):
        record = json.loads(path.read_text())
        del record["data"]["view"]
        path.write_text(json.dumps(record))
    with pytest.raises(TinctError, match=r"was scored on pictures in padded squares, .*choose another --out"):
        run_compare("mosaic:", seeds=2, **asked)


def test_a_refused_command_leaves_the_plan_as_it_was(tmp_path, transfers, runs):
    asked = {"task": "multilabel", "labels": "20", "seeds": 1, "lrs": "1e-3", "out": tmp_path / "out"}
    run_compare("mosaic:", inits=f"random,mine={runs[0]}", **asked)
    plan = (tmp_path / "out" / "compare.json").read_text()
    with pytest.raises(TinctError, match="choose another --out"):
        run_compare("mosaic:", inits=f"random,mine={runs[1]}", **asked)
    assert (tmp_path / "out" / "compare.json").read_text() == plan


def test_other_rates_leave_a_finished_grid_as_it_was(tmp_path, transfers, runs):
    asked = {"task": "multilabel", "inits": f"random,x={runs[0]}", "labels": "20", "seeds": 1, "out": tmp_path / "out"}
    run_compare("mosaic:", lrs="1e-3,3e-4", **asked)
    plan = json.loads((tmp_path / "out" / "compare.json").read_text())
    with pytest.raises(TinctError, match=r"was made with lr 0\.001, now it is 0\.01"):
        run_compare("mosaic:", lrs="1e-2", **asked)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["tuning"] == plan["tuning"]
    run_compare("mosaic:", lrs="1e-3", **asked)  # which is what was chosen
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["tuning"] == plan["tuning"]


def test_an_arm_may_be_renamed(tmp_path, transfers, runs):
    asked = {"task": "multilabel", "labels": "20", "seeds": 2, "lrs": "1e-3", "out": tmp_path / "out"}
    run_compare("mosaic:", inits=f"random,old={runs[0]}", **asked)
    run_compare("mosaic:", inits=f"random,new={runs[0]}", **asked)
    (made,) = comparisons(find_records([tmp_path / "out"]).cells)
    assert {contrast.arm for contrast in made.contrasts} == {"old", "new"}


def test_weights_whose_pictures_nobody_knows_are_said_to_be_such(tmp_path, transfers, runs):
    (tmp_path / "run2" / "seen.npy").unlink()
    partly = tmp_path / "partly"  # which began with such weights
    partly.mkdir()
    save_encoder(partly / "encoder.safetensors", Encoder(TINY), {"seen_known": False})
    np.save(partly / "seen.npy", np.zeros(0, np.uint64))
    inits = f"random,known={runs[0]},foreign={runs[1]}:{runs[2]},partly={partly}"
    found = run_compare(
        "mosaic:", task="multilabel", inits=inits, out=tmp_path / "out", labels="20", lrs="1e-3", seeds=1
    )
    said = "foreign, partly: which pictures its weights were made from is not known in full"
    assert found.warnings[0].startswith(said)

"""Whole runs, small: what a run leaves, exact resume, ranks, and what users do wrong."""

import contextlib
import copy
import dataclasses
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import write_colourful
from fake_labels import by_chance, make_table
from lightning_fabric.plugins import MixedPrecision
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tinct import runs
from tinct.arguments import parse
from tinct.cli import main
from tinct.compare import run_compare
from tinct.config import Config, stored
from tinct.data.cache import CachedSource
from tinct.data.hashes import dhash
from tinct.data.loader import Crops, Photographs
from tinct.data.photos import Photos
from tinct.data.sources import open_sources
from tinct.data.transforms import centre
from tinct.engine import make_fabric
from tinct.errors import TinctError
from tinct.files import alone_in
from tinct.inits import carried_decoder, load_init
from tinct.models.encoder import Encoder
from tinct.models.heads import Segmenter
from tinct.models.stem import stem_name
from tinct.objectives import REPORTED, Batch
from tinct.objectives.pretext import Pretext
from tinct.pretrain import pretrain, pretrain_apart, run_pretrain
from tinct.pretraining import monitor
from tinct.pretraining.calibrate import calibrate
from tinct.pretraining.heldout import colour_scores
from tinct.pretraining.learner import Learner, synchronise_norms
from tinct.pretraining.preparation import engine_for, set_aside
from tinct.probe import probe_encoder
from tinct.runs import Checkpoint, Run, read_record
from tinct.weights import load_colorizer, load_encoder

TINY = Config(
    sources=["photos:"],
    backbone="mobilenetv3_small_050",
    width=8,
    size=32,
    batch_size=4,
    steps=6,
    checkpoint_every=3,
    adversarial="hinge",
    adversarial_start=0.5,
    discriminator_width=4,
    accelerator="cpu",
    workers=0,
)
FLAGS = [
    *("photos:", "--backbone", "mobilenetv3_small_050", "--width", "8", "--size", "32", "--batch-size", "4"),
    *("--checkpoint-every", "3", "--adversarial", "hinge", "--adversarial-start", "0.5", "--discriminator-width", "4"),
    *("--accelerator", "cpu", "--workers", "0"),
]


LOSSES = {"bins", "adversarial", "discriminator"}


def tiny(**changes: object) -> Config:
    return dataclasses.replace(TINY, **changes)  # type: ignore[arg-type]


def weights(folder: Path, step: int = 6) -> dict[str, torch.Tensor]:
    found = {}
    for name in ("generator", "discriminator", "ema"):
        for key, value in load_file(folder / "checkpoints" / f"step-{step}" / f"{name}.safetensors").items():
            found[f"{name}.{key}"] = value
    return found


def metrics(folder: Path) -> list[str]:
    """The rows of metrics.csv that follow from the settings."""
    rows = (folder / "metrics.csv").read_text().splitlines()
    return [row for row in rows if "images_per_second" not in row and "wait_share" not in row]


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def tinct(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinct", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of six steps."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_pretrain(TINY, out=out) == read_record(out)
    return out


def test_what_a_run_reports_cannot_be_the_name_of_a_term(whole):
    named = {line.split(",")[1] for line in (whole / "metrics.csv").read_text().splitlines()[1:]}
    assert {"ab_error", "images_per_second"} <= named
    assert named <= REPORTED | TINY.terms.keys()


def test_a_run_leaves_what_the_design_says(whole):
    names = {path.name for path in whole.iterdir()}
    assert names >= {
        *("config.yaml", "log.jsonl", "metrics.csv", "checkpoints", "last.json", "best.json", "samples", "seen.npy"),
        *("encoder.safetensors", "encoder.json", "colorizer.safetensors", "record.json", "README.md"),
    }
    assert any(name.startswith("events.") for name in names)
    record = read_record(whole)
    assert record["what"] == "pretrain"
    assert record["budget"]["pictures_read"] == 24
    assert record["data"]["seen"] == 24
    assert record["metrics"]["last"]["ab_error"] > 0
    assert torch.__version__.startswith(record["versions"]["torch"])
    assert record["selected_with_labels"] is False
    seen = np.load(whole / "seen.npy")
    source = open_sources(["photos:"])
    assert seen.dtype == np.uint64
    assert set(seen) <= {dhash(source.picture(index)) for index in range(len(source))}
    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert [entry["event"] for entry in log] == ["begun", "start", "checkpoint", "checkpoint", "finished"]


def test_the_encoder_is_the_last_average_and_loads_into_timm(whole):
    encoder, meta = load_encoder(whole / "encoder.safetensors")
    average = load_file(whole / "checkpoints" / "step-6" / "ema.safetensors")
    for key, value in encoder.body.state_dict().items():
        assert torch.equal(value, average[f"encoder.body.{key}"]), key
    assert meta["init"] == "random"
    said = json.loads((whole / "encoder.json").read_text())
    assert said["backbone"] == TINY.backbone
    assert said["view"].startswith("the largest centred square")


def test_the_colorizer_is_the_average_of_the_best_checkpoint(whole):
    net = load_colorizer(whole / "colorizer.safetensors")
    best = json.loads((whole / "best.json").read_text())
    assert net.meta["steps"] == best["step"]
    average = load_file(whole / best["checkpoint"] / "ema.safetensors")
    assert torch.equal(net.generator.head.weight, average["generator.head.weight"])
    assert net(torch.full((1, 1, 32, 64), 50.0)).shape == (1, 2, 8, 16)
    held_out = set_aside(TINY, open_sources(["photos:"]), np.zeros(0, np.uint64))[1]
    assert calibrate(net.generator, net.colour, held_out, torch.device("cpu")) == net.colour.decoding
    assert read_record(whole)["metrics"]["best"] == colour_scores(net, held_out, torch.device("cpu"))


def test_an_older_checkpoint_that_has_no_decoding_is_given_one(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run")
    (out / "record.json").unlink()
    state = out / json.loads((out / "best.json").read_text())["checkpoint"] / "state.json"
    older = json.loads(state.read_text())
    del older["decoding"]
    state.write_text(json.dumps(older))
    assert run_pretrain(TINY, out=out, resume=True)["metrics"] == read_record(whole)["metrics"]
    assert (out / "colorizer.safetensors").read_bytes() == (whole / "colorizer.safetensors").read_bytes()


def test_a_run_starts_from_anothers_weights_and_says_so(whole, tmp_path):
    for name in ("colorizer", "encoder"):
        out = tmp_path / name
        start = whole / f"{name}.safetensors"
        run_pretrain(tiny(init=str(start), lr=1e-12, ema=0.0, steps=1, checkpoint_every=1, weight_decay=0.0), out=out)
        one, other = load_file(start), load_file(out / f"{name}.safetensors")
        frozen = [key for key in one if "running" not in key and "batches" not in key]
        assert all(torch.allclose(one[key], other[key], atol=1e-6) for key in frozen)
        record = read_record(out)
        assert record["config"]["init"] == str(start)
        assert record["began_with"]["init"] == "random"
        steps = 6 if name == "encoder" else json.loads((whole / "best.json").read_text())["step"]
        assert (record["began_with"]["steps"], record["began_with"]["pictures_read"]) == (steps, 4 * steps)
        assert set(np.load(out / "seen.npy")) >= set(np.load(whole / "seen.npy"))
        assert load_encoder(out / "encoder.safetensors")[1]["seen_known"] is True
    without = tiny(init=str(whole / "colorizer.safetensors"), terms={"rotation": 1.0}, adversarial="none")
    with pytest.raises(TinctError, match="terms has no colours"):
        run_pretrain(without, out=tmp_path / "none")


def test_colour_can_be_learned_to_be_seen_from_a_grey_start(whole, tmp_path):
    start = whole / "encoder.safetensors"
    features = {"palette": 1.0, "siamese": 1.0}
    frozen = {"lr": 1e-12, "ema": 0.0, "weight_decay": 0.0, "steps": 1, "checkpoint_every": 1, "adversarial": "none"}
    config = tiny(init=str(start), terms=features, in_channels=3, in_colour=0.5, **frozen)
    run_pretrain(config, out=tmp_path / "run")
    encoder, meta = load_encoder(tmp_path / "run" / "encoder.safetensors")
    assert meta["in_colour"] == 0.5
    assert "50% of the pictures or views were shown in colour" in (tmp_path / "run" / "README.md").read_text()
    assert "sRGB" in json.loads((tmp_path / "run" / "encoder.json").read_text())["input"]
    weights = {key: load_file(path / "encoder.safetensors") for key, path in (("1", whole), ("3", tmp_path / "run"))}
    stem = stem_name(encoder.body)
    assert torch.allclose(weights["3"][f"{stem}.weight"].sum(1, True), weights["1"][f"{stem}.weight"], atol=1e-6)
    with pytest.raises(TinctError, match=r"in_colour is 0\.5, and terms has bins"):
        run_pretrain(tiny(in_channels=3, in_colour=0.5, adversarial="none"), out=tmp_path / "decoder")
    with pytest.raises(TinctError, match="set in_channels to 3"):
        run_pretrain(tiny(terms=features, in_colour=0.5, adversarial="none"), out=tmp_path / "stem")
    back = dataclasses.replace(config, init=str(tmp_path / "run"), in_channels=1, in_colour=0.0)
    run_pretrain(back, out=tmp_path / "back")
    again = load_file(tmp_path / "back" / "encoder.safetensors")
    assert torch.allclose(again[f"{stem}.weight"], weights["1"][f"{stem}.weight"], atol=1e-6)


def test_the_decoder_that_is_carried_over_is_the_average_beside_the_encoder(whole, tmp_path):
    tensors, stride, width, file = carried_decoder(str(whole))
    assert (stride, width, file) == (TINY.chroma_stride, TINY.width, "checkpoints/step-6/ema.safetensors")
    average = load_file(whole / file)
    segmenter = Segmenter(load_encoder(whole / "encoder.safetensors")[0], 3, stride, width)
    segmenter.decoder.load_state_dict(tensors, strict=True)
    for key, value in segmenter.decoder.state_dict().items():
        assert torch.equal(value, average[f"generator.decoder.{key}"]), key
    assert any(bool(value.std() > 0) for value in tensors.values() if value.numel() > 1)
    copy = shutil.copytree(whole, tmp_path / "run")
    (copy / "last.json").unlink()
    assert carried_decoder(str(copy))[3] == "colorizer.safetensors"


def test_a_run_that_a_probe_steered_says_so_and_is_no_arm_whatever_follows(tmp_path):
    (tmp_path / "labels").mkdir()
    first = tiny(probe=make_table(tmp_path / "labels", train=60, val=4), steps=2, adversarial="none")
    run_pretrain(first, out=tmp_path / "first")
    assert 0 < read_record(tmp_path / "first")["metrics"]["last"]["probe_map"] <= 100
    assert "2,probe_map," in (tmp_path / "first" / "metrics.csv").read_text()
    start = str(tmp_path / "first" / "encoder.safetensors")
    run_pretrain(tiny(init=start, steps=1, adversarial="none"), out=tmp_path / "next")
    for name in ("first", "next"):
        run = tmp_path / name
        assert read_record(run)["selected_with_labels"] is True
        assert load_encoder(run / "encoder.safetensors")[1]["selected_with_labels"] is True
        assert load_colorizer(run / "colorizer.safetensors").meta["selected_with_labels"] is True
        assert "steered by a probe on labels" in (run / "README.md").read_text()
        with pytest.raises(TinctError, match=f"{name}: was steered by a probe on labels"):
            run_compare("mosaic:", task="multilabel", inits=f"random,x={run}", out=tmp_path / "grid")


def test_an_encoder_that_learns_in_colour_is_probed_in_colour(tmp_path, monkeypatch):
    (tmp_path / "labels").mkdir()
    spec = by_chance(make_table(tmp_path / "labels", train=60, val=4), (0.5, 0.4), seed=0)
    monkeypatch.setattr("tinct.probe.STRENGTHS", (0.1,))
    own = {"backbone": "test_resnet", "terms": {"palette": 1.0}, "in_channels": 3, "in_colour": 0.5, "steps": 1}
    run_pretrain(tiny(probe=spec, adversarial="none", **own), out=tmp_path / "run")
    encoder, _ = load_encoder(tmp_path / "run" / "encoder.safetensors")
    colour, grey = (probe_encoder(encoder, spec, 32, kind) for kind in ("rgb", "grey"))
    assert colour != grey
    assert read_record(tmp_path / "run")["metrics"]["last"]["probe_map"] == pytest.approx(colour, abs=1e-3)


def test_a_run_that_began_with_imagenet_says_so_whatever_follows(tmp_path):
    settings = {"backbone": "tf_efficientnet_lite0", "steps": 1, "checkpoint_every": 1, "lr": 1e-12, "ema": 0.0}
    first = tiny(init="imagenet-lite", adversarial="none", weight_decay=0.0, **settings)
    run_pretrain(first, out=tmp_path / "first")
    folded = load_init("imagenet-lite").encoder.body.state_dict()["conv_stem.weight"]
    assert torch.allclose(load_file(tmp_path / "first" / "encoder.safetensors")["conv_stem.weight"], folded, atol=1e-6)
    second = dataclasses.replace(first, init=str(tmp_path / "first" / "encoder.safetensors"))
    run_pretrain(second, out=tmp_path / "next")
    for name in ("first", "next"):
        assert read_record(tmp_path / name)["supervised"] is True
        assert load_encoder(tmp_path / name / "encoder.safetensors")[1]["supervised"] is True
        assert "ImageNet's labels" in (tmp_path / name / "README.md").read_text()
    with pytest.raises(TinctError, match="imagenet-lite has weights of tf_efficientnet_lite0"):
        run_pretrain(tiny(init="imagenet-lite"), out=tmp_path / "other")


def test_workers_and_parts_do_not_change_what_is_seen(whole, tmp_path):
    run_pretrain(tiny(workers=2), out=tmp_path / "workers")
    assert_equal_weights(whole, tmp_path / "workers")
    run_pretrain(tiny(accumulate=2), out=tmp_path / "parts")
    assert np.array_equal(np.load(tmp_path / "parts" / "seen.npy"), np.load(whole / "seen.npy"))


def test_a_step_in_parts_is_the_same_step(tmp_path):
    ends = []
    for parts, lr in (
        (1, 1e-3),
        (2, 1e-3),
        (1, 2e-3),
    ):  # without batch norm and spectral norm, which see each part alone
        config = tiny(backbone="convnext_atto", adversarial="none", accumulate=parts, steps=2, lr=lr)
        run_pretrain(config, out=tmp_path / str(len(ends)))
        ends.append(load_file(tmp_path / str(len(ends)) / "checkpoints" / "step-2" / "generator.safetensors"))
    whole, parts, other = ends
    apart = [max(float((end[key] - whole[key]).abs().max()) for key in whole) for end in (parts, other)]
    assert apart[0] < 1e-4 < apart[1]


def test_mixed_precision_trains(tmp_path):
    for precision in ("32-true", "bf16-mixed"):
        run_pretrain(tiny(precision=precision, adversarial_start=0.0, steps=2), out=tmp_path / precision)
    begun = Learner(TINY, make_fabric("cpu", "32-true"))
    for name, module in begun.modules().items():
        start = module.state_dict()
        full, mixed = (
            load_file(tmp_path / precision / "checkpoints" / "step-2" / f"{name}.safetensors")
            for precision in ("32-true", "bf16-mixed")
        )
        assert all(bool(value.isfinite().all()) for value in mixed.values())
        assert {value.dtype for value in mixed.values()} <= {torch.float32, torch.int64}
        moved = [{key for key in start if not torch.equal(start[key], end[key])} for end in (full, mixed)]
        assert moved[0] == moved[1]
        assert len(moved[0]) > 0.8 * len(start)  # the backbone's last layers have no part
        assert any(not torch.equal(mixed[key], full[key]) for key in full), name


def test_a_program_that_is_interrupted_ends(tmp_path):
    run = tmp_path / "run"
    metrics = run / "metrics.csv"  # begins with names of columns, before training does
    settings = dataclasses.asdict(tiny(steps=10_000, workers=1))
    (tmp_path / "program.py").write_text(
        f"from tinct import Config, run_pretrain\nrun_pretrain(Config(**{settings}), out={str(run)!r})\n"
    )
    program = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], stderr=subprocess.PIPE, text=True)
    try:
        while not (metrics.exists() and metrics.read_text().count("\n") > 1) and program.poll() is None:
            time.sleep(0.1)
        program.terminate()
        _, said = program.communicate(timeout=60)  # it would wait for its reader for ever
    finally:
        program.kill()
    assert program.returncode != 0
    assert "is saved; the same command goes on from there" in said
    assert Run(run).checkpoint("last") is not None


def test_a_lost_reader_of_pictures_is_a_sentence_and_the_run_goes_on(tmp_path, monkeypatch):
    learn = Learner.learn

    def without_readers(self, parts, step, *rest):
        if step == 3:
            for reader in multiprocessing.active_children():
                reader.kill()
        return learn(self, parts, step, *rest)

    config = tiny(steps=40, workers=1, checkpoint_every=2)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", without_readers)
        with pytest.raises(TinctError, match=r"reads pictures was lost \(DataLoader worker .* Killed\).*--resume\)$"):
            run_pretrain(config, out=tmp_path / "run")
    assert Run(tmp_path / "run").checkpoint("last").state["step"] >= 2
    assert run_pretrain(config, out=tmp_path / "run", resume=True)["budget"]["steps"] == 40


@contextmanager
def interrupted_in(moment, monkeypatch, signalled=signal.SIGINT):
    """Within it, training is sent a signal at the beginning of a step."""
    learn = Learner.learn

    def interrupt(self, parts, step, *rest):
        if step == moment:
            os.kill(os.getpid(), signalled)
        return learn(self, parts, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", interrupt)
        yield


@pytest.mark.parametrize(
    ("moment", "signalled"), [(1, signal.SIGINT), (3, signal.SIGTERM), (4, getattr(signal, "SIGHUP", signal.SIGINT))]
)
def test_an_interrupted_run_resumes_to_the_same_weights(whole, tmp_path, monkeypatch, moment, signalled):
    out = tmp_path / "run"
    with (
        interrupted_in(moment, monkeypatch, signalled),
        pytest.raises(KeyboardInterrupt, match=f"stopped after step {moment + 1}, which is saved"),
    ):
        run_pretrain(TINY, out=out)
    assert not (out / "record.json").exists()
    run_pretrain(TINY, out=out, resume=True)
    assert_equal_weights(whole, out)
    assert {path.name for path in (out / "samples").iterdir()} == {path.name for path in (whole / "samples").iterdir()}
    assert metrics(out) == metrics(whole)
    for name in ("best.json", "colorizer.safetensors", "encoder.safetensors", "seen.npy"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    events = [json.loads(line)["event"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert "interrupted" in events
    assert "failed" not in events
    rows = [line.split(",")[:2] for line in (out / "metrics.csv").read_text().splitlines()]
    assert len({tuple(row) for row in rows}) == len(rows)  # no step's metrics twice


def test_a_row_of_metrics_is_the_same_mean_however_often_the_run_was_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr("tinct.pretraining.monitor.EVERY", 4)
    run_pretrain(TINY, out=tmp_path / "whole")
    for moment in (1, 2, 4):
        with interrupted_in(moment, monkeypatch), pytest.raises(KeyboardInterrupt):
            run_pretrain(TINY, out=tmp_path / "stopped", resume=True)
        assert f"\n{moment + 1},bins," in (tmp_path / "stopped" / "metrics.csv").read_text()
    run_pretrain(TINY, out=tmp_path / "stopped", resume=True)
    rows = metrics(tmp_path / "whole")
    assert rows == metrics(tmp_path / "stopped")
    assert [row.split(",")[0] for row in rows if ",bins," in row] == ["4", "6"]  # the last one of two steps


def test_a_checkpoint_holds_the_scale_of_half_precision(tmp_path):
    fabric = make_fabric("cpu", "32-true")
    fabric.strategy.precision = MixedPrecision("16-mixed", "cpu")  # Fabric gives it to GPUs only
    learner = Learner(tiny(adversarial="none"), fabric)
    states = learner.optimizers()
    states["precision"] |= {"scale": 512.0, "_growth_tracker": 7}
    torch.save(states, tmp_path / "optim.pt")
    learner.load_optimizers(Checkpoint(tmp_path, {}).optimizers())
    assert learner.optimizers()["precision"] == states["precision"]
    del states["precision"]  # older checkpoints
    learner.load_optimizers(states)


def test_an_interrupted_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(self, *_):
        signal.raise_signal(signal.SIGTERM)
        return {}

    monkeypatch.setattr(Learner, "learn", interrupt)
    assert main(["pretrain", *FLAGS, "--steps", "6", "--out", str(tmp_path / "run")]) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "stopped after step 1, which is saved; the same command goes on from there (tinct pretrain: with --re" in said
    )
    assert Run(tmp_path / "run").checkpoint("last") is not None


def test_beside_the_main_thread_it_runs_without_signals(whole, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        record = pool.submit(run_pretrain, TINY, out=tmp_path / "run").result()
    assert record["budget"]["steps"] == 6
    assert_equal_weights(whole, tmp_path / "run")


def test_threads_take_turns(monkeypatch):
    both = threading.Barrier(2)  # where threads meet that do not take turns
    drawn: dict[int, int] = {}

    def meet() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)

    def encoder(*args: object) -> Encoder:
        meet()
        return Encoder(*args)

    def stop(learner: Learner, _: object) -> None:
        meet()
        drawn[learner.config.seed] = torch.initial_seed()
        raise TinctError("stop")

    def begin(seed: int) -> dict[str, torch.Tensor]:
        learner = Learner(tiny(seed=seed), engine_for(TINY))
        with pytest.raises(TinctError, match="stop"):
            learner.learn([None], 0, 1.0, None)
        return learner.pretext.state_dict()

    monkeypatch.setattr(Learner, "_batch", stop)
    alone = [begin(seed) for seed in (0, 1)]
    seeds, drawn = drawn, {}
    monkeypatch.setattr("tinct.pretraining.learner.Encoder", encoder)
    with ThreadPoolExecutor(2) as pool:
        beside = list(pool.map(begin, (0, 1)))
    assert all(torch.equal(one[key], other[key]) for one, other in zip(alone, beside, strict=True) for key in one)
    assert drawn == seeds


def test_killed_at_any_moment_and_resumed(whole, tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "tinct", "pretrain", *FLAGS, "--steps", "6", "--out", str(out), "--resume"]
    for wait in (0.3, 0.0):  # after the first checkpoint appears, a moment later and at once
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while not (out / "checkpoints").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        run = Run(out)
        checkpoint = run.checkpoint("last")
        if checkpoint is not None:  # whatever is named is whole
            assert set(checkpoint.optimizers()) == {"generator", "discriminator", "precision", "ledger"}
            assert load_file(checkpoint.folder / "ema.safetensors")
    done = tinct("pretrain", *FLAGS, "--steps", 6, "--out", out, "--resume")
    assert done.returncode == 0, done.stderr
    assert_equal_weights(whole, out)
    again = tinct("pretrain", *FLAGS, "--steps", 6, "--out", out, "--resume")
    assert again.returncode == 0
    assert "finished" in again.stdout


def test_two_ranks_equal_one(tmp_path):
    """Exactly the same pictures and crops, and weights that agree to 3e-4 after 20 steps of at most 2e-4 each.

    So do the losses that are written; and grey pictures are named whichever rank met them.
    """
    (tmp_path / "grey").mkdir()
    for number in range(16):
        Image.fromarray(np.tile(np.arange(40 + number, dtype=np.uint8), (40, 1))).save(
            tmp_path / "grey" / f"{number}.png"
        )
    flags = [
        *("photos:", str(tmp_path / "grey"), "--backbone", "convnext_atto", "--width", "8", "--size", "32"),
        *("--batch-size", "4", "--steps", "20"),
        *("--lr", "2e-4", "--checkpoint-every", "20", "--adversarial", "hinge", "--adversarial-start", "0.5"),
        *("--discriminator-width", "4", "--accelerator", "cpu", "--workers", "0"),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for ranks, strategy in ((1, "auto"), (2, "ddp")):
        out = tmp_path / str(ranks)
        done = tinct("pretrain", *flags, "--devices", ranks, "--strategy", strategy, "--out", out, env=env)
        assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "1" / "seen.npy"), np.load(tmp_path / "2" / "seen.npy"))
    one, two = weights(tmp_path / "1", 20), weights(tmp_path / "2", 20)
    assert max(float((one[key].float() - two[key].float()).abs().max()) for key in one) < 3e-4
    rows = [[line.split(",") for line in metrics(tmp_path / ranks)] for ranks in "12"]
    losses = [{(step, name): float(value) for step, name, value in found if name in LOSSES} for found in rows]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    assert {name for _, name in losses[0]} == LOSSES
    logs = [map(json.loads, (tmp_path / ranks / "log.jsonl").read_text().splitlines()) for ranks in "12"]
    named = [sorted(event["picture"] for event in log if event["event"] == "grey") for log in logs]
    assert named[0] == named[1]
    assert len(named[0]) == read_record(tmp_path / "2")["data"]["grey"] > 2


@pytest.fixture
def in_place_of_python(tmp_path, monkeypatch):
    """Let a shell script be what `sys.executable` names."""

    def put(script: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))

    return put


def test_an_interruption_is_handed_on_to_the_process_that_pretrains_which_may_save(tmp_path, in_place_of_python):
    in_place_of_python("trap 'touch saved; exit 130' TERM\ntouch begun\nwhile :; do sleep 0.05; done")

    def interrupt() -> None:
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        pretrain_apart(tiny(devices="2"), tmp_path / "run")
    assert (tmp_path / "saved").exists()


def test_a_process_that_could_not_pretrain_has_said_why(tmp_path, in_place_of_python):
    in_place_of_python('cp "${4#--config=}" settings.yaml\nexit 2')
    terms = {"rotation": 0.5, "bins": 1.0}  # by whose order they get their weights
    with pytest.raises(TinctError, match=r"run: its pretraining ended with exit code 2 \(it says why above\)"):
        pretrain_apart(tiny(devices="2", terms=terms), tmp_path / "run")
    settings = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert settings == stored(tiny(devices="2", terms=terms))
    assert list(settings["terms"]) == list(terms)


def test_the_average_takes_each_weight_once():
    learner = Learner(tiny(adversarial="none", backbone="test_resnet"), make_fabric("cpu", "32-true"))
    before = {key: value.clone() for key, value in learner.ema.module.state_dict().items()}
    with torch.no_grad():
        for value in learner.pretext.parameters():
            value += 1
    learner.ema.update(learner.pretext, 1000)
    decay = 1 - 1000 ** (-2 / 3)
    for key, value in learner.ema.module.state_dict().items():
        expected = (
            before[key].lerp(learner.pretext.state_dict()[key], 1 - decay) if value.is_floating_point() else value
        )
        assert torch.allclose(value, expected, atol=1e-6), key


@pytest.mark.parametrize(("terms", "reach"), [({"bins": 1.0}, 1.5), ({"palette": 1.0}, 0.38)])
def test_what_learns_to_colour_sees_levels_as_a_finished_colorizer_does(terms, reach):
    learner = Learner(tiny(terms=terms, adversarial="none", backbone="test_resnet"), make_fabric("cpu", "32-true"))
    fed = []
    learner.pretext.encoder.register_forward_pre_hook(lambda _, given: fed.append(given[0]))
    ramp = torch.linspace(90, 137, 32).byte().expand(4, 3, 32, 32).contiguous()  # L* of 38 to 57
    learner.learn([Crops(ramp, torch.arange(4), [])], 0, 1.0, None)
    assert float(fed[0].max() - fed[0].min()) == pytest.approx(reach, abs=0.05)  # contrast times 4, the most


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18"])
def test_norms_made_for_several_gpus_compute_the_same(backbone):
    torch.manual_seed(0)
    pretext = Pretext(Encoder(backbone, 1), {"bins": 1.0, "rotation": 1.0}, width=8).eval()
    norms = [name for name, one in pretext.named_modules() if isinstance(one, torch.nn.BatchNorm2d)]
    batch = Batch(100 * torch.rand(2, 1, 64, 64), torch.zeros(2, 2, 16, 16), torch.arange(2))
    losses, output = pretext(batch)
    synchronise_norms(pretext)
    after, coloured = pretext(batch)
    assert norms
    assert all(isinstance(pretext.get_submodule(name), torch.nn.SyncBatchNorm) for name in norms)
    assert torch.equal(output, coloured)
    assert losses == after


def test_the_callers_random_numbers_go_on_as_they_were(tmp_path):
    before = torch.get_rng_state(), random.getstate()
    run_pretrain(tiny(steps=1), out=tmp_path / "run")
    load_encoder(tmp_path / "run" / "encoder.safetensors")
    load_colorizer(tmp_path / "run" / "colorizer.safetensors")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_minutes_become_steps_once(tmp_path):
    out = tmp_path / "run"
    config = tiny(steps=None, minutes=0.02, checkpoint_every=1000)
    run_pretrain(config, out=out)
    steps = json.loads((out / "budget.json").read_text())["steps"]
    assert steps >= 30
    assert read_record(out)["budget"]["steps"] == steps
    (out / "record.json").unlink()
    (out / "last.json").unlink()  # as if killed after the budget was stored and before the first checkpoint
    (out / "best.json").unlink()
    assert run_pretrain(config, out=out, resume=True)["budget"]["steps"] == steps


def test_a_budget_in_minutes_is_measured_across_an_interruption(tmp_path, monkeypatch):
    out, learn, seen = tmp_path / "run", Learner.learn, []

    def interrupt(self, parts, step, *rest):
        seen.append(step)
        if seen == list(range(19)):
            signal.raise_signal(signal.SIGINT)
        return learn(self, parts, step, *rest)

    monkeypatch.setattr(Learner, "learn", interrupt)
    config = tiny(steps=None, minutes=0.02, checkpoint_every=1000)
    with pytest.raises(KeyboardInterrupt, match="step 19"):
        run_pretrain(config, out=out)
    assert len(json.loads((out / "checkpoints" / "step-19" / "state.json").read_text())["durations"]) == 19
    run_pretrain(config, out=out, resume=True)
    assert seen == list(range(json.loads((out / "budget.json").read_text())["steps"]))


def test_epochs_become_steps(tmp_path):
    write_colourful(tmp_path / "few", 10)
    run_pretrain(
        tiny(sources=[str(tmp_path / "few")], steps=None, epochs=1.5, adversarial="none"), out=tmp_path / "run"
    )
    record = read_record(tmp_path / "run")
    pool = 10 - 10 // 8  # one in eight is held out
    assert record["budget"]["steps"] == -(-3 * pool // (2 * TINY.batch_size))


@pytest.mark.parametrize(("best", "step"), [("ab_error", 2), ("psnr", 3)])
def test_the_best_checkpoint_is_of_the_score_that_was_asked_for(tmp_path, monkeypatch, best, step):
    measured = monitor.colour_scores
    scores = iter([{"ab_error": 9.0, "psnr": 1.0}, {"ab_error": 7.0, "psnr": 2.0}, {"ab_error": 8.0, "psnr": 3.0}])
    monkeypatch.setattr(monitor, "colour_scores", lambda *given: measured(*given) | next(scores))
    run_pretrain(tiny(best=best, steps=3, checkpoint_every=1, adversarial="none"), out=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "best.json").read_text())["step"] == step
    header = load_colorizer(tmp_path / "run" / "colorizer.safetensors").meta
    assert (header["steps"], header["pictures_read"]) == (step, step * TINY.batch_size)


def test_a_wide_start_is_the_one_that_was_asked_for(tmp_path):
    still = tiny(init_std=0.3, lr=1e-12, ema=0.0, weight_decay=0.0, steps=1, checkpoint_every=1)
    run_pretrain(still, out=tmp_path / "run")
    found = load_file(tmp_path / "run" / "encoder.safetensors")
    kernels = torch.cat([value.flatten().float() for value in found.values() if value.ndim == 4])
    assert abs(float(kernels.std()) - 0.3) < 0.01
    assert abs(float(kernels.mean())) < 0.01


def test_few_pictures_make_a_colorizer_too_and_no_score(tmp_path):
    write_colourful(tmp_path / "few", 5)
    run_pretrain(tiny(sources=[str(tmp_path / "few")], steps=3, best="psnr"), out=tmp_path / "run")
    assert load_colorizer(tmp_path / "run" / "colorizer.safetensors").meta["steps"] == 3
    assert "no photographs were held out to choose by" in (tmp_path / "run" / "README.md").read_text()
    assert not (tmp_path / "run" / "best.json").exists()
    assert read_record(tmp_path / "run")["metrics"] == {"last": {}}


def test_a_run_does_not_go_on_with_other_pictures(tmp_path):
    write_colourful(tmp_path / "all", 24)
    config = tiny(sources=[str(tmp_path / "all")], steps=6, adversarial="none")
    run_pretrain(config, out=tmp_path / "run")
    for name in ("record.json", "encoder.safetensors"):
        (tmp_path / "run" / name).unlink()
    some = next(iter((tmp_path / "all").iterdir()))
    some.rename(some.with_stem("another"))
    with pytest.raises(TinctError, match="its files are not those that"):
        run_pretrain(config, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"betas": (1.5, 0.9)}, "betas are"),
        ({"sources": "photos:"}, r"sources is 'photos:'; expected list\[str\]"),
        ({"exclude": "photos:"}, r"exclude is 'photos:'; expected list\[str\]"),
        ({"batch_size": 1}, "batch_size is 1; expected 2 or more"),
        ({"accumulate": 4}, "batch_size is 4; expected 8 or more, 2 for each of devices x accumulate = 4"),
        ({"precision": "bf16-true"}, "precision is 'bf16-true'; expected 32-true, bf16-mixed, 16-mixed, 32, bf16, 16"),
        ({"precision": "16-mixed"}, "precision is 16-mixed with adversarial hinge: .*; take bf16-mixed or 32-true"),
        ({"chroma_stride": 8}, "colours are 4 px wide; the discriminator needs 8"),
        ({"chroma_stride": 3}, "chroma_stride is 3; expected 1, 2, 4 or 8"),
    ],
)
def test_settings_that_cannot_train_are_refused_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(TinctError, match=said):
        run_pretrain(tiny(**changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_stored_configuration_repeats_the_run(whole, tmp_path):
    done = tinct("pretrain", "--config", whole / "config.yaml", "--out", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert_equal_weights(whole, tmp_path / "again")
    assert "out" not in yaml.safe_load((whole / "config.yaml").read_text())


def test_a_bad_number_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    out, learn = tmp_path / "run", Learner.learn

    def poison(self, parts, step, *rest):
        if step == 4:
            with torch.no_grad():
                self.pretext.generator.head.bias.fill_(float("nan"))
        return learn(self, parts, step, *rest)

    monkeypatch.setattr(Learner, "learn", poison)
    with pytest.raises(TinctError, match="bins became nan at step 4"):
        run_pretrain(TINY, out=out)
    checkpoint = Run(out).checkpoint("last")
    assert checkpoint is not None
    assert checkpoint.state["step"] == 3
    assert all(value.isfinite().all() for value in load_file(checkpoint.folder / "generator.safetensors").values())


def test_a_bad_gradient_of_the_discriminator_stops_the_run_before_the_step(tmp_path, monkeypatch):
    out, update, weights = tmp_path / "run", Learner._update, []

    def poison(self, step, rate, adversarial):
        if adversarial:
            next(self.discriminator.parameters()).grad.view(-1)[0] = float("inf")
            weights.extend([self.discriminator, copy.deepcopy(self.discriminator.state_dict())])
        update(self, step, rate, adversarial)

    monkeypatch.setattr(Learner, "_update", poison)
    with pytest.raises(TinctError, match=r"discriminator's gradient became (inf|nan) at step 0"):
        run_pretrain(tiny(adversarial_start=0.0), out=out)
    discriminator, before = weights
    assert all(torch.equal(value, before[key]) for key, value in discriminator.state_dict().items())


def test_a_bad_number_on_one_rank_stops_them_all(tmp_path):
    script = tmp_path / "poison.py"
    script.write_text(
        """
import sys
import torch
from tinct.cli import main
from tinct.pretraining.learner import Learner

learn = Learner.learn

def poison(self, parts, step, *rest):
    if step == 1 and self.fabric.global_rank == 1:
        with torch.no_grad():
            self.pretext.generator.head.bias.fill_(float("nan"))
    return learn(self, parts, step, *rest)

Learner.learn = poison
sys.exit(main())
""",
        encoding="utf-8",
    )
    flags = [*FLAGS, "--steps", "6", "--devices", "2", "--strategy", "ddp", "--out", str(tmp_path / "run")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), "pretrain", *flags], capture_output=True, text=True, env=env, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert "bins became nan at step 1" in done.stderr
    assert Run(tmp_path / "run").checkpoint("last") is None


def test_two_ranks_build_one_cache_and_each_says_why_it_ends(tmp_path):
    script = tmp_path / "counted.py"
    script.write_text(
        """
import sys
from pathlib import Path
from tinct.cli import main
from tinct.data.cache import CachedSource

def counted(method, word):
    def called(*arguments):
        with Path(__file__).with_name("done").open("a") as file:
            file.write(word)
        return method(*arguments)

    return called

CachedSource._build = counted(CachedSource._build, "built ")
CachedSource._is_current = counted(CachedSource._is_current, "compared ")
sys.exit(main())
""",
        encoding="utf-8",
    )
    (tmp_path / "file").touch()
    flags = [*FLAGS, "--steps", "1", "--devices", "2", "--strategy", "ddp"]
    runs = [("one", "cache", 0, "built "), ("two", "cache", 0, "built compared "), ("none", "file/cache", 2, "")]
    for out, cache, code, so_far in runs:
        done = subprocess.run(
            [sys.executable, str(script), "pretrain", *flags, "--cache", cache, "--out", out],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == code, done.stderr
        assert code or (tmp_path / "done").read_text() == so_far
    assert "cannot write file/cache" in done.stderr
    assert "another process of this run has ended" in done.stderr
    assert "Traceback" not in done.stderr


def test_excluded_pictures_are_not_seen(tmp_path, capsys):
    write_colourful(tmp_path / "all", 12)
    write_colourful(tmp_path / "out", 3)  # the first three again
    config = tiny(sources=[str(tmp_path / "all")], exclude=[str(tmp_path / "out")], steps=8, adversarial="none")
    run_pretrain(config, out=tmp_path / "run")
    data = read_record(tmp_path / "run")["data"]
    assert data["excluded"] + data["held_out"] >= 3
    excluded = open_sources([str(tmp_path / "out")])
    seen = np.load(tmp_path / "run" / "seen.npy")
    hashes = {dhash(excluded.picture(index)) for index in range(3)}
    assert not hashes & set(seen)
    assert "excluded pictures" not in capsys.readouterr().err
    first = tmp_path / "run" / "encoder.safetensors"  # what it had seen, a run that goes on from it has seen
    np.save(tmp_path / "run" / "seen.npy", np.array(sorted(hashes)[:2], np.uint64))
    run_pretrain(dataclasses.replace(config, init=str(first), steps=1), out=tmp_path / "on")
    assert f"warning: init {first} saw 2 of the excluded pictures, or copies" in capsys.readouterr().err


def test_pictures_held_out_come_from_a_source_of_their_own_or_are_few_of_the_training_pictures(tmp_path):
    write_colourful(tmp_path / "train", 24)
    for split, count in (("train", 2), ("val", 10)):
        write_colourful(tmp_path / "apart" / split / "things", count)
    source = open_sources([str(tmp_path / "train")])
    nothing = np.zeros(0, np.uint64)
    pool, pictures, _ = set_aside(tiny(), source, nothing)
    assert (len(pool), len(pictures)) == (21, 3)
    others, kept, _ = set_aside(
        tiny(), source, np.array([dhash(source.picture(int(np.setdiff1d(range(24), pool)[0])))])
    )
    assert len(kept) == 3
    assert set(pool) != set(others)  # an excluded picture does not choose the best colorizer either
    pool, pictures, _ = set_aside(tiny(held_out=str(tmp_path / "apart")), source, nothing)
    assert (len(pool), len(pictures)) == (24, 10)


def test_a_folder_without_splits_cannot_be_held_out_but_a_list_of_its_pictures_can(tmp_path):
    write_colourful(tmp_path / "plain", 3)
    with pytest.raises(TinctError, match="plain, which has no val split; name a text file"):
        run_pretrain(tiny(held_out=str(tmp_path / "plain")), out=tmp_path / "run")
    (tmp_path / "list.txt").write_text("\n".join(map(str, (tmp_path / "plain").iterdir())))
    listed, nothing = tiny(held_out=str(tmp_path / "list.txt")), np.zeros(0, np.uint64)
    _, pictures, avoided = set_aside(listed, Photos("train"), nothing)
    assert len(pictures) == 3
    _, again, still_avoided = set_aside(listed, Photos("train"), avoided)  # excluded, too
    assert np.array_equal(again, pictures)
    assert np.array_equal(still_avoided, avoided)
    for path in (tmp_path / "plain").iterdir():
        path.unlink()
    with pytest.raises(
        TinctError, match=r"held_out is .*list.txt, of which none of 3 pictures tried can be used; name"
    ):
        set_aside(listed, Photos("train"), nothing)


def test_copies_of_what_is_held_out_are_not_trained_on(tmp_path):
    write_colourful(tmp_path / "all", 24)
    twice = [str(tmp_path / "all")] * 2
    source = open_sources(twice)
    pool, _, _ = set_aside(tiny(), source, np.zeros(0, np.uint64))
    held_out = np.setdiff1d(range(len(source)), pool)
    assert len(held_out) == 6
    run_pretrain(tiny(sources=twice, steps=None, epochs=2, adversarial="none"), out=tmp_path / "run")
    seen = np.load(tmp_path / "run" / "seen.npy")
    assert not np.isin([dhash(source.picture(int(index))) for index in held_out], seen).any()


def test_among_others_the_embedded_photographs_are_held_out_on_their_right_parts_too(tmp_path):
    write_colourful(tmp_path, 8)
    _, pictures, _ = set_aside(tiny(), open_sources([str(tmp_path), "photos:"]), np.zeros(0, np.uint64))
    right = [open_sources(["photos:"], "val"), open_sources([str(tmp_path)])]
    allowed = {centre(source.picture(index), 64).tobytes() for source in right for index in range(len(source))}
    assert len(pictures) == 64
    assert {picture.tobytes() for picture in pictures} <= allowed


def test_a_run_does_not_go_on_with_other_pictures_held_out(tmp_path):
    write_colourful(tmp_path / "all", 24)
    config = tiny(sources=[str(tmp_path / "all")], adversarial="none", steps=2, checkpoint_every=2)
    run_pretrain(config, out=tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()  # as where it was stopped
    write_colourful(tmp_path / "all", 24, seed=1)
    with pytest.raises(TinctError, match=r"the pictures held out are not those that .* began with"):
        run_pretrain(config, out=tmp_path / "run", resume=True)


def test_fewer_pictures_are_part_of_more_and_the_held_out_ones_stay(tmp_path):
    write_colourful(tmp_path, 40)
    source, nothing = open_sources([str(tmp_path)]), np.zeros(0, np.uint64)
    everything, held_out, _ = set_aside(tiny(), source, nothing)
    before: set[int] = set()
    for count in (4, 9, len(everything)):
        pool, pictures, _ = set_aside(tiny(max_pictures=count, seed=count), source, nothing)
        assert len(set(pool)) == count
        assert before <= set(pool) <= set(everything)
        assert (pictures == held_out).all()
        before = set(pool)
    with pytest.raises(TinctError, match=f"max_pictures is 41, of {len(everything)} in"):
        set_aside(tiny(max_pictures=41), source, nothing)


def test_a_repeated_list_adds_up_on_the_command_line(tmp_path):
    (tmp_path / "run.yaml").write_text("exclude: [z]")
    words = [
        "photos:",
        "--out=run",
        "--config",
        str(tmp_path / "run.yaml"),
        "--exclude",
        "a",
        "b",
        "--steps=3",
        "--exclude=c",
    ]
    config = parse("pretrain", pretrain, words)["config"]
    assert config.exclude == ["a", "b", "c"]
    assert (config.sources, config.steps) == (["photos:"], 3)
    assert parse("pretrain", pretrain, words[:4])["config"].exclude == ["z"]


def test_a_cache_gives_pictures_of_the_same_size(tmp_path):
    write_colourful(tmp_path / "all", 12, side=200)
    config = tiny(sources=[str(tmp_path / "all")], cache=str(tmp_path / "cache"), adversarial="none", steps=3)
    assert run_pretrain(config, out=tmp_path / "run")["data"]["seen"] > 0
    source = open_sources([str(tmp_path / "all")])
    shrunk = CachedSource(source, tmp_path / "cache", 64)  # the smallest crop's side is half of the picture's
    for index in range(12):
        reference = Image.fromarray(source.picture(index)).resize((64, 64), Image.Resampling.BOX)
        assert shrunk.picture(index).shape == (64, 64, 3)
        assert np.abs(shrunk.picture(index).astype(int) - np.asarray(reference)).mean() < 2
    crops = [Photographs(one, np.arange(12, dtype=np.uint32), 32, 0)[5].pixels for one in (source, shrunk)]
    assert crops[0].shape == crops[1].shape == (3, 32, 32)
    assert (crops[0].int() - crops[1].int()).abs().float().mean() < 4


def test_a_cache_may_move_but_neither_come_nor_go_when_a_run_is_resumed(tmp_path):
    run = Run(tmp_path / "run")
    begun = stored(tiny(cache="here", workers=1))
    run.open(begun, False)
    run.check_may_open(stored(tiny(cache="there", workers=2)), True)
    with pytest.raises(TinctError, match=r"cache is None, but the run in .* began with 'here'; resume with the same"):
        run.check_may_open(stored(tiny()), True)
    with pytest.raises(TinctError, match="lr is"):
        run.check_may_open(begun | {"lr": 1.0}, True)


def test_a_run_from_before_settings_were_there_goes_on(tmp_path):
    run = Run(tmp_path / "run")
    begun = stored(tiny())
    run.open({key: value for key, value in begun.items() if key not in ("aged", "betas")}, False)
    run.check_may_open(begun, True)
    with pytest.raises(TinctError, match=r"aged is 0.5, but the run in .* began with 0.0"):
        run.check_may_open(begun | {"aged": 0.5}, True)


def test_what_others_leave_beside_the_checkpoints_is_left_alone(tmp_path):
    run, modules = Run(tmp_path / "run"), {"generator": torch.nn.Linear(1, 1)}
    run.save(modules, {}, {"step": 1}, best=False)
    (run.checkpoints / ".DS_Store").touch()
    (run.checkpoints / ".unfinished-x").mkdir()
    run.save(modules, {}, {"step": 2}, best=False)
    assert {path.name for path in run.checkpoints.iterdir()} == {".DS_Store", "step-2"}


def test_a_run_that_is_killed_while_it_names_a_checkpoint_keeps_its_best(tmp_path, monkeypatch):
    run, modules, write, written = Run(tmp_path / "run"), {"generator": torch.nn.Linear(1, 1)}, runs.write_json, []

    def once(path, content):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    run.save(modules, {}, {"step": 1}, best=True)
    monkeypatch.setattr(runs, "write_json", once)
    with pytest.raises(KeyboardInterrupt):
        run.save(modules, {}, {"step": 2}, best=True)
    assert (run.checkpoint("last").state, run.checkpoint("best").state) == ({"step": 1}, {"step": 2})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--recipe", "features", "--recipe", "bins"], ({"bins": 1.0}, None, 20.0)),
        (["--recipe=features", "--steps", "10"], ({"palette": 1.0, "siamese": 1.0}, 10, None)),
        (["--config=FILE", "--steps", "10"], ({"rotation": 1.0}, 10, None)),
        (["--config", "FILE", "--minutes=3"], ({"rotation": 1.0}, None, 3.0)),
        (["--recipe", "l1", "--config=FILE"], ({"rotation": 1.0}, 7, None)),
        (["--config=FILE", "--recipe", "l1"], ({"l1": 1.0}, None, 20.0)),  # as the files of settings, in their order
        (["--steps", "9", "--recipe", "l1"], ({"l1": 1.0}, 9, None)),
        (["--config=FILE", "--steps", "9", "--recipe", "l1"], ({"l1": 1.0}, 9, None)),
    ],
)
def test_files_of_settings_in_any_spelling(tmp_path, words, expected):
    (tmp_path / "settings.yaml").write_text("terms: {rotation: 1.0}\nsteps: 7\nminutes: null\n")
    words = [word.replace("FILE", str(tmp_path / "settings.yaml")) for word in words]
    config = parse("pretrain", pretrain, ["photos:", "--out", "x", *words])["config"]
    assert (config.terms, config.steps, config.minutes) == expected


@pytest.mark.parametrize("source", ["steps", "epochs", "config"])
def test_sources_and_folders_may_be_called_as_options_are(source):
    config = parse("pretrain", pretrain, [source, "--out", "minutes"])["config"]
    assert (config.sources, config.steps, config.minutes) == ([source], None, 20.0)
    assert parse("pretrain", pretrain, [source, "--steps", "3", "--out", "x"])["config"].steps == 3


def test_a_file_of_settings_that_is_no_text_is_named(tmp_path, capsys):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(["pretrain", "photos:", "--out", str(tmp_path / "run"), "--config", str(tmp_path / "run.yaml")]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/run.yaml: not in UTF-8" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: 3\nsize: 32\nsteps: 4\n", "run.yaml: line 3: 'steps' is there twice; expected it once"),
        ("terms: {l1: 1, l1: 2}\n", "line 1: 'l1' is there twice"),
        ("sources: x\n", "run.yaml: sources is 'x'; expected a list, such as [x]"),
        ("exclude: x\n", "run.yaml: exclude is 'x'; expected a list, such as [x]"),
        ("terms: bins\n", "terms is 'bins'; expected names with weights, such as '{l1: 1.0"),
        ("steps: x\n", "steps is 'x'; expected a whole number;"),
        ("", "run.yaml: empty; expected lines of KEY: VALUE"),
        ("recipe: l1\n", "run.yaml: recipe is no setting of a file; leave it out and write --recipe l1"),
        ("config: {steps: 3}\n", "run.yaml: unknown setting 'config'; expected those that --print-config shows"),
    ],
)
def test_a_file_of_settings_that_is_wrong_is_said_in_plain_words(tmp_path, capsys, text, said):
    (tmp_path / "run.yaml").write_text(text)
    assert main(["pretrain", "photos:", "--out", str(tmp_path / "run"), "--config", str(tmp_path / "run.yaml")]) == 2
    assert said in capsys.readouterr().err


MISTAKES = [
    (
        ["--exclude", "voc:X", "photos"],
        "no source given; --exclude takes all words that follow it",
    ),
    (["photos:", "--device", "cpu"], "unrecognized arguments: --device cpu"),
    (["photos:", "--split", "tran"], "split is 'tran'; expected train or all;"),
    (["nowhere"], "nowhere"),
    (["photos:", "--backbone", "resnet81"], "resnet81"),
    (["photos:", "--batch-size", "-4"], "batch_size is -4"),
    (["photos:", "--batch-size", "many"], "batch_size"),
    (["photos:", "--size", "50"], "multiple of 32"),
    (["photos:", "--minutes", ".inf"], "minutes is inf; expected a finite number"),
    (["photos:", "--terms", "{l1: 1, bins: 1}"], "at most one"),
    (["photos:", "--terms", "{rotation: 1}"], "terms (rotation) make none: set adversarial to none, or add one of l1"),
    (["photos:", "--accelerator", "cuda"], "cuda"),
    (["photos:", "--devices", "x"], "devices"),
    (["photos:", "--nonsense", "1"], "nonsense"),
    (["photos:", "--recipe", "quick"], "fast"),
    (["photos:", "--width", "12"], "multiple of 8"),
    (["photos:", "--probe", "csv:nowhere.csv"], "nowhere.csv"),
    (["photos:", "--init", "nothing.safetensors"], "nothing.safetensors"),
    ([], "no source"),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_left_behind(words, says, tmp_path, capsys, monkeypatch):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("this machine has what the test wants to be absent")
    monkeypatch.chdir(tmp_path)
    code = main(["pretrain", *words, "--steps", "2", "--out", "run"])
    captured = capsys.readouterr()
    assert code == 2
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_take_a_run(tmp_path, whole):
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    for out, says in ((tmp_path / "file", "a file"), (tmp_path / "other", "other files"), (whole, "another run")):
        with pytest.raises(TinctError, match=says):
            run_pretrain(TINY, out=out)
    (whole / "record.json").rename(whole / "record.kept")
    try:
        with pytest.raises(TinctError, match="lr is"):
            run_pretrain(tiny(lr=1.0), out=whole, resume=True)
    finally:
        (whole / "record.kept").rename(whole / "record.json")
    with pytest.raises(TinctError, match=r"out is .*caf\\udce9'; expected a name in UTF-8"):
        run_pretrain(TINY, out=tmp_path / os.fsdecode(b"caf\xe9"))
    assert {path.name for path in tmp_path.iterdir()} == {"file", "other"}
    with pytest.raises(TinctError, match="cannot write"):
        run_pretrain(TINY, out=Path("/proc/run"))


def test_an_empty_and_an_all_grey_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TinctError, match="empty"):
        run_pretrain(tiny(sources=[str(tmp_path / "empty")]), out=tmp_path / "run")
    for index in range(4):
        (tmp_path / "grey").mkdir(exist_ok=True)
        Image.new("L", (40, 40), 60 * index).save(tmp_path / "grey" / f"{index}.png")
    with pytest.raises(TinctError, match="grey"):
        run_pretrain(tiny(sources=[str(tmp_path / "grey")]), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_log_names_grey_and_broken_pictures(colourful, tmp_path):
    Image.new("L", (40, 40), 60).save(colourful / "grey.png")
    (colourful / "broken.png").write_bytes(b"no picture")
    run_pretrain(tiny(sources=[str(colourful)], epochs=2.0, steps=None), out=tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    named = {entry["event"]: (entry["picture"], entry["reason"]) for entry in log if "picture" in entry}
    assert named["grey"] == ("grey.png", "grey: mean chroma below 2")
    assert named["unreadable"][0] == "broken.png"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O: No space left")])
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch, error):
    out = tmp_path / "run"

    def full(tensors, path):
        if "step" in str(Run(out).checkpoint("last") or ""):
            Path(path).write_bytes(b"half")
            raise error
        return save(tensors, path)

    save = runs.save_file
    monkeypatch.setattr(runs, "save_file", full)
    with pytest.raises(TinctError, match="No space left"):
        run_pretrain(TINY, out=out)
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"step-3"}
    monkeypatch.undo()
    assert run_pretrain(TINY, out=out, resume=True)["budget"]["steps"] == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_under_the_optimizers_is_said_in_words(tmp_path, monkeypatch):
    opened = Path.open
    full = Path("/dev/full")
    monkeypatch.setattr(
        Path, "open", lambda self, *how, **more: opened(full if self.suffix == ".pt" else self, *how, **more)
    )
    state = {"step": 1}
    with pytest.raises(TinctError, match=r"cannot write checkpoint .*step-1: No space left on device; free some space"):
        Run(tmp_path).save({}, {"generator": torch.zeros(1000)}, state, best=False)


def test_a_full_disk_under_the_curves_is_one_line(tmp_path, monkeypatch, capsys):
    from tensorboard.compat.tensorflow_stub.io.gfile import LocalFileSystem

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFileSystem, "_write", full)
    hook = threading.excepthook
    with pytest.raises(TinctError, match=r"cannot write .*events\.\*: No space left .*; free some space and --resume"):
        run_pretrain(TINY, out=tmp_path / "run")
    assert threading.excepthook is hook
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.undo()
    assert run_pretrain(TINY, out=tmp_path / "run", resume=True)["budget"]["steps"] == 6


def test_a_run_under_way_is_left_alone(tmp_path):
    with alone_in(tmp_path / "run"), pytest.raises(TinctError, match="run is being written by another process"):
        run_pretrain(TINY, out=tmp_path / "run", resume=True)
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("last.json", b"{"),
        ("last.json", b'{"checkpoint": "checkpoints/step-99"}'),
        ("config.yaml", b""),
        ("checkpoints/step-6/optim.pt", b"torn"),
        ("checkpoints/step-6/optim.pt", None),
        ("checkpoints/step-6/ema.safetensors", b"torn"),
    ],
)
def test_a_run_that_was_damaged_is_named(whole, tmp_path, name, content):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "record.json").unlink()
    (tmp_path / "run" / name).unlink() if content is None else (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(TinctError, match=r"cannot be read|no such file"):
        run_pretrain(TINY, out=tmp_path / "run", resume=True)


def test_a_finished_run_is_left_alone_but_not_taken_for_another(whole, capsys):
    assert pretrain(TINY, out=whole, resume=True) == 0
    assert "nothing to do" in capsys.readouterr().out
    with pytest.raises(TinctError, match=r"steps is 500, but the run in .* began with 6"):
        run_pretrain(tiny(steps=500), out=whole, resume=True)


def test_pictures_that_cannot_be_read_cannot_be_excluded_in_silence(tmp_path):
    write_colourful(tmp_path / "few", 4)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"gone/{number}.png\n" for number in range(4)))
    with pytest.raises(TinctError, match=r"exclude .*list\.txt: 4 of its 4 pictures cannot be read, so nothing keeps"):
        run_pretrain(tiny(exclude=[str(listed)]), out=tmp_path / "run")


def test_weights_of_unknown_making_are_recorded_as_such(tmp_path):
    encoder = Encoder(TINY.backbone, 1)
    save_file(encoder.body.state_dict(), tmp_path / "theirs.safetensors")
    out = tmp_path / "run"
    run_pretrain(tiny(init=str(tmp_path / "theirs.safetensors"), steps=1, adversarial="none"), out=out)
    assert read_record(out)["supervised"] is None
    assert load_encoder(out / "encoder.safetensors")[1]["seen_known"] is False
    card = (out / "README.md").read_text()
    assert "after weights of unknown making" in card
    assert "do not say how they were made: no evidence" in card
    (out / "seen.npy").write_bytes(b"damaged")
    with pytest.raises(TinctError, match=r"seen\.npy: cannot be read"):
        load_init(str(out))


def test_a_folder_in_use_is_refused_before_any_preparation(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("tinct.pretrain.open_sources", lambda *_: pytest.fail("prepared first"))
    with pytest.raises(TinctError, match="which holds another run"):
        run_pretrain(TINY, out=whole)
    with pytest.raises(TinctError, match="began with"):
        run_pretrain(tiny(lr=0.5), out=whole, resume=True)


def test_what_rotation_alone_leaves_is_an_encoder_and_json_without_scores(tmp_path, monkeypatch):
    out = tmp_path / "run"
    config = tiny(terms={"rotation": 1.0}, adversarial="none")
    with interrupted_in(1, monkeypatch), pytest.raises(KeyboardInterrupt):
        run_pretrain(config, out=out)
    state = out / "checkpoints" / "step-2" / "state.json"
    assert '"best": null' in state.read_text()
    state.write_text(state.read_text().replace('"best": null', '"best": Infinity'))  # as older ones have it
    run_pretrain(config, out=out, resume=True)
    written = [path.read_text() for path in out.rglob("*.json")] + (out / "log.jsonl").read_text().splitlines()
    assert len(written) > 6
    for text in written:
        json.loads(text, parse_constant=pytest.fail)
    assert (out / "encoder.safetensors").exists()
    assert not (out / "colorizer.safetensors").exists()


@pytest.mark.parametrize("budget", [{"steps": 500}, {"steps": None, "minutes": 9.0, "warmup_steps": 30}])
def test_an_interrupted_run_can_be_ended_where_it_is(whole, tmp_path, monkeypatch, budget):
    out = tmp_path / "run"
    with interrupted_in(3, monkeypatch), pytest.raises(KeyboardInterrupt, match="stopped after step 4"):
        run_pretrain(tiny(**budget), out=out)
    rest = {key: value for key, value in budget.items() if key == "warmup_steps"}
    with pytest.raises(TinctError, match=r"but the run in .*, or end it where it is with steps 4"):
        run_pretrain(tiny(steps=3, **rest), out=out, resume=True)
    assert not (out / "samples" / "step-0000004.png").exists()  # it is not scored, lest it be the best
    kept = weights(out, 4)
    record = run_pretrain(tiny(steps=4, **rest), out=out, resume=True)
    assert (record["budget"]["steps"], record["budget"]["pictures_read"]) == (4, 16)
    assert record["config"]["steps"] == budget["steps"]  # what it began with
    assert record["metrics"]["last"]["ab_error"] > 0
    assert [line for line in (out / "metrics.csv").read_text().splitlines() if line.startswith("4,ab_error,")]
    average = load_encoder(out / "encoder.safetensors")[0].body.state_dict()
    assert all(torch.equal(value, kept[f"ema.encoder.body.{key}"]) for key, value in average.items())
    assert run_pretrain(tiny(**budget), out=out, resume=True) == record


def test_a_run_goes_on_whatever_way_its_sources_are_spelled(colourful, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = run_pretrain(tiny(sources=["pictures"], steps=1), out=tmp_path / "run")
    for way in ("pictures/", "./pictures", str(colourful)):
        assert run_pretrain(tiny(sources=[way], steps=1), out=tmp_path / "run", resume=True) == record
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for way in ("../pictures", str(colourful)):
        assert run_pretrain(tiny(sources=[way], steps=1), out=Path("../run"), resume=True) == record
    with pytest.raises(TinctError, match=r"sources is \['../other'\], but the run"):
        run_pretrain(tiny(sources=["../other"], steps=1), out=Path("../run"), resume=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TinctError, match=r"sources is \['pictures', 'photos:'\], but the run"):
        run_pretrain(tiny(sources=["pictures", "photos:"], steps=1), out=tmp_path / "run", resume=True)


def test_a_resumed_run_has_seen_the_same_hashes(tmp_path, monkeypatch):
    """Of large JPEGs, which are decoded at a scale that follows from the crop: the first reading counts."""
    rng = np.random.default_rng(0)
    for number in range(8):
        soft = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        (tmp_path / "large").mkdir(exist_ok=True)
        soft.resize((1000, 750), Image.Resampling.BICUBIC).save(tmp_path / "large" / f"{number}.jpg")
    config = tiny(sources=[str(tmp_path / "large")], steps=8, checkpoint_every=4, adversarial="none", min_crop=0.05)
    run_pretrain(config, out=tmp_path / "whole")
    with interrupted_in(3, monkeypatch), pytest.raises(KeyboardInterrupt, match="step 4"):
        run_pretrain(config, out=tmp_path / "cut")
    run_pretrain(config, out=tmp_path / "cut", resume=True)
    assert np.array_equal(np.load(tmp_path / "whole" / "seen.npy"), np.load(tmp_path / "cut" / "seen.npy"))


def test_the_bar_ends_with_the_last_score(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    record = run_pretrain(tiny(steps=2), out=tmp_path / "run")
    said = capsys.readouterr().err
    assert f"· held-out ab {record['metrics']['last']['ab_error']:.1f}" in said


def test_a_log_has_a_line_for_each_checkpoint(tmp_path, capsys):
    record = run_pretrain(tiny(steps=3, checkpoint_every=2), out=tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" images/s · bins ")[0].rpartition(" ")[0] for line in lines[:2]] == [
        "step 2 of 3:",
        "step 3 of 3:",
    ]
    assert len(lines) == 3
    last = record["metrics"]["last"]
    assert lines[1].endswith(f" · held-out ab {last['ab_error']:.1f}")
    assert lines[2].endswith(f", held-out ab error {last['ab_error']:.2f} (grey: {last['ab_error_grey']:.2f})")

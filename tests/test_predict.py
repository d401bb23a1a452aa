import csv
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_labels import make_table
from PIL import Image
from safetensors.torch import load_file

from tinct.cli import main
from tinct.data.folder import PathSource
from tinct.downstream import predictions
from tinct.downstream import trained as trained_module
from tinct.downstream.predictions import png_names
from tinct.downstream.trained import load_trained, logits_of
from tinct.errors import PictureError, TinctError
from tinct.files import alone_in
from tinct.settings import TransferSettings
from tinct.transfer import run_transfer
from tinct.weights import read_weights, write_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table's pictures, and transfers trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    spec = make_table(folder, train=16, val=6)
    common = {
        "backbone": "resnet10t",
        "size": 32,
        "batch_size": 8,
        "steps": 2,
        "min_positives": 1,
        "accelerator": "cpu",
    }
    for name, task, protocol in (
        ("classes", "multilabel", "finetune"),
        ("linear", "multilabel", "linear"),
        ("neighbours", "multilabel", "knn"),
        ("masks", "segmentation", "finetune"),
    ):
        run_transfer(TransferSettings(spec, task, protocol=protocol, **common), folder / name)
    return folder


@pytest.mark.parametrize("name", ["classes", "linear"])
def test_a_classifier_says_what_its_evaluation_said(trained, tmp_path, name):
    pictures = [str(trained / f"{number}.png") for number in range(16, 22)]
    saved = load_file(trained / name / "predictions.safetensors")["scores"].sigmoid()
    threshold = 0.5 if name == "linear" else round(float(saved.sort(0).values[2:4].mean()), 4)
    words = [] if name == "linear" else ["--threshold", str(threshold)]
    assert main(["predict", str(trained / name), *pictures, "--out", str(tmp_path), *words]) == 0
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == pictures
    given = torch.tensor([[float(row["bars"]), float(row["disc"])] for row in rows])
    assert torch.allclose(given, saved, atol=1e-4)
    answers = json.loads((tmp_path / "predictions.json").read_text())["pictures"]
    assert answers[0]["probabilities"]["bars"] == pytest.approx(float(saved[0, 0]), abs=1e-4)
    present = [len(answer["present"]) for answer in answers]
    assert 0 < sum(present) < 12
    for answer in answers:
        assert answer["present"] == [kind for kind, value in answer["probabilities"].items() if value > threshold]
    assert len(list((tmp_path / "overlays").rglob("*.png"))) == 6


def test_a_segmenters_masks_fit_their_pictures(trained, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    with Image.open(trained / "16.png") as image:
        image.resize((90, 50)).save(folder / "wide.png")
        image.save(folder / "sub" / "square.png")
    out = tmp_path / "out"
    assert (
        main(["predict", str(trained / "masks" / "model.safetensors"), str(folder), "--out", str(out), "--no-overlays"])
        == 0
    )
    with Image.open(out / "masks" / "wide.png") as mask:
        assert mask.size == (90, 50)
        values = np.asarray(mask)
        assert mask.mode == "P"
    assert values.max() < 3
    shares = {row["path"]: row["shares"] for row in json.loads((out / "predictions.json").read_text())["pictures"]}
    names = ("background", "bars", "disc")
    assert shares["wide.png"] == {
        names[value]: pytest.approx((values == value).mean(), abs=1e-6) for value in np.unique(values)
    }
    assert (out / "masks" / "sub" / "square.png").exists()
    assert not (out / "overlays").exists()


def test_a_folder_is_taken_by_one_at_a_time(trained, tmp_path, capsys, monkeypatch):
    words = ["predict", str(trained / "classes"), str(trained / "16.png"), "--out", str(tmp_path / "out")]
    with alone_in(tmp_path / "out"):
        assert main(words) == 2
    assert "is being written by another process" in capsys.readouterr().err

    @contextmanager
    def late(folder):
        (folder / "predictions.json").write_text("{}")  # another's, which ended just now
        yield

    monkeypatch.setattr("tinct.predict.alone_in", late)
    assert main(words) == 2
    assert "holds predictions" in capsys.readouterr().err


def test_an_unreadable_picture_is_named_and_the_rest_done(trained, tmp_path, capsys):
    shutil.copy(trained / "16.png", tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert main(["predict", str(trained / "classes"), str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "bad.png" in capsys.readouterr().err
    assert [row["path"] for row in json.loads((tmp_path / "out" / "predictions.json").read_text())["pictures"]] == [
        "good.png"
    ]


def test_a_picture_that_fails_at_full_size_alone_is_named_and_the_rest_done(trained, tmp_path, monkeypatch, capsys):
    def picture(self, index, min_side=None):
        if min_side is None and self.name(index) == "a.png":
            raise PictureError("a.png: not enough memory")
        return whole(self, index, min_side)

    whole = PathSource.picture
    monkeypatch.setattr(PathSource, "picture", picture)
    for name in ("a.png", "b.png"):
        shutil.copy(trained / "16.png", tmp_path / name)
    assert main(["predict", str(trained / "masks"), str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "passed over: a.png: not enough memory" in said
    assert "pictures done: 1, unreadable: 1" in said
    assert [path.name for path in (tmp_path / "out" / "masks").iterdir()] == ["b.png"]


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    picture, out = str(trained / "16.png"), str(tmp_path / "out")
    assert main(["predict", str(tmp_path), picture, "--out", out]) == 2
    assert "no such file" in capsys.readouterr().err
    unkept = str(trained / "neighbours")
    for command in (["predict", unkept, picture, "--out", out], ["export", unkept, out, "--to", "timm"]):
        assert main(command) == 2
        assert "neighbours: its transfer kept no model" in capsys.readouterr().err
    assert main(["embed", unkept, picture, "-o", f"{out}.npy"]) == 2
    assert (
        "neighbours: holds a transfer run without encoder.safetensors; choose one that has made it"
        in capsys.readouterr().err
    )
    assert main(["embed", str(trained / "classes"), picture, "-o", f"{out}.npy"]) == 2
    assert "classes FOLDER --to timm puts its encoder into FOLDER/model.safetensors" in capsys.readouterr().err
    assert main(["predict", str(trained / "classes" / "predictions.safetensors"), picture, "--out", out]) == 2
    assert "holds predictions" in capsys.readouterr().err
    assert main(["predict", str(trained / "classes"), picture, picture, "--out", out]) == 2
    assert "two pictures" in capsys.readouterr().err
    assert main(["predict", str(trained / "classes"), picture, "--out", out, "--threshold", "7"]) == 2
    assert "expected a probability" in capsys.readouterr().err
    assert main(["predict", str(trained / "classes"), picture, "--out", out, "--device", "toaster"]) == 2
    assert "no device toaster here" in capsys.readouterr().err


class Elsewhere(torch.nn.Module):
    """On a device that every machine has and that computes nothing."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(1, device="meta"))
        self.fed = []

    def forward(self, pixels):
        self.fed.append(pixels.device)
        return torch.ones(len(pixels), 2, dtype=torch.bfloat16)


def test_pictures_are_brought_to_the_network():
    network = Elsewhere()
    found = logits_of(network, np.zeros((3, 32, 32, 3), np.uint8), "rgb")
    assert network.fed == [torch.device("meta")]
    assert (found.device.type, found.dtype, found.shape) == ("cpu", torch.float32, (3, 2))


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        ("classes", "backbone", None),
        ("classes", "in_channels", 10**9),
        ("classes", "size", "x"),
        ("classes", "task", ["multilabel"]),
        ("classes", "task", "segmentation"),
        ("classes", "classes", 3),
        ("classes", "classes", [1, 2]),
        ("classes", "classes", ["x"] * 40_000),
        ("classes", "stages", [-9]),
        ("classes", "stages", [-1] * 9),
        ("classes", "stages", None),
        ("classes", "peaks", 1),
        ("classes", "input", {}),
        ("classes", "stem_bias", None),
        ("masks", "head", ["unet"]),
        ("masks", "stride", 3),
        ("masks", "width", 10**9),
        ("masks", "background", "sky"),
    ],
)
def test_a_damaged_header_is_one_line(trained, tmp_path, model, name, value):
    tensors, meta = read_weights(trained / model / "model.safetensors")
    path = tmp_path / "model.safetensors"
    write_weights(path, tensors, meta | {name: value})
    with pytest.raises(TinctError, match=rf"its header is damaged, {name} is .{{1,40}}; fetch or export it again"):
        load_trained(path)
    write_weights(path, tensors, {"kind": meta["kind"]})
    with pytest.raises(TinctError, match="its header is damaged, backbone is None"):
        load_trained(path)


def test_names_that_differ_in_their_suffix_or_are_no_text(trained, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with Image.open(trained / "16.png") as image:
        image.convert("RGB").save(folder / "a.jpg")
        image.save(folder / "a.png")
        image.save(folder / "b.png")
        image.convert("RGB").save(folder / "a.png.jpg")
        image.save(os.fsencode(folder) + b"/\xff.png")
    out = tmp_path / "out"
    assert main(["predict", str(trained / "classes"), str(folder), "--out", str(out)]) == 0
    drawn = sorted(os.listdir(os.fsencode(out / "overlays")))
    assert drawn == [b"a.jpg.png", b"a.png.jpg.png", b"a.png.png", b"b.png", b"\xff.png"]
    assert b"\xff.png" in (out / "predictions.csv").read_bytes()


def test_nothing_is_written_among_the_pictures_and_a_table_is_no_list(trained, tmp_path, capsys):
    words = ["predict", str(trained / "classes"), str(tmp_path), "--out"]
    shutil.copy(trained / "16.png", tmp_path / "1.png")
    assert main([*words, str(tmp_path)]) == 2
    assert "the pictures' own folder, where overlays would count as such" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]
    table = str(trained / "table.csv")
    assert main(["predict", str(trained / "classes"), table, "--out", str(tmp_path / "out")]) == 2
    assert f"expected a text file of paths, or csv:{table} for a table" in capsys.readouterr().err


def test_a_folder_that_another_command_made_is_left_alone(trained, tmp_path, capsys):
    picture, spec = str(trained / "16.png"), f"csv:{trained / 'table.csv'}"
    before = sorted(trained.rglob("*"))
    assert main(["predict", str(trained / "classes"), picture, "--out", str(trained / "masks")]) == 2
    assert "which holds what tinct transfer made; choose another folder" in capsys.readouterr().err
    compared = ["compare", spec, "--task", "multilabel", "--inits", "random,tinct-small-ssl", "--out"]
    assert main([*compared, str(trained / "masks")]) == 2
    assert "what tinct transfer made" in capsys.readouterr().err
    assert sorted(trained.rglob("*")) == before
    out = str(tmp_path / "out")
    assert main(["predict", str(trained / "classes"), picture, "--out", out]) == 0
    for words in ([*compared, out], ["transfer", spec, "--task", "multilabel", "--out", out]):
        assert main(words) == 2
        assert "what tinct predict made" in capsys.readouterr().err
    for name in ("config.yaml", "log.jsonl"):
        (tmp_path / name).touch()
    assert main([*compared, str(tmp_path)]) == 2
    assert "what tinct pretrain made" in capsys.readouterr().err
    experiment = ["reproduce", "paper-cpu", "--data", str(tmp_path), "--out", str(tmp_path)]
    assert main(experiment) == 2
    assert "what tinct pretrain made" in capsys.readouterr().err


@pytest.mark.parametrize("left", ["masks", "overlays"])
def test_what_an_interrupted_prediction_left_is_not_added_to(trained, tmp_path, capsys, left):
    (tmp_path / "out" / left).mkdir(parents=True)
    shutil.copy(trained / "16.png", tmp_path)
    assert main(["predict", str(trained / "classes"), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert (
        "which holds predictions, masks or overlays already; choose another folder, or remove it"
        in capsys.readouterr().err
    )


def test_pictures_of_one_name_in_two_folders_are_told_apart(trained, tmp_path, monkeypatch):
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        shutil.copy(trained / "16.png", tmp_path / name / "1.png")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(trained / "classes"), "A", "B", "--out", "out"]) == 0
    assert [row.split(",")[0] for row in (tmp_path / "out" / "predictions.csv").read_text().splitlines()] == [
        *("path", "A/1.png", "B/1.png")
    ]
    pictures = json.loads((tmp_path / "out" / "predictions.json").read_text())["pictures"]
    assert [one["path"] for one in pictures] == ["A/1.png", "B/1.png"]
    assert sorted(path.parent.name for path in (tmp_path / "out" / "overlays").rglob("*.png")) == ["A", "B"]


@pytest.mark.parametrize("shape", [(1, 1), (37, 80), (301, 5)])
def test_strips_of_enlarged_logits_are_the_whole(monkeypatch, shape):
    logits = torch.randn(7, 12, 9, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(logits[None].double(), size=shape, mode="bilinear", align_corners=False)[0]
    monkeypatch.setattr(trained_module, "STRIP", 7 * shape[1] * 5)
    network = torch.nn.Conv2d(1, 1, 1)
    monkeypatch.setattr(network, "forward", lambda _: logits[None])
    mask = trained_module.mask_of(network, np.zeros((12, 9, 3), np.uint8), "grey", *shape)
    found = torch.from_numpy(mask).long()
    lost = whole.max(0).values - whole.gather(0, found[None])[0]
    assert float(lost.max()) < 1e-5  # ties may fall either way


@pytest.mark.parametrize("name", ["classes", "masks"])
def test_its_own_results_are_not_pictures(trained, tmp_path, capsys, name):
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        shutil.copy(trained / f"{number}.png", few)
    for again in range(3):
        out = few / f"out{again}"
        assert main(["predict", str(trained / name), str(few), "-o", str(out)]) == 0
        assert len(json.loads((out / "predictions.json").read_text())["pictures"]) == 3
    assert f"passed over: {few / 'out1'}, which tinct wrote" in capsys.readouterr().err


def test_predictions_are_not_mixed_with_earlier_ones(trained, tmp_path, capsys):
    words = ["predict", str(trained / "masks"), str(trained / "16.png"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    words[2] = str(trained / "17.png")
    assert main(words) == 2
    assert (
        "which holds predictions, masks or overlays already; choose another folder, or remove it"
        in capsys.readouterr().err
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_no_name_leads_out_of_the_folder(monkeypatch):
    assert png_names(["../../a.jpg", "/b/c.jpg", "C:d.jpg"]) == [Path("a.png"), Path("b/c.png"), Path("C_d.png")]
    monkeypatch.setattr(predictions, "os", SimpleNamespace(sep="\\"))  # as on Windows
    assert png_names([r"..\..\a.jpg", r"C:\b\c.jpg", "d/e.jpg"]) == [Path("a.png"), Path("C_/b/c.png"), Path("d/e.png")]

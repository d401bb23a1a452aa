import json

from fake_labels import make_table

from tinct.cards import pretraining_card
from tinct.cli import main
from tinct.settings import TransferSettings
from tinct.transfer import run_transfer

PRETRAINED = {
    "what": "pretrain",
    "config": {
        "backbone": "resnet18",
        "terms": {"bins": 1.0},
        "adversarial": "none",
        "adversarial_weight": 0.1,
        "size": 64,
        "chroma_stride": 4,
        "init": "random",
    },
    "data": {"spec": "photos:", "seen": 7, "pictures": 9, "grey": 1, "unreadable": 0, "excluded": 1, "held_out": 2},
    "seed": 5,
    "budget": {"steps": 11, "pictures_read": 22, "seconds": 60.0},
    "metrics": {},
    "selected_with_labels": False,
}


def test_a_pretraining_has_a_card(tmp_path, capsys):
    (tmp_path / "record.json").write_text(json.dumps(PRETRAINED))
    assert main(["card", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# resnet18: Colour pretraining")
    assert "`colorizer.safetensors`, not calibrated: no photographs were held out" in text
    assert "11 steps" in text
    assert main(["card", str(tmp_path), "-o", str(tmp_path / "card.md")]) == 0
    assert (tmp_path / "card.md").read_text().strip() == text.strip()


def test_a_card_claims_neither_colours_nor_files_that_are_not_there():
    rotation = {**PRETRAINED, "config": {**PRETRAINED["config"], "terms": {"rotation": 1.0}}}
    assert pretraining_card(rotation).startswith("# resnet18: Rotation pretraining")
    assert "colorizer.safetensors" not in pretraining_card(rotation)
    scores = {"ab_error": 1.0, "ab_error_grey": 2.0, "psnr": 20.0, "colourfulness_ratio": 0.9}
    lost = {**PRETRAINED, "data": {**PRETRAINED["data"], "vanished": 3}}
    assert "excluded, 3 of those seen vanished later), without labels" in pretraining_card(lost)
    assert "vanished" not in pretraining_card(PRETRAINED)
    assert "`colorizer.safetensors` is the best" in pretraining_card({**PRETRAINED, "metrics": {"best": scores}})


def test_a_transfer_has_a_card(tmp_path, capsys):
    (tmp_path / "labels").mkdir()
    tiny = {"backbone": "test_efficientnet", "size": 32, "batch_size": 8, "steps": 1, "min_positives": 1}
    settings = TransferSettings(make_table(tmp_path / "labels"), "multilabel", accelerator="cpu", seed=4, **tiny)
    record = run_transfer(settings, tmp_path / "run")
    assert main(["card", str(tmp_path / "run")]) == 0
    text = capsys.readouterr().out
    assert f"mAP {record['value']:.2f} on 12 pictures of val" in text
    assert "bars, disc" in text
    assert "started from: random weights" in text
    assert "seed 4" in text


def test_a_comparison_is_sent_to_report(tmp_path, capsys):
    (tmp_path / "compare.json").write_text('{"what": "compare"}')
    assert main(["card", str(tmp_path)]) == 2
    assert "holds a comparison; tinct report makes a page" in capsys.readouterr().err


def test_other_folders_are_named(tmp_path, capsys):
    assert main(["card", str(tmp_path)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    damaged = {**PRETRAINED, "config": {**PRETRAINED["config"], "terms": None}}
    for record, message in (
        ({"what": "report"}, "expected that of a pretraining"),
        ({"what": "pretrain"}, "config is missing"),
        (damaged, "config.terms is missing or not what a record has there"),
    ):
        (tmp_path / "record.json").write_text(json.dumps(record))
        assert main(["card", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err

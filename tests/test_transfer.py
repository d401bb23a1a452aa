import copy
import importlib.util
import io
import json
import shlex
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_labels import make_table
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from tinct.arguments import parse
from tinct.cards import transfer_card
from tinct.cli import main
from tinct.compare import run_compare
from tinct.data.hashes import dhash
from tinct.downstream.examples import open_labels
from tinct.downstream.finetune import groups, loss_of, positive_weights
from tinct.downstream.protocols import fit_probe, score, scored_in
from tinct.downstream.trained import load_trained
from tinct.engine import warmup_cosine
from tinct.errors import TinctError
from tinct.evidence.grouping import comparisons
from tinct.evidence.records import find_records
from tinct.evidence.wording import sentences
from tinct.files import alone_in
from tinct.inits import carried_decoder, load_init
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.models.heads import Segmenter
from tinct.objectives import make_terms
from tinct.settings import TransferSettings
from tinct.transfer import contents_of, parts_of, run_cell, run_transfer, transfer, warn
from tinct.weights import save_colorizer, save_encoder, write_weights

TINY = {"backbone": "resnet10t", "size": 32, "batch_size": 8, "steps": 2, "min_positives": 1, "accelerator": "cpu"}


def settings_for(table, task="multilabel", **changes):
    return TransferSettings(table, task, **{**TINY, **changes})


def lasting(record):
    """A record without times and environment."""
    return {
        key: value
        for key, value in record.items()
        if key not in ("seconds", "versions", "commit", "machine", "command")
    }


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("multilabel", {"labels": "0.5", "input": "rgb", "balanced": True, "layer_decay": 0.7}),
        ("multilabel", {"protocol": "linear"}),
        ("segmentation", {"labels": "10", "protocol": "frozen"}),
    ],
)
def test_the_same_cell_gives_the_same_record_and_predictions(table, tmp_path, task, changes):
    settings = settings_for(table, task, **changes)
    before = torch.get_rng_state()
    first, again = (run_transfer(settings, tmp_path / name) for name in ("first", "again"))
    assert lasting(first) == lasting(again)
    assert torch.equal(torch.get_rng_state(), before)
    assert json.loads((tmp_path / "first" / "record.json").read_text()) == first
    one, two = (load_file(tmp_path / name / "predictions.safetensors") for name in ("first", "again"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_threads_take_turns(table, tmp_path):
    seeds = range(3)
    alone = [run_transfer(settings_for(table, seed=seed), tmp_path / f"alone{seed}") for seed in seeds]
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(lambda seed: run_transfer(settings_for(table, seed=seed), tmp_path / f"{seed}"), seeds))
    assert list(map(lasting, beside)) == list(map(lasting, alone))


def test_a_record_says_everything(table, tmp_path):
    record = run_transfer(settings_for(table, labels="8", seed=3), tmp_path)
    assert {
        key: record[key] for key in ("what", "task", "protocol", "labels", "n_labels", "seed", "metric", "note")
    } == {
        "what": "transfer",
        "task": "multilabel",
        "protocol": "finetune",
        "labels": "8",
        "n_labels": 8,
        "seed": 3,
        "metric": "map",
        "note": None,
    }
    assert record["data"]["classes"] == record["data"]["scored"] == ["bars", "disc"]
    assert record["data"]["eval_pictures"] == 12
    assert record["init"] | {"provenance": None} == {
        "name": "random",
        "backbone": "resnet10t",
        "provenance": None,
        "keys_taken": 0,
    }
    assert record["value"] == pytest.approx(100 * record["metrics"]["mean_ap"])
    assert record["settings"]["lr"] == 1e-3
    saved = load_file(tmp_path / "predictions.safetensors")
    assert saved["scores"].shape == saved["labels"].shape == (12, 2)


def test_it_learns(table, tmp_path):
    classes = run_transfer(settings_for(table, steps=30, lr=3e-3), tmp_path / "classes")
    masks = run_transfer(settings_for(table, "segmentation", steps=50, lr=3e-3), tmp_path / "masks")
    assert classes["value"] > 90  # half of the pictures have each class: chance is about 50
    iou = masks["metrics"]["iou"]
    assert iou["bars"] > 0.3
    assert masks["value"] > 33  # all background gives at most 100 / 3
    assert masks["metric"] == "miou"
    assert masks["data"]["scored"] == ["background", "bars", "disc"]
    counts = load_file(tmp_path / "masks" / "predictions.safetensors")["confusions"]
    assert counts.shape == (12, 3, 3)
    assert counts.dtype == torch.int32
    assert counts.sum((1, 2)).tolist() == [48 * 48] * 12  # the masks' own size
    truth = torch.tensor(masks["metrics"]["confusion"])
    assert torch.equal(counts.long().sum(0), truth)


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_frozen_leaves_weights_and_norm_statistics_bit_equal(table, tmp_path, task):
    before = load_init("random", backbone="resnet10t", seed=0).encoder.body.state_dict()
    for protocol in ("frozen", "finetune"):
        run_transfer(settings_for(table, task, protocol=protocol, lr=0.01), tmp_path / protocol)
        network, _ = load_trained(tmp_path / protocol)
        after = network.encoder.body.state_dict()
        same = {key: torch.equal(after[key], value) for key, value in before.items()}
        assert all(same.values()) == (protocol == "frozen")
        assert same["bn1.running_mean"] == (protocol == "frozen")
        assert same["bn1.num_batches_tracked"] == (protocol == "frozen")


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_linear_and_knn_do_not_depend_on_the_batch_size(table, tmp_path, protocol):
    one, other = (
        run_transfer(settings_for(table, protocol=protocol, batch_size=size), tmp_path / str(size)) for size in (2, 32)
    )
    assert one["metrics"] == other["metrics"]


def test_a_cache_changes_nothing(table, tmp_path):
    for protocol in ("linear", "finetune"):
        plain = run_transfer(settings_for(table, protocol=protocol, labels="12"), tmp_path / protocol / "plain")
        for name in ("filled", "used"):
            settings = settings_for(table, protocol=protocol, labels="12", cache=str(tmp_path / "cache"))
            cached = run_transfer(settings, tmp_path / protocol / name)
            assert cached["value"] == pytest.approx(plain["value"])
            assert cached["n_labels"] == 12


def test_unreadable_pictures_are_counted_named_and_skipped(tmp_path):
    spec = make_table(tmp_path, train=12, val=6)
    for number in (1, 13):
        path = tmp_path / f"{number}.png"
        path.write_bytes(path.read_bytes()[:100])
    console = Console(record=True, quiet=False, file=open("/dev/null", "w"), width=200)  # noqa: SIM115
    record = run_transfer(settings_for(spec), tmp_path / "out", console=console)
    assert record["data"]["unreadable"] in (["1.png", "13.png"], ["13.png"])  # 1 may be in the tuning part
    assert record["data"]["eval_pictures"] == 5
    assert "13.png" in console.export_text()


def test_a_cache_names_no_picture_that_was_not_chosen(tmp_path):
    spec = make_table(tmp_path, train=20, val=8)
    settings = settings_for(spec, protocol="linear", labels="8")
    parts = parts_of(settings)
    chosen = [int(parts.chosen[0]), int(parts.tuning[0])]
    others = np.setdiff1d(np.arange(20), [*parts.chosen, *parts.tuning])
    for number in (*chosen, int(others[0])):
        (tmp_path / f"{number}.png").write_bytes(b"")
    names = sorted(f"{number}.png" for number in chosen)
    for out, cache in (("plain", None), ("filled", str(tmp_path / "cache")), ("used", str(tmp_path / "cache"))):
        record = run_transfer(replace(settings, cache=cache), tmp_path / out)
        assert record["data"]["unreadable"] == names, out


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_a_picture_that_was_repaired_is_taken_in_spite_of_a_cache(tmp_path, protocol):
    spec = make_table(tmp_path, train=20, val=8)
    settings = settings_for(spec, protocol=protocol, cache=str(tmp_path / "cache"))
    broken = [tmp_path / f"{number}.png" for number in (3, 22)]
    contents = [path.read_bytes() for path in broken]
    for path in broken:
        path.write_bytes(b"")
    assert run_transfer(settings, tmp_path / "before")["data"]["unreadable"] == ["22.png", "3.png"]
    for path, content in zip(broken, contents, strict=True):
        path.write_bytes(content)
    repaired = run_transfer(settings, tmp_path / "after")
    assert repaired["data"]["unreadable"] == []
    assert repaired["value"] == run_transfer(replace(settings, cache=None), tmp_path / "without")["value"]


def test_corrected_masks_are_read_again_and_those_of_a_grid_once(tmp_path):
    settings = settings_for(make_table(tmp_path, train=12, val=6), "segmentation")
    before = run_transfer(settings, tmp_path / "before")["data"]["labels_sha256"]
    shutil.copy(tmp_path / "1-mask.png", tmp_path / "0-mask.png")
    assert run_cell(settings, tmp_path / "cell")["data"]["labels_sha256"] == before
    assert run_transfer(settings, tmp_path / "after")["data"]["labels_sha256"] != before


def test_training_masks_that_cannot_be_used_are_named(tmp_path):
    spec = make_table(tmp_path, train=12, val=6)
    for number in (1, 2):
        (tmp_path / f"{number}-mask.png").unlink()
    record = run_transfer(settings_for(spec, task="segmentation"), tmp_path / "out")
    assert record["data"]["unreadable"] == ["1.png", "2.png"]
    (other := tmp_path / "other").mkdir()
    spec = make_table(other, train=12, val=6)
    for number in range(12):
        (other / f"{number}-mask.png").unlink()
    with pytest.raises(TinctError, match=r"train: none of its masks can be used; for instance 0.png: .*0-mask.png"):
        run_transfer(settings_for(spec, task="segmentation"), tmp_path / "none")


def test_where_no_evaluated_mask_can_be_used_that_is_said(tmp_path):
    spec = make_table(tmp_path, train=12, val=6)
    for number in range(12, 18):
        (tmp_path / f"{number}-mask.png").unlink()
    with pytest.raises(TinctError, match=r"split val: none of its masks can be used; for instance 12.png: .*12-mask"):
        run_transfer(settings_for(spec, task="segmentation"), tmp_path / "out")


def test_masks_of_0_and_255_are_said_to_be_void(tmp_path):
    spec = make_table(tmp_path)
    for path in tmp_path.glob("*-mask.png"):
        with Image.open(path) as mask:
            Image.fromarray(np.where(np.asarray(mask) > 0, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(TinctError, match="its masks of train hold 255, which is void, and no class; write"):
        run_transfer(settings_for(spec, "segmentation"), tmp_path / "out")


def test_two_classes_of_one_name_are_refused(tmp_path):
    spec = make_table(tmp_path, train=12, val=6)
    path = tmp_path / "table.csv"
    path.write_text(path.read_text().replace("bars,disc", "background,disc"))
    with pytest.raises(TinctError, match="two classes are called 'background'"):
        run_transfer(settings_for(spec, task="segmentation"), tmp_path / "out")


def test_where_its_files_cannot_be_written_the_score_is_said(table, tmp_path):
    out = tmp_path / "out"
    (out / "model.safetensors").mkdir(parents=True)
    with pytest.raises(TinctError, match=r"cannot write .*model.safetensors: .* \(it scored \d+\.\d\d\)"):
        run_transfer(settings_for(table, steps=1), out)
    assert not (out / "record.json").exists()


def test_two_at_once_in_one_folder_are_one(table, tmp_path):
    with alone_in(tmp_path / "out"), pytest.raises(TinctError, match="out is being written by another process"):
        run_transfer(settings_for(table, steps=1), tmp_path / "out")
    assert run_transfer(settings_for(table, steps=1), tmp_path / "out")["value"] > 0


def test_what_another_process_finished_meanwhile_is_kept(table, tmp_path, monkeypatch):
    def slow(name, **options):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "record.json").write_text("{}")  # ended since this one began
        return load_init(name, **options)

    monkeypatch.setattr("tinct.transfer.load_init", slow)
    with pytest.raises(TinctError, match="which holds a finished transfer; choose another folder"):
        run_transfer(settings_for(table, steps=1), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["record.json"]


def test_splits_of_other_classes_are_refused(table, tmp_path, monkeypatch):
    def shifted(spec, split, *rest):
        found = open_labels(spec, split, *rest)
        if split == "train":
            return found
        source = copy.copy(found.source)
        source.classes = ("bars", "ring")
        return replace(found, source=source)

    monkeypatch.setattr("tinct.transfer.open_labels", shifted)
    with pytest.raises(TinctError, match=r"class 1 is 'disc' in train and 'ring' in val; give both splits the same"):
        run_transfer(settings_for(table), tmp_path / "out")


def test_a_file_is_no_folder_to_write_to(table, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(TinctError, match="out, a file; expected a folder"):
        run_transfer(settings_for(table), tmp_path / "out")


def test_a_folder_that_cannot_be_made_is_said_before_training(table, tmp_path, monkeypatch):
    monkeypatch.setattr("tinct.downstream.protocols.train", None)
    (tmp_path / "file").touch()
    with pytest.raises(TinctError, match=r"cannot write .*file/out: Not a directory; choose another folder"):
        run_transfer(settings_for(table), tmp_path / "file" / "out")


def test_a_picture_that_pretraining_saw_is_named(table, tmp_path):
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", Encoder("resnet10t"), {"selected_with_labels": False})
    folder = table.removeprefix("csv:").rpartition("/")[0]
    with Image.open(f"{folder}/31.png") as image:
        known = dhash(np.asarray(image))
    np.save(tmp_path / "seen.npy", np.array([known ^ np.uint64(5)], np.uint64))  # two bits away
    record = run_transfer(settings_for(table, init=str(tmp_path)), tmp_path / "out")
    assert "31.png" in record["data"]["seen_by_encoder"]["names"]
    assert record["init"]["keys_taken"] == len(Encoder("resnet10t").body.state_dict())
    (tmp_path / "on").mkdir()
    shutil.copy(tmp_path / "seen.npy", tmp_path / "on")
    save_encoder(tmp_path / "on" / "encoder.safetensors", Encoder("resnet10t"), {"init": str(tmp_path)})
    lines = Console(record=True, width=1000, file=io.StringIO())
    for init, remedy in ((tmp_path, "pretrain another encoder with"), (tmp_path / "on", f"started from {tmp_path},")):
        run_transfer(settings_for(table, init=str(init)), tmp_path / f"{init.name}-out", console=lines)
        assert remedy in lines.export_text()
    np.save(tmp_path / "seen.npy", np.zeros(0, np.uint64))
    record = run_transfer(settings_for(table, init=str(tmp_path)), tmp_path / "again")
    assert record["data"]["seen_by_encoder"] == {"pictures": 0, "names": []}


@pytest.mark.parametrize(
    ("split", "remedy"),
    [
        ("val", "leave them out of the val split, or pretrain another encoder with --exclude csv:here"),
        (
            "tuning",
            "they are training pictures: --exclude keeps them out as a text file of paths, or score another split",
        ),
    ],
)
def test_a_warning_names_ten_pictures_counts_the_others_and_says_what_to_do(split, remedy):
    lines = Console(record=True, width=300, file=io.StringIO())
    seen = {"pictures": 12, "names": [f"{number}.png" for number in range(12)]}
    found = {"seen_by_encoder": seen, "seen_in_training": {"pictures": 1, "names": ["a.png"]}}
    warn(lines, {}, {"spec": "csv:here", "eval_split": split, **found})
    seen, learned = lines.export_text().splitlines()
    assert "12 of the evaluated pictures" in seen
    assert seen.endswith(f"9.png and 2 more; {remedy}")
    assert "10.png" not in seen
    assert learned.endswith("a.png; take them out of one of the two")


@pytest.mark.parametrize("evaluate", ["val", "tuning"])
def test_the_digest_of_labels_is_of_all_that_are_learned_or_scored_and_of_no_others(table, evaluate, monkeypatch):
    def digest(train=None, evaluated=None):
        changed = copy.copy(parts)
        for part, index in (("train", train), ("evaluated", evaluated)):
            if index is not None:
                presence = getattr(parts, part).presence.copy()
                presence[index, 1] = 1 - presence[index, 1]
                changed = replace(changed, **{part: replace(getattr(parts, part), presence=presence)})
        return contents_of(changed)["labels_sha256"]

    parts = parts_of(settings_for(table, evaluate=evaluate))
    own = digest()
    last = int(parts.where[-1])
    assert digest() == own
    assert len({own, digest(train=29), digest(train=0), digest(evaluated=last), digest(evaluated=parts.where[0])}) == 5
    if evaluate == "tuning":
        assert digest(evaluated=int(parts.chosen[0])) == own  # it is not scored
    monkeypatch.setattr(parts.train.source, "groups", np.arange(30) // 3)
    assert digest() != own
    monkeypatch.setattr(parts.evaluated.source, "groups", np.arange(len(parts.evaluated.source)) // 3)
    known = contents_of(parts)["groups_sha256"]
    parts.evaluated.source.groups[last] = parts.evaluated.source.groups[parts.where[0]]
    assert contents_of(parts)["groups_sha256"] != known


def test_rows_without_a_label_are_not_in_the_digests(tmp_path):
    spec = make_grouped(tmp_path)
    before = contents_of(parts_of(settings_for(spec)))
    table = tmp_path / "table.csv"
    header, *rows = table.read_text().splitlines()
    new = [f"{split}-{camera}.png,,{split},,,{camera}" for split in ("train", "val") for camera in "az"]
    table.write_text("\n".join([header, *new, *rows]) + "\n")
    assert contents_of(parts_of(settings_for(spec))) == before


def make_grouped(folder):
    """The same table with three pictures in a row of one camera each."""
    spec = make_table(folder)
    header, *rows = (folder / "table.csv").read_text().split()
    grouped = [f"{header},group", *(f"{row},camera {number // 3}" for number, row in enumerate(rows))]
    (folder / "table.csv").write_text("\n".join(grouped) + "\n")
    return spec


@pytest.mark.parametrize("evaluate", ["val", "tuning"])
def test_parts_of_train_have_whole_groups(tmp_path, evaluate):
    parts = parts_of(settings_for(make_grouped(tmp_path), protocol="linear", evaluate=evaluate))
    in_train = [parts.chosen, parts.tuning, *[parts.where] * (evaluate == "tuning")]
    cameras = [camera for part in in_train for camera in np.unique(part // 3)]
    assert len(cameras) == len(set(cameras)) == 10


def test_groups_of_evaluated_pictures_are_kept_and_drawn_as_a_whole(tmp_path, monkeypatch):
    spec = make_grouped(tmp_path)
    (tmp_path / "33.png").unlink()
    (tmp_path / "34.png").unlink()
    record = run_transfer(settings_for(spec, protocol="linear"), tmp_path / "out")
    evaluated = record["data"]["eval_pictures"]
    assert record["data"]["eval_groups"] == (evaluated + 2) // 3
    kept = load_file(tmp_path / "out" / "predictions.safetensors")["groups"].tolist()
    assert [kept.count(group) for group in dict.fromkeys(kept)] == [3, 1, *[3] * (evaluated // 3 - 1)]
    seen = []
    monkeypatch.setattr(
        "tinct.evidence.statistics._weights", lambda n, groups: seen.append(list(groups)) or iter([np.ones((1, n))])
    )
    (cell,) = find_records([tmp_path / "out"]).cells
    assert cell.resampled == pytest.approx([cell.value], abs=1e-4)
    assert seen == [kept]


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_a_picture_that_is_evaluated_and_learned_from_is_named(tmp_path, protocol):
    spec = make_table(tmp_path)
    train = parts_of(settings_for(spec, protocol=protocol)).chosen
    shutil.copy(tmp_path / f"{train[0]}.png", tmp_path / "33.png")  # 30 and above are evaluated
    lines = Console(record=True, quiet=False, width=200, file=io.StringIO())
    record = run_transfer(settings_for(spec, protocol=protocol), tmp_path / "out", console=lines)
    assert "33.png" in record["data"]["seen_in_training"]["names"]
    assert "warning: among the labelled training pictures are" in lines.export_text()
    (made,) = comparisons(find_records([tmp_path / "out"]).cells)
    assert made.learned == record["data"]["seen_in_training"]["pictures"] > 0
    assert "are among the labelled training pictures: every mAP here is too high" in " ".join(sentences(made))
    assert "are among those it was trained on" in transfer_card(record)
    record["data"]["scored"] = ["<b>fox</b>"]
    assert "over 1 classes: &lt;b&gt;fox&lt;/b&gt;" in transfer_card(record)


def test_a_picture_that_is_evaluated_and_tuned_on_is_named_where_it_chose_something(tmp_path):
    spec = make_table(tmp_path)
    tuning = parts_of(settings_for(spec)).tuning
    shutil.copy(tmp_path / f"{tuning[0]}.png", tmp_path / "33.png")
    found = {}
    for protocol in ("linear", "knn", "finetune"):
        record = run_transfer(settings_for(spec, protocol=protocol), tmp_path / protocol)
        found[protocol] = "33.png" in record["data"]["seen_in_training"]["names"]
        assert record["n_labels"] == len(parts_of(settings_for(spec)).chosen)
    assert found == {"linear": True, "knn": True, "finetune": False}


def test_an_encoder_that_saw_colour_is_fed_colour_unless_told_otherwise(tmp_path):
    (tmp_path / "labels").mkdir()
    spec = make_table(tmp_path / "labels")
    save_encoder(tmp_path / "encoder.safetensors", Encoder("test_resnet", 3), {"size": 32, "in_colour": 0.5})
    saw = str(tmp_path / "encoder.safetensors")
    for init, given, fed in (("random", None, "grey"), (saw, None, "rgb"), (saw, "grey", "grey")):
        settings = settings_for(spec, protocol="linear", init=init, input=given, backbone=None)
        record = run_transfer(settings, tmp_path / f"{init == saw}-{given}")
        assert (record["input"], record["settings"]["input"]) == (fed, fed)

    def fed_in(out, inits, **given):
        shared = {"size": 32, "min_positives": 1, "accelerator": "cpu", "task": "multilabel", "protocol": "linear"}
        found = run_compare(spec, out=tmp_path / out, labels="all", seeds=1, inits=inits, **shared, **given)
        warned = (
            "x: saw colour in pretraining, and was fed grey; try input=rgb (in tinct compare: --settings input=rgb)"
            in found.warnings
        )
        return {cell.record["input"] for cell in found.comparison.cells}, warned

    both = {"random": "random", "x": saw}
    assert fed_in("colour", both) == ({"rgb"}, False)
    (tmp_path / "blind").mkdir()
    save_encoder(tmp_path / "blind" / "encoder.safetensors", Encoder("test_resnet"), {"size": 32})
    assert fed_in("grey", {"random": "random", "y": str(tmp_path / "blind")}) == ({"grey"}, False)
    assert fed_in("grey", both) == ({"grey"}, True)  # a grid goes on as it was begun
    assert fed_in("asked", both, input="grey") == ({"grey"}, True)


def test_overlays_of_one_name_are_refused_before_any_work(tmp_path):
    (tmp_path / "labels").mkdir()
    spec = make_table(tmp_path / "labels")
    table = tmp_path / "labels" / "table.csv"
    table.write_text(table.read_text() + "\n".join(("../labels/30.png,,val,0,0", "labels/30.png,,val,0,0", "")))
    with pytest.raises(TinctError, match=r"would be written to labels/30\.png\.png"):
        run_transfer(settings_for(spec, protocol="linear"), tmp_path / "out", predictions=True)
    assert not (tmp_path / "out").exists()


def test_a_colorizers_decoder_is_carried_over_whole(table, tmp_path):
    torch.manual_seed(0)
    colour, _ = make_terms({"l1": 1.0}, [512])
    generator = Generator(Encoder("resnet10t"), colour.out_channels, 2, 32)
    save_encoder(tmp_path / "encoder.safetensors", generator.encoder, {"selected_with_labels": False})
    save_colorizer(tmp_path / "colorizer.safetensors", generator, colour, {})
    tensors, stride, width, file = carried_decoder(str(tmp_path))
    decoder = Segmenter(Encoder("resnet10t"), 3, stride, width).decoder
    decoder.load_state_dict(tensors, strict=True)
    assert (stride, width, file) == (2, 32, "colorizer.safetensors")
    assert all(torch.equal(value, generator.decoder.state_dict()[key]) for key, value in decoder.state_dict().items())
    settings = settings_for(table, "segmentation", init=str(tmp_path), decoder="carried", backbone=None)
    record = run_transfer(settings, tmp_path / "out")
    assert record["init"]["provenance"]["decoder"] == "colorizer.safetensors"
    assert load_trained(tmp_path / "out")[1]["width"] == 32


@pytest.mark.parametrize(("name", "value"), [("chroma_stride", None), ("chroma_stride", 3), ("width", 10**9)])
def test_no_decoder_is_carried_by_a_damaged_header(tmp_path, name, value):
    (tmp_path / "encoder.safetensors").touch()
    header = {"kind": "colorizer", "chroma_stride": 4, "width": 8, name: value}
    write_weights(tmp_path / "colorizer.safetensors", {}, header)
    with pytest.raises(TinctError, match=f"its header is damaged, {name} is {value}"):
        carried_decoder(str(tmp_path))


@pytest.mark.parametrize("init", ["random", "imagenet-lite", "tinct-small-ssl", "elsewhere/encoder.safetensors"])
def test_no_decoder_is_taken_from_where_one_happens_to_be(tmp_path, monkeypatch, init):
    colour, _ = make_terms({"l1": 1.0}, [512])
    generator = Generator(Encoder("resnet10t"), colour.out_channels, 2, 32)
    save_colorizer(tmp_path / "colorizer.safetensors", generator, colour, {})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TinctError, match="has no colorizer"):
        carried_decoder(init)


@pytest.mark.skipif(importlib.util.find_spec("segmentation_models_pytorch") is None, reason="optional package")
def test_smp_heads_train_and_come_back(table, tmp_path):
    settings = settings_for(table, "segmentation", head="unet")
    run_transfer(settings, tmp_path)
    before = torch.random.get_rng_state()
    with torch.device("meta"):  # a default of the caller's
        network, meta = load_trained(tmp_path / "model.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert meta["head"] == "unet"
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_tuning_scores_a_part_that_no_subset_touches(table, tmp_path):
    record = run_transfer(settings_for(table, evaluate="tuning"), tmp_path)
    assert record["data"]["eval_split"] == "tuning"
    assert record["data"]["eval_pictures"] == 6
    assert record["n_labels"] == 24
    assert record["data"]["eval_fingerprint"] != record["data"]["train_fingerprint"]


def test_a_probe_scored_on_the_tuning_part_chooses_its_strength_elsewhere(table, tmp_path, monkeypatch):
    seen = {}

    def spy(settings, start, parts, fabric, console):
        seen["parts"] = parts
        return fit_probe(settings, start, parts, fabric, console)

    monkeypatch.setattr("tinct.transfer.fit_probe", spy)
    record = run_transfer(settings_for(table, evaluate="tuning", protocol="linear"), tmp_path)
    parts = seen["parts"]
    assert record["data"]["eval_split"] == "tuning"
    assert np.array_equal(parts.where, parts.train.parts()[0])
    groups = [set(part.tolist()) for part in (parts.where, parts.tuning, parts.chosen)]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups))
    assert sum(map(len, groups)) == 30


def test_a_background_alone_is_no_score():
    masks = np.zeros((3, 4), np.float32)  # presence of background, cat, dog, and a class whose pixels were lost
    masks[:, 0] = 1
    masks[0, 1] = masks[1, 1] = masks[0, 3] = masks[1, 3] = 1
    source = SimpleNamespace(background=0)
    labelled = SimpleNamespace(presence=masks, classes=("background", "cat", "dog", "lost"), source=source)
    confusion = torch.zeros(3, 4, 4)
    confusion[:, 0, 0], confusion[:, 1, 1] = 90, 5
    result = SimpleNamespace(output=confusion, indices=np.arange(3), metrics={})
    settings = TransferSettings("x", "segmentation", min_positives=2)
    value, scored, _ = score(result, labelled, settings, scored_in(labelled, result.indices, settings))
    assert (value, scored) == (100.0, ["background", "cat"])
    with pytest.raises(TinctError, match="no class has 3 positives"):
        scored_in(labelled, result.indices, replace(settings, min_positives=3))


def test_an_unreadable_picture_takes_no_class_out_of_the_score(tmp_path):
    spec = make_table(tmp_path, train=12, val=8)
    settings = settings_for(spec, min_positives=4)  # each class has four
    assert run_transfer(settings, tmp_path / "whole")["data"]["scored"] == ["bars", "disc"]
    (tmp_path / "13.png").write_bytes(b"")  # bars alone
    found = run_transfer(settings, tmp_path / "out")
    assert (found["data"]["eval_pictures"], found["data"]["scored"]) == (7, ["bars", "disc"])
    assert found["value"] == pytest.approx(100 * np.mean(list(found["metrics"]["average_precision"].values())))
    with pytest.raises(TinctError, match=r"whole and .*out: they were scored on 8 and 7 pictures"):
        comparisons(find_records([tmp_path / "whole", tmp_path / "out"]).cells)


def test_unknown_labels_and_void_have_no_part_in_the_loss():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    labels = torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    known = torch.nn.functional.binary_cross_entropy_with_logits(
        logits[[0, 1, 1], [0, 0, 1]], torch.tensor([1.0, 0, 1])
    )
    assert loss_of(logits, labels, None) == pytest.approx(float(known))
    void = torch.full((1, 2, 2), 255)
    assert loss_of(torch.randn(1, 3, 2, 2), void, None) == 0


def test_rows_of_a_table_without_any_label_are_no_labelled_pictures(tmp_path):
    settings = TransferSettings(make_table(tmp_path), "multilabel", labels="all", steps=1, size=32, min_positives=1)
    whole = parts_of(settings)
    table = tmp_path / "table.csv"
    known, sides = table.read_text(), {"train": 24, "val": 6}
    unknown = [f"{side}-{number}.png,,{side},," for side, count in sides.items() for number in range(count)]
    table.write_text(known + "\n".join(unknown) + "\n")
    parts = parts_of(settings)
    for one, same in ((parts.chosen, whole.chosen), (parts.tuning, whole.tuning), (parts.where, whole.where)):
        assert one.tolist() == same.tolist()
    assert parts.all_labels
    assert contents_of(parts) == contents_of(whole)
    for protocol in ("finetune", "linear"):  # pictures that are not there would be named
        found = run_transfer(replace(settings, protocol=protocol), tmp_path / protocol)
        assert found["n_labels"] == len(whole.chosen)
        assert found["data"]["eval_pictures"] == len(whole.where)
        assert found["data"]["unreadable"] == []


def test_balanced_positives_weigh_as_much_as_negatives():
    labels = torch.tensor([[1.0, 0, 1], [0, 0, 1], [0, 0, float("nan")], [0, 0, 0]])
    assert positive_weights(labels).tolist() == [3.0, 1.0, 0.5]
    rare = torch.eye(80)[:, :1]
    assert positive_weights(torch.cat((rare, 1 - rare), dim=1)).tolist() == pytest.approx([50, 1 / 50])


def test_rates_fall_by_the_decay_from_layer_to_layer_towards_the_input():
    network = Segmenter(Encoder("resnet18", 1), classes=3)
    settings = TransferSettings("mosaic:", "segmentation", layer_decay=0.5)
    made = groups(network, settings)
    scale = {id(parameter): group.get("lr_scale", 1.0) for group in made for parameter in group["params"]}
    assert len(scale) == len(list(network.parameters()))  # each once
    body = network.encoder.body
    stages = [body.conv1, body.layer1, body.layer2, body.layer3, body.layer4]
    found = [{scale[id(parameter)] for parameter in stage.parameters()} for stage in stages]
    lowest = [min(scales) for scales in found]
    assert lowest == sorted(lowest)
    assert lowest[0] <= 0.5**4
    assert max(found[-1]) <= 1
    rest = [parameter for name, parameter in network.named_parameters() if not name.startswith("encoder.")]
    assert {scale[id(parameter)] for parameter in rest} == {1.0}


def test_the_rate_rises_and_falls():
    rates = [warmup_cosine(step, 13, 5) for step in range(14)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, *(1 + np.cos(np.linspace(0, np.pi, 9))) / 2])
    assert [warmup_cosine(step, None, 4) for step in (0, 1, 3, 99)] == [0.25, 0.5, 1.0, 1.0]
    assert warmup_cosine(0, 10, 0) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 40}, "size is 40"),
        ({"protocol": "fine-tune"}, "protocol is 'fine-tune'; expected finetune, frozen, linear, knn"),
        ({"input": "gray"}, "input is 'gray'; expected grey, rgb"),
        ({"evaluate": "valid"}, "evaluate is 'valid'; expected val, test, tuning"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"task": "segmentation", "protocol": "knn"}, "use frozen"),
        ({"head": "unet"}, "head is unet, which is for segmentation; leave it out"),
        ({"decoder": "carried"}, "decoder is carried, which is for segmentation; leave it out"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; expected 0 or more"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; expected 1 at most"),
        ({"layer_decay": 0.7, "protocol": "frozen"}, "layer_decay goes with protocol finetune, not with frozen"),
        ({"layer_decay": 0.7, "protocol": "linear"}, "layer_decay goes with protocol finetune, not with linear"),
        ({"task": "segmentation", "layer_decay": 0.7, "head": "fpn"}, "layer_decay goes with head decoder, not with"),
        ({"protocol": "linear", "balanced": True}, "balanced goes with finetune and frozen, not with linear"),
        ({"task": "segmentation", "balanced": True}, "balanced goes with multilabel, not with segmentation"),
        ({"task": "segmentation", "eleven_point": True}, "eleven_point goes with multilabel, not with segmentation"),
        ({"task": "segmentation", "decoder": "carried"}, r"no colorizer\.safetensors"),
        ({"task": "segmentation", "decoder": "carried", "head": "fpn"}, "cannot carry"),
        ({"labels": "1000"}, "1000 labels"),
        ({"precision": "64-true"}, "precision is '64-true'; expected 32-true, bf16-mixed, 16-mixed, 32, bf16, 16"),
        ({"accelerator": "tpu"}, "cannot run with accelerator tpu, .*; try --accelerator auto"),
        ({"evaluate": "test"}, "test"),
    ],
)
def test_mistakes_are_named(table, tmp_path, changes, message):
    with pytest.raises(TinctError, match=message):
        run_transfer(settings_for(table, **{"task": "multilabel", **changes}), tmp_path)
    assert not (tmp_path / "record.json").exists()


def test_divergence_is_one_line(table, tmp_path):
    with pytest.raises(TinctError, match="lower lr"):
        run_transfer(settings_for(table, lr=1e30, steps=20), tmp_path)


def test_on_the_command_line(table, tmp_path, capsys):
    words = "--task multilabel --backbone resnet10t --size 32 --steps 2 --batch-size 8 --min-positives 1 --labels 8"
    where = ["-o", str(tmp_path / "out"), "--accelerator", "cpu", "--predictions"]
    assert main(["transfer", table, *words.split(), *where]) == 0
    printed = capsys.readouterr()
    assert "mAP" in printed.out
    assert "random weights" in printed.err
    written = (tmp_path / "out" / "predictions.csv").read_text()
    assert written.startswith("path,bars,disc\n30.png,")
    assert all(0 < float(cell) < 1 for row in written.splitlines()[1:] for cell in row.split(",")[1:])  # probabilities
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 12
    assert main(["transfer", table, *words.split(), *where]) == 2
    assert "holds a finished transfer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "own",
    [
        {"init": "my run", "labels": 0.2, "lr": 3e-4, "steps": 5, "balanced": True, "layer_decay": 0.7, "seed": 2},
        {"task": "segmentation", "head": "unet", "backbone": "resnet18", "input": "rgb", "evaluate": "test"},
        {"protocol": "linear", "size": 128},
    ],
)
def test_settings_are_those_that_their_command_has(own):
    settings = TransferSettings("csv:my labels.csv", **{"task": "multilabel", **own})
    words = shlex.split(settings.command())
    assert words[:2] == ["tinct", "transfer"]
    assert parse("transfer", transfer, [*words[2:], "--out", "model"])["settings"] == settings


def test_a_probe_is_repeated_without_what_training_takes():
    given = TransferSettings("mosaic:", "multilabel", protocol="knn", lr=3e-3, steps=60, batch_size=4)
    assert given.command() == "tinct transfer mosaic: --task multilabel --protocol knn"


@pytest.mark.parametrize("change", [("val,1,1", "val,0,1", 1), ("val,0", "val,1")])  # 5 bars of 12, or 12
def test_classes_that_are_not_scored_are_named(tmp_path, capsys, change):
    spec = make_table(tmp_path)
    (tmp_path / "table.csv").write_text((tmp_path / "table.csv").read_text().replace(*change))
    words = "--task multilabel --protocol linear --backbone resnet10t --size 32 --min-positives 6"
    assert main(["transfer", spec, *words.split(), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]) == 0
    assert "not scored, for want of 6 positives there, or of a negative: bars" in capsys.readouterr().out


def test_a_last_chunk_without_a_readable_picture(tmp_path):
    spec = make_table(tmp_path, train=12, val=65)  # 64 are evaluated at a time
    (tmp_path / "76.png").write_bytes(b"")
    record = run_transfer(settings_for(spec, "segmentation", min_positives=1), tmp_path / "out")
    assert (record["data"]["eval_pictures"], record["data"]["unreadable"]) == (64, ["76.png"])


def test_too_few_positives_are_said_before_training(table, tmp_path, monkeypatch):
    monkeypatch.setattr("tinct.downstream.protocols.train", None)
    with pytest.raises(TinctError, match="no class has 20 positives among the 12 evaluated pictures"):
        run_transfer(settings_for(table, min_positives=20), tmp_path / "out")


@pytest.mark.parametrize("protocol", ["linear", "knn"])
def test_a_probe_needs_a_positive_to_choose_on(tmp_path, protocol):
    spec = make_table(tmp_path)
    path = tmp_path / "table.csv"
    rows = [
        row if ",val," in row or row.startswith(("path", "3.png")) else row[:-3] + "0,0"
        for row in path.read_text().split()
    ]
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(TinctError, match="none of the 6 training pictures set aside to choose the probe's strength"):
        run_transfer(settings_for(spec, protocol=protocol), tmp_path / "out")


def test_a_table_without_val_is_told_of_its_test(tmp_path):
    spec = make_table(tmp_path)
    table = tmp_path / "table.csv"
    table.write_text(table.read_text().replace(",val,", ",test,"))
    with pytest.raises(TinctError, match=r"splits are: test, train; --evaluate test scores .*--settings evaluate=test"):
        parts_of(settings_for(spec))
    table.write_text(table.read_text().replace(",test,", ",train,"))
    with pytest.raises(TinctError, match=r"its splits are: train$"):
        parts_of(settings_for(spec))


def test_a_table_without_a_single_0_is_no_evidence(tmp_path):
    spec = make_table(tmp_path)
    path = tmp_path / "table.csv"
    path.write_text(path.read_text().replace(",0,0\n", ",,\n").replace(",0\n", ",\n").replace("l,0,", "l,,"))
    settings = TransferSettings(spec, "multilabel", labels="10", min_positives=1)
    with pytest.raises(
        TinctError, match="no evaluated picture is known to lack any class with 1 positives there; say 0"
    ):
        run_transfer(settings, tmp_path / "out")


def test_a_class_that_no_picture_lacks_is_not_scored(table):
    labelled = open_labels(table, "val", "multilabel", 32)
    presence = labelled.presence.copy()
    presence[:, 1] = np.where(presence[:, 1] == 1, 1, np.nan)
    found = scored_in(
        replace(labelled, presence=presence), np.arange(len(presence)), settings_for(table, min_positives=1)
    )
    assert found == [0]
    presence[1:, 0] = np.nan  # too few are known of the other one
    with pytest.raises(TinctError, match="no evaluated picture is known to lack any class with 3 positives there"):
        scored_in(replace(labelled, presence=presence), np.arange(12), settings_for(table, min_positives=3))


def test_where_masks_that_cannot_be_used_leave_too_few_one_is_named(tmp_path):
    spec = make_table(tmp_path)
    for number in range(2, 30):
        (tmp_path / f"{number}-mask.png").write_bytes(b"no mask")
    labelled = open_labels(spec, "train", "segmentation", 32)
    with pytest.raises(TinctError, match=r"2 pictures are too few .*; the masks of 28 more cannot be used, .*2.png: "):
        labelled.parts()


def test_labels_that_were_corrected_are_read_anew(tmp_path):
    spec = make_table(tmp_path)
    before = open_labels(spec, "train", "multilabel", 32).presence
    path = tmp_path / "table.csv"
    path.write_text(path.read_text().replace("0.png,0-mask.png,train,0,0", "0.png,0-mask.png,train,1,0"))
    after = open_labels(spec, "train", "multilabel", 32).presence
    assert (before != after).sum() == 1


def test_which_classes_masks_hold_is_read_in_order_with_the_bad_ones_named(tmp_path):
    spec = make_table(tmp_path, train=40)  # so many that processes share them
    (tmp_path / "3-mask.png").write_bytes(b"no picture")
    labelled = open_labels(spec, "train", "segmentation", 32)
    assert [(name, str(tmp_path / "3-mask.png") in why) for name, why in labelled.bad.items()] == [("3.png", True)]
    for index in range(len(labelled.source)):
        values = set() if index == 3 else set(np.unique(labelled.source.mask(index)).tolist()) - {255}
        assert set(np.flatnonzero(labelled.presence[index]).tolist()) == values

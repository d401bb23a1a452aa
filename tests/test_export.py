import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data
from timm.data import create_transform, resolve_model_data_config
from timm.layers import Conv2dSame
from torch import nn

from tinct.cli import main
from tinct.color import srgb_to_lab
from tinct.colorize import Colorizer
from tinct.data.transforms import centre
from tinct.downstream.trained import load_trained
from tinct.errors import TinctError
from tinct.export import run_export
from tinct.exporting import to_torch
from tinct.exporting.parity import compare, sample_inputs, sample_pictures
from tinct.exporting.subject import absorb_bias, load_subject
from tinct.exporting.to_onnx import static_padding
from tinct.inits import load_init
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.models.stem import lightness_of, network_input
from tinct.objectives import make_terms
from tinct.settings import TransferSettings
from tinct.shipped import digest, resolve
from tinct.transfer import run_transfer
from tinct.weights import load_colorizer, load_encoder, save_colorizer, save_encoder

STEMS = {"grey": 1, "rgb": 3}
DOCS = Path(__file__).parents[1] / "docs" / "export.md"


def uneven(backbone, in_channels=1):
    """A random encoder whose norms are not the identity, so that a lost or swapped tensor shows."""
    torch.manual_seed(0)
    encoder = Encoder(backbone, in_channels).train()
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.1)
        for _ in range(3):
            encoder(sample_inputs("grey")[0][..., ::2, ::2])
    return encoder.eval()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Paths of encoders, written when asked for."""
    folder = tmp_path_factory.mktemp("runs")

    def find(backbone, in_channels=1):
        path = folder / f"{backbone}-{in_channels}.safetensors"
        if not path.exists():
            save_encoder(path, uneven(backbone, in_channels), {"size": 64})
        return path

    return find


def trained_on(table, out, task, **changes):
    tiny = {"size": 32, "batch_size": 8, "steps": 2, "min_positives": 1, "accelerator": "cpu"}
    run_transfer(TransferSettings(table, task, **{**tiny, **changes}), out)
    return out


BACKBONES = ("resnet18", "convnext_atto", "tf_efficientnet_lite0", "mobilenetv3_small_050", "regnety_002")


@pytest.mark.parametrize(("backbone", "stem"), [*((backbone, "rgb") for backbone in BACKBONES), ("resnet18", "grey")])
def test_timm_opens_it_and_computes_the_same(runs, tmp_path, backbone, stem):
    report = run_export(runs(backbone), tmp_path / "out", "timm", input=stem)
    assert report["parity"]["relative"] <= 1e-6
    assert (report["from"], report["sha256"]) == (runs(backbone).name, digest(runs(backbone))[:16])
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert tuple(model.pretrained_cfg["input_size"]) == (STEMS[stem], 96, 96)  # pretrained at 64 px
    assert model.pretrained_cfg["mean"] == [0.5] * STEMS[stem]
    encoder = load_encoder(runs(backbone))[0].eval()
    fed = sample_inputs(stem)[0]
    with torch.no_grad():
        expected = encoder(lightness_of(fed))  # what folding is meant to give
        given = model.forward_intermediates(fed, intermediates_only=True)
    for ours, theirs in zip(expected, given, strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * max(1, ours.abs().max())
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == report


@pytest.mark.parametrize("to", ["timm", "hub"])
def test_timms_own_transform_feeds_what_tinct_does(tmp_path, to):
    run_export("tinct-small-ssl", tmp_path / "out", to, input="rgb")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    picture = data.chelsea()
    size = model.pretrained_cfg["input_size"][1]
    square = torch.from_numpy(centre(picture, size).copy()).permute(2, 0, 1)[None]

    def features(**changes):
        transform = create_transform(**resolve_model_data_config(model) | changes)
        return model(transform(Image.fromarray(picture))[None])

    with torch.no_grad():
        expected = model(network_input(square, "rgb"))
        off = (features() - expected).norm() / expected.norm()
        as_imagenet = (features(crop_pct=0.95, interpolation="bicubic") - expected).norm() / expected.norm()
    assert off < 0.02 < as_imagenet


def python_in(path):
    return re.search(r"```python\n(.*?)```", path.read_text(), re.DOTALL)[1]


@pytest.mark.parametrize("stem", ["grey", "rgb"])
def test_a_classifier_says_how_it_is_fed_and_read(table, tmp_path, monkeypatch, stem):
    out = trained_on(table, tmp_path / "run", "multilabel", input=stem)
    monkeypatch.chdir(tmp_path)
    report = run_export(out, "classifier", "hub")
    assert (report["size"], report["classes"]) == (32, ["bars", "disc"])
    assert "largest centred square" in report["view"]
    assert "logits.sigmoid()" in report["outputs"]
    card = Path("classifier", "README.md").read_text()
    assert "first reduced to 1.5 times size" in report["view"]
    assert f"{report['view']}; size is 32 px." in card
    assert "forward_intermediates" not in card
    Image.fromarray(data.coffee()).save("photo.jpg", quality=95)
    main(["predict", str(out), "photo.jpg", "-o", "predicted", "--device", "cpu"])
    (expected,) = json.loads(Path("predicted", "predictions.json").read_text())["pictures"]
    used = python_in(Path("classifier", "README.md")).replace("hf-hub:OWNER/NAME", "local-dir:classifier")
    for code in (used, *([python_in(DOCS)] if stem == "grey" else [])):
        names: dict = {}
        exec(code, names)
        assert names["probabilities"].tolist() == pytest.approx([*expected["probabilities"].values()], abs=2e-6)


@pytest.mark.parametrize(
    ("backbone", "stem"), [("convnext_atto", "rgb"), ("mobilenetv3_small_050", "grey"), ("regnety_002", "rgb")]
)
def test_segmentation_models_opens_it(runs, tmp_path, backbone, stem):
    smp = pytest.importorskip("segmentation_models_pytorch")
    report = run_export(runs(backbone), tmp_path / "out", "segmentation-models", input=stem)
    assert report["parity"]["relative"] <= 1e-6
    inner = smp.encoders.get_encoder(f"tu-{backbone}", in_channels=STEMS[stem], weights=None)
    tensors = load_file(tmp_path / "out" / "encoder.safetensors")
    assert set(tensors) == set(inner.state_dict())


@pytest.mark.parametrize(("backbone", "stem"), [("resnet18", "grey"), ("resnet18", "rgb"), ("regnety_004", "grey")])
def test_torchvision_takes_its_own_networks(runs, tmp_path, backbone, stem):
    report = run_export(runs(backbone), tmp_path / "out.safetensors", "torchvision", input=stem)
    assert report["parity"]["relative"] <= 1e-5
    tensors = load_file(tmp_path / "out.safetensors")
    network = torchvision.models.get_model(report["what"].split()[-1], weights=None)
    assert set(network.state_dict()) - set(tensors) == {"fc.weight", "fc.bias"}
    assert set(tensors) <= set(network.state_dict())
    assert json.loads((tmp_path / "out.safetensors.json").read_text()) == report


@pytest.mark.parametrize("backbone", ["convnext_atto", "tf_efficientnet_lite0", "mobilenetv3_small_050", "regnety_002"])
def test_torchvision_refuses_what_it_does_not_have(runs, tmp_path, backbone, capsys):
    words = ["export", str(runs(backbone)), "--to", "torchvision", str(tmp_path / "out.safetensors")]
    assert main(words) == 2
    assert "export --to timm or onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_same_name_is_not_enough_for_torchvision(runs, tmp_path):
    subject = load_subject(runs("resnet18"), "grey")
    subject.encoder.backbone = "resnet34"
    with pytest.raises(TinctError, match="built differently"):
        to_torch.to_torchvision(subject, tmp_path / "out.safetensors", False)
    assert not (tmp_path / "out.safetensors").exists()


WITHOUT_TORCH = """
    import sys
    sys.modules["torch"] = sys.modules["tinct"] = None  # an import would fail
    import numpy as np, onnxruntime
    session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
    given = np.load(sys.argv[2])
    np.savez(sys.argv[3], *session.run(None, {"input": given}))
    print(session.get_inputs()[0].shape, [output.name for output in session.get_outputs()])
    print(session.get_modelmeta().custom_metadata_map)
"""


def run_without_torch(model, fed, folder):
    np.save(folder / "fed.npy", fed.numpy())
    words = [model, folder / "fed.npy", folder / "given.npz"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_TORCH), *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "given.npz") as found:
        return [torch.from_numpy(found[name]) for name in found.files], done.stdout


needs_onnx = pytest.mark.usefixtures("_onnx")


@pytest.fixture(scope="module")
def _onnx():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


@needs_onnx
@pytest.mark.parametrize(
    ("backbone", "stem", "half"), [("resnet10t", "grey", True), ("test_efficientnet", "rgb", False)]
)
def test_an_encoder_runs_in_onnxruntime_without_torch(runs, tmp_path, backbone, stem, half):
    report = run_export(runs(backbone), tmp_path / "e.onnx", "onnx", input=stem, half=half)
    assert report["opset"] == 18
    fed = torch.rand(3, STEMS[stem], 96, 64) * 2 - 1  # neither batch nor size is that of export or parity
    given, said = run_without_torch(tmp_path / "e.onnx", fed, tmp_path)
    assert f"['batch', {STEMS[stem]}, 'height', 'width']" in said
    assert "pooled" in said
    assert "multiples of 32" in said
    encoder = load_encoder(runs(backbone))[0].eval()
    with torch.no_grad():
        maps = encoder(lightness_of(fed))
    for expected, found in zip([*maps, maps[-1].mean((2, 3))], given, strict=True):
        assert expected.shape == found.shape
        assert (expected - found).norm() < (1e-2 if half else 1e-4) * expected.norm()
    if half:
        assert (tmp_path / "e.onnx").stat().st_size < 0.55 * runs(backbone).stat().st_size
        assert 0 < report["rounding"]["relative_rms"] < 1e-2


def test_padding_by_numbers_is_tensorflows(runs):
    encoder = load_encoder(runs("tf_efficientnet_lite0"))[0].eval()
    static = static_padding(encoder)
    assert not any(isinstance(layer, Conv2dSame) for layer in static.modules())
    fed = torch.rand(1, 1, 64, 96) * 2 - 1
    with torch.no_grad():
        for expected, given in zip(encoder(fed), static(fed), strict=True):
            assert torch.equal(expected, given)


@needs_onnx
def test_a_colorizer_runs_in_onnxruntime_without_torch(tmp_path):
    torch.manual_seed(0)
    encoder = Encoder("test_efficientnet")
    colour, _ = make_terms({"bins": 1.0}, encoder.channels)
    path = tmp_path / "colorizer.safetensors"
    save_colorizer(path, Generator(encoder, colour.out_channels, 4, 8), colour, {"size": 64})
    run_export(path, tmp_path / "c.onnx", "onnx")
    l = torch.rand(1, 1, 96, 64) * 100
    given, said = run_without_torch(tmp_path / "c.onnx", l, tmp_path)
    assert given[0].shape == (1, 2, 24, 16)
    assert torch.allclose(given[0], load_colorizer(path)(l), atol=1e-4)
    assert "whole picture" in said
    assert "own L*, through CIE Lab" in said
    run_export(path, tmp_path / "p.onnx", "onnx", pixels=True)
    pixels = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    given, _ = run_without_torch(tmp_path / "p.onnx", pixels, tmp_path)
    assert torch.allclose(given[0], load_colorizer(path)(srgb_to_lab(pixels.permute(0, 3, 1, 2))[:, :1]), atol=1e-3)
    with pytest.raises(TinctError, match="fed lightness"):
        run_export(path, tmp_path / "d.onnx", "onnx", input="rgb")
    report = run_export(path, tmp_path / "timm", "timm")
    assert (report["kind"], "outputs" in report) == ("colorizer", False)
    assert "its decoder, which makes the colours" in report["left_out"]


@needs_onnx
def test_a_photograph_is_coloured_by_onnxruntime_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.coffee()[:300, :400]).save("photo.jpg", quality=95)
    run_export("tinct-small", "colour.onnx", "onnx")
    exec(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1], {})
    theirs, truth = (torch.tensor(np.array(Image.open(name))) for name in ("coloured.png", "photo.jpg"))
    ours = torch.tensor(Colorizer.load("tinct-small")(truth.numpy()))
    lab, wanted, grey = (srgb_to_lab(x.permute(2, 0, 1)) for x in (theirs, ours, truth))
    assert (lab[0] - grey[0]).abs().mean() < 0.5
    assert (lab[1:] - wanted[1:]).abs().mean() < 0.2 * wanted[1:].abs().mean()


@needs_onnx
@pytest.mark.parametrize("stem", ["grey", "rgb"])
def test_a_classifier_in_onnx_takes_pictures_as_they_are(table, tmp_path, monkeypatch, stem):
    out = trained_on(table, tmp_path / "run", "multilabel", backbone="test_efficientnet", input=stem)
    monkeypatch.chdir(tmp_path)
    report = run_export(out, "classifier.onnx", "onnx", pixels=True)
    assert report["fed"].startswith("sRGB of 8 bits, as pictures are decoded: uint8 (B, H, W, 3); any batch; sides")
    pixels = torch.randint(0, 256, (3, 96, 64, 3), dtype=torch.uint8)
    given, said = run_without_torch("classifier.onnx", pixels, tmp_path)
    assert "['batch', 'height', 'width', 3]" in said
    expected = load_trained(out)[0](network_input(pixels.permute(0, 3, 1, 2), stem))
    assert torch.allclose(given[0], expected, atol=1e-4)
    Image.fromarray(data.coffee()).save("photo.jpg", quality=95)
    main(["predict", str(out), "photo.jpg", "-o", "predicted", "--device", "cpu"])
    (known,) = json.loads(Path("predicted", "predictions.json").read_text())["pictures"]
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[2]
    assert not {"torch", "tinct"} & set(re.findall(r"\w+", code))
    names: dict = {}
    exec(code, names)
    assert names["probabilities"] == pytest.approx(known["probabilities"], abs=1e-5)


@needs_onnx
@pytest.mark.parametrize(("task", "stem"), [("multilabel", "rgb"), ("segmentation", "grey")])
def test_trained_heads_run_in_onnxruntime_without_torch(table, tmp_path, task, stem):
    out = trained_on(table, tmp_path / "run", task, backbone="test_efficientnet", input=stem)
    run_export(out, tmp_path / "m.onnx", "onnx")
    fed = torch.rand(1, STEMS[stem], 64, 96) * 2 - 1
    given, said = run_without_torch(tmp_path / "m.onnx", fed, tmp_path)
    assert "bars" in said
    assert {"multilabel": "logits.sigmoid()", "segmentation": "argmax(1) is the mask"}[task] in said
    assert {"multilabel": "largest centred square", "segmentation": "whole picture"}[task] in said
    assert torch.allclose(given[0], load_trained(out)[0](fed), atol=1e-4)
    with pytest.raises(TinctError, match="leave --input out"):
        run_export(out, tmp_path / "n.onnx", "onnx", input="grey" if stem == "rgb" else "rgb")


def test_the_callers_random_numbers_go_on_as_they_were(runs, tmp_path):
    run, before = runs("resnet18"), torch.random.get_rng_state()
    run_export(run, tmp_path / "out", "timm", input="rgb")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("to", "name"),
    [("timm", "out"), ("torchvision", "out.safetensors"), ("segmentation-models", "out"), ("onnx", "out.onnx")],
)
def test_torchs_defaults_change_nothing(runs, tmp_path, request, to, name):
    if to == "segmentation-models":
        pytest.importorskip("segmentation_models_pytorch")
    if to == "onnx":
        request.getfixturevalue("_onnx")
    run = runs("resnet18")
    request.getfixturevalue("odd_defaults")
    report = run_export(run, tmp_path / name, to, input="rgb")
    assert report["parity"]["relative"] <= 1e-5
    assert report["fold"]["input_rms"] > 0
    if to == "timm":
        tensors = load_file(tmp_path / name / "model.safetensors", device="cpu")
        assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float32}


def test_torchs_defaults_change_no_classifier_either(table, tmp_path, request):
    out = trained_on(table, tmp_path / "run", "multilabel")
    request.getfixturevalue("odd_defaults")
    assert "with 2 classes" in run_export(out, tmp_path / "out", "timm")["what"]


def test_a_trained_resnet_takes_its_classifier_along_and_loses_its_stem_bias(table, tmp_path):
    weights = tmp_path / "timm.safetensors"
    save_file(timm.create_model("resnet10t", num_classes=0).state_dict(), weights)  # in_chans 3, ImageNet's mean
    init = {"init": "timm:resnet10t", "weights": str(weights), "input": "rgb"}
    out = trained_on(table, tmp_path / "run", "multilabel", **init)
    assert "encoder.body.conv1.0.bias" in load_file(out / "model.safetensors")
    report = run_export(out, tmp_path / "out", "timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(
        timm.create_model("resnet10t", num_classes=2).state_dict()
    )
    fed = sample_inputs("rgb")[0]
    assert torch.allclose(model(fed), load_trained(out)[0](fed), atol=1e-4)
    assert "2 classes" in report["what"]
    assert model.pretrained_cfg["label_names"] == ["bars", "disc"]


def test_a_stem_bias_is_not_taken_up_by_a_norm_of_something_else():
    encoder = Encoder("resnet18", 3).eval().requires_grad_(False)
    encoder.body.conv1.bias = nn.Parameter(torch.ones(64), requires_grad=False)
    encoder.body.bn1 = nn.Sequential(nn.ReLU(), encoder.body.bn1)
    with pytest.raises(TinctError, match=r"feature map 0 without the bias .* differs"):
        absorb_bias(encoder, {"backbone": "resnet18", "in_channels": 3, "stem_bias": True, "input": "rgb"})


def test_a_classifier_that_timm_has_no_place_for_is_told(table, tmp_path, capsys):
    out = trained_on(table, tmp_path / "run", "multilabel", protocol="linear")
    assert main(["export", str(out), str(tmp_path / "out"), "--to", "hub"]) == 0
    assert "the encoder alone: its classifier has no place there, or reads feature maps" in capsys.readouterr().out
    assert "This is the encoder alone" in (tmp_path / "out" / "README.md").read_text()
    assert "left_out" not in run_export(out, tmp_path / "whole.onnx", "onnx")


def test_a_head_without_a_place_in_segmentation_models_is_told(table, tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    out = trained_on(table, tmp_path / "run", "segmentation")
    assert "its head, which makes the masks" in run_export(out, tmp_path / "out", "segmentation-models")["left_out"]
    report = run_export(trained_on(table, tmp_path / "other", "multilabel"), tmp_path / "o", "segmentation-models")
    assert "its classifier has no place there" in report["left_out"]
    assert not report.keys() & {"classes", "outputs"}


def test_a_head_of_segmentation_models_goes_back_whole(table, tmp_path):
    smp = pytest.importorskip("segmentation_models_pytorch")
    out = trained_on(table, tmp_path / "run", "segmentation", backbone="resnet10t", head="unet")
    run_export(out, tmp_path / "out", "segmentation-models")
    fed = sample_inputs("grey")[0]
    assert torch.equal(smp.from_pretrained(tmp_path / "out").eval()(fed), load_trained(out)[0](fed))
    with pytest.raises(TinctError, match="export --to onnx"):
        run_export(out, tmp_path / "timm", "timm")


def test_half_precision_halves_the_file_and_says_what_it_costs(runs, tmp_path, capsys):
    words = ["export", str(runs("resnet18")), "--to", "timm", str(tmp_path / "out"), "--half"]
    assert main(words) == 0
    assert "half precision changes outputs by" in capsys.readouterr().out
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert tensors["conv1.weight"].dtype == torch.float16
    assert tensors["bn1.running_var"].dtype == torch.float32
    assert (tmp_path / "out" / "model.safetensors").stat().st_size < 0.52 * runs("resnet18").stat().st_size
    assert json.loads((tmp_path / "out" / "export.json").read_text())["parity"]["tolerance"] == 1e-3


def test_folding_for_rgb_is_measured_apart(runs, tmp_path):
    report = run_export(runs("resnet18"), tmp_path / "out", "timm", input="rgb")
    fold = report["fold"]
    grey, rgb = (
        torch.cat([kind(pixels).flatten() for pixels in sample_pictures()])
        for kind in (lambda pixels: network_input(pixels, "grey"), lambda p: lightness_of(network_input(p, "rgb")))
    )
    assert fold["input_rms"] == pytest.approx(float(((rgb - grey) / 2).square().mean().sqrt()), abs=1e-4)
    blue = torch.tensor([0, 0, 255], dtype=torch.uint8)[None, :, None, None]
    assert float(network_input(blue, "grey") + 1) / 2 == pytest.approx(0.323, abs=1e-3)  # L* of sRGB's blue is 32.3
    assert fold["primaries"]["blue"] == pytest.approx(0.114 - 0.323, abs=1e-3)
    assert fold["input_largest_of_all_colours"] >= abs(fold["primaries"]["blue"])
    assert 0 < fold["features_relative_rms"]["deepest"] < 0.5
    assert run_export(runs("resnet18"), tmp_path / "grey", "timm")["fold"] is None


def test_an_encoder_of_three_grey_channels_folds_exactly(runs, tmp_path):
    run_export(runs("resnet18", 3), tmp_path / "out", "timm", input="grey")
    model = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    fed = sample_inputs("grey")[0]
    source = load_encoder(runs("resnet18", 3))[0].eval()
    with torch.no_grad():
        expected = source(fed)[-1]
        assert torch.allclose(model.forward_features(fed), expected, atol=1e-4)


def test_an_encoder_that_saw_colour_is_fed_it_unless_grey_is_asked_for(tmp_path):
    source = uneven("resnet18", 3)
    save_encoder(tmp_path / "encoder.safetensors", source, {"size": 64, "in_colour": 0.5})
    for stem, asked in (("rgb", None), ("grey", "grey")):
        report = run_export(tmp_path / "encoder.safetensors", tmp_path / stem, "timm", input=asked)
        assert report["fold"] is None
        model = timm.create_model(f"local-dir:{tmp_path / stem}", pretrained=True).eval()
        fed = sample_inputs(stem)[0]
        with torch.no_grad():
            assert torch.allclose(model.forward_features(fed), source(fed)[-1], atol=1e-4)


@pytest.mark.parametrize(("to", "name"), [("timm", "out"), ("torchvision", "out.safetensors")])
def test_a_difference_fails_and_leaves_nothing(runs, tmp_path, monkeypatch, to, name, capsys):
    def spoiled(path):
        return {key: value + 1e-2 if key == "conv1.weight" else value for key, value in load_file(path).items()}

    monkeypatch.setattr(to_torch, "load_file", spoiled)
    create = timm.create_model

    def spoiled_model(*args, **options):
        model = create(*args, **options)
        if "local-dir" in args[0]:
            model.conv1.weight.data += 1e-2
        return model

    monkeypatch.setattr(timm, "create_model", spoiled_model)
    assert main(["export", str(runs("resnet18")), "--to", to, str(tmp_path / name)]) == 2
    assert "over the tolerance" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_comparing_notices_what_it_should():
    fed = [torch.ones(1, 2)]
    assert compare(lambda x: [x], lambda x: [x + 1e-5], fed, ["x"])["largest_difference"] == pytest.approx(1e-5, 1e-2)
    assert compare(lambda x: [1e3 * x], lambda x: [1e3 * x + 1e-2], fed, ["x"])["relative"] < 1.1e-5
    for other in (lambda x: [x + 1e-3], lambda x: [x * torch.nan], lambda x: [x[:, :1]], lambda x: [x, x]):
        with pytest.raises(TinctError):
            compare(lambda x: [x], other, fed, ["x"])


def test_a_hub_folder_has_a_card(runs, tmp_path, monkeypatch, capsys):
    assert main(["export", str(runs("resnet18")), "--to", "hub", str(tmp_path / "out"), "--input", "rgb"]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "README.md",
        "config.json",
        "export.json",
        "model.safetensors",
    }
    text = (tmp_path / "out" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: timm\n")
    assert "0.299, 0.587, 0.114" in text
    assert "folded for rgb" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.coffee()).save("photo.jpg")
    names: dict = {}
    exec(python_in(Path("out", "README.md")).replace("hf-hub:OWNER/NAME", "local-dir:out"), names)
    assert names["maps"][-1].shape == (1, 512, 3, 3)


@pytest.mark.parametrize(
    ("name", "unlabelled"), [("tinct-small", False), ("tinct-small-ssl", True), ("tinct-small-ssl-rgb", True)]
)
def test_named_weights_go_to_a_hub_with_their_card_and_licence(name, unlabelled, tmp_path):
    assert main(["export", name, "--to", "hub", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "README.md").read_text()
    assert ("self-supervised" in text.partition("\n---\n")[0]) == unlabelled
    assert "\nlicense: apache-2.0\n" in text
    assert f"# {name}\n" in text
    assert json.loads((tmp_path / "out" / "export.json").read_text())["from"] == name
    assert not re.search(r"\]\((?!https://)", text)  # no link to what the folder has not
    colorizer = tmp_path / "out" / "colorizer.safetensors"
    assert colorizer.exists() == (name == "tinct-small")
    if colorizer.exists():
        assert colorizer.read_bytes() == resolve(name, "colorizer").read_bytes()
        assert "--model colorizer.safetensors`" in text


def test_pushing_only_on_request_and_its_failures_are_one_line(runs, tmp_path, monkeypatch, capsys):
    hub = pytest.importorskip("huggingface_hub")
    calls = []

    class Api:
        def create_repo(self, name, **options):
            if name == "no name":
                raise ValueError("Repo id must use\nalphanumeric chars")
            calls.append((name, options))

        def upload_folder(self, **options):
            raise OSError("no route\nto host")

    monkeypatch.setattr(hub, "HfApi", Api)
    words = ["export", str(runs("resnet18")), "--to", "hub"]
    assert main([*words, str(tmp_path / "quiet")]) == 0
    assert calls == []
    assert main([*words, str(tmp_path / "none"), "--push", "no name"]) == 2
    assert "(Repo id must use alphanumeric chars); nothing was exported: check the name" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert main([*words, str(tmp_path / "out"), "--push", "me/mine"]) == 2
    assert calls == [("me/mine", {"private": True, "exist_ok": True})]
    assert (
        f"cannot push to me/mine (no route to host); the export is in {tmp_path / 'out'}: hf upload me/mine "
        f"{tmp_path / 'out'}\n"
    ) in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert main([*words[:3], "timm", str(tmp_path / "other"), "--push", "me/mine"]) == 2
    assert not (tmp_path / "other").exists()


def test_what_is_pushed_is_the_folder(runs, tmp_path, monkeypatch, capsys):
    hub = pytest.importorskip("huggingface_hub")
    uploaded = {}

    class Api:
        def create_repo(self, name, **options):
            pass

        def upload_folder(self, *, folder_path, repo_id, **options):
            uploaded[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return f"https://hub.example/{repo_id}"

    monkeypatch.setattr(hub, "HfApi", Api)
    out = tmp_path / "out"
    assert main(["export", str(runs("resnet18")), "--to", "hub", str(out), "--push", "me/mine"]) == 0
    assert "pushed: https://hub.example/me/mine" in capsys.readouterr().out
    assert uploaded == {"me/mine": {path.name: path.read_bytes() for path in out.iterdir()}}
    assert {"config.json", "model.safetensors", "README.md"} <= set(uploaded["me/mine"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "onnx", "out"), "ending in .onnx"),
        (("--to", "timm", "out", "--pixels"), "pixels goes with --to onnx only, not with timm"),
        (("--to", "torchvision", "out.pth"), "ending in .safetensors"),
        (("--to", "timm", "full"), "which exists"),
        (("--to", "timm", os.fsdecode(b"\xff")), "expected a name in UTF-8"),
        (("--to", "timm", "out", "--input", "blue"), "--help"),
    ],
)
def test_mistakes_are_named(runs, tmp_path, monkeypatch, words, message, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert main(["export", str(runs("resnet18")), *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_a_source_without_weights_is_named(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--to", "timm", str(tmp_path / "out")]) == 2
    assert "encoder.safetensors: no such file" in capsys.readouterr().err
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert main(["export", str(tmp_path / "a.safetensors"), "--to", "timm", str(tmp_path / "out")]) == 2
    assert "weights of another program" in capsys.readouterr().err


def test_a_folder_called_like_a_file_of_its_own_is_a_folder(runs, tmp_path):
    out = tmp_path / "model.safetensors"
    run_export(runs("resnet18"), out, "timm")
    assert list(tmp_path.iterdir()) == [out]
    assert {path.name for path in out.iterdir()} == {"config.json", "export.json", "model.safetensors"}


def test_a_report_in_the_way_is_not_replaced(runs, tmp_path):
    (tmp_path / "out.safetensors.json").write_text("mine")
    with pytest.raises(TinctError, match="where the report goes, exists"):
        run_export(runs("resnet18"), tmp_path / "out.safetensors", "torchvision")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.safetensors.json", "mine")]


@pytest.mark.parametrize(("to", "name"), [("timm", "out/model.safetensors"), ("torchvision", "out.safetensors")])
@pytest.mark.parametrize("stem", ["rgb", "grey"])
def test_what_was_exported_comes_back_through_init(runs, tmp_path, to, name, stem):
    run_export(runs("resnet18"), tmp_path / name.split("/")[0], to, input=stem)
    given = load_init(str(tmp_path / name), input=stem, backbone="resnet18").encoder.eval()
    expected = load_init(str(runs("resnet18")), input=stem).encoder.eval()
    fed = sample_inputs(stem)[0]
    with torch.no_grad():
        for ours, theirs in zip(expected(fed), given(fed), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)

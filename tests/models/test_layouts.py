import copy
import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tinct.errors import TinctError
from tinct.inits import load_init
from tinct.models.layouts import from_torchvision, read_pickle, torchvision_name, translate


def theirs(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return torchvision.models.get_model(name, weights=None).eval()


def into_timm(tensors: dict[str, torch.Tensor], backbone: str):
    body = timm.create_model(backbone, num_classes=0).eval()
    renamed, layout = translate(tensors, body, "somewhere")
    body.load_state_dict({key: renamed[key] for key in body.state_dict()}, strict=True)
    return body, layout


def without_classifier(network: nn.Module) -> nn.Module:
    head = "fc" if hasattr(network, "fc") else "classifier.2"
    network.set_submodule(head, nn.Identity())
    return network


@pytest.mark.parametrize(
    ("backbone", "name", "layout"),
    [
        ("resnet18", "resnet18", "timm's (torchvision's are the same for a ResNet)"),
        ("regnety_004", "regnet_y_400mf", "torchvision's"),
        ("convnext_tiny", "convnext_tiny", "torchvision's"),
    ],
)
def test_torchvisions_networks_compute_the_same_under_timms_names(backbone, name, layout):
    network = theirs(name)
    assert torchvision_name(backbone) == name
    body, found = into_timm(network.state_dict(), backbone)
    assert found.layout == layout
    assert found.left == ()
    picture = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, given = without_classifier(network)(picture), body(picture)
    assert (given - expected).abs().max() < 1e-5 * expected.abs().max()


WRAPPED = {
    "lightly's sequence": ("lightly's", lambda resnet: {"backbone": nn.Sequential(*list(resnet.children())[:-1])}),
    "lightly's whole network": ("lightly's", lambda resnet: {"backbone": resnet}),
    "lightly's pair": (
        "lightly's",
        lambda resnet: {"student_backbone": theirs("resnet18", seed=1), "teacher_backbone": resnet},
    ),
    "lightly-train, torchvision": (
        "lightly-train's",
        lambda resnet: {"embedding_model": nn.ModuleDict({"wrapped_model": nn.ModuleDict({"_features": resnet})})},
    ),
    "lightly-train, timm, a pair": (
        "lightly-train's",
        lambda resnet: {
            f"{who}_embedding_model": nn.ModuleDict({"wrapped_model": nn.ModuleDict({"_model": network})})
            for who, network in (("student", theirs("resnet18", seed=1)), ("teacher", resnet))
        },
    ),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_wrapped_encoders_are_found_by_their_names(case):
    layout, wrap = WRAPPED[case]
    resnet = theirs("resnet18")
    expected = copy.deepcopy(resnet.state_dict())
    resnet.fc = nn.Identity()
    whole = nn.ModuleDict({**wrap(resnet), "projection_head": nn.Linear(512, 8)})
    body, found = into_timm(whole.state_dict(), "resnet18")
    assert found.layout == layout
    assert all(torch.equal(value, expected[key]) for key, value in body.state_dict().items())
    assert "projection_head.weight" in found.left
    assert "-> layer1" in found.report()
    assert len(found.names) + len(found.left) == len(whole.state_dict())


def test_convnext_features_alone_are_lightly_trains(tmp_path):
    network = theirs("convnext_tiny")
    wrapped = {f"embedding_model.wrapped_model._features.{key}": v for key, v in network.features.state_dict().items()}
    body = timm.create_model("convnext_tiny", num_classes=0)
    with pytest.raises(TinctError, match=r"lightly-train's names.*2 missing \(head\.norm\.bias, head\.norm\.weight\)"):
        translate(wrapped, body, tmp_path)  # its last norm is in the head, which is not there


def test_older_files_lack_the_counters_of_batch_norm():
    weights = {key: value for key, value in theirs("resnet18").state_dict().items() if "num_batches" not in key}
    body, found = into_timm(weights, "resnet18")
    assert body.bn1.num_batches_tracked == 0
    assert not any("num_batches" in key for key in found.names)


def test_an_unknown_layout_names_the_closest_and_what_does_not_fit():
    weights = theirs("resnet18").state_dict()
    renamed = {re.sub("^layer4", "stage_five", key): value for key, value in weights.items()}
    with pytest.raises(TinctError, match="closest layout") as caught:
        into_timm(renamed, "resnet18")
    message = str(caught.value)
    assert "layer4.0.bn1.bias" in message
    assert "stage_five.0.bn1.bias" in message
    assert "\n" not in message
    with pytest.raises(TinctError, match="of another shape"):
        into_timm(theirs("resnet34").state_dict() | {"layer1.0.conv1.weight": torch.zeros(2)}, "resnet34")
    with pytest.raises(TinctError, match="; check backbone"):
        into_timm(theirs("resnet18").state_dict(), "resnet50")


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        ("features.0.0.weight", "stem.0.weight"),
        ("features.3.2.layer_scale", "stages.1.blocks.2.gamma"),
        ("features.5.8.block.3.bias", "stages.2.blocks.8.mlp.fc1.bias"),
        ("features.6.1.weight", "stages.3.downsample.1.weight"),
        ("classifier.2.weight", "head.fc.weight"),
        ("trunk_output.block2.block2-1.f.se.fc1.weight", "s2.b2.se.fc1.weight"),
        ("trunk_output.block1.block1-0.proj.1.running_var", "s1.b1.downsample.bn.running_var"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_names(key, ours):
    assert from_torchvision(key) == ours


def test_a_transfer_prints_the_mapping_and_normalises_as_their_training_did(tmp_path):
    resnet = theirs("resnet18")
    backbone = nn.Sequential(*list(resnet.children())[:-1])
    state = {f"backbone.{key}": value for key, value in backbone.state_dict().items()}
    torch.save({"state_dict": {**state, "projection_head.weight": torch.zeros(2)}, "epoch": 3}, tmp_path / "last.ckpt")
    start = load_init(str(tmp_path / "last.ckpt"), backbone="resnet18", input="rgb")
    assert "layout: lightly's; backbone.0 -> conv1" in start.report()
    assert "such as projection_head.weight" in start.report()
    values = torch.rand(1, 3, 64, 64)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    expected = backbone.eval()((values - mean) / deviation)
    given = start.encoder.eval()(2 * values - 1)[-1].mean((2, 3))
    assert torch.nn.functional.cosine_similarity(given, expected.flatten(1)) > 0.99  # all but the padding's ring
    save_file(state, tmp_path / "same.safetensors")
    again = load_init(str(tmp_path / "same.safetensors"), backbone="resnet18", input="rgb")
    assert all(torch.equal(v, again.encoder.state_dict()[k]) for k, v in start.encoder.state_dict().items())


class Custom:
    pass


def test_pickled_objects_are_refused_unread(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "lightly_train": Custom()}, tmp_path / "last.ckpt")
    with pytest.raises(TinctError, match=r"lightly_train\.export"):
        read_pickle(tmp_path / "last.ckpt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04torn")
    (tmp_path / "cut.pt").write_bytes(b"torn")
    for name in ("empty", "list", "tensor"):
        with pytest.raises(TinctError, match="holds no state dict"):
            read_pickle(tmp_path / f"{name}.pt")
    for name, message in (("torn.pt", "cannot be read"), ("cut.pt", "cannot be read"), ("absent.pt", "no such file")):
        with pytest.raises(TinctError, match=message):
            read_pickle(tmp_path / name)

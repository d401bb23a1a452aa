"""What other devices ask of the code, as far as a CPU can tell; that it runs on them is not shown by this."""

import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torchgen
import yaml
from test_pretrain import TINY
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import tinct
from tinct.colorize import Colorizer
from tinct.data.loader import Photographs, crops_loader
from tinct.data.photos import Photos
from tinct.device import memory_format, named_device, own_draws
from tinct.downstream.features import STAGES
from tinct.downstream.finetune import loss_of
from tinct.models.discriminator import PatchDiscriminator
from tinct.models.encoder import Encoder
from tinct.models.heads import Classifier, Segmenter, pooled
from tinct.models.stem import network_input
from tinct.objectives.base import Batch
from tinct.objectives.pretext import Pretext
from tinct.pretraining.learner import Learner
from tinct.pretraining.preparation import engine_for

BORDER = 1  # grid_sample's padding_mode, which MPS has known since torch 2.13 only
RECIPES = [
    {"terms": {"bins": 1.0}, "aged": 0.9, "backbone": "resnet18"},
    {"terms": {"l1": 1.0}, "adversarial": "bce", "discriminator_norm": "instance"},
    {"terms": {"multicrop": 1.0, "palette": 1.0, "rotation": 0.5}, "adversarial": "none"},
    {"terms": {"huber": 1.0, "siamese": 1.0}, "adversarial": "lsgan"},
]


class AsOnMps(TorchDispatchMode):
    """Fails where Apple's GPUs would: at float64, and at what torch's own table has no kernel of theirs for."""

    def __init__(self):
        super().__init__()
        path = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
        table = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        self.known = {entry["func"].partition("(")[0]: entry for entry in table}

    def has(self, name):
        entry = self.known.get(name, {})
        entry = self.known[entry["structured_delegate"]] if "structured_delegate" in entry else entry
        keys = [key.strip() for group in entry.get("dispatch", {}) for key in group.split(",")]
        return not keys or any(key == "MPS" or key.startswith("Composite") for key in keys)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::")
        assert self.has(name), name
        assert not (name == "grid_sampler_2d" and args[3] == BORDER)
        found = func(*args, **(kwargs or {}))
        assert not [one for one in tree_leaves(found) if getattr(one, "dtype", None) == torch.float64], name
        return found


def test_the_table_tells_what_mps_has_from_what_it_has_not():
    mode = AsOnMps()
    assert mode.has("convolution_backward")
    assert mode.has("_fused_adamw_")
    mode.known["unheard_of"] = {"dispatch": {"CPU, CUDA": "unheard_of"}}
    assert not mode.has("unheard_of")
    with pytest.raises(AssertionError), mode:
        torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("changes", RECIPES, ids=lambda changes: "+".join(changes["terms"]))
def test_a_step_of_pretraining_takes_nothing_that_mps_has_not(changes):
    config = dataclasses.replace(TINY, size=64, **changes)
    learner = Learner(config, engine_for(config))
    photographs = Photographs(Photos(), np.arange(512, dtype=np.uint32), config.size, config.seed)
    parts = list(crops_loader(photographs, config.batch_size, range(1)))
    with AsOnMps():
        losses = learner.learn(parts, 0, 1.0, 0.1 if config.adversarial != "none" else None)
    assert losses.keys() >= config.terms.keys()


def test_colours_labels_and_features_take_nothing_that_mps_has_not():
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    labels, masks = torch.tensor([[1.0, 0.0, torch.nan]] * 4), torch.randint(0, 3, (4, 64, 64), dtype=torch.uint8)
    network = Colorizer.load("tinct-small", "cpu").network
    classifier, segmenter = Classifier(Encoder("resnet18"), 3), Segmenter(Encoder("resnet18", 3), 3)
    with AsOnMps():
        with torch.inference_mode():
            assert network(100 * torch.rand(2, 1, 64, 64)).isfinite().all()
        loss_of(classifier(network_input(pixels, "grey")), labels, torch.ones(3)).backward()
        loss_of(segmenter(network_input(pixels, "rgb")), masks, None).backward()
        assert pooled(classifier.encoder(network_input(pixels, "grey")), STAGES, peaks=True).isfinite().all()
    assert classifier.linear.weight.grad.isfinite().all()


@pytest.mark.parametrize("terms", [{"bins": 1.0}, {"l1": 1.0}, {"huber": 1.0, "palette": 1.0}, {"siamese": 1.0}])
def test_losses_are_taken_on_the_device_of_the_pictures(terms):
    """The meta device stands for any: torch refuses to mix it with the CPU."""
    pretext = Pretext(Encoder("mobilenetv3_small_050"), terms, 4, 8).to("meta")
    l, ab = torch.rand(4, 1, 64, 64, device="meta"), torch.rand(4, 2, 16, 16, device="meta")
    losses, output = pretext(Batch(l, ab, torch.zeros(4, dtype=torch.long, device="meta")))
    assert losses.keys() == terms.keys()
    assert {loss.device.type for loss in losses.values()} == {"meta"}
    if output is not None:
        fake = pretext.colour.decode(output)
        logits = PatchDiscriminator(16, 4).to("meta")(l[..., :16, :16], fake)
        assert fake.device.type == logits.device.type == "meta"


def test_pictures_lie_as_their_device_has_them():
    assert memory_format(torch.device("cuda:1")) == memory_format(torch.device("cpu")) == torch.channels_last
    assert memory_format(torch.device("mps")) == torch.contiguous_format
    sources = Path(tinct.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "channels_last" in path.read_text(encoding="utf-8")] == ["device.py"]


@pytest.mark.parametrize(("available", "found"), [(True, "meta"), (False, "cpu")])
def test_the_fastest_device_is_torchs_accelerator_where_that_works(monkeypatch, available, found):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: available)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert named_device("auto").type == found


def test_threads_take_turns_in_drawing():
    inside, drawn = threading.Event(), []

    def draw() -> None:
        inside.set()
        with own_draws():
            torch.manual_seed(1)

    with own_draws():
        torch.manual_seed(0)
        thread = threading.Thread(target=draw)
        thread.start()
        inside.wait()
        thread.join(0.2)
        drawn.append(torch.initial_seed())
        assert thread.is_alive()
        with own_draws():  # of the same thread
            pass
    thread.join()
    assert drawn == [0]

import math

import numpy as np
import pytest
import torch
from fake_labels import make_table
from PIL import Image
from rich.console import Console

from tinct.downstream.examples import Examples, open_labels
from tinct.downstream.finetune import batch, train
from tinct.engine import make_fabric
from tinct.models.encoder import Encoder
from tinct.models.heads import Classifier, Segmenter
from tinct.models.stem import network_input
from tinct.settings import TransferSettings


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """By task, pictures to train on: some labels are unknown, and of each mask another share is void."""
    folder = tmp_path_factory.mktemp("labels")
    spec = make_table(folder, train=10, val=2)
    table = folder / "table.csv"
    table.write_text(table.read_text().replace("train,1,1", "train,1,").replace("train,0,0", "train,,0", 1))
    for number in range(10):
        with Image.open(folder / f"{number}-mask.png") as mask:
            values = np.array(mask)
        values[: 4 * number + 3] = 255
        Image.fromarray(values).save(folder / f"{number}-mask.png")
    return {
        task: Examples(open_labels(spec, "train", task, 32), np.arange(10)) for task in ("multilabel", "segmentation")
    }


def rates_by_name(network, settings):
    """The factor of each weight's learning rate; a block of a residual network is a layer, and so is its stem."""
    layers = ("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",)
    return {
        name: math.prod(
            settings.layer_decay ** (len(layers) - 1 - depth)
            for depth, names in enumerate(layers)
            if name.removeprefix("encoder.body.").startswith(names)
        )
        for name, _ in network.named_parameters()
    }


def mean_loss(logits, targets, balance):
    """Cross-entropy, label by label or pixel by pixel, over those that are known."""
    losses = []
    if logits.ndim == 4:
        for picture, mask in zip(logits, targets, strict=True):
            known = mask != 255
            losses.append(-picture.log_softmax(0).gather(0, mask.clamp(max=2).long()[None])[0][known])
        return torch.cat(losses).mean()
    for column in range(logits.shape[1]):
        known = ~targets[:, column].isnan()
        truth, chance = targets[known, column], logits[known, column].sigmoid()
        losses.append(-(balance[column] * truth * chance.log() + (1 - truth) * (1 - chance).log()))
    return torch.cat(losses).mean()


def by_hand(network, examples, settings):
    """Train with plain torch, each weight in a group of its own; the losses, and the gradient's length at each step."""
    labels = torch.from_numpy(examples.labels())
    balance = torch.ones(labels.shape[1])
    if settings.balanced:
        balance = torch.tensor([float((column == 0).sum() / (column == 1).sum()) for column in labels.T])
    network.train()
    if settings.protocol == "frozen":
        network.encoder.eval().requires_grad_(False)
    scale = rates_by_name(network, settings)
    learning = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(
        [
            {"params": [weight], "name": name, "weight_decay": settings.weight_decay if weight.ndim > 1 else 0.0}
            for name, weight in learning.items()
        ]
    )
    rising = round(0.05 * settings.steps) or 1
    losses, lengths = [], []
    for step in range(settings.steps):
        course = (1 + math.cos(math.pi * (step - rising) / (settings.steps - rising))) / 2
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * scale[group["name"]] * ((step + 1) / rising if step < rising else course)
        pixels, targets = batch(examples, labels, step, settings)
        loss = mean_loss(network(network_input(pixels, settings.fed)), targets, balance)
        optimizer.zero_grad()
        loss.backward()
        lengths.append(float(sum(weight.grad.square().sum() for weight in learning.values()).sqrt()))
        for weight in learning.values():
            weight.grad *= min(1.0, 1.0 / (lengths[-1] + 1e-6))
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, lengths


def build(task, settings):
    """A network whose weights follow from torch's seed."""
    encoder = Encoder("test_resnet", 1 if settings.fed == "grey" else 3)
    return Classifier(encoder, 2) if task == "multilabel" else Segmenter(encoder, 3, width=8)


@pytest.mark.parametrize(
    ("task", "own"),
    [
        ("multilabel", {"steps": 30, "balanced": True, "layer_decay": 0.5, "input": "rgb"}),
        ("multilabel", {"steps": 6, "protocol": "frozen"}),
        ("segmentation", {"steps": 6}),
    ],
)
def test_training_is_as_written_out_by_hand(examples, task, own):
    settings = TransferSettings("", task, **{"size": 32, "batch_size": 4, "lr": 3e-3, "weight_decay": 0.5, **own})
    trained = []
    for run in (train, by_hand):
        torch.manual_seed(0)
        network = build(task, settings)
        more = (make_fabric("cpu", "32-true"), Console(quiet=True)) if run is train else ()
        trained.append((network, run(network, examples[task], settings, *more)))
    (network, (_, loss)), (reference, (losses, lengths)) = trained
    assert settings.protocol == "frozen" or max(lengths) > 1  # so that clipping to 1 tells
    assert loss == pytest.approx(np.mean(losses[-max(1, settings.steps // 10) :]), rel=1e-4)
    torch.manual_seed(0)
    begun = build(task, settings).state_dict()
    for name, value in reference.state_dict().items():
        # AdamW moves weights of the smallest gradients by as much as others, whichever way rounding points
        far = (network.state_dict()[name] - value).float().norm() / (value - begun[name]).float().norm().clamp(min=1e-6)
        assert far < 0.05, name


def test_what_a_network_draws_in_training_follows_from_seed_and_step(examples):
    def drawn(seed):
        settings = TransferSettings("", "multilabel", size=32, batch_size=2, steps=3, seed=seed)
        network, found = build("multilabel", settings), []
        network.register_forward_hook(lambda *_: found.append(float(torch.rand(()))))  # as dropout does
        train(network, examples["multilabel"], settings, make_fabric("cpu", "32-true"), Console(quiet=True))
        return found

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first == again
    assert len({*first, *other}) == 6


class Numbered:
    """Examples whose pictures show their number."""

    def __len__(self):
        return 12

    def crop(self, chosen, size, *key):
        return np.full((size, size, 3), chosen, np.uint8), None


def test_each_epoch_has_every_picture_once_in_an_order_of_its_seed_and_its_own():
    def order(seed):
        settings = TransferSettings("", "multilabel", size=32, batch_size=8, seed=seed)
        labels = torch.arange(12)[:, None]
        steps = [batch(Numbered(), labels, step, settings) for step in range(3)]
        found = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in steps]).tolist()
        assert torch.cat([targets for _, targets in steps]).flatten().tolist() == found
        return found

    first, other = order(0), order(1)
    assert order(0) == first
    epochs = [drawn[part] for drawn in (first, other) for part in (slice(12), slice(12, 24))]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_picture_is_cropped_otherwise_each_time_and_with_each_seed(examples):
    one = Examples(examples["multilabel"].labelled, np.array([3]))

    def crops(seed):
        settings = TransferSettings("", "multilabel", size=32, batch_size=3, seed=seed)
        return [picture for step in range(2) for picture in batch(one, torch.zeros(1, 2), step, settings)[0]]

    first, again, other = crops(0), crops(0), crops(1)
    assert all(map(torch.equal, first, again))
    assert len({picture.numpy().tobytes() for picture in [*first, *other]}) == 12

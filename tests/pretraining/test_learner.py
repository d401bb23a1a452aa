"""A step of training against one written out by hand, and what follows from the seed."""

import copy

import pytest
import torch
from torch.nn import functional as F

from tinct.color import srgb_to_lab, stretch_levels
from tinct.config import Config
from tinct.data.loader import Crops
from tinct.engine import make_fabric
from tinct.pretraining.learner import Learner

TINY = Config(
    sources=["photos:"],
    backbone="test_resnet",
    width=8,
    size=32,
    batch_size=8,
    accumulate=2,
    steps=3,
    terms={"l1": 3.0, "rotation": 0.2},
    discriminator_width=4,
    discriminator_lr=3e-3,
    lr=1e-2,
    betas=(0.8, 0.95),
    weight_decay=2.0,
    clip=3.7,
    ema=0.25,
)
COURSE = [(1.0, None), (0.5, 0.7), (0.25, 0.3)]
"""Rate and weight of the adversary at each step."""
JUDGED = {  # the losses on real logits, on fake ones, and the generator's
    "bce": (lambda x: F.softplus(-x), F.softplus, lambda x: F.softplus(-x)),
    "lsgan": (lambda x: (x - 1) ** 2, lambda x: x**2, lambda x: (x - 1) ** 2),
    "hinge": (lambda x: (1 - x).clamp(min=0), lambda x: (1 + x).clamp(min=0), lambda x: -x),
}


def tiny(**changes: object) -> Learner:
    return Learner(Config(**{**vars(TINY), **changes}), make_fabric("cpu", "32-true"))


def crops(number: int) -> Crops:
    """A part of a step: smooth pictures, each turned otherwise."""
    draw = torch.Generator().manual_seed(number)
    coarse = torch.rand(4, 3, 5, 5, generator=draw)
    pixels = F.interpolate(coarse, (32, 32), mode="bilinear").mul(255).byte()
    return Crops(pixels, torch.arange(4) + 4 * number, [])


def losses_by_hand(pretext, part):
    """L at the colours' resolution, the true colours, those of the network, and the losses of both terms."""
    lab = srgb_to_lab(part.pixels)
    turned = [torch.rot90(picture, int(key) % 4, (1, 2)) for picture, key in zip(lab, part.keys, strict=True)]
    lab = torch.stack([torch.cat((stretch_levels(one[None, :1])[0], one[1:])) for one in turned])
    l, ab = lab[:, :1], F.avg_pool2d(lab[:, 1:], 4)
    maps = pretext.encoder.body.forward_intermediates(l / 50 - 1, intermediates_only=True)
    output = pretext.generator.head(pretext.generator.decoder(maps, l / 50 - 1))
    answers = pretext.features["rotation"].head(maps[-1].mean((2, 3))).log_softmax(1)
    wrong = -answers[torch.arange(4), part.keys % 4].mean()
    return F.avg_pool2d(l, 4), ab, 110 * output, (output - ab / 110).abs().mean(), wrong


def steps_by_hand(config, pretext, discriminator):
    """Train both networks over `COURSE`; gives both optimizers, the average, and each step's losses and norm."""
    kernels = [value for value in pretext.parameters() if value.ndim > 1]
    others = [value for value in pretext.parameters() if value.ndim < 2]  # biases, and what norms learn
    groups = [{"params": kernels, "weight_decay": 2.0}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.8, 0.95))
    judge = torch.optim.AdamW(discriminator.parameters(), betas=(0.8, 0.95), weight_decay=0.0)
    real_loss, fake_loss, fooled_loss = JUDGED[config.adversarial]
    average = {name: value.clone() for name, value in pretext.state_dict().items()}
    said = []

    def judged(l, ab):
        return discriminator.layers(torch.cat((l / 50 - 1, ab / 110), dim=1))

    for step, (rate, weight) in enumerate(COURSE):
        generators, discriminators, means = [], [], torch.zeros(4)
        for part in (crops(2 * step), crops(2 * step + 1)):
            l, ab, found, colour, turns = losses_by_hand(pretext, part)
            total = 3.0 * colour + 0.2 * turns
            means[:2] += torch.stack((colour, turns)).detach() / 2
            if weight is not None:
                real, fake = judged(torch.cat((l, l)), torch.cat((ab, found.detach()))).chunk(2)
                right = real_loss(real).mean() / 2 + fake_loss(fake).mean() / 2
                discriminators.append(torch.autograd.grad(right, [*discriminator.parameters()]))
                fooled = fooled_loss(judged(l, found)).mean()
                means[2:] += torch.stack((fooled, right)).detach() / 2
                total = total + weight * fooled
            generators.append(torch.autograd.grad(total, [*pretext.parameters()]))
        for value, *parts in zip(pretext.parameters(), *generators, strict=True):
            value.grad = (parts[0] + parts[1]) / 2
        norm = torch.nn.utils.clip_grad_norm_(pretext.parameters(), 3.7)
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * rate
        optimizer.step()
        if discriminators:
            for value, *parts in zip(discriminator.parameters(), *discriminators, strict=True):
                value.grad = (parts[0] + parts[1]) / 2
            judge.param_groups[0]["lr"] = 3e-3 * rate
            judge.step()
        decay = [0.0, 0.0, 0.25][step]  # it is warmed up to its 0.25
        for name, value in pretext.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * value if value.is_floating_point() else value.clone()
        said.append((means, float(norm)))
    return optimizer, judge, average, said


@pytest.mark.parametrize("kind", JUDGED)
def test_steps_are_those_written_out_by_hand(kind):
    learner = tiny(adversarial=kind)
    pretext, discriminator = copy.deepcopy(learner.pretext), copy.deepcopy(learner.discriminator)
    optimizer, judge, average, said = steps_by_hand(learner.config, pretext, discriminator)
    norms = [one for _, one in said]
    assert min(norms) < 3.7 < max(norms)  # one step is clipped, and another is not
    for step, (rate, weight) in enumerate(COURSE):
        found = learner.learn([crops(2 * step), crops(2 * step + 1)], step, rate, weight)
        names = ("l1", "rotation", "adversarial", "discriminator")[: 2 if weight is None else 4]
        assert [found[name] for name in names] == pytest.approx(said[step][0][: len(names)].tolist(), rel=1e-3)
    pairs = [
        (learner.pretext, pretext, learner.optimizer.optimizer, optimizer, 1e-2),
        (learner.discriminator, discriminator, learner.discriminator_optimizer.optimizer, judge, 3e-3),
    ]
    for ours, theirs, our_optimizer, their_optimizer, peak in pairs:
        for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=peak / 50, msg=lambda why, name=name: f"{name}: {why}")
            for moment in ("exp_avg", "exp_avg_sq"):  # the gradient's size, which no step of AdamW tells
                mine, other_moment = our_optimizer.state[one][moment], their_optimizer.state[other][moment]
                torch.testing.assert_close(mine, other_moment, rtol=1e-2, atol=1e-2 * float(other_moment.abs().max()))
    for name, value in learner.ema.module.state_dict().items():
        torch.testing.assert_close(value, average[name], rtol=1e-4, atol=2e-4)


def test_weights_follow_from_the_runs_seed_in_every_part():
    for changes in ({}, {"init_std": 0.1}):
        one, again, other = (tiny(adversarial="hinge", seed=seed, **changes).modules() for seed in (1, 1, 2))
        for name, module in one.items():
            for key, value in module.named_parameters():
                assert torch.equal(value, again[name].get_parameter(key))
                assert value.ndim < 2 or not torch.equal(value, other[name].get_parameter(key)), key


def test_what_a_step_draws_follows_from_seed_and_step():
    drawn = []
    for seed in (1, 2):
        learner = tiny(adversarial="none", seed=seed)
        learner.pretext.encoder.register_forward_hook(lambda *_: drawn.append(float(torch.rand(()))))  # as dropout does
        for step in (1, 0, 1):
            learner.learn([crops(0)], step, 0.0, None)
    assert drawn[0] == drawn[2]
    assert drawn[3] == drawn[5]
    assert len(set(drawn)) == 4

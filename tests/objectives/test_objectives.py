import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import kstest
from skimage.color import rgb2lab
from torch.nn import functional as F

from tinct.cards import COLORIZERS
from tinct.color import normalize_l, srgb_to_lab
from tinct.errors import TinctError
from tinct.evidence.wording import COLOUR_TERMS
from tinct.models.encoder import Encoder
from tinct.objectives import TERMS, Batch, colour_terms, make_terms
from tinct.objectives.adversarial import ADVERSARIAL, discriminator_loss, generator_loss
from tinct.objectives.base import Decoding, Stream
from tinct.objectives.bins import Bins
from tinct.objectives.palette import Palette, palette
from tinct.objectives.pixel import L1, Huber
from tinct.objectives.pretext import Pretext, take_apart
from tinct.objectives.rotation import Rotation, turn, turns_of
from tinct.objectives.siamese import SIDE, SMALL_SIDE, TEMPERATURE, MultiCrop, Siamese, draws, nt_xent, view


def real_ab(pictures: int = 3, side: int = 12) -> torch.Tensor:
    rgb = torch.rand(pictures, 3, side, side, generator=torch.Generator().manual_seed(1))
    return srgb_to_lab(rgb)[:, 1:]


def test_reports_know_every_term_that_colours():
    assert set(colour_terms(TERMS)) <= COLOUR_TERMS <= TERMS.keys()
    assert set(colour_terms(TERMS)) == COLORIZERS


def test_l1_is_the_mean_absolute_error_of_scaled_ab():
    ab = real_ab()
    assert torch.isclose(L1().loss(torch.zeros_like(ab), ab), (ab / 110).abs().mean())
    assert torch.allclose(L1().decode(ab / 110), ab, atol=1e-4)


def test_huber_is_quadratic_up_to_ten_lab_units():
    at = [Huber().loss(torch.zeros(1, 2, 1, 1), torch.full((1, 2, 1, 1), error)).item() for error in (5.0, 10.0, 20.0)]
    assert math.isclose(at[1] / at[0], 4, rel_tol=1e-4)
    assert math.isclose(at[2] / at[1], 3, rel_tol=1e-4)  # delta (x - delta / 2)


@pytest.mark.parametrize("step", [10, 20])
def test_shares_of_bins_average_to_the_true_colour_inside_the_grid(step):
    term = Bins(step)
    ab = real_ab() * 0.5  # away from the gamut's edge, where a cell may stand for its neighbour
    bins, shares = term.encode(ab)
    assert torch.allclose(shares.sum(1), torch.ones_like(shares[:, 0]), atol=1e-5)
    mean = (term.centres[bins] * shares[..., None]).sum(1).movedim(-1, 1)
    assert torch.allclose(mean, ab, atol=1e-3)


def test_shares_at_the_edge_of_the_gamut_stay_near():
    term = Bins(20)
    ab = real_ab()
    bins, shares = term.encode(ab)
    mean = (term.centres[bins] * shares[..., None]).sum(1).movedim(-1, 1)
    assert (mean - ab).norm(dim=1).max() < 20
    wild = torch.full((1, 2, 1, 1), 500.0)
    assert term.encode(wild)[1].sum() == pytest.approx(1)


def test_bins_loss_equals_cross_entropy_with_soft_targets():
    term = Bins(20)
    ab = real_ab()
    logits = torch.randn(3, term.out_channels, 12, 12)
    bins, shares = term.encode(ab)
    target = torch.zeros_like(logits).scatter_add_(1, bins, shares)
    for weight in (torch.ones(term.out_channels), torch.rand(term.out_channels) + 0.5):
        term.weight.copy_(weight)
        expected = F.cross_entropy(logits, target, weight)  # with soft targets, a mean over pixels
        assert torch.isclose(term.loss(logits, ab), expected, rtol=1e-5)


def test_rebalancing_follows_equation_4_and_averages_to_one():
    term = Bins(20)
    ab = torch.cat((torch.zeros(9, 2, 8, 8), torch.full((1, 2, 8, 8), 40.0)))
    term.fit(ab)
    grey = int((term.centres == 0).all(1).nonzero())
    vivid = int((term.centres == 40).all(1).nonzero())
    q = term.out_channels
    assert torch.isclose(
        term.weight[vivid] / term.weight[grey],
        torch.tensor((0.5 * 0.9 + 0.5 / q) / (0.5 * 0.1 + 0.5 / q)),
        rtol=1e-4,
    )
    bins, shares = term.encode(ab)
    assert torch.isclose((shares * term.weight[bins]).sum() / shares.sum(), torch.tensor(1.0), rtol=1e-4)


def test_annealed_mean_tends_to_the_mode_and_to_the_mean():
    logits = torch.randn(1, 75, 1, 1)
    cold, warm = Bins(), Bins()
    cold.decoding, warm.decoding = Decoding(temperature=1e-3), Decoding(temperature=1.0)
    assert torch.allclose(cold.decode(logits)[0, :, 0, 0], cold.centres[logits.argmax()], atol=1e-2)
    assert torch.allclose(warm.decode(logits)[0, :, 0, 0], logits.flatten().softmax(0) @ warm.centres, atol=1e-4)


def test_decoding_is_differentiable():
    logits = torch.randn(1, 75, 2, 2, requires_grad=True)
    Bins().decode(logits).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_palettes_are_the_shares_of_colours_in_each_cell():
    ab = real_ab(2, 8) / 3  # inside the gamut, where four bins' mean is the colour itself
    bins = Bins()
    found = palette(bins, ab, torch.Size((2, 4)))
    assert found.shape == (2, bins.out_channels, 2, 4)
    assert torch.allclose(found.sum(1), torch.ones(2, 2, 4), atol=1e-5)
    assert torch.allclose(bins.mean_of(found), F.avg_pool2d(ab, (4, 2)), atol=1e-3)  # shares keep the mean colour
    alone = ab[:, :, :1, :1].expand(-1, -1, 8, 8)
    assert int((palette(bins, alone, torch.Size((1, 1))) > 0).sum(1).max()) <= 4  # one colour, four bins at most


def test_palette_loss_is_the_cross_entropy_of_both_maps():
    ab = real_ab(2, 8)
    term = Palette([3, 5, 7])
    term.fit(ab)
    maps = [torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4), torch.randn(2, 7, 2, 2)]
    expected = 0.0
    for head, features in zip(term.heads, maps[1:], strict=True):
        nll = -head(features).log_softmax(1)
        shares = palette(term.bins, ab, features.shape[-2:]) * term.bins.weight[:, None, None]
        expected += float((shares * nll).sum().detach()) / (2 * 2 * features.shape[-1] ** 2)
    found = term.loss(maps, Batch(torch.zeros(2, 1, 32, 32), ab, torch.arange(2)))
    assert math.isclose(float(found.detach()), expected, rel_tol=1e-5)


def test_palette_alone_can_be_learned():
    torch.manual_seed(0)
    l = torch.tensor([20.0, 80.0]).repeat(8)[:, None, None, None].expand(16, 1, 32, 32)
    ab = torch.where(l[:, :, ::4, ::4] > 50, 40.0, -40.0).expand(-1, 2, -1, -1)  # light is red, dark is blue
    pretext = Pretext(Encoder("test_resnet"), {"palette": 1.0})
    pretext.fit(ab)
    optimizer = torch.optim.AdamW(pretext.parameters(), 3e-3)
    for _ in range(30):
        losses, output = pretext(pretext.prepare(Batch(l, ab, torch.arange(16))))
        optimizer.zero_grad()
        losses["palette"].backward()
        optimizer.step()
    assert output is None
    assert losses["palette"] < 0.1  # log(75) = 4.3 by chance


@pytest.mark.parametrize("term", ["bins", "palette"])
def test_what_a_term_learned_of_the_colours_goes_on_in_a_resumed_run(term):
    torch.manual_seed(0)
    first, resumed = (Pretext(Encoder("test_resnet"), {term: 1.0}, width=8).eval() for _ in range(2))
    batch = Batch(100 * torch.rand(4, 1, 32, 32), real_ab(4, 8), torch.arange(4))
    before = float(first(batch)[0][term].detach())
    first.fit(batch.ab / 4)  # duller pictures: what is vivid here is rare
    resumed.load_state_dict(first.state_dict())
    found = [float(one(batch)[0][term].detach()) for one in (first, resumed)]
    assert found[0] == found[1]
    assert abs(found[0] - before) > 0.01


def test_turns_are_those_of_rot90_and_colours_turn_with_their_picture():
    pictures = torch.rand(5, 2, 6, 6)
    turns = torch.tensor([0, 1, 2, 3, 1])
    for picture, quarter, turned in zip(pictures, turns, turn(pictures, turns), strict=True):
        assert torch.equal(turned, torch.rot90(picture, int(quarter), (1, 2)))
    l, keys = torch.rand(40, 1, 8, 8), torch.arange(40)
    batch = Rotation([8]).prepare(Batch(l, F.avg_pool2d(l, 2).expand(-1, 2, -1, -1), keys))
    assert sorted(set(turns_of(keys).tolist())) == [0, 1, 2, 3]
    assert torch.equal(batch.l, turn(l, turns_of(keys)))
    assert torch.allclose(batch.ab, F.avg_pool2d(batch.l, 2).expand(-1, 2, -1, -1))


def test_rotation_alone_can_be_learned():
    torch.manual_seed(0)
    ramp = torch.linspace(0, 100, 32).expand(16, 1, 32, 32)
    pretext = Pretext(Encoder("mobilenetv3_small_050"), {"rotation": 1.0})
    optimizer = torch.optim.AdamW(pretext.parameters(), 3e-3)
    for step in range(15):
        batch = pretext.prepare(Batch(ramp, torch.zeros(16, 2, 8, 8), torch.arange(16) + step))
        losses, output = pretext(batch)
        optimizer.zero_grad()
        losses["rotation"].backward()
        optimizer.step()
    assert output is None
    assert losses["rotation"] < 0.3  # log(4) = 1.39 by chance


def reference(kind: str, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    p_real, p_fake = real.sigmoid(), fake.sigmoid()
    return {
        "bce": (-(p_real.log().mean() + (1 - p_fake).log().mean()) / 2, -p_fake.log().mean()),
        "lsgan": (((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2, ((fake - 1) ** 2).mean()),
        "hinge": ((1 - real).clamp(min=0).mean() / 2 + (1 + fake).clamp(min=0).mean() / 2, -fake.mean()),
    }[kind]


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_adversarial_losses_equal_their_definitions(kind):
    real, fake = torch.randn(2, 4, 1, 5, 5)
    expected = reference(kind, real, fake)
    assert torch.isclose(discriminator_loss(kind, real, fake), expected[0], rtol=1e-4)
    assert torch.isclose(generator_loss(kind, fake), expected[1], rtol=1e-4)


def test_terms_share_one_pass_of_the_encoder():
    pretext = Pretext(Encoder("mobilenetv3_small_050"), {"bins": 1.0, "rotation": 0.5}, width=8)
    passes = []
    pretext.encoder.register_forward_hook(lambda *_: passes.append(1))
    batch = take_apart(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), torch.arange(2), 4)
    losses, output = pretext(pretext.prepare(batch))
    assert set(losses) == {"bins", "rotation"}
    assert output is not None
    assert output.shape == (2, 75, 8, 8)
    assert len(passes) == 1


def test_take_apart_gives_l_in_full_and_mean_chroma():
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    batch = take_apart(pixels, torch.arange(2), 4)
    lab = srgb_to_lab(pixels / 255)
    assert torch.allclose(batch.l, lab[:, :1], atol=1e-3)
    assert torch.allclose(batch.ab[1, :, 0, 1], lab[1, 1:, :4, 4:].mean((1, 2)), atol=1e-3)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"l2": 1}, "unknown term"),
        ({"l1": 1, "bins": 1}, "at most one"),
        ({"l1": 0}, "positive"),
        ({}, "at least one"),
        ({"siamese": 1, "multicrop": 1}, "leave siamese out"),
    ],
)
def test_impossible_terms_are_refused(weights, says):
    with pytest.raises(TinctError, match=says):
        make_terms(weights, [4, 8])


def test_nt_xent_is_the_mean_of_the_papers_terms():
    first, second = torch.randn(2, 5, 8)
    vectors = [*first, *second]
    total = 0.0
    for i, one in enumerate(vectors):
        cosines = [F.cosine_similarity(one, other, dim=0) / 0.5 for other in vectors]
        others = torch.stack([cosines[k] for k in range(10) if k != i])
        total += float(others.logsumexp(0) - cosines[(i + 5) % 10])
    assert math.isclose(float(nt_xent(first, second, 0.5)), total / 10, rel_tol=1e-5)


def test_views_are_compared_in_single_precision_where_the_rest_is_not():
    first, second = torch.randn(2, 20, 8, requires_grad=True)
    expected = nt_xent(first, second, TEMPERATURE)
    (gradient,) = torch.autograd.grad(expected, first)
    with torch.autocast("cpu", torch.bfloat16):
        assert (first @ second.T).dtype == torch.bfloat16
        found = nt_xent(first, second, TEMPERATURE)
    assert torch.equal(found, expected)
    assert torch.equal(torch.autograd.grad(found, first)[0], gradient)


def test_views_follow_from_keys_and_colours_from_their_view():
    l = F.interpolate(torch.rand(6, 1, 4, 4), (32, 32), mode="bicubic").clamp(0, 1) * 100
    batch = Batch(l, F.avg_pool2d(l, 4).expand(-1, 2, -1, -1), torch.arange(6) * 7919)
    term = Siamese([8])
    both = term.prepare(batch)
    assert both.l.shape == (12, 1, 32, 32)
    assert both.ab.shape == (12, 2, 8, 8)
    assert torch.equal(both.keys, torch.cat((batch.keys, batch.keys)))
    assert not torch.equal(both.l[:6], both.l[6:])
    assert float(both.l.min()) >= 0
    assert float(both.l.max()) <= 100
    alone = term.prepare(Batch(batch.l[2:3], batch.ab[2:3], batch.keys[2:3]))
    assert torch.allclose(alone.l, both.l[[2, 8]], atol=1e-4)
    # ab was made of L: after any cut it still goes with the L beside it, whatever the light
    for index in range(12):
        pair = torch.stack((F.avg_pool2d(both.l[index], 4).flatten(), both.ab[index, 0].flatten()))
        assert torch.corrcoef(pair)[0, 1] > 0.5


def test_small_views_are_compared_with_both_large_ones():
    torch.manual_seed(0)
    term = MultiCrop([8])
    l, keys = 100 * torch.rand(3, 1, 32, 32), torch.arange(3)
    batch = term.prepare(Batch(l, torch.rand(3, 2, 8, 8), keys))
    assert (batch.l.shape, batch.ab.shape, batch.small.l.shape) == ((6, 1, 32, 32), (6, 2, 8, 8), (12, 1, 16, 16))
    assert torch.equal(batch.l, Siamese([8]).prepare(Batch(l, torch.rand(3, 2, 8, 8), keys)).l)
    assert torch.equal(batch.small.l, term.prepare(Batch(l, torch.rand(3, 2, 8, 8), keys)).small.l)
    assert not torch.equal(batch.small.l[:3], batch.small.l[3:6])
    large, small = torch.randn(6, 8, 1, 1), torch.randn(12, 8, 1, 1)
    vectors = [term.head(maps.flatten(1)) for maps in (large[:3], large[3:], *small.split(3))]
    pairs = [(0, 1), *((one, other) for one in (0, 1) for other in (2, 3, 4, 5))]
    expected = sum(nt_xent(vectors[one], vectors[other], TEMPERATURE) for one, other in pairs) / 9
    torch.testing.assert_close(term.loss([large], batch, [small]), expected)


def test_a_share_of_the_views_comes_in_colour():
    ab = (real_ab(40, 1) / 4).expand(-1, -1, 8, 8)
    keys = torch.arange(40) * 7919
    batch = Batch(50 + 10 * torch.rand(40, 1, 32, 32), ab, keys)
    made = {}
    for share in (0.0, 0.5, 1.0):
        pretext = Pretext(Encoder("test_resnet", 3), {"palette": 1.0, "multicrop": 1.0}, in_colour=share)
        made[share] = pretext.prepare(batch)
    assert made[0.0].fed is None
    assert made[0.0].small.fed is None
    for half, whole in ((made[0.5], made[1.0]), (made[0.5].small, made[1.0].small)):
        grey = normalize_l(half.l).expand_as(half.fed)
        plain = (half.fed == grey).flatten(1).all(1)
        assert 0.3 < float(plain.float().mean()) < 0.7
        assert torch.equal(half.fed[~plain], whole.fed[~plain])
        first, second = plain[:40], plain[40:80]
        assert not torch.equal(first, second)  # each view of a picture is drawn for itself
    whole = made[1.0]
    lab = rgb2lab(((whole.fed + 1) / 2).permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(lab[..., 0], whole.l[:, 0].numpy(), atol=0.1)  # so pale that all is in gamut
    coarse = F.avg_pool2d(torch.from_numpy(lab[..., 1:]).permute(0, 3, 1, 2), 4).float()
    saturation = (coarse * whole.ab).sum((1, 2, 3)) / whole.ab.square().sum((1, 2, 3))
    assert kstest(saturation, "uniform", (0.6, 0.8)).pvalue > 0.01
    assert 0.595 < float(saturation.min()) < 0.65
    assert 1.35 < float(saturation.max()) < 1.405
    again = pretext.prepare(Batch(batch.l[3:5], ab[3:5], keys[3:5]))
    assert torch.allclose(again.fed, whole.fed[[3, 4, 43, 44]], atol=1e-4)  # what is drawn follows from the keys alone


def test_what_is_in_colour_says_nothing_of_what_is_aged():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (400, 3, 32, 32), dtype=torch.uint8)
    keys = torch.randint(0, 1 << 60, (400,))
    plain, some = (take_apart(pixels, keys, 4, share) for share in (0.0, 0.5))
    aged = (plain.l - some.l).abs().amax((1, 2, 3)) > 1e-3
    fed = Pretext(Encoder("test_resnet", 3), {"rotation": 1.0}, in_colour=0.5).prepare(some).fed
    coloured = (fed[:, 0] - fed[:, 1]).abs().amax((1, 2)) > 1e-3
    for kind in (coloured, ~coloured):
        assert 0.35 < float(aged[kind].float().mean()) < 0.6


def test_small_views_leave_the_running_statistics_alone():
    torch.manual_seed(0)
    batch = Batch(100 * torch.rand(4, 1, 32, 32), torch.rand(4, 2, 8, 8), torch.arange(4))
    ends = []
    for terms in ({"siamese": 1.0}, {"multicrop": 1.0}):
        torch.manual_seed(1)
        pretext = Pretext(Encoder("resnet10t"), terms)
        for _ in range(2):  # the second step's are recorded as the first one's are
            losses, _ = pretext(pretext.prepare(batch))
        ends.append({key: value for key, value in pretext.encoder.state_dict().items() if "running" in key})
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    losses["multicrop"].backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in pretext.parameters())


def test_siamese_alone_can_be_learned():
    torch.manual_seed(0)
    x = torch.arange(64.0)
    stripes = torch.stack([50 + 50 * torch.sin(x / (1.5 * 1.6**n)).expand(64, 64) for n in range(4)])
    pictures = torch.cat((stripes, stripes.mT))[:, None]
    pretext = Pretext(Encoder("mobilenetv3_small_050"), {"siamese": 1.0})
    optimizer = torch.optim.AdamW(pretext.parameters(), 3e-3)
    losses = []
    for step in range(60):
        batch = pretext.prepare(Batch(pictures, torch.zeros(8, 2, 16, 16), torch.arange(8) + 8 * step))
        loss = pretext(batch)[0]["siamese"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_views_are_of_turned_pictures_whatever_the_order_of_the_terms():
    torch.manual_seed(0)
    l, ab, keys = 100 * torch.rand(4, 1, 32, 32), torch.rand(4, 2, 8, 8), torch.arange(4)
    upright, turned = Batch(l, ab, keys), Batch(turn(l, keys), turn(ab, keys), keys)
    plain, expected = (MultiCrop([8]).prepare(batch) for batch in (upright, turned))
    for names in (("rotation", "multicrop"), ("multicrop", "rotation")):
        made = Pretext(Encoder("test_resnet", 1), dict.fromkeys(names, 1.0)).prepare(upright)
        for found, right, wrong in ((made, expected, plain), (made.small, expected.small, plain.small)):
            assert torch.equal(found.l, right.l)
            assert torch.equal(found.ab, right.ab)
            assert not torch.equal(found.l, wrong.l)


def numbers(side=1.0, mirror=1.0, across=0.5, down=0.5, contrast=0.5, shift=0.5, blur=1.0, sides=SIDE):
    """What `view` takes to change nothing but what is given; the side as a share of the picture's."""
    return torch.tensor([[(side - sides[0]) / (sides[1] - sides[0]), mirror, across, down, contrast, shift, blur]])


def test_a_view_is_the_part_that_was_drawn_whole_or_mirrored():
    l = F.interpolate(30 + 40 * torch.rand(1, 1, 8, 8), (32, 32), mode="bicubic")
    batch = Batch(l, F.avg_pool2d(l, 4).expand(-1, 2, -1, -1), torch.arange(1))
    inner = (..., slice(1, -1), slice(1, -1))  # at its rim a view sees beyond its part
    for across, down, left, top in ((0, 0, 0, 0), (1, 0, 16, 0), (0, 1, 0, 16), (0.5, 0.25, 8, 4)):
        part = F.interpolate(l[..., top : top + 16, left : left + 16], (32, 32), mode="bilinear")
        drawn = {"side": 0.5, "across": across, "down": down}
        plain, ab = view(batch, numbers(**drawn))
        torch.testing.assert_close(plain[inner], part[inner], rtol=0, atol=1e-3)
        mirrored = view(batch, numbers(**drawn, mirror=0.0))
        torch.testing.assert_close(mirrored[0], plain.flip(-1), rtol=0, atol=1e-3)
        torch.testing.assert_close(mirrored[1], ab.flip(-1), rtol=0, atol=1e-3)
        colours = batch.ab[..., top // 4 : top // 4 + 4, left // 4 : left // 4 + 4]
        expected = F.interpolate(colours, (8, 8), mode="bilinear")
        torch.testing.assert_close(ab[inner], expected[inner], rtol=0, atol=1e-3)
        small = view(batch, numbers(**drawn, sides=SMALL_SIDE), SMALL_SIDE, 2)[0]
        torch.testing.assert_close(small, l[..., top : top + 16, left : left + 16], rtol=0, atol=1e-3)


def test_a_view_is_in_other_light_by_as_much_as_was_drawn():
    l = 30 + 20 * torch.rand(1, 1, 32, 32)
    batch = Batch(l, torch.rand(1, 2, 8, 8), torch.arange(1))
    mean = l.mean()
    for name, end, expected in (
        ("contrast", 0.0, mean + 0.6 * (l - mean)),
        ("contrast", 1.0, mean + 1.4 * (l - mean)),
        ("shift", 0.0, l - 15),
        ("shift", 1.0, l + 15),
        ("blur", 0.49, torch.from_numpy(gaussian_filter(l[0, 0].numpy(), 1, mode="mirror", radius=2))[None, None]),
        ("blur", 0.51, l),
    ):
        found, ab = view(batch, numbers(**{name: end}))
        torch.testing.assert_close(found, expected, rtol=0, atol=0.1)
        torch.testing.assert_close(ab, batch.ab)
    assert float(view(replace(batch, l=l + 45), numbers(shift=1.0))[0].max()) == 100


def test_every_view_is_drawn_over_the_whole_range():
    torch.manual_seed(0)
    keys = torch.arange(300) * 7919
    batch = Batch(torch.rand(300, 1, 8, 8), torch.rand(300, 2, 2, 2), keys)
    for stream, count in ((Stream.VIEWS, 2), (Stream.SMALL_VIEWS, 4)):
        columns = torch.cat(draws(batch, count, stream), dim=1).numpy()
        assert all(kstest(column, "uniform").pvalue > 1e-4 for column in columns.T)
        assert np.abs(np.corrcoef(columns.T) - np.eye(7 * count)).max() < 0.3

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn
from torch.nn import functional as F

from tinct.color import lab_to_srgb, normalize_ab, srgb_to_lab
from tinct.color_metrics import colorfulness
from tinct.errors import TinctError
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives.base import Decoding
from tinct.objectives.bins import Bins
from tinct.objectives.pixel import L1
from tinct.pretraining.calibrate import COLOURFULNESS, _errors, _lacking, _result, calibrate, recalibrate
from tinct.pretraining.heldout import balance, colour_scores
from tinct.weights import ColourNet, load_colorizer, save_colorizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pictures():
    return np.stack([picture[100:164, 100:164] for picture in (data.astronaut(), data.chelsea(), data.coffee())])


@pytest.fixture
def chroma(pictures):
    lab = srgb_to_lab(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous())
    return F.avg_pool2d(lab[:, 1:], 4)


class Answers(nn.Module):
    """A generator whose outputs are known beforehand."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, l):
        return self.output


def scored(output, colour, pictures):
    return colour_scores(lambda _: colour.decode(output), pictures, CPU)


def test_dull_regression_is_scaled_up(pictures, chroma):
    output, colour = normalize_ab(chroma / 2), L1()
    found = calibrate(Answers(output), colour, pictures, CPU)
    assert colour.decoding == Decoding()  # put back
    assert found.gain > 1.3
    dull = scored(output, colour, pictures)
    colour.decoding = found
    vivid = scored(output, colour, pictures)
    assert 0.9 * COLOURFULNESS < vivid["colourfulness_ratio"] < 1.1 * COLOURFULNESS
    assert vivid["ab_error"] < dull["ab_error"]


def test_fine_chroma_is_judged_by_a_part_of_its_pixels(pictures, chroma, monkeypatch):
    fine, judged = [part.repeat_interleave(4, -2).repeat_interleave(4, -1) for part in (chroma / 2, chroma)], []
    truth = (lab_to_srgb(torch.cat((torch.full_like(fine[1][:, :1], 50), fine[1]), 1)) * 255).round().byte()

    def seen(rgb):
        judged.append(rgb.shape)
        return colorfulness(rgb)

    monkeypatch.setattr("tinct.pretraining.calibrate.colorfulness", seen)
    monkeypatch.setattr("tinct.pretraining.calibrate.SIDE", 16)
    colour = L1()
    part = calibrate(Answers(normalize_ab(fine[0])), colour, truth.permute(0, 2, 3, 1).numpy(), CPU)
    assert set(judged) == {(3, 3, 16, 16)}
    whole = calibrate(Answers(normalize_ab(chroma / 2)), colour, truth[:, :, ::4, ::4].permute(0, 2, 3, 1).numpy(), CPU)
    assert part == whole


def test_answers_are_judged_together_as_pictures_are_scored_one_set_after_another(pictures, chroma):
    small = F.avg_pool2d(torch.from_numpy(pictures).permute(0, 3, 1, 2).float(), 4).round().byte()
    answers, gains = torch.stack((chroma / 2, chroma.flip(0), chroma)), torch.tensor([1.4, 2.0, 1.0])
    truth = small / 255
    rgb = _result(answers, lab := srgb_to_lab(truth), gains.double())
    lacks, errors = _lacking(rgb, colorfulness(truth).mean()), _errors(rgb, lab)
    for gain, answer, lack, error in zip(gains, answers, lacks, errors, strict=True):
        found = colour_scores(lambda _, ab=gain * answer: ab, small.permute(0, 2, 3, 1).numpy(), CPU)
        assert float(lack) == pytest.approx(max(0, COLOURFULNESS - found["colourfulness_ratio"]), abs=1e-5)
        assert float(error) == pytest.approx(found["ab_error"], rel=1e-5)
    assert lacks[0] > 0 == lacks[2]


def test_recalibrating_leaves_the_decoding_that_is_found(pictures, chroma):
    output, colour = normalize_ab(chroma / 2), L1()
    expected = calibrate(Answers(output), colour, pictures, CPU)
    colourer = recalibrate(SimpleNamespace(generator=Answers(output), colour=colour), pictures, CPU)
    assert colour.decoding == expected != Decoding()
    assert torch.equal(colourer(chroma), colour.decode(output))
    assert recalibrate(SimpleNamespace(generator=None, colour=None), pictures, CPU) is None


def test_a_network_is_judged_by_what_it_answers_in_use(pictures):
    """It sees the levels that a finished colorizer gives it, on which the gain depends."""

    class Lit(nn.Module):
        """As colourful as the picture is light."""

        def forward(self, l):
            seen.append(l)
            return (F.avg_pool2d(l, 4) / 100).square().expand(-1, 2, -1, -1) * torch.tensor([0.3, 0.4])[:, None, None]

    dark, colour, seen = pictures // 3 + 40, L1(), []
    l = srgb_to_lab(torch.from_numpy(dark).permute(0, 3, 1, 2).contiguous())[:, :1]
    in_use = ColourNet(Lit(), colour, {}).output(l)
    colourer = recalibrate(SimpleNamespace(generator=Lit(), colour=colour), dark, CPU)
    found = colour.decoding
    assert calibrate(Answers(in_use), L1(), dark, CPU) == found != calibrate(Answers(Lit()(l)), L1(), dark, CPU)
    assert torch.equal(colourer(l), colour.decode(in_use))
    assert seen[-2].max() < 75 < seen[0].max()


def test_bins_are_decoded_with_no_more_error_than_any_way_as_vivid(pictures, chroma):
    torch.manual_seed(0)
    colour = Bins()
    colour.fit(chroma)
    bins, shares = colour.encode(chroma)
    probabilities = torch.full((3, 75, 16, 16), 0.01).scatter_add_(1, bins, shares)
    output = probabilities.log() + colour.weight.log()[:, None, None] + torch.randn(3, 75, 16, 16)
    found = calibrate(Answers(output), colour, pictures, CPU)
    colour.decoding = found
    best = scored(output, colour, pictures)
    assert best["colourfulness_ratio"] >= 0.9 * COLOURFULNESS
    for prior, temperature, gain in [(0, 0.38, 1), (0, 1, 1.5), (0.5, 0.2, 1.2), (1, 1, 2), (1, 0.38, 1)]:
        colour.decoding = Decoding(gain, temperature, prior)
        other = scored(output, colour, pictures)
        assert other["colourfulness_ratio"] < COLOURFULNESS or other["ab_error"] > best["ab_error"] - 0.3


def test_taking_the_prior_back_gives_the_probabilities_of_the_pictures(chroma):
    colour = Bins()
    colour.fit(chroma)
    true = chroma[:1, :, 4:6, 4:6]
    output = torch.zeros(1, 75, 2, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([output], max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = colour.loss(output, true)
        value.backward()
        return value

    optimizer.step(loss)  # to what the weighted cross-entropy tends to
    colour.decoding = Decoding(temperature=1.0, prior=1.0, gain=2.0)
    assert torch.allclose(colour.decode(output), 2 * true, atol=0.5)
    colour.decoding = Decoding(temperature=1.0, prior=0.0, gain=2.0)
    assert not torch.allclose(colour.decode(output), 2 * true, atol=2)


def test_without_pictures_nothing_changes():
    assert calibrate(Answers(torch.zeros(0)), L1(), np.zeros((0, 64, 64, 3), np.uint8), CPU) == Decoding()


@pytest.mark.parametrize("values", [None, [], {"gain": "x"}, {"gain": float("nan")}, {"temperature": 0}, {"hue": 1}])
def test_impossible_decodings_are_refused(values):
    with pytest.raises(TinctError, match="decoding"):
        Decoding.read(values)


def test_a_colorizer_remembers_its_decoding(tmp_path):
    colour = L1()
    colour.decoding = Decoding(1.5, 0.2, 0.25)
    generator = Generator(Encoder("resnet18"), colour.out_channels, 4, 8)
    save_colorizer(tmp_path / "a.safetensors", generator, colour, {"size": 64})
    assert load_colorizer(tmp_path / "a.safetensors").colour.decoding == Decoding(1.5, 0.2, 0.25)


def test_balance_asks_as_much_of_dull_as_of_gaudy_colours():
    assert balance(10.0, 1.0) == 10.0
    assert balance(10.0, 0.8) == pytest.approx(12.5)
    assert balance(10.0, 1.25) == pytest.approx(12.5)
    assert np.isfinite(balance(10.0, 0.0))

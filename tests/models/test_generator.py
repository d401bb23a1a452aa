import pytest
import torch

from tinct.color import stretch_levels
from tinct.models.discriminator import PatchDiscriminator
from tinct.models.encoder import Encoder
from tinct.models.generator import Decoder, Generator
from tinct.objectives.base import Batch
from tinct.objectives.pretext import Pretext
from tinct.weights import ColourNet


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "mobilenetv3_small_100"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_output_is_at_the_chroma_stride(backbone, stride):
    generator = Generator(Encoder(backbone), out_channels=5, chroma_stride=stride, width=8)
    assert generator(torch.zeros(2, 1, 64, 96)).shape == (2, 5, 64 // stride, 96 // stride)


def test_feature_maps_may_end_at_the_chroma_stride():
    decoder = Decoder(channels=[8, 16], reductions=[4, 8], stride=8, width=8)
    maps = [torch.zeros(2, 8, 16, 24), torch.zeros(2, 16, 8, 12)]
    assert decoder(maps, torch.zeros(2, 1, 64, 96)).shape == (2, 8, 8, 12)


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch():
    generator = Generator(Encoder("convnext_atto"), 2, width=8)  # no batch norm in either half
    l = torch.rand(3, 1, 64, 64) * 100
    assert torch.allclose(generator(l)[1], generator(l[1:2])[0], atol=1e-4)


@pytest.mark.parametrize("stride", [1, 4])
def test_a_finished_colorizer_computes_what_was_trained(stride):
    pretext = Pretext(Encoder("test_resnet"), {"l1": 1.0}, stride, 8).eval()
    faded = 30 + 40 * torch.rand(2, 1, 64, 64)
    scaled = stretch_levels(faded) / 50 - 1  # to [-1, 1], once
    maps = pretext.encoder.body.forward_intermediates(scaled, intermediates_only=True)
    expected = pretext.generator.head(pretext.generator.decoder(maps, scaled))
    trained = pretext(Batch(stretch_levels(faded), torch.zeros(2, 2, 64 // stride, 64 // stride), torch.arange(2)))[1]
    assert torch.allclose(trained, expected, atol=1e-6)
    assert torch.allclose(ColourNet(pretext.generator, pretext.colour, {}).output(faded), expected, atol=1e-6)


def test_every_parameter_of_the_decoder_learns():
    generator = Generator(Encoder("resnet18"), 2, width=8)
    generator(torch.rand(2, 1, 64, 64) * 100).square().mean().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


def test_pix2pix_discriminator_has_70_pixel_patches_and_30x30_logits():
    discriminator = PatchDiscriminator(256, width=4, norm="instance")
    assert discriminator(torch.zeros(1, 1, 256, 256), torch.zeros(1, 2, 256, 256)).shape == (1, 1, 30, 30)
    field = 1  # receptive field, from the last layer back (Isola et al. 2017, appendix 6.1.2)
    for layer in reversed([m for m in discriminator.layers if isinstance(m, torch.nn.Conv2d)]):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert field == 70


@pytest.mark.parametrize("size", [8, 16, 24, 32, 56, 64, 128, 256])
@pytest.mark.parametrize("norm", ["spectral", "instance"])
def test_discriminator_follows_its_inputs_size(size, norm):
    discriminator = PatchDiscriminator(size, width=4, norm=norm)
    logits = discriminator(torch.zeros(2, 1, size, size), torch.zeros(2, 2, size, size))
    assert logits.shape[:2] == (2, 1)
    assert min(logits.shape[2:]) >= 1


@pytest.mark.parametrize("norm", ["spectral", "instance"])
def test_real_and_fake_in_one_pass_do_not_mix(norm):
    discriminator = PatchDiscriminator(32, width=4, norm=norm).eval()
    l, ab = torch.rand(4, 1, 32, 32) * 100, torch.randn(4, 2, 32, 32) * 30
    assert torch.allclose(discriminator(l, ab)[:2], discriminator(l[:2], ab[:2]), atol=1e-5)

"""Files of the first release load for ever. Never write these fixtures anew: add new ones beside them.

They come from four steps of pretraining a tiny network, with weights rounded to three bits so that they pack well.
"""

import lzma
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tinct.colorize import Colorizer
from tinct.inits import load_init
from tinct.weights import load_colorizer, load_encoder

FIXTURES = Path(__file__).parent / "fixtures"
FEATURES = [
    (0.001885, 0.065379),
    (0.012923, 0.14822),
    (0.062308, 0.140655),
    (-0.008543, 0.091469),
    (-0.013495, 0.101878),
]
"""Mean and standard deviation of each feature map for the ramp below, as the first release computed them."""


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v1")
    for name in ("encoder", "colorizer"):
        packed = (FIXTURES / f"{name}-v1.safetensors.xz").read_bytes()
        (folder / f"{name}.safetensors").write_bytes(lzma.decompress(packed))
    return folder


def ramp() -> torch.Tensor:
    return torch.linspace(0, 100, 64 * 64).reshape(1, 1, 64, 64)


def test_the_encoder_loads_and_computes_what_it_did(release):
    encoder, meta = load_encoder(release / "encoder.safetensors")
    assert (meta["format"], meta["kind"], meta["init"], meta["size"]) == (1, "encoder", "random", 32)
    assert meta["selected_with_labels"] is False
    with torch.no_grad():
        features = encoder.eval()(ramp() / 50 - 1)
    for found, (mean, deviation) in zip(features, FEATURES, strict=True):
        assert float(found.mean()) == pytest.approx(mean, abs=2e-5)
        assert float(found.std()) == pytest.approx(deviation, abs=2e-5)
    start = load_init(str(release))
    own = load_file(release / "encoder.safetensors")
    assert all(torch.equal(value, own[key]) for key, value in start.encoder.body.state_dict().items())


def test_the_colorizer_loads_in_half_precision_and_colours(release):
    network = load_colorizer(release / "colorizer.safetensors")
    ab = network(ramp())
    assert ab.shape == (1, 2, 16, 16)
    assert ab[0, :, 0, 0].tolist() == pytest.approx([30.00757, -4.20419], abs=1e-2)
    assert float(ab.mean()) == pytest.approx(15.808239, abs=1e-2)
    coloured = Colorizer.load(release / "colorizer.safetensors", "cpu")(ramp().expand(-1, 3, -1, -1) / 100, size=64)
    assert coloured.shape == (1, 3, 64, 64)

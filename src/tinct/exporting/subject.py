"""What an export starts from: weights of tinct's, brought to the input that is wanted and to timm's own keys."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from tinct.data.transforms import CENTRED, REDUCED, WHOLE, whole_side
from tinct.downstream.trained import load_trained
from tinct.errors import TinctError
from tinct.exporting.parity import as_list, compare, fold_error, sample_inputs
from tinct.models.encoder import Encoder
from tinct.models.heads import Classifier
from tinct.models.stem import Input, refit, stem_name, trained_on
from tinct.settings import encoder_size
from tinct.shipped import entries, resolve
from tinct.weights import load_colorizer, load_encoder, load_strict, read_weights

__all__ = ["FED", "Fed", "Subject", "load_subject"]

Fed = Literal["grey", "rgb", "lightness"]
FED: dict[Fed, str] = {
    "grey": "L*/50 - 1 of CIE Lab (D65), L* in [0, 100]: (B, 1, H, W)",
    "rgb": "2 v - 1, v = sRGB in [0, 1], gamma-encoded: (B, 3, H, W)",
    "lightness": "L* of CIE Lab (D65) in [0, 100]: (B, 1, H, W)",
}
OUTPUTS = {
    "colorizer": "ab (B, 2, h, w) in Lab units, coarser than the input: enlarged bilinearly to the picture's size, "
    "they go with the picture's own L*, through CIE Lab (D65), to sRGB; faded L* is stretched inside: feed it as it is",
    "classifier": "logits (B, C): logits.sigmoid() is the probability of each class by itself",
    "segmenter": "logits (B, C, H, W): enlarged bilinearly to the picture's size, softmax(1) are a pixel's "
    "probabilities and argmax(1) is the mask",
}


@dataclass(frozen=True)
class Subject:
    """What is exported.

    Attributes:
        path: the file it came from.
        kind: encoder, colorizer, classifier or segmenter.
        meta: that file's header.
        input: what the encoder is fed.
        network: all of it; of an encoder, the encoder.
        encoder: with timm's own keys; None where segmentation-models-pytorch has taken it apart.
        fold: what folding the first convolution for RGB costs; None where that was not done.
    """

    path: Path
    kind: str
    meta: dict[str, Any]
    input: Input
    network: nn.Module
    encoder: Encoder | None
    fold: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """What the weights are called, or only their file: where this machine keeps them is nobody's business."""
        return next((name for name, entry in entries().items() if entry.path == self.path), self.path.name)

    @property
    def fed(self) -> Fed:
        """What the whole network is fed."""
        return "lightness" if self.kind == "colorizer" else self.input

    @property
    def size(self) -> int:
        """Height and width of the input in pixels: as trained on labels, else what features are taken at."""
        return int(self.meta["size"]) if "classes" in self.meta else encoder_size(self.meta.get("size"))

    def use(self, alone: bool) -> dict[str, Any]:
        """How to feed the network without tinct and read its outputs; `alone`: it is the encoder without its head."""
        if alone or self.kind == "encoder":
            return {"size": self.size, "view": CENTRED}
        said = {"size": self.size, "view": WHOLE, "outputs": OUTPUTS[self.kind]}
        if self.kind == "colorizer":
            return {**said, "size": whole_side(self.meta["size"], self.meta.get("min_crop", 1.0))}
        view = CENTRED if self.kind == "classifier" else f"{WHOLE}, {REDUCED}"
        return {**said, "view": view, "classes": self.meta["classes"]}

    def rounded(self) -> "Subject":
        """A copy whose kernels and matrices have been through half precision, as `save_tensors` stores them."""
        network, encoder = copy.deepcopy((self.network, self.encoder))  # together: one holds the other
        for module in filter(None, (network, encoder)):
            for value in module.state_dict().values():
                if value.ndim >= 2 and value.is_floating_point():
                    value.copy_(value.half())
        return dataclasses.replace(self, network=network, encoder=encoder)

    def timm_encoder(self) -> Encoder:
        """The encoder.

        Raises:
            TinctError: it is inside a head of segmentation-models-pytorch.
        """
        if self.encoder is None:
            raise TinctError(
                f"{self.path}: its {self.meta['head']} head is segmentation-models-pytorch's; export --to onnx or "
                "--to segmentation-models"
            )
        return self.encoder

    def classes(self) -> list[str]:
        """Names of the classes, if timm's and torchvision's classifier can take the place of this one's."""
        network, encoder = self.network, self.encoder
        if encoder is None or not isinstance(network, Classifier) or network.stages != (-1,) or network.peaks:
            return []
        body: Any = encoder.body
        if body.num_features != encoder.channels[-1]:
            return []
        with torch.inference_mode():
            deepest = torch.rand(1, encoder.channels[-1], 2, 2)
            plain = torch.allclose(body.forward_head(deepest, pre_logits=True), deepest.mean((2, 3)), atol=1e-6)
        return list(self.meta["classes"]) if plain else []  # not where a norm or a layer comes between

    def classifier(self, name: str) -> dict[str, Tensor]:
        """The classifier's weights under another library's name; none where it has no place there."""
        if not self.classes():
            return {}
        linear: Any = self.network.linear
        return {f"{name}.weight": linear.weight, f"{name}.bias": linear.bias}


def load_subject(run: str | Path, input: Input | None) -> Subject:
    """Read what shall be exported, with its first convolution for `input` and with timm's own keys.

    Raises:
        TinctError: there are no weights of tinct's, or they cannot have that input.
    """
    path = resolve(run, "encoder", "model")
    kind = read_weights(path)[1].get("kind", "weights of another program")
    if kind in ("classifier", "segmenter"):
        network, meta = load_trained(path)
        if input not in (None, meta["input"]):
            raise TinctError(f"{path}: was trained on {meta['input']} input, not {input}; leave --input out")
        absorb_bias(network.encoder, meta)
        inner = network.encoder
        return Subject(path, kind, meta, meta["input"], network, inner if isinstance(inner, Encoder) else None)
    if kind == "colorizer":
        whole = load_colorizer(path)
        source, meta = whole.generator.encoder, whole.meta
    elif kind == "encoder":
        whole = None
        source, meta = load_encoder(path)
    else:
        raise TinctError(f"{path}: holds {kind}; expected an encoder, colorizer or model that tinct wrote")
    source = source.eval().requires_grad_(False)
    trained = trained_on(meta)
    input = input or ("grey" if trained is None else "rgb")
    encoder, tensors = refit(source.backbone, source.body.state_dict(), input, trained)
    load_strict(encoder.body, tensors, path)
    encoder = encoder.eval().requires_grad_(False)
    fold = fold_error(source, encoder) if input == "rgb" and trained is None else None
    return Subject(path, kind, meta, input, whole or encoder, encoder, fold)


def absorb_bias(encoder: Any, meta: dict[str, Any]) -> None:
    """Take a bias that folding gave the first convolution into the batch norm after it: mean' = mean - bias.

    Exact, and the network has timm's own keys again.

    Raises:
        TinctError: no batch norm follows, or the first there is takes something else, so that features would differ.
    """
    backbone = meta["backbone"]
    body = encoder.body if isinstance(encoder, Encoder) else encoder.model
    own = timm.create_model(backbone, num_classes=0, in_chans=meta["in_channels"])
    stem = stem_name(own)
    if not meta["stem_bias"] or stem is None or f"{stem}.bias" in own.state_dict():
        return
    layers = dict(body.named_modules())
    place = next(name for name in layers if name.replace(".", "_") == stem.replace(".", "_"))
    after = list(layers.values())[list(layers).index(place) + 1 :]
    norm = next((layer for layer in after if isinstance(layer, nn.modules.batchnorm._BatchNorm)), None)
    conv: Any = layers[place]
    if norm is None or norm.running_mean is None or norm.running_mean.shape != conv.bias.shape:
        raise TinctError(f"{backbone}: no batch norm to take up its first convolution's bias; export --to onnx")
    before = copy.deepcopy(encoder)
    norm.running_mean -= conv.bias.detach()
    conv.bias = None
    inputs = sample_inputs(meta["input"])
    names = [f"feature map {number} without the bias" for number in range(len(as_list(encoder(inputs[0]))))]
    compare(before, encoder, inputs, names)

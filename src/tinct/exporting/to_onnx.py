"""ONNX: one file, batch and size left open, read by any runtime without torch."""

import copy
import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from tinct.data.transforms import MULTIPLE
from tinct.errors import TinctError
from tinct.exporting.parity import as_fed, as_list, compare, sample_inputs, sample_pictures
from tinct.exporting.subject import FED, Fed, Subject
from tinct.files import write_bytes

__all__ = ["OPSET", "Maps", "open_onnx", "to_onnx", "write_onnx"]

OPSET = 18
"""The version of ONNX's operators: of late 2022, read by onnxruntime 1.14 and later."""


class Maps(nn.Module):
    """An encoder with all it gives: feature maps, finest first, and the deepest one's average over the picture."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, fed: Tensor) -> tuple[Tensor, ...]:
        """(B, 1 or 3, H, W) to feature maps (B, C, H/s, W/s), and (B, C)."""
        features: list[Tensor] = self.encoder(fed)
        return (*features, features[-1].mean((2, 3)))


class FromPixels(nn.Module):
    """A network that is fed pictures as they are decoded."""

    def __init__(self, network: nn.Module, fed: Fed) -> None:
        super().__init__()
        self.network, self.fed = network, fed

    def forward(self, pixels: Tensor) -> Any:
        """(B, H, W, 3) sRGB of 8 bits to what the network gives for `fed`."""
        return self.network(as_fed(pixels.permute(0, 3, 1, 2), self.fed))


def require_onnx() -> None:
    """Raise TinctError where a package that exporting needs is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise TinctError(f"exporting to onnx needs {', '.join(missing)}; pip install 'tinct[onnx]'")


def to_onnx(subject: Subject, path: Path, half: bool, pixels: bool = False) -> dict[str, Any]:
    """The whole network that the file held; with `pixels`, from `FromPixels` on."""
    require_onnx()
    kind, fed, network = subject.kind, subject.fed, subject.network
    names = ["ab" if kind == "colorizer" else "logits"]
    if kind == "encoder":
        encoder = subject.timm_encoder()
        network = Maps(encoder)
        names = [*(f"stride{reduction}" for reduction in encoder.reductions), "pooled"]
    elif kind == "colorizer" and subject.input == "rgb":
        raise TinctError(f"{subject.path}: a colorizer is fed lightness; leave --input out")
    if pixels:
        network, asked = FromPixels(network, fed), "sRGB of 8 bits, as pictures are decoded: uint8 (B, H, W, 3)"
        inputs = [pictures.permute(0, 2, 3, 1) for pictures in sample_pictures()]
        example = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    else:
        inputs, asked = sample_inputs(fed), FED[fed]
        example = torch.zeros(2, 3 if fed == "rgb" else 1, 64, 96)
    said = {"kind": kind, "backbone": subject.meta["backbone"], "input": f"{asked}; sides multiples of {MULTIPLE}"}
    use = subject.use(alone=False)
    said |= {key: value if isinstance(value, str) else json.dumps(value) for key, value in use.items()}
    write_onnx(path, network, example, names, said, half)
    found = compare(lambda given: as_list(network(given)), open_onnx(path), inputs, names, half)
    return {
        "what": f"{kind} in ONNX, opset {OPSET}, outputs {', '.join(names)}",
        "open": f'onnxruntime.InferenceSession("{path}").run(None, {{"input": ...}})',
        "fed": f"{asked}; any batch; sides multiples of {MULTIPLE}",
        "opset": OPSET,
        **use,
        "parity": found,
    }


def write_onnx(
    path: Path, network: nn.Module, example: Tensor, outputs: Sequence[str], said: dict[str, str], half: bool
) -> None:
    """Write a network with its weights inside the file.

    Args:
        path: where to.
        network: from one input to a tensor, or a tuple of them.
        example: of the input, which is called `input`: (2, C, 64, 96), or bytes (2, 64, 96, 3).
        outputs: names.
        said: what the file's metadata shall say.
        half: store kernels and matrices in half precision; everything is still computed in float32.
    """
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    rows = 1 if example.dtype == torch.uint8 else 2  # the axis of the height
    network = static_padding(network).eval()
    layer: Any
    for layer in network.modules():
        if getattr(layer, "inplace", False):  # the exporter makes two of each such layer, in up to half of its time
            layer.inplace = False
    program: Any = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["input"],
        output_names=list(outputs),
        dynamic_shapes=({0: batch, rows: MULTIPLE * height, rows + 1: MULTIPLE * width},),
        optimize=not half,  # it would multiply norms into kernels, which half precision would round again
        verbose=False,
    )
    model = program.model_proto
    name_sides(model, rows)
    if half:
        halve(model)
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    write_bytes(path, model.SerializeToString())


def open_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    """A function from (B, C, H, W) to the outputs that onnxruntime gives, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(fed: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"input": fed.contiguous().numpy()})]

    return run


def static_padding(network: nn.Module) -> nn.Module:
    """A copy whose TensorFlow-like convolutions pad by numbers.

    `Conv2dSame` computes its padding from the input's size, which an open size turns into a maze of symbols (minutes
    to export). At sizes that are multiples of the network's stride it is always the same: (k - 1) d + 1 - s in all,
    the odd one at the bottom and right.
    """
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, Conv2dSame):
            spans = zip(layer.kernel_size, layer.dilation, layer.stride, strict=True)
            rows, columns = (max((kernel - 1) * dilation + 1 - stride, 0) for kernel, dilation, stride in spans)
            padding = nn.ZeroPad2d((columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            plain = nn.Conv2d(
                layer.in_channels,
                layer.out_channels,
                (layer.kernel_size[0], layer.kernel_size[1]),
                (layer.stride[0], layer.stride[1]),
                dilation=(layer.dilation[0], layer.dilation[1]),
                groups=layer.groups,
                bias=layer.bias is not None,
            )
            plain.load_state_dict(layer.state_dict())
            network.set_submodule(name, nn.Sequential(padding, plain))
    return network


def name_sides(model: Any, rows: int) -> None:
    """Give open sides names, in place of symbols such as `16*s39`, which say nothing to a reader.

    The height is axis `rows` of the input, and axis 2 of outputs.
    """
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        start, height = ("", rows) if value.name == "input" else (f"{value.name}_", 2)
        sides = value.type.tensor_type.shape.dim[height : height + 2]
        # not strict: logits of a picture and pooled features have no sides
        for name, dim in zip(("height", "width"), sides, strict=False):
            if dim.dim_param:
                dim.dim_param = f"{start}{name}"


def halve(model: Any) -> None:
    """Store float32 initialisers of two axes or more as float16, each widened by a Cast that runtimes fold away."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2:
            name = tensor.name
            small = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(small, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

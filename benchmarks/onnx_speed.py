"""Images a second of exported networks in onnxruntime against torch, on the CPU.

Both get the same threads and the same float32 tensors; each case is timed in turns, and the median of the rounds
counts. torch runs in channels_last under inference_mode, as tinct itself does. Weights are random: speed does not
depend on them.

    python benchmarks/onnx_speed.py [--quick] [--threads 2]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tinct.exporting.to_onnx import Maps, write_onnx
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives import make_terms
from tinct.weights import ColourNet

CASES = {
    "encoder resnet18": ("resnet18", False, 224),
    "encoder convnext_atto": ("convnext_atto", False, 224),
    "encoder mobilenetv3_small_050": ("mobilenetv3_small_050", False, 224),
    "colorizer resnet18": ("resnet18", True, 256),
}


def build(backbone: str, colour: bool) -> tuple[nn.Module, list[str]]:
    torch.manual_seed(0)
    encoder = Encoder(backbone)
    if not colour:
        return Maps(encoder).eval(), [*(f"stride{reduction}" for reduction in encoder.reductions), "pooled"]
    term, _ = make_terms({"bins": 1.0}, encoder.channels)
    assert term is not None  # bins is one of colours
    return ColourNet(Generator(encoder, term.out_channels), term, {}).eval(), ["ab"]


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(network: nn.Module, session: onnxruntime.InferenceSession, fed: Tensor, rounds: int) -> dict[str, float]:
    given = {"input": fed.numpy()}
    network, fed = network.to(memory_format=torch.channels_last), fed.contiguous(memory_format=torch.channels_last)
    runs = {"torch": lambda: network(fed), "onnxruntime": lambda: session.run(None, given)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for turn in range(rounds + 2):
            for name, run in runs.items():
                taken = seconds(run)
                if turn >= 2:  # the first two warm up
                    times[name].append(taken)
    return {name: len(fed) / statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one encoder, few rounds")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    cases = dict(list(CASES.items())[:1]) if arguments.quick else CASES
    table = Table("network", "batch", "torch, images/s", "onnxruntime, images/s", "ratio")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, (backbone, colour, side) in cases.items():
            network, names = build(backbone, colour)
            path = Path(folder) / "network.onnx"
            write_onnx(path, network, torch.zeros(2, 1, 64, 96), names, {}, half=False)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for batch in (1, 8):
                found = measure(network, session, torch.rand(batch, 1, side, side), 3 if arguments.quick else 15)
                ratio = found["onnxruntime"] / found["torch"]
                rows.append({"network": case, "batch": batch, **{k: round(v, 2) for k, v in found.items()}})
                table.add_row(case, str(batch), f"{found['torch']:.1f}", f"{found['onnxruntime']:.1f}", f"{ratio:.2f}")
    Console().print(table)
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    print("RESULT " + json.dumps({"quick": arguments.quick, "threads": arguments.threads, **versions, "rows": rows}))


if __name__ == "__main__":
    main()

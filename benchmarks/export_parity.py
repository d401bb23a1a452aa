"""Every backbone x target x stem x precision exported and read back: the largest differences.

Weights are random, with the statistics and weights of norms made uneven, so that no layer is the identity; differences
are in shares of each output's largest value (or of 1, where that is smaller). A dash is a refusal, in one line.

    python benchmarks/export_parity.py [--quick]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from tinct.errors import TinctError
from tinct.export import SUFFIX, Target, run_export
from tinct.exporting.parity import sample_inputs
from tinct.models.encoder import Encoder
from tinct.models.stem import Input
from tinct.weights import save_encoder

BACKBONES = (
    "resnet18",
    "resnet50",
    "convnext_atto",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "regnety_002",
)
EXTRA = ("resnet34", "resnet101", "resnext50_32x4d", "wide_resnet50_2", "regnety_004", "regnetx_032", "convnext_tiny")
"""Also tried with torchvision."""


def uneven_encoder(backbone: str, path: Path) -> None:
    """Write an encoder whose norms have been used and do something."""
    torch.manual_seed(0)
    encoder = Encoder(backbone).train()
    with torch.no_grad():
        for layer in encoder.modules():
            if isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm) and layer.weight is not None:
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_(std=0.1)
        for _ in range(20):
            encoder(sample_inputs("grey")[0])
    save_encoder(path, encoder, {"size": 64})


def attempt(source: Path, target: Target, stem: Input, half: bool, folder: Path) -> dict[str, Any]:
    dest = folder / f"{source.stem}-{target}-{stem}-{half}{SUFFIX.get(target, '')}"
    started = time.perf_counter()
    try:
        report = run_export(source, dest, target, input=stem, half=half)
    except TinctError as error:
        return {"refused": str(error)}
    found = {key: report["parity"][key] for key in ("largest_difference", "relative")}
    found["seconds"] = round(time.perf_counter() - started, 1)
    return {**found, "fold": report["fold"], "rounding": report["rounding"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two backbones, single precision")
    quick = parser.parse_args().quick
    console, results = Console(width=120), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for backbone in (*BACKBONES, *EXTRA)[:: 4 if quick else 1]:
            uneven_encoder(backbone, folder / f"{backbone}.safetensors")
            table = Table(backbone, "grey", "rgb", "grey, half", "rgb, half")
            for target in get_args(Target) if backbone in BACKBONES else ("torchvision",):
                row = []
                for half in (False, True)[: 1 if quick else 2]:
                    for stem in ("grey", "rgb"):
                        found = attempt(folder / f"{backbone}.safetensors", target, stem, half, folder)
                        results[f"{backbone} {target} {stem}{' half' if half else ''}"] = found
                        row.append(f"{found['relative']:.1e}" if "relative" in found else "-")
                table.add_row(target, *row)
            console.print(table)
    done = {name: found for name, found in results.items() if "relative" in found}
    for name, found in results.items():
        if "refused" in found:
            console.print(f"{name}: {found['refused'].replace(str(folder), '...')}", highlight=False)
    summary = {
        "quick": quick,
        "exported": len(done),
        "refused": len(results) - len(done),
        "largest": max(found["relative"] for name, found in done.items() if "half" not in name),
        "largest_half": max((found["relative"] for name, found in done.items() if "half" in name), default=None),
        "largest_absolute": max(found["largest_difference"] for name, found in done.items() if "half" not in name),
        "rounding": {
            name.split()[0]: found["rounding"] for name, found in done.items() if name.endswith("timm grey half")
        },
        "fold": {name.split()[0]: found["fold"] for name, found in done.items() if name.endswith("timm rgb")},
    }
    print("RESULT " + json.dumps(summary))


if __name__ == "__main__":
    main()

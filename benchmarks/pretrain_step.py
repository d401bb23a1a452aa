"""Images per second and peak memory of a full GAN step with a ResNet-18, at 64, 128 and 224 pixels.

Compares tinct's step (chroma at a quarter of the resolution, spectral PatchGAN there, one pass over real and fake) with
the usual one: segmentation-models-pytorch's Unet over the same encoder, one channel in and two out at full size, and
pix2pix's 70x70 PatchGAN (64 filters, BatchNorm, separate passes over real and fake), BCE + 100 x L1, Adam. Same batch,
same pictures in memory, both channels_last, in turns in one process; medians over the rounds.

`gemm_share` is the share of this machine's measured float32 matrix-product rate that tinct's step at 128 px reaches.
Memory is the peak resident size of a fresh process that takes three steps, less what it held before its networks.

    python benchmarks/pretrain_step.py [--quick]
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from tinct.config import Config
from tinct.data.loader import Crops, to_tensor
from tinct.data.photos import Photos
from tinct.data.transforms import centre
from tinct.objectives.pretext import take_apart
from tinct.pretraining.learner import Learner

BATCHES = {64: 64, 128: 16, 224: 8}


def crops(size: int, count: int) -> Crops:
    """One batch of real pictures."""
    source = Photos()
    pictures = [centre(source.picture(index % len(source)), size) for index in range(count)]
    return Crops(torch.stack([to_tensor(picture) for picture in pictures]), torch.arange(count), [])


def ours(size: int) -> Callable[[], object]:
    config = Config(["photos:"], size=size, batch_size=BATCHES[size], steps=1, adversarial="hinge", accelerator="cpu")
    learner = Learner(config, Fabric(accelerator="cpu", devices=1))
    batch = crops(size, BATCHES[size])
    return lambda: learner.learn([batch], 0, 1.0, 0.1)


class PatchGan(nn.Sequential):
    """pix2pix's 70x70 discriminator (Isola et al. 2017, section 6.1.2), for one channel of L and two of ab."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 4, 2, 1), nn.LeakyReLU(0.2, True)]
        for before, after, stride in ((64, 128, 2), (128, 256, 2), (256, 512, 1)):
            layers += [
                nn.Conv2d(before, after, 4, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, True),
            ]
        super().__init__(*layers, nn.Conv2d(512, 1, 4, 1, 1))


def usual(size: int) -> Callable[[], object]:
    generator = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2).to(
        memory_format=torch.channels_last
    )
    critic = PatchGan().to(memory_format=torch.channels_last)
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, critic))
    batch = crops(size, BATCHES[size])

    def judged(l: torch.Tensor, ab: torch.Tensor, real: float) -> torch.Tensor:
        logits = critic(torch.cat((l, ab), 1))
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))

    def step() -> None:
        seen = take_apart(batch.pixels, batch.keys, 1)
        l, ab = seen.l / 50 - 1, (seen.ab / 110).contiguous(memory_format=torch.channels_last)
        fake = generator(l).tanh()
        adam_d.zero_grad()
        ((judged(l, ab, 1.0) + judged(l, fake.detach(), 0.0)) / 2).backward()
        adam_d.step()
        adam_g.zero_grad()
        (judged(l, fake, 1.0) + 100 * F.l1_loss(fake, ab)).backward()
        adam_g.step()

    return step


WAYS = {"tinct": ours, "usual": usual}


def timed(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def peak_megabytes(way: str, size: int) -> float:
    """In a process of its own."""
    command = [sys.executable, __file__, "--memory-of", way, str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def measure_memory(way: str, size: int) -> None:
    before = resident("VmRSS")
    step = WAYS[way](size)
    for _ in range(3):
        step()
    print(resident("VmHWM") - before)


def resident(field: str) -> float:
    """Megabytes, as Linux counts them; getrusage's peak would be that of the process that started this one."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def gemm_rate(rounds: int) -> float:
    """Floating point operations a second of a square float32 matrix product."""
    side = 1536
    a, b = torch.randn(2, side, side)
    return 2 * side**3 / statistics.median(timed(lambda: a @ b) for _ in range(rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        measure_memory(arguments.memory_of[0], int(arguments.memory_of[1]))
        return
    rounds = 5 if arguments.quick else 20
    table = Table("pixels", "batch", "tinct images/s", "usual images/s", "ratio (spread)", "tinct MB", "usual MB")
    result: dict[str, object] = {}
    for size, count in BATCHES.items():
        steps = {way: make(size) for way, make in WAYS.items()}
        for step in steps.values():
            step()
            step()
        times = np.array([[timed(step) for step in steps.values()] for _ in range(rounds)])
        ratios = times[:, 1] / times[:, 0]
        rates = count / np.median(times, axis=0)
        memory = {way: peak_megabytes(way, size) for way in WAYS}
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        table.add_row(
            *(str(size), str(count), f"{rates[0]:.0f}", f"{rates[1]:.0f}", f"{middle:.1f} ({low:.1f} to {high:.1f})"),
            *(f"{megabytes:.0f}" for megabytes in memory.values()),
        )
        result |= {f"speedup_{size}": round(float(middle), 2), f"images_per_second_{size}": round(float(rates[0]), 1)}
        result[f"memory_ratio_{size}"] = round(memory["tinct"] / memory["usual"], 3)
        if size == 128:
            with FlopCounterMode(display=False) as counter:
                steps["tinct"]()
            rate = counter.get_total_flops() / float(np.median(times[:, 0]))
            machine = gemm_rate(rounds)
            result |= {"gemm_share": round(rate / machine, 3), "gemm_gflops": round(machine / 1e9, 1)}
    console = Console()
    console.print(table)
    result |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()

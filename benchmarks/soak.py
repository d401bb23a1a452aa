"""Kill -9 a pretraining run at twenty random moments, resume it each time, and compare it with one left alone.

After every kill, whatever `last.json` names must load; at the end all weights must be bit-equal.

    python benchmarks/soak.py [--quick] [--kills 20] [--seed 0]
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

FLAGS = [
    *("photos:", "--backbone", "mobilenetv3_small_050", "--width", "8", "--size", "32", "--batch-size", "4"),
    *("--checkpoint-every", "2", "--adversarial", "hinge", "--adversarial-start", "0.3", "--discriminator-width", "4"),
    *("--accelerator", "cpu", "--workers", "1", "--resume"),
]


def start(out: Path, steps: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tinct", "pretrain", *FLAGS, "--steps", str(steps), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def readable(out: Path) -> int:
    """Load all that `last.json` and `best.json` name; the step of the last checkpoint, 0 without one."""
    step = 0
    for name in ("best.json", "last.json"):
        if (out / name).exists():
            folder = out / json.loads((out / name).read_text())["checkpoint"]
            for path in folder.glob("*.safetensors"):
                load_file(path)
            torch.load(folder / "optim.pt", weights_only=True)
            step = json.loads((folder / "state.json").read_text())["step"]
    return step


def weights(out: Path, steps: int) -> dict[str, torch.Tensor]:
    paths = sorted((out / "checkpoints" / f"step-{steps}").glob("*.safetensors"))
    return {f"{path.stem}.{key}": value for path in paths for key, value in load_file(path).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five kills")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kills = 5 if arguments.quick else arguments.kills
    draw = random.Random(arguments.seed)
    steps = 30 * kills
    with tempfile.TemporaryDirectory() as scratch:
        alone, killed = Path(scratch, "alone"), Path(scratch, "killed")
        began = time.perf_counter()
        if start(alone, steps).wait():
            raise SystemExit("the run that was left alone failed")
        whole = time.perf_counter() - began
        done = 0
        while done < kills:
            process = start(killed, steps)
            try:
                process.wait(draw.uniform(0.3, 1.0) * min(whole, 25))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                print(f"kill {done}: last whole checkpoint at step {readable(killed)} of {steps}")
            else:
                print(f"finished after {done} kills; beginning again")
                break
        if start(killed, steps).wait():
            raise SystemExit("the run that was killed could not be resumed")
        first, second = weights(alone, steps), weights(killed, steps)
        equal = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        print("RESULT", json.dumps({"kills": done, "steps": steps, "bit_equal": equal}))
        sys.exit(not equal)


if __name__ == "__main__":
    main()

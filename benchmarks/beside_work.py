"""What another program on the machine costs: colouring and learning, alone and beside one busy core, waiting two ways.

OpenMP's threads, which torch computes with on a CPU, wait for each other after every operation. By default they spin;
`tinct` lets them sleep (OMP_WAIT_POLICY=passive). Runs of both take turns; the rival does nothing but count.

    python benchmarks/beside_work.py [--quick]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

SLEEPING = ["-m", "tinct"]
SPINNING = ["-c", "import sys, torch; from tinct.cli import main; sys.exit(main())"]  # who loads torch decides
PICTURES, STEPS = 40, 10


def tinct(how: list[str], *words: str) -> float:
    """Seconds that a command takes."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    begin = time.perf_counter()
    subprocess.run([sys.executable, *how, *words], env=environment, check=True, capture_output=True)
    return time.perf_counter() - begin


def colour(how: list[str], folder: Path) -> float:
    """Pictures a second, the start of Python and torch included."""
    out = tempfile.mkdtemp(dir=folder)
    return PICTURES / tinct(how, "colorize", str(folder / "pictures"), "--out", out)


def learn(how: list[str], folder: Path) -> float:
    """Images a second of `features`, from the run's own record."""
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    tinct(how, "pretrain", "photos:", "--recipe", "features", "--steps", str(STEPS), "--out", str(out))
    return float(json.loads((out / "record.json").read_text())["budget"]["images_per_second"])


def write_pictures(folder: Path) -> None:
    from PIL import Image
    from skimage import data

    folder.mkdir()
    photograph = Image.fromarray(data.astronaut()).convert("L")
    for number in range(PICTURES):
        photograph.rotate(number).save(folder / f"{number:02}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one turn in place of three")
    turns = 1 if parser.parse_args().quick else 3
    table = Table("what", "other programs", "spinning, pictures/s", "asleep, pictures/s", "ratio")
    result = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder / "pictures")
        for what in (colour, learn):
            for rivals in (0, 1):
                busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(rivals)]
                try:
                    pairs = [[what(how, folder) for how in (SPINNING, SLEEPING)] for _ in range(turns)]
                finally:
                    for rival in busy:
                        rival.kill()
                spin, sleep = (statistics.median(values) for values in zip(*pairs, strict=True))
                ratio = statistics.median(asleep / spun for spun, asleep in pairs)
                table.add_row(what.__name__, str(rivals), f"{spin:.1f}", f"{sleep:.1f}", f"{ratio:.2f}")
                result[f"{what.__name__}_beside_{rivals}"] = round(ratio, 2)
    Console().print(table)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()

"""Starting on a list of ten million files: seconds to the first order of indices, and memory beyond a list of 1,000.

Names only: the listed files do not exist. Each list is opened in a process of its own, which does what a run does
before its first batch: read the list, fingerprint it, draw the epoch's order, and ask for the first crop (which looks
for 1,000 files and finds none).

    python benchmarks/file_list.py [--quick]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

SHORT, LONG, QUICK = 1_000, 10_000_000, 1_000_000


def write_list(path: Path, entries: int) -> None:
    """Names as ImageNet has them: 36 characters each."""
    with path.open("w") as file:
        for folder in range(-(-entries // 1000)):
            names = (f"train/n{folder:08}/n{folder:08}_{number:05}.JPEG\n" for number in range(1000))
            file.write("".join(names))


def start(path: str) -> None:
    """Print seconds and memory of the start of a run on the list."""
    import numpy as np

    from tinct.data.loader import HOPELESS, Photographs
    from tinct.data.sources import open_sources

    begin = time.perf_counter()
    source = open_sources([path])
    opened = time.perf_counter()
    source.fingerprint()
    photographs = Photographs(source, np.arange(len(source), dtype=np.uint32), size=128, seed=0)
    crop = photographs[0]
    assert crop.reading.index == -1
    assert len(crop.reading.skipped) == HOPELESS
    measured = {
        "entries": len(source),
        "open_s": opened - begin,
        "start_s": time.perf_counter() - begin,
        "resident_mb": int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    print(json.dumps(measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a list of a million")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        return start(arguments.start)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for entries in (SHORT, QUICK if arguments.quick else LONG):
            path = Path(folder) / f"{entries}.txt"
            write_list(path, entries)
            command = [sys.executable, __file__, "--start", str(path)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    table = Table("entries", "list opened, s", "first crop asked for, s", "resident, MB", "at most, MB")
    for row in rows:
        cells = (row[key] for key in ("open_s", "start_s", "resident_mb", "peak_mb"))
        table.add_row(f"{row['entries']:,}", *(f"{cell:,.2f}" for cell in cells))
    Console().print(table)
    short, long = rows
    result = {
        "entries": long["entries"],
        "start_s": round(long["start_s"], 2),
        "more_resident_mb": round(long["resident_mb"] - short["resident_mb"]),
        "more_peak_mb": round(long["peak_mb"] - short["peak_mb"]),
    }
    print("RESULT", json.dumps(result))
    return None


if __name__ == "__main__":
    main()

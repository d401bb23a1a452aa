"""Copy what an experiment's figures follow from, and none of its photographs, into docs/records to be committed.

    python docs/publish.py EXPERIMENT docs/records/NAME

Records, plans and pretraining curves are copied as they are; of predictions, scores, labels, confusions and groups are
kept, and the pictures and masks that reports show are left behind. Only finished cells and runs are taken.
"""

import argparse
import shutil
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

KEPT = ("record.json", "compare.json", "metrics.csv")
TENSORS = ("scores", "labels", "confusions", "groups")


def publish(source: Path, target: Path) -> int:
    """Copy below `source` to below `target`; how many files."""
    count = 0
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        finished = path.name == "compare.json" or (path.parent / "record.json").exists()
        if not finished or (path.name not in KEPT and path.name != "predictions.safetensors"):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name in KEPT:
            shutil.copyfile(path, place)
        elif "tuning" in path.parent.parts:
            continue
        else:
            with safe_open(str(path), framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys() if key in TENSORS}  # noqa: SIM118  (no mapping)
                save_file(tensors, str(place), file.metadata())
        count += 1
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    print(f"{publish(arguments.source, arguments.target)} files in {arguments.target}")

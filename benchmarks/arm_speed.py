"""How many steps is each arm of an experiment worth in equal time?

Arms whose costs differ are compared after equal time, and a machine is never equally busy twice. So their steps are
timed here, in turns in one process, on the same pictures in memory, and written into the experiment's file as `steps`.
Medians over the rounds; an adversary's cost counts for the share of the run that it is part of.

    python benchmarks/arm_speed.py yardstick [--minutes 10] [--quick]
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from pretrain_step import crops
from rich.console import Console
from rich.table import Table

from tinct.data.loader import Crops
from tinct.pretraining.learner import Learner
from tinct.pretraining.preparation import engine_for
from tinct.reproduce import read_experiment


def timed(learner: Learner, batch: Crops, adversarial_weight: float | None) -> float:
    began = time.perf_counter()
    learner.learn([batch], 0, 0.0, adversarial_weight)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="its name or file")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    arguments = parser.parse_args()
    plan = read_experiment(arguments.experiment, Path("data"), Path("out"))
    arms = {name.rpartition("-")[0]: config for name, config in plan.runs.items()}
    learners = {arm: Learner(config, engine_for(config)) for arm, config in arms.items()}
    batches = {arm: crops(config.size, config.batch_size) for arm, config in arms.items()}
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(7 if arguments.quick else 22):
        for arm, config in arms.items():
            share = 0.0 if config.adversarial == "none" else 1 - config.adversarial_start
            spent = (1 - share) * timed(learners[arm], batches[arm], None) if share < 1 else 0.0
            spent += share * timed(learners[arm], batches[arm], config.adversarial_weight) if share else 0.0
            if turn > 1:  # the first turns fill caches
                seconds[arm].append(spent)
    table = Table("arm", "images/s", f"steps in {arguments.minutes:g} minutes")
    result: dict[str, object] = {}
    for arm, config in arms.items():
        median = statistics.median(seconds[arm])
        steps = round(60 * arguments.minutes / median, -1)
        table.add_row(arm, f"{config.batch_size / median:.0f}", f"{steps:.0f}")
        result |= {f"images_per_second_{arm}": round(config.batch_size / median, 1), f"steps_{arm}": int(steps)}
    Console().print(table)
    result |= {"torch": torch.__version__, "threads": torch.get_num_threads(), "machine": platform.machine()}
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()

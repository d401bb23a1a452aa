"""Average the colorizer of a finished run with the one that it began with, and calibrate the result anew.

Part of what was learned last is kept, and part of what it cost on other pictures is given back (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models"). Averaged are the last weights; the held-out pictures are the run's. So was
tinct-small made, twice, with `--priors 0.5`; then with `--saturation 0.9` too, as whole sharp pictures were louder than
the held-out crops, most of which are enlarged:

    python docs/mix.py START.safetensors RUN OUT.safetensors [--share 0.5] [--priors 0.5] [--saturation 0.9]
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from tinct.config import Config, read_yaml
from tinct.data.sources import open_sources
from tinct.pretraining.calibrate import PRIORS, calibrate
from tinct.pretraining.heldout import colour_scores
from tinct.pretraining.preparation import hashes_to_avoid, set_aside
from tinct.runs import Run
from tinct.weights import load_colorizer, read_weights, save_colorizer


def mix(
    start: Path, run: Path, out: Path, share: float, priors: Sequence[float], saturation: float
) -> dict[str, float]:
    """Write to `out`; how well it colours the held-out pictures. `share` is the run's, the rest the start's."""
    config = Config(**read_yaml(run / "config.yaml"))
    last = Run(run).checkpoint("last")
    if last is None:
        raise SystemExit(f"{run} holds no checkpoint; expected the folder of a finished run")
    before = load_colorizer(start)
    tensors, _ = read_weights(last.folder / "ema.safetensors")
    net = load_colorizer(run / "colorizer.safetensors")
    mixed = {
        key: torch.lerp(value, tensors[key], share) if value.is_floating_point() else tensors[key]
        for key, value in before.state_dict().items()
    }
    net.load_state_dict(mixed)
    _, pictures, _ = set_aside(config, open_sources(config.sources, config.split), hashes_to_avoid(config.exclude))
    device = torch.device("cpu")
    found = calibrate(net.generator, net.colour, pictures, device, priors)
    net.colour.decoding = replace(found, gain=round(saturation * found.gain, 3))
    own = {key: value for key, value in net.meta.items() if key not in ("decoding", "format")}
    save_colorizer(out, net.generator, net.colour, {**own, "steps": config.steps, "mixed_with_start": share})
    print(net.colour.decoding)
    return colour_scores(net, pictures, device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="what the run began with; a name may have other weights by now")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the run's weights in the average")
    parser.add_argument(
        "--priors", type=float, nargs="+", default=PRIORS, help="to choose from; tinct.pretraining.calibrate"
    )
    parser.add_argument("--saturation", type=float, default=1.0, help="times the gain found")
    given = parser.parse_args()
    print(mix(given.start, given.run, given.out, given.share, given.priors, given.saturation))

"""What a finished run leaves: the encoder that transfers, the colorizer, the record, the card."""

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tinct.cards import pretraining_card
from tinct.config import Config
from tinct.data.ledger import Ledger
from tinct.data.transforms import CENTRED
from tinct.environment import environment
from tinct.files import atomic_path, write_json, write_text
from tinct.inits import seen_before
from tinct.models.encoder import Encoder
from tinct.objectives.base import Decoding
from tinct.outputs import RECORD
from tinct.pretraining.calibrate import recalibrate
from tinct.pretraining.learner import Learner
from tinct.runs import Run
from tinct.settings import encoder_size
from tinct.weights import save_colorizer, save_encoder

__all__ = ["write_results"]

IN_GREY = "L*/50 - 1 of CIE Lab (D65), L* in [0, 100]; an RGB stem takes it three times"
IN_COLOUR = "2 v - 1, v = sRGB in [0, 1], gamma-encoded; or a grey picture's L*/50 - 1 of CIE Lab (D65), three times"


def write_results(
    run: Run, config: Config, learner: Learner, ledger: Ledger, held_out: NDArray[np.uint8], step: int, seconds: float
) -> None:
    """Write encoder.safetensors and .json, colorizer.safetensors, seen.npy, record.json and README.md.

    The encoder is the last average, whatever the scores say; the colorizer is the average of the best checkpoint by
    `config.best`, or the last one where nothing was held out.
    """
    before = seen_before(config.init)
    origin = origin_of(config, learner, ledger, step, before)
    average: Any = learner.ema.module
    save_encoder(run.folder / "encoder.safetensors", average.encoder, origin)
    write_json(run.folder / "encoder.json", {**feeding(average.encoder, config), **origin})
    with atomic_path(run.folder / "seen.npy") as unfinished, unfinished.open("wb") as file:
        hashes = [ledger.hashes[ledger.seen]] + ([] if before is None else [before])
        np.save(file, np.unique(np.concatenate(hashes)))
    scores = write_colorizer(run, config, learner, held_out, origin)
    record: dict[str, Any] = {
        "what": "pretrain",
        "config": yaml.safe_load((run.folder / "config.yaml").read_bytes()),  # as it began
        "data": {
            "spec": ledger.source.spec,
            "split": ledger.source.split,
            "fingerprint": origin["fingerprint"],
            **ledger.counts(),
            "held_out": len(held_out),
        },
        "seed": config.seed,
        "budget": {
            "steps": step,
            "pictures_read": origin["pictures_read"],
            "seconds": round(seconds, 3),
            "images_per_second": round(origin["pictures_read"] / seconds, 2) if seconds else None,
        },
        "metrics": scores,
        **{key: origin[key] for key in ("selected_with_labels", "supervised", "began_with") if key in origin},
        **environment(),
    }
    write_text(run.folder / "README.md", pretraining_card(record))
    write_json(run.folder / RECORD, record)


def origin_of(
    config: Config, learner: Learner, ledger: Ledger, step: int, before: NDArray[np.uint64] | None
) -> dict[str, Any]:
    """What the run's weights say of how they were made; `before` is what `seen_before` gives."""
    # of somebody else's weights nobody knows
    supervised = learner.history.get("supervised", False if learner.history or config.init == "random" else None)
    return {
        "init": config.init,
        "terms": config.terms,
        "adversarial": config.adversarial,
        "size": config.size,
        "min_crop": config.min_crop,
        "in_colour": config.in_colour,
        "steps": step,
        "pictures_read": step * config.batch_size,
        "sources": config.sources,
        "fingerprint": ledger.source.fingerprint(),
        "seed": config.seed,
        "selected_with_labels": config.probe is not None or bool(learner.history.get("selected_with_labels")),
        "supervised": supervised,
        "seen_known": before is not None and learner.history.get("seen_known", True),
        **({"began_with": learner.history} if config.init != "random" else {}),
    }


def feeding(encoder: Encoder, config: Config) -> dict[str, Any]:
    """What encoder.json says of how the encoder is fed, and what it gives."""
    return {
        "backbone": encoder.backbone,
        "in_channels": encoder.in_channels,
        "input": IN_COLOUR if config.in_colour else IN_GREY,
        "view": f"{CENTRED}, {encoder_size(config.size)} px",
        "channels": encoder.channels,
        "reductions": encoder.reductions,
    }


def write_colorizer(
    run: Run, config: Config, learner: Learner, held_out: NDArray[np.uint8], origin: dict[str, Any]
) -> dict[str, Any]:
    """Write colorizer.safetensors where there is a decoder; the learner's average becomes the best one.

    Returns:
        The scores of the `last` checkpoint, and of the `best` one as it is written.
    """
    average: Any = learner.ema.module
    last, best = run.checkpoint("last"), run.checkpoint("best")
    scores = {"last": last.state["scores"] if last else {}}
    if average.generator is None:
        return scores
    steps = origin["steps"]
    if best is not None and len(held_out):  # none where nothing was held out to choose by
        best.load_into("ema", average)
        if "decoding" in best.state:
            average.colour.decoding = Decoding.read(best.state["decoding"])  # which the file then says
        else:  # an older checkpoint
            recalibrate(average, held_out, learner.fabric.device)
        scores["best"] = {name: value for name, value in best.state["scores"].items() if name != "probe_map"}
        steps = best.state["step"]
    until = {"steps": steps, "pictures_read": steps * config.batch_size}
    save_colorizer(run.folder / "colorizer.safetensors", average.generator, average.colour, {**origin, **until})
    return scores

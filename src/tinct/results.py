"""What a finished run leaves: the encoder that transfers, the colorizer, the record, the card."""

from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tinct.config import Config
from tinct.data.ledger import Ledger
from tinct.files import atomic_path, write_json, write_text
from tinct.heldout import colour_scores
from tinct.learner import Learner
from tinct.monitor import colourer_of
from tinct.runs import Run
from tinct.weights import save_colorizer, save_encoder

__all__ = ["card", "write_results"]


def write_results(
    run: Run, config: Config, learner: Learner, ledger: Ledger, held_out: NDArray[np.uint8], step: int, seconds: float
) -> None:
    """Write encoder.safetensors and .json, colorizer.safetensors, seen.npy, record.json and README.md.

    The encoder is the last average, whatever the scores say; the colorizer is the average of the best checkpoint by
    `config.best`.
    """
    origin = {
        "init": config.init,
        "terms": config.terms,
        "adversarial": config.adversarial,
        "size": config.size,
        "steps": step,
        "pictures_read": step * config.batch_size,
        "sources": config.sources,
        "fingerprint": ledger.source.fingerprint(),
        "seed": config.seed,
        "selected_with_labels": config.probe is not None,
    }
    average: Any = learner.ema.module
    encoder = average.encoder
    save_encoder(run.folder / "encoder.safetensors", encoder, origin)
    write_json(
        run.folder / "encoder.json",
        {
            "backbone": encoder.backbone,
            "in_channels": encoder.in_channels,
            "input": "L*/50 - 1 of CIE Lab (D65), L* in [0, 100]; an RGB stem takes it three times",
            "channels": encoder.channels,
            "reductions": encoder.reductions,
            **origin,
        },
    )
    with atomic_path(run.folder / "seen.npy") as unfinished, unfinished.open("wb") as file:
        np.save(file, np.unique(ledger.hashes[ledger.seen]))
    last = run.checkpoint("last")
    scores = {"last": last.state["scores"] if last else {}}
    best = run.checkpoint("best")
    if best is not None and average.generator is not None:
        best.load_into("ema", average)
        scores["best"] = colour_scores(colourer_of(learner), held_out, learner.fabric.device)  # type: ignore[arg-type]
        save_colorizer(
            run.folder / "colorizer.safetensors",
            average.generator,
            average.colour,
            {**origin, "steps": best.state["step"]},
        )
    record = {
        "what": "pretrain",
        "config": run_config(run),
        "data": {
            "spec": ledger.source.spec,
            "split": ledger.source.split,
            "fingerprint": ledger.source.fingerprint(),
            **ledger.counts(),
            "held_out": len(held_out),
        },
        "seed": config.seed,
        "budget": {
            "steps": step,
            "pictures_read": step * config.batch_size,
            "seconds": round(seconds, 3),
            "images_per_second": round(step * config.batch_size / seconds, 2) if seconds else None,
        },
        "metrics": scores,
        "selected_with_labels": config.probe is not None,
    }
    write_text(run.folder / "README.md", card(record))
    run.write_record(record)


def run_config(run: Run) -> dict[str, Any]:
    """The configuration the run began with."""
    config: dict[str, Any] = yaml.safe_load((run.folder / "config.yaml").read_text())
    return config


def card(record: dict[str, Any]) -> str:
    """The run's card in Markdown, from its record."""
    config, data, budget = record["config"], record["data"], record["budget"]
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in config["terms"].items())
    if config["adversarial"] != "none":
        terms += f", adversarial ({config['adversarial']}) x {config['adversarial_weight']:g}"
    lines = [
        f"# {config['backbone']}, pretrained by colouring",
        "",
        f"- learned: {terms}, at {config['size']} px, chroma stride {config['chroma_stride']}",
        f"- started from: {config['init']} weights; seed {record['seed']}",
        f"- photographs: {data['seen']} different ones of {data['pictures']} in `{data['spec']}` "
        f"({data['grey']} grey, {data['unreadable']} unreadable, {data['excluded']} excluded), without labels",
        f"- budget: {budget['steps']} steps, {budget['pictures_read']} pictures read, "
        f"{budget['seconds'] / 60:.1f} minutes",
    ]
    if record["selected_with_labels"]:
        lines.append("- steered by a probe on labels: no evidence for self-supervised learning")
    for name, scores in record["metrics"].items():
        if "ab_error" in scores:
            lines.append(
                f"- {name} checkpoint on {data['held_out']} held-out photographs: ab error {scores['ab_error']:.2f} "
                f"(grey: {scores['ab_error_grey']:.2f}), PSNR {scores['psnr']:.2f} dB, "
                f"colourfulness {scores['colourfulness_ratio']:.2f} of the truth's"
            )
    return "\n".join(
        [
            *lines,
            "",
            "`encoder.safetensors` has timm's own names; `encoder.json` says how to feed it. It is the last average of "
            "the run. `colorizer.safetensors` is the best one by the held-out score.",
            "",
        ]
    )

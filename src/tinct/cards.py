"""`tinct card`: what a run is, in Markdown, from its record."""

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tinct.errors import TinctError
from tinct.evidence.findings import METRICS
from tinct.evidence.records import SEEN, overlap, read_checked
from tinct.evidence.wording import COLOUR_TERMS, pretraining_of
from tinct.files import write_text
from tinct.outputs import PLAN, RECORD
from tinct.shipped import entries

__all__ = ["card", "card_of", "hub_card", "pretraining_card", "pretraining_facts"]

COLORIZERS = COLOUR_TERMS - {"palette"}
"""The terms that make a colorizer."""
LINK_BESIDE = re.compile(r"!?\[([^]]*)\]\((?!\w+:|#)[^)]*\)")
"""A link of Markdown to a file beside it, which an export does not take along; what it says is the group."""
USE = """\
import {modules}
from PIL import Image, ImageOps

model = timm.create_model("hf-hub:OWNER/NAME", pretrained=True).eval()  # or "local-dir:FOLDER"
size = model.pretrained_cfg["input_size"][1]
side = size * 3 // 2
picture = Image.open("photo.jpg")
picture.draft(None, (side, side))  # decode a JPEG no larger than it must be
picture = ImageOps.exif_transpose(picture).convert("RGB")
if min(picture.size) > side:
    picture = ImageOps.cover(picture, (side, side))
square = np.array(ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR))
pixels = torch.from_numpy(square).permute(2, 0, 1)[None]
x = {fed}
{last}"""
"""From a photograph to what an exported network gives, as tinct feeds it; docs/export.md has the same."""


def card(run: Path, *, out: Path | None = None) -> int:
    """Print a run's card, its description in Markdown for people, or write it to a file.

    Args:
        run: the folder of a pretraining or a transfer.
        out: a file; standard output by default.

    Returns:
        0.

    Raises:
        TinctError: there is no record, it is of something that has no card, or `out` cannot be written.
    """
    if (run / PLAN).exists():
        raise TinctError(f"{run}: holds a comparison; tinct report makes a page and Markdown of it")
    text = card_of(_read(run))
    if out is None:
        print(text)  # noqa: T201
    else:
        write_text(out, text)
    return 0


def _read(run: Path) -> dict[str, Any]:
    return read_checked(run / RECORD, f"is {run} a finished run?")


def card_of(record: dict[str, Any], files: bool = True) -> str:
    """The card of a record; that of a pretraining tells its run's files unless told not to.

    Raises:
        TinctError: the record is of something that has no card.
    """
    what = record.get("what")
    if what == "pretrain":
        return pretraining_card(record, files)
    if what == "transfer":
        return transfer_card(record)
    raise TinctError(f"the record is of {what!r}; expected that of a pretraining or a transfer")


def pretraining_card(record: dict[str, Any], files: bool = True) -> str:
    """What was learned without labels, from what, how well it colours, and, if asked, which files there are."""
    config = record["config"]
    name = pretraining_of({"name": config["init"], "provenance": config | record})
    lines = [f"# {config['backbone']}: {name}", "", *pretraining_facts(record), ""]
    return "\n".join([*lines, _files(record), ""] if files else lines)


def _files(record: dict[str, Any]) -> str:
    said = (
        "`encoder.safetensors` has timm's own names; `encoder.json` says how to feed it. It is the last average of "
        "the run."
    )
    if "best" in record["metrics"]:
        return said + " `colorizer.safetensors` is the best one by the held-out score."
    if COLORIZERS.isdisjoint(record["config"]["terms"]):
        return said
    return said + " So is `colorizer.safetensors`, not calibrated: no photographs were held out to choose by."


def pretraining_facts(record: Mapping[str, Any]) -> list[str]:
    """What was learned without labels, from what, and how well it colours: items of a list in Markdown."""
    config, data, budget = record["config"], record["data"], record["budget"]
    terms = ", ".join(f"{name} x {weight:g}" for name, weight in config["terms"].items())
    if config["adversarial"] != "none":
        terms += f", adversarial ({config['adversarial']}) x {config['adversarial_weight']:g}"
    share = config.get("in_colour", 0)  # older records have none
    shown = f"; {share:.0%} of the pictures or views were shown in colour, the others grey" if share else ""
    if config.get("aged"):
        shown += f"; {config['aged']:.0%} of the pictures were made to look old"
    vanished = f", {data['vanished']} of those seen vanished later" if data.get("vanished") else ""
    lines = [
        f"- learned: {terms}, at {config['size']} px, chroma stride {config['chroma_stride']}{shown}",
        f"- started from: {config['init']} weights; seed {record['seed']}",
        f"- photographs: {data['seen']} different ones of {data['pictures']} in `{data['spec']}` "
        f"({data['grey']} grey, {data['unreadable']} unreadable, {data['excluded']} excluded{vanished}), "
        "without labels",
        f"- budget: {budget['steps']} steps, {budget['pictures_read']} pictures read, "
        f"{budget['seconds'] / 60:.1f} minutes",
    ]
    if record["selected_with_labels"]:
        lines.append("- steered by a probe on labels: no evidence for self-supervised learning")
    if record.get("supervised", False) is None:
        lines.append("- its encoder began with weights that do not say how they were made: no evidence, either")
    elif record.get("supervised"):
        lines.append("- its encoder began with weights that were trained on ImageNet's labels: no evidence, either")
    for name, scores in record["metrics"].items():
        if "ab_error" in scores:
            lines.append(
                f"- {name} checkpoint on {data['held_out']} held-out photographs: ab error {scores['ab_error']:.2f} "
                f"(grey: {scores['ab_error_grey']:.2f}), PSNR {scores['psnr']:.2f} dB, "
                f"colourfulness {scores['colourfulness_ratio']:.2f} of the truth's"
            )
    return lines


def transfer_card(record: dict[str, Any]) -> str:
    """What was trained on labels, from what, and how it scored."""
    data, init = record["data"], record["init"]
    seen, learned = (overlap(record, key)["pictures"] for key in SEEN)
    lines = [
        f"# {init['backbone']}, trained for {record['task']}",
        "",
        f"- {METRICS[record['metric']]} {record['value']:.2f} on {data['eval_pictures']} pictures of "
        f"{data['eval_split']} in `{data['spec']}`, over {len(data['scored'])} classes: "
        f"{escape(', '.join(data['scored']), quote=False)}",
        f"- labels: {record['n_labels']} labelled pictures; protocol {record['protocol']}; seed {record['seed']}",
        f"- started from: {init['provenance']['weights']} weights ({init['name']})",
        f"- input: {record['input']}, {record['size']} px",
    ]
    if init["provenance"].get("selected_with_labels"):
        lines.append("- the weights it started from were chosen with the help of labels")
    if seen:
        lines.append(f"- pretraining saw {seen} of the evaluated pictures, or copies of them")
    if learned:
        lines.append(f"- {learned} of the evaluated pictures, or copies of them, are among those it was trained on")
    if record.get("note"):
        lines.append(f"- note: {record['note']}")
    return "\n".join([*lines, ""])


def hub_card(file: Path, meta: Mapping[str, Any], classes: Sequence[str], report: dict[str, Any]) -> str:
    """A hub's README.md: its header, the card of the weights or of their run, and how to open the files.

    Args:
        file: the weights that were exported.
        meta: their header. Only where it says that no label played a part are they called self-supervised.
        classes: that the exported network tells apart; none of an encoder.
        report: of the export (`tinct.export.run_export`), with `input` and `fold`.
    """
    parity, fold, grey = report["parity"], report["fold"], report["input"] == "grey"
    task = "image-classification" if classes else "image-feature-extraction"
    known = next((entry for entry in entries().values() if entry.path == file), None)
    unlabelled = meta.get("supervised") is False and meta.get("selected_with_labels") is False
    tags = ["timm", "tinct", "image-colorization", *(["self-supervised"] if unlabelled and not classes else [])]
    if known and known.card:
        text = LINK_BESIDE.sub(r"\1", (known.shelf / known.card).read_text(encoding="utf-8").rstrip())
    elif (file.parent / RECORD).exists():
        text = card_of(_read(file.parent), files=False).rstrip()  # those of the export have other names
    else:
        text = f"# {report['what']}, exported by tinct"
    lines = [
        "---",
        "library_name: timm",
        f"pipeline_tag: {task}",
        "tags: " + json.dumps(tags),
        *([f"license: {known.licence.lower()}"] if known else []),
        "---",
        text,
        "",
        "## Use",
        "",
        "```python",
        USE.format(
            modules="numpy as np, timm, tinct, torch" if grey else "numpy as np, timm, torch",
            fed="tinct.srgb_to_lab(pixels)[:, :1] / 50 - 1" if grey else "pixels / 127.5 - 1",
            last='probabilities = model(x).sigmoid()[0]  # of each of model.pretrained_cfg["label_names"] by itself'
            if classes
            else "maps = model.forward_intermediates(x, intermediates_only=True)",
        ),
        "```",
        "",
        f"`x` is {report['fed']}; {report['view']}; size is {report['size']} px.",
    ]
    if report["untrained"]:
        lines.append(f"Random still, since no feature map depends on it: {', '.join(report['untrained'])}.")
    if "colorizer" in report:
        lines.append(
            f"What colours is in `{report['colorizer']}`: `tinct colorize IN -o OUT --model {report['colorizer']}`."
        )
    if report["left_out"]:
        lines.append(f"This is {report['left_out']}. What is said above of its score is of the whole.")
    if fold is not None:
        lines.append(
            f"The first convolution was folded from lightness to RGB ({fold['formula']}), which is not exact: over "
            f"photographs the input is {fold['input_rms']:.3f} of the range off (RMS), for the worst colour "
            f"{fold['input_largest_of_all_colours']:.3f}; the deepest features differ by "
            f"{fold['features_relative_rms']['deepest']:.1%}."
        )
    lines += [
        "",
        f"Checked at export against the network it came from: largest difference {parity['largest_difference']:.2g} "
        f"(tolerance {parity['tolerance']:g} of the outputs' scale; `export.json` has the details).",
        "",
    ]
    return "\n".join(lines)

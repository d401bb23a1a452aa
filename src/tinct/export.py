"""`tinct export`: weights in the form that other libraries open, each proved by opening it.

What is written is first written beside its destination, read back with the other library, and compared on the same
input tensors (`tinct.exporting.parity`). Only what passes is moved into place, with its report.
"""

import contextlib
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import timm
import torch

from tinct.cards import hub_card
from tinct.device import own_draws, usual_defaults
from tinct.errors import TinctError, check_kinds, one_line
from tinct.exporting.parity import rounding_error, sample_inputs
from tinct.exporting.subject import Subject, load_subject
from tinct.exporting.to_onnx import to_onnx
from tinct.exporting.to_torch import to_segmentation_models, to_timm, to_torchvision
from tinct.files import check_utf8, expanded, settle, sync, unwritable, write_json, write_text
from tinct.models.stem import Input
from tinct.shipped import digest

__all__ = ["Target", "export", "run_export"]

Target = Literal["timm", "torchvision", "onnx", "hub", "segmentation-models"]
SUFFIX = {"torchvision": ".safetensors", "onnx": ".onnx"}
"""Targets that are one file; the others are folders."""


def export(  # noqa: D417  (the others: run_export)
    run: str,
    dest: Path,
    *,
    to: Target,
    input: Input | None = None,
    half: bool = False,
    pixels: bool = False,
    push: str | None = None,
) -> int:
    """`run_export` for the command line: progress, results and warnings are printed.

    Args:
        push: with hub: upload the folder to this repository (OWNER/NAME), created private, before anything is
            exported, if it is not there.

    Returns:
        0.

    Raises:
        TinctError: as `run_export`; or push goes with another target, or the hub refuses.
    """
    if push is not None:
        if to != "hub":
            raise TinctError(f"push is {push} with --to {to}; it goes with --to hub only")
        with hub_told(push, "nothing was exported: check the name, the network and your login (hf auth login)") as hub:
            hub.create_repo(push, private=True, exist_ok=True)
    report = run_export(run, dest, to, input=input, half=half, pixels=pixels)
    found = report["parity"]
    print(  # noqa: T201
        f"{dest}: {report['what']}; largest difference {found['largest_difference']:.2g}, "
        f"{found['relative']:.2g} of the outputs' scale (tolerance {found['tolerance']:g})"
    )
    if rounding := report["rounding"]:
        print(  # noqa: T201
            f"half precision changes outputs by {rounding['relative_rms']:.2%} (RMS), at most by "
            f"{rounding['largest']:.2%} of their largest value"
        )
    if fold := report["fold"]:
        print(  # noqa: T201
            f"folded for rgb: luma differs from lightness by {fold['input_rms']:.3f} RMS over photographs, at most by "
            f"{fold['input_largest_of_all_colours']:.3f} (sRGB {fold['worst_colour']}); "
            f"deepest features by {fold['features_relative_rms']['deepest']:.1%}"
        )
    if untrained := report.get("untrained"):
        print(f"random still, as no feature map depends on them: {', '.join(untrained)}")  # noqa: T201
    if left_out := report.get("left_out"):
        print(left_out)  # noqa: T201
    print(f"open it with: {report['open']}")  # noqa: T201
    if push is not None:
        again = shlex.join(["hf", "upload", push, str(dest)])
        with hub_told(push, f"the export is in {dest}: {again}") as hub:
            print(f"pushed: {hub.upload_folder(repo_id=push, folder_path=dest)}")  # noqa: T201
    return 0


@own_draws()
@usual_defaults()
def run_export(
    run: str | Path,
    dest: str | Path,
    to: Target,
    *,
    input: Input | None = None,
    half: bool = False,
    pixels: bool = False,
) -> dict[str, Any]:
    """Write weights for another library, and prove that it computes the same with them.

    Args:
        run: the folder of a pretraining or a transfer, or its encoder.safetensors, colorizer.safetensors or
            model.safetensors; or the name of weights, such as tinct-small-ssl.
        dest: a folder for timm, hub and segmentation-models; FILE.safetensors for torchvision, FILE.onnx for onnx.
        to: timm (create_model("local-dir:DEST", pretrained=True)), torchvision (strict state dict), onnx (the file's
            whole network), hub (timm's folder with a card), segmentation-models (an encoder, or the whole network of
            its own heads).
        input: grey (L*) or rgb; by default rgb for encoders that saw colour in pretraining, for a trained classifier or
            segmenter what it was trained on, and grey for all others.
        half: store kernels and matrices in half precision.
        pixels: with onnx: take pictures as they are decoded, sRGB bytes (B, H, W, 3) with sides that are multiples of
            32, and turn them into what the network is fed inside the file.

    Returns:
        The report, which is in export.json (of a folder) or beside the file, as FILE.json, too.

    Raises:
        TinctError: `run` holds no weights, `dest` exists, the other library is missing or has no such network, or
            computes something else. Then nothing is left behind.
    """
    dest = expanded(dest)
    check_kinds({"to": to, "input": input}, {"to": Target, "input": Input | None})
    if pixels and to != "onnx":
        raise TinctError(f"pixels goes with --to onnx only, not with {to}")
    suffix = SUFFIX.get(to, "")
    if suffix and dest.suffix != suffix:
        raise TinctError(f"dest is {dest}; expected a file ending in {suffix} for --to {to}")
    check_utf8("dest", dest)  # which those that read it there ask for
    if dest.is_symlink() or (dest.exists() and (suffix or dest.is_file() or any(dest.iterdir()))):
        raise TinctError(f"dest is {dest}, which exists; choose another name or remove it")
    if suffix and (beside := dest.with_name(f"{dest.name}.json")).exists():
        raise TinctError(f"{beside}, where the report goes, exists; choose another name for dest or remove it")
    subject = load_subject(run, input)
    rounding = None
    if half:
        exact, subject = subject, subject.rounded()
        rounding = rounding_error(exact.network, subject.network, sample_inputs(subject.fed))
    with staging(dest, single=bool(suffix)) as folder:
        target = folder / dest.name if suffix else folder
        written = to_onnx(subject, target, half, pixels) if to == "onnx" else WRITERS[to](subject, target, half)
        report = {
            "to": to,
            "from": subject.name,
            "sha256": digest(subject.path)[:16],
            "kind": subject.kind,
            "backbone": subject.meta["backbone"],
            "input": subject.input,
            "half": half,
            "fold": subject.fold,
            "rounding": rounding,
            **written,
            "versions": {"torch": torch.__version__, "timm": timm.__version__},
        }
        report["open"] = report["open"].replace(str(target), str(dest))
        write_json(folder / (f"{dest.name}.json" if suffix else "export.json"), report)
    return report


def to_hub(subject: Subject, folder: Path, half: bool) -> dict[str, Any]:
    """timm's folder, with the run's card and, where there is one, its colorizer."""
    report = to_timm(subject, folder, half)
    own = subject.kind == "colorizer"
    colorizer = subject.path if own else subject.path.with_name("colorizer.safetensors")
    if own or (subject.path.name == "encoder.safetensors" and colorizer.exists()):
        shutil.copyfile(colorizer, folder / "colorizer.safetensors")
        report |= {"colorizer": "colorizer.safetensors", "left_out": None}
    told = {**report, "input": subject.input, "fold": subject.fold}
    write_text(folder / "README.md", hub_card(subject.path, subject.meta, subject.classes(), told))
    return report


WRITERS: dict[Target, Callable[[Subject, Path, bool], dict[str, Any]]] = {
    "timm": to_timm,
    "torchvision": to_torchvision,
    "hub": to_hub,
    "segmentation-models": to_segmentation_models,
}


@contextlib.contextmanager
def staging(dest: Path, single: bool) -> Iterator[Path]:
    """Give a folder beside `dest` to write to; put it, or the files in it, into place when the block ends well.

    `single` says that `dest` is a file, among those of the folder.
    """
    beside = None
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{dest.name}-", dir=dest.parent))
        yield beside
        settle(beside)
        if single:
            for file in sorted(beside.iterdir(), key=lambda file: file.name == dest.name):  # the report first
                file.replace(dest.parent / file.name)
        else:
            if dest.exists():  # and is empty; Windows puts no folder in its place
                dest.rmdir()
            beside.rename(dest)
        sync(dest.parent)
    except OSError as error:
        raise unwritable(dest, error, beside) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def hub_told(repository: str, remedy: str) -> Iterator[Any]:
    """The hub's client; what it raises within, of whatever library, is a sentence that ends with `remedy`.

    Raises:
        TinctError: the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi  # for this alone

    try:
        yield HfApi()
    except Exception as error:  # of no common class
        raise TinctError(f"cannot push to {repository} ({one_line(error, 200)}); {remedy}") from error

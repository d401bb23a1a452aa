"""Where a transfer starts from: one name, an encoder with those weights in it, and an account of every key."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor

from tinct.data.hashes import near
from tinct.data.random import torch_seed
from tinct.device import own_draws
from tinct.errors import TinctError, one_line
from tinct.files import expanded
from tinct.models.encoder import Encoder
from tinct.models.layouts import PICKLES, Translation, classifier_names, read_pickle, translate
from tinct.models.lite import LITE0, imagenet_lite_state_dict
from tinct.models.stem import COLOUR, Input, Statistics, refit, stem_name, trained_on
from tinct.runs import Run
from tinct.shipped import RESERVED, digest, entries, resolve, seen_beside
from tinct.weights import cast, check_header, fed_with, load_strict, read_weights

__all__ = [
    *("RANDOM_BACKBONE", "Start", "against_leak", "carried_decoder", "inherited", "load_init"),
    *("seen_before", "seen_by"),
]

logger = logging.getLogger(__name__)

RANDOM_BACKBONE = "resnet18"
"""What `random` builds where no backbone is named."""

_WEIGHTS = 0x1217  # the stream of random numbers that weights are drawn from


@dataclass(frozen=True)
class Start:
    """An encoder to transfer.

    Attributes:
        encoder: for grey (1 channel) or RGB (3) input, as `tinct.models.stem` defines them.
        provenance: where its weights came from, for records: `weights` says it in a word, `selected_with_labels`
            whether labels had a part in choosing them.
        taken: the keys loaded, under timm's names.
        left: the keys that the file has beyond the feature extractor (a classifier's).
        folded: what was done to the first convolution, in words; empty for nothing.
        layout: whose names somebody else's file used; None for tinct's own and timm's downloads.
        seen: difference hashes of the pictures it was pretrained on; None where nobody knows.
    """

    encoder: Encoder
    provenance: dict[str, Any]
    taken: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    folded: str = ""
    layout: Translation | None = None
    seen: NDArray[np.uint64] | None = None

    def report(self) -> str:
        """Where the weights came from, in a line or a few."""
        if not self.taken:
            return f"{self.encoder.backbone}: random weights"
        origin = self.provenance["weights"]
        lines = [f"{self.encoder.backbone}: all {len(self.taken)} weights loaded from {origin}"]
        if self.layout is not None:
            lines.append(f"  {self.layout.report()}")
        if self.left:
            lines.append("  left aside (no part of the features): " + ", ".join(self.left))
        if self.layout is not None and self.layout.left:
            lines.append(f"  {len(self.layout.left)} more weights are of no use here, such as {self.layout.left[0]}")
        if self.folded:
            lines.append(f"  first convolution: {self.folded}")
        return "\n".join(lines)


def load_init(
    name: str, *, input: Input | None = "grey", backbone: str | None = None, weights: str | None = None, seed: int = 0
) -> Start:
    """Build the encoder that `name` stands for.

    Args:
        name: `random`; a run's folder or its encoder.safetensors; the name of shipped weights, such as
            `tinct-small-ssl`; `timm:NAME`; `imagenet-lite`; or a file of somebody else's weights (safetensors, or
            torch's own) with names that `tinct.models.layouts` knows, for which `backbone` is needed.
        input: what the encoder is to be fed; None for rgb where it is tinct's own and saw colour, else grey.
        backbone: a timm name; where the weights say theirs, it must be the same.
        weights: a safetensors file for `timm:NAME`; without one, timm downloads.
        seed: draws random weights.

    Raises:
        TinctError: the name stands for nothing, or its weights do not fit, key for key.
    """
    if weights is not None and not name.startswith("timm:"):
        raise TinctError(f"weights is {weights} with init {name}; it goes with timm:NAME only")
    asked: Input = input or "grey"
    if name == "random":
        with own_draws():
            torch.manual_seed(torch_seed(seed, _WEIGHTS))
            encoder = Encoder(backbone or RANDOM_BACKBONE, 1 if asked == "grey" else 3)
        return Start(encoder, {"weights": "random", "seed": seed, "selected_with_labels": False})
    if name == "imagenet-lite":
        network = backbone or LITE0
        tensors = imagenet_lite_state_dict(network)
        said = {"weights": f"ImageNet-supervised EfficientNet-{network.rpartition('_')[2]}", "supervised": True}
        return _fitted(network, tensors, asked, COLOUR, said)
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"), asked, backbone, weights)
    others = (*RESERVED, "timm:NAME")
    start = _file(resolve(name, "encoder", others=others), input, backbone)
    if name in entries():
        # where this machine keeps them is nobody's business
        return replace(start, provenance={**start.provenance, "weights": name})
    return start


def seen_by(path: Path) -> NDArray[np.uint64] | None:
    """Difference hashes of the pictures that the encoder in a file saw, where they lie beside it.

    Raises:
        TinctError: they cannot be read, or are no such hashes.
    """
    beside = seen_beside(path)
    if beside is None:
        return None
    try:
        hashes: NDArray[np.uint64] = np.load(beside, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TinctError(f"{beside}: cannot be read ({error}); remove it, or put it back") from error
    if not isinstance(hashes, np.ndarray) or hashes.ndim != 1 or hashes.dtype != np.uint64:
        raise TinctError(f"{beside}: holds no row of hashes, which are uint64; remove it, or put it back")
    return hashes


def seen_before(init: str) -> NDArray[np.uint64] | None:
    """Hashes of what the weights that pretraining begins with had seen; None where they do not lie beside them."""
    if init == "random":
        return np.empty(0, np.uint64)
    if init == "imagenet-lite":
        return None
    try:
        return seen_by(resolve(init, "encoder"))
    except TinctError:  # gone since the run began, which must not cost its results
        return None


def inherited(start: Start, hashes: NDArray[np.uint64]) -> str | None:
    """What an encoder's own pretraining began with, where that had seen pictures of such `hashes`; None where not.

    None for weights that have a name, too: whoever uses them cannot begin them anew.
    """
    init = start.provenance.get("init", "random")
    before = None if start.provenance.get("weights") in entries() else seen_before(init)
    return init if before is not None and near(hashes, before).any() else None


def against_leak(split: str, source: str, began: str | None = None) -> str:
    """What to do where an encoder saw pictures of `split`; `began` is what `inherited` gave."""
    if split == "tuning":
        return "they are training pictures: --exclude keeps them out as a text file of paths, or score another split"
    leave, exclude = f"leave them out of the {split} split", f"with --exclude {source}"
    if began is not None:  # --exclude keeps out what a run reads, not what its init had seen
        return f"it started from {began}, which saw them: start from random {exclude}, or {leave}"
    return f"{leave}, or pretrain another encoder {exclude}"


def carried_decoder(name: str) -> tuple[dict[str, Tensor], int, int, str]:
    """The decoder of a run: its weights, stride, width, and the file of its folder they came from.

    It is the one that was averaged beside the encoder, as long as the run's last checkpoint is there; else the
    colorizer's, which may be of an earlier step.

    Raises:
        TinctError: `name` is no run that learned to colour.
    """
    absent = TinctError(f"decoder is carried, but init {name} has no colorizer.safetensors beside it; use fresh")
    try:
        colorizer = resolve(name, "encoder").with_name("colorizer.safetensors")
    except TinctError as error:  # random, timm:NAME and such are no files
        raise absent from error
    if not colorizer.exists():
        raise absent
    folder = colorizer.parent
    tensors, meta = read_weights(colorizer, "colorizer")
    check_header(meta, colorizer, "chroma_stride", "width")
    last = Run(folder).checkpoint("last")
    path = last.folder / "ema.safetensors" if last else colorizer
    prefix = "generator.decoder."
    found = (read_weights(path)[0] if last else tensors).items()
    decoder = {key.removeprefix(prefix): value.float() for key, value in found if key.startswith(prefix)}
    return decoder, meta["chroma_stride"], meta["width"], path.relative_to(folder).as_posix()


def _timm(name: str, input: Input, backbone: str | None, weights: str | None) -> Start:
    """timm's pretrained weights, from a file or over the network."""
    architecture = name.split(".")[0]
    _same_backbone(f"timm:{name}", architecture, backbone)
    if architecture not in timm.list_models():
        raise TinctError(f"timm:{name}: timm {timm.__version__} has no such model; see timm.list_pretrained()")
    try:
        cfg = timm.get_pretrained_cfg(name)
    except RuntimeError:
        cfg = None  # no weights of that tag
    if cfg is None:
        raise TinctError(
            f"timm:{name}: timm {timm.__version__} knows no weights of that name; see timm.list_pretrained()"
        )
    if weights is not None:
        file = expanded(weights)
        tensors, _ = read_weights(file)
        said = {"weights": f"timm:{name}", "file": str(file), "sha256": digest(file)[:16]}
    else:
        remedy = "tinct transfer takes them from a file by --weights FILE"
        usual = timm.get_pretrained_cfg(architecture)
        if usual is not None and (usual.mean, usual.std) == (cfg.mean, cfg.std):  # which a file alone is taken to have
            remedy += f", other commands where FILE stands in place of timm:{name}, with backbone {architecture}"
        logger.warning("downloading the weights of %s through timm; %s", name, remedy)
        try:
            with torch.device("cpu"):  # whatever torch's default is
                tensors = timm.create_model(name, pretrained=True).state_dict()
        except Exception as error:  # the hub's client raises errors of many libraries
            reason = one_line(error, 200)
            raise TinctError(f"timm:{name}: cannot be downloaded ({reason}); {remedy}") from error
        said = {"weights": f"timm:{name}"}
    return _fitted(architecture, tensors, input, (cfg.mean, cfg.std), {**said, "supervised": None})


def _file(path: Path, input: Input | None, backbone: str | None) -> Start:
    """tinct's own encoder, or somebody's weights in names that are known."""
    tensors, meta = (read_pickle(path), {}) if path.suffix in PICKLES else read_weights(path)
    tensors = cast(tensors, torch.float)
    said: dict[str, Any] = {"weights": str(path), "sha256": digest(path)[:16]}
    if meta.get("kind") == "encoder":
        check_header(meta, path, "backbone")
        _same_backbone(str(path), meta["backbone"], backbone)
        said |= {key: value for key, value in meta.items() if key not in ("kind", "format", "backbone", "in_channels")}
        trained = trained_on(meta)
        input = input or ("grey" if trained is None else "rgb")
        return replace(_fitted(meta["backbone"], tensors, input, trained, said), seen=seen_by(path))
    if meta:
        raise TinctError(
            f"{path}: holds a {meta.get('kind')}, no encoder; name the run's folder or encoder.safetensors"
        )
    if backbone is None:
        raise TinctError(
            f"{path}: does not say its backbone; set backbone to the timm name it was made with (in tinct compare: "
            "--settings backbone=NAME)"
        )
    body = Encoder(backbone).body
    tensors, layout = translate(tensors, body, path)
    stem = tensors.get(f"{stem_name(body)}.weight")
    trained = (body.default_cfg["mean"], body.default_cfg["std"])
    if stem is not None and stem.shape[1] == 1:
        trained = None  # a grey stem; tinct's is the only convention there is
    elif path.suffix not in PICKLES and fed_with(path) == "rgb":
        trained = COLOUR  # tinct's own export
    return replace(
        _fitted(backbone, tensors, input or "grey", trained, {**said, "layout": layout.layout}), layout=layout
    )


def _fitted(
    backbone: str, tensors: dict[str, Tensor], input: Input, trained: Statistics | None, said: dict[str, Any]
) -> Start:
    """Fold the first convolution, drop a classifier, and load what remains strictly."""
    encoder, changed = refit(backbone, tensors, input, trained)
    heads = classifier_names(encoder.body)
    expected = encoder.body.state_dict()
    left = tuple(key for key in changed if key not in expected and key.rpartition(".")[0] in heads)
    kept = {key: value for key, value in changed.items() if key not in left}
    load_strict(encoder.body, kept, Path(said.get("file", said["weights"])))
    what = "lightness" if trained is None else "RGB"
    changes = [
        f"{key} {tuple(tensors[key].shape)}, trained on {what}, folded to {tuple(value.shape)} for {input} input"
        for key, value in kept.items()
        if key in tensors and value is not tensors[key] and not torch.equal(value, tensors[key])
    ]
    taken = tuple(key for key in kept if key in tensors)
    return Start(encoder, {"selected_with_labels": False, **said}, taken, left, "; ".join(changes))


def _same_backbone(name: str, own: str, asked: str | None) -> None:
    if asked is not None and asked != own:
        raise TinctError(f"backbone is {asked}, but {name} is a {own}; leave backbone out or compare like with like")

"""Files of weights: safetensors whose header says, as JSON, what is inside and how to feed it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tinct.color import stretch_levels
from tinct.config import LARGEST
from tinct.device import own_draws
from tinct.errors import TinctError, about
from tinct.files import write_bytes
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives import make_terms
from tinct.objectives.base import ColourTerm, Decoding

__all__ = [
    "FED_KEY",
    "ColourNet",
    "cast",
    "check_header",
    "copy_in_half",
    "fed_with",
    "header_error",
    "load_colorizer",
    "load_encoder",
    "load_strict",
    "packed",
    "read_weights",
    "save_colorizer",
    "save_encoder",
    "weights_digest",
    "write_weights",
]

FORMAT = 1
"""Version of these files; every later version of tinct reads every earlier one."""

FED_KEY = "tinct_fed"
"""Where the header of an exported file says what its network is fed; see `tinct.models.stem`."""

LIMITS = {"in_channels": 16, "chroma_stride": 8, "stride": 8, **LARGEST}
"""The largest numbers that a header may ask for."""


class ColourNet(nn.Module):
    """A generator with its colour term: L in, ab out.

    Attributes:
        meta: what the file's header says: `backbone`, `terms`, `chroma_stride`, `width`, `size`, and more.
    """

    def __init__(self, generator: Generator, colour: ColourTerm, meta: dict[str, Any]) -> None:
        """Put together what `load_colorizer` read."""
        super().__init__()
        self.generator, self.colour, self.meta = generator, colour, meta

    def forward(self, l: Tensor) -> Tensor:
        """L* (B, 1, H, W) in [0, 100] to ab (B, 2, H/s, W/s) in Lab units; H and W multiples of 32."""
        return self.colour.decode(self.output(l))

    def output(self, l: Tensor) -> Tensor:
        """What `forward` decodes. The generator sees levels stretched, so that a faded picture is no other to it."""
        output: Tensor = self.generator(stretch_levels(l))
        return output


def save_encoder(path: Path, encoder: Encoder, meta: dict[str, Any]) -> None:
    """Write the encoder's weights under timm's own names."""
    described = {"kind": "encoder", "backbone": encoder.backbone, "in_channels": encoder.in_channels, **meta}
    write_weights(path, encoder.body.state_dict(), described)


def load_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """Read what `save_encoder` wrote: the encoder, in evaluation mode, and the header's description.

    Raises:
        TinctError: the file is absent, damaged, of another kind, or its weights do not fit the backbone it names.
    """
    tensors, meta = read_weights(path, "encoder")
    check_header(meta, path, "backbone", "in_channels", *{"size"} & meta.keys())
    with own_draws():
        encoder = Encoder(meta["backbone"], meta["in_channels"])
    load_strict(encoder.body, tensors, path)
    return encoder.eval(), meta


def weights_digest(encoder: Encoder) -> str:
    """SHA-256 of an encoder's weights, whichever device they are on, and its backbone: another may have equal ones."""
    content = hashlib.sha256(encoder.backbone.encode())
    for value in encoder.body.state_dict().values():
        content.update(value.cpu().numpy().tobytes())
    return content.hexdigest()


def save_colorizer(path: Path, generator: Generator, colour: ColourTerm, meta: dict[str, Any]) -> None:
    """Write generator and colour term."""
    tensors = {f"generator.{key}": value for key, value in generator.state_dict().items()}
    tensors |= {f"colour.{key}": value for key, value in colour.state_dict().items()}
    described = {
        "kind": "colorizer",
        "backbone": generator.encoder.backbone,
        "in_channels": generator.encoder.in_channels,
        "chroma_stride": generator.chroma_stride,
        "width": generator.decoder.channels,
        "term": colour.name,
        "decoding": asdict(colour.decoding),
        **meta,
    }
    write_weights(path, tensors, described)


def load_colorizer(path: Path) -> ColourNet:
    """Read what `save_colorizer` wrote, in float32 and ready to use.

    Raises:
        TinctError: as `load_encoder`.
    """
    tensors, meta = read_weights(path, "colorizer")
    check_header(meta, path, "backbone", "in_channels", "chroma_stride", "width", "term", "size")
    shown = meta.get("min_crop", 1.0)
    if type(shown) not in (int, float) or not 0 < shown <= 1:
        raise header_error(path, "min_crop", shown)
    with own_draws(), torch.device("cpu"):
        encoder = Encoder(meta["backbone"], meta["in_channels"])
        with about(path):
            colour, _ = make_terms({meta["term"]: 1.0}, encoder.channels)
        if colour is None:
            raise TinctError(f"{path}: its term {meta['term']!r} is not one that colours; export the run again")
        generator = Generator(encoder, colour.out_channels, meta["chroma_stride"], meta["width"])
    try:
        colour.decoding = Decoding.read(meta.get("decoding", {}))
    except TinctError as error:
        raise TinctError(f"{path}: {error}; export the run again") from error
    net = ColourNet(generator, colour, meta).float()  # whatever torch's defaults are
    load_strict(net, cast(tensors, torch.float), path)
    return net.eval().requires_grad_(False)


def copy_in_half(source: Path, target: Path) -> None:
    """Copy a file of weights, header and all, with floating-point numbers in half precision.

    Raises:
        TinctError: the source cannot be read, or a number does not fit: its size is over 65,504.
    """
    tensors, meta = read_weights(source)
    halves = cast(tensors, torch.half)
    for key, value in halves.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise TinctError(f"{source}: {key} does not fit into half precision; store the file as it is")
    write_weights(target, halves, meta)


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The same tensors, those of floating-point numbers in another precision."""
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}


def read_weights(path: Path, kind: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a safetensors file, and the description in its header ({} in files of others).

    Args:
        path: the file.
        kind: `encoder` or `colorizer` when only tinct's own file of that kind will do.

    Raises:
        TinctError: the file is absent, damaged, or of another kind.
    """
    if path.is_dir():
        raise TinctError(f"{path}: is a folder; expected a file of weights in it, such as encoder.safetensors")
    try:
        with safe_open(str(path), framework="pt") as file:
            meta: dict[str, Any] = json.loads((file.metadata() or {}).get("tinct", "{}"))
            if not isinstance(meta, dict) or not isinstance(meta.get("format", FORMAT), int):
                raise TinctError(f"{path}: its header is damaged; fetch or export it again")
            if kind is not None and meta.get("kind") != kind:
                found = meta.get("kind", "weights of another program")
                raise TinctError(f"{path}: holds {found}, expected tinct's {kind}.safetensors; name that file of a run")
            if meta.get("format", FORMAT) > FORMAT:
                raise TinctError(f"{path}: written by a newer tinct (format {meta['format']}); upgrade tinct")
            return {key: file.get_tensor(key) for key in file.keys()}, meta  # noqa: SIM118  (no mapping)
    except FileNotFoundError as error:
        raise TinctError(f"{path}: no such file; expected weights in safetensors format") from error
    except (SafetensorError, OSError, ValueError, RecursionError) as error:  # the last of JSON that is all brackets
        raise TinctError(f"{path}: cannot be read as safetensors ({error}); fetch or export it again") from error


def fed_with(path: Path) -> str | None:
    """What an exported file, which `read_weights` reads, says that its network is fed; None in files of others."""
    with safe_open(str(path), framework="pt") as file:
        return (file.metadata() or {}).get(FED_KEY)


def load_strict(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Load every tensor into its place.

    Raises:
        TinctError: a key is missing, left over, or of another shape; names the first of them.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in tensors.items()}
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    wrong = sorted(key for key in expected.keys() & given.keys() if expected[key] != given[key])
    if missing or extra or wrong:
        first = (missing or extra or wrong)[0]
        raise TinctError(
            f"{path}: its weights do not fit: {len(missing)} missing, {len(extra)} left over, {len(wrong)} of another "
            f"shape, the first being {first!r}; check the backbone and in_channels it was made with"
        )
    module.load_state_dict(tensors)


def check_header(meta: dict[str, Any], path: Path, *names: str) -> None:
    """Hold a header to what building the network takes for granted.

    Raises:
        TinctError: one of `names` is missing or out of range.
    """
    for name in names:
        value = meta.get(name)
        good = isinstance(value, str)
        if name in LIMITS:
            good = type(value) is int and 0 < value <= LIMITS[name]
        if name.endswith("stride"):
            good = good and value in (1, 2, 4, 8)
        if not good or (name == "width" and meta[name] % 8):  # groups of 8 channels are normalized together
            raise header_error(path, name, value)


def header_error(path: Path, name: str, value: Any) -> TinctError:
    """What to raise where a header says the impossible."""
    return TinctError(f"{path}: its header is damaged, {name} is {value!r:.40}; fetch or export it again")


def write_weights(path: Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors with `meta` as JSON in the file's header, whole or not at all."""
    write_bytes(path, packed(tensors, {"format": "pt", "tinct": json.dumps({"format": FORMAT, **meta})}))


def packed(tensors: dict[str, Tensor], said: dict[str, str]) -> bytes:
    """A safetensors file of `tensors`, with `said` in its header; the same ones give the same bytes.

    safetensors itself writes what is said in an order of chance, so that a file's hash would differ each time.
    """
    content = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, said)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]) | {"__metadata__": said}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]

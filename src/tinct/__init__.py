"""Learn visual features from unlabelled photographs by colouring them, and colour photographs."""

import importlib
from typing import TYPE_CHECKING, Any

from tinct.errors import PictureError, TinctError

if TYPE_CHECKING:
    from tinct.color import lab_to_srgb, srgb_to_lab
    from tinct.coloring.film import colorize_film
    from tinct.colorize import Colorizer
    from tinct.compare import CompareResult, run_compare
    from tinct.config import Config
    from tinct.data.sources import open_labelled, open_sources
    from tinct.embed import run_embed
    from tinct.evaluate import run_evaluate
    from tinct.export import run_export
    from tinct.loading import load_colorizer, load_encoder
    from tinct.predict import run_predict
    from tinct.pretrain import run_pretrain
    from tinct.report import write_report
    from tinct.settings import TransferSettings
    from tinct.transfer import run_transfer

    __version__: str

__all__ = [
    "Colorizer",
    "CompareResult",
    "Config",
    "PictureError",
    "TinctError",
    "TransferSettings",
    "__version__",
    "colorize_film",
    "lab_to_srgb",
    "load_colorizer",
    "load_encoder",
    "open_labelled",
    "open_sources",
    "run_compare",
    "run_embed",
    "run_evaluate",
    "run_export",
    "run_predict",
    "run_pretrain",
    "run_transfer",
    "srgb_to_lab",
    "write_report",
]

_HOMES = {
    "Colorizer": "colorize",
    "CompareResult": "compare",
    "Config": "config",
    "TransferSettings": "settings",
    "colorize_film": "coloring.film",
    "lab_to_srgb": "color",
    "load_colorizer": "loading",
    "load_encoder": "loading",
    "open_labelled": "data.sources",
    "open_sources": "data.sources",
    "run_compare": "compare",
    "run_embed": "embed",
    "run_evaluate": "evaluate",
    "run_export": "export",
    "run_predict": "predict",
    "run_pretrain": "pretrain",
    "run_transfer": "transfer",
    "srgb_to_lab": "color",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch takes seconds."""
    if name == "__version__":
        from importlib.metadata import version

        return version("tinct")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"tinct.{_HOMES[name]}"), name)
        globals()[name] = value  # found there the next time
        return value
    raise AttributeError(f"module 'tinct' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""`tinct serve`: a page that colours photographs in the browser; nothing leaves the machine, nothing is kept.

Pictures go through the same readers and writers as `tinct colorize`, so depth, transparency and metadata survive.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tinct.app_jobs import MAX_SIZE, MAX_VERSIONS, Limits, Views, coloured, examples, new_folder, thumbnail
from tinct.colorize import MAX_SATURATION, MIN_SIZE, Colorizer
from tinct.errors import PictureError, TinctError
from tinct.local_only import LocalOnly
from tinct.pictures import SUFFIXES
from tinct.screen import open_console

__all__ = ["Limits", "page", "running", "serve"]

KEPT_SECONDS = 3600
"""Uploads and results are removed after an hour, and all of them when the page is closed."""

TITLE = "tinct: colour a photograph"

STYLE = """
#examples .grid-wrap { min-height: 0; max-height: none; }
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); padding-top: 24px; }
#examples .thumbnail-lg { aspect-ratio: auto; height: auto; }
#examples .thumbnail-lg img { aspect-ratio: 1; height: auto; }
#examples .caption-label { position: static; max-width: none; border: 0; text-align: center; padding: 2px; }
footer .divider { display: none; }
"""


def serve(
    *,
    model: str = "tinct-small",
    port: int = 7860,
    device: str = "auto",
    max_megabytes: int = 50,
    max_megapixels: int = 100,
    max_queue: int = 16,
) -> int:
    """Open a page on this machine (127.0.0.1) that colours photographs; leave with Ctrl+C.

    Args:
        model: the name of a colorizer that comes with tinct, or the path of a colorizer.safetensors.
        port: where the page listens.
        device: auto, cpu, cuda, cuda:N or mps.
        max_megabytes: the largest upload.
        max_megapixels: the largest picture.
        max_queue: pictures that may wait for their turn.

    Returns:
        0.

    Raises:
        TinctError: gradio is not installed, there is no such model, or the port is taken.
    """
    limits = {"max_megabytes": max_megabytes, "max_megapixels": max_megapixels, "max_queue": max_queue}
    for name, limit in limits.items():
        if limit < 1:
            raise TinctError(f"{name} is {limit}; expected at least 1")
    if not 1 <= port <= 65535:
        raise TinctError(f"port is {port}; expected 1 to 65535")
    _gradio()
    colorizer = Colorizer.load(model, device)
    with (
        contextlib.suppress(KeyboardInterrupt),
        running(colorizer, Limits(max_megabytes, max_megapixels, max_queue), port) as address,
    ):
        open_console().print(f"{model} is at {address} (Ctrl+C to leave)", highlight=False, soft_wrap=True)
        while True:
            time.sleep(1)
    return 0


@contextlib.contextmanager
def running(colorizer: Colorizer, limits: Limits, port: int) -> Iterator[str]:
    """Serve the page on 127.0.0.1 while the block runs; give its address.

    Uploads and results live in a folder of their own, which is removed at the end.

    Raises:
        TinctError: gradio is not installed, or the port is taken.
    """
    from starlette.middleware import Middleware

    gr = _gradio()
    own = ",".join(filter(None, (os.environ.get("NO_PROXY", os.environ.get("no_proxy")), "127.0.0.1")))
    direct = {"NO_PROXY": own, "no_proxy": own}  # gradio asks its own address whether it is there
    with tempfile.TemporaryDirectory(prefix="tinct-serve-") as folder, _environment(GRADIO_TEMP_DIR=folder, **direct):
        blocks = page(colorizer, limits)
        try:
            _, address, _ = blocks.launch(
                server_name="127.0.0.1",
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=limits.megabytes << 20,
                allowed_paths=[],
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=["api"],
                state_session_capacity=64,
                theme=gr.themes.Default(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], primary_hue="indigo"
                ),
                css=STYLE,
                js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"),
                app_kwargs={"middleware": [Middleware(LocalOnly, max_bytes=limits.megabytes << 20)]},
            )
        except OSError as error:
            raise TinctError(f"port {port} cannot be used ({error}); choose another --port") from error
        try:
            yield address
        finally:
            blocks.close(verbose=False)


def page(colorizer: Colorizer, limits: Limits) -> Any:
    """Lay out the page as gradio's Blocks; its API has one endpoint, `/colour`."""
    import gradio as gr

    grey = examples()
    sampling = bool(getattr(colorizer.network, "samples", False))
    colour = _colouring(colorizer, limits)

    def picked(event: gr.SelectData) -> str:
        name = list(grey)[event.index]
        path = new_folder() / f"{name.replace(' ', '-')}.png"
        Image.fromarray(grey[name]).save(path)
        return str(path)

    def recolour(picture: str | None, saturation: float, size: float, versions: float) -> Any:
        return colour(picture, saturation, size, versions) if picture else gr.skip()

    def show(views: Views, files: list[str] | None, choice: int | None) -> list[Any]:
        count = len(views) - 1
        index = min(choice or 1, max(count, 1))
        several = gr.Radio(choices=list(range(1, max(count, 1) + 1)), value=index, visible=count > 1)
        if not views or not files:
            return [None, several, gr.DownloadButton(value=None, interactive=False)]
        return [(views[0], views[index]), several, gr.DownloadButton(value=files[index - 1], interactive=True)]

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as blocks:
        gr.Markdown(
            f"# Colour a photograph\n"
            f"The picture stays on this machine. JPEG, PNG, TIFF, WebP, BMP or AVIF of at most {limits.megabytes} MB "
            f"and {limits.megapixels} megapixels. Colours are {Path(colorizer.name).name}'s guess, not the truth."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                picture = gr.File(label="Photograph", file_types=list(SUFFIXES), height=120)
                gallery = gr.Gallery(
                    value=[(thumbnail(pixels), name) for name, pixels in grey.items()],
                    label="Or take an example",
                    elem_id="examples",
                    columns=4,
                    height="auto",
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    format="png",
                )
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(
                    label="Before and after", interactive=False, format="png", max_height=700, buttons=["fullscreen"]
                )
                choice = gr.Radio(choices=[1], value=1, label="Version", visible=False)
                download = gr.DownloadButton("Download at full size", interactive=False)
                with gr.Row():
                    saturation = gr.Slider(
                        0,
                        MAX_SATURATION,
                        1.0,
                        step=0.05,
                        label="Saturation",
                        info="1 leaves the colours as found.",
                        min_width=220,
                    )
                    size = gr.Slider(
                        MIN_SIZE,
                        max(MAX_SIZE, colorizer.size),
                        colorizer.size,
                        step=32,
                        label="Size",
                        info="Short side that the network sees, in pixels.",
                        min_width=220,
                    )
                    versions = gr.Slider(
                        1,
                        MAX_VERSIONS if sampling else 1,
                        1,
                        step=1,
                        label="Versions",
                        info="Plausible answers to choose from.",
                        min_width=220,
                        visible=sampling,
                    )
                button = gr.Button("Colour", variant="primary")
        results = gr.File(file_count="multiple", label="Results", visible="hidden")
        views = gr.State([], time_to_live=KEPT_SECONDS)
        picture.async_move_resource_to_block_cache = _files_only(picture.async_move_resource_to_block_cache)

        for setting in (saturation, size, versions):
            setting.preprocess = _numbers_only(setting.label, setting.preprocess)
        for asked_for in (picture, saturation, size, versions):
            asked_for.preprocess = _quiet(asked_for.preprocess)
        settings = [picture, saturation, size, versions]
        how: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "colour", "show_progress_on": slider}
        found, shown = [results, views], ([views, results, choice], [slider, choice, download])
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        latest: dict[str, Any] = {"trigger_mode": "always_last", **how}
        asked = gr.on([picture.upload, button.click], colour, settings, found, api_name="colour", **latest)
        moved = [saturation.release, size.release, versions.release]
        anew = gr.on(moved, recolour, settings, found, api_visibility="private", **latest)
        taken = gallery.select(picked, None, picture, api_visibility="private")
        example = taken.success(colour, settings, found, api_visibility="private", **how)
        for event in (asked, anew, example):
            event.success(show, *shown, **private)
        choice.input(show, *shown, **private)
        for event in (picture.clear, asked.failure, anew.failure, example.failure):
            event(lambda: [[], [], *show([], None, 1)], None, [*found, *shown[1]], **private)
    blocks.queue(max_size=limits.queue)
    return blocks


def _colouring(colorizer: Colorizer, limits: Limits) -> Callable[..., tuple[list[str], Views]]:
    """The function behind `/colour`; its docstring is shown to users of the API."""
    import gradio as gr

    def colour(picture: str | None, saturation: float, size: float, versions: float) -> tuple[list[str], Views]:
        """Colour a photograph at full size; format, depth, transparency and metadata are kept.

        Args:
            picture: the photograph's file.
            saturation: chroma is multiplied by this, 0 to 4.
            size: short side, in pixels, at which the network looks.
            versions: how many plausible answers to give, 1 to 4; 1 gives the best.

        Returns:
            A file for each version.
        """
        try:
            if picture is None:
                raise PictureError("no photograph yet: drop one, or take an example")
            return coloured(Path(picture), colorizer, limits, saturation, int(size), int(versions))
        except TinctError as error:
            raise gr.Error(f"{error}.", title="This did not work", print_exception=False) from error

    return colour


def _files_only(move: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let only uploads in: gradio would fetch an address that a client gives in place of a file."""

    async def checked(path: Any) -> Any:
        if str(path).lower().startswith(("http:", "https:")):
            raise _gradio().Error("upload the picture itself, not its address", print_exception=False)
        return await move(path)

    return checked


def _numbers_only(label: str, preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Say what is wrong with a setting that is no number; gradio would give its client an error without a word."""

    def checked(value: Any) -> Any:
        if type(value) not in (int, float):
            raise _gradio().Error(f"{label.lower()} is {value!r}; expected a number", print_exception=False)
        return preprocess(value)

    return checked


def _quiet(preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A visitor's mistake is said to the visitor; gradio would print a traceback here as well."""

    def quiet(value: Any) -> Any:
        try:
            return preprocess(value)
        except _gradio().Error as error:
            error.print_exception = False
            raise

    return quiet


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _gradio() -> Any:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported, and later
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise TinctError("tinct serve needs gradio; pip install 'tinct[serve]'") from error
    return gradio

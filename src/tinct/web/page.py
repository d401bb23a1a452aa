"""What the page of `tinct serve` shows, and what it takes from its visitors."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tinct.coloring.checks import MAX_SATURATION, MIN_SIZE
from tinct.colorize import Colorizer
from tinct.errors import PictureError, TinctError, one_line
from tinct.pictures.picture import READ_SUFFIXES, SUFFIXES
from tinct.web.jobs import MAX_SIZE, MAX_VERSIONS, Limits, Views, coloured, examples, hint_line, new_folder, thumbnail

__all__ = ["STYLE", "page"]

KEPT_SECONDS = 3600
"""Uploads and results are removed after an hour, and all of them when the page is closed."""

TITLE = "tinct: colour a photograph"

NO_HALF_TYPED = """(views, files, choice, picture, ...settings) => [
  views, files, choice, settings.includes(null) ? null : picture, ...settings.map((setting) => setting ?? 1),
]"""
"""While a number is being typed it may be null, which is no setting; without a picture, none is compared."""

STYLE = """
#examples .grid-wrap { min-height: 0; max-height: none; }
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)); padding-top: 24px; }
#examples .thumbnail-lg { aspect-ratio: auto; height: auto; }
#examples .thumbnail-lg img { aspect-ratio: 1; height: auto; }
#examples .caption-label { position: static; max-width: none; border: 0; text-align: center; padding: 2px; }
#settings .block { display: flex; flex-direction: column; }
#settings .block > .wrap:last-child { flex: 1; justify-content: space-between; }
#settings input[type=range]:focus-visible { outline: 2px solid var(--primary-500); outline-offset: 4px; }
footer .divider { display: none; }
"""


def page(colorizer: Colorizer, limits: Limits) -> Any:
    """Lay out the page as gradio's Blocks; its API has one endpoint, `/colour`."""
    import gradio as gr

    grey = examples()
    sampling = bool(getattr(colorizer.network, "samples", False))
    colour = _colouring(colorizer, limits)

    def picked(event: gr.SelectData) -> tuple[str, str]:
        name = list(grey)[event.index]
        path = new_folder() / f"{name.replace(' ', '-')}.png"
        Image.fromarray(grey[name]).save(path)
        return str(path), ""

    def recolour(picture: str | None, *settings: Any) -> Any:
        return colour(picture, *settings) if picture else gr.skip()

    def overtaken(views: Views | None, picture: str | None, *settings: Any) -> Any:
        return recolour(picture, *settings) if late(views, picture, *settings[:3]) else gr.skip()

    def clicked(event: gr.SelectData, picture: str | None, views: Views | None, wanted: str, hints: str) -> Any:
        if views is None or str(views.path) != picture:  # another picture is on its way
            return gr.skip()
        column, row = event.index
        return f"{hints.rstrip()}\n{hint_line(views, column, row, wanted)}".lstrip()

    def show(
        views: Views | None, files: list[str] | None, choice: int | None, picture: str | None, *settings: Any
    ) -> list[Any]:
        count = len(views.small) - 1 if views else 0
        index = min(choice or 1, max(count, 1))
        several = gr.Radio(choices=list(range(1, max(count, 1) + 1)), value=index, visible=count > 1)
        if views is None or not files:
            return [None, several, gr.DownloadButton(value=None, interactive=False), None, gr.skip()]
        file = gr.DownloadButton(value=files[index - 1], interactive=True)
        asks = time.time() if late(views, picture, *settings) else gr.skip()
        return [(views.small[0], views.small[index]), several, file, views.small[index], asks]

    phones = "HEIC, " if "HEIF" in Image.OPEN else ""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as blocks:
        gr.Markdown(
            f"# Colour a photograph\n"
            f"The picture stays on this machine. It may be JPEG, PNG, TIFF, WebP, AVIF, {phones}JPEG 2000 or others, "
            f"up to {limits.megabytes} MB and {limits.megapixels} megapixels. "
            f"The colours are {Path(colorizer.name).name}'s guess, not the truth."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                picture = gr.File(label="Photograph", file_types=[*SUFFIXES, *READ_SUFFIXES], height=120)
                gallery = gr.Gallery(
                    value=[(thumbnail(pixels), name) for name, pixels in grey.items()],
                    label="Or pick an example",
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
                with gr.Row(elem_id="settings"):
                    saturation = gr.Slider(
                        0,
                        MAX_SATURATION,
                        1.0,
                        step=0.05,
                        label="Saturation",
                        info="1 keeps the predicted colours.",
                        min_width=220,
                    )
                    size = gr.Slider(
                        MIN_SIZE,
                        max(MAX_SIZE, colorizer.size),
                        colorizer.size,
                        step=32,
                        label="Size",
                        info="Short side of what the network sees, in pixels.",
                        min_width=220,
                    )
                    versions = gr.Slider(
                        1,
                        MAX_VERSIONS,
                        1,
                        step=1,
                        label="Versions",
                        info="Plausible results to choose from.",
                        min_width=220,
                        visible=sampling,
                    )
                with gr.Accordion("Colours you know", open=False):
                    gr.Markdown("Choose a colour and click where it belongs. What is near and looks alike changes too.")
                    wanted = gr.ColorPicker("#2040a0", label="A colour")
                    canvas = gr.Image(
                        label="Click where it belongs", interactive=False, format="png", buttons=[], elem_id="canvas"
                    )
                    hints = gr.Textbox(
                        "",
                        label="Colours you gave",
                        info="One a line: column,row=colour, in pixels at full size, or =keep where it was right. "
                        "Change or delete lines, then press Colour.",
                        placeholder="120,340=#2040a0",
                        lines=3,
                    )
                button = gr.Button("Colour", variant="primary")
        results = gr.File(file_count="multiple", label="Results", visible="hidden")
        behind = gr.State(0)
        views = gr.State(None, time_to_live=KEPT_SECONDS)
        picture.async_move_resource_to_block_cache = _files_only(picture.async_move_resource_to_block_cache)

        for setting in (saturation, size, versions):
            setting.preprocess = _numbers_only(setting.label, setting is not saturation, setting.preprocess)
        settings = [picture, saturation, size, versions, hints]
        how: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "colour", "show_progress_on": slider}
        found = [results, views]
        shown = (
            [views, results, choice, picture, saturation, size, versions],
            [slider, choice, download, canvas, behind],
        )
        private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        seen: dict[str, Any] = {"js": NO_HALF_TYPED, **private}
        latest: dict[str, Any] = {"trigger_mode": "always_last", **how}
        asked = button.click(colour, settings, found, api_name="colour", **latest)
        moved = [saturation.release, size.release, versions.release]
        anew = gr.on(moved, recolour, settings, found, api_visibility="private", **latest)
        told = canvas.select(clicked, [picture, views, wanted, hints], hints, **private)
        fresh = picture.upload(lambda: "", None, hints, **private)  # hints are of one picture
        picture.clear(lambda: "", None, hints, **private)
        taken = gallery.select(picked, None, [picture, hints], api_visibility="private")
        steps = [
            step.success(recolour, settings, found, api_visibility="private", **latest) for step in (told, fresh, taken)
        ]
        results.change(show, *shown, **seen)  # what `success` shows would lack what waited for its turn
        choice.input(show, *shown, **seen)
        steps.append(behind.change(overtaken, [views, *settings], found, api_visibility="private", **latest))
        for event in (picture.clear, asked.failure, anew.failure, *(step.failure for step in steps)):
            event(lambda: ([], None), None, found, **private)
    blocks.preprocess_data = _quiet(blocks.preprocess_data)
    blocks.queue(max_size=limits.queue)
    return blocks


def late(views: Views | None, picture: str | None, *settings: float) -> bool:
    """Whether a picture is shown that was not coloured as its visitor last said.

    Changes within milliseconds may overtake each other on their way here.
    """
    return views is not None and picture is not None and (str(views.path), *views.settings) != (picture, *settings)


def _colouring(colorizer: Colorizer, limits: Limits) -> Callable[..., tuple[list[str], Views]]:
    """The function behind `/colour`; its docstring is shown to users of the API."""
    import gradio as gr

    def colour(
        picture: str | None, saturation: float, size: float, versions: float, hints: str
    ) -> tuple[list[str], Views]:
        """Colour a photograph at full size; format, depth, transparency and metadata are kept.

        Args:
            picture: the photograph's file.
            saturation: chroma is multiplied by this, 0 to 4.
            size: short side of what the network sees, in pixels.
            versions: how many plausible results to give, 1 to 4; 1 gives the best.
            hints: known colours, one a line: column,row=colour, such as 120,340=#2040a0 (pixels from the top left of
                the upright picture at full size) or 210,90=keep where the colour was right.

        Returns:
            A file for each version.
        """
        try:
            if picture is None:
                raise PictureError("no photograph yet: drop one, or pick an example")
            return coloured(Path(picture), colorizer, limits, saturation, int(size), int(versions), hints or "")
        except TinctError as error:
            raise gr.Error(f"{error}.", title="This did not work", print_exception=False) from error

    return colour


def _files_only(move: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let only uploads in: gradio would fetch an address that a client gives in place of a file."""
    import gradio as gr

    async def checked(path: Any) -> Any:
        if str(path).lower().startswith(("http:", "https:")):
            raise gr.Error("upload the picture itself, not its address", print_exception=False)
        return await move(path)

    return checked


def _numbers_only(label: str, whole: bool, preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Say what is wrong with a setting that is no number; gradio would give its client an error without a word.

    NaN and the infinities are none, which Python's JSON knows; where `whole`, 2.5 is none either.
    """
    import gradio as gr

    def checked(value: Any) -> Any:
        fits = float.is_integer if whole else math.isfinite
        if not (type(value) is int or (type(value) is float and fits(value))):
            kind = "a whole number" if whole else "a number"
            raise gr.Error(f"{label.lower()} is {value!r:.60}; expected {kind}", print_exception=False)
        return preprocess(value)

    return checked


def _quiet(preprocess: Callable[..., Any]) -> Callable[..., Any]:
    """A visitor's mistake, such as too few inputs, is said to the visitor; gradio would print a traceback here."""
    import gradio as gr

    async def quiet(*given: Any, **options: Any) -> Any:
        try:
            return await preprocess(*given, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except Exception as error:  # gradio's components raise what they like for inputs of other kinds
            raise gr.Error(f"the inputs cannot be read: {one_line(error, 150)}", print_exception=False) from error

    return quiet

"""`tinct serve`: a page that colours photographs in the browser; nothing leaves the machine, nothing is kept.

Pictures go through the same readers and writers as `tinct colorize`, so depth, transparency and metadata survive.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinct.colorize import Colorizer
from tinct.errors import TinctError
from tinct.screen import open_console, say
from tinct.web.jobs import Limits
from tinct.web.local_only import LocalOnly
from tinct.web.page import STYLE, page

__all__ = ["running", "serve"]


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
        model: the name of a colorizer that comes with tinct, a colorizer.safetensors, or the folder of a run.
        port: where the page listens.
        device: where the network runs: auto, cpu, cuda, cuda:N or mps.
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
    say(open_console(stderr=True), "starting")  # gradio takes seconds
    _gradio()
    colorizer = Colorizer.load(model, device)
    with (
        contextlib.suppress(KeyboardInterrupt),
        running(colorizer, Limits(max_megabytes, max_megapixels, max_queue), port) as address,
    ):
        say(open_console(), f"{model} is at {address} (Ctrl+C to leave)")
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
                allowed_paths=[folder],  # so that names may begin with a dot even if it is below the working folder
                ssr_mode=False,
                mcp_server=False,
                pwa=False,
                run_history=False,
                enable_monitoring=False,
                footer_links=["api"],
                state_session_capacity=64,
                theme=gr.themes.Default(
                    font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"], primary_hue="indigo"
                ).set(body_text_color_subdued="*neutral_500"),  # its own is too pale to read on white
                css=STYLE,
                js=(Path(__file__).parent / "web" / "page.js").read_text(encoding="utf-8"),
                app_kwargs={"middleware": [Middleware(LocalOnly, max_bytes=limits.megabytes << 20)]},
            )
        except OSError as error:
            # gradio's own words are of its launch() and an environment variable
            raise TinctError(
                f"port {port} cannot be used: another program has it, or you may not; choose another --port"
            ) from error
        try:
            yield address
        finally:
            blocks.close(verbose=False)


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

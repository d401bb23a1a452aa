import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.color import lab2rgb, rgb2lab

from tinct.app import running, serve
from tinct.colorize import Colorizer
from tinct.errors import PictureError, TinctError
from tinct.pictures.picture import Picture
from tinct.pictures.readers import read
from tinct.pictures.writers import write
from tinct.web.jobs import Limits, Views, coloured, examples, hint_line, thumbnail
from tinct.web.page import page

gradio_client = pytest.importorskip("gradio_client")
pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

LIMITS = Limits(megabytes=2, megapixels=1, queue=2)


class Network(torch.nn.Module):
    """Red; greener with every seed, yellower with every pixel more. Waits at `gate`, so that a queue can fill."""

    samples = True
    gate = threading.Event()

    def forward(self, l: torch.Tensor, seed: int | None = None) -> torch.Tensor:
        self.gate.wait(30)
        ab = torch.full((len(l), 2, l.shape[2] // 4, l.shape[3] // 4), 25.0)
        ab[:, 0] += 5.0 if seed is None else -20.0 * seed
        ab[:, 1] += min(l.shape[2:]) - 64
        return ab


Network.gate.set()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        with running(Colorizer(Network(), 64, "/some/where/fake", "cpu"), LIMITS, free_port()) as address:
            assert [path.name.startswith("tinct-serve-") for path in folder.iterdir()] == [True]
            yield address.rstrip("/")
        assert not list(folder.glob("tinct-serve-*"))  # uploads and results are gone


def test_a_model_of_one_answer_is_served_too():
    blocks = page(Colorizer(torch.nn.Identity(), 64, "regression", "cpu"), LIMITS).blocks.values()
    (versions,) = (block for block in blocks if getattr(block, "label", "") == "Versions")
    assert not versions.visible
    assert versions.value == 1


def test_the_page_offers_what_it_takes_says_so_and_colours_one_picture_at_a_time():
    colorizer = Colorizer(Network(), 1200, "fake", "cpu")
    blocks = page(colorizer, LIMITS)
    found = {getattr(block, "label", None): block for block in blocks.blocks.values()}
    ranges = {name: (found[name].minimum, found[name].maximum, found[name].value) for name in SETTINGS}
    assert ranges == {"Saturation": (0, 4, 1), "Size": (64, 1200, 1200), "Versions": (1, 4, 1)}
    text = next(block.value for block in blocks.blocks.values() if block.get_block_name() == "markdown")
    assert "2 MB and 1 megapixels" in text
    assert blocks.delete_cache == (600, 3600)
    colouring = [one for one in blocks.fns.values() if "colour" in one.name]
    assert [(one.concurrency_limit, one.concurrency_id) for one in colouring] == [(1, "colour")] * 5


SETTINGS = ("Saturation", "Size", "Versions")


@pytest.fixture
def client(address, tmp_path):
    return gradio_client.Client(address, verbose=False, download_files=str(tmp_path / "got"), analytics_enabled=False)


@pytest.fixture
def photograph(tmp_path) -> Path:
    """A grey 16-bit PNG with transparency, metadata and a resolution."""
    grey = data.camera()[::4, ::5].astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "A man with a camera", 6
    alpha = np.full_like(grey, 30000)
    picture = Picture(grey, alpha, orientation=6, format="PNG", exif=exif.tobytes(), dpi=(300.0, 300.0))
    write(picture, tmp_path / "camera.png")
    return tmp_path / "camera.png"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(client, path, saturation=1.0, size=64, versions=1, hints=""):
    return client.predict(gradio_client.handle_file(path), saturation, size, versions, hints, api_name="/colour")


def redness(path) -> float:
    pixels = read(Path(path)).pixels.astype(float)
    return float((pixels[..., 0] - pixels[..., 1]).mean() / pixels.max())


def test_the_api_colours_at_full_size_and_keeps_everything(client, photograph):
    (result,) = ask(client, photograph)
    before, after = read(photograph), read(Path(result))
    assert Path(result).name == "camera-coloured.png"
    assert after.pixels.shape == (*before.pixels.shape, 3)
    assert after.pixels.dtype == np.uint16
    assert np.array_equal(after.alpha, before.alpha)
    assert (after.orientation, after.dpi) == (before.orientation, before.dpi)
    assert b"A man with a camera" in after.exif
    assert redness(result) > 0.1


def test_the_page_colours_as_python_does_with_the_same_settings(client, photograph):
    files = ask(client, photograph, saturation=0.5, size=96, versions=2)
    files += ask(client, photograph, saturation=0.5, size=96)
    colorizer = Colorizer(Network(), 64, "fake", "cpu")
    for file, seed in zip(files, (0, 1, None), strict=True):
        expected = colorizer.colour([read(photograph)], saturation=0.5, size=96, seed=seed)[0]
        assert np.array_equal(read(Path(file)).pixels, expected.pixels)


def test_the_api_is_documented(client):
    described = client.view_api(return_format="dict", print_info=False)
    assert list(described["named_endpoints"]) == ["/colour"]
    assert not described["unnamed_endpoints"]
    endpoint = described["named_endpoints"]["/colour"]
    names = [parameter["parameter_name"] for parameter in endpoint["parameters"]]
    assert names == ["picture", "saturation", "size", "versions", "hints"]
    assert "metadata are kept" in endpoint["description"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", b"no picture", "^a.png: not a picture, or of a kind that is not read.$"),
        ("a.png", b"", "a.png: empty file"),
        ("a.txt", b"text", "Invalid file type"),
        ("a.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "a.jpg: "),
        ("bomb.png", None, "bomb.png: 1440000 pixels, over the limit of 1 megapixels"),
    ],
)
def test_a_bad_upload_gets_a_sentence(client, tmp_path, capfd, name, content, message):
    if content is None:
        buffer = io.BytesIO()
        Image.new("L", (1200, 1200)).save(buffer, "PNG")
        content = buffer.getvalue()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(gradio_client.exceptions.AppError, match=message) as caught:
        ask(client, tmp_path / name)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_name_may_begin_with_a_dot_wherever_the_page_was_started(client, photograph, monkeypatch):
    monkeypatch.chdir(tempfile.gettempdir())  # gradio keeps hidden files below the working folder to itself
    (result,) = ask(client, photograph.rename(photograph.with_name(".camera.png")))
    assert Path(result).name == ".camera-coloured.png"


def test_an_upload_that_was_cleaned_away_gets_a_sentence(tmp_path):
    colorizer = Colorizer(Network(), 64, "fake", "cpu")
    with pytest.raises(PictureError, match=r"^a.png: gone since it was uploaded; choose it again$"):
        coloured(tmp_path / "a.png", colorizer, LIMITS, saturation=1.0, size=64, versions=1)


def test_what_is_shown_is_the_picture_and_then_what_each_file_holds(photograph, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    files, views = coloured(photograph, Colorizer(Network(), 64, "fake", "cpu"), LIMITS, 1.0, 64, 3)
    folder = Path(files[0]).parent
    assert files == [str(folder / f"camera-coloured-{number}.png") for number in (1, 2, 3)]
    assert folder.parent == tmp_path  # from where the page may serve it
    assert views.size == read(photograph).size
    for path, shown in zip((photograph, *files), views.small, strict=True):
        upright = np.rot90(read(Path(path)).pixels, -1) / 257  # as orientation 6 says
        assert shown.shape == (*upright.shape[:2], 3)
        opacity = 30000 / 65535
        assert np.abs(shown - np.atleast_3d(opacity * upright + 255 * (1 - opacity))).max() < 2
    jpeg = tmp_path / "an old.photo.jpg"
    Image.fromarray(data.camera()[::8, ::8]).save(jpeg)
    (file,), _ = coloured(jpeg, Colorizer(Network(), 64, "fake", "cpu"), LIMITS, 1.0, 64, 1)
    assert Path(file).name == "an old.photo-coloured.jpg"
    assert Path(file).parent not in (folder, tmp_path)


def test_hints_are_what_python_takes_and_a_click_writes_one(photograph, client, tmp_path):
    (file,) = ask(client, photograph, saturation=0.5, hints="20,30=#2040a0\n\n 50,9 = tan")
    known = [(20, 30, "#2040a0"), (50, 9, "tan")]
    colorizer = Colorizer(Network(), 64, "fake", "cpu")
    expected = colorizer.colour([read(photograph)], saturation=0.5, size=64, hints=known)[0]
    assert np.array_equal(read(Path(file)).pixels, expected.pixels)
    with pytest.raises(gradio_client.exceptions.AppError, match="hint is 'red'; expected COLUMN,ROW=COLOUR"):
        ask(client, photograph, hints="red")
    views = Views(photograph, (1.0, 256, 1), (3000, 2000), [np.zeros((1024, 683, 3), np.uint8)])
    assert hint_line(views, 0, 0, "#2040a0") == "1,1=#2040a0"
    assert hint_line(views, 682, 1023, "rgba(32.2, 64, 159.9, 1)") == "1998,2998=#2040a0"


def test_settings_beyond_those_of_the_page_are_refused_without_it_too(photograph):
    small, large = (Colorizer(Network(), size, "fake", "cpu") for size in (64, 1040))
    for colorizer, size, versions, said in (
        (small, 1025, 1, "size is 1025; expected at most 1024"),
        (large, 1041, 1, "size is 1041; expected at most 1040"),
        (small, 64, 0, "versions is 0; expected 1 to 4"),
        (small, 64, 5, "versions is 5; expected 1 to 4"),
    ):
        with pytest.raises(TinctError, match=said):
            coloured(photograph, colorizer, LIMITS, 1.0, size, versions)
    assert coloured(photograph, large, LIMITS, 1.0, 1040, 1)


def test_examples_are_grey_and_their_thumbnails_the_middle(monkeypatch):
    photograph = data.astronaut()[:200:4, ::4]
    monkeypatch.setattr("tinct.web.jobs.photographs", lambda: {"an astronaut": photograph})
    lab = rgb2lab(photograph) * (1, 0, 0)
    (found,) = examples().values()
    assert np.abs(found - 255 * lab2rgb(lab)[..., 0]).max() < 1.5
    for shape, middle in (((60, 100), np.s_[:, 20:80]), ((100, 60), np.s_[20:80])):
        pixels = np.zeros(shape, np.uint8)
        pixels[middle] = 200
        shown = thumbnail(pixels)
        assert shown.size == (160, 160)
        assert np.asarray(shown)[8:-8, 8:-8].min() > 190  # at its rim it sees what lies beyond


def test_too_large_a_file_is_not_read(tmp_path, monkeypatch):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(LIMITS.megabytes << 20)
        with pytest.raises(PictureError, match="not a picture"):
            coloured(tmp_path / "a.png", Colorizer(Network(), 64, "fake", "cpu"), LIMITS, 1.0, 64, 1)
        file.truncate((LIMITS.megabytes << 20) + 1)
    monkeypatch.setattr(Path, "read_bytes", None)
    with pytest.raises(PictureError, match=f"^a.png: .* bytes, over the limit of {LIMITS.megabytes} MB$"):
        coloured(tmp_path / "a.png", Colorizer(Network(), 64, "fake", "cpu"), LIMITS, 1.0, 64, 1)


def test_settings_out_of_range_get_a_sentence(client, photograph, capfd):
    for wrong in ({"saturation": 5}, {"size": 10**9}, {"versions": 99}, {"size": 1}, {"versions": 0}):
        with pytest.raises(gradio_client.exceptions.AppError, match=r"maximum|minimum|expected"):
            ask(client, photograph, **wrong)
    for wrong in ({"saturation": "x"}, {"size": None}, {"versions": True}, {"versions": 2.7}, {"size": 64.5}):
        with pytest.raises(gradio_client.exceptions.AppError, match=r"expected a (whole )?number"):
            ask(client, photograph, **wrong)
    with pytest.raises(gradio_client.exceptions.AppError, match="no photograph yet"):
        client.predict(None, 1.0, 64, 1, api_name="/colour")  # no hints is what they default to
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("settings", ["NaN, 64, 1", "1.0, NaN, 1", "1.0, Infinity, 1", "1.0, 64, -Infinity"])
def test_numbers_that_json_does_not_have_get_a_sentence(address, settings, capfd):
    content = f'{{"data": [null, {settings}, ""]}}'
    asked = httpx.post(
        f"{address}/gradio_api/call/colour", content=content, headers={"Content-Type": "application/json"}
    )
    answer = httpx.get(f"{address}/gradio_api/call/colour/{asked.json()['event_id']}").text
    assert re.search(r"(saturation|size|versions) is (nan|-?inf); expected a (whole )?number", answer)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "enough input values"),
        ([None, 1.0], "enough input values"),
        ([5, 1.0, 64, 1, ""], "FileData"),
        ([["a.png"], 1.0, 64, 1, ""], "FileData"),
        # null byte, or newer: null character
        ([{"path": "a\0b", "meta": {"_type": "gradio.FileData"}}, 1.0, 64, 1, ""], "null "),
        ([None, {}, 64, 1, ""], "saturation is {}; expected a number"),
    ],
)
def test_inputs_of_another_number_or_kind_get_a_sentence(address, inputs, message, capfd):
    asked = httpx.post(f"{address}/gradio_api/call/colour", json={"data": inputs})
    answer = httpx.get(f"{address}/gradio_api/call/colour/{asked.json()['event_id']}").text
    assert answer.startswith("event: error")
    assert message in answer
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("content", [b"", b"{nope", b"\xff", b"[1]", b'{"data": 3}', b"{}"])
def test_what_is_no_call_is_refused(address, content, capfd):
    headers = {"Content-Type": "application/json"}
    assert httpx.post(f"{address}/gradio_api/call/colour", content=content, headers=headers).status_code in (400, 422)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("path", ["call/none", "run/none", "call/v2/colour", "call/no%0ane"])
def test_calls_of_what_there_is_not_cost_one_line(address, path, capfd, caplog):
    answer = httpx.post(f"{address}/gradio_api/{path}", json={"data": []})
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"]
    assert [record.getMessage() for record in caplog.records if record.name.startswith("tinct")] == [answer.text]
    assert re.fullmatch("POST '/gradio_api/.*' failed: .*", answer.text)
    assert "Traceback" not in capfd.readouterr().err


def test_too_long_an_upload_is_refused(address):
    for length in (LIMITS.megabytes * 2**20 + 1, 20_000_000):
        answer = httpx.post(f"{address}/gradio_api/upload", files={"files": ("a.png", bytes(length))})
        assert answer.status_code == 413
    parts = (b"x" * 1000 for _ in range(3))
    assert httpx.post(f"{address}/gradio_api/upload", content=parts).status_code == 411


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", __file__, "../../../../etc/passwd"])
def test_no_file_of_the_host_is_readable(address, path):
    for route in ("gradio_api/file=", "file=", "static/", "assets/", "gradio_api/file/"):
        for written in (path, path.replace("/", "%2f"), f"file://{path}"):
            assert httpx.get(f"{address}/{route}{written}").status_code in (400, 403, 404)
    for given in (path, f"file://{path}", f"{address}/config"):
        for more in ({}, {"url": given}, {"url": f"{address}/gradio_api/file={given}"}):
            payload = {"path": given, "meta": {"_type": "gradio.FileData"}, **more}
            asked = httpx.post(f"{address}/gradio_api/call/colour", json={"data": [payload, 1.0, 64, 1, ""]})
            answer = httpx.get(f"{address}/gradio_api/call/colour/{asked.json()['event_id']}").text
            assert answer.startswith("event: error")
            assert "root:" not in answer


@pytest.mark.parametrize("given", ["http://127.0.0.1:9/a.png", "https://pictures.invalid/a.png"])
def test_no_address_is_fetched(address, given):
    payload = {"path": given, "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(f"{address}/gradio_api/call/colour", json={"data": [payload, 1.0, 64, 1, ""]})
    answer = httpx.get(f"{address}/gradio_api/call/colour/{asked.json()['event_id']}").text
    assert "upload the picture itself, not its address" in answer


def test_the_page_names_no_path_and_loads_nothing_from_elsewhere(address):
    answer = httpx.get(address)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]*)\"", answer.text)
    assert loaded
    assert not [url for url in loaded if url.startswith(("http", "//"))]
    style = httpx.get(f"{address}/theme.css").text
    assert not re.findall(r"@import|url\(['\"]?(?:http|//)[^)]*", style)
    config = json.loads(re.search(r"window.gradio_config = (\{.*?\});</script>", answer.text, re.S)[1])
    assert not config["stylesheets"]
    assert config["analytics_enabled"] is False
    assert "/some/where" not in answer.text


def test_only_this_machine_is_answered(address):
    port = address.rpartition(":")[2]
    assert httpx.get(address, headers={"Host": f"localhost:{port}"}).status_code == 200
    for host in (f"evil.example:{port}", "evil.example", ""):
        assert httpx.get(address, headers={"Host": host}).status_code == 421
    for origin, status in (("https://evil.example", 403), ("null", 403), (address.rstrip("/"), 200)):
        files = {"files": ("a.png", b"x")}
        answer = httpx.post(f"{address.rstrip('/')}/gradio_api/upload", files=files, headers={"Origin": origin})
        assert answer.status_code == status
    with pytest.raises(OSError, match="refused"), socket.socket() as probe:
        probe.connect(("127.0.0.2", int(port)))  # also this machine, but another of its addresses


def test_a_full_queue_turns_away(client, photograph):
    Network.gate.clear()
    try:
        inputs = [gradio_client.handle_file(photograph), 1.0, 64, 1]
        jobs = [client.submit(*inputs, api_name="/colour") for _ in range(LIMITS.queue + 4)]
        done, waiting = wait([job.future for job in jobs], timeout=25, return_when=FIRST_COMPLETED)
        assert done
        assert all("queue is full" in str(future.exception()).lower() for future in done)
    finally:
        Network.gate.set()
    wait(waiting, timeout=30)
    assert any(future.exception() is None for future in waiting)
    assert ask(client, photograph)


def test_serve_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(TinctError, match=r"tinct serve needs gradio; pip install 'tinct\[serve\]'"):
        serve(model="x")
    monkeypatch.undo()
    with pytest.raises(TinctError, match="no such file"):
        serve(model=str(tmp_path / "absent.safetensors"))
    with pytest.raises(TinctError, match="at least 1"):
        serve(max_queue=0)


def test_a_taken_port_gets_a_sentence(address):
    port = int(address.rpartition(":")[2])
    with (
        pytest.raises(
            TinctError,
            match=rf"^port {port} cannot be used: another program has it, or you may not; choose another --port$",
        ),
        running(Colorizer(Network(), 64, "fake", "cpu"), LIMITS, port),
    ):
        pass
    assert httpx.get(address).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
def test_it_starts_behind_a_proxy_and_removes_its_folder_when_it_is_ended(tmp_path):
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "http_proxy": nobody, "HTTP_PROXY": nobody}
    for name in ("no_proxy", "NO_PROXY"):
        environment.pop(name, None)
    words = [sys.executable, "-m", "tinct", "serve", "--port", str(free_port()), "--device", "cpu"]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as served:
        try:
            assert "tinct-small is at http://127.0.0.1" in served.stdout.readline()
            assert list(tmp_path.glob("tinct-serve-*"))
            served.terminate()
            assert served.wait(60) == 0
        finally:
            served.kill()
    assert not list(tmp_path.glob("tinct-serve-*"))


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium is installed; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def contrast(colour: str) -> float:
    """Of a CSS colour on white, as WCAG 2.2 defines it."""
    values = np.array([int(value) for value in re.findall(r"\d+", colour)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return 1.05 / (linear @ (0.2126, 0.7152, 0.0722) + 0.05)


def download_becomes(page, folder, wanted) -> None:
    """Wait until the download's pixels, signed, are as wanted."""
    for _ in range(60):
        with page.expect_download() as download:
            page.get_by_role("button", name="Download at full size").click()
        download.value.save_as(folder / "found.png")
        pixels = read(folder / "found.png").pixels.astype(int)
        if wanted(pixels):
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"the download's mean colour is {pixels.mean(axis=(0, 1))}")


def chroma_becomes(page, folder, wanted) -> None:
    """Wait until the download has the wanted mean difference between a pixel's channels, of 16 bits."""
    download_becomes(page, folder, lambda pixels: wanted(float(np.ptp(pixels, axis=-1).mean())))


def overtaking(page, number, *values: str) -> None:
    """Set a number to two values at once; the request for the first one arrives last."""
    held = []
    page.route("**/queue/join*", lambda route: route.continue_() if held else held.append(route))
    change = "number.focus(); number.value = value; number.dispatchEvent(new Event('input', {bubbles: true}))"
    with page.expect_response("**/queue/join*"):
        number.evaluate(f"(number, values) => values.forEach(value => {{ {change}; number.blur() }})", values)
    held[0].continue_()
    page.unroute("**/queue/join*")
    page.wait_for_timeout(2000)  # what was asked last is shown before that


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(browser, address, photograph, tmp_path, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    upload = page.locator("input[type=file]").first
    upload.wait_for(state="attached")
    upload.set_input_files(photograph)
    images = page.get_by_test_id("imageslider-image")
    images.nth(1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == width

    border = page.get_by_role("slider", name="Border between before and after")
    border.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('[data-testid=slider]').ariaValueNow > 52")

    sliders = page.locator("#settings input[type=range]")
    tops = {slider.bounding_box()["y"] for slider in sliders.all()}
    assert len(tops) == (1 if width == 1280 else 3)  # in one line, however long their explanations are
    page.get_by_label("Reset to default value").first.focus()
    page.keyboard.press("Tab")
    assert sliders.first.evaluate("slider => getComputedStyle(slider).outlineStyle") == "solid"  # the focus is seen
    pale = page.locator("#settings .info-text").first.evaluate("text => getComputedStyle(text).color")
    assert contrast(pale) > 4.5  # WCAG 2.2, 1.4.3

    saturation = page.get_by_label("number input for Saturation")
    for value in ("4", "2", "0"):  # the last one counts, though it waits for its turn
        saturation.fill(value)
        saturation.press("Enter")
    chroma_becomes(page, tmp_path, lambda chroma: chroma < 10)
    overtaking(page, saturation, "4", "0")
    chroma_becomes(page, tmp_path, lambda chroma: chroma < 10)
    sliders.first.focus()
    page.keyboard.press("ArrowRight")
    chroma_becomes(page, tmp_path, lambda chroma: chroma > 10)
    page.get_by_label("Reset to default value").first.click()
    chroma_becomes(page, tmp_path, lambda chroma: chroma > 1000)

    page.get_by_role("button", name="Colours you know").click()
    canvas = page.locator("#canvas img")
    canvas.wait_for()
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
    given = page.get_by_label("Colours you gave")
    page.wait_for_function("text => text.value", arg=given.element_handle())
    column, row = map(int, re.fullmatch(r"(\d+),(\d+)=#2040a0", given.input_value()).groups())
    assert (column, row) == pytest.approx((128 / 4, 103 / 2), abs=3)

    def blue(pixels: np.ndarray) -> bool:
        turned = np.rot90(pixels, -1)  # as orientation 6 says
        return bool(turned[row, column, 2] > turned[row, column, 0] + 5000)

    download_becomes(page, tmp_path, blue)
    given.fill("")
    page.get_by_role("button", name="Colour", exact=True).click()
    download_becomes(page, tmp_path, lambda pixels: not blue(pixels))

    sources = [image.get_attribute("src") for image in images.all()]
    versions = page.get_by_label("number input for Versions")
    versions.fill("3")
    versions.press("Enter")
    page.get_by_role("button", name="Colour", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_role("radio").nth(2).wait_for()
    for _ in range(20):  # a colouring still under way sets the choice back when it is done
        page.get_by_role("radio").nth(2).click()
        page.wait_for_timeout(1000)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download at full size").click()
        if download.value.suggested_filename == "camera-coloured-3.png":
            break
    assert download.value.suggested_filename == "camera-coloured-3.png"
    assert sources[1] not in [image.get_attribute("src") for image in images.all()]
    download.value.save_as(tmp_path / "downloaded.png")
    assert read(tmp_path / "downloaded.png").pixels.dtype == np.uint16

    page.get_by_role("button", name="coffee").focus()  # examples take the keyboard too
    page.keyboard.press("Enter")
    page.locator("a[download='coffee.png']").wait_for()
    page.wait_for_function(
        "before => ![...document.querySelectorAll('[data-testid=imageslider-image]')].some(i => before == i.src)",
        arg=sources[0],
    )
    (tmp_path / "bad.png").write_bytes(b"no picture")
    page.get_by_label("Clear").first.click()
    page.locator("input[type=file]").first.set_input_files(tmp_path / "bad.png")
    page.get_by_text("bad.png: not a picture, or of a kind that is not read.").wait_for()
    page.get_by_role("button", name="Download at full size", disabled=True).wait_for()
    assert not [url for url in requested if not url.startswith((address, "data:", "blob:"))]
    page.close()

import errno
import http.server
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from skimage.filters import gaussian

import tinct
from tinct import fetch as fetching
from tinct import shipped
from tinct.cli import main
from tinct.coloring.sampling import Sampling
from tinct.colorize import Colorizer
from tinct.data.sources import open_sources
from tinct.errors import TinctError
from tinct.fetch import weights
from tinct.inits import load_init
from tinct.models.encoder import Encoder
from tinct.models.generator import Generator
from tinct.objectives.bins import Bins
from tinct.pictures.picture import Picture
from tinct.shipped import SHIPPED, Entry, add, entries, own_shelf, put, resolve, verify
from tinct.weights import (
    copy_in_half,
    load_colorizer,
    load_strict,
    packed,
    read_weights,
    save_colorizer,
    save_encoder,
    weights_digest,
    write_weights,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("made") / "colorizer.safetensors"
    colour = Bins()
    generator = Generator(Encoder("test_resnet"), colour.out_channels, 4, 16)
    save_colorizer(path, generator, colour, {"size": 64})
    copy_in_half(path, path)
    return path


@pytest.fixture(autouse=True)
def shelves(tmp_path, monkeypatch):
    """An empty shelf in place of the package's, and one in place of the user's."""
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path / "package")
    monkeypatch.setenv("TINCT_WEIGHTS", str(tmp_path / "own"))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path / "package", tmp_path / "own"


def made(path: Path, number: float = 0.0, kind: str | None = "encoder") -> Path:
    """A small file that says it is an encoder."""
    tensors = {"a": torch.full((2, 3), number), "n": torch.tensor(100_000)}
    write_weights(path, tensors, {"kind": kind})
    return path


@pytest.fixture
def card(tmp_path) -> Path:
    path = tmp_path / "card.md"
    path.write_text("# tiny\nMade by a test.\n")
    return path


def test_what_ships_is_whole():
    for entry in entries(SHIPPED).values():
        verify(entry)
        assert (SHIPPED / entry.card).is_file()
        assert entry.size == entry.path.stat().st_size <= 25 << 20
        assert entry.licence != "unknown"
    listed = {entry.path for entry in entries(SHIPPED).values()}
    assert set(SHIPPED.glob("*.safetensors")) == listed


def test_added_weights_load_by_name(file, card, shelves):
    entry = add("tiny", file, card, shelf=shelves[0])
    assert (entry.kind, entry.licence, entry.size) == ("colorizer", "unknown", file.stat().st_size)
    assert (shelves[0] / "tiny.md").read_text() == card.read_text()
    assert resolve("tiny", "colorizer").read_bytes() == file.read_bytes()
    by_name, by_path = Colorizer.load("tiny", "cpu"), Colorizer.load(file, "cpu")
    picture = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    assert (by_name.name, by_name.size) == ("tiny", 64)
    assert np.array_equal(by_name(picture), by_path(picture))


def test_torchs_defaults_change_nothing(file):
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = Colorizer.load(file, "cpu")(picture, hints=[(3, 4, "red")])
    code = (
        "import sys, torch, numpy as np\n"
        "from pathlib import Path\n"
        "torch.set_default_dtype(torch.float64)\n"
        "torch.set_default_device('meta')\n"
        "from tinct import Colorizer, load_encoder\n"
        "from tinct.weights import save_encoder\n"
        "coloured = Colorizer.load(sys.argv[1], 'cpu')\n"
        "picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)\n"
        "np.save(sys.argv[2], coloured(picture, hints=[(3, 4, 'red')]))\n"
        "save_encoder(Path(sys.argv[3]), coloured.network.network.generator.encoder, {})\n"
        "encoder, _ = load_encoder(sys.argv[3])\n"
        "assert {(p.dtype, p.device.type) for p in encoder.parameters()} == {(torch.float32, 'cpu')}\n"
    )
    result, encoder = file.with_name("result.npy"), file.with_name("made.safetensors")
    subprocess.run([sys.executable, "-c", code, file, result, encoder], check=True)
    assert np.array_equal(np.load(result), expected)


def test_a_run_folder_and_a_path_are_taken_too(file):
    assert resolve(file.parent, "colorizer") == resolve(str(file), "colorizer") == file
    with pytest.raises(TinctError, match="no such file"):
        Colorizer.load("nowhere/colorizer.safetensors", "cpu")


def test_the_public_loaders_take_names_and_run_folders_too(file, shelves):
    encoder = Encoder("test_resnet")
    save_encoder(file.with_name("encoder.safetensors"), encoder, {"steps": 3})
    add("tiny", file, None, shelf=shelves[0])
    add("tiny-ssl", file.with_name("encoder.safetensors"), None, shelf=shelves[1])
    expected = load_colorizer(file).state_dict()
    for model in ("tiny", Path("tiny"), file, file.parent, str(file.parent)):
        network = tinct.load_colorizer(model)
        assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    for model in ("tiny-ssl", Path("tiny-ssl"), file.with_name("encoder.safetensors"), file.parent):
        loaded, meta = tinct.load_encoder(model)
        assert meta["steps"] == 3
        assert weights_digest(loaded) == weights_digest(encoder)
        assert not loaded.training
    with pytest.raises(TinctError, match=r"holds encoder, expected tinct's colorizer.safetensors"):
        tinct.load_colorizer("tiny-ssl")


def test_a_name_goes_before_a_file_of_that_name(file, card, shelves, tmp_path, monkeypatch):
    add("tiny", file, card, shelf=shelves[0])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert resolve("tiny", "colorizer").parent == shelves[0]
    assert resolve(Path("tiny"), "colorizer") == Path("tiny/colorizer.safetensors")


def test_an_unknown_name_lists_what_there_is(file, card, shelves):
    with pytest.raises(TinctError, match="nor weights of that name; expected a run's folder or its colorizer"):
        Colorizer.load("tinct-small")
    add("tiny", file, card, shelf=shelves[0])
    add("mine", file, None, shelf=shelves[1])
    add("seeing", made(file.with_name("small.safetensors")), None, shelf=shelves[1])
    with pytest.raises(TinctError, match=r"expected mine, tiny, a run's folder or its colorizer.safetensors"):
        Colorizer.load("tinct-small")
    with pytest.raises(TinctError, match=r"expected random, seeing, a run's folder or its encoder.safetensors"):
        resolve("tinct-small", "encoder", others=("random",))


def test_the_own_shelf_is_in_the_cache_folder_unless_the_user_names_another(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    monkeypatch.setenv("TINCT_WEIGHTS", "~/mine")
    assert own_shelf() == tmp_path / "mine"
    monkeypatch.delenv("TINCT_WEIGHTS")
    assert own_shelf() == Path("/caches/tinct/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert own_shelf() == tmp_path / ".cache" / "tinct" / "weights"


def test_of_a_name_on_two_shelves_the_first_ones_hash_holds_and_nothing_of_the_other_stays(shelves, card, tmp_path):
    right, wrong = made(tmp_path / "mirror" / "tiny.safetensors", 1.0), made(tmp_path / "wrong.safetensors", 2.0)
    np.save(wrong.with_suffix(".seen.npy"), np.arange(3, dtype=np.uint64))
    add("tiny", wrong, card, shelf=shelves[1])  # before weights of that name came with tinct
    add("tiny", right, None, shelf=shelves[0], licence="MIT").path.unlink()
    known = entries()["tiny"]
    assert (known.sha256, known.licence) == (shipped.digest(right), "MIT")
    assert known.path == shelves[1] / "tiny.safetensors"
    with pytest.raises(TinctError, match="damaged, its SHA-256 is"):
        resolve("tiny", "encoder")
    assert weights(["fetch", "tiny"], mirror=str(right.parent)) == 0
    assert resolve("tiny", "encoder").read_bytes() == right.read_bytes()
    fetched = entries(shelves[1])["tiny"]
    assert (fetched.card, fetched.seen.exists()) == ("", False)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_changed_byte_is_found_before_loading(file, card, shelves, place):
    path = add("tiny", file, card, shelf=shelves[0]).path
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(TinctError, match=r"tiny.safetensors: damaged, its SHA-256 is .* is expected; reinstall tinct"):
        Colorizer.load("tiny")
    assert weights(["verify"]) == 1


def test_a_cut_file_is_found(file, card, shelves, capsys):
    path = add("tiny", file, card, shelf=shelves[1]).path
    assert weights(["verify", "tiny"]) == 0
    path.write_bytes(path.read_bytes()[:-1000])
    assert weights(["verify", "tiny"]) == 1
    assert "run: tinct weights fetch tiny --mirror FOLDER, one that holds a copy" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_file_that_is_gone_is_no_whole_one(file, shelves, capsys):
    add("shipped", file, None, shelf=shelves[0]).path.unlink()  # by its hash alone, to be fetched
    assert weights(["verify"]) == 0
    gone = add("tiny", file, None, shelf=shelves[1]).path
    gone.unlink()
    for shelf in (None, shelves[1]):
        assert weights(["verify"], shelf=shelf) == 1
        assert f"tiny is not here, no file {gone}; run: tinct weights fetch tiny" in capsys.readouterr().out


def test_the_remedy_for_another_shelf_mends_that_one(file, shelves, tmp_path, capsys):
    shelf = tmp_path / "an other"
    broken = add("tiny", file, None, shelf=shelf)
    broken.path.write_bytes(b"broken")
    assert main(["weights", "verify", "--shelf", str(shelf)]) == 1
    said = " ".join(capsys.readouterr().out.split()).partition("run: tinct ")[2]
    words = shlex.split(said.partition(" --mirror")[0])
    assert words == ["weights", "fetch", "tiny", "--shelf", str(shelf)]
    file.with_name("tiny.safetensors").write_bytes(file.read_bytes())
    assert main([*words, "--mirror", str(file.parent)]) == 0
    verify(entries(shelf)["tiny"])
    assert not shelves[1].exists()


def test_what_is_added_under_a_name_of_other_weights_replaces_them_and_says_so(shelves, card, tmp_path, capsys):
    first, second = made(tmp_path / "first.safetensors", 1.0), made(tmp_path / "second.safetensors", 2.0)
    assert weights(["add", "tiny", str(first), str(card)], shelf=shelves[0]) == 0
    assert weights(["add", "tiny", str(first), str(card)], shelf=shelves[0]) == 0
    assert "replaced" not in capsys.readouterr().out
    assert weights(["add", "tiny", str(second)], shelf=shelves[0]) == 0
    hash_before = shipped.digest(first)[:12]
    assert f"replaced: the encoder of that name, SHA-256 {hash_before}..., and its card" in capsys.readouterr().out
    assert sorted(contents(shelves[0])) == ["manifest.json", "tiny.safetensors"]
    assert weights(["add", "tiny", str(second), str(card)], shelf=shelves[0]) == 0
    assert weights(["add", "tiny", str(second)], shelf=shelves[0]) == 0
    assert ", and its card" in capsys.readouterr().out  # which went, though the weights stay
    assert weights(["add", "tiny", str(second), str(card)], shelf=shelves[0]) == 0
    put(replace(entries(shelves[0])["tiny"], name="other"))  # by hand, with the same card
    assert weights(["add", "tiny", str(first)], shelf=shelves[0]) == 0
    assert (shelves[0] / "tiny.md").exists()


def test_only_weights_of_tinct_are_added(file, card, shelves, tmp_path):
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for name, path, message in [
        ("tiny", tmp_path / "junk.safetensors", "cannot be read as safetensors"),
        ("tiny", tmp_path / "absent.safetensors", "no such file"),
        ("tiny", made(tmp_path / "model.safetensors", kind="model"), "holds model; expected a colorizer or an enc"),
        ("tiny", made(tmp_path / "other.safetensors", kind=None), "holds weights of another program; expected"),
        ("../tiny", file, "cannot name weights"),
        ("", file, "cannot name weights"),
        ("tiny.safetensors", file, "cannot name weights"),
        ("t" * 95, file, "cannot name weights"),  # with its ending no name of a file in a manifest
        ("timm:resnet18", file, "cannot name weights"),
        ("random", file, "'random' cannot name weights, since --init random means others"),
        ("imagenet-lite", file, "--init imagenet-lite means others"),
    ]:
        with pytest.raises(TinctError, match=message):
            add(name, path, card, shelf=shelves[0])
    with pytest.raises(TinctError, match="cannot be read as text"):
        add("tiny", file, tmp_path / "absent.md", shelf=shelves[0])
    assert not shelves[0].exists()


def test_a_folder_is_not_taken_for_weights(shelves, card, tmp_path):
    with pytest.raises(TinctError, match="is a folder; expected a file of weights"):
        add("x", tmp_path, card, shelf=shelves[0])


def test_a_name_of_weights_that_come_with_tinct_is_taken(file, card, shelves):
    add("tiny", file, card, shelf=shelves[0])
    with pytest.raises(TinctError, match="tiny is the name of weights that come with tinct"):
        add("tiny", file, card, shelf=shelves[1])
    add("tiny", file, card, shelf=shelves[0])


def contents(shelf: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in shelf.iterdir()}


@pytest.mark.parametrize("fails", ["card", "manifest"])
@pytest.mark.parametrize("seen", [True, False])
def test_weights_that_cannot_be_added_whole_leave_the_shelf_as_it_was(file, card, shelves, tmp_path, fails, seen):
    np.save(tmp_path / "colorizer.seen.npy", np.arange(3, dtype=np.uint64))
    add("tiny", Path(shutil.copy(file, tmp_path)), card, shelf=shelves[0])
    before = contents(shelves[0])
    assert sorted(before) == ["manifest.json", "tiny.md", "tiny.safetensors", "tiny.seen.npy"]
    tensors, meta = read_weights(file)
    write_weights(other := tmp_path / "other.safetensors", tensors, {**meta, "steps": 9})
    if seen:
        np.save(tmp_path / "other.seen.npy", np.arange(4, dtype=np.uint64))
    card.write_text("of the others")

    def full(path, content):
        if path.suffix == {"card": ".md", "manifest": ".json"}[fails]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(path, content)

    written = Path.write_bytes
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        for name in ("tiny", "new"):
            with pytest.raises(TinctError, match=r"cannot write .*: No space left on device"):
                add(name, other, card, shelf=shelves[0])
            assert contents(shelves[0]) == before
    add("tiny", other, card, shelf=shelves[0])
    assert resolve("tiny", "colorizer").read_bytes() == other.read_bytes()
    assert (shelves[0] / "tiny.md").read_text() == "of the others"
    assert (shelves[0] / "tiny.seen.npy").exists() is seen


def test_weights_whose_manifest_cannot_be_written_are_not_fetched(file, shelves, tmp_path, monkeypatch):
    shutil.copy(file, tmp_path)
    np.save(tmp_path / "colorizer.seen.npy", np.arange(3, dtype=np.uint64))
    words = ["fetch", "some/one/colorizer.safetensors"]
    how = {"revision": "1", "sha256": shipped.digest(file), "mirror": str(tmp_path)}
    with monkeypatch.context() as patched:
        patched.setattr(shipped, "write_json", lambda *_: (_ for _ in ()).throw(TinctError("disk full")))
        with pytest.raises(TinctError, match="disk full"):
            weights(words, **how)
    assert not list(shelves[1].iterdir())
    assert weights(words, **how) == 0
    assert sorted(contents(shelves[1])) == ["colorizer.safetensors", "colorizer.seen.npy", "manifest.json"]


def test_encoders_have_names_too_but_do_not_colour(shelves, tmp_path):
    save_encoder(tmp_path / "encoder.safetensors", Encoder("test_resnet"), {})
    assert add("ssl", tmp_path / "encoder.safetensors", None, shelf=shelves[0]).kind == "encoder"
    with pytest.raises(TinctError, match="holds encoder, expected tinct's colorizer"):
        Colorizer.load("ssl")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 1, "weights": []}',
        '{"format": 1, "weights": {"a": {}}}',
        '{"format": 2, "weights": {}}',
        '{"format": "x", "weights": {}}',
        '{"format": 1, "weights": {"a": {"file": "../../a", "sha256": "%s", "size": 1, "kind": "", "licence": ""}}}'
        % ("0" * 64),
        '{"format": 1, "weights": {"a": {"file": "a", "sha256": "0", "size": 1, "kind": "", "licence": ""}}}',
        '{"format": 1, "weights": {"../a": {"file": "a", "sha256": "%s", "size": 1, "kind": "", "licence": ""}}}'
        % ("0" * 64),
    ],
)
def test_a_damaged_manifest_gets_a_sentence(shelves, content):
    shelves[1].mkdir()
    (shelves[1] / "manifest.json").write_text(content)
    with pytest.raises(TinctError, match=r"manifest.json: (damaged|written by a newer tinct)"):
        resolve("a", "colorizer")


def test_a_manifest_says_what_there_is_in_order(shelves, card, tmp_path):
    path = made(tmp_path / "a.safetensors")
    add("two", path, card, shelf=shelves[1], licence="MIT")
    add("one", path, None, shelf=shelves[1])
    content = json.loads((shelves[1] / "manifest.json").read_text())
    same = {"sha256": shipped.digest(path), "size": path.stat().st_size, "kind": "encoder"}
    assert content == {
        "format": 1,
        "weights": {
            "one": {"file": "one.safetensors", **same, "licence": "unknown"},
            "two": {"file": "two.safetensors", **same, "licence": "MIT", "card": "two.md"},
        },
    }
    assert list(content["weights"]) == ["one", "two"]


def test_fetch_from_a_folder_and_use(file, shelves, tmp_path):
    sha = shipped.digest(file)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "tiny.safetensors").write_bytes(file.read_bytes())
    given = ["fetch", "someone/tiny/deep/tiny.safetensors"]
    assert weights(given, revision="abc", sha256=sha.upper(), mirror=str(mirror)) == 0
    entry = entries()["tiny"]
    assert (entry.shelf, entry.kind, entry.sha256) == (shelves[1], "colorizer", sha)
    assert entry.hub == {"repo": "someone/tiny", "revision": "abc", "file": "deep/tiny.safetensors"}
    assert Colorizer.load("tiny", "cpu").size == 64
    entry.path.write_bytes(b"broken")
    assert weights(["fetch", "tiny"], mirror=str(mirror)) == 0  # its revision and hash are known now
    verify(entries()["tiny"])


def test_weights_that_ship_by_hash_only_are_fetched(file, card, shelves, tmp_path):
    entry = add("tiny", file, card, shelf=shelves[0])
    mirror = entry.path.rename(tmp_path / "tiny.safetensors").parent
    with pytest.raises(
        TinctError, match=r"tiny is not here, no file .*tiny.safetensors; run: tinct weights fetch tiny --mirror F"
    ):
        resolve("tiny", "colorizer")
    with pytest.raises(TinctError, match="no hub is known to have tiny; name a folder or address with --mirror"):
        weights(["fetch", "tiny"])
    assert weights(["fetch", "tiny"], mirror=str(mirror)) == 0
    assert resolve("tiny", "colorizer").parent == shelves[1]


@pytest.mark.parametrize("damage", ["changed", "cut", "longer", "absent"])
def test_a_broken_download_leaves_nothing(file, card, shelves, tmp_path, damage):
    entry = add("tiny", file, card, shelf=shelves[0])
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    content = entry.path.read_bytes()
    entry.path.unlink()
    broken = {"changed": content[:-1] + b"x", "cut": content[:-9], "longer": content + b"x"}
    if damage in broken:
        (mirror / "tiny.safetensors").write_bytes(broken[damage])
    message = {
        "changed": "is not what was asked for: its SHA-256",
        "cut": f"the file ends after {len(content) - 9} of the {len(content)} bytes that are expected",
        "longer": "longer than the",
        "absent": "no file",
    }[damage]
    with pytest.raises(TinctError, match=message):
        weights(["fetch", "tiny"], mirror=str(mirror))
    assert not shelves[1].exists() or not list(shelves[1].iterdir())


def test_what_is_fetched_must_be_weights(shelves, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"not weights")
    sha = shipped.digest(tmp_path / "a.safetensors")
    with pytest.raises(TinctError, match="cannot be read as safetensors"):
        weights(["fetch", "some/one/a.safetensors"], revision="1", sha256=sha, mirror=str(tmp_path))
    assert not list(shelves[1].iterdir())


def test_fetch_from_an_address(file, card, shelves, tmp_path):
    folder = tmp_path / "served"
    served = add("tiny", file, card, shelf=folder)
    add("tiny", file, card, shelf=shelves[0]).path.unlink()
    handler = lambda *args: Quiet(*args, directory=str(folder))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert weights(["fetch", "tiny"], mirror=f"{address}/") == 0
        assert resolve("tiny", "colorizer").parent == shelves[1]
        served.path.unlink()
        with pytest.raises(TinctError, match=r"tiny.safetensors answered 404"):
            weights(["fetch", "tiny"], mirror=address)
        server.shutdown()
    with pytest.raises(TinctError, match=r"tiny cannot be fetched: .*refused"):
        weights(["fetch", "tiny"], mirror=address)
    assert resolve("tiny", "colorizer")  # the one from before


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_the_hub_is_asked_for_revision_and_file(file, monkeypatch, tmp_path):
    asked = []

    def download(repo, name, *, revision, local_dir):
        asked.append((repo, name, revision))
        target = Path(local_dir) / "x.safetensors"
        target.write_bytes(file.read_bytes())
        return str(target)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    wanted = {"revision": "c0ffee", "sha256": shipped.digest(file), "licence": "MIT"}
    assert weights(["fetch", "some/one/w/tiny.safetensors"], **wanted) == 0
    assert resolve("tiny", "colorizer").read_bytes() == file.read_bytes()
    entry = entries()["tiny"]
    assert (entry.licence, entry.size) == ("MIT", file.stat().st_size)
    assert weights(["fetch", "tiny"]) == 0  # again, from where it came
    put(replace(entry, hub={"repo": "other/one", "revision": "beef"}))  # as manifests say it of a repository's top
    assert weights(["fetch", "tiny"]) == 0
    assert asked == [
        *[("some/one", "w/tiny.safetensors", "c0ffee")] * 2,
        ("other/one", "tiny.safetensors", "beef"),
    ]


def test_no_more_is_fetched_than_any_weights_have(tmp_path, monkeypatch, shelves):
    path = made(tmp_path / "a.safetensors")
    wanted = {"revision": "1", "sha256": shipped.digest(path), "mirror": str(tmp_path)}
    monkeypatch.setattr(fetching, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(TinctError, match=rf"longer than the {path.stat().st_size - 1} bytes that are expected"):
        weights(["fetch", "some/one/a.safetensors"], **wanted)
    monkeypatch.setattr(fetching, "MAX_BYTES", path.stat().st_size)
    assert weights(["fetch", "some/one/a.safetensors"], **wanted) == 0


def test_a_mirror_that_is_silent_is_given_up(monkeypatch, shelves):
    asked = []

    def opened(request, *, timeout):
        asked.append((request.full_url, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.urlopen", opened)
    with pytest.raises(TinctError, match="tiny cannot be fetched: timed out; try again, or another --mirror"):
        weights(["fetch", "a/b/tiny.safetensors"], revision="1", sha256="0" * 64, mirror="https://x.example/y/")
    assert asked == [("https://x.example/y/tiny.safetensors", fetching.TIMEOUT)]


def test_what_a_name_means_is_not_changed_by_fetching(tmp_path, shelves):
    path = made(tmp_path / "tiny.safetensors")
    add("tiny", path, None, shelf=shelves[1])
    for option in ({"revision": "1"}, {"sha256": "0" * 64}, {"licence": "MIT"}):
        with pytest.raises(TinctError, match="tiny's revision, hash and licence are in the manifest; leave"):
            weights(["fetch", "tiny"], mirror=str(tmp_path), **option)
    with pytest.raises(TinctError, match=r"tiny is here already, and no hub is known to have it"):
        weights(["fetch", "tiny"])
    words = ["fetch", "some/one/tiny.safetensors"]
    with pytest.raises(TinctError, match=r"tiny is the name of other weights already \(.*\); rename the file"):
        weights(words, revision="1", sha256="0" * 64, mirror=str(tmp_path))
    assert weights(words, revision="1", sha256=shipped.digest(path), mirror=str(tmp_path)) == 0


@pytest.mark.parametrize("error", [RuntimeError("xet"), EOFError()])
def test_whatever_a_hubs_client_raises_is_one_sentence(monkeypatch, shelves, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(TinctError, match=r"tiny cannot be fetched: (xet|EOFError); try again, or --mirror"):
        weights(["fetch", "some/one/tiny.safetensors"], revision="c0ffee", sha256="0" * 64)


@pytest.mark.parametrize(
    "changes",
    [
        *({"kind": 3}, {"size": "1"}, {"card": "../x"}, {"sha256": "0" * 65}),
        *({"hub": "x"}, {"hub": {"repo": "a/b"}}, {"hub": {"revision": "1"}}),
    ],
)
def test_a_manifest_of_other_kinds_is_damaged(file, shelves, changes):
    add("tiny", file, None, shelf=shelves[1])
    manifest = shelves[1] / "manifest.json"
    content = json.loads(manifest.read_text())
    content["weights"]["tiny"] |= changes
    manifest.write_text(json.dumps(content))
    with pytest.raises(TinctError, match=r"manifest.json: damaged \(.*'tiny'"):
        weights(["list"])


def test_names_and_licences_are_printed_as_they_are(file, shelves, capsys, tmp_path):
    place = tmp_path / "[old]" / "[/x]"
    assert weights(["add", "tiny", str(file)], licence="[/MIT]", shelf=place) == 0
    assert str(place) in capsys.readouterr().out
    assert weights(["list"], shelf=place) == 0
    assert "[/MIT]" in capsys.readouterr().out


def test_files_to_add_may_be_in_the_home_folder(file, card, shelves, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (file, card):
        shutil.copy(path, tmp_path / f"own-{path.name}")
    assert weights(["add", "tiny", f"~/own-{file.name}", f"~/own-{card.name}"], shelf=shelves[0]) == 0
    assert (shelves[0] / "tiny.safetensors").read_bytes() == file.read_bytes()


def test_a_hub_out_of_reach_gets_a_sentence(shelves):
    with pytest.raises(TinctError, match=r"^tiny cannot be fetched: ") as caught:
        weights(["fetch", "some/one/tiny.safetensors"], revision="c0ffee", sha256="0" * 64)
    assert "\n" not in str(caught.value)
    assert not list(shelves[1].iterdir())


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["frobnicate"], {}, "cannot do 'frobnicate'; expected list, verify"),
        (["list", "x"], {}, "cannot do"),
        (["verify", "x"], {}, "no weights are called 'x'"),
        (["fetch", "x"], {}, r"no weights are called 'x'; expected one of \(none yet\) or OWNER/REPO/FILE"),
        (["fetch", "a/b/c.safetensors"], {}, "needs --revision COMMIT and --sha256"),
        (["fetch", "a/b/c.safetensors"], {"revision": "1", "sha256": "12"}, "needs --revision COMMIT and --sha256"),
        (["list"], {"half": True}, "half is True, which list does not take; leave --half out"),
        (["verify"], {"mirror": "x"}, "mirror is x, which verify does not take"),
        (["fetch", "a/b/c.safetensors"], {"half": True}, "which fetch does not take"),
        (["add", "a", "b"], {"sha256": "12"}, "which add does not take"),
        (["frobnicate"], {"half": True}, "cannot do 'frobnicate'"),
        (["fetch", "a/b/random.safetensors"], {"revision": "1", "sha256": "0" * 64}, "--init random means others"),
        (["list"], {"shelf": Path("nowhere")}, "shelf is nowhere: no such folder"),
        (["verify"], {"shelf": Path("nowhere")}, "shelf is nowhere: no such folder"),
        (["fetch", "a/b/c.bin"], {"revision": "1", "sha256": "0" * 64}, "expected a .safetensors file"),
    ],
)
def test_mistakes_get_a_sentence(words, options, message):
    with pytest.raises(TinctError, match=message):
        weights(words, **options)


def test_the_list_says_size_and_place_and_of_what_is_not_here_how_to_get_it(tmp_path, shelves, capsys):
    entry = add("tiny", made(tmp_path / "a.safetensors"), None, shelf=shelves[1])
    put(replace(entry, name="absent", file="absent.safetensors", size=24_117_248))
    assert weights(["list"]) == 0
    lines = capsys.readouterr().out.replace("│", " ").splitlines()
    absent, tiny = (line.split() for line in lines if entry.sha256[:12] in line)
    assert absent[:3] == ["absent", "encoder", "24.1"]
    assert " ".join(absent[5:]).startswith("not here; tinct weights fetch absent --mirror")
    assert tiny == ["tiny", "encoder", "0.0", "unknown", entry.sha256[:12], str(entry.path)]


def test_add_halves_where_it_is_asked_to_and_no_whole_numbers(tmp_path, shelves):
    path = made(tmp_path / "a.safetensors", 0.1)
    for half, kind in ((True, torch.half), (False, torch.float)):
        assert weights(["add", "tiny", str(path)], half=half) == 0
        tensors, _ = read_weights(shelves[1] / "tiny.safetensors")
        assert tensors["a"].dtype == kind
        assert (tensors["n"].dtype, int(tensors["n"])) == (torch.long, 100_000)


def test_the_command_line(file, card, shelves, capsys):
    assert main(["weights", "list"]) == 0
    assert "no weights have names yet" in capsys.readouterr().out
    assert main(["weights", "verify"]) == 0
    assert main(["weights", "add", "tiny", str(file), str(card), "--licence", "MIT", "--shelf", str(shelves[0])]) == 0
    assert json.loads((shelves[0] / "manifest.json").read_text())["weights"]["tiny"]["licence"] == "MIT"
    assert main(["weights", "list"]) == 0
    assert "tiny" in capsys.readouterr().out
    assert main(["weights", "fetch", "nope"]) == 2
    assert capsys.readouterr().err.startswith("tinct weights: no weights are called 'nope'")


def test_nothing_but_fetch_asks_a_hub(file, card, shelves, monkeypatch):
    monkeypatch.setattr(fetching, "_from_hub", lambda *_: pytest.fail("asked the hub"))
    monkeypatch.delitem(sys.modules, "huggingface_hub", raising=False)
    add("tiny", file, card, shelf=shelves[0])
    weights(["list"])
    weights(["verify"])
    Colorizer.load("tiny", "cpu")
    with pytest.raises(TinctError):
        Colorizer.load("someone/tiny", "cpu")
    with pytest.raises(TinctError):
        Colorizer.load("other", "cpu")


def test_half_precision_halves_the_file_and_keeps_what_it_says(tmp_path, shelves):
    colour, path = Bins(), tmp_path / "run" / "colorizer.safetensors"
    torch.manual_seed(1)
    save_colorizer(path, Generator(Encoder("test_resnet"), colour.out_channels, 4, 16), colour, {"size": 64})
    entry = add("halved", path, None, half=True, shelf=shelves[0])
    assert entry.size == entry.path.stat().st_size < 0.52 * path.stat().st_size
    verify(entry)
    whole, half = load_colorizer(path), load_colorizer(resolve("halved", "colorizer"))
    assert half.meta == whole.meta
    l = torch.rand(1, 1, 64, 64) * 100
    assert torch.allclose(whole(l), half(l), atol=0.5)
    colour.weight[0] = 1e6
    save_colorizer(path, Generator(Encoder("test_resnet"), colour.out_channels, 4, 16), colour, {"size": 64})
    (tmp_path / "card.md").write_text("of the weights that do not fit")
    with pytest.raises(TinctError, match=r"colour\.weight does not fit into half precision"):
        add("halved", path, tmp_path / "card.md", half=True, shelf=shelves[0])
    verify(entries(shelves[0])["halved"])
    assert not (shelves[0] / "halved.md").exists()


def test_an_encoder_by_name_brings_what_it_saw(tmp_path, shelves):
    save_encoder(tmp_path / "run" / "encoder.safetensors", Encoder("test_resnet"), {})
    np.save(tmp_path / "run" / "seen.npy", np.arange(3, dtype=np.uint64))
    add("tiny-ssl", tmp_path / "run" / "encoder.safetensors", None, half=True, shelf=shelves[0])
    start = load_init("tiny-ssl")
    assert start.encoder.backbone == "test_resnet"
    assert start.seen is not None
    assert start.seen.tolist() == [0, 1, 2]
    (tmp_path / "run" / "seen.npy").unlink()
    add("tiny-ssl", tmp_path / "run" / "encoder.safetensors", None, half=True, shelf=shelves[0])
    assert load_init("tiny-ssl").seen is None


def test_the_working_size_follows_from_the_training_crops(tmp_path):
    colour, path = Bins(), tmp_path / "colorizer.safetensors"
    generator = Generator(Encoder("test_resnet"), colour.out_channels, 4, 8)
    for min_crop, size in ((0.5, 128), (1.0, 96)):
        save_colorizer(path, generator, colour, {"size": 96, "min_crop": min_crop})
        assert Colorizer.load(path, "cpu").size == size


def test_draws_repeat_differ_and_follow_the_distribution(file):
    network = load_colorizer(file)
    drawing = Sampling(network)
    l = torch.rand(2, 1, 64, 64) * 100
    assert torch.equal(drawing(l), network(l))
    assert torch.equal(drawing(l, seed=3), drawing(l, seed=3))
    assert not torch.equal(drawing(l, seed=3), drawing(l, seed=4))
    assert torch.allclose(drawing(l, seed=3)[:1], drawing(l[:1], seed=3), atol=1e-3)

    class Fixed(torch.nn.Module):
        def forward(self, l):
            logits = torch.full((1, network.colour.out_channels, 1, 1), -30.0)
            logits[:, 10], logits[:, 60] = 0.0, network.colour.decoding.temperature * float(np.log(3))
            return logits

    network.generator = Fixed()
    drawn = torch.stack([drawing(l, seed=seed)[0, :, 0, 0] for seed in range(400)])
    near = [(drawn - network.colour.centres[index]).norm(dim=1) for index in (10, 60)]
    share = (near[1] < near[0]).float().mean()
    assert 0.68 < share < 0.82  # 3/4, give or take three standard errors


@pytest.mark.parametrize(
    "name",
    ["format", "kind", "backbone", "in_channels", "chroma_stride", "width", "term", "size", "decoding", "min_crop"],
)
@pytest.mark.parametrize("value", [None, 0, 10**9, 7, 0.5, "x", [], {}])
def test_a_damaged_header_gets_a_sentence(file, tmp_path, name, value):
    header, body = taken_apart(file)
    header["tinct"] = {**header["tinct"], name: value}
    put_together(tmp_path / "a.safetensors", header, body)
    # an earlier format; a size that is raised to the least; what may well be said
    fine = (name, value) in (("format", 0), ("size", 7), ("decoding", {}), ("min_crop", 0.5))
    said = r"a.safetensors: |unknown|no backbone|in_channels|chroma_stride|size"
    with nullcontext() if fine else pytest.raises(TinctError, match=said):
        Colorizer.load(tmp_path / "a.safetensors", "cpu")


@pytest.mark.parametrize("said", [None, [], 3, "x"])
def test_a_header_of_another_shape_gets_a_sentence(file, tmp_path, said):
    header, body = taken_apart(file)
    put_together(tmp_path / "a.safetensors", {**header, "tinct": said}, body)
    with pytest.raises(TinctError, match="its header is damaged"):
        Colorizer.load(tmp_path / "a.safetensors", "cpu")


def test_a_header_that_is_all_brackets_gets_a_sentence(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"tinct": "[" * 100_000})
    with pytest.raises(TinctError, match="cannot be read as safetensors"):
        Colorizer.load(tmp_path / "a.safetensors", "cpu")


@pytest.mark.parametrize("length", [0, 1, 8, 9, 500, -1])
def test_a_cut_weights_file_gets_a_sentence(file, tmp_path, length):
    (tmp_path / "a.safetensors").write_bytes(file.read_bytes()[:length])
    with pytest.raises(TinctError, match="cannot be read as safetensors"):
        Colorizer.load(tmp_path / "a.safetensors", "cpu")


def taken_apart(path: Path) -> tuple[dict, dict]:
    with safe_open(path, framework="pt") as opened:
        return {"tinct": json.loads(opened.metadata()["tinct"])}, {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118


def put_together(path: Path, header: dict, tensors: dict) -> None:
    save_file(tensors, path, {"tinct": json.dumps(header["tinct"])})


def test_a_faded_picture_gets_the_colours_that_it_had():
    colorizer = Colorizer.load(SHIPPED / "tinct-small.safetensors", "cpu")
    grey = open_sources(["photos:"], "all").picture(2).mean(2) / 255
    (_, ab), (_, faded) = colorizer.coarse([Picture(grey), Picture(0.2 + 0.6 * grey)])
    assert (ab - faded).norm(dim=0).mean() < 0.2 * ab.norm(dim=0).mean()  # fed as they are: 0.9


def test_softness_does_not_make_the_colorizer_much_louder():
    colorizer, source = Colorizer.load(SHIPPED / "tinct-small.safetensors", "cpu"), open_sources(["photos:"], "all")
    chroma = []
    for deviation in (0, 0.01):  # of the short side
        greys = [gaussian(grey, deviation * min(grey.shape)) for grey in (source.picture(n).mean(2) for n in range(5))]
        found = colorizer.coarse([Picture(np.rint(grey).astype(np.uint8)) for grey in greys])
        chroma.append(np.mean([float(ab.norm(dim=0).mean()) for _, ab in found]))
    assert chroma[1] < 1.8 * chroma[0]  # before it learned from aged photographs: 2.0


def test_the_same_weights_are_the_same_bytes_which_safetensors_reads(tmp_path):
    tensors = {"b": torch.rand(2, 3, requires_grad=True).T, "a": torch.rand(5).half(), "n": torch.tensor(7)}
    said = {name: name * 3 for name in ("format", "tinct", "more", "and more")}
    files = {packed(tensors, said) for _ in range(20)}  # 24 orders, of which safetensors takes one by chance
    assert len(files) == 1
    assert int.from_bytes(next(iter(files))[:8], "little") % 8 == 0  # so that tensors may be mapped into memory
    (tmp_path / "one.safetensors").write_bytes(files.pop())
    with safe_open(tmp_path / "one.safetensors", framework="pt") as opened:
        assert opened.metadata() == said
        assert all(torch.equal(opened.get_tensor(key), value) for key, value in tensors.items())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bias": None}, "1 missing, 0 left over, 0 of another shape, the first being 'bias'"),
        ({"more": torch.ones(1)}, "0 missing, 1 left over, 0 of another shape, the first being 'more'"),
        ({"weight": torch.ones(3, 2)}, "0 missing, 0 left over, 1 of another shape, the first being 'weight'"),
    ],
)
def test_weights_are_loaded_whole_or_not_at_all(changes, said):
    module, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    tensors = {key: value for key, value in (other.state_dict() | changes).items() if value is not None}
    with pytest.raises(TinctError, match=f"x: its weights do not fit: {said}; check the backbone"):
        load_strict(module, tensors, Path("x"))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    load_strict(module, other.state_dict(), Path("x"))
    assert torch.equal(module.weight, other.weight)


def test_a_digest_is_of_all_that_an_encoder_computes_with():
    encoder = Encoder("test_resnet")
    digests = [weights_digest(encoder)]
    for tensor in (encoder.body.conv1[0].weight, encoder.body.bn1.running_var):
        tensor.data.flatten()[0] += 1
        digests.append(weights_digest(encoder))
    assert len({*digests}) == 3


def test_hashes_of_what_was_seen_stay_with_weights(shelves, card, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    save_encoder(run / "encoder.safetensors", Encoder("mobilenetv3_small_050"), {})
    write_weights(run / "colorizer.safetensors", {}, {"kind": "colorizer"})
    np.save(run / "seen.npy", np.arange(3, dtype=np.uint64))
    shelf = tmp_path / "shelf"
    assert np.load(add("painter", run / "colorizer.safetensors", None, shelf=shelf).seen).tolist() == [0, 1, 2]
    first = add("one", run / "encoder.safetensors", None, shelf=shelf)
    again = add("one", first.path, card, shelf=shelf)  # its own file, to give it a card
    other = add("two", first.path, None, shelf=shelf)
    np.save(shelf / "seen.npy", np.arange(9, dtype=np.uint64))  # of a run whose folder is a shelf as well
    third = add("three", first.path, None, shelf=shelf)
    for entry in (again, other, third):
        assert np.load(entry.seen).tolist() == [0, 1, 2]
    (run / "seen.npy").unlink()
    assert not add("one", run / "encoder.safetensors", None, shelf=shelf).seen.exists()  # not another encoder's


@pytest.mark.parametrize("kept", ["mirror", "shelf", "package"])
def test_what_is_fetched_keeps_its_card_and_what_it_saw(shelves, card, tmp_path, kept):
    run = tmp_path / "run"
    save_encoder(run / "encoder.safetensors", Encoder("mobilenetv3_small_050"), {})
    np.save(run / "seen.npy", np.arange(3, dtype=np.uint64))
    entry = add("one", run / "encoder.safetensors", card, shelf=shelves[0 if kept == "package" else 1])
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for path in (entry.path, entry.seen)[: 2 if kept == "mirror" else 1]:
        shutil.move(path, mirror)
    assert weights(["fetch", "one"], mirror=str(mirror)) == 0
    fetched = entries(shelves[1])["one"]
    assert fetched.card == ("" if kept == "package" else "one.md")
    start = load_init("one")
    assert start.seen is not None
    assert start.seen.tolist() == [0, 1, 2]


def test_other_weights_of_a_name_do_not_keep_what_those_before_saw(file, shelves, tmp_path):
    shelves[1].mkdir()
    np.save(shelves[1] / "colorizer.seen.npy", np.arange(3, dtype=np.uint64))
    words = ["fetch", "some/one/colorizer.safetensors"]
    assert weights(words, revision="1", sha256=shipped.digest(file), mirror=str(file.parent)) == 0
    assert not entries()["colorizer"].seen.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_entries_that_are_written_at_once_are_all_kept(tmp_path, monkeypatch):
    before = shipped._manifest

    def slow(shelf):
        known = before(shelf)
        time.sleep(0.05)
        return known

    monkeypatch.setattr(shipped, "_manifest", slow)
    wanted = [f"weights-{number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda name: put(Entry(name, "a", "0" * 64, 1, "encoder", "MIT", shelf=tmp_path / "shelf")), wanted
            )
        )
    assert sorted(entries(tmp_path / "shelf")) == wanted
    assert [path.name for path in (tmp_path / "shelf").iterdir()] == ["manifest.json"]

import csv
import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch

from tinct.cli import main
from tinct.data.decode import decode
from tinct.data.transforms import centre
from tinct.embed import embed
from tinct.exporting import row_store
from tinct.files import alone_in
from tinct.inits import load_init
from tinct.models.encoder import Encoder
from tinct.models.stem import network_input
from tinct.weights import load_encoder, save_encoder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_encoder(folder / "encoder.safetensors", Encoder("mobilenetv3_small_050"), {"size": 32})
    return folder


def expected(run, pictures, pool, layer):
    """Each picture alone, by the parts that `embed` is made of."""
    encoder = load_encoder(run / "encoder.safetensors")[0].eval()
    rows = []
    for path in sorted(pictures.glob("*.png")):
        pixels = torch.tensor(centre(decode(path), 96)).permute(2, 0, 1)[None]
        with torch.no_grad():
            found = encoder(network_input(pixels, "grey"))[layer]
        parts = {"avg": [found.mean((2, 3))], "max": [found.amax((2, 3))]}
        rows.append(torch.cat(parts.get(pool) or parts["avg"] + parts["max"], dim=1)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("pool", "layer"), [("avg", -1), ("max", -1), ("avgmax", 1)])
def test_a_row_for_each_picture(run, colourful, tmp_path, pool, layer, capsys):
    words = ["embed", str(run), str(colourful), "-o", str(tmp_path / "f.npy"), "--batch-size", "5"]
    assert main([*words, "--pool", pool, "--layer", str(layer)]) == 0
    rows = np.load(tmp_path / "f.npy", allow_pickle=False)
    assert rows.dtype == np.float32
    assert np.allclose(rows, expected(run, colourful, pool, layer), atol=1e-5)
    assert (tmp_path / "f.npy.txt").read_text().split() == [f"{number:04d}.png" for number in range(12)]
    assert "12 rows" in capsys.readouterr().err
    said = json.loads((tmp_path / "f.npy.json").read_text())
    assert (said["rows"], said["pool"], said["layer"], said["size"], said["skipped"]) == (
        12,
        pool,
        layer,
        96,
        [],
    )  # pretrained at 32 px
    assert not (tmp_path / "f.npy.partial").exists()


def test_files_beside_the_result_are_not_replaced(run, colourful, tmp_path, capsys):
    for suffix in (".txt", ".json"):
        beside = tmp_path / f"f.npy{suffix}"
        beside.write_text("mine")
        assert main(["embed", str(run), str(colourful), "-o", str(tmp_path / "f.npy")]) == 2
        assert f"{beside} exists; choose another name" in capsys.readouterr().err
        assert beside.read_text() == "mine"
        beside.unlink()
    (tmp_path / "f.csv.txt").write_text("mine")
    assert main(["embed", str(run), str(colourful), "-o", str(tmp_path / "f.csv")]) == 0
    (tmp_path / "f.csv").unlink()
    (tmp_path / "f.csv.partial").mkdir()  # as where it was killed at its end
    assert main(["embed", str(run), str(colourful), "-o", str(tmp_path / "f.csv")]) == 0
    assert (tmp_path / "f.csv.txt").read_text() == "mine"


def test_an_encoder_that_saw_colour_is_fed_it(colourful, tmp_path):
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder.safetensors", Encoder("test_resnet", 3), {"size": 32, "in_colour": 0.5})
    rows = {}
    for asked in ([], ["--input", "rgb"], ["--input", "grey"]):
        out = tmp_path / f"{len(rows)}.npy"
        assert main(["embed", str(tmp_path / "encoder.safetensors"), str(colourful), "-o", str(out), *asked]) == 0
        rows["".join(asked)] = np.load(out)
    assert np.array_equal(rows[""], rows["--inputrgb"])
    assert not np.allclose(rows[""], rows["--inputgrey"], atol=1e-3)


@pytest.mark.parametrize(("pretrained", "fed"), [({"size": 64}, 96), ({"size": 160}, 160), ({}, 224)])
def test_the_size_is_at_least_what_transfers_take(colourful, tmp_path, pretrained, fed):
    save_encoder(tmp_path / "encoder.safetensors", Encoder("mobilenetv3_small_050"), pretrained)
    before = torch.random.get_rng_state()
    assert embed(str(tmp_path), [str(colourful)], out=tmp_path / "f.npy") == 0
    assert torch.equal(torch.random.get_rng_state(), before)  # the caller's numbers go on as they were
    assert json.loads((tmp_path / "f.npy.json").read_text())["size"] == fed


def test_torchs_defaults_change_nothing(run, colourful, tmp_path, request):
    embed(str(run), [str(colourful)], out=tmp_path / "usual.npy", input="rgb")
    request.getfixturevalue("odd_defaults")
    embed(str(run), [str(colourful)], out=tmp_path / "odd.npy", input="rgb")
    assert np.array_equal(np.load(tmp_path / "odd.npy"), np.load(tmp_path / "usual.npy"))


def test_names_with_ends_of_lines_have_a_line_each(tmp_path):
    store = row_store.Store(tmp_path / "f.npy", width=1, batch=2, total=2)
    store.folder.mkdir()
    store.open({})
    store.append(["a\rb.png", "c\nd.png"], [np.zeros(1, np.uint8)] * 2, np.zeros((2, 1), np.float32))
    store.finish({})
    assert (tmp_path / "f.npy.txt").read_text() == "a\\rb.png\nc\\nd.png\n"


def test_csv_has_the_same_numbers(run, colourful, tmp_path):
    for name in ("f.npy", "f.csv"):
        assert embed(str(run), [str(colourful)], out=tmp_path / name, batch_size=4) == 0
    assert b"\r" not in (tmp_path / "f.csv").read_bytes()
    table = list(csv.reader((tmp_path / "f.csv").open()))
    rows = np.load(tmp_path / "f.npy")
    assert table[0] == ["path", *(f"f{column}" for column in range(rows.shape[1]))]
    assert np.array_equal(np.array([row[1:] for row in table[1:]], np.float32), rows)
    assert table[3][0] == "0002.png"


def test_paths_of_two_folders_begin_with_them(run, colourful, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(colourful, tmp_path / "others")
    assert embed(str(run), ["pictures", "others"], out=tmp_path / "f.npy") == 0
    named = (tmp_path / "f.npy.txt").read_text().split()
    assert named[:2] + named[12:14] == ["pictures/0000.png", "pictures/0001.png", "others/0000.png", "others/0001.png"]


def test_parquet(run, colourful, tmp_path):
    if importlib.util.find_spec("pyarrow") is None:
        assert main(["embed", str(run), str(colourful), "-o", str(tmp_path / "f.parquet")]) == 2
        assert not list(tmp_path.glob("f*"))
        return
    from pyarrow.parquet import read_table

    for name in ("f.npy", "f.parquet"):
        embed(str(run), [str(colourful)], out=tmp_path / name, batch_size=4)
    table = read_table(tmp_path / "f.parquet")
    assert table.column_names == ["path", "vector"]
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), np.load(tmp_path / "f.npy"))
    assert table["path"].to_pylist()[-1] == "0011.png"


def test_without_pyarrow_it_says_what_to_install(run, colourful, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["embed", str(run), str(colourful), "-o", str(tmp_path / "f.parquet")]) == 2
    assert "pip install 'tinct[parquet]'" in capsys.readouterr().err


def test_bad_pictures_are_named_counted_and_skipped(run, colourful, tmp_path, capsys):
    (colourful / "0001.png").write_bytes(b"no picture")
    (colourful / "0011.png").write_bytes(b"")
    assert embed(str(run), [str(colourful)], out=tmp_path / "f.npy", batch_size=5) == 1
    said = capsys.readouterr().err
    assert "0001.png" in said
    assert "pictures skipped: 2" in said
    names = (tmp_path / "f.npy.txt").read_text().split()
    assert len(names) == 10
    assert "0001.png" not in names
    whole = np.array([int(name[:4]) for name in names])
    for index in (1, 11):
        (colourful / f"{index:04d}.png").unlink()
    assert np.allclose(np.load(tmp_path / "f.npy"), expected(run, colourful, "avg", -1), atol=1e-5)
    assert whole.tolist() == [0, *range(2, 11)]
    assert len(json.loads((tmp_path / "f.npy.json").read_text())["skipped"]) == 2


@pytest.mark.parametrize("torn", [0, 7])
def test_interrupted_anywhere_and_called_again_it_is_the_same(run, colourful, tmp_path, monkeypatch, torn, capsys):
    (colourful / "0003.png").write_bytes(b"no picture")
    embed(str(run), [str(colourful)], out=tmp_path / "whole.npy", batch_size=4)
    append = row_store.Store.append

    def stop_at_the_third(store, names, squares, rows):
        if names[0] == "0008.png":
            with store.vectors.open("ab") as file:  # killed in the middle of writing
                file.write(bytes(torn))
            with store.lines.open("ab") as file:
                file.write(b'"00'[: torn and 3])
            raise KeyboardInterrupt
        append(store, names, squares, rows)

    with monkeypatch.context() as patched:
        patched.setattr(row_store.Store, "append", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt, match="interrupted; the same command goes on from there"):
            embed(str(run), [str(colourful)], out=tmp_path / "f.npy", batch_size=4)
    assert not (tmp_path / "f.npy").exists()
    capsys.readouterr()
    assert embed(str(run), [str(colourful)], out=tmp_path / "f.npy", batch_size=4) == 1
    assert "pictures done already: 8 of 12" in capsys.readouterr().err
    for suffix in ("", ".txt"):
        assert (tmp_path / f"f.npy{suffix}").read_bytes() == (tmp_path / f"whole.npy{suffix}").read_bytes()


def test_a_begun_file_goes_on_with_the_same_settings_only(run, colourful, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        patched.setattr(row_store.Store, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            embed(str(run), [str(colourful)], out=tmp_path / "f.npy")
    words = ["embed", str(run), str(colourful), "-o", str(tmp_path / "f.npy")]
    assert main([*words, "--pool", "max"]) == 2
    assert "begun with another pool" in capsys.readouterr().err
    shutil.copytree(colourful, tmp_path / "others")
    assert main([*words[:2], str(tmp_path / "others"), *words[3:]]) == 2
    assert "begun with another source" in capsys.readouterr().err
    path = tmp_path / "f.npy.partial" / "how.json"
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | {"further": None}))
    assert main(words) == 2
    assert "begun with another version of tinct" in capsys.readouterr().err
    path.write_text(before)
    assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "f.txt"), "expected a file ending in .npy"),
        (("-o", "f.npy", "--layer", "9"), "layer is 9; mobilenetv3_small_050 has 5"),
        (("-o", "f.npy", "--size", "50"), "multiple of 32"),
        (("-o", "f.npy", "--size", "0"), "size is 0; expected a multiple of 32"),
        (("-o", "f.npy", "--batch-size", "0"), "at least 1"),
        (("-o", "f.npy", "--device", "nowhere"), "no device nowhere"),
    ],
)
def test_mistakes_are_named(run, colourful, tmp_path, monkeypatch, words, message, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", str(run), str(colourful), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("f.*"))


def test_what_is_there_is_kept(run, colourful, tmp_path):
    (tmp_path / "f.npy").write_bytes(b"mine")
    assert main(["embed", str(run), str(colourful), "-o", str(tmp_path / "f.npy")]) == 2
    assert (tmp_path / "f.npy").read_bytes() == b"mine"


def test_two_at_once_do_not_mix_their_rows(run, colourful, tmp_path, capsys):
    with alone_in(tmp_path / "rows.npy.partial"):
        assert main(["embed", str(run), str(colourful), "--out", str(tmp_path / "rows.npy")]) == 2
    assert "rows.npy.partial is being written by another process" in capsys.readouterr().err


def test_what_another_process_finished_meanwhile_is_kept(run, colourful, tmp_path, monkeypatch, capsys):
    def slow(*words, **options):
        (tmp_path / "rows.npy").write_bytes(b"theirs")  # ended since this one began
        return load_init(*words, **options)

    monkeypatch.setattr("tinct.embed.load_init", slow)
    assert main(["embed", str(run), str(colourful), "--out", str(tmp_path / "rows.npy")]) == 2
    assert "rows.npy exists; choose another name or remove it" in capsys.readouterr().err
    assert not (tmp_path / "rows.npy.partial").exists()
    assert (tmp_path / "rows.npy").read_bytes() == b"theirs"

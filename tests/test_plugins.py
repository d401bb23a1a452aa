import json
import multiprocessing
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from tinct.cli import main
from tinct.data.sources import is_labelled, open_labelled, open_sources
from tinct.errors import AbsentSplitError, PictureError, TinctError
from tinct.objectives import ColourTerm, make_terms
from tinct.plugins import brought

EXTEND = Path(__file__).parent.parent / "docs" / "extend.md"


def blocks(language: str) -> list[str]:
    """What docs/extend.md shows in a language."""
    return [part.split("```")[0] for part in EXTEND.read_text().split(f"```{language}\n")[1:]]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Install a package: a module, and the lines that its pyproject.toml has under `project.entry-points`."""

    def install(module: str, **groups: dict[str, str]) -> None:
        folder = tmp_path / "site"
        info = folder / "my_colours-0.1.dist-info"
        info.mkdir(parents=True)
        (folder / "my_colours.py").write_text(module)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-colours\nVersion: 0.1\n")
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[tinct.{group}]", *(f"{name} = {value}" for name, value in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(folder)
        brought.cache_clear()

    yield install
    monkeypatch.undo()
    sys.modules.pop("my_colours", None)
    brought.cache_clear()


@pytest.fixture
def as_in_the_docs(package):
    """The package of docs/extend.md, whole."""
    import tomllib

    declared = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
    package("\n".join(blocks("python")), **{group.removeprefix("tinct."): lines for group, lines in declared.items()})


def test_what_the_docs_bring_trains_and_colours(as_in_the_docs, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for name in ("astronaut", "coffee", "chelsea", "rocket"):
            Image.fromarray(getattr(data, name)()[::4, ::4]).save(tmp_path / "one.png")
            archive.write(tmp_path / "one.png", f"{name}.png")
    run = tmp_path / "run"
    small = {"steps": 2, "batch-size": 2, "size": 32, "width": 8, "workers": 0, "held-out": "photos:", "out": run}
    options = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    terms = ["--recipe", "l1", "--terms", "{charbonnier: 1.0, rotation: 0.5}"]
    assert main(["pretrain", f"zip:{tmp_path / 'photos.zip'}", *terms, *options]) == 0
    record = json.loads((run / "record.json").read_text())
    assert record["config"]["terms"] == {"charbonnier": 1.0, "rotation": 0.5}
    assert record["versions"]["my-colours"] == "0.1"
    assert main(["colorize", str(tmp_path / "one.png"), "-o", str(tmp_path / "out.png"), "--model", str(run)]) == 0
    assert Image.open(tmp_path / "out.png").size == Image.open(tmp_path / "one.png").size
    assert main(["card", str(run)]) == 0
    assert "# resnet18: Rotation and charbonnier pretraining" in capsys.readouterr().out


def test_without_its_package_a_colorizer_says_what_it_lacks(as_in_the_docs, tmp_path, monkeypatch, capsys):
    from tinct.models.encoder import Encoder
    from tinct.models.generator import Generator
    from tinct.weights import save_colorizer

    term, _ = make_terms({"charbonnier": 1.0}, [64])
    assert isinstance(term, ColourTerm)
    path = tmp_path / "colorizer.safetensors"
    save_colorizer(path, Generator(Encoder("resnet18", 1), 2, 4, 8), term, {"size": 64})
    monkeypatch.setattr("tinct.objectives.brought", lambda group: {})
    Image.fromarray(data.coffee()[::8, ::8]).save(tmp_path / "in.png")
    assert main(["colorize", str(tmp_path / "in.png"), "-o", str(tmp_path / "out"), "--model", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{path}: unknown term 'charbonnier'" in said
    assert "or install the package that brings it" in said


def test_sources_of_others_are_opened_by_their_prefix(as_in_the_docs, tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("fox-deer-1.png", "deer-2.png"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / "train" / name)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "train" / "deer-2.png", "deer.png")
    labelled = open_labelled(f"named:{tmp_path}", "train", "multilabel")
    assert (labelled.classes, labelled.labels().tolist()) == (("fox", "deer"), [[0, 1], [1, 1]])
    assert [is_labelled(f"{kind}:x") for kind in ("named", "zip", "voc", "none")] == [True, False, True, False]
    joined = open_sources([f"zip:{tmp_path / 'a.zip'}", f"named:{tmp_path}"])
    assert (len(joined), joined.name(0)) == (3, "deer.png")
    assert np.array_equal(joined.picture(0), np.full((30, 40, 3), (255, 0, 0)))
    with pytest.raises(AbsentSplitError, match="has no val split for multilabel"):
        open_labelled(f"named:{tmp_path}", "val", "multilabel")
    with pytest.raises(TinctError, match=r"zip:none\.zip: .*No such file.*expected a zip file of pictures"):
        open_sources(["zip:none.zip"])
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(AbsentSplitError, match=r"empty\.zip: no pictures of the train split in it"):
        open_sources([f"zip:{tmp_path / 'empty.zip'}"])
    with pytest.raises(TinctError, match=r"zap: is no kind of source; the kinds are photos:, voc:.*, zip:, named:"):
        open_sources(["zap:x"])


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_file_is_read_once_and_a_damaged_picture_in_it_is_passed_over(
    as_in_the_docs, tmp_path, monkeypatch, compression
):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        for number in range(3):
            Image.new("RGB", (40, 30), (number, 0, 0)).save(tmp_path / "one.bmp")
            archive.write(tmp_path / "one.bmp", f"{number}.bmp")
        place = archive.getinfo("1.bmp").header_offset + 40  # where its bytes have begun
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[place] ^= 255
    (tmp_path / "a.zip").write_bytes(content)
    source = open_sources([f"zip:{tmp_path / 'a.zip'}"])
    read, table = [], zipfile.ZipFile._RealGetContents
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", lambda self: read.append(self) or table(self))
    assert [int(source.picture(index)[0, 0, 0]) for index in (0, 2)] == [0, 2]
    with pytest.raises(PictureError, match="damaged in the zip file"):
        source.picture(1)
    assert np.array_equal(pickle.loads(pickle.dumps(source)).picture(2), source.picture(2))
    with multiprocessing.get_context("fork").Pool(1) as pool:  # which has no use for its parent's handle
        assert np.array_equal(pool.apply(source.picture, (2,)), source.picture(2))
    assert len(read) == 1


TERM = "from tinct.objectives.base import ColourTerm\nclass Mine(ColourTerm):\n    pass\n"
WHOLE = TERM + "    loss = decode = lambda *_: 0\n"


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        (
            "mine",
            "import nothing_like_this",
            "cannot be imported .ModuleNotFoundError: .*; mend or uninstall my-",
        ),
        ("mine", "Other = 1", "Mine cannot be imported .AttributeError"),
        ("mine", "Mine = int", "Mine is no class that derives from ColourTerm or FeatureTerm; mend or uninstall my-"),
        ("mine", "def Mine(): pass", "Mine is no class that derives from ColourTerm or FeatureTerm"),
        ("mine", TERM, "Mine lacks decode, loss; mend"),
        ("mine", WHOLE, "term 'mine': its class has the name None; expected one for both"),
        (
            "mine",
            "from tinct.objectives.pixel import L1 as Mine",
            "term 'mine': its class has the name 'l1'; expected one",
        ),
        *(
            (name, f"{WHOLE}    name = {name!r}\n", f"term '{name}': tinct or torch calls something else so; rename it")
            for name in ("adversarial", "discriminator", "discriminator_accuracy", "type", "training", "keys")
        ),
        ("my.own", WHOLE + "    name = 'my.own'\n", "expected one for both: letters, digits, _"),
    ],
)
def test_what_cannot_be_a_term_is_refused_when_it_is_named(package, name, module, said):
    package(module, terms={name: "my_colours:Mine"})
    assert make_terms({"l1": 1.0}, [64])[0] is not None  # what nobody asks for does no harm
    with pytest.raises(TinctError, match=said):
        make_terms({name: 1.0}, [64])


def test_a_name_that_two_packages_bring_is_refused(package, tmp_path):
    package(WHOLE + "    name = 'mine'\n", terms={"mine": "my_colours:Mine"})
    shutil.copytree(tmp_path / "site" / "my_colours-0.1.dist-info", other := tmp_path / "site" / "other-2.0.dist-info")
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n")
    brought.cache_clear()
    with pytest.raises(TinctError, match=r"mine: is brought by (my-colours and other|other and my-colours); uninstall"):
        make_terms({"mine": 1.0}, [64])


def test_two_terms_that_colour_are_named(as_in_the_docs):
    with pytest.raises(TinctError, match=r"at most one that makes a colorizer \(here charbonnier, l1\)"):
        make_terms({"charbonnier": 1.0, "l1": 1.0}, [64])


@pytest.mark.parametrize("length", [3, 2])
def test_groups_of_other_packages_may_be_texts(package, tmp_path, length):
    named = "super().__init__(names, root"
    groups = f'names = list(names)\n        self.groups = [name.partition("-")[2] for name in names][:{length}]'
    module = blocks("python")[2].replace(named, f"{groups}\n        {named}")
    package(module, sources={"named": "my_colours:Named"})
    (tmp_path / "train").mkdir()
    for name in ("fox-b.png", "deer-a.png", "fox-a.png"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / "train" / name)
    if length == 3:  # in the order of their names
        assert open_labelled(f"named:{tmp_path}", "train", "multilabel").groups.tolist() == [0, 0, 1]
    else:
        with pytest.raises(TinctError, match="2 groups for 3 pictures; expected one for each"):
            open_labelled(f"named:{tmp_path}", "train", "multilabel")
    with pytest.raises(TinctError, match=r"not a labelled source; write voc:.*, named:…"):
        open_labelled("nothing:x", "train", "multilabel")


def test_tincts_own_names_come_first(package):
    package("raise RuntimeError", terms={"l1": "my_colours:Mine"}, sources={"voc": "my_colours:Mine"})
    assert type(make_terms({"l1": 1.0}, [64])[0]).__module__ == "tinct.objectives.pixel"
    with pytest.raises(TinctError, match="no VOC in it"):
        open_labelled("voc:/nowhere", "train", "multilabel")

import multiprocessing
import pickle

import numpy as np
import pytest
from conftest import write_colourful
from PIL import Image

from tinct.data.cache import _TRAILER, CachedSource
from tinct.data.folder import open_folder
from tinct.data.photos import photographs
from tinct.data.sources import open_sources
from tinct.errors import PictureError, TinctError


@pytest.fixture
def folder(tmp_path):
    """Six pictures of several shapes, of which 2 is cut short and 4 is smaller than the cache's side."""
    path = tmp_path / "pictures"
    path.mkdir()
    cat = Image.fromarray(photographs()["cat"])
    for index, size in enumerate([(90, 60), (60, 90), (80, 80), (240, 61), (30, 20), (200, 150)]):
        cat.resize(size).save(path / f"{index}.png")
    content = (path / "2.png").read_bytes()
    (path / "2.png").write_bytes(content[: len(content) // 2])
    return path


def source_of(folder):
    return open_folder(str(folder))


def test_pictures_are_the_sources_made_small(folder, tmp_path):
    source = source_of(folder)
    cached = CachedSource(source, tmp_path / "cache", 50)
    assert len(cached) == 6
    assert cached.name(3) == source.name(3)
    assert cached.fingerprint() == source.fingerprint()
    assert (cached.spec, cached.split) == (source.spec, source.split)
    shapes = {0: (50, 75, 3), 1: (75, 50, 3), 3: (50, 197, 3), 4: (20, 30, 3), 5: (50, 67, 3)}
    for index, shape in shapes.items():
        picture = cached.picture(index, 10)
        assert picture.shape == shape
        assert picture.flags.writeable
        full = source.picture(index)
        expected = Image.fromarray(full).resize(shape[1::-1], Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(picture, full if index == 4 else np.asarray(expected))
    with pytest.raises(PictureError) as now:
        source.picture(2)
    with pytest.raises(PictureError) as remembered:
        cached.picture(2)
    assert "2.png" in str(now.value)
    assert str(remembered.value) == str(now.value)


def test_a_second_opening_reads_what_the_first_wrote(folder, tmp_path):
    first = CachedSource(source_of(folder), tmp_path, 50)
    before = first.path.stat()
    again = CachedSource(source_of(folder), tmp_path, 50)
    assert again.path.stat().st_mtime_ns == before.st_mtime_ns
    np.testing.assert_array_equal(again.picture(5), first.picture(5))
    other = CachedSource(source_of(folder), tmp_path, 40)
    assert other.path != first.path
    assert len(list(tmp_path.glob("*.pixels"))) == 2


def test_processes_give_the_same_file_as_one(tmp_path):
    path = tmp_path / "many"
    path.mkdir()
    for index in range(70):
        Image.new("RGB", (9 + index % 5, 8), (index, 0, 0)).save(path / f"{index:02}.png")
    one = CachedSource(source_of(path), tmp_path / "one", 4, processes=1)
    two = CachedSource(source_of(path), tmp_path / "two", 4, processes=2)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert [int(two.picture(index)[0, 0, 0]) for index in range(70)] == list(range(70))


def test_it_travels_to_other_processes_without_its_pixels(folder, tmp_path):
    cached = CachedSource(source_of(folder), tmp_path, 50)
    packed = pickle.dumps(cached)
    assert len(packed) < 2000
    np.testing.assert_array_equal(pickle.loads(packed).picture(0), cached.picture(0))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(cached.picture, (5,)), cached.picture(5))


def test_an_interrupted_build_leaves_nothing(folder, tmp_path, monkeypatch):
    source = source_of(folder)
    original = source.picture

    def interrupted(index, min_side=None):
        if index == 3:
            raise KeyboardInterrupt
        return original(index, min_side)

    monkeypatch.setattr(source, "picture", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CachedSource(source, tmp_path / "cache", 50, processes=1)
    assert list((tmp_path / "cache").iterdir()) == []
    assert CachedSource(source_of(folder), tmp_path / "cache", 50).picture(3).shape == (50, 197, 3)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_file_that_is_not_whole_is_built_again(folder, tmp_path, keep):
    cached = CachedSource(source_of(folder), tmp_path, 50)
    expected = cached.picture(5)
    content = cached.path.read_bytes()
    cached.path.write_bytes(content[:keep])
    np.testing.assert_array_equal(CachedSource(source_of(folder), tmp_path, 50).picture(5), expected)
    assert cached.path.read_bytes() == content


def test_a_damaged_list_of_bad_pictures_is_built_again(folder, tmp_path):
    cached = CachedSource(source_of(folder), tmp_path, 50)
    content = cached.path.read_bytes()
    for wrong in (b"\0", b"\xff"):
        damaged = bytearray(content)
        damaged[-_TRAILER.size - 1 : -_TRAILER.size] = wrong
        cached.path.write_bytes(damaged)
        CachedSource(source_of(folder), tmp_path, 50)
        assert cached.path.read_bytes() == content


def test_a_damaged_table_of_sizes_is_built_again(folder, tmp_path):
    cached = CachedSource(source_of(folder), tmp_path, 50)
    content = cached.path.read_bytes()
    place = cached._pixels.size + 8 * 5  # of the last picture's height
    cached.path.write_bytes(content[:place] + b"\x7f" + content[place + 1 :])
    CachedSource(source_of(folder), tmp_path, 50)
    assert cached.path.read_bytes() == content


def test_pictures_that_changed_under_their_names_are_noticed(folder, tmp_path, monkeypatch):
    CachedSource(source_of(folder), tmp_path / "cache", 50)
    Image.new("RGB", (60, 60), "red").save(folder / "0.png")
    build = CachedSource._build

    def unmapped(self, processes):
        assert not isinstance(self._pixels, np.memmap)  # Windows replaces no file that is mapped
        build(self, processes)

    monkeypatch.setattr(CachedSource, "_build", unmapped)
    assert CachedSource(source_of(folder), tmp_path / "cache", 50).picture(0)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("joined", [False, True])
def test_a_file_among_many_that_was_written_anew_is_noticed(tmp_path, joined):
    folders = [tmp_path / "one", tmp_path / "two"][: 1 + joined]
    for folder in folders:
        write_colourful(folder, 30)
    CachedSource(open_sources(folders), tmp_path / "cache", 20)
    Image.new("RGB", (60, 60), "red").save(folders[-1] / "0017.png")  # neither of those that are looked at
    again = CachedSource(open_sources(folders), tmp_path / "cache", 20)
    assert again.picture(len(again) - 13)[0, 0].tolist() == [255, 0, 0]


def test_a_cache_stays_while_files_vanish_and_is_not_compared_again_by_workers(tmp_path, monkeypatch):
    write_colourful(tmp_path / "all", 30)
    source = source_of(tmp_path / "all")
    cached = CachedSource(source, tmp_path / "cache", 20)
    for number in range(0, 30, 2):
        (tmp_path / f"all/{number:04}.png").unlink()
    monkeypatch.setattr(CachedSource, "_build", None)
    again = CachedSource(source, tmp_path / "cache", 20)
    assert [again.stamp(index) for index in range(30)] == [cached.stamp(index) for index in range(30)]
    Image.new("RGB", (60, 60), "red").save(tmp_path / "all/0017.png")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cached)).picture(17), cached.picture(17))


def test_a_file_from_the_year_30000(tmp_path, monkeypatch):
    write_colourful(tmp_path / "all", 3)
    source = source_of(tmp_path / "all")
    monkeypatch.setattr(source, "stamp", lambda index: (884541600 * 10**12 + index, 9))
    first = CachedSource(source, tmp_path / "cache", 20, processes=1)
    monkeypatch.setattr(CachedSource, "_build", None)
    assert CachedSource(source, tmp_path / "cache", 20).stamp(2) == first.stamp(2)


def test_a_picture_that_was_repaired_is_taken(folder, tmp_path):
    with pytest.raises(PictureError):
        CachedSource(source_of(folder), tmp_path / "cache", 50).picture(2)
    Image.new("RGB", (80, 80), "red").save(folder / "2.png")
    assert CachedSource(source_of(folder), tmp_path / "cache", 50).picture(2)[0, 0].tolist() == [255, 0, 0]


def test_the_cache_outlives_the_files(folder, tmp_path):
    source = source_of(folder)
    expected = CachedSource(source, tmp_path / "cache", 50).picture(5)
    for path in folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(CachedSource(source, tmp_path / "cache", 50).picture(5), expected)


def test_a_set_without_one_good_picture(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.jpg").write_bytes(b"no picture")
    cached = CachedSource(source_of(tmp_path / "bad"), tmp_path, 50)
    with pytest.raises(PictureError, match=r"x.jpg: not a picture"):
        cached.picture(0)


def test_mistakes_are_named(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TinctError, match=r"cannot write .*File exists; choose another folder"):
        CachedSource(source_of(folder), tmp_path / "file", 50)

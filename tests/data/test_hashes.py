import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data as photographs

from tinct.data import hashes as module
from tinct.data.decode import decode
from tinct.data.hashes import dhash, near, near_pairs


def bits(a, b):
    return bin(int(a) ^ int(b)).count("1")


def test_the_hash_is_the_sign_of_horizontal_steps():
    ramp = np.repeat(np.arange(9, dtype=np.uint8)[None, :, None] * 20, 8, 0).repeat(3, 2)
    assert dhash(ramp) == np.uint64(2**64 - 1)
    assert dhash(ramp[:, ::-1]) == 0
    one = np.zeros((8, 9, 3), np.uint8)
    one[0, 1] = 200
    assert dhash(one) == np.uint64(1 << 63)
    assert dhash(one).dtype == np.uint64


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_a_copy_stays_near_and_a_mirror_image_does_not(name, tmp_path):
    rgb = getattr(photographs, name)()
    image = Image.fromarray(rgb)
    image.resize((170, 120)).save(tmp_path / "copy.jpg", quality=40)
    assert bits(dhash(rgb), dhash(decode(tmp_path / "copy.jpg"))) <= module.DISTANCE
    assert bits(dhash(rgb), dhash(rgb[:, ::-1])) > 2 * module.DISTANCE


hash_lists = st.lists(st.integers(0, 2**64 - 1), max_size=12)


@settings(max_examples=30, deadline=None)
@given(hash_lists, hash_lists, st.integers(0, 64), st.sampled_from([1, 7, 1 << 20]), st.sampled_from([0, 3, 16]))
def test_the_search_agrees_with_counting_one_by_one(first, second, distance, together, few):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TOGETHER", together)  # few at a time, or all with all
        patch.setattr(module, "_FEW", few)
        patch.setattr(module, "DISTANCE", distance)
        check_search(first, second, distance)


def check_search(first, second, distance):
    a, b = np.array(first, np.uint64), np.array(second, np.uint64)
    pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if bits(a[i], b[j]) <= distance]
    assert near_pairs(a, b).tolist() == [list(pair) for pair in pairs]
    assert near(a, b).tolist() == [any(i == p for p, _ in pairs) for i in range(len(a))]
    firsts = [i for i in range(len(a)) if a[i] not in a[:i]]
    own = [[i, j] for i in firsts for j in range(i + 1, len(a)) if bits(a[i], a[j]) <= distance]
    own = [[i, j] for i, j in own if j in firsts or a[i] == a[j]]
    assert near_pairs(a).tolist() == own


def test_planted_copies_are_found_among_many(monkeypatch):
    values = np.random.default_rng(0).integers(0, 2**64, 9000, dtype=np.uint64)
    values[8999] = values[3] ^ np.uint64(0b1011)
    values[4100] = values[4090] ^ np.uint64(0b11111)
    assert near_pairs(values).tolist() == [[3, 8999]]
    assert np.flatnonzero(near(values[:4096], values[4096:])).tolist() == [3]
    monkeypatch.setattr(module, "DISTANCE", 5)
    assert near_pairs(values).tolist() == [[3, 8999], [4090, 4100]]


def test_for_a_few_the_many_are_not_sorted(monkeypatch):
    monkeypatch.setattr(module, "_TOGETHER", 1000)
    monkeypatch.setattr(np, "argsort", None)
    values = np.random.default_rng(0).integers(0, 2**64, 9000, dtype=np.uint64)
    assert near(np.array([values[8999] ^ np.uint64(0b1011), ~values[0]]), values).tolist() == [True, False]


def test_many_equal_pictures_are_few_pairs(monkeypatch):
    monkeypatch.setattr(module, "DISTANCE", 1)
    values = np.array([7, 5, 5, 4, *[5] * 5000], np.uint64)
    found = near_pairs(values)
    assert len(found) == 5001 + 1 + 1  # the other fives; 5 and 7, 5 and 4
    assert [0, 1] in found.tolist()
    assert [1, 3] in found.tolist()

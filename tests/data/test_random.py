import hashlib
import itertools

import numpy as np

from tinct.data.random import rng


def test_equal_keys_give_equal_streams_whatever_the_integer_type():
    np.testing.assert_array_equal(rng(3, 4).random(100), rng(np.int64(3), np.uint8(4)).random(100))


def test_it_is_philox_keyed_with_the_digest():
    digest = hashlib.blake2b(b"1,2", digest_size=16).digest()
    expected = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).random(10)
    np.testing.assert_array_equal(rng(1, 2).random(10), expected)


def test_pinned_draws_so_that_old_records_stay_repeatable():
    np.testing.assert_allclose(rng(1, 2).random(2), [0.51110369, 0.36539236], atol=1e-8)


def test_keys_that_look_alike_give_different_streams():
    keys = [(), (0,), (0, 0), (1,), (1, 0), (0, 1), (1, 23), (12, 3), (123,), (-1,), (2**32,), (2**64, 1)]
    draws = {key: rng(*key).integers(2**62) for key in keys}
    assert len(set(draws.values())) == len(keys)


def test_neighbouring_keys_are_uncorrelated():
    streams = np.stack([rng(*key).standard_normal(4000) for key in itertools.product(range(3), range(4))])
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)

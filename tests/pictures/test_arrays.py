import numpy as np
import pytest
import torch

from tinct.errors import TinctError
from tinct.pictures.arrays import from_array, from_tensor


def test_values_a_little_out_of_range_are_told_from_the_range():
    with pytest.raises(TinctError, match=r"values from 1\.00000012 to 1\.00000012; expected 0 to 1"):
        from_array(np.full((2, 2), np.nextafter(np.float32(1), np.float32(2))))


def test_a_tensor_that_torch_negates_only_later_is_taken():
    stored = -torch.rand(1, 3, 4, 5)
    assert (later := torch._neg_view(stored)).is_neg()
    assert np.array_equal(from_tensor(later)[0].pixels, -stored[0].permute(1, 2, 0).numpy())

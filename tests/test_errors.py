"""What settings of another type are told."""

import math

import numpy as np
import pytest

from tinct import Config, TransferSettings
from tinct.errors import TinctError, out_of_memory


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", "10", "int | None"),
        ("steps", True, "int | None"),
        ("width", 8.0, "int"),
        ("lr", "1e-3", "float"),
        ("lr", math.nan, "a finite number"),
        ("epochs", math.inf, "a finite number"),
        ("minutes", math.inf, "a finite number"),
        ("terms", {"l1": math.inf}, "dict[str, float]"),
        ("terms", ["l1"], "dict[str, float]"),
        ("terms", {"l1": "1"}, "dict[str, float]"),
        ("betas", (0.9,), "tuple[float, float]"),
        ("sources", "photos:", "list[str]"),
        ("held_out", 3, "str | None"),
        ("split", "val", "train, all"),
        ("strategy", "fsdp", "auto, ddp"),
        ("seed", 99999999999999999999, "0 to 18446744073709551615"),
        ("width", 1032, "1024 at most"),
        ("size", 5024, "4096 at most"),
    ],
)
def test_a_setting_of_another_type_is_refused_in_a_sentence(name, value, expected):
    with pytest.raises(TinctError) as refusal:
        Config(**{"sources": ["photos:"], "steps": 3, name: value}).check()
    assert str(refusal.value) == f"{name} is {value!r}; expected {expected}"


def test_numpys_numbers_are_taken_inside_terms_too():
    config = Config(sources=["photos:"], steps=np.int64(3), terms={"l1": np.float32(0.5), "rotation": np.int64(1)})
    config.check()
    assert [type(value) for value in config.terms.values()] == [float, int]


def test_settings_as_yaml_has_them_pass():
    Config(sources=("photos:",), steps=3, betas=[0.9, 0.99], terms={"l1": 1}, clip=1, seed=2**64 - 1).check()
    TransferSettings("mosaic:", "multilabel", labels=50).check()
    with pytest.raises(TinctError, match="size is 5024; expected 4096 at most"):
        TransferSettings("mosaic:", "multilabel", size=5024).check()
    with pytest.raises(TinctError, match="weight_decay is nan; expected a finite number"):
        TransferSettings("mosaic:", "multilabel", weight_decay=math.nan).check()
    with pytest.raises(TinctError, match="labels is True; expected str"):
        TransferSettings("mosaic:", "multilabel", labels=True).check()


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MPS backend out of memory (MPS allocated: 8.00 GiB)",
        "Invalid buffer size: 24.00 GiB",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12",
        "data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes.",
    ],
)
def test_want_of_memory_is_known_by_what_each_device_says(said):
    assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))

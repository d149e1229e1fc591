from typing import Any

import pytest
import torch

from footplate.checkpoint.inert import Name
from footplate.checkpoint.inert.tensors import (
    Storage,
    empty_memory,
    rebuild_meta_tensor,
    rebuild_parameter,
    rebuild_tensor,
    rebuild_tensor_of_dtype,
    storage_dtype,
)
from footplate.errors import CheckpointError


@pytest.fixture
def six() -> Storage:
    """A storage of the numbers 0 to 5."""
    return Storage(torch.arange(6.0).view(torch.uint8), torch.float32)


@pytest.mark.parametrize(
    ("offset", "size", "stride", "expected"),
    [
        (0, (6,), (1,), [0, 1, 2, 3, 4, 5]),
        (1, (2, 2), (2, 1), [[1, 2], [3, 4]]),
        (0, (2, 3), (1, 2), [[0, 2, 4], [1, 3, 5]]),
        (5, (), (), 5),
        (0, (0, 9), (1, 1), []),
        (2, (3,), (0,), [2, 2, 2]),
    ],
)
def test_what_a_storage_covers_is_a_tensor(
    six: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], expected: Any
) -> None:
    assert rebuild_tensor(six, offset, size, stride, False, None).tolist() == expected


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (6, (1,), (1,)),
        (0, (2,), (6,)),
        (0, (2, 3), (4, 1)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), (1, 1)),
        (0, (True,), (1,)),
        (0, (2.0,), (1,)),
        (0, [2], (1,)),
        (0, (5_000_000,), (0,)),
    ],
)
def test_what_it_does_not_cover_is_refused(six: Storage, offset: Any, size: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match="a tensor has"):
        rebuild_tensor(six, offset, size, stride)
    assert six.memory.numel() == 24


def test_the_size_of_the_elements_counts(six: Storage) -> None:
    assert rebuild_tensor_of_dtype(six, 0, (3,), (1,), False, None, torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match="beyond its storage"):
        rebuild_tensor_of_dtype(six, 0, (4,), (1,), False, None, torch.float64)


@pytest.mark.parametrize("call", [lambda: rebuild_tensor(1, 0, (), ()), lambda: rebuild_parameter([1])])
def test_other_things_are_no_tensors(call: Any) -> None:
    with pytest.raises(TypeError):
        call()


def test_only_types_are_types(six: Storage) -> None:
    with pytest.raises(TypeError, match="no dtype"):
        rebuild_meta_tensor("float32", (1,), (1,))
    assert storage_dtype(Name("torch.cuda", "HalfStorage")) == torch.float16
    for kind in (Name("os", "FloatStorage"), Name("torch", "OddStorage"), torch.FloatStorage, "FloatStorage"):
        with pytest.raises(CheckpointError, match="unknown kind"):
            storage_dtype(kind)


def test_memory_that_is_not_there_is_told() -> None:
    with pytest.raises(CheckpointError, match="bytes of memory"):
        empty_memory(2**60)

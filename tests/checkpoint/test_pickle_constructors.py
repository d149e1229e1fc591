import io
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
import torch

from footplate.checkpoint import OpaqueObject
from footplate.checkpoint.pickle_constructors import (
    Storage,
    _rebuild_meta_tensor,
    _rebuild_parameter,
    _rebuild_tensor,
    _rebuild_tensor_of_dtype,
    empty_memory,
    storage_dtype,
)
from footplate.checkpoint.torch_file import read_content
from footplate.checkpoint.unpickler import Name
from footplate.errors import CheckpointError

_FORMS: list[dict[str, Any]] = [
    {},
    {"pickle_protocol": 3},
    {"pickle_protocol": 4},
    {"pickle_protocol": 5},
    {"_use_new_zipfile_serialization": False},
]


def through(value: Any, **form: Any) -> Any:
    stream = io.BytesIO()
    torch.save(value, stream, **form)
    return read_content(stream).value


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i1", "u2", "u8", "b1", "c16", ">i4", ">f8", "U3", "S2"])
def test_numpy_arrays_and_scalars_are_kept(form: dict[str, Any], dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for value in (array, array.T, array[:0], np.asfortranarray(array)):
        found = through({"a": value, "b": value}, **form)
        assert found["a"].dtype == value.dtype
        assert np.array_equal(found["a"], value)
        assert found["b"] is found["a"]
    scalar = through([array[1, 1]], **form)[0]
    assert scalar == array[1, 1].item()
    assert type(scalar) is type(array[1, 1].item())


@pytest.mark.parametrize("form", _FORMS)
def test_tensors_of_every_kind_are_restored(form: dict[str, Any]) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = [
        *(base, base.T, base[1:, ::2], base[0, 0], base[:0], torch.nn.Parameter(base.clone())),
        *(base.to(dtype) for dtype in (torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64)),
        *(torch.ones(3).to(dtype) for dtype in (torch.uint16, torch.float8_e4m3fn)),
    ]
    labelled = torch.ones(2)
    labelled.label = 3  # type: ignore[attr-defined]
    for found, value in zip(through([*tensors, labelled], **form), [*tensors, labelled], strict=True):
        assert type(found) is torch.Tensor
        assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride())
        assert found.to(torch.complex128).tolist() == value.to(torch.complex128).tolist()


@pytest.mark.parametrize("form", _FORMS)
def test_python_containers_are_kept(form: dict[str, Any]) -> None:
    value = {
        "ordered": OrderedDict(b=1, a=2),
        "default": defaultdict(list, {1: [2]}),
        "counter": Counter("aab"),
        "sets": [{1, 2}, frozenset({3})],
        "bytes": [b"\x00\xff", b"", bytearray(b"zz"), bytearray()],
        "complex": 1 + 2j,
        "torch": [torch.float16, torch.Size([1, 2]), torch.device("cuda", 3), torch.device("cpu")],
    }
    assert through(value, **form) == value


def test_layer_versions_are_kept() -> None:
    found = through(torch.nn.BatchNorm1d(2).state_dict())
    assert found._metadata == {"": {"version": 2}}


def test_meta_tensors_stay_on_meta() -> None:
    assert through([torch.empty(2, 3, device="meta")])[0].shape == (2, 3)


@pytest.mark.parametrize(
    "value",
    [
        slice(1),
        range(3),
        np.array([{}], dtype=object),
        np.datetime64("2020-01-01"),
        np.random.RandomState(0),
        torch.nn.Linear(2, 2),
        torch.eye(2).to_sparse(),
        torch.Generator,
        print,
    ],
)
def test_all_other_names_are_opaque_and_not_executed(value: Any) -> None:
    found = through({"odd": value, "good": torch.ones(2)})
    assert type(found["odd"]).__name__ in ("OpaqueObject", "Name")
    assert found["good"].tolist() == [1, 1]


def test_weights_of_a_pickled_module_are_found() -> None:
    found = through(torch.nn.Linear(2, 2))
    assert isinstance(found, OpaqueObject)
    assert found.name == "torch.nn.modules.linear.Linear"
    assert found.state["_parameters"]["weight"].shape == (2, 2)


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
def test_tensor_within_its_storage_is_rebuilt(
    six: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], expected: Any
) -> None:
    assert _rebuild_tensor(six, offset, size, stride, False, None).tolist() == expected


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
def test_tensor_beyond_its_storage_is_rejected(six: Storage, offset: Any, size: Any, stride: Any) -> None:
    with pytest.raises(ValueError, match="a tensor has"):
        _rebuild_tensor(six, offset, size, stride)
    assert six.memory.numel() == 24


def test_element_size_is_included_in_the_storage_check(six: Storage) -> None:
    assert _rebuild_tensor_of_dtype(six, 0, (3,), (1,), False, None, torch.float64).dtype == torch.float64
    with pytest.raises(ValueError, match="exceeds its storage"):
        _rebuild_tensor_of_dtype(six, 0, (4,), (1,), False, None, torch.float64)


@pytest.mark.parametrize("call", [lambda: _rebuild_tensor(1, 0, (), ()), lambda: _rebuild_parameter([1])])
def test_invalid_tensor_arguments_raise_an_error(call: Any) -> None:
    with pytest.raises(TypeError):
        call()


def test_only_dtypes_are_accepted_as_dtypes(six: Storage) -> None:
    with pytest.raises(TypeError, match="instead of a dtype"):
        _rebuild_meta_tensor("float32", (1,), (1,))
    assert storage_dtype(Name("torch.cuda", "HalfStorage")) == torch.float16
    for kind in (Name("os", "FloatStorage"), Name("torch", "OddStorage"), torch.FloatStorage, "FloatStorage"):
        with pytest.raises(CheckpointError, match="unknown type"):
            storage_dtype(kind)


def test_too_large_allocation_raises_an_error() -> None:
    with pytest.raises(CheckpointError, match="bytes of memory"):
        empty_memory(2**60)

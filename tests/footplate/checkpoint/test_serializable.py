import enum
from collections import OrderedDict, deque, namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.checkpoint.serializable import (
    to_serializable,
)
from footplate.errors import CheckpointError

Pair = namedtuple("Pair", "a b")  # noqa: PYI024 - the plain kind


class Settings(dict[str, Any]):
    pass


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (Settings(a=Settings(b=1)), {"a": {"b": 1}}),
        (OrderedDict(a=1), OrderedDict(a=1)),
        (Pair(1, [2]), (1, [2])),
        (deque([1, 2]), [1, 2]),
        (Number.ONE, 1),
        ({1, "a"}, {1, "a"}),
        ({(1, np.int64(2)): 0, np.int64(3): 1}, {(1, 2): 0, 3: 1}),
        (np.array(["a", "bb"]), ["a", "bb"]),
        ([None, True, 1, 0.5, 1j, "a", b"b", torch.float16, torch.device("cpu")],) * 2,
    ],
)
def test_subclasses_become_plain_types(value: Any, expected: Any) -> None:
    plain = to_serializable(value)
    assert plain == expected
    assert type(plain) is type(expected)


@pytest.mark.parametrize("dtype", ["float64", "int16", ">f4", "bool", "uint16", "complex64"])
def test_arrays_become_tensors(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)[:, ::2]
    plain = to_serializable(array)
    assert isinstance(plain, torch.Tensor)
    assert plain.numpy().dtype == np.dtype(dtype).newbyteorder("=")
    assert np.array_equal(plain.numpy(), array)


@pytest.mark.parametrize(
    ("state", "key"),
    [
        ({"a": {"b": [1, object()]}}, "a.b[1]"),
        ({"hooks": {"x": frozenset({1})}}, "hooks.x"),
        ({"a": np.array([{}], dtype=object)}, "a"),
        ({"a": torch.eye(2).to_sparse()}, "a"),
    ],
)
def test_unsupported_value_raises_an_error_with_its_key(state: dict[str, Any], key: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        to_serializable(state)
    assert caught.value.key.startswith(key)


def test_views_are_copied_and_whole_storages_are_not() -> None:
    large = torch.zeros(1000)
    assert to_serializable(large[:10]).untyped_storage().nbytes() == 40
    assert to_serializable(large.view(10, 100).T).data_ptr() == large.data_ptr()


def test_parameters_are_saved_without_gradients() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    plain = to_serializable([parameter])[0]
    assert type(plain) is torch.Tensor
    assert not plain.requires_grad
    assert plain.data_ptr() == parameter.data_ptr()


def test_lazy_conjugates_are_resolved() -> None:
    value = torch.tensor([1 + 2j]).conj()
    assert not to_serializable(value).is_conj()
    assert to_serializable(value).tolist() == [1 - 2j]


def test_layer_versions_are_kept() -> None:
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert to_serializable(state)._metadata == {"": {"version": 2}}


def test_values_that_torch_refuses_are_read_back(tmp_path: Path) -> None:
    state = {"empty": b"", "large": 2**2040}
    save_checkpoint(state, tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth") == state

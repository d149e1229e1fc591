import io
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate.checkpoint import OpaqueObject, load_checkpoint
from footplate.checkpoint.contents import opaque_names
from footplate.checkpoint.torch_file import read_content
from footplate.errors import CheckpointDamagedError, CheckpointError

Pack = Callable[..., bytes]
_FORMS: list[dict[str, Any]] = [
    {},
    {"pickle_protocol": 4},
    {"pickle_protocol": 5},
    {"_use_new_zipfile_serialization": False},
]


class Shelf(dict[str, int]):
    """A class that readers must not import."""


class Row(list[int]):
    """A class that readers must not import."""


class Point:
    """A class that readers must not import."""

    def __init__(self, x: int) -> None:
        self.x = x


def saved(value: Any, **form: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **form)
    return stream.getvalue()


def through(value: Any, **form: Any) -> Any:
    """Returns a value that was saved with an object that torch refuses to load."""
    return read_content(io.BytesIO(saved({"value": value, "other": Point(1)}, **form))).value["value"]


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("dtype", ["f8", "b1", ">i4", "U3"])
def test_numpy_arrays_and_scalars_are_kept(form: dict[str, Any], dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for value in (array, array.T, array[:0]):
        found = through({"a": value, "b": [(value,)]}, **form)
        assert type(found["a"]) is np.ndarray
        assert found["a"].dtype == value.dtype
        assert np.array_equal(found["a"], value)
        assert found["b"][0][0] is found["a"]
    scalar = through([array[1, 1]], **form)[0]
    assert scalar == array[1, 1].item()
    assert type(scalar) is type(array[1, 1].item())


@pytest.mark.parametrize("form", _FORMS)
def test_tensors_of_every_kind_are_restored(form: dict[str, Any]) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = [
        *(base, base.T, base[1:, ::2], base[0, 0], base[:0], torch.nn.Parameter(base.clone())),
        *(base.to(dtype) for dtype in (torch.bfloat16, torch.int64, torch.bool, torch.complex64)),
    ]
    if "_use_new_zipfile_serialization" not in form:  # torch cannot read these from the old format
        tensors += [torch.ones(3).to(dtype) for dtype in (torch.uint16, torch.float8_e4m3fn)]
    labelled = torch.ones(2)
    labelled.label = 3  # type: ignore[attr-defined]
    for found, value in zip(through([*tensors, labelled], **form), [*tensors, labelled], strict=True):
        assert type(found) is torch.Tensor
        assert not found.requires_grad
        assert (found.dtype, found.shape, found.stride()) == (value.dtype, value.shape, value.stride())
        assert found.to(torch.complex128).tolist() == value.to(torch.complex128).tolist()


@pytest.mark.parametrize("form", _FORMS)
def test_python_containers_are_kept(form: dict[str, Any]) -> None:
    value = {
        "ordered": OrderedDict(b=1, a=2),
        "default": defaultdict(list, {1: [2]}),
        "sets": [{1, 2}, frozenset({3})],
        "bytes": [b"\x00\xff", b""],
        "numbers": [1 + 2j, -(2**70), 2.5, True, None],
        "torch": [torch.float16, torch.Size([1, 2]), torch.device("cuda", 3), torch.device("cpu")],
    }
    assert through(value, **form) == value
    assert through(torch.nn.BatchNorm1d(2).state_dict(), **form)._metadata == {"": {"version": 2}}


@pytest.mark.parametrize("form", _FORMS)
def test_unknown_classes_become_opaque(form: dict[str, Any]) -> None:
    shelf = Shelf(a=1)
    shelf.label = "top"  # type: ignore[attr-defined]
    array = np.ones(2)
    shelf_found, row, point = through([shelf, Row([1, 2]), Point(array)], **form)  # type: ignore[arg-type]
    assert (shelf_found.items, shelf_found.state) == ({"a": 1}, {"label": "top"})
    assert row.elements == [1, 2]
    assert repr(point) == f"<opaque {__name__}.Point>"
    assert np.array_equal(point.state["x"], array)
    content = read_content(io.BytesIO(saved([shelf, Point], **form))).value
    assert opaque_names(content) == [f"{__name__}.Shelf"]
    assert content[1].name == f"{__name__}.Point"


@pytest.mark.parametrize(
    "value",
    [
        *(slice(1), range(3), np.array([{}], dtype=object), np.datetime64("2020-01-01"), np.random.RandomState(0)),
        *(torch.nn.Linear(2, 2), torch.Generator, print),
    ],
)
def test_all_other_names_are_opaque(value: Any) -> None:
    found = through({"odd": value, "good": torch.ones(2)})
    assert isinstance(found["odd"], OpaqueObject) or issubclass(found["odd"], OpaqueObject)
    assert found["good"].tolist() == [1, 1]


def test_weights_of_a_pickled_module_are_found() -> None:
    for form in _FORMS:
        found = read_content(io.BytesIO(saved(torch.nn.Linear(2, 2), **form))).value
        assert isinstance(found, OpaqueObject)
        assert found.name == "torch.nn.modules.linear.Linear"
        assert found.state["_parameters"]["weight"].shape == (2, 2)


def test_truncated_files_are_damaged() -> None:
    for form in ({}, {"_use_new_zipfile_serialization": False}):
        whole = saved({"w": torch.arange(100.0), "v": torch.ones(3)}, **form)
        assert read_content(io.BytesIO(whole)).value["w"].tolist() == list(range(100))
        for length in range(0, len(whole), 31):
            with pytest.raises(CheckpointDamagedError):
                read_content(io.BytesIO(whole[:length]))


def test_archives_that_grow_when_they_are_read_are_refused(pack: Pack) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(1_000_000))
    members = {"a/data.pkl": b"N.", **{f"a/data/{n}": bytes(1000) for n in range(9)}}
    overlapping = pack(
        members, starts={f"a/data/{n}": 0 for n in range(9)}, sizes={f"a/data/{n}": 9000 for n in range(9)}
    )
    for data in (stream.getvalue(), overlapping):
        with pytest.raises(CheckpointError, match="the archive's contents are larger than the file"):
            read_content(io.BytesIO(data))


def test_torchscript_archives_are_named(pack: Pack) -> None:
    with pytest.raises(CheckpointError, match="a TorchScript program"):
        read_content(io.BytesIO(pack(dict.fromkeys(["a/data.pkl", "a/constants.pkl"], b"N."))))


def test_whole_pickled_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointError, match="does not contain a dict") as caught:
        load_checkpoint(path)
    assert "Sequential" in str(caught.value.found)
    assert "torch.save(model.state_dict(), path)" in str(caught.value)
    pickled = io.BytesIO(pickle.dumps({"model": {"w": 1}}))
    assert read_content(pickled).value == {"model": {"w": 1}}

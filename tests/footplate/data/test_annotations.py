import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate.data import BaseDataset, annotations
from footplate.data.annotations import load_annotations, load_data_file, read_file
from footplate.errors import DataError, StorageError

CONTENT = {"metainfo": {"classes": ["a"]}, "data_list": [{"img_path": "1.png"}]}


@pytest.mark.parametrize("failures", [1, 3])
def test_a_file_is_read_again_if_the_connection_fails(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def read(path: str) -> bytes:
        calls.append(path)
        if len(calls) <= failures:
            raise ConnectionError("503, Service Unavailable")
        return b"content"

    monkeypatch.setattr(annotations, "read_bytes", read)
    monkeypatch.setattr(annotations, "_RETRY_SECONDS", (0.0, 0.0))
    if failures == 1:
        assert read_file("https://example.com/a.png") == b"content"
        assert len(calls) == 2
    else:
        with pytest.raises(StorageError, match=r"the file 'https://.*/a\.png' cannot be read: 503"):
            read_file("https://example.com/a.png")
        assert len(calls) == 3


def test_a_storage_that_refuses_access_is_not_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> bytes:
        raise PermissionError("403, Forbidden")

    monkeypatch.setattr(annotations, "read_bytes", refuse)
    with pytest.raises(StorageError, match=r"the file 's3://b/a\.png' cannot be read: 403, Forbidden"):
        read_file("s3://b/a.png")
    with pytest.raises(DataError, match=r"the file 'a\.png' cannot be read") as caught:
        read_file("a.png")
    assert type(caught.value) is DataError


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "A.YML"])
def test_annotation_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(CONTENT))
    assert load_annotations(str(tmp_path / name)) == (CONTENT["metainfo"], CONTENT["data_list"])


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_predictions_with_tensors_are_read(protocol: int, tmp_path: Path) -> None:
    boxes = torch.arange(12, dtype=torch.float64).view(3, 4)[:, 1:3]
    (tmp_path / "results.pkl").write_bytes(pickle.dumps([{"bboxes": boxes, "size": boxes.shape}], protocol))
    (found,) = load_data_file(str(tmp_path / "results.pkl"))
    assert torch.equal(found["bboxes"], boxes)
    assert (found["bboxes"].dtype, found["size"]) == (torch.float64, (3, 2))


@pytest.mark.parametrize(
    "content",
    [
        b"ctorch.storage\n_load_from_bytes\n(" + pickle.dumps(pickle.dumps(os.getcwd), 0)[:-1] + b"tR.",
        b"ctorch.serialization\nload\n(Vfile\ntR.",
        pickle.dumps(torch.arange(3)).replace(b"K\x03\x85", b"K\x64\x85", 1),  # more elements than the storage has
    ],
)
def test_tensors_execute_no_code_and_read_no_other_memory(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "results.pkl").write_bytes(content)
    with pytest.raises(DataError, match="cannot be parsed|may execute code"):
        load_data_file(str(tmp_path / "results.pkl"))


def test_a_pickle_file_with_plain_data_is_read_without_executing_code(tmp_path: Path) -> None:
    record = {"lidar2cam": np.eye(4, dtype=np.float32), "instances": [{"bbox_label": np.int64(1)}]}
    path = tmp_path / "kitti_infos_train.pkl"
    path.write_bytes(pickle.dumps({"metainfo": {"dataset": "kitti"}, "data_list": [record]}))
    dataset = BaseDataset(ann_file=str(path), data_prefix={})
    assert dataset.metainfo["dataset"] == "kitti"
    assert np.array_equal(dataset[0]["lidar2cam"], np.eye(4))
    path.write_bytes(pickle.dumps({"metainfo": {}, "data_list": [os.getcwd]}))
    with pytest.raises(DataError, match=r"refers to 'posix.getcwd', which may execute code"):
        load_annotations(str(path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", None, "a.json' does not exist\n  .* has no 'a.json'"),
        ("a.json", "{", "a.json' cannot be parsed: Expecting property name"),
        (
            "a.json",
            '{"images": []}',
            r"must contain a dict with the keys 'metainfo' and 'data_list'\n  found: \['images'\]\n.*Override",
        ),
        ("a.txt", "", "must end with one of .json, .yaml, .yml, .pkl, .pickle\n.*Override load_data_list"),
    ],
)
def test_unreadable_annotation_files_are_reported(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_annotations(str(tmp_path / name))


def test_references_are_resolved(tmp_path: Path) -> None:
    text = "base: &base {width: 4}\nmetainfo: {}\ndata_list:\n- {<<: *base, img_path: 1.png}\n- *base\n"
    (tmp_path / "a.yaml").write_text(text)
    assert load_annotations(str(tmp_path / "a.yaml")) == ({}, [{"width": 4, "img_path": "1.png"}, {"width": 4}])


_frombuffer = np.zeros(1).__reduce_ex__(5)[0]  # private, and moved in NumPy 2


class _Reduced:
    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> Any:
        return self.reduced


_OBJECTS = {"a": (np.dtype("O"), 0)}


@pytest.mark.parametrize(
    "value",
    [
        _Reduced(np.ndarray, ((1,), "O", b"A" * 8)),
        *(
            _Reduced(
                np.zeros(1).__reduce_ex__(5)[0], (b"A" * 8, _Reduced(np.dtype, (kind, False, True), state), (1,), "C")
            )
            for kind, state in (
                ("O8", (3, "|", None, None, None, -1, -1, 0)),
                ("V8", (3, "|", None, (), _OBJECTS, 8, 1, 0)),
                ("V8", (3, "|", (np.dtype("O"), (1,)), None, None, 8, 1, 0)),
            )
        ),
    ],
)
def test_arrays_cannot_refer_to_memory_of_the_process(tmp_path: Path, value: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(DataError, match="cannot be parsed|are not supported"):
        load_data_file(str(tmp_path / "a.pkl"))


@pytest.mark.parametrize(
    "array",
    [
        np.array([(1, 2.5)], [("a", "i4"), ("b", ">f8", (1,))]),
        np.array(["2020"], "M8[5D]"),
        np.timedelta64(1, "s"),
        np.array([1, 2], ">i2"),
    ],
)
def test_arrays_of_records_and_dates_are_refused(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"data_list": [array]}))
    with pytest.raises(DataError, match=r"arrays of records.* are not supported\n.*override load_data_list"):
        load_data_file(str(tmp_path / "a.pkl"))


def test_arrays_of_all_kinds_are_read(tmp_path: Path) -> None:
    arrays = [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1, 2], "<i2"),
        np.array(["a", "bc"]),
        np.array(["x", None], object),
        np.float32(3),
    ]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps(arrays, protocol)
        (tmp_path / "a.pkl").write_bytes(content)
        for read, array in zip(load_data_file(str(tmp_path / "a.pkl")), pickle.loads(content), strict=True):
            assert (type(read), read.dtype) == (type(array), array.dtype)
            assert np.array_equal(read, array)

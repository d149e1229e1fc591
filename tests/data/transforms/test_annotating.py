from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.errors import DataError
from footplate.registry import TRANSFORMS

INSTANCES = [
    {"bbox": [1, 2, 5, 6], "bbox_label": 3, "ignore_flag": 0, "mask": [[1, 2, 5, 2, 5, 6, 1, 6]]},
    {"bbox": [0.5, 0, 8, 7], "bbox_label": 1, "ignore_flag": 1, "mask": {"size": [7, 8], "counts": [56]}},
]


def loaded(record: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build({"type": "LoadAnnotations", **arguments})(record)
    return found


def label_map(folder: Path, labels: Any) -> str:
    path = folder / "labels.png"
    Image.fromarray(labels).save(path)
    return str(path)


def test_instances_become_arrays() -> None:
    found = loaded({"instances": INSTANCES, "height": 7, "width": 8}, with_mask=True)
    assert found["gt_bboxes"].tolist() == [[1, 2, 5, 6], [0.5, 0, 8, 7]]
    assert found["gt_bboxes"].dtype == np.float32
    assert found["gt_bboxes_labels"].tolist() == [3, 1]
    assert found["gt_ignore_flags"].tolist() == [False, True]
    assert found["gt_masks"].shape == (2, 7, 8)
    assert found["gt_masks"].sum(axis=(1, 2)).tolist() == [16, 0]


def test_a_picture_without_instances_has_arrays_without_rows() -> None:
    found = loaded({"instances": [], "height": 7, "width": 8}, with_bbox=True, with_mask=True)
    shapes = {key: value.shape for key, value in found.items() if key.startswith("gt_")}
    assert shapes == {
        "gt_bboxes": (0, 4),
        "gt_bboxes_labels": (0,),
        "gt_ignore_flags": (0,),
        "gt_masks": (0, 7, 8),
    }


@pytest.mark.parametrize(
    ("record", "arguments", "expected"),
    [
        ({}, {}, [[0, 1, 2], [4, 255, 0]]),
        ({"reduce_zero_label": True}, {}, [[255, 0, 1], [3, 255, 255]]),
        ({"reduce_zero_label": True}, {"reduce_zero_label": False}, [[0, 1, 2], [4, 255, 0]]),
        ({}, {"reduce_zero_label": True}, [[255, 0, 1], [3, 255, 255]]),
        ({"label_map": {1: 2, 2: 1, 4: 255}}, {}, [[0, 2, 1], [255, 255, 0]]),
    ],
)
def test_a_label_map_is_read(tmp_path: Path, record: Any, arguments: Any, expected: Any) -> None:
    path = label_map(tmp_path, np.array([[0, 1, 2], [4, 255, 0]], dtype=np.uint8))
    found = loaded({"seg_map_path": path, **record}, **arguments)
    assert found["gt_seg_map"].tolist() == expected
    assert found["gt_seg_map"].dtype == np.uint8
    assert "gt_bboxes" not in found


def test_what_is_not_wanted_is_not_read(tmp_path: Path) -> None:
    record = {"seg_map_path": str(tmp_path / "missing.png"), "instances": INSTANCES}
    assert loaded(dict(record), with_seg=False, with_bbox=False, with_label=False) == record


@pytest.mark.parametrize(
    ("record", "arguments", "message"),
    [
        ({"img_path": "a.png"}, {"with_bbox": True}, "'a.png' has no annotations: there is no 'instances'"),
        ({"img_path": "a.png"}, {"with_seg": True}, "there is no 'seg_map_path'"),
        ({"instances": [{"bbox": [0, 0, 1, 1], "bbox_label": 0}], "height": 2, "width": 2, "img_path": "a.png"},
         {"with_mask": True}, "'a.png' has no mask"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(record: Any, arguments: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        loaded(record, **arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), "3 channels"),
        (np.full((2, 3), 300, np.uint16), "outside of 0 to 255"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path: Path, labels: Any, message: str) -> None:
    path = label_map(tmp_path, labels)
    with pytest.raises(DataError, match=message):
        loaded({"seg_map_path": path})


def test_a_damaged_label_map_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"labels\.png' cannot be read: its format is not known"):
        loaded({"seg_map_path": str(path)})


def test_a_label_map_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    path = label_map(tmp_path, np.zeros((30, 20), np.uint8))
    record = {"img_path": "a.jpg", "seg_map_path": path, "ori_shape": (78, 108), "img": np.zeros((30, 20, 3), np.uint8)}
    with pytest.raises(DataError, match=r"has another size than its picture 'a\.jpg'") as caught:
        loaded(record)
    assert "20x30, and the picture is 108x78" in str(caught.value)


def test_a_label_map_may_be_loaded_after_its_picture_was_resized(tmp_path: Path) -> None:
    path = label_map(tmp_path, np.zeros((30, 20), np.uint8))
    record = {"seg_map_path": path, "ori_shape": (30, 20), "img": np.zeros((60, 40, 3), np.uint8)}
    assert loaded(record)["gt_seg_map"].shape == (30, 20)

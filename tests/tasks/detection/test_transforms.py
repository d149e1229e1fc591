from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.registry import TRANSFORMS


def record(**more: Any) -> dict[str, Any]:
    return {
        "img": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
        "gt_bboxes": np.array([[0, 0, 2, 1], [1, 0, 4, 2]], np.float64),
        "gt_bboxes_labels": np.array([4, 2]),
        "img_id": 7,
        "img_path": "a.png",
        "ori_shape": (2, 4),
        "scale_factor": (1.0, 1.0),
        "other": 1,
        **more,
    }


def packed(given: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build({"type": "PackDetInputs", **arguments})(given)
    return found


def test_pictures_and_instances_are_packed() -> None:
    found = packed(record())
    sample = found["data_samples"]
    assert (found["inputs"].shape, found["inputs"].dtype) == ((3, 2, 4), torch.uint8)
    assert found["inputs"][:, 0, 1].tolist() == [3, 4, 5]
    assert sample.gt_instances.bboxes.tolist() == [[0, 0, 2, 1], [1, 0, 4, 2]]
    assert (sample.gt_instances.bboxes.dtype, sample.gt_instances.labels.tolist()) == (torch.float32, [4, 2])
    assert len(sample.ignored_instances) == 0
    assert sorted(sample.metainfo_keys()) == ["img_id", "img_path", "img_shape", "ori_shape", "scale_factor"]


def test_crowds_are_kept_apart() -> None:
    masks = np.zeros((2, 2, 4), bool)
    masks[0, 0, 0] = True
    sample = packed(record(gt_ignore_flags=np.array([True, False]), gt_masks=masks))["data_samples"]
    assert (sample.gt_instances.labels.tolist(), sample.ignored_instances.labels.tolist()) == ([2], [4])
    assert sample.ignored_instances.masks.sum() == 1
    assert "masks" not in packed(record(gt_masks=masks), with_masks=False)["data_samples"].gt_instances


def test_without_annotations_there_is_no_truth() -> None:
    found = packed({"img": np.zeros((2, 4), np.uint8)}, meta_keys=("img_id",))
    assert (found["inputs"].shape, found["data_samples"].keys()) == ((1, 2, 4), [])
    assert found["data_samples"].metainfo == {"img_shape": (2, 4)}


def test_a_picture_without_instances() -> None:
    sample = packed(record(gt_bboxes=[], gt_bboxes_labels=[]))["data_samples"]
    assert sample.gt_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"gt_bboxes": []}, "there is no 'img'"), (record(gt_bboxes_labels=[1]), "2 boxes and 1 labels .* 'a.png'")],
)
def test_what_is_missing_is_named(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        packed(given)

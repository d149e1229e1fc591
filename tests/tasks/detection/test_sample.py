from typing import Any

import numpy as np
import pytest
import torch

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS, TRANSFORMS
from footplate.tasks.detection import DetDataPreprocessor, DetDataSample


@pytest.mark.parametrize("field", ["gt_instances", "pred_instances", "ignored_instances"])
def test_fields_hold_instances(field: str) -> None:
    sample: Any = DetDataSample(metainfo={"img_path": "a.png", "img_id": 3})
    setattr(sample, field, InstanceData(bboxes=torch.zeros(2, 4), labels=torch.tensor([1, 0])))
    assert (sample.keys(), len(getattr(sample, field)), sample.img_id) == ([field], 2, 3)
    assert sample.to("cpu", torch.float64).get(field).bboxes.dtype == torch.float64
    with pytest.raises(ArgumentError, match="InstanceData"):
        setattr(sample, field, torch.zeros(2, 4))
    delattr(sample, field)
    assert field not in sample


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


def test_images_and_instances_are_packed() -> None:
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


def test_an_image_without_instances() -> None:
    sample = packed(record(gt_bboxes=[], gt_bboxes_labels=[]))["data_samples"]
    assert sample.gt_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"gt_bboxes": []}, "there is no key 'img'"), (record(gt_bboxes_labels=[1]), "'a.png' has 2 boxes but 1 labels")],
)
def test_missing_keys_are_reported(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        packed(given)


def batch() -> dict[str, Any]:
    truth = InstanceData(bboxes=torch.tensor([[0.0, 0, 3, 2]]), masks=torch.ones(1, 5, 6, dtype=torch.bool))
    samples = [DetDataSample(gt_instances=truth, metainfo={"img_shape": (5, 6)}), DetDataSample()]
    return {"inputs": [torch.full((3, 5, 6), 5.0), torch.full((3, 4, 9), 5.0)], "data_samples": samples}


def test_images_are_padded_where_boxes_need_no_change() -> None:
    cfg = {"type": "DetDataPreprocessor", "mean": [1.0] * 3, "std": [2.0] * 3, "pad_size_divisor": 4, "pad_value": 7}
    found = MODELS.build(cfg)(batch())
    assert found["inputs"].shape == (2, 3, 8, 12)
    assert found["inputs"][0, 0, :, 0].tolist() == [2.0] * 5 + [7.0] * 3
    first = found["data_samples"][0]
    assert (first.pad_shape, first.batch_input_shape, first.img_shape) == ((8, 12), (8, 12), (5, 6))
    assert first.gt_instances.bboxes.tolist() == [[0, 0, 3, 2]]
    assert first.gt_instances.masks.shape == (1, 5, 6)


def test_masks_are_padded_with_pad_mask() -> None:
    found = MODELS.build({"type": "DetDataPreprocessor", "pad_size_divisor": 4, "pad_mask": True})(batch())
    masks = found["data_samples"][0].gt_instances.masks
    assert (masks.shape, int(masks.sum()), masks.dtype) == ((1, 8, 12), 30, torch.bool)


def test_only_the_first_four_arguments_of_the_preprocessor_may_be_positional() -> None:
    preprocessor = DetDataPreprocessor([1.0] * 3, [2.0] * 3, 4, 7)
    assert preprocessor(batch())["inputs"][0, 0, :, 0].tolist() == [2.0] * 5 + [7.0] * 3
    with pytest.raises(TypeError, match="positional"):
        DetDataPreprocessor(None, None, 1, 0, True)  # type: ignore[call-arg]


def test_augmentations_act_in_training_alone() -> None:
    def brighter(inputs: Any, samples: Any) -> Any:
        return inputs + 1, samples

    preprocessor = MODELS.build({"type": "DetDataPreprocessor", "batch_augments": [brighter]})
    assert preprocessor(batch(), True)["inputs"][0, 0, 0, 0] == 6
    assert preprocessor(batch(), False)["inputs"][0, 0, 0, 0] == 5

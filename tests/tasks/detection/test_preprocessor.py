from typing import Any

import torch

from footplate.data.structures import InstanceData
from footplate.registry import MODELS
from footplate.tasks.detection import DetDataSample


def batch() -> dict[str, Any]:
    truth = InstanceData(bboxes=torch.tensor([[0.0, 0, 3, 2]]), masks=torch.ones(1, 5, 6, dtype=torch.bool))
    samples = [DetDataSample(gt_instances=truth, metainfo={"img_shape": (5, 6)}), DetDataSample()]
    return {"inputs": [torch.full((3, 5, 6), 5.0), torch.full((3, 4, 9), 5.0)], "data_samples": samples}


def test_pictures_are_padded_where_boxes_need_no_change() -> None:
    cfg = {"type": "DetDataPreprocessor", "mean": [1.0] * 3, "std": [2.0] * 3, "pad_size_divisor": 4, "pad_value": 7}
    found = MODELS.build(cfg)(batch())
    assert found["inputs"].shape == (2, 3, 8, 12)
    assert found["inputs"][0, 0, :, 0].tolist() == [2.0] * 5 + [7.0] * 3
    first = found["data_samples"][0]
    assert (first.pad_shape, first.batch_input_shape, first.img_shape) == ((8, 12), (8, 12), (5, 6))
    assert first.gt_instances.bboxes.tolist() == [[0, 0, 3, 2]]
    assert first.gt_instances.masks.shape == (1, 5, 6)


def test_masks_are_padded_where_that_is_asked_for() -> None:
    found = MODELS.build({"type": "DetDataPreprocessor", "pad_size_divisor": 4, "pad_mask": True})(batch())
    masks = found["data_samples"][0].gt_instances.masks
    assert (masks.shape, int(masks.sum()), masks.dtype) == ((1, 8, 12), 30, torch.bool)


def test_augmentations_act_in_training_alone() -> None:
    def brighter(inputs: Any, samples: Any) -> Any:
        return inputs + 1, samples

    preprocessor = MODELS.build({"type": "DetDataPreprocessor", "batch_augments": [brighter]})
    assert preprocessor(batch(), True)["inputs"][0, 0, 0, 0] == 6
    assert preprocessor(batch(), False)["inputs"][0, 0, 0, 0] == 5

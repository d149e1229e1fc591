from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS
from footplate.tasks.segmentation import PackSegInputs, SegDataPreProcessor, SegDataSample


@pytest.mark.parametrize("name", ["gt_sem_seg", "pred_sem_seg", "seg_logits"])
def test_maps_are_set_read_and_deleted(name: str) -> None:
    sample = SegDataSample(metainfo={"img_path": "a.png"})
    setattr(sample, name, PixelData(data=torch.ones(2, 3)))
    assert getattr(sample, name).data.shape == (1, 2, 3)
    assert (sample.keys(), sample.img_path) == ([name], "a.png")
    delattr(sample, name)
    assert name not in sample


@pytest.mark.parametrize("name", ["gt_sem_seg", "pred_sem_seg", "seg_logits"])
def test_only_maps_are_taken(name: str) -> None:
    with pytest.raises((ArgumentError, TypeError), match="PixelData"):
        setattr(SegDataSample(), name, torch.ones(2, 3))


def test_an_image_and_its_truth_are_packed() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    truth = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    results = {"img": image, "gt_seg_map": truth, "img_path": "a.png", "ori_shape": (4, 6), "other": 1}
    packed = TRANSFORMS.build({"type": "PackSegInputs"})(results)
    assert list(packed) == ["inputs", "data_samples"]
    assert packed["inputs"].dtype == torch.uint8
    assert packed["inputs"].tolist() == image.transpose(2, 0, 1).tolist()
    sample = packed["data_samples"]
    assert isinstance(sample, SegDataSample)
    assert (sample.gt_sem_seg.data.dtype, sample.gt_sem_seg.data.tolist()) == (torch.int64, [truth.tolist()])
    assert sample.metainfo == {"img_shape": (2, 3), "img_path": "a.png", "ori_shape": (4, 6)}


def test_a_grey_image_without_truth_has_one_channel() -> None:
    packed = PackSegInputs(meta_keys=["x"])({"img": np.zeros((2, 3), np.uint8), "x": 5, "img_path": "a.png"})
    assert packed["inputs"].shape == (1, 2, 3)
    assert packed["data_samples"].metainfo == {"img_shape": (2, 3), "x": 5}
    assert "gt_sem_seg" not in packed["data_samples"]


def test_a_pipeline_without_an_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no key 'img'"):
        PackSegInputs()({"img_path": "a.png"})


def batch(*shapes: tuple[int, int]) -> dict[str, Any]:
    samples = []
    for height, width in shapes:
        sample = SegDataSample(metainfo={"img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(data=torch.ones(height, width, dtype=torch.int64))
        samples.append(sample)
    return {"inputs": [torch.full((3, *shape), 10, dtype=torch.uint8) for shape in shapes], "data_samples": samples}


def test_images_are_normalized_and_padded_with_their_label_maps() -> None:
    preprocessor = SegDataPreProcessor(mean=[4.0, 5, 6], std=[2.0, 1, 4], size_divisor=4, pad_val=-1)
    data = preprocessor(batch((3, 6), (4, 2)), training=True)
    inputs = data["inputs"]
    assert inputs.shape == (2, 3, 4, 8)
    assert inputs[:, :, 0, 0].tolist() == [[3, 5, 1]] * 2
    assert (inputs[0, :, 3:] == -1).all()
    assert (inputs[1, :, :, 2:] == -1).all()
    truths = torch.cat([sample.gt_sem_seg.data for sample in data["data_samples"]])
    assert truths.shape == (2, 4, 8)
    assert ((truths == 1).sum((1, 2)).tolist(), (truths == 255).sum((1, 2)).tolist()) == ([18, 8], [14, 24])
    assert [sample.pad_shape for sample in data["data_samples"]] == [(4, 8), (4, 8)]
    assert [sample.img_shape for sample in data["data_samples"]] == [(3, 6), (4, 2)]


@pytest.mark.parametrize(("training", "expected"), [(True, (8, 9)), (False, (4, 6))])
def test_training_and_testing_may_pad_differently(training: bool, expected: tuple[int, int]) -> None:
    preprocessor = SegDataPreProcessor(size=(8, 9), test_cfg={"size_divisor": 2})
    assert tuple(preprocessor(batch((3, 6)), training)["inputs"].shape[-2:]) == expected


def test_images_larger_than_the_size_stay_as_they_are() -> None:
    assert SegDataPreProcessor(size=(2, 2))(batch((3, 6)), True)["inputs"].shape == (1, 3, 3, 6)


def test_augmentations_act_on_padded_batches_in_training_only() -> None:
    seen: list[tuple[int, ...]] = []

    def augment(inputs: Tensor, samples: list[SegDataSample]) -> tuple[Tensor, list[SegDataSample]]:
        seen.append(tuple(inputs.shape))
        return inputs + 1, samples[:1]

    preprocessor = SegDataPreProcessor(size=(8, 8), batch_augments=[augment])
    preprocessor(batch((3, 6)), False)
    data = preprocessor(batch((3, 6), (3, 6)), True)
    assert seen == [(2, 3, 8, 8)]
    assert (data["inputs"][0, 0, 0, 0], len(data["data_samples"])) == (11, 1)


def test_images_alone_are_enough() -> None:
    data = SegDataPreProcessor()({"inputs": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)})
    assert (data["inputs"].dtype, data["data_samples"]) == (torch.float32, None)


def test_size_and_divisor_exclude_each_other() -> None:
    with pytest.raises(ArgumentError, match="size and size_divisor cannot both be set"):
        SegDataPreProcessor(size=(8, 8), size_divisor=4)

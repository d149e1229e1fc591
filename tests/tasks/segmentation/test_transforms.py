import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.registry import TRANSFORMS
from footplate.tasks.segmentation import PackSegInputs, SegDataSample


def test_a_picture_and_its_truth_are_packed() -> None:
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


def test_a_grey_picture_without_truth_has_one_channel() -> None:
    packed = PackSegInputs(meta_keys=["x"])({"img": np.zeros((2, 3), np.uint8), "x": 5, "img_path": "a.png"})
    assert packed["inputs"].shape == (1, 2, 3)
    assert packed["data_samples"].metainfo == {"img_shape": (2, 3), "x": 5}
    assert "gt_sem_seg" not in packed["data_samples"]


def test_a_pipeline_that_loaded_nothing_is_told_so() -> None:
    with pytest.raises(DataError, match="no 'img'"):
        PackSegInputs()({"img_path": "a.png"})

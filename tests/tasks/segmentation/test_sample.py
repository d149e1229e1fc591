import pytest
import torch

from footplate.data.structures import PixelData
from footplate.errors import ArgumentError
from footplate.tasks.segmentation import SegDataSample


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

from typing import Any

import pytest
import torch

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError
from footplate.tasks.detection import DetDataSample


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

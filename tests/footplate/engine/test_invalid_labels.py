from typing import Any

import pytest
import torch
from torch import nn

from footplate.data.data_element import BaseDataElement
from footplate.engine.plan.invalid_labels import label_advice
from footplate_vision.structures import PixelData


class OneHotLoss(nn.Module):
    num_classes = 2

    def forward(self, samples: Any) -> torch.Tensor:
        return nn.functional.one_hot(torch.stack([sample.gt_sem_seg.data for sample in samples]), self.num_classes)


def test_file_with_an_invalid_label_is_named_for_a_loss_whose_message_lacks_the_label() -> None:
    sample = BaseDataElement(metainfo={"img_path": "a.png"})
    sample.set_data({"gt_sem_seg": PixelData(data=torch.tensor([[[0, 1, 255, 9]]]))})
    with pytest.raises(RuntimeError) as caught:
        OneHotLoss()([sample])
    assert label_advice(caught.value) == [
        "'a.png' contains the label 9. Labels must be between 0 and 1. Check the labels and num_classes."
    ]

"""Built-in models do not choose a memory layout, since channels_last corrupts memory with some oneDNN kernels."""

import pytest
import torch
from torch import nn

from footplate_vision.detection import SmallDetector
from footplate_vision.segmentation import SmallSegmentor
from footplate_vision.small_resnet import SmallResNet

MODELS = [
    SmallResNet(3, widths=(4, 8), depths=(1, 1)),
    SmallSegmentor(3, widths=(4, 8), depths=(1, 1)),
    SmallDetector(3, widths=(4, 8), depths=(1, 1), levels=1, head_width=8),
]


@pytest.mark.parametrize("model", MODELS)
def test_convolutions_get_contiguous_weights_and_inputs(model: nn.Module) -> None:
    layouts = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layouts.append(layer.weight.is_contiguous())
            layer.register_forward_pre_hook(lambda layer, inputs: layouts.append(inputs[0].is_contiguous()))
    model(torch.randn(2, 3, 32, 32))
    assert len(layouts) > 2 * 4
    assert all(layouts)

"""Compares region operators without reference figures with plain loops."""

import math

import pytest
import torch
from torch import Tensor

from footplate_operators import regions

RANDOM = torch.Generator().manual_seed(5)


def bilinear(plane: Tensor, y: float, x: float) -> float:
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    total = 0.0
    for row in {math.floor(y), min(math.floor(y) + 1, height - 1)}:
        for column in {math.floor(x), min(math.floor(x) + 1, width - 1)}:
            total += float(plane[row, column]) * max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
    return total


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_roi_pool(scale: float) -> None:
    features = torch.randn(2, 3, 10, 12, generator=RANDOM)
    rois = torch.tensor([[0, 1.0, 2.0, 9.0, 7.0], [1, 0.0, 0.0, 40.0, 30.0], [1, 30.0, 30.0, 20.0, 20.0]])
    output, argmax = torch.zeros(3, 3, 2, 3), torch.zeros(3, 3, 2, 3, dtype=torch.int32)
    regions.roi_pool_forward(features, rois, output, argmax, 2, 3, scale)
    expected = torch.zeros_like(output)
    for roi, (image, *box) in enumerate(rois.tolist()):
        left, top, right, bottom = box[0] * scale, box[1] * scale, (box[2] + 1) * scale, (box[3] + 1) * scale
        if right <= left or bottom <= top:
            continue
        for row in range(2):
            for column in range(3):
                ys = (top + row * (bottom - top) / 2, top + (row + 1) * (bottom - top) / 2)
                xs = (left + column * (right - left) / 3, left + (column + 1) * (right - left) / 3)
                part = features[
                    int(image), :, math.floor(ys[0]) : math.ceil(ys[1]), math.floor(xs[0]) : math.ceil(xs[1])
                ]
                if part.numel():
                    expected[roi, :, row, column] = part.amax((1, 2))
    assert torch.equal(output, expected)
    gradient = torch.zeros_like(features)
    regions.roi_pool_backward(torch.ones_like(output), rois, argmax, gradient, 2, 3, scale)
    assert gradient.sum() == (argmax >= 0).sum()
    assert (gradient * features).sum() == pytest.approx(output.sum().item(), abs=1e-4)


def test_deformable_roi_pool_shifts_bins() -> None:
    plane = torch.arange(12.0).expand(1, 1, 12, 12)  # each value is its column
    rois = torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]])
    offset = torch.zeros(1, 2, 2, 2)
    offset[0, 0, 1, 1] = 5.0  # gamma * width * offset = 0.1 * 4 * 5 pixels to the right
    plain, shifted = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    regions.deform_roi_pool_forward(plane, rois, torch.zeros_like(offset), plain, 2, 2, 1.0, 2, 0.1)
    regions.deform_roi_pool_forward(plane, rois, offset, shifted, 2, 2, 1.0, 2, 0.1)
    torch.testing.assert_close(shifted - plain, torch.tensor([[[[0.0, 0.0], [0.0, 2.0]]]]))


def test_rotated_features_at_five_points() -> None:
    features = torch.randn(1, 1, 5, 5, generator=RANDOM)
    boxes = torch.zeros(1, 5, 5, 5)
    boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3], boxes[..., 4] = 2.0, 1.5, 2.0, 1.0, 0.4
    output = torch.zeros_like(features)
    regions.rotated_feature_align_forward(features, boxes, output, 1.0, 5)
    total = bilinear(features[0, 0], 2.0, 1.5)
    for along, aside in ((1.0, 0.5), (-1.0, 0.5), (-1.0, -0.5), (1.0, -0.5)):
        x = 1.5 + along * math.cos(0.4) - aside * math.sin(0.4)
        total += bilinear(features[0, 0], 2.0 + along * math.sin(0.4) + aside * math.cos(0.4), x)
    torch.testing.assert_close(output, features + total)

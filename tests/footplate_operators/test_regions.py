"""Compares region operators without reference figures with plain loops."""

import math
from itertools import product
from typing import Any

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


@pytest.mark.parametrize("clockwise", [False, True])
@pytest.mark.parametrize("samples", [0, 2])
def test_rotation_invariant_roi_align(samples: int, clockwise: bool) -> None:
    orientations, bins, scale = 4, (2, 3), 0.5
    features = torch.randn(2, 2 * orientations, 9, 8, generator=RANDOM)
    rois = torch.tensor(
        [
            [1, 7.0, 9.0, 10.0, 6.0, 0.4],
            [0, 8.0, 6.0, 9.0, 5.0, -2.9],
            [0, 5.0, 8.0, 4.0, 12.0, math.pi / 2],  # exactly one orientation further
            [1, 16.0, 18.0, 8.0, 8.0, 10.0],  # partly outside, and turned more than once
            [1, 4.0, 4.0, 0.0, 0.0, 1.0],  # empty: one pixel is used
        ]
    )
    output = torch.zeros(5, 2 * orientations, *bins)
    settings: dict[str, Any] = {"spatial_scale": scale, "num_samples": samples, "num_orientations": orientations}
    settings |= {"pooled_height": bins[0], "pooled_width": bins[1], "clockwise": clockwise}
    regions.riroi_align_rotated_forward(features, rois, output, **settings)
    expected = torch.zeros_like(output)
    for roi, (image, *values) in enumerate(rois.tolist()):
        center_x, center_y, width, height = (value * scale for value in values[:4])
        width, height, angle = max(width, 1.0), max(height, 1.0), -values[4] if clockwise else values[4]
        grid_y, grid_x = samples or math.ceil(height / bins[0]), samples or math.ceil(width / bins[1])
        turned, share = divmod(values[4] * orientations / (2 * math.pi), 1)
        for channel in range(2 * orientations):
            group, orientation = divmod(channel, orientations)
            sources = [group * orientations + int(orientation - turned + step) % orientations for step in (0, 1)]
            for row, column in product(range(bins[0]), range(bins[1])):
                for step_y, step_x in product(range(grid_y), range(grid_x)):
                    down = ((row + (step_y + 0.5) / grid_y) / bins[0] - 0.5) * height
                    across = ((column + (step_x + 0.5) / grid_x) / bins[1] - 0.5) * width
                    y = down * math.cos(angle) - across * math.sin(angle) + center_y
                    x = down * math.sin(angle) + across * math.cos(angle) + center_x
                    for source, part in zip(sources, (1 - share, share), strict=True):
                        value = part * bilinear(features[int(image), source], y, x)
                        expected[roi, channel, row, column] += value / (grid_y * grid_x)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)
    cotangent, step = torch.randn(output.shape, generator=RANDOM), torch.randn(features.shape, generator=RANDOM)
    gradient, change = torch.zeros_like(features), torch.zeros_like(output)
    regions.riroi_align_rotated_backward(cotangent, rois, gradient, **settings)
    regions.riroi_align_rotated_forward(features + step, rois, change, **settings)
    slope = ((change - output) * cotangent).sum()  # the operator is linear in the features
    assert (gradient * step).sum().item() == pytest.approx(slope.item(), abs=1e-4)


def test_maximum_pooling_without_rois() -> None:
    features, rois, output, y, x = torch.rand(1, 2, 5, 5), torch.zeros(0, 5), *torch.zeros(3, 0, 2, 7, 7)
    regions.roi_pool_forward(features, rois, output, y.int(), 7, 7, 1.0)
    regions.roi_align_forward(features, rois, output, y, x, 7, 7, 1.0, 0, 0, True)
    gradient = torch.zeros_like(features)
    regions.roi_align_backward(output, rois, y, x, gradient, 7, 7, 1.0, 0, 0, True)
    assert not gradient.any()


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


def test_bezier_align_samples_between_two_curves() -> None:
    plane = torch.arange(12.0)[:, None] * 10 + torch.arange(12.0)  # linear, so that a sample is 10 y + x
    # The upper curve rises from (2, 2) by 3 pixels, the lower one is straight and comes from right to left.
    points = [0, 2, 2, 4, 2, 6, 5, 8, 5, 8, 9, 6, 9, 4, 9, 2, 9]
    beziers = torch.tensor([points], dtype=torch.float32)
    output = torch.zeros(1, 1, 2, 3)
    settings = {"aligned_height": 2, "aligned_width": 3, "spatial_scale": 1.0, "sampling_ratio": 2, "aligned": False}
    regions.bezier_align_forward(plane[None, None], beziers, output, **settings)
    for row, column in product(range(2), range(3)):
        along, below = column / 3, row / 2
        upper = 2 + 3 * (3 * along**2 * (1 - along) + along**3)
        assert output[0, 0, row, column].item() == pytest.approx(
            10 * (upper * (1 - below) + 9 * below) + 2 + 6 * along, abs=1e-4
        )
    gradient = torch.zeros(1, 1, 12, 12)
    regions.bezier_align_backward(torch.ones_like(output), beziers, gradient, **settings)
    torch.testing.assert_close((gradient[0, 0] * plane).sum(), output.sum())

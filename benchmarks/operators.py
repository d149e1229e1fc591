"""Time and peak memory of each operator at the sizes of real models.

    python -m benchmarks operators [--only NAME] [--json FILE]

Each row is one call: of an operator, or of its gradient. The time is the minimum of three calls on one CPU thread.
`arguments` is the memory of all tensors that the call takes and returns: inputs, outputs and gradients. `temporary` is
the peak of what it allocates beyond them, as the allocators of torch and Python (which NumPy uses) count it. `ratio` is
the peak of both, divided by `arguments`. For small arguments, such as the boxes of NMS, look at `temporary` instead:
blocks of work are at least a few MiB.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from footplate_operators import create_extension

EXTENSION = create_extension()
_RANDOM = torch.Generator()
_EMPTY = torch.empty(0)
_MIB = 2**20


class Call(NamedTuple):
    """A call of an operator.

    Attributes:
        operator: The operator's name in `mmcv._ext`.
        arguments: The positional arguments.
        settings: The keyword arguments.
    """

    operator: str
    arguments: tuple[Any, ...]
    settings: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def run(self) -> Any:
        """Calls the operator."""
        return getattr(EXTENSION, self.operator)(*self.arguments, **self.settings)


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_RANDOM)


def _uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=_RANDOM)


def _boxes(count: int, size: tuple[int, int], smallest: float, largest: float) -> Tensor:
    """Returns boxes x1, y1, x2, y2 with the given range of side lengths in an image of the given height and width."""
    height, width = size
    centers = _uniform(count, 2) * torch.tensor([width, height])
    sides = smallest * (largest / smallest) ** _uniform(count, 2)
    limits = torch.tensor([width, height, width, height])
    return torch.cat((centers - sides / 2, centers + sides / 2), 1).clamp(min=torch.zeros(4), max=limits)


def _crowded(count: int) -> tuple[Tensor, Tensor]:
    """Returns proposals of a detector and their scores: about ten boxes for each of the objects."""
    objects = _boxes(max(1, count // 10), (800, 1333), 16, 400)
    boxes = objects[torch.randint(len(objects), (count,), generator=_RANDOM)]
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    return boxes + _normal(count, 4) * sides * 0.1, _uniform(count)


def _rotated(boxes: Tensor) -> Tensor:
    """Converts boxes x1, y1, x2, y2 to boxes of the same place and size with a random angle."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return torch.cat(((low + high) / 2, (high - low).clamp(min=1), _uniform(len(boxes), 1, high=math.pi)), 1)


def _boxes_3d(count: int) -> Tensor:
    """Returns boxes of cars in the range of PointPillars on KITTI: center, sizes and angle."""
    centers = _uniform(count, 3) * torch.tensor([69.12, 79.36, 1.0]) + torch.tensor([0, -39.68, -2.0])
    return torch.cat((centers, torch.tensor([3.9, 1.6, 1.56]).expand(count, 3), _uniform(count, 1, high=6.28)), 1)


def _points_3d(*shape: int) -> Tensor:
    """Returns points in the range of PointPillars on KITTI, more of them near the sensor."""
    return _uniform(*shape, 3) ** 2 * torch.tensor([69.12, 39.68, 4.0]) + torch.tensor([0, -10.0, -3])


def _rois(count: int, size: tuple[int, int], smallest: float, largest: float) -> Tensor:
    return torch.cat((torch.zeros(count, 1), _boxes(count, size, smallest, largest)), 1)


def _roi_align(channels: int, scale: float, rois: Tensor, bins: int, mode: int) -> Iterator[Call]:
    features = _normal(1, channels, round(800 * scale), round(1344 * scale))
    output, y, x = (torch.zeros(len(rois), channels, bins, bins) for _ in range(3))
    if mode == 1:
        y = x = _EMPTY
    settings = (bins, bins, scale, 0 if mode == 1 else 2, mode, True)
    yield Call("roi_align_forward", (features, rois, output, y, x, *settings))
    yield Call("roi_align_backward", (_normal(*output.shape), rois, y, x, torch.zeros_like(features), *settings))


def roi_align_7() -> Iterator[Call]:
    """Mask R-CNN, 1333 x 800: 512 RoIs on the level of stride 4."""
    return _roi_align(256, 1 / 4, _rois(512, (800, 1333), 16, 112), 7, 1)


def roi_align_14() -> Iterator[Call]:
    """Mask R-CNN, 1333 x 800: the mask head's 128 RoIs on the level of stride 8."""
    return _roi_align(256, 1 / 8, _rois(128, (800, 1333), 112, 224), 14, 1)


def roi_align_max() -> Iterator[Call]:
    """Max pooling of 512 RoIs on the level of stride 16."""
    return _roi_align(256, 1 / 16, _rois(512, (800, 1333), 64, 448), 7, 0)


def roi_pool() -> Iterator[Call]:
    """Fast R-CNN: 512 RoIs on the level of stride 16."""
    features, rois = _normal(1, 512, 50, 84), _rois(512, (800, 1333), 64, 448)
    output, argmax = torch.zeros(512, 512, 7, 7), torch.zeros(512, 512, 7, 7, dtype=torch.int32)
    yield Call("roi_pool_forward", (features, rois, output, argmax, 7, 7, 1 / 16))
    gradient = torch.zeros_like(features)
    yield Call("roi_pool_backward", (_normal(*output.shape), rois, argmax, gradient, 7, 7, 1 / 16))


def _rotated_rois(count: int) -> Tensor:
    return torch.cat((torch.zeros(count, 1), _rotated(_boxes(count, (1024, 1024), 16, 112))), 1)


def roi_align_rotated() -> Iterator[Call]:
    """Oriented R-CNN, 1024 x 1024: 512 RoIs on the level of stride 4."""
    features, rois, output = _normal(1, 256, 256, 256), _rotated_rois(512), torch.zeros(512, 256, 7, 7)
    settings = (7, 7, 1 / 4, 2, True, True)
    yield Call("roi_align_rotated_forward", (features, rois, output, *settings))
    yield Call("roi_align_rotated_backward", (_normal(*output.shape), rois, torch.zeros_like(features), *settings))


def riroi_align_rotated() -> Iterator[Call]:
    """ReDet, 1024 x 1024: 512 RoIs on the level of stride 4, 8 orientations."""
    features, rois, output = _normal(1, 256, 256, 256), _rotated_rois(512), torch.zeros(512, 256, 7, 7)
    settings = (7, 7, 1 / 4, 2, 8, True)
    yield Call("riroi_align_rotated_forward", (features, rois, output, *settings))
    yield Call("riroi_align_rotated_backward", (_normal(*output.shape), rois, torch.zeros_like(features), *settings))


def rotated_feature_align() -> Iterator[Call]:
    """R3Det, 1024 x 1024: the level of stride 8."""
    features = _normal(1, 256, 128, 128)
    boxes = _rotated(_boxes(128 * 128, (1024, 1024), 16, 112)).view(1, 128, 128, 5)
    yield Call("rotated_feature_align_forward", (features, boxes, torch.zeros_like(features), 1 / 8, 5))
    gradients = _normal(*features.shape), boxes, torch.zeros_like(features)
    yield Call("rotated_feature_align_backward", (*gradients, 1 / 8, 5))


def deform_roi_pool() -> Iterator[Call]:
    """Faster R-CNN with deformable pooling: 512 RoIs on the level of stride 8."""
    features, rois = _normal(1, 256, 100, 168), _rois(512, (800, 1333), 32, 224)
    output, offset, settings = torch.zeros(512, 256, 7, 7), _normal(512, 2, 7, 7), (7, 7, 1 / 8, 2, 0.1)
    yield Call("deform_roi_pool_forward", (features, rois, offset, output, *settings))
    gradients = torch.zeros_like(features), torch.zeros_like(offset)
    yield Call("deform_roi_pool_backward", (_normal(*output.shape), features, rois, offset, *gradients, *settings))


def bezier_align() -> Iterator[Call]:
    """ABCNet: 128 text lines on the level of stride 4."""
    features, boxes = _normal(1, 256, 200, 336), _boxes(128, (800, 1333), 32, 224)
    left, top, right, bottom = boxes.unbind(1)
    share = torch.linspace(0, 1, 4)
    along = left[:, None] + share * (right - left)[:, None]
    upper = torch.stack((along, top[:, None].expand(-1, 4)), -1).flatten(1)
    lower = torch.stack((along.flip(1), bottom[:, None].expand(-1, 4)), -1).flatten(1)
    beziers, output = torch.cat((torch.zeros(128, 1), upper, lower), 1), torch.zeros(128, 256, 8, 32)
    settings = (8, 32, 1 / 4, 2, True)
    yield Call("bezier_align_forward", (features, beziers, output, *settings))
    yield Call("bezier_align_backward", (_normal(*output.shape), beziers, torch.zeros_like(features), *settings))


def _deform_conv(channels: int, height: int, width: int, groups: int) -> Iterator[Call]:
    features, weight = _normal(2, channels, height, width), _normal(channels, channels // groups, 3, 3)
    offset, grad = _normal(2, 18, height, width), _normal(2, channels, height, width)
    settings = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "padW": 1, "padH": 1, "dilationW": 1, "dilationH": 1}
    settings |= {"group": groups, "deformable_group": 1, "im2col_step": 2}
    yield Call("deform_conv_forward", (features, weight, offset, torch.zeros_like(grad), _EMPTY, _EMPTY), settings)
    gradients = torch.zeros_like(features), torch.zeros_like(offset)
    yield Call("deform_conv_backward_input", (features, offset, grad, *gradients, weight, _EMPTY), settings)
    arguments = features, offset, grad, torch.zeros_like(weight), _EMPTY, _EMPTY
    yield Call("deform_conv_backward_parameters", arguments, {**settings, "scale": 1})


def deform_conv_stage_4() -> Iterator[Call]:
    """ResNet-50 with deformable convolution, two images of 1333 x 800: stage 4."""
    return _deform_conv(512, 25, 42, 1)


def _modulated_deform_conv(channels: int, height: int, width: int) -> Iterator[Call]:
    features, weight, bias = _normal(2, channels, height, width), _normal(channels, channels, 3, 3), _EMPTY
    offset, mask = _normal(2, 18, height, width), _uniform(2, 9, height, width)
    settings = {f"{name}_{side}": 1 for name in ("stride", "pad", "dilation") for side in "hw"}
    settings |= {"kernel_h": 3, "kernel_w": 3, "group": 1, "deformable_group": 1, "with_bias": False}
    inputs, output = (features, weight, bias, _EMPTY, offset, mask), _normal(*features.shape)
    yield Call("modulated_deform_conv_forward", (*inputs, torch.zeros_like(output), _EMPTY), settings)
    gradients = (torch.zeros_like(each) for each in (features, weight, bias, offset, mask))
    yield Call("modulated_deform_conv_backward", (*inputs, _EMPTY, *gradients, output), settings)


def modulated_deform_conv_stage_4() -> Iterator[Call]:
    """ResNet-50 with modulated deformable convolution, two images of 1333 x 800: stage 4."""
    return _modulated_deform_conv(512, 25, 42)


def modulated_deform_conv_stage_2() -> Iterator[Call]:
    """ResNet-50 with modulated deformable convolution, two images of 1333 x 800: stage 2."""
    return _modulated_deform_conv(128, 100, 168)


def _ms_deform_attn(queries: int | None) -> Iterator[Call]:
    shapes = torch.tensor([[100, 167], [50, 84], [25, 42], [13, 21]])
    ends = shapes.prod(1).cumsum(0)
    pixels = int(ends[-1])
    queries = queries or pixels
    value, weights = _normal(1, pixels, 8, 32), _uniform(1, queries, 8, 4, 4)
    if queries == pixels:
        places = [
            torch.stack(torch.meshgrid((torch.arange(w) + 0.5) / w, (torch.arange(h) + 0.5) / h, indexing="xy"), -1)
            for h, w in shapes.tolist()
        ]
        centers = torch.cat([place.flatten(0, 1) for place in places])
    else:
        centers = _uniform(queries, 2)
    locations = centers[None, :, None, None, None] + 0.05 * _normal(1, queries, 8, 4, 4, 2)
    levels = shapes, torch.cat((ends.new_zeros(1), ends[:-1]))
    yield Call("ms_deform_attn_forward", (value, *levels, locations, weights, 64))
    gradients = (torch.zeros_like(each) for each in (value, locations, weights))
    grad = _normal(1, queries, 256)
    yield Call("ms_deform_attn_backward", (value, *levels, locations, weights, grad, *gradients, 64))


def ms_deform_attn_encoder() -> Iterator[Call]:
    """Deformable DETR, DINO, 1333 x 800: a layer of the encoder with 22,223 tokens."""
    return _ms_deform_attn(None)


def ms_deform_attn_decoder() -> Iterator[Call]:
    """DINO, 1333 x 800: a layer of the decoder with 1,100 queries."""
    return _ms_deform_attn(1100)


def carafe() -> Iterator[Call]:
    """FPN with CARAFE, 1333 x 800: from stride 16 to stride 8."""
    features, masks = _normal(1, 256, 50, 84), _uniform(1, 25, 100, 168)
    output, settings = torch.zeros(1, 256, 100, 168), (5, 1, 2)
    buffers = [torch.empty(0) for _ in range(4)]
    yield Call("carafe_forward", (features, masks, buffers[0], buffers[1], buffers[2], output, *settings))
    gradients = torch.zeros_like(features), torch.zeros_like(masks)
    grad = _normal(*output.shape)
    yield Call("carafe_backward", (grad, features, masks, *buffers, *gradients, *settings))


def sigmoid_focal_loss() -> Iterator[Call]:
    """RetinaNet, 1333 x 800: 201,600 anchors, 80 classes."""
    count = 201_600
    logits, target = _normal(count, 80), torch.randint(81, (count,), generator=_RANDOM)
    yield Call("sigmoid_focal_loss_forward", (logits, target, _EMPTY, torch.zeros_like(logits), 2.0, 0.25))
    yield Call("sigmoid_focal_loss_backward", (logits, target, _EMPTY, torch.zeros_like(logits), 2.0, 0.25))


def softmax_focal_loss() -> Iterator[Call]:
    """50,000 anchors, 81 classes."""
    logits, target = _normal(50_000, 81).softmax(1), torch.randint(81, (50_000,), generator=_RANDOM)
    yield Call("softmax_focal_loss_forward", (logits, target, _EMPTY, torch.zeros(50_000), 2.0, 0.25))
    arguments = logits, target, _EMPTY, torch.zeros(50_000), torch.zeros_like(logits), 2.0, 0.25
    yield Call("softmax_focal_loss_backward", arguments)


def psamask() -> Iterator[Call]:
    """PSANet, 473 x 473: masks of 59 x 59 for 30 x 30 pixels."""
    masks, output = _normal(2, 59 * 59, 30, 30), torch.zeros(2, 900, 30, 30)
    settings = (0, 2, 30, 30, 59, 59, 29, 29)
    yield Call("psamask_forward", (masks, output, *settings))
    yield Call("psamask_backward", (_normal(*output.shape), torch.zeros_like(masks), *settings))


def active_rotated_filter() -> Iterator[Call]:
    """S2ANet: filters of 256 channels with 8 orientations."""
    filters, indices = _normal(32, 256, 1, 3, 3), torch.stack([torch.randperm(9) + 1 for _ in range(8)], 1)
    indices, output = indices.view(1, 3, 3, 8), torch.zeros(256, 256, 3, 3)
    yield Call("active_rotated_filter_forward", (filters, indices, output))
    yield Call("active_rotated_filter_backward", (_normal(*output.shape), indices, torch.zeros_like(filters)))


def masked_im2col() -> Iterator[Call]:
    """Guided anchors: a tenth of the pixels of the level of stride 8."""
    image, count = _normal(1, 256, 100, 168), 1680
    places = (torch.randint(size, (count,), generator=_RANDOM) for size in (100, 168))
    yield Call("masked_im2col_forward", (image, *places, torch.zeros(256 * 9, count), 3, 3, 1, 1))


def nms_2000() -> Iterator[Call]:
    """RPN: 2,000 proposals of a level."""
    yield Call("nms", (*_crowded(2000), 0.7, 0))


def nms_10000() -> Iterator[Call]:
    """10,000 boxes of a dense detector."""
    yield Call("nms", (*_crowded(10_000), 0.6, 0))


def soft_nms() -> Iterator[Call]:
    """Soft-NMS of 2,000 boxes."""
    boxes, scores = _crowded(2000)
    yield Call("softnms", (boxes, scores, torch.zeros(2000, 5), 0.5, 0.5, 0.05, 1, 0))


def nms_match() -> Iterator[Call]:
    """2,000 boxes."""
    boxes, scores = _crowded(2000)
    yield Call("nms_match", (torch.cat((boxes, scores[:, None]), 1), 0.6))


def nms_rotated() -> Iterator[Call]:
    """Oriented R-CNN: 2,000 proposals."""
    boxes, scores = _crowded(2000)
    boxes = _rotated(boxes)
    order = scores.sort(descending=True)[1]
    yield Call("nms_rotated", (boxes, scores, order, boxes[order], _EMPTY, 0.5, 0))


def nms_quadri() -> Iterator[Call]:
    """1,000 quadrilaterals."""
    boxes, scores = _crowded(1000)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]] + _normal(1000, 8)
    order = scores.sort(descending=True)[1]
    yield Call("nms_quadri", (corners, scores, order, corners[order], 0.5, 0))


def nms_3d() -> Iterator[Call]:
    """PointRCNN: 9,000 proposals."""
    boxes = _boxes_3d(900)[torch.randint(900, (9000,), generator=_RANDOM)] + 0.1 * _normal(9000, 7)
    yield Call("iou3d_nms3d_forward", (boxes, torch.zeros(9000, dtype=torch.long), torch.zeros(()), 0.8))


def nms_3d_normal() -> Iterator[Call]:
    """9,000 proposals, seen from above, without their angles."""
    boxes = _boxes_3d(900)[torch.randint(900, (9000,), generator=_RANDOM)] + 0.1 * _normal(9000, 7)
    yield Call("iou3d_nms3d_normal_forward", (boxes, torch.zeros(9000, dtype=torch.long), torch.zeros(()), 0.8))


def bbox_overlaps() -> Iterator[Call]:
    """20,000 anchors and 100 objects."""
    first, second = (_boxes(count, (800, 1333), 16, 400) for count in (20_000, 100))
    yield Call("bbox_overlaps", (first, second, torch.zeros(20_000, 100), 0, False, 0))


def box_iou_rotated() -> Iterator[Call]:
    """Rotated RetinaNet: 21,824 anchors and 50 objects."""
    first, second = (_rotated(_boxes(count, (1024, 1024), 16, 200)) for count in (21_824, 50))
    yield Call("box_iou_rotated", (first, second, torch.zeros(21_824, 50), 0, False))


def box_iou_quadri() -> Iterator[Call]:
    """5,000 anchors and 50 objects."""
    corners = (_boxes(count, (1024, 1024), 16, 200)[:, [0, 1, 2, 1, 2, 3, 0, 3]] for count in (5000, 50))
    yield Call("box_iou_quadri", (*corners, torch.zeros(5000, 50), 0, False))


def convex_iou() -> Iterator[Call]:
    """Oriented RepPoints: 2,000 point sets and 50 objects."""
    sets, boxes = _uniform(2000, 18, high=200), _boxes(50, (200, 200), 16, 100)
    yield Call("convex_iou", (sets, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]], torch.zeros(2000, 50)))


def convex_giou() -> Iterator[Call]:
    """Oriented RepPoints: 2,000 positive point sets."""
    sets, boxes = _uniform(2000, 18, high=200), _boxes(2000, (200, 200), 16, 100)
    yield Call("convex_giou", (sets, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]], torch.zeros(2000, 19)))


def min_area_polygons() -> Iterator[Call]:
    """Oriented RepPoints: 2,000 point sets."""
    yield Call("min_area_polygons", (_uniform(2000, 18, high=200), torch.zeros(2000, 8)))


def iou3d_boxes_overlap_bev() -> Iterator[Call]:
    """PointRCNN: 512 proposals for each of 50 objects."""
    yield Call("iou3d_boxes_overlap_bev_forward", (_boxes_3d(5000), _boxes_3d(50), torch.zeros(5000, 50)))


def diff_iou_rotated_sort_vertices() -> Iterator[Call]:
    """Two samples with 1,000 pairs of boxes."""
    vertices = _normal(2, 1000, 24, 2)
    mask = _uniform(2, 1000, 24) < 0.3
    yield Call("diff_iou_rotated_sort_vertices_forward", (vertices, mask, mask.sum(-1).int()))


def points_in_polygons() -> Iterator[Call]:
    """RepPoints: 21,824 points and 50 objects."""
    boxes = _boxes(50, (1024, 1024), 16, 200)[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    arguments = _uniform(21_824, 2, high=1024), boxes, torch.zeros(21_824, 50)
    yield Call("points_in_polygons_forward", arguments)


def _integers(*shape: int, high: int) -> Tensor:
    return torch.randint(high, shape, generator=_RANDOM, dtype=torch.int32)


def ball_query() -> Iterator[Call]:
    """PointRCNN: 4,096 centers among 16,384 points."""
    points, found = _points_3d(1, 16_384), torch.zeros(1, 4096, 32, dtype=torch.int32)
    yield Call("ball_query_forward", (points[:, :4096].clone(), points, found, 1, 16_384, 4096, 0.0, 0.5, 32))


def stack_ball_query() -> Iterator[Call]:
    """PV-RCNN: 2,048 centers among 16,384 points, in each of two samples."""
    counts = torch.tensor([2048, 2048]), torch.tensor([16_384, 16_384])
    points = _points_3d(32_768)
    centers = torch.cat((points[:2048], points[-2048:]))
    found = torch.zeros(4096, 16, dtype=torch.int32)
    yield Call("stack_ball_query_forward", (centers, counts[0], points, counts[1], found, 0.8, 16))


def knn() -> Iterator[Call]:
    """The 16 nearest of 16,384 points for 4,096 centers."""
    points, found = _points_3d(1, 16_384), torch.zeros(1, 4096, 16, dtype=torch.int32)
    arguments = points, points[:, :4096].clone(), found, torch.zeros(1, 4096, 16), 1, 16_384, 4096, 16
    yield Call("knn_forward", arguments)


def three_nn() -> Iterator[Call]:
    """PointNet++: the 3 nearest of 4,096 points for 16,384 points."""
    points, found = _points_3d(1, 16_384), torch.zeros(1, 16_384, 3, dtype=torch.int32)
    yield Call("three_nn_forward", (points, points[:, :4096].clone(), torch.zeros(1, 16_384, 3), found))


def furthest_point_sampling() -> Iterator[Call]:
    """PointRCNN: 4,096 of 16,384 points, of which the first 512 are measured."""
    arguments = _points_3d(1, 16_384), torch.full((1, 16_384), 1e10), torch.zeros(1, 512, dtype=torch.int32)
    yield Call("furthest_point_sampling_forward", arguments)


def three_interpolate() -> Iterator[Call]:
    """PointNet++: 256 channels of 4,096 points at 16,384 points."""
    features, index, weight = _normal(1, 256, 4096), _integers(1, 16_384, 3, high=4096), _uniform(1, 16_384, 3)
    output, sizes = torch.zeros(1, 256, 16_384), (1, 256, 4096, 16_384)
    yield Call("three_interpolate_forward", (features, index, weight, output, *sizes))
    arguments = _normal(*output.shape), index, weight, torch.zeros_like(features), *sizes
    yield Call("three_interpolate_backward", arguments)


def group_points() -> Iterator[Call]:
    """PointRCNN: 96 channels of 4,096 points in 1,024 groups of 32."""
    features, index, output = _normal(2, 96, 4096), _integers(2, 1024, 32, high=4096), torch.zeros(2, 96, 1024, 32)
    yield Call("group_points_forward", (features, index, output))
    yield Call("group_points_backward", (_normal(*output.shape), index, torch.zeros_like(features)))


def stack_group_points() -> Iterator[Call]:
    """PV-RCNN: 32 channels of 16,384 points in 4,096 groups of 16."""
    features, index, output = _normal(16_384, 32), _integers(4096, 16, high=8192), torch.zeros(4096, 32, 16)
    counts = torch.tensor([8192, 8192]), torch.tensor([2048, 2048])
    yield Call("stack_group_points_forward", (features, counts[0], index, counts[1], output))
    arguments = _normal(*output.shape), index, counts[1], counts[0], torch.zeros_like(features)
    yield Call("stack_group_points_backward", arguments)


def assign_score_withk() -> Iterator[Call]:
    """PAConv: 16 weight matrices of 32 channels, 2,048 centers with 32 neighbors."""
    points, centers = _normal(1, 2048, 16, 32), _normal(1, 2048, 16, 32)
    scores, neighbors = _uniform(1, 2048, 32, 16), _integers(1, 2048, 32, high=2048).long()
    output = torch.zeros(1, 32, 2048, 32)
    yield Call("assign_score_withk_forward", (points, centers, scores, neighbors, output))
    gradients = (torch.zeros_like(each) for each in (points, centers, scores))
    grad = _normal(*output.shape)
    yield Call("assign_score_withk_backward", (grad, points, centers, scores, neighbors, *gradients))


def chamfer_distance() -> Iterator[Call]:
    """4,096 points in each of two sets, two samples."""
    first, second = _normal(2, 4096, 2), _normal(2, 4096, 2)
    distances = torch.zeros(2, 4096), torch.zeros(2, 4096)
    indices = _integers(2, 4096, high=1), _integers(2, 4096, high=1)
    yield Call("chamfer_distance_forward", (first, second, *distances, *indices))
    gradients = torch.zeros_like(first), torch.zeros_like(second)
    yield Call("chamfer_distance_backward", (first, second, *indices, *map(torch.ones_like, distances), *gradients))


def points_in_boxes_part() -> Iterator[Call]:
    """KITTI: 20,000 points, 40 boxes."""
    found = torch.zeros(1, 20_000, dtype=torch.int32)
    yield Call("points_in_boxes_part_forward", (_boxes_3d(40)[None], _points_3d(1, 20_000), found))


def points_in_boxes_all() -> Iterator[Call]:
    """KITTI: 20,000 points, 40 boxes."""
    found = torch.zeros(1, 20_000, 40, dtype=torch.int32)
    yield Call("points_in_boxes_all_forward", (_boxes_3d(40)[None], _points_3d(1, 20_000), found))


def roiaware_pool3d() -> Iterator[Call]:
    """Part-A2: 128 boxes of 14 x 14 x 14 voxels, 16,000 points with 16 channels."""
    boxes, points, features = _boxes_3d(128), _points_3d(16_000), _normal(16_000, 16)
    output, argmax = torch.zeros(128, 14, 14, 14, 16), torch.zeros(128, 14, 14, 14, 16, dtype=torch.int32)
    lists = torch.zeros(128, 14, 14, 14, 129, dtype=torch.int32)
    yield Call("roiaware_pool3d_forward", (boxes, points, features, argmax, lists, output, 0))
    yield Call("roiaware_pool3d_backward", (lists, argmax, _normal(*output.shape), torch.zeros_like(features), 0))


def roipoint_pool3d() -> Iterator[Call]:
    """PointRCNN: 128 boxes, 16,384 points with 128 channels, 512 points per box."""
    points, boxes, features = _points_3d(1, 16_384), _boxes_3d(128)[None], _normal(1, 16_384, 128)
    output, empty = torch.zeros(1, 128, 512, 131), torch.zeros(1, 128, dtype=torch.int32)
    yield Call("roipoint_pool3d_forward", (points, boxes, features, output, empty))


def _grid() -> tuple[Tensor, Tensor]:
    return torch.tensor([0.16, 0.16, 4.0]), torch.tensor([0, -39.68, -3, 69.12, 39.68, 1])


def hard_voxelize() -> Iterator[Call]:
    """PointPillars on KITTI: 20,000 points, up to 16,000 pillars of 32 points."""
    points = torch.cat((_points_3d(20_000), _uniform(20_000, 1)), 1)
    places, counts = torch.zeros(16_000, 3, dtype=torch.int32), torch.zeros(16_000, dtype=torch.int32)
    outputs = torch.zeros(16_000, 32, 4), places, counts, torch.zeros((), dtype=torch.long)
    yield Call("hard_voxelize_forward", (points, *_grid(), *outputs, 32, 16_000))


def dynamic_voxelize() -> Iterator[Call]:
    """PointPillars on KITTI: 20,000 points."""
    places = torch.zeros(20_000, 3, dtype=torch.int32)
    yield Call("dynamic_voxelize_forward", (_points_3d(20_000), *_grid(), places))


def dynamic_point_to_voxel() -> Iterator[Call]:
    """Dynamic PointPillars on KITTI: 20,000 points with 64 channels."""
    places = torch.zeros(20_000, 3, dtype=torch.int32)
    EXTENSION.dynamic_voxelize_forward(_points_3d(20_000), *_grid(), places)
    features = _normal(20_000, 64)
    yield Call("dynamic_point_to_voxel_forward", (features, places, "max"))
    reduced, _, of_point, counts = EXTENSION.dynamic_point_to_voxel_forward(features, places, "max")
    arguments = torch.zeros_like(features), _normal(*reduced.shape), features, reduced, of_point, counts, "max"
    yield Call("dynamic_point_to_voxel_backward", arguments)


def sparse_convolution() -> Iterator[Call]:
    """SECOND on KITTI: a submanifold convolution of 16,000 voxels, from 64 to 64 channels."""
    cells = torch.unique(torch.cat((_integers(20_000, 1, high=2), _integers(20_000, 3, high=64)), 1), dim=0)[:16_000]
    grid, ones = [64, 64, 64], [1, 1, 1]
    yield Call("get_indice_pairs_3d_forward", (cells, 2, grid, grid, [3, 3, 3], ones, ones, ones, [0, 0, 0], 1, 0))
    _, pairs, counts = EXTENSION.get_indice_pairs_3d_forward(
        cells, 2, grid, grid, [3, 3, 3], ones, ones, ones, [0, 0, 0], 1, 0
    )
    features, filters = _normal(len(cells), 64), _normal(3, 3, 3, 64, 64)
    yield Call("indice_conv_forward", (features, filters, pairs, counts, len(cells), 0, 1))
    grad = _normal(len(cells), 64)
    yield Call("indice_conv_backward", (features, filters, grad, pairs, counts, 0, 1))


CASES: dict[str, Callable[[], Iterator[Call]]] = {
    name: value
    for name, value in list(globals().items())
    if not name.startswith("_")
    and callable(value)
    and getattr(value, "__annotations__", {}) == {"return": Iterator[Call]}
}


def tensors(value: Any) -> Iterator[Tensor]:
    """Yields the tensors in a value, and in its lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors(item)


def size(value: Any) -> int:
    """Returns the memory of the tensors in a value, in bytes."""
    storages = (tensor.untyped_storage() for tensor in tensors(value))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def peak(function: Callable[[], Any]) -> tuple[int, Any]:
    """Returns the peak of what a call allocates, with the tensors that it returns, in bytes, and its result."""
    tracemalloc.start()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = function()
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    total = highest = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        total += event["args"]["Bytes"]
        highest = max(highest, total)
    return highest + python, result


def measure(call: Call) -> dict[str, Any]:
    """Measures the time and the memory of a call."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call.run()
        times.append(time.perf_counter() - start)
    allocated, result = peak(call.run)
    arguments = size((call.arguments, result))
    temporary = max(0, allocated - size(result))
    return {
        "milliseconds": min(times) * 1e3,
        "arguments": arguments / _MIB,
        "temporary": temporary / _MIB,
        "ratio": 1 + temporary / arguments,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="NAME", help="measure only the cases whose name contains this text")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    peak(lambda: None)  # the first use of the profiler imports modules
    sys.stdout.write(f"{'case':<32}{'operator':<40}{'ms':>8}{'arguments':>11}{'temporary':>11}{'ratio':>8}\n")
    for name, case in CASES.items():
        if options.only and options.only not in name:
            continue
        _RANDOM.manual_seed(0)
        for call in case():
            row = {"case": name, "size": case.__doc__, "operator": call.operator, **measure(call)}
            rows.append(row)
            sys.stdout.write(
                f"{name:<32}{call.operator:<40}{row['milliseconds']:>8.1f}{row['arguments']:>7.1f} MiB"
                f"{row['temporary']:>7.1f} MiB{row['ratio']:>8.2f}\n"
            )
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

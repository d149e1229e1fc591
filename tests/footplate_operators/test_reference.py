"""Compares the operators with figures of mmcv's compiled ones (onedl-mmcv 2.3.6, torch 2.13, CPU)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate_operators import create_extension

FIGURES = np.load(Path(__file__).parents[1] / "data" / "operators" / "reference.npz")
EXTENSION = create_extension()


def figures(case: str, kind: str) -> dict[int, Tensor]:
    prefix = f"{case}/{kind}"
    return {
        int(key[len(prefix) :]): torch.from_numpy(FIGURES[key])
        for key in FIGURES.files
        if key.startswith(prefix) and key[len(prefix) :].isdigit()
    }


def expect(case: str, *outputs: Tensor) -> None:
    """Asserts that outputs agree to 1e-5."""
    for output, reference in zip(outputs, figures(case, "out").values(), strict=True):
        torch.testing.assert_close(output, reference, rtol=0, atol=1e-5)


def expect_gradients(case: str, gradients: dict[int, Tensor]) -> None:
    """Asserts that gradients agree to 1e-4."""
    reference = figures(case, "grad")
    assert gradients.keys() == reference.keys()
    for index, gradient in gradients.items():
        torch.testing.assert_close(gradient, reference[index], rtol=0, atol=1e-4)


def boxes_with_scores(boxes: Tensor, scores: Tensor, kept: Tensor) -> Tensor:
    return torch.cat((boxes[kept], scores[kept][:, None]), 1)


@pytest.mark.parametrize(("case", "threshold", "offset", "limit"), [("nms", 0.5, 0, None), ("nms_offset1", 0.4, 1, 20)])
def test_nms(case: str, threshold: float, offset: int, limit: int | None) -> None:
    boxes, scores = figures(case, "in").values()
    kept = EXTENSION.nms(boxes, scores, iou_threshold=threshold, offset=offset)[:limit]
    expect(case, boxes_with_scores(boxes, scores, kept), kept)


def test_batched_nms() -> None:
    boxes, scores, classes = figures("batched_nms", "in").values()
    apart = boxes + classes[:, None] * (boxes.max() + 1)  # boxes of different classes do not overlap
    kept = EXTENSION.nms(apart, scores, iou_threshold=0.5, offset=0)
    expect("batched_nms", boxes_with_scores(boxes, scores, kept), kept)


@pytest.mark.parametrize(("case", "method"), [("naive", 0), ("linear", 1), ("gaussian", 2)])
def test_soft_nms(case: str, method: int) -> None:
    boxes, scores = figures(f"soft_nms_{case}", "in").values()
    found = torch.zeros(len(boxes), 5)
    settings = {"iou_threshold": 0.3, "sigma": 0.5, "min_score": 1e-3, "method": method, "offset": 0}
    kept = EXTENSION.softnms(boxes, scores, found, **settings)
    expect(f"soft_nms_{case}", found[: len(kept)], kept)


def test_nms_match() -> None:
    (boxes,) = figures("nms_match", "in").values()
    groups = EXTENSION.nms_match(boxes, 0.5)
    assert [group[0] for group in groups] == EXTENSION.nms(boxes[:, :4], boxes[:, 4], 0.5, 0).tolist()
    expect("nms_match", torch.tensor(sum(groups, [])))


def test_nms_rotated() -> None:
    boxes, scores = figures("nms_rotated", "in").values()
    order = scores.sort(descending=True)[1]
    kept = EXTENSION.nms_rotated(boxes, scores, order, boxes[order], torch.empty(0), 0.4, False)
    expect("nms_rotated", boxes_with_scores(boxes, scores, kept), kept)


@pytest.mark.parametrize(
    ("case", "mode", "aligned"), [("box_iou_rotated", 0, False), ("box_iou_rotated_iof_aligned", 1, True)]
)
def test_box_iou_rotated(case: str, mode: int, aligned: bool) -> None:
    first, second = figures(case, "in").values()
    found = torch.zeros(len(first) if aligned else len(first) * len(second))
    EXTENSION.box_iou_rotated(first, second, found, mode_flag=mode, aligned=aligned)
    expect(case, found.view(figures(case, "out")[0].shape))


@pytest.mark.parametrize(
    ("case", "mode", "aligned", "offset"), [("bbox_overlaps", 0, False, 0), ("bbox_overlaps_iof", 1, True, 1)]
)
def test_bbox_overlaps(case: str, mode: int, aligned: bool, offset: int) -> None:
    first, second = figures(case, "in").values()
    found = torch.zeros(figures(case, "out")[0].shape)
    EXTENSION.bbox_overlaps(first, second, found, mode=mode, aligned=aligned, offset=offset)
    expect(case, found)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align(mode: str, ratio: int, aligned: bool) -> None:
    case = f"roi_align_{mode}_{ratio}_{aligned}"
    features, rois = figures(case, "in").values()
    output, y, x = (torch.zeros(figures(case, "out")[0].shape) for _ in range(3))
    settings = (5, 4, 0.5, ratio, int(mode == "avg"), aligned)
    EXTENSION.roi_align_forward(features, rois, output, y, x, *settings)
    expect(case, output)
    gradient = torch.zeros_like(features)
    EXTENSION.roi_align_backward(figures(case, "cotangent")[0], rois, y, x, gradient, *settings)
    expect_gradients(case, {0: gradient})


# The operators that take one differentiable input, the other inputs, and settings.
LINEAR: dict[str, tuple[str, tuple[Any, ...]]] = {
    "roi_align_rotated": ("roi_align_rotated", (4, 4, 0.5, 2, True, False)),
    "rotated_feature_align": ("rotated_feature_align", (0.5, 1)),
    "psa_mask_collect": ("psamask", (0, 1, 4, 4, 7, 7, 3, 3)),
    "psa_mask_distribute": ("psamask", (1, 1, 4, 4, 7, 7, 3, 3)),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_operators(case: str) -> None:
    name, settings = LINEAR[case]
    features, *others = figures(case, "in").values()
    output, gradient = torch.zeros(figures(case, "out")[0].shape), torch.zeros_like(features)
    getattr(EXTENSION, f"{name}_forward")(features, *others, output, *settings)
    expect(case, output)
    getattr(EXTENSION, f"{name}_backward")(figures(case, "cotangent")[0], *others, gradient, *settings)
    expect_gradients(case, {0: gradient})


@pytest.mark.parametrize("groups", [1, 2])
def test_deform_conv(groups: int) -> None:
    case = f"deform_conv2d_{groups}_{groups}"
    features, offset, weight = figures(case, "in").values()
    (grad,) = figures(case, "cotangent").values()
    unused = torch.empty(0)
    geometry = {"kW": 3, "kH": 3, "dW": 1, "dH": 1, "padW": 1, "padH": 1, "dilationW": 1, "dilationH": 1}
    settings = {**geometry, "group": groups, "deformable_group": groups, "im2col_step": 2}
    output = torch.zeros(figures(case, "out")[0].shape)
    EXTENSION.deform_conv_forward(features, weight, offset, output, unused, unused, **settings)
    expect(case, output)
    found = [torch.zeros_like(each) for each in (features, offset, weight)]
    EXTENSION.deform_conv_backward_input(features, offset, grad, found[0], found[1], weight, unused, **settings)
    EXTENSION.deform_conv_backward_parameters(features, offset, grad, found[2], unused, unused, scale=1, **settings)
    expect_gradients(case, dict(enumerate(found)))


@pytest.mark.parametrize("groups", [1, 2])
def test_modulated_deform_conv(groups: int) -> None:
    case = f"modulated_deform_conv2d_{groups}_{groups}"
    features, offset, mask, weight, bias = figures(case, "in").values()
    (grad,) = figures(case, "cotangent").values()
    unused = torch.empty(0)
    geometry = {"kernel_h": 3, "kernel_w": 3, "stride_h": 2, "stride_w": 2, "pad_h": 1, "pad_w": 1}
    settings = {**geometry, "dilation_h": 1, "dilation_w": 1, "group": groups, "deformable_group": groups}
    output = torch.zeros(figures(case, "out")[0].shape)
    inputs = (features, weight, bias, unused, offset, mask)
    EXTENSION.modulated_deform_conv_forward(*inputs, output, unused, **settings, with_bias=True)
    expect(case, output)
    found = [torch.zeros_like(each) for each in (features, weight, bias, offset, mask)]
    EXTENSION.modulated_deform_conv_backward(*inputs, unused, *found, grad, **settings, with_bias=True)
    expect_gradients(case, {0: found[0], 1: found[3], 2: found[4], 3: found[1], 4: found[2]})


def test_ms_deform_attn() -> None:
    case = "ms_deform_attn"
    value, locations, weights = figures(case, "in").values()
    levels = torch.tensor([[8, 8], [4, 4]]), torch.tensor([0, 64])
    expect(case, EXTENSION.ms_deform_attn_forward(value, *levels, locations, weights, im2col_step=64))
    found = [torch.zeros_like(each) for each in (value, locations, weights)]
    (grad,) = figures(case, "cotangent").values()
    EXTENSION.ms_deform_attn_backward(value, *levels, locations, weights, grad, *found, im2col_step=64)
    expect_gradients(case, dict(enumerate(found)))


def test_points_in_boxes() -> None:
    points, boxes = (each[0] for each in figures("points_in_boxes_cpu", "in").values())
    found = torch.zeros(len(boxes), len(points), dtype=torch.int32)
    EXTENSION.points_in_boxes_cpu_forward(boxes, points, found)
    expect("points_in_boxes_cpu", found.T[None])


def test_modulated_deform_conv_with_offsets_of_a_larger_map() -> None:
    """The compiled operator takes the first numbers of each sample, which DyHead relies on."""
    random = torch.Generator().manual_seed(1)
    features, weight = torch.randn(2, 3, 4, 4, generator=random), torch.randn(5, 3, 3, 3, generator=random)
    offset, mask = torch.randn(2, 18, 8, 8, generator=random), torch.rand(2, 9, 8, 8, generator=random)
    geometry = {"kernel_h": 3, "kernel_w": 3, "stride_h": 1, "stride_w": 1, "pad_h": 1, "pad_w": 1}
    settings = {**geometry, "dilation_h": 1, "dilation_w": 1, "group": 1, "deformable_group": 1, "with_bias": False}
    unused = torch.empty(0)
    outputs = []
    for shift, factor in (
        (offset, mask),
        (offset.flatten(1)[:, : 18 * 16].view(2, 18, 4, 4), mask.flatten(1)[:, : 9 * 16].view(2, 9, 4, 4)),
    ):
        inputs = (features, weight, unused, unused, shift, factor)
        outputs.append(torch.zeros(2, 5, 4, 4))
        EXTENSION.modulated_deform_conv_forward(*inputs, outputs[-1], unused, **settings)
    assert torch.equal(*outputs)

"""Checks that operators need little memory beyond their arguments. `benchmarks/operators.py` measures all of them."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from footplate_operators import create_extension

EXTENSION = create_extension()
MIB = 2**20


def peak(function: Callable[[], Any], folder: Path) -> int:
    """Returns the peak of the memory that a call allocates, in bytes."""
    tracemalloc.start()  # traces NumPy's arrays
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    total = highest = 0
    for _, change in changes:
        total += change
        highest = max(highest, total)
    return highest + python


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Uses the profiler once, because its first use imports modules."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True):
        torch.empty(1)


def ratio(function: Callable[..., Any], tensors: tuple[Any, ...], folder: Path, *settings: Any, **named: Any) -> float:
    """Returns the peak of the memory of a call and its arguments, divided by that of its arguments."""
    arguments = sum(each.numel() * each.element_size() for each in tensors if isinstance(each, Tensor))
    return 1 + peak(lambda: function(*tensors, *settings, **named), folder) / arguments


def test_the_meter_finds_a_temporary_tensor(tmp_path: Path) -> None:
    assert peak(lambda: torch.empty(100 * MIB, dtype=torch.uint8).numel(), tmp_path) == pytest.approx(
        100 * MIB, rel=0.01
    )


def test_roi_align(tmp_path: Path) -> None:
    features, output, empty = torch.rand(1, 256, 50, 50), torch.zeros(64, 256, 7, 7), torch.empty(0)
    corners = torch.rand(64, 2) * 30
    rois = torch.cat((torch.zeros(64, 1), corners, corners + 13.5), 1)  # four points per bin
    settings = (7, 7, 1.0, 0, 1, True)
    assert ratio(EXTENSION.roi_align_forward, (features, rois, output, empty, empty), tmp_path, *settings) < 1.5
    tensors = torch.ones_like(output), rois, empty, empty, torch.zeros_like(features)
    assert ratio(EXTENSION.roi_align_backward, tensors, tmp_path, *settings) < 1.5


def test_modulated_deformable_convolution(tmp_path: Path) -> None:
    features, weight, empty = torch.rand(2, 128, 64, 64), torch.rand(128, 128, 3, 3), torch.empty(0)
    offset, mask, output = torch.randn(2, 18, 64, 64), torch.rand(2, 9, 64, 64), torch.zeros(2, 128, 64, 64)
    settings: dict[str, Any] = {f"{name}_{side}": 1 for name in ("stride", "pad", "dilation") for side in "hw"}
    settings |= {"kernel_h": 3, "kernel_w": 3, "group": 1, "deformable_group": 1, "with_bias": False}
    inputs = (features, weight, empty, empty, offset, mask)
    assert ratio(EXTENSION.modulated_deform_conv_forward, (*inputs, output, empty), tmp_path, **settings) < 1.5
    gradients = (torch.zeros_like(each) for each in (features, weight, empty, offset, mask))
    tensors = (*inputs, empty, *gradients, torch.ones_like(output))
    assert ratio(EXTENSION.modulated_deform_conv_backward, tensors, tmp_path, **settings) < 1.5


def test_attention(tmp_path: Path) -> None:
    levels = torch.tensor([[64, 64], [32, 32]]), torch.tensor([0, 4096])
    value, locations, weights = (
        torch.rand(1, 5120, 8, 32),
        torch.rand(1, 5120, 8, 2, 4, 2),
        torch.rand(1, 5120, 8, 2, 4),
    )
    inputs = (value, *levels, locations, weights)
    assert ratio(EXTENSION.ms_deform_attn_forward, inputs, tmp_path, 64) < 1.5 + 0.5  # with the output
    gradients = (torch.zeros_like(each) for each in (value, locations, weights))
    tensors = (value, *levels, locations, weights, torch.rand(1, 5120, 256), *gradients)
    assert ratio(EXTENSION.ms_deform_attn_backward, tensors, tmp_path, 64) < 1.5


def test_groups_of_points(tmp_path: Path) -> None:
    features, output = torch.rand(2, 64, 2048), torch.zeros(2, 64, 512, 32)
    indices = torch.randint(2048, (2, 512, 32), dtype=torch.int32)
    assert ratio(EXTENSION.group_points_forward, (features, indices, output), tmp_path) < 1.5
    assert ratio(EXTENSION.group_points_backward, (output, indices, features), tmp_path) < 1.5


@pytest.mark.parametrize("reduction", ["sum", "mean", "max"])
def test_dynamic_scatter(reduction: str, tmp_path: Path) -> None:
    features, cells = torch.rand(20_000, 64), torch.randint(25, (20_000, 3), dtype=torch.int32)
    outputs = EXTENSION.dynamic_point_to_voxel_forward(features, cells, reduction)
    allowed = 1.5 + sum(each.nbytes for each in outputs) / (features.nbytes + cells.nbytes)
    assert ratio(EXTENSION.dynamic_point_to_voxel_forward, (features, cells), tmp_path, reduction) < allowed
    reduced, _, voxels, counts = outputs
    tensors = torch.zeros_like(features), torch.ones_like(reduced), features, reduced, voxels, counts
    assert ratio(EXTENSION.dynamic_point_to_voxel_backward, tensors, tmp_path, reduction) < 1.5


def test_attention_masks(tmp_path: Path) -> None:
    masks, output, settings = (
        torch.rand(2, 39 * 39, 20, 20),
        torch.zeros(2, 400, 20, 20),
        (0, 2, 20, 20, 39, 39, 19, 19),
    )
    assert ratio(EXTENSION.psamask_forward, (masks, output), tmp_path, *settings) < 1.5
    assert ratio(EXTENSION.psamask_backward, (output, masks), tmp_path, *settings) < 1.5


def test_overlaps_of_rotated_boxes(tmp_path: Path) -> None:
    boxes, overlaps = torch.rand(2000, 5), torch.zeros(2000, 50)
    assert peak(lambda: EXTENSION.box_iou_rotated(boxes, boxes[:50], overlaps, 0, False), tmp_path) < 16 * MIB


def test_nms_of_many_boxes(tmp_path: Path) -> None:
    corners = torch.rand(10_000, 2) * 1000
    boxes, scores = torch.cat((corners, corners + 50), 1), torch.rand(10_000)
    assert peak(lambda: EXTENSION.nms(boxes, scores, 0.5, 0), tmp_path) < 8 * MIB
    rotated = torch.cat((corners[:500], 50 + torch.rand(500, 2), torch.rand(500, 1)), 1)
    order = scores[:500].argsort(descending=True)
    call = (rotated, scores[:500], order, rotated[order], torch.empty(0), 0.5, 0)
    assert peak(lambda: EXTENSION.nms_rotated(*call), tmp_path) < 24 * MIB

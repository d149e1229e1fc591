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


def test_nms_of_many_boxes(tmp_path: Path) -> None:
    corners = torch.rand(10_000, 2) * 1000
    boxes, scores = torch.cat((corners, corners + 50), 1), torch.rand(10_000)
    assert peak(lambda: EXTENSION.nms(boxes, scores, 0.5, 0), tmp_path) < 8 * MIB
    rotated = torch.cat((corners[:500], 50 + torch.rand(500, 2), torch.rand(500, 1)), 1)
    order = scores[:500].argsort(descending=True)
    call = (rotated, scores[:500], order, rotated[order], torch.empty(0), 0.5, 0)
    assert peak(lambda: EXTENSION.nms_rotated(*call), tmp_path) < 24 * MIB

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate_operators import compiled, nms, regions


class OnGPU(Tensor):
    """A tensor that claims to be on a GPU."""

    is_cuda = True


def on_gpu(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(OnGPU)


def test_torchvision_computes_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def roi_align(*args: Any) -> Tensor:
        calls.append(args)
        return torch.full((1, 2, 7, 7), 3.0)

    def backward(*args: Any) -> Tensor:
        calls.append(args)
        return torch.full((1, 2, 8, 8), 4.0)

    theirs = SimpleNamespace(nms=lambda *args: torch.tensor([1]), roi_align=roi_align, _roi_align_backward=backward)
    monkeypatch.setattr(compiled, "_load", lambda: theirs)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5]])
    scores = torch.tensor([0.9, 0.8])
    assert nms.nms(on_gpu(boxes), scores, 0.5, 0).tolist() == [1]
    assert nms.nms(boxes, scores, 0.5, 0).tolist() == [0]
    assert nms.nms(on_gpu(boxes), scores, 0.5, 1).tolist() == [0]  # torchvision has no offset

    features, rois, empty = torch.ones(1, 2, 8, 8), torch.tensor([[0.0, 0, 0, 4, 4]]), torch.empty(0)
    output, gradient = torch.zeros(1, 2, 7, 7, dtype=torch.float16), torch.zeros(1, 2, 8, 8)
    settings = (7, 7, 0.5, 2, 1, True)
    regions.roi_align_forward(on_gpu(features.half()), rois, output, empty, empty, *settings)
    regions.roi_align_backward(on_gpu(torch.ones(1, 2, 7, 7)), rois, empty, empty, gradient, *settings)
    assert output.eq(3).all()
    assert gradient.eq(4).all()
    assert calls[0][0].dtype == torch.float32
    assert [call[2:] for call in calls] == [(0.5, 7, 7, 2, True), (0.5, 7, 7, 1, 2, 8, 8, 2, True)]

    torch.use_deterministic_algorithms(True)  # the gradient of torchvision's RoIAlign is not deterministic
    try:
        assert compiled.compiled_operators(on_gpu(boxes)) is None
    finally:
        torch.use_deterministic_algorithms(False)


def test_torchvision_that_cannot_be_loaded_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert compiled._load.__wrapped__() is None

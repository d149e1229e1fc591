from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError
from footplate.tasks.detection.small_detector import PyramidDetector


def network(levels: int = 2) -> PyramidDetector:
    torch.manual_seed(0)
    return PyramidDetector(3, widths=(8, 8, 12), depths=(1, 1, 1), levels=levels, head_width=8).eval()


def test_every_position_of_every_level_says_something() -> None:
    grid = network()(torch.zeros(2, 3, 16, 24))
    assert (grid.scores.shape, grid.boxes.shape) == ((2, 6 + 24, 3), (2, 30, 4))
    assert grid.strides.tolist() == [8.0] * 6 + [4.0] * 24
    assert grid.points[:7].tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [2, 2]]
    assert grid.points[-1].tolist() == [22, 14]


def test_boxes_lie_around_their_position() -> None:
    grid = network()(torch.randn(1, 3, 16, 16))
    assert (grid.boxes[0, :, :2] < grid.points).all()
    assert (grid.boxes[0, :, 2:] > grid.points).all()


def test_a_fresh_network_is_sure_of_nothing_and_boxes_are_a_few_strides_wide() -> None:
    grid = network()(torch.randn(4, 3, 32, 32))
    assert 0.003 < grid.scores.sigmoid().mean() < 0.03
    width = (grid.boxes[..., 2] - grid.boxes[..., 0]) / grid.strides
    assert 3 < width.mean() < 6


def test_pictures_of_any_size_are_taken() -> None:
    model, inputs = network(), torch.randn(1, 3, 13, 18)
    padded = torch.nn.functional.pad(inputs, (0, 6, 0, 3))
    assert torch.equal(model(inputs).boxes, model(padded).boxes)


def test_every_part_learns() -> None:
    model = network().train()
    grid = model(torch.randn(2, 3, 16, 16))
    (grid.scores.sum() + grid.boxes.sum()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("arguments", [{"widths": (8, 8)}, {"levels": 0}, {"levels": 3}])
def test_stages_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"widths": (8, 8, 12), "depths": (1, 1, 1), "levels": 2, "head_width": 8}
    with pytest.raises(ArgumentError, match="each stage has a width and a depth"):
        PyramidDetector(3, **{**settings, **arguments})

"""Tests overlaps of polygons on shapes whose areas are known, and beside the same areas counted on a fine grid."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate_operators import nms, polygons

SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]], dtype=torch.float64)


def rotated(box: list[float]) -> Tensor:
    return polygons.rotated_box_corners(torch.tensor([box], dtype=torch.float64))[0]


@pytest.mark.parametrize(
    ("other", "area"),
    [
        (SQUARE, 4.0),
        (SQUARE.flip(0), 4.0),
        (SQUARE.roll(1, 0), 4.0),
        (SQUARE + 1, 1.0),
        (SQUARE + torch.tensor([2.0, 0.0]), 0.0),  # a common edge
        (SQUARE + torch.tensor([1.0, 0.0]), 2.0),  # edges on one line
        (SQUARE + torch.tensor([2.0, 2.0]), 0.0),  # a common corner
        (SQUARE + 5, 0.0),
        (SQUARE / 2 + 0.5, 1.0),  # within
        (SQUARE / 2, 1.0),  # within, in a corner
        (SQUARE * 3 - 1, 4.0),  # around
        (rotated([1, 1, 2, 2, math.pi / 4]), 8 * (math.sqrt(2) - 1)),  # an octagon
        (rotated([1, 1, 2, 2, math.pi / 2]), 4.0),
        (rotated([1, 1, 2, 2, 1e-9]), 4.0),
        (torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]], dtype=torch.float64), 2.0),
    ],
)
def test_the_area_of_an_intersection(other: Tensor, area: float) -> None:
    pair = polygons.counterclockwise(SQUARE[None]), polygons.counterclockwise(other.double()[None])
    assert polygons.intersection_areas(*pair).item() == pytest.approx(area, abs=1e-7)
    assert polygons.intersection_areas(*reversed(pair)).item() == pytest.approx(area, abs=1e-7)


def test_no_boxes() -> None:
    found = torch.zeros(0, 3)
    polygons.box_iou_rotated(torch.zeros(0, 5), torch.rand(3, 5), found, mode_flag=0, aligned=False)
    assert nms.nms(torch.zeros(0, 4), torch.zeros(0), 0.5, 0).tolist() == []


def test_the_hull_of_points() -> None:
    points = np.array([[0, 0], [2, 0], [1, 1], [2, 2], [0, 2], [1, 0], [0, 0]], dtype=float)
    assert points[polygons.convex_hull(points)].tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]


def test_convex_iou() -> None:
    points = torch.cat((SQUARE, SQUARE * 0.5 + 0.5, torch.ones(1, 2, dtype=torch.float64))).reshape(1, 18)
    quads = torch.stack((SQUARE, SQUARE + 1, SQUARE + 9)).reshape(3, 8)
    found = torch.zeros(1, 3, dtype=torch.float64)
    polygons.convex_iou(points, quads, found)
    assert found.tolist() == [[pytest.approx(1.0), pytest.approx(1 / 7), 0.0]]


def test_convex_giou_and_its_gradient() -> None:
    random = torch.Generator().manual_seed(2)
    points = torch.rand(3, 18, generator=random, dtype=torch.float64) * 3
    quads = (SQUARE + 0.3).reshape(1, 8).expand(3, 8)

    def giou(points: Tensor) -> Tensor:
        output = torch.zeros(3, 19, dtype=torch.float64)
        polygons.convex_giou(points, quads, output)
        return output

    found = giou(points)
    for place in range(18):
        step = torch.zeros(18, dtype=torch.float64).index_fill(0, torch.tensor(place), 1e-6)
        slope = (giou(points + step)[:, 18] - giou(points - step)[:, 18]) / 2e-6
        torch.testing.assert_close(found[:, place], slope, rtol=0, atol=1e-5)


def test_the_smallest_rectangle() -> None:
    box = rotated([3, 2, 4, 1, 0.5])
    points = torch.cat((box, box.mean(0, keepdim=True).expand(5, 2))).reshape(1, 18)
    found = torch.zeros(1, 8, dtype=torch.float64)
    polygons.min_area_polygons(points, found)
    corners = found.view(4, 2)
    assert polygons.signed_areas(corners).abs().item() == pytest.approx(4.0)
    assert torch.cdist(corners, box).amin(1).max() < 1e-9


def test_quadrilaterals_of_different_labels_do_not_suppress_each_other() -> None:
    quads = torch.stack((SQUARE, SQUARE + 0.1, SQUARE + 0.1)).float().reshape(3, 8)
    scores, labels = torch.tensor([0.5, 0.9, 0.7]), torch.tensor([[0.0], [0.0], [1.0]])
    order = scores.sort(descending=True)[1]
    assert nms.nms_quadri(quads, scores, order, quads[order], 0.5, False).tolist() == [1]
    assert nms.nms_quadri(torch.cat((quads, labels), 1), scores, order, quads[order], 0.5, True).tolist() == [1, 2]

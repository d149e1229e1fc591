"""Tests overlaps of polygons on shapes whose areas are known, and beside the same areas counted on a fine grid."""

import pytest
import torch
from torch import Tensor

from footplate_operators import nms, polygons

SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]], dtype=torch.float64)


def rotated(box: list[float]) -> Tensor:
    return polygons.rotated_box_corners(torch.tensor([box], dtype=torch.float64))[0]


def intersection_candidates(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the inputs of the sorting operator: candidates of shape (1, N, 24, 2), and a mask of the vertices."""
    start, end = (each[:, :, None] for each in (first, first.roll(-1, 1)))
    corner, edge = second[:, None], (second.roll(-1, 1) - second)[:, None]
    across = edge[..., 0] * (end - start)[..., 1] - edge[..., 1] * (end - start)[..., 0]
    gap = start - corner
    along = (edge[..., 1] * gap[..., 0] - edge[..., 0] * gap[..., 1]) / torch.where(across == 0, 1, across)
    crossings = start + along[..., None] * (end - start)
    aside = ((crossings - corner) * edge).sum(-1) / edge.square().sum(-1)
    crosses = (across != 0) & (along > 0) & (along < 1) & (aside > 0) & (aside < 1)

    def within(points: Tensor, box: Tensor) -> Tensor:
        edges = (box.roll(-1, 1) - box)[:, None]
        gaps = points[:, :, None] - box[:, None]
        distance = (edges[..., 0] * gaps[..., 1] - edges[..., 1] * gaps[..., 0]) / edges.norm(dim=-1)
        inside: Tensor = (distance >= -1e-6).all(-1)  # false for boxes without size, where the distance is NaN
        return inside

    crossings = torch.where(crosses[..., None], crossings, 0).flatten(1, 2)
    mask = torch.cat((within(first, second), within(second, first), crosses.flatten(1)), 1)
    return torch.cat((first, second, crossings), 1)[None], mask[None]


def sorted_indices(vertices: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum(-1, dtype=torch.int32)
    center = (vertices * mask[..., None]).sum(-2, keepdim=True) / count[..., None, None]
    return polygons.diff_iou_rotated_sort_vertices_forward(vertices - center, mask, count)


def area_of_sorted_vertices(first: Tensor, second: Tensor) -> Tensor:
    vertices, mask = intersection_candidates(first, second)
    indices = sorted_indices(vertices, mask).long()
    polygon = vertices.gather(2, indices[..., None].expand(-1, -1, -1, 2))[0]
    following = polygon[:, 1:]
    return (polygon[:, :-1, 0] * following[..., 1] - polygon[:, :-1, 1] * following[..., 0]).sum(-1) / 2


def test_sorted_vertices_enclose_the_intersection() -> None:
    random = torch.Generator().manual_seed(1)
    first, second = torch.rand(2, 500, 5, generator=random, dtype=torch.float64) + torch.tensor([0, 0, 0.2, 0.2, 0])
    corners = [polygons.rotated_box_corners(each * torch.tensor([2, 2, 2, 1, 7])) for each in (first, second)]
    found = area_of_sorted_vertices(*corners)
    torch.testing.assert_close(found, polygons.intersection_areas(*corners), rtol=0, atol=1e-12)
    assert (found == 0).sum() > 20


def test_order_and_padding_of_sorted_vertices() -> None:
    right = torch.tensor([2, 0])
    others = torch.stack((SQUARE, SQUARE + torch.tensor([0.5, 1]), SQUARE + 9, SQUARE + right, SQUARE))
    vertices, mask = intersection_candidates(SQUARE.expand(5, 4, 2), others)
    mask[0, 4, 1] = False  # a corner that rounding places outside of the identical box
    found = sorted_indices(vertices, mask)
    assert found.dtype == torch.int32
    assert found[0].tolist() == [
        [2, 3, 0, 1, 2, 8, 8, 8, 8],  # the corners of the first box
        [2, 19, 4, 12, 2, 8, 8, 8, 8],
        [8] * 9,
        [8] * 9,  # only two different vertices
        [2, 3, 0, 5, 2, 8, 8, 8, 8],
    ]
    assert sorted_indices(vertices[:, :0], mask[:, :0]).shape == (1, 0, 9)
    assert sorted_indices(vertices.to("meta"), mask.to("meta")).device.type == "meta"  # no tensor is on the CPU


def test_convex_iou() -> None:
    points = torch.cat((SQUARE, SQUARE * 0.5 + 0.5, torch.ones(1, 2, dtype=torch.float64))).reshape(1, 18)
    quads = torch.stack((SQUARE, SQUARE + 1, SQUARE + 9)).reshape(3, 8)
    found = torch.zeros(1, 3, dtype=torch.float64)
    polygons.convex_iou(points, quads, found)
    assert found.tolist() == [[pytest.approx(1.0), pytest.approx(1 / 7), 0.0]]


def test_the_smallest_rectangle() -> None:
    box = rotated([3, 2, 4, 1, 0.5])
    points = torch.cat((box, box.mean(0, keepdim=True).expand(5, 2))).reshape(1, 18)
    found = torch.zeros(1, 8, dtype=torch.float64)
    polygons.min_area_polygons(points, found)
    corners = found.view(4, 2)
    assert polygons.signed_areas(corners).abs().item() == pytest.approx(4.0)
    assert torch.cdist(corners, box).amin(1).max() < 1e-9


def test_quadrilaterals_overlap_as_in_mmcv() -> None:
    """mmcv counts corners as inside by their projections on two sides. A trapezoid then covers its bounding box."""
    trapezoid = torch.tensor([[1.0, 1.0, 3.0, 4.0, 4.0, 4.0, 4.0, 1.0]])
    box, far = torch.tensor([[2.0, 1.0, 2.0, 4.0, 4.0, 4.0, 4.0, 1.0]]), torch.tensor([[9.0, 9, 9, 10, 10, 10, 10, 9]])
    overlaps = torch.zeros(2, 3)
    polygons.box_iou_quadri(torch.cat((trapezoid, box)), torch.cat((box, far, box + 1)), overlaps, 0, False)
    torch.testing.assert_close(overlaps, torch.tensor([[1.0, 0.0, 0.2], [1.0, 0.0, 0.2]]))
    # The counted intersection of 33 exceeds both areas, 19.5 and 3.
    first, second = torch.tensor([[2.0, 1, 10, 5, 8, 6, 7, 9]]), torch.tensor([[8.0, 8, 1, 10, 2, 9, 3, 9]])
    strange = torch.zeros(1)
    polygons.box_iou_quadri(first, second, strange, 0, True)
    assert strange.item() == pytest.approx(33 / (19.5 + 3 - 33))
    of_first = torch.zeros(1)
    polygons.box_iou_quadri(box, box + 1, of_first, 1, True)
    assert of_first.item() == pytest.approx(1 / 3)


def test_nms_of_quadrilaterals_ignores_labels() -> None:
    quads = torch.stack((SQUARE, SQUARE + 0.1, SQUARE + 5)).float().reshape(3, 8)
    scores, labels = torch.tensor([0.5, 0.9, 0.7]), torch.tensor([[0.0], [1.0], [1.0]])
    order = scores.sort(descending=True)[1]
    assert nms.nms_quadri(torch.cat((quads, labels), 1), scores, order, quads[order], 0.5, True).tolist() == [1, 2]

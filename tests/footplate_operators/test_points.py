"""Compares operators on point clouds with plain loops."""

from itertools import product

import pytest
import torch
from torch import Tensor

from footplate_operators import points, sampling

RANDOM = torch.Generator().manual_seed(7)


def cloud(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=RANDOM)


def test_distances_are_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    xyz, centers = cloud(2, 20, 3), cloud(2, 7, 3)

    def results() -> list[Tensor]:
        found = [torch.zeros(2, 7, 3, dtype=torch.int32) for _ in range(3)] + [torch.zeros(2, 7, 3) for _ in range(2)]
        points.ball_query_forward(centers, xyz, found[0], 2, 20, 7, 0.0, 0.3, 3)
        points.knn_forward(xyz, centers, found[1], found[3], 2, 20, 7, 3)
        points.three_nn_forward(centers, xyz, found[4], found[2], 2, 7, 20)
        return found

    expected, largest = results(), []
    compute = points._squared_distances

    def recorded(first: Tensor, second: Tensor) -> Tensor:
        distances = compute(first, second)
        largest.append(distances.numel())
        return distances

    monkeypatch.setattr(points, "_squared_distances", recorded)
    monkeypatch.setattr(points, "_CHUNK", 100)
    assert all(map(torch.equal, results(), expected))
    assert max(largest) <= 100


def test_ball_query() -> None:
    centers, xyz = cloud(2, 4, 3), cloud(2, 30, 3)
    found = torch.zeros(2, 4, 5, dtype=torch.int32)
    points.ball_query_forward(centers, xyz, found, 2, 30, 4, 0.1, 0.3, 5)
    for batch in range(2):
        for center in range(4):
            distances = (xyz[batch] - centers[batch, center]).square().sum(-1)
            near = [n for n, d in enumerate(distances.tolist()) if d == 0 or 0.1**2 <= d < 0.3**2][:5]
            expected = near + near[:1] * (5 - len(near)) if near else [0] * 5
            assert found[batch, center].tolist() == expected


def test_ball_query_on_stacked_samples() -> None:
    centers, xyz = (
        torch.tensor([[0.0, 0, 0], [5, 5, 5], [9, 9, 9]]),
        torch.tensor([[0.1, 0, 0], [0, 0, 0], [5, 5, 5.1]]),
    )
    found = torch.zeros(3, 2, dtype=torch.int32)
    points.stack_ball_query_forward(centers, torch.tensor([1, 2]), xyz, torch.tensor([2, 1]), found, 0.5, 2)
    assert found.tolist() == [[0, 1], [0, 0], [-1, 0]]


@pytest.mark.parametrize("with_distances", [False, True])
def test_furthest_point_sampling(with_distances: bool) -> None:
    xyz = cloud(2, 25, 3)
    found, nearest = torch.zeros(2, 7, dtype=torch.int32), torch.full((2, 25), 1e10)
    if with_distances:
        distances = (xyz[:, :, None] - xyz[:, None]).square().sum(-1)
        points.furthest_point_sampling_with_dist_forward(distances, nearest, found, 2, 25, 7)
    else:
        points.furthest_point_sampling_forward(xyz, nearest, found, 2, 25, 7)
    for batch in range(2):
        taken = [0]
        while len(taken) < 7:
            gaps = (xyz[batch][:, None] - xyz[batch][taken]).square().sum(-1).amin(1)
            taken.append(int(gaps.argmax()))
        assert found[batch].tolist() == taken


def test_assignment_of_scores_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SMALLEST_BLOCK", 1)
    features, centers = cloud(2, 9, 3, 4).requires_grad_(), cloud(2, 9, 3, 4).requires_grad_()
    scores, neighbors = cloud(2, 7, 5, 3).requires_grad_(), torch.randint(9, (2, 7, 5), generator=RANDOM)
    neighbors[:, 2, 1:3] = torch.tensor([-1, 9])  # out of range
    neighbors[:, 3] = -1  # a center without points around it
    output, expected = torch.zeros(2, 4, 7, 5), torch.zeros(2, 4, 7, 5)
    for sample, place, near in product(range(2), range(7), range(5)):
        row, center = neighbors[sample, place, near], neighbors[sample, place, 0]
        if 0 <= row < 9:
            change = features[sample, row] - centers[sample, center]
            expected[sample, :, place, near] = scores[sample, place, near] @ change
    inputs = features.detach(), centers.detach(), scores.detach(), neighbors
    points.assign_score_withk_forward(*inputs, output)
    assert torch.allclose(output, expected, atol=1e-6)
    grad, gradients = cloud(2, 4, 7, 5), [torch.ones_like(each) for each in inputs[:3]]
    points.assign_score_withk_backward(grad, *inputs, *gradients)
    for found, wanted in zip(gradients, torch.autograd.grad(expected, (features, centers, scores), grad), strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_chamfer_distance() -> None:
    first, second = cloud(1, 5, 2), cloud(1, 7, 2)
    distances, indices = (torch.zeros(1, 5), torch.zeros(1, 7)), (torch.zeros(1, 5).int(), torch.zeros(1, 7).int())
    points.chamfer_distance_forward(first, second, *distances, *indices)
    leaves = first.clone().requires_grad_(), second.clone().requires_grad_()
    squared = (leaves[0][:, :, None] - leaves[1][:, None]).square().sum(-1)
    loss = squared.amin(2).sum() + 2 * squared.amin(1).sum()
    torch.testing.assert_close(distances[0].sum() + 2 * distances[1].sum(), loss.detach())
    gradients = torch.zeros_like(first), torch.zeros_like(second)
    points.chamfer_distance_backward(first, second, *indices, torch.ones(1, 5), torch.full((1, 7), 2.0), *gradients)
    for found, expected in zip(gradients, torch.autograd.grad(loss, leaves), strict=True):
        torch.testing.assert_close(found, expected)


def test_points_in_polygons() -> None:
    quads = torch.tensor([[0.0, 0, 2, 0, 2, 2, 0, 2], [1.0, 0, 2, 1, 1, 2, 0, 1]])
    xy = torch.tensor([[1.0, 1.0], [0.2, 0.2], [3.0, 1.0], [1.9, 1.9]])
    found = torch.zeros(4, 2)
    points.points_in_polygons_forward(xy, quads, found)
    assert found.tolist() == [[1, 1], [1, 0], [0, 0], [1, 0]]


def test_roi_point_pooling() -> None:
    xyz, features = torch.tensor([[[0.0, 0, 0.5], [5, 5, 5], [0.1, 0, 0.5], [0.2, 0, 0.5]]]), cloud(1, 4, 2)
    boxes = torch.tensor([[[0.0, 0, 0, 1, 1, 1, 0], [9, 9, 9, 1, 1, 1, 0]]])
    pooled, empty = torch.zeros(1, 2, 5, 5), torch.zeros(1, 2, dtype=torch.int32)
    points.roipoint_pool3d_forward(xyz, boxes, features, pooled, empty)
    assert empty.tolist() == [[0, 1]]
    assert torch.equal(pooled[0, 0], torch.cat([xyz, features], 2)[0, [0, 2, 3, 0, 2]])
    assert not pooled[0, 1].any()

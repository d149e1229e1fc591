"""Compares the operators of compiled modules with plain loops, on twenty random inputs each.

Run this file as a script to print the largest differences.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate_operators import create_extension

Pairs = list[tuple[Tensor, Tensor]]
Case = Callable[[torch.Generator], tuple[Pairs, Pairs]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    """Adds a function that returns pairs of results and expected results, and pairs of gradients."""
    CASES[function.__name__] = function
    return function


def module(name: str) -> Any:
    return create_extension(name)


def rand(random: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=random)


def randint(random: torch.Generator, high: int, *shape: int, low: int = 0) -> Tensor:
    return torch.randint(low, high, shape, generator=random)


def places(*sizes: int) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, sizes))


def gradients(expected: Tensor, inputs: list[Tensor], grad: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(expected, inputs, grad))


# Boxes


def corners(x: float, y: float, width: float, height: float, angle: float) -> np.ndarray:
    """Returns the corners of a box that is turned counterclockwise."""
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    half = np.array([[-width, -height], [width, -height], [width, height], [-width, height]]) / 2
    turned: np.ndarray = half @ turn + [x, y]
    return turned


def shared_area(first: np.ndarray, second: np.ndarray) -> float:
    """Clips a polygon at each edge of a counterclockwise polygon, and returns the area that is left."""
    polygon = list(first)
    for start, end in zip(second, np.roll(second, -1, 0), strict=True):
        direction, kept = end - start, []
        sides = [float(direction[0] * (p - start)[1] - direction[1] * (p - start)[0]) for p in polygon]
        for here, (side, point) in enumerate(zip(sides, polygon, strict=True)):
            before, previous = sides[here - 1], polygon[here - 1]
            if side * before < 0:
                kept.append(previous + (point - previous) * before / (before - side))
            if side >= 0:
                kept.append(point)
        polygon = kept
        if not polygon:
            return 0.0
    x, y = np.array(polygon).T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


def boxes_from_above(random: torch.Generator, count: int) -> Tensor:
    """Returns boxes x1, y1, x2, y2 and the angle by which they are turned clockwise."""
    low, size = 3 * rand(random, count, 2), 0.5 + 3 * rand(random, count, 2)
    return torch.cat((low, low + size, 6 * rand(random, count, 1) - 3), 1)


def overlaps_from_above(first: Tensor, second: Tensor, turns: int = -1) -> tuple[Tensor, Tensor]:
    """Returns the shared areas and the IoUs of boxes."""
    areas, ious = torch.zeros(len(first), len(second)), torch.zeros(len(first), len(second))
    for i, j in places(len(first), len(second)):
        shapes, sizes = [], []
        for x1, y1, x2, y2, angle in (first[i].tolist(), second[j].tolist()):
            shapes.append(corners((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, turns * angle))
            sizes.append((x2 - x1) * (y2 - y1))
        areas[i, j] = shared_area(*shapes)
        ious[i, j] = areas[i, j] / (sum(sizes) - areas[i, j])
    return areas, ious


def kept_boxes(ious: Tensor, threshold: float) -> Tensor:
    kept: list[int] = []
    for index in range(len(ious)):
        if all(ious[index, other] <= threshold for other in kept):
            kept.append(index)
    return torch.tensor(kept)


@case
def iou3d_cuda(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension, first, second = module("mmdet3d.ops.iou3d.iou3d_cuda"), *(boxes_from_above(random, n) for n in (6, 5))
    areas, ious = torch.zeros(6, 5), torch.zeros(6, 5)
    extension.boxes_overlap_bev_gpu(first, second, areas)
    extension.boxes_iou_bev_gpu(first, second, ious)
    expected = overlaps_from_above(first, second)
    pairs = [(areas, expected[0]), (ious, expected[1])]
    for name, turns in (("nms_gpu", -1), ("nms_normal_gpu", 0)):
        keep = torch.zeros(6, dtype=torch.long)
        number = getattr(extension, name)(first, keep, 0.2, None)
        pairs.append((keep[:number], kept_boxes(overlaps_from_above(first, first, turns)[1], 0.2)))
    return pairs, []


@case
def mmcv_iou3d(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension, boxes = module("mmcv._ext"), boxes_from_above(random, 6)
    height = rand(random, 6, 1)
    whole = torch.cat(
        ((boxes[:, :2] + boxes[:, 2:4]) / 2, height, boxes[:, 2:4] - boxes[:, :2], height, boxes[:, 4:]), 1
    )
    areas = torch.zeros(6, 6)
    extension.iou3d_boxes_overlap_bev_forward(whole, whole, areas)
    pairs = [(areas, overlaps_from_above(boxes, boxes, 1)[0])]
    for name, turns in (("iou3d_nms3d_forward", 1), ("iou3d_nms3d_normal_forward", 0)):
        keep, number = torch.zeros(6, dtype=torch.long), torch.zeros((), dtype=torch.long)
        getattr(extension, name)(whole, keep, number, nms_overlap_thresh=0.2)
        pairs.append((keep[:number], kept_boxes(overlaps_from_above(boxes, boxes, turns)[1], 0.2)))
    return pairs, []


def in_box(point: Tensor, box: Tensor) -> tuple[float, float, float] | None:
    """Returns the position of a point in a box of MMDetection3D 0.x, from 0 to 1 along its length, width and height."""
    x, y, z, width, length, height, angle = box.tolist()
    x, y, z = point[0].item() - x, point[1].item() - y, point[2].item() - z
    turn = angle + math.pi / 2
    along, aside = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    place = along / length + 0.5, aside / width + 0.5, z / height
    return place if all(0 < value < 1 for value in place) else None


@case
def roiaware_pool3d_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension, xyz, features = module("roiaware_pool3d_ext"), 2 * rand(random, 40, 3), rand(random, 40, 2)
    boxes = torch.cat((rand(random, 3, 3), 0.5 + rand(random, 3, 3), 6 * rand(random, 3, 1) - 3), 1)
    inside = torch.tensor([[in_box(point, box) is not None for point in xyz] for box in boxes])
    each, every, first = (torch.zeros(*shape, dtype=torch.int) for shape in ((3, 40), (1, 40, 3), (1, 40)))
    extension.points_in_boxes_cpu(boxes, xyz, each)
    extension.points_in_boxes_batch(boxes[None], xyz[None], every)
    extension.points_in_boxes_gpu(boxes[None], xyz[None], first)
    of_point = torch.where(inside.any(0), inside.int().argmax(0), -1)
    forward = [(each, inside), (every[0], inside.T), (first[0], of_point)]
    backward: Pairs = []
    for method in (0, 1):
        pooled, argmax = torch.zeros(3, 2, 3, 2, 2), torch.zeros(3, 2, 3, 2, 2, dtype=torch.int)
        lists, leaf = torch.zeros(3, 2, 3, 2, 41, dtype=torch.int), features.clone().requires_grad_()
        extension.forward(boxes, xyz, features, argmax, lists, pooled, method)
        expected = torch.zeros_like(pooled)
        for index, box in enumerate(boxes):
            found: dict[tuple[int, ...], list[int]] = {}
            for number, point in enumerate(xyz):
                place = in_box(point, box)
                if place:
                    cell = tuple(int(value * size) for value, size in zip(place, (2, 3, 2), strict=True))
                    found.setdefault(cell, []).append(number)
            for cell, rows in found.items():
                value = leaf[rows].max(0)[0] if method == 0 else leaf[rows].mean(0)
                expected = expected.index_put(tuple(map(torch.tensor, (index, *cell))), value)
        grad, change = rand(random, *pooled.shape), torch.zeros_like(features)
        extension.backward(lists, argmax, grad, change, method)
        forward.append((pooled, expected))
        wanted = gradients(expected, [leaf], grad) if expected.requires_grad else [torch.zeros_like(leaf)]
        backward += zip([change], wanted, strict=True)
    return forward, backward


# Point clouds


@case
def ball_query_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    xyz, centers, found = rand(random, 2, 20, 3), rand(random, 2, 4, 3), torch.zeros(2, 4, 5, dtype=torch.int)
    module("ball_query_ext").ball_query_wrapper(2, 20, 4, 0.1, 0.4, 5, centers, xyz, found)
    expected = torch.zeros_like(found)
    for b, m in places(2, 4):
        near = [n for n in range(20) if 0.1 <= math.dist(xyz[b, n], centers[b, m]) < 0.4][:5]
        expected[b, m] = torch.tensor(near + near[:1] * (5 - len(near)) if near else [0] * 5)
    return [(found, expected)], []


@case
def knn_and_three_nn(random: torch.Generator) -> tuple[Pairs, Pairs]:
    xyz, centers = rand(random, 2, 12, 3), rand(random, 2, 5, 3)
    order = torch.tensor(
        [[sorted(range(12), key=lambda n: math.dist(xyz[b, n], center)) for center in centers[b]] for b in range(2)]
    )
    squared = ((centers[:, :, None] - xyz[:, None]) ** 2).sum(-1).gather(2, order)
    pairs = []
    for count in (4, 3):
        found, distance = torch.zeros(2, 5, count, dtype=torch.int), torch.zeros(2, 5, count)
        if count == 4:
            module("knn_ext").knn_wrapper(2, 12, 5, 4, xyz, centers, found, distance)
        else:
            module("interpolate_ext").three_nn_wrapper(2, 5, 12, centers, xyz, distance, found)
        pairs += [(found, order[..., :count]), (distance, squared[..., :count])]
    return pairs, []


@case
def furthest_point_sample_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension, xyz = module("furthest_point_sample_ext"), rand(random, 2, 15, 3)
    expected = torch.zeros(2, 6, dtype=torch.int)
    for b in range(2):
        taken = [0]
        while len(taken) < 6:
            taken.append(max(range(15), key=lambda n: min(math.dist(xyz[b, n], xyz[b, other]) for other in taken)))
        expected[b] = torch.tensor(taken)
    pairs = []
    for name, values in (("", xyz), ("_with_dist", (xyz[:, :, None] - xyz[:, None]).square().sum(-1))):
        found = torch.zeros(2, 6, dtype=torch.int)
        sample = getattr(extension, f"furthest_point_sampling{name}_wrapper")
        sample(2, 15, 6, values, torch.full((2, 15), 1e10), found)
        pairs.append((found, expected))
    return pairs, []


@case
def gather_group_interpolate(random: torch.Generator) -> tuple[Pairs, Pairs]:
    forward: Pairs = []
    backward: Pairs = []
    for kind, shape in (("gather", (2, 4)), ("group", (2, 4, 5)), ("interpolate", (2, 4, 3))):
        features, indices = rand(random, 2, 3, 7).requires_grad_(), randint(random, 7, *shape).int()
        weight = rand(random, 2, 4, 3)
        expected = torch.stack([features[b][:, indices[b].long()] for b in range(2)])
        expected = (expected * weight[:, None]).sum(-1) if kind == "interpolate" else expected
        out, grad, change = torch.zeros(expected.shape), rand(random, *expected.shape), torch.zeros(2, 3, 7)
        if kind == "gather":
            module("gather_points_ext").gather_points_wrapper(2, 3, 7, 4, features.detach(), indices, out)
            module("gather_points_ext").gather_points_grad_wrapper(2, 3, 7, 4, grad, indices, change)
        elif kind == "group":
            module("group_points_ext").forward(2, 3, 7, 4, 5, features.detach(), indices, out)
            module("group_points_ext").backward(2, 3, 7, 4, 5, grad, indices, change)
        else:
            extension = module("interpolate_ext")
            extension.three_interpolate_wrapper(2, 3, 7, 4, features.detach(), indices, weight, out)
            extension.three_interpolate_grad_wrapper(2, 3, 4, 7, grad, indices, weight, change)
        forward.append((out, expected))
        backward += zip([change], gradients(expected, [features], grad), strict=True)
    return forward, backward


@case
def assign_score_withk_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("mmdet3d.ops.paconv.assign_score_withk_ext")
    points, centers = (rand(random, 2, 6, 3, 4).requires_grad_() for _ in range(2))
    scores, neighbors = rand(random, 2, 5, 2, 3).requires_grad_(), randint(random, 7, 2, 5, 2)
    neighbors[..., 0].clamp_(max=5)  # an index of 6 is out of range
    expected = torch.zeros(2, 4, 5, 2)
    for b, n, k, w, c in places(2, 5, 2, 3, 4):
        if neighbors[b, n, k] < 6:
            change = points[b, neighbors[b, n, k], w, c] - centers[b, neighbors[b, n, 0], w, c]
            expected = expected.index_put(tuple(map(torch.tensor, (b, c, n, k))), scores[b, n, k, w] * change, True)
    inputs = [points, centers, scores]
    plain, grad = [each.detach() for each in inputs], rand(random, *expected.shape)
    out, changes = torch.zeros(expected.shape), [torch.zeros_like(each) for each in plain]
    sizes = (2, 6, 5, 3, 2, 4, 0)
    extension.assign_score_withk_forward_wrapper(*sizes, *plain, neighbors, out)
    extension.assign_score_withk_backward_wrapper(*sizes, grad, *plain, neighbors, *changes)
    return [(out, expected)], list(zip(changes, gradients(expected, inputs, grad), strict=True))


@case
def voxel_layer(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension, xyz = module("mmdet3d.ops.voxel.voxel_layer"), 5 * rand(random, 30, 4) - 0.5
    size, bounds = [1.0, 2.0, 4.0], [0.0, 0, 0, 4, 4, 4]
    dynamic = torch.zeros(30, 3, dtype=torch.int)
    found: dict[tuple[int, ...], list[int]] = {}
    extension.dynamic_voxelize(xyz, dynamic, size, bounds, 3)
    of_point = torch.full((30, 3), -1)
    for index, point in enumerate(xyz.tolist()):
        cell = [math.floor(value / step) for value, step in zip(point[2::-1], size[::-1], strict=True)]
        if all(0 <= value < limit for value, limit in zip(cell, (1, 2, 4), strict=True)):
            of_point[index] = torch.tensor(cell)
            found.setdefault(tuple(cell), []).append(index)
    voxels, counts = torch.zeros(5, 3, 4), torch.zeros(5, dtype=torch.int)
    coordinates = torch.zeros(5, 3, dtype=torch.int)
    total = extension.hard_voxelize(xyz, voxels, coordinates, counts, size, bounds, 3, 5, 3, True)
    expected = [torch.zeros_like(each) for each in (voxels, coordinates, counts)]
    for index, (occupied_cell, rows) in enumerate(list(found.items())[:5]):
        expected[0][index, : len(rows[:3])] = xyz[rows[:3]]
        expected[1][index], expected[2][index] = torch.tensor(occupied_cell), len(rows[:3])
    forward = [(dynamic, of_point), (torch.tensor(total), torch.tensor(min(5, len(found))))]
    forward += zip((voxels, coordinates, counts), expected, strict=True)
    cells = sorted(found)
    backward: Pairs = []
    for kind in ("sum", "mean", "max"):
        leaf = xyz.clone().requires_grad_()
        pooled = torch.stack(
            [getattr(leaf[found[cell]], kind)(0) for cell in cells]
            if kind != "max"
            else [leaf[found[cell]].max(0)[0] for cell in cells]
        )
        reduced, occupied, index, number = extension.dynamic_point_to_voxel_forward(xyz, dynamic, kind)
        forward += [(reduced, pooled), (occupied, torch.tensor(cells))]
        grad, change = rand(random, *pooled.shape), torch.zeros_like(xyz)
        extension.dynamic_point_to_voxel_backward(change, grad, xyz, reduced, index, number, kind)
        backward += zip([change], gradients(pooled, [leaf], grad), strict=True)
    return forward, backward


@case
def sparse_conv_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("mmdet3d.ops.spconv.sparse_conv_ext")
    forward: Pairs = []
    backward: Pairs = []
    for dimensions, subm in itertools.product((2, 3), (0, 1)):
        shape = (5, 6, 4)[:dimensions]
        cells = torch.randperm(2 * math.prod(shape), generator=random)[:15]
        indices = torch.stack(torch.unravel_index(cells, (2, *shape)), 1).int()
        features = rand(random, 15, 3).requires_grad_()
        filters = rand(random, *[3] * dimensions, 3, 2).requires_grad_()
        dense = torch.zeros(2, *shape, 3).index_put(tuple(indices.long().T), features).movedim(-1, 1)
        convolve = (torch.nn.functional.conv2d, torch.nn.functional.conv3d)[dimensions - 2]
        kernel = filters.movedim(-1, 0).movedim(-1, 1)
        whole = convolve(dense, kernel, stride=2 - subm, padding=1).movedim(1, -1)
        settings = ([3] * dimensions, [2 - subm] * dimensions, [1] * dimensions, [1] * dimensions, [0] * dimensions)
        sizes = (2, list(whole.shape[1:-1]), list(shape), *settings, subm, 0)
        found, pairs, counts = getattr(extension, f"get_indice_pairs_{dimensions}d")(indices, *sizes)
        in_grid = getattr(extension, f"get_indice_pairs_grid_{dimensions}d")(indices, torch.zeros(1), *sizes)
        out = extension.indice_conv_fp32(features.detach(), filters.detach(), pairs, counts, len(found), 0, subm)
        expected, grad = whole[tuple(found.long().T)], rand(random, *out.shape)
        ours = extension.indice_conv_backward_fp32(features.detach(), filters.detach(), grad, pairs, counts, 0, subm)
        forward += [(out, expected), *zip(in_grid, (found, pairs, counts), strict=True)]
        backward += zip(ours, gradients(expected, [features, filters], grad), strict=True)
    return forward, backward


# Grids


@case
def bev_pool_occ_pool_voxel_pool(random: torch.Generator) -> tuple[Pairs, Pairs]:
    forward: Pairs = []
    backward: Pairs = []
    for kind, sizes in (("bev_pool", (2, 3, 4, 5)), ("occ_pool", (2, 3, 4, 5)), ("voxel_pool", (2, 3, 4, 5))):
        extension, features = module(f"some.ops.{kind}_ext"), rand(random, 30, 3).requires_grad_()
        b, first, second, third = (randint(random, size, 30) for size in sizes)
        columns = (b, first, second, third) if kind == "voxel_pool" else (second, third, first, b)
        cells = torch.stack(columns, 1).int()
        expected = torch.zeros(*sizes, 3)
        for row, place in enumerate(zip(b, first, second, third, strict=True)):
            expected = expected.index_put(place, features[row], accumulate=True)
        grad, unused = rand(random, *expected.shape), torch.zeros(0, dtype=torch.int)
        given: Any = torch.tensor(sizes, dtype=torch.float) if kind == "occ_pool" else sizes  # some code passes tensors
        out = getattr(extension, f"{kind}_forward")(features.detach(), cells, unused, unused, *given)
        change = getattr(extension, f"{kind}_backward")(grad, cells, unused, unused, *sizes)
        forward.append((out, expected))
        backward += zip([change], gradients(expected, [features], grad), strict=True)
    return forward, backward


@case
def bev_pool(random: torch.Generator) -> tuple[Pairs, Pairs]:
    features, sizes = rand(random, 30, 3).requires_grad_(), (2, 3, 4, 5)
    sample, depth, row, column = (randint(random, size, 30) for size in sizes)
    expected = torch.zeros(2, 3, 3, 4, 5)
    for point, (b, d, h, w) in enumerate(zip(sample, depth, row, column, strict=True)):
        expected = expected.index_put((b, torch.arange(3), d, h, w), features[point], accumulate=True)
    cells = torch.stack((row, column, depth, sample), 1)
    out = module("mmdet3d.ops.bev_pool").bev_pool(features, cells, *map(torch.tensor, sizes))
    grad = rand(random, *expected.shape)
    backward = zip(gradients(out, [features], grad), gradients(expected, [features], grad), strict=True)
    return [(out, expected)], list(backward)


@case
def bev_pool_v2_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("some.ops.bev_pool_v2.bev_pool_v2_ext")
    depth, features = rand(random, 1, 2, 3, 4, 2).requires_grad_(), rand(random, 1, 2, 4, 2, 3).requires_grad_()
    points = torch.randperm(48, generator=random)[:20].int()
    pixels, cells = randint(random, 16, 20).int(), randint(random, 12, 20).sort()[0].int()
    expected = torch.zeros(12, 3)
    for point, pixel, cell in zip(points.tolist(), pixels.tolist(), cells.tolist(), strict=True):
        value = depth.flatten()[point] * features.view(16, 3)[pixel]
        expected = expected.index_put((torch.tensor(cell),), value, accumulate=True)
    expected = expected.view(1, 1, 3, 4, 3)
    out, grad, unused = torch.zeros(1, 1, 3, 4, 3), rand(random, 1, 1, 3, 4, 3), torch.zeros(0, dtype=torch.int)
    inputs = depth.detach(), features.detach()
    changes = [torch.zeros_like(each) for each in inputs]
    extension.bev_pool_v2_forward(*inputs, out, points, pixels, cells, unused, unused)
    extension.bev_pool_v2_backward(grad, *changes, *inputs, points, pixels, cells, unused, unused)
    return [(out, expected)], list(zip(changes, gradients(expected, [depth, features], grad), strict=True))


@case
def voxel_pooling_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    cells, features = randint(random, 5, 2, 20, 3, low=-1).int(), rand(random, 2, 20, 3)
    out, memo, expected = torch.zeros(2, 3, 4, 3), -torch.ones(2, 20, 3).int(), torch.zeros(2, 3, 4, 3)
    module("voxel_pooling_ext").voxel_pooling_forward_wrapper(2, 20, 3, 4, 3, 2, cells, features, out, memo)
    places_of_points = -torch.ones(2, 20, 3).int()
    for b, n in places(2, 20):
        x, y, z = cells[b, n].tolist()
        if 0 <= x < 4 and 0 <= y < 3 and 0 <= z < 2:
            expected[b, y, x] += features[b, n]
            places_of_points[b, n] = torch.tensor([b, y, x])
    inputs = features.view(2, 4, 5, 3).requires_grad_()
    pooled = module("mmdet3d.ops.voxel_pooling").voxel_pooling(cells.view(2, 4, 5, 3), inputs, torch.tensor([4, 3, 2]))
    change = gradients(pooled, [inputs], torch.ones_like(pooled))[0]
    is_inside = (places_of_points[..., :1] >= 0).expand(-1, -1, 3).float().view(2, 4, 5, 3)
    outputs = [(out, expected), (memo, places_of_points), (pooled, expected.permute(0, 3, 1, 2))]
    return outputs, [(change, is_inside)]


@case
def point_ops_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    groups, found = randint(random, 6, 15, low=-1), torch.full((6, 4), -1)
    module("point_ops_ext").group_inner_inds_wrapper(groups, found)
    expected = torch.full((6, 4), -1)
    for group in range(6):
        rows = [row for row in range(15) if groups[row] == group]
        if rows:
            expected[group] = torch.tensor([rows[place % len(rows)] for place in range(4)])
    return [(found, expected)], []


@case
def torch_scatter(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("torch_scatter")
    forward: Pairs = []
    backward: Pairs = []
    source, of_row = rand(random, 12, 3).requires_grad_(), randint(random, 5, 12)
    ends = torch.tensor([2, 4, 4, 9, 12])
    for kind in ("sum", "add", "mean", "max", "min", "segment_csr"):
        if kind == "segment_csr":
            ours = extension.segment_csr(source, ends)
            groups = [list(range(start, end)) for start, end in itertools.pairwise(ends.tolist())]
        else:
            ours = getattr(extension, f"scatter_{kind}")(source, of_row, dim=0, dim_size=6)
            groups = [[row for row in range(12) if of_row[row] == group] for group in range(6)]
        expected, positions = torch.zeros(len(groups), 3), torch.full((len(groups), 3), 12)
        for (group, rows), column in itertools.product(enumerate(groups), range(3)):
            if rows and kind in ("max", "min"):
                choose = max if kind == "max" else min
                positions[group, column] = choose(rows, key=lambda row: source[row, column].item())
                value = source[positions[group, column], column]
            elif rows:
                value = source[rows, column].sum() / (len(rows) if kind == "mean" else 1)
            else:
                continue
            expected = expected.index_put((torch.tensor(group), torch.tensor(column)), value)
        if kind in ("max", "min"):
            across, _ = getattr(extension, f"scatter_{kind}")(source.mT, of_row, dim_size=6)
            forward += [(ours[1], positions), (across.mT, expected)]
            ours = ours[0]
        grad = rand(random, *expected.shape)
        forward.append((ours, expected))
        backward += zip(*(gradients(each, [source], grad) for each in (ours, expected)), strict=True)
    return forward, backward


@case
def native_rasterizer(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("native_rasterizer")
    forward: Pairs = []
    backward: Pairs = []
    vertices = (5 * rand(random, 1, 3, 2) - 0.5).requires_grad_()
    for mode in range(3):
        rows, edges = [], torch.zeros(1, 3, 4, dtype=torch.int)
        for b, y, x in places(1, 3, 4):
            distances, is_inside, pixel = [], False, torch.tensor([x, y])
            for edge in range(2 if mode == 0 else 3):
                start, end = vertices[b, edge], vertices[b, (edge + 1) % 3]
                along = ((pixel - start) @ (end - start)) / ((end - start) @ (end - start) + 1e-5)
                nearest = start if along < 0 else end if along > 1 else start + along * (end - start)
                distances.append(((pixel - nearest) ** 2).sum())
                if (start[1] > y) != (end[1] > y):
                    crossing = start[0] + (end[0] - start[0]) * (y - start[1]) / (end[1] - start[1])
                    is_inside ^= bool(x < crossing)
            squared, sign = torch.stack(distances).min(), 1.0 if is_inside else -1.0
            edges[b, y, x] = torch.stack(distances).argmin()
            drawn = ((-squared / 2).exp(), torch.sigmoid(sign * squared / 2), squared * 0 + sign)
            rows.append(drawn[mode])
        expected, grad = torch.stack(rows).view(1, 3, 4), rand(random, 1, 3, 4)
        blank = torch.zeros(1, 3, 4), torch.zeros(1, 3, 4, dtype=torch.int)
        image, found = extension.forward_rasterize(vertices.detach(), *blank, 4, 3, 2.0, mode)
        plain, change = vertices.detach(), torch.ones(1, 3, 2)
        change = extension.backward_rasterize(plain, image, found, grad, change, 4, 3, 2.0, mode)
        forward += [(image, expected), (found, edges if mode < 2 else torch.zeros_like(edges))]
        backward += zip([change], gradients(expected, [vertices], grad), strict=True)
    return forward, backward


# Attention


def interpolated(grid: Tensor, place: Tensor) -> Tensor:
    """Interpolates a grid, of shape (*sizes, C), at a position in cells. Cells outside the grid are zero."""
    low, total = place.detach().floor().long(), torch.zeros(grid.size(-1), dtype=grid.dtype)
    for corner in itertools.product((0, 1), repeat=len(place)):
        cell = low + torch.tensor(corner)
        if all(0 <= value < size for value, size in zip(cell.tolist(), grid.shape, strict=False)):
            weight = torch.stack([1 - (p - c).abs() for p, c in zip(place, cell, strict=True)]).prod()
            total = total + weight * grid[tuple(cell.tolist())]
    return total


def attention_inputs(random: torch.Generator, dimensions: int) -> tuple[Tensor, ...]:
    shapes = torch.tensor([[3, 4, 2], [2, 3, 3]])[:, :dimensions]
    pixels = shapes.prod(1)
    value = rand(random, 2, int(pixels.sum()), 2, 3).double().requires_grad_()
    locations = (1.4 * rand(random, 2, 3, 2, 2, 2, dimensions) - 0.2).double().requires_grad_()
    weights = rand(random, 2, 3, 2, 2, 2).double().requires_grad_()
    return value, shapes, pixels.cumsum(0) - pixels, locations, weights


def attended(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, look: Any) -> Tensor:
    rows = []
    for b, q, h in places(2, 3, 2):
        total = torch.zeros(3, dtype=value.dtype)
        for level, p in places(2, 2):
            start, shape = int(starts[level]), shapes[level].tolist()
            grid = value[b, start : start + math.prod(shape), h].view(*shape, 3)
            total = total + weights[b, q, h, level, p] * look(grid, locations[b, q, h, level, p])
        rows.append(total)
    return torch.stack(rows).view(2, 3, 6)


@case
def deform3dattn_custom_cn(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("deform3dattn_custom_cn")
    forward: Pairs = []
    backward: Pairs = []
    for dimensions in (2, 3):
        inputs = attention_inputs(random, dimensions)
        plain = [each.detach() for each in inputs]

        def look(grid: Tensor, place: Tensor) -> Tensor:
            order = [1, 0, 2][: len(place)]  # x is the second coordinate of a cell
            return interpolated(grid, place[order] * torch.tensor(grid.shape[:-1]) - 0.5)

        value, shapes, starts, locations, weights = inputs
        expected = attended(value, shapes, starts, locations, weights, look)
        leaves = [inputs[0], *inputs[3:]]
        grad, changes = rand(random, 2, 3, 6).double(), [torch.zeros_like(each) for each in leaves]
        forward.append((extension.ms_deform_attn_forward(*plain, im2col_step=64), expected))
        extension.ms_deform_attn_backward(*plain, grad, *changes, im2col_step=64)
        backward += zip(changes, gradients(expected, leaves, grad), strict=True)
        if dimensions == 2:
            returned = module("MultiScaleDeformableAttention").ms_deform_attn_backward(*plain, grad, 64)
            backward += zip(returned, changes, strict=True)
    return forward, backward


@case
def geometric_kernel_attention(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension, (value, shapes, starts, locations, weights) = (
        module("GeometricKernelAttention"),
        attention_inputs(random, 2),
    )
    locations = (5 * locations.detach()).floor().long()

    def look(grid: Tensor, place: Tensor) -> Tensor:
        x, y = place.tolist()
        return grid[min(max(y, 0), grid.size(0) - 1), min(max(x, 0), grid.size(1) - 1)]

    expected = attended(value, shapes, starts, locations, weights, look)
    inputs, grad = (value.detach(), shapes, starts, locations, weights.detach()), rand(random, 2, 3, 6).double()
    out = extension.geometric_kernel_attn_cuda_forward(*inputs, 64)
    changes = extension.geometric_kernel_attn_cuda_backward(*inputs, grad, 64)
    return [(out, expected)], list(zip(changes, gradients(expected, [value, weights], grad), strict=True))


@case
def deformable_aggregation_ext(random: torch.Generator) -> tuple[Pairs, Pairs]:
    extension = module("some.ops.deformable_aggregation_ext")
    shapes = torch.tensor([[[3, 4], [2, 2]], [[2, 3], [1, 2]]])
    pixels = shapes.prod(-1).flatten()
    starts = (pixels.cumsum(0) - pixels).view(2, 2)
    features = rand(random, 2, int(pixels.sum()), 4).double().requires_grad_()
    locations = (1.4 * rand(random, 2, 3, 2, 2, 2) - 0.2).double().requires_grad_()
    weights = rand(random, 2, 3, 2, 2, 2, 2).double().requires_grad_()
    expected = torch.zeros(2, 3, 4, dtype=torch.double)
    for b, anchor, p, camera, level in places(2, 3, 2, 2, 2):
        x, y = locations[b, anchor, p, camera]
        if 0 < x < 1 and 0 < y < 1:
            height, width = shapes[camera, level].tolist()
            start = int(starts[camera, level])
            grid = features[b, start : start + height * width].view(height, width, 4)
            found = interpolated(grid, torch.stack((y * height, x * width)) - 0.5)
            value = found * weights[b, anchor, p, camera, level].repeat_interleave(2)
            expected = expected.index_put((torch.tensor(b), torch.tensor(anchor)), value, accumulate=True)
    leaves = [features, locations, weights]
    inputs = (features.detach(), shapes.int(), starts.int(), locations.detach(), weights.detach())
    grad, changes = rand(random, 2, 3, 4).double(), [torch.zeros_like(each) for each in leaves]
    out = extension.deformable_aggregation_forward(*inputs)
    extension.deformable_aggregation_backward(*inputs, grad, *changes)
    return [(out, expected)], list(zip(changes, gradients(expected, leaves, grad), strict=True))


def largest_differences(name: str) -> tuple[float, float]:
    """Returns the largest differences of results and of gradients on twenty random inputs."""
    largest = [0.0, 0.0]
    for seed in range(20):
        for kind, pairs in enumerate(CASES[name](torch.Generator().manual_seed(seed))):
            for ours, expected in pairs:
                assert ours.shape == expected.shape
                difference = (ours.detach().double() - expected.detach().double()).abs()
                largest[kind] = max(largest[kind], difference.max().item() if difference.numel() else 0.0)
    return largest[0], largest[1]


@pytest.mark.parametrize("name", CASES)
def test_operators_agree_with_loops(name: str) -> None:
    assert max(largest_differences(name)) < 1e-5


def test_known_overlaps() -> None:
    square, ious = torch.tensor([[-1.0, -1, 1, 1, 0]]), torch.zeros(1, 2)
    turned = torch.tensor([[-1.0, -1, 1, 1, math.pi / 4], [0, -1, 2, 1, 0]])
    module("iou3d_cuda").boxes_iou_bev_gpu(square, turned, ious)
    octagon = 8 * (math.sqrt(2) - 1)
    assert ious[0].tolist() == pytest.approx([octagon / (8 - octagon), 1 / 3])


if __name__ == "__main__":
    print("| operator | results | gradients |\n|---|---|---|")
    for title in CASES:
        print("| {} | {:.1e} | {:.1e} |".format(title, *largest_differences(title)))

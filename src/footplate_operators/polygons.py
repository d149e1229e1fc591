"""Operators on rotated boxes, convex quadrilaterals and convex hulls. Overlaps are computed in double precision."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Edges count as collinear if their distance is below this fraction of the polygon size.
_ON_ONE_LINE = 1e-10
# Vertices count as one if their distance is below this fraction of the polygon size, because mmcv computes them in
# single precision.
_SAME_VERTEX = 1e-5
_SAME_POINT = 1e-9  # the corresponding fraction for `_hull_areas`, and the tolerance of its angles
# The number of pairs of corners that are compared at once. On a CPU, arrays that fit into the cache are faster. On a
# GPU, each block takes time to launch.
_BLOCK, _GPU_BLOCK = 1 << 17, 1 << 22


def rotated_box_corners(boxes: Tensor) -> Tensor:
    """Returns the corners of rotated boxes of shape (N, 5) as a tensor of shape (N, 4, 2).

    A box consists of center x, center y, width, height and angle in radians.
    """
    center_x, center_y, width, height, angle = boxes.double()[:, :5].unbind(1)
    along = torch.stack((angle.cos() * width, angle.sin() * width), 1) / 2
    aside = torch.stack((-angle.sin() * height, angle.cos() * height), 1) / 2
    center = torch.stack((center_x, center_y), 1)
    return torch.stack(
        (center - along - aside, center + along - aside, center + along + aside, center - along + aside), 1
    )


def signed_areas(polygons: Tensor) -> Tensor:
    """Returns the areas of polygons of shape (..., corners, 2).

    Clockwise polygons have negative areas if the y axis points up.
    """
    following = polygons.roll(-1, -2)
    return (polygons[..., 0] * following[..., 1] - polygons[..., 1] * following[..., 0]).sum(-1) / 2


def counterclockwise(polygons: Tensor) -> Tensor:
    """Makes polygons of shape (N, corners, 2) counterclockwise: reverses the corner order of clockwise polygons."""
    return torch.where((signed_areas(polygons) < 0)[:, None, None], polygons.flip(1), polygons)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _clipped_edges(first: Tensor, second: Tensor, keep_common: bool) -> Tensor:
    """Returns the contribution of the edges of `first` to the area of the intersection with `second`.

    Only the parts of edges inside `second` contribute. By Green's theorem, the area of a polygon is the sum of the
    signed areas of the triangles between the origin and each edge.

    Args:
        first: Counterclockwise polygons of shape (..., a, 2).
        second: Counterclockwise polygons of shape (..., b, 2).
        keep_common: Whether to include edges that coincide with an edge of `second` in the same direction.
    """
    start = first[..., :, None, :]  # (..., a, 1, 2)
    direction = (first.roll(-1, -2) - first)[..., :, None, :]
    corner = second[..., None, :, :]  # (..., 1, b, 2)
    edge = (second.roll(-1, -2) - second)[..., None, :, :]
    length = edge.norm(dim=-1).clamp(min=1e-300)
    at_start = _cross(edge, start - corner) / length  # the distance to the edge's line, positive inside
    at_end = _cross(edge, start + direction - corner) / length
    change = at_end - at_start
    crossing = -at_start / torch.where(change == 0, 1.0, change)
    tolerance = _ON_ONE_LINE * (
        length.amax((-1, -2), keepdim=True) + direction.norm(dim=-1).amax((-1, -2), keepdim=True)
    )
    common = (at_start.abs() <= tolerance) & (at_end.abs() <= tolerance)
    counts = (edge * direction).sum(-1) > 0 if keep_common else torch.zeros_like(common)
    inside = torch.where(common, counts, (change != 0) | (at_start > 0))
    enters = torch.where((change > 0) & ~common, crossing, 0.0).amax(-1).clamp(min=0)
    leaves = torch.where((change < 0) & ~common, crossing, 1.0).amin(-1).clamp(max=1)
    share = (leaves - enters).clamp(min=0) * inside.all(-1)
    return (share * _cross(first, first.roll(-1, -2) - first)).sum(-1) / 2


def intersection_areas(first: Tensor, second: Tensor) -> Tensor:
    """Returns the intersection areas of convex counterclockwise polygons.

    Args:
        first: Polygons of shape (..., a, 2).
        second: Polygons of shape (..., b, 2). Leading dimensions are broadcast.
    """
    origin = first.mean(-2, keepdim=True)
    first, second = first - origin, second - origin
    area = _clipped_edges(first, second, keep_common=True) + _clipped_edges(second, first, keep_common=False)
    return area.clamp(min=0)


def overlaps(first: Tensor, second: Tensor, *, of_first: bool, aligned: bool, exact: bool = True) -> Tensor:
    """Returns the IoU of polygons, or the intersection over the first polygon's area if `of_first` is set.

    Args:
        first: Polygons of shape (N, a, 2).
        second: Polygons of shape (M, b, 2).
        of_first: Whether to divide by the area of the first polygon.
        aligned: Whether to compare the polygons pair by pair, which requires N = M.
        exact: Whether the areas are exact. Otherwise, they are those that mmcv computes for quadrilaterals, which are
            exact for rectangles; see `_loose_intersection_areas`.

    Returns:
        The overlaps, of shape (N, M), or (N,) if `aligned` is set. The overlap with a zero-area polygon is 0.
    """
    first, second = first.double(), second.double()
    intersect, area = _loose_intersection_areas, _fan_areas
    if exact:
        intersect, area = intersection_areas, signed_areas
        first, second = counterclockwise(first), counterclockwise(second)
    if not aligned:
        first, second = first[:, None], second[None]
    own, others, shared = area(first), area(second), intersect(first, second)
    whole = own + 0 * others if of_first else own + others - shared
    return torch.where((own > 0) & (others > 0), shared / whole, 0.0)


def _write_in_blocks(
    compare: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor, output: Tensor, *, aligned: bool = False
) -> None:
    """Writes the result of `compare` to `output`, a block of rows at a time, to save memory.

    `compare` takes polygons of shapes (n, a, 2) and (M, b, 2), and returns a tensor of shape (n, M). If `aligned` is
    set, it compares pair by pair and returns a tensor of shape (n,).
    """
    pairs = 1 if aligned else len(second)
    size = _BLOCK if first.device.type == "cpu" else _GPU_BLOCK
    rows = max(1, size // max(1, pairs * first.size(1) * second.size(1)))
    output = output.view((len(first),) if aligned else (len(first), len(second)))
    for start in range(0, len(first), rows):
        block = slice(start, start + rows)
        output[block] = compare(first[block], second[block] if aligned else second)


def _fan_areas(polygons: Tensor) -> Tensor:
    """Returns the areas of quadrilaterals of shape (..., 4, 2), from the two triangles at the first corner."""
    sides = polygons[..., 1:, :] - polygons[..., :1, :]
    return _cross(sides[..., :-1, :], sides[..., 1:, :]).abs().sum(-1) / 2


def _loose_intersection_areas(first: Tensor, second: Tensor) -> Tensor:
    """Returns the intersection areas of quadrilaterals of shape (..., 4, 2) as mmcv's compiled operators compute them.

    The area is that of the convex hull of the points where edges cross, and of the corners that are inside the other
    quadrilateral. mmcv counts a corner as inside if its projections on the two sides at the first corner are, which
    is correct only for rectangles. For other shapes, the area may even exceed the areas of both quadrilaterals.
    """
    first, second = torch.broadcast_tensors(first, second)  # type: ignore[no-untyped-call]
    edges, others = first.roll(-1, -2) - first, second.roll(-1, -2) - second
    between = second[..., None, :, :] - first[..., :, None, :]  # (..., 4, 4, 2)
    crosses = _cross(edges[..., :, None, :], others[..., None, :, :])
    divisor = torch.where(crosses == 0, 1.0, crosses)
    along = _cross(between, others[..., None, :, :]) / divisor
    along_other = _cross(between, edges[..., :, None, :]) / divisor
    meet = (crosses.abs() > 1e-14) & (along >= 0) & (along <= 1) & (along_other >= 0) & (along_other <= 1)
    crossings = first[..., :, None, :] + along[..., None] * edges[..., :, None, :]
    points = torch.cat((crossings.flatten(-3, -2), first, second), -2)
    valid = torch.cat((meet.flatten(-2), _are_inside(first, second), _are_inside(second, first)), -1)
    areas = first.new_zeros(first.shape[:-2])
    has_area = valid.sum(-1) > 2
    areas[has_area] = _hull_areas(points[has_area], valid[has_area])
    return areas


def _are_inside(corners: Tensor, quadrilaterals: Tensor) -> Tensor:
    origin = quadrilaterals[..., :1, :]
    inside = torch.ones(corners.shape[:-1], dtype=torch.bool, device=corners.device)
    for neighbor in (1, 3):
        side = quadrilaterals[..., neighbor : neighbor + 1, :] - origin
        projection = ((corners - origin) * side).sum(-1)
        inside &= (projection >= 0) & (projection <= (side * side).sum(-1))
    return inside


def _hull_areas(points: Tensor, valid: Tensor) -> Tensor:
    """Returns the areas of the convex hulls of the valid points among points of shape (N, points, 2).

    Source: Jarvis, On the identification of the convex hull of a finite set of points in the plane (1973).
    """
    rows = torch.arange(len(points), device=points.device)
    points = torch.where(valid[..., None], points, points[rows, valid.int().argmax(1)][:, None])
    low = points.amin(1, keepdim=True)
    points = points - low
    tolerance = _SAME_POINT * points.amax((1, 2))[:, None]
    lowest = points[..., 1] <= 0
    start = current = points[rows, torch.where(lowest, points[..., 0], math.inf).argmin(1)]
    direction = torch.tensor([1.0, 0.0], dtype=points.dtype, device=points.device).expand_as(start)
    areas, is_closed = points.new_zeros(len(points)), torch.zeros_like(valid[:, 0])
    for _ in range(points.size(1)):
        steps = points - current[:, None]
        lengths = steps.norm(dim=-1)
        turns = torch.atan2(_cross(direction[:, None], steps), (direction[:, None] * steps).sum(-1))
        turns = torch.where(turns < -_SAME_POINT, turns + 2 * math.pi, turns).masked_fill(
            lengths <= tolerance, math.inf
        )
        is_next = turns <= turns.amin(1, keepdim=True) + _SAME_POINT
        following = points[rows, torch.where(is_next, lengths, -1.0).argmax(1)]
        areas += torch.where(is_closed, 0.0, _cross(current - start, following - start) / 2)
        is_closed |= (following - start).norm(dim=-1) <= tolerance[:, 0]
        if is_closed.all():
            break
        direction, current = following - current, following
    return areas


def convex_hull(points: np.ndarray) -> np.ndarray:
    """Returns the indices of the points, of shape (N, 2), that form the convex hull, in counterclockwise order.

    Source: Andrew, Another efficient algorithm for convex hulls in two dimensions (1979).
    """
    order = np.lexsort((points[:, 1], points[:, 0])).tolist()
    coordinates = points.tolist()

    def half(indices: list[int]) -> list[int]:
        chain: list[int] = []
        for index in indices:
            x, y = coordinates[index]
            while len(chain) > 1:
                (ax, ay), (bx, by) = coordinates[chain[-2]], coordinates[chain[-1]]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()
            chain.append(index)
        return chain[:-1]

    return np.array(half(order) + half(order[::-1]) or order[:1])


def hulls(points: Tensor) -> Tensor:
    """Returns the counterclockwise convex hulls of point sets of shape (N, points, 2), in the same shape.

    Hulls with fewer corners are padded by repeating their last corner.
    """
    indices = np.zeros(points.shape[:2], dtype=np.int64)
    for row, each in zip(indices, points.detach().cpu().numpy(), strict=True):
        corners = convex_hull(each)
        row[: len(corners)], row[len(corners) :] = corners, corners[-1]
    where = torch.from_numpy(indices).to(points.device)
    return points.gather(1, where[..., None].expand(-1, -1, 2))


def box_iou_rotated(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Computes the IoU of rotated boxes, or the intersection over the first box's area if `mode_flag` is 1.

    The boxes have shapes (N, 5) and (M, 5). Writes the result to `ious`, of shape (N, M), or (N,) if `aligned` is set.
    """
    first, second = rotated_box_corners(bboxes1), rotated_box_corners(bboxes2)
    compare = partial(overlaps, of_first=mode_flag == 1, aligned=aligned)
    _write_in_blocks(compare, first, second, ious, aligned=aligned)


def box_iou_quadri(bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode_flag: int, aligned: bool) -> None:
    """Writes the overlaps of two sets of convex quadrilaterals to `ious`; see `box_iou_rotated`.

    The quadrilaterals have shapes (N, 8) and (M, 8).
    """
    first, second = bboxes1.reshape(-1, 4, 2), bboxes2.reshape(-1, 4, 2)
    compare = partial(overlaps, of_first=mode_flag == 1, aligned=aligned, exact=False)
    _write_in_blocks(compare, first, second, ious, aligned=aligned)


def iou3d_boxes_overlap_bev_forward(boxes_a: Tensor, boxes_b: Tensor, ans_overlap: Tensor) -> None:
    """Writes the areas that boxes share, seen from above, to `ans_overlap`, of shape (N, M).

    The boxes have shapes (N, 7) and (M, 7): center x, y and z, the three sizes, and the angle around the z axis.
    """
    first, second = (counterclockwise(rotated_box_corners(boxes[:, [0, 1, 3, 4, 6]])) for boxes in (boxes_a, boxes_b))
    _write_in_blocks(lambda boxes, others: intersection_areas(boxes[:, None], others[None]), first, second, ans_overlap)


def convex_iou(pointsets: Tensor, polygons: Tensor, ious: Tensor) -> None:
    """Computes the pairwise IoU between the convex hulls of N point sets and M quadrilaterals.

    Writes the result to `ious`, of shape (N, M). A point set consists of nine points (x, y), so the inputs have shape
    (N, 18) and (M, 8).
    """
    first, second = hulls(pointsets.double().reshape(-1, 9, 2)), polygons.reshape(-1, 4, 2)
    _write_in_blocks(partial(overlaps, of_first=False, aligned=False), first, second, ious)


def convex_giou(pointsets: Tensor, polygons: Tensor, output: Tensor) -> None:
    """Computes the generalized IoU of each point set's convex hull and the quadrilateral at the same index.

    The point sets have shape (N, 18), and the quadrilaterals have shape (N, 8). Writes the gradient with respect to the
    points, followed by the value, to `output`, of shape (N, 19).

    Source: Rezatofighi et al., Generalized Intersection over Union (2019).
    """
    with torch.enable_grad():
        points = pointsets.detach().double().reshape(-1, 9, 2).requires_grad_()
        first, second = hulls(points), counterclockwise(polygons.double().reshape(-1, 4, 2))
        shared = intersection_areas(first, second)
        union = signed_areas(first) + signed_areas(second) - shared
        around = signed_areas(hulls(torch.cat((points, second), 1)))
        giou = shared / union - (around - union) / around
        (gradient,) = torch.autograd.grad(giou.sum(), points)
    output.copy_(torch.cat((gradient.flatten(1), giou.detach()[:, None]), 1))


def min_area_polygons(pointsets: Tensor, polygons: Tensor) -> None:
    """Writes the corners of the smallest rectangle around each point set to `polygons`.

    The point sets have shape (N, 18), and the corners have shape (N, 8). Tries one rectangle per edge of the convex
    hull, because the smallest rectangle has a side on one of the edges.
    """
    corners = hulls(pointsets.double().reshape(-1, 9, 2))
    edges = corners.roll(-1, 1) - corners
    axis = F.normalize(edges, dim=-1)  # (N, 9, 2)
    normal = torch.stack((-axis[..., 1], axis[..., 0]), -1)
    along, aside = axis @ corners.transpose(1, 2), normal @ corners.transpose(1, 2)
    low, high = torch.stack((along.amin(-1), aside.amin(-1)), -1), torch.stack((along.amax(-1), aside.amax(-1)), -1)
    area = (high - low).prod(-1).masked_fill(edges.norm(dim=-1) == 0, float("inf"))
    best = area.argmin(1)[:, None, None].expand(-1, 1, 2)
    low, high, axis, normal = (each.gather(1, best)[:, 0] for each in (low, high, axis, normal))
    ends = ((high, low), (low, low), (low, high), (high, high))
    found = [along[:, :1] * axis + aside[:, 1:] * normal for along, aside in ends]
    polygons.copy_(torch.stack(found, 1).flatten(1))


def diff_iou_rotated_sort_vertices_forward(vertices: Tensor, mask: Tensor, num_valid: Tensor) -> Tensor:
    """Sorts the vertices of box intersections counterclockwise, starting at the positive x axis.

    Args:
        vertices: The vertex candidates, of shape (B, N, 24, 2), relative to a point inside the intersection. They are
            the corners of the two boxes, followed by the intersections of their edges.
        mask: Which candidates are vertices, of shape (B, N, 24).
        num_valid: Ignored; `mask` determines the number of vertices.

    Returns:
        The indices of the vertices, as an int32 tensor of shape (B, N, 9). The first index is repeated after the last
        one, so that the polygon is closed. The remaining entries contain the index of an edge intersection that is not
        a vertex. If several vertices have the same position, only the first is included. If fewer than three vertices
        remain, the result contains no vertices.
    """
    size = vertices.norm(dim=-1).masked_fill(~mask, 0).amax(-1)[..., None, None]
    same = (vertices[..., :, None, :] - vertices[..., None, :, :]).norm(dim=-1) <= _SAME_VERTEX * size
    first = mask & ~(same & mask[..., None, :]).tril(-1).any(-1)
    place = torch.arange(vertices.size(-2), device=mask.device)
    padding = ~mask & (place >= 8)  # these are zero, unlike the corners
    angle = torch.atan2(vertices[..., 1], vertices[..., 0]) % (2 * torch.pi)
    order = torch.where(first, angle, torch.where(padding, 10.0, 20.0)).argsort(dim=-1, stable=True)[..., :9]
    count = first.sum(-1, keepdim=True).clamp(max=8)
    unused = order.gather(-1, count)
    closed = torch.where(place[:9] == count, order[..., :1], order)
    return torch.where((place[:9] <= count) & (count >= 3), closed, unused).int()

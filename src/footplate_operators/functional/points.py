"""Functions on point clouds: neighbors, groups, voxels and points in boxes. See `footplate_operators.points`.

Autocast computes coordinates in float32. Features keep their dtype.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from footplate_operators import points as clouds
from footplate_operators.registration import filling_operator, operator


@filling_operator(constant=True, autocast=torch.float32)
def _dynamic_voxelize(points: Tensor, voxel_size: list[float], coors_range: list[float]) -> Iterator[Tensor]:
    coors = points.new_zeros(len(points), 3, dtype=torch.int)
    yield coors
    clouds.dynamic_voxelize_forward(points, points.new_tensor(voxel_size), points.new_tensor(coors_range), coors)


def _voxels(
    points: Tensor, voxel_size: list[float], coors_range: list[float], max_points: int, max_voxels: int
) -> tuple[Tensor, Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    return (
        points.new_empty(number, max_points, points.size(1)),
        points.new_empty(number, 3, dtype=torch.int),
        points.new_empty(number, dtype=torch.int),
    )


@operator(_voxels, dynamic=True, constant=True, autocast=torch.float32)
def _hard_voxelize(
    points: Tensor, voxel_size: list[float], coors_range: list[float], max_points: int, max_voxels: int
) -> tuple[Tensor, Tensor, Tensor]:
    voxels = points.new_zeros(max_voxels, max_points, points.size(1))
    coors, counts = (points.new_zeros(max_voxels, *size, dtype=torch.int) for size in ((3,), ()))
    number = torch.zeros((), dtype=torch.long)
    grid = points.new_tensor(voxel_size), points.new_tensor(coors_range)
    clouds.hard_voxelize_forward(points, *grid, voxels, coors, counts, number, max_points, max_voxels)
    kept = int(number)
    return voxels[:kept].clone(), coors[:kept].clone(), counts[:kept].clone()


def voxelization(
    points: Tensor,
    voxel_size: Sequence[float],
    coors_range: Sequence[float],
    max_points: int = 35,
    max_voxels: int = 20000,
    deterministic: bool = True,
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Groups points into voxels. Points keep their order, and voxels are ordered by their first point.

    Args:
        points: Points of shape (N, C), where the first three columns are x, y and z.
        voxel_size: The voxel size along x, y and z.
        coors_range: The lower bounds, followed by the upper bounds.
        max_points: The maximum number of points per voxel, or -1.
        max_voxels: The maximum number of voxels, or -1.
        deterministic: Ignored. The result is always deterministic.

    Returns:
        The points in each voxel, of shape (voxels, max_points, C); the z, y and x of each voxel, of shape (voxels, 3);
        and the number of points in each voxel. If `max_points` or `max_voxels` is -1, only the z, y and x of each
        point's voxel, of shape (N, 3), or -1 for points out of range.
    """
    size, bounds = [float(value) for value in voxel_size], [float(value) for value in coors_range]
    if -1 in (max_points, max_voxels):
        return _dynamic_voxelize(points, size, bounds)
    return _hard_voxelize(points, size, bounds, max_points, max_voxels)


@filling_operator(constant=True, autocast=torch.float32, batched="points boxes")
def _points_in_boxes_part(points: Tensor, boxes: Tensor) -> Iterator[Tensor]:
    output = points.new_zeros(points.shape[:2], dtype=torch.int)
    yield output
    clouds.points_in_boxes_part_forward(boxes, points, output)


def points_in_boxes_part(points: Tensor, boxes: Tensor) -> Tensor:
    """Returns the index of the first box that contains each point, or -1.

    Args:
        points: Points of shape (B, M, 3).
        boxes: Boxes of shape (B, T, 7): center x and y, bottom z, the three sizes, and the angle around the z axis.

    Returns:
        An int32 tensor of shape (B, M).
    """
    return _points_in_boxes_part(points, boxes)


@filling_operator(constant=True, autocast=torch.float32, batched="points boxes")
def _points_in_boxes_all(points: Tensor, boxes: Tensor) -> Iterator[Tensor]:
    output = points.new_zeros(*points.shape[:2], boxes.size(1), dtype=torch.int)
    yield output
    clouds.points_in_boxes_all_forward(boxes, points, output)


def points_in_boxes_all(points: Tensor, boxes: Tensor) -> Tensor:
    """Returns 1 where a point is in a box and 0 elsewhere, as an int32 tensor of shape (B, M, T).

    See `points_in_boxes_part` for the arguments.
    """
    return _points_in_boxes_all(points, boxes)


points_in_boxes_cpu = points_in_boxes_all

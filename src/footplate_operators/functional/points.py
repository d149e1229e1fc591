"""Functions on point clouds: neighbors, groups, voxels and points in boxes. See `footplate_operators.points`.

Autocast computes coordinates in float32. Features keep their dtype.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from footplate_operators import points as clouds
from footplate_operators.registration import coordinates_operator, filling_operator, operator, selecting_operator


def _write_voxels(points: Tensor, coors: Tensor, voxel_size: list[float], coors_range: list[float]) -> None:
    clouds.dynamic_voxelize_forward(points, points.new_tensor(voxel_size), points.new_tensor(coors_range), coors)


@coordinates_operator(_write_voxels, "points coors")
def _dynamic_voxelize(points: Tensor, voxel_size: list[float], coors_range: list[float]) -> Tensor:
    return points.new_zeros(points.size(0), 3, dtype=torch.int)


def _voxels(points: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    number, coors = torch.library.get_ctx().new_dynamic_size(), points.new_empty(0, dtype=torch.int)
    return points.new_empty(number, settings[2], points.size(1)), coors.new_empty(number, 3), coors.new_empty(number)


@selecting_operator(_voxels)
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


@coordinates_operator(clouds.points_in_boxes_part_forward, "boxes points output", batched="points boxes")
def points_in_boxes_part(points: Tensor, boxes: Tensor) -> Tensor:
    """Returns the index of the first box that contains each point, or -1.

    Args:
        points: Points of shape (B, M, 3).
        boxes: Boxes of shape (B, T, 7): center x and y, bottom z, the three sizes, and the angle around the z axis.

    Returns:
        An int32 tensor of shape (B, M).
    """
    return points.new_zeros(points.shape[:2], dtype=torch.int)


@coordinates_operator(clouds.points_in_boxes_all_forward, "boxes points output", batched="points boxes")
def points_in_boxes_all(points: Tensor, boxes: Tensor) -> Tensor:
    """Returns 1 where a point is in a box and 0 elsewhere, as an int32 tensor of shape (B, M, T).

    See `points_in_boxes_part` for the arguments.
    """
    return points.new_zeros(*points.shape[:2], boxes.size(1), dtype=torch.int)


points_in_boxes_cpu = points_in_boxes_all


def _sampling(sample: Callable[..., None]) -> Callable[..., None]:
    return lambda points, indices, _: sample(points, points.new_full(points.shape[:2], 1e10), indices)


@coordinates_operator(_sampling(clouds.furthest_point_sampling_forward), "points_xyz indices", batched="points_xyz")
def furthest_point_sample(points_xyz: Tensor, num_points: int) -> Tensor:
    """Samples points of shape (B, N, 3): starts with the first, then adds the point farthest from all others.

    Returns:
        The indices of the sampled points, as an int32 tensor of shape (B, num_points).
    """
    return points_xyz.new_zeros(points_xyz.size(0), num_points, dtype=torch.int)


@coordinates_operator(
    _sampling(clouds.furthest_point_sampling_with_dist_forward), "points_dist indices", batched="points_dist"
)
def furthest_point_sample_with_dist(points_dist: Tensor, num_points: int) -> Tensor:
    """Like `furthest_point_sample`, but takes the pairwise distances of the points, of shape (B, N, N)."""
    return points_dist.new_zeros(points_dist.size(0), num_points, dtype=torch.int)


@coordinates_operator(
    lambda centers, xyz, indices, *settings: clouds.ball_query_forward(centers, xyz, indices, 0, 0, 0, *settings),
    "center_xyz xyz indices",
    batched="xyz center_xyz",
)
def _ball_query(xyz: Tensor, center_xyz: Tensor, min_radius: float, max_radius: float, sample_num: int) -> Tensor:
    return xyz.new_zeros(*center_xyz.shape[:2], sample_num, dtype=torch.int)


@coordinates_operator(clouds.stack_ball_query_forward, "center_xyz center_xyz_batch_cnt xyz xyz_batch_cnt indices")
def _stack_ball_query(
    xyz: Tensor,
    center_xyz: Tensor,
    xyz_batch_cnt: Tensor,
    center_xyz_batch_cnt: Tensor,
    max_radius: float,
    sample_num: int,
) -> Tensor:
    return xyz.new_zeros(center_xyz.size(0), sample_num, dtype=torch.int)


def ball_query(
    min_radius: float,
    max_radius: float,
    sample_num: int,
    xyz: Tensor,
    center_xyz: Tensor,
    xyz_batch_cnt: Tensor | None = None,
    center_xyz_batch_cnt: Tensor | None = None,
) -> Tensor:
    """For each center, finds the first points at a distance of 0, or between `min_radius` and `max_radius`.

    Args:
        min_radius: The minimum distance. Ignored for samples of different sizes.
        max_radius: The maximum distance.
        sample_num: The number of points to find. If there are fewer, the first one is repeated.
        xyz: Points of shape (B, N, 3), or of shape (sum of N, 3) for samples of different sizes.
        center_xyz: Centers of shape (B, M, 3), or of shape (sum of M, 3) for samples of different sizes.
        xyz_batch_cnt: The number of points of each sample, of shape (B,), for samples of different sizes.
        center_xyz_batch_cnt: The number of centers of each sample, of shape (B,), for samples of different sizes.

    Returns:
        The indices of the points within their sample, as an int32 tensor of shape (B, M, sample_num) or (sum of M,
        sample_num). A center without points has 0, or -1 and then 0 for samples of different sizes.
    """
    if xyz_batch_cnt is not None and center_xyz_batch_cnt is not None:
        counts = xyz_batch_cnt, center_xyz_batch_cnt
        return _stack_ball_query(xyz, center_xyz, *counts, float(max_radius), sample_num)
    return _ball_query(xyz, center_xyz, float(min_radius), float(max_radius), sample_num)


@coordinates_operator(
    lambda xyz, centers, indices, squared, k: clouds.knn_forward(xyz, centers, indices, squared, 0, 0, 0, k),
    "xyz center_xyz indices squared",
    outputs="squared indices",
    batched="xyz center_xyz",
)
def _knn(xyz: Tensor, center_xyz: Tensor, k: int) -> tuple[Tensor, Tensor]:
    squared = xyz.new_zeros(*center_xyz.shape[:2], k)
    return squared, torch.zeros_like(squared, dtype=torch.int)


def knn(k: int, xyz: Tensor, center_xyz: Tensor | None = None, transposed: bool = False) -> Tensor:
    """Finds the `k` points nearest to each center, nearest first.

    Args:
        k: The number of points.
        xyz: Points of shape (B, N, 3), or (B, 3, N) if `transposed` is set.
        center_xyz: Centers of shape (B, M, 3), or (B, 3, M) if `transposed` is set. The points, if None.
        transposed: Whether coordinates come before points.

    Returns:
        The indices of the points, as an int32 tensor of shape (B, k, M).
    """
    center_xyz = xyz if center_xyz is None else center_xyz
    if transposed:
        xyz, center_xyz = xyz.mT.contiguous(), center_xyz.mT.contiguous()
    _, indices = _knn(xyz, center_xyz, k)
    return indices.mT.contiguous()


def three_nn(target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the three points in `source` nearest to each point in `target`.

    Args:
        target: Points of shape (B, N, 3).
        source: Points of shape (B, M, 3).

    Returns:
        The distances, without a gradient, and the indices as an int32 tensor, both of shape (B, N, 3).
    """
    squared, indices = _knn(source, target, 3)
    return squared.sqrt(), indices


@filling_operator(
    clouds.gather_points_forward,
    "features indices output",
    clouds.gather_points_backward,
    "grad_output indices grad_features",
    batched="features indices",
)
def gather_points(features: Tensor, indices: Tensor) -> Tensor:
    """Returns the features of selected points.

    Args:
        features: Features of shape (B, C, N).
        indices: Indices of points, of shape (B, M).

    Returns:
        A tensor of shape (B, C, M).
    """
    return features.new_empty(*features.shape[:2], *indices.shape[1:])


@filling_operator(
    clouds.stack_group_points_forward,
    "features features_batch_cnt indices indices_batch_cnt output",
    clouds.stack_group_points_backward,
    "grad_output indices indices_batch_cnt features_batch_cnt grad_features",
)
def _stack_group_points(
    features: Tensor, indices: Tensor, features_batch_cnt: Tensor, indices_batch_cnt: Tensor
) -> Tensor:
    return features.new_empty(indices.size(0), features.size(1), indices.size(1))


def grouping_operation(
    features: Tensor,
    indices: Tensor,
    features_batch_cnt: Tensor | None = None,
    indices_batch_cnt: Tensor | None = None,
) -> Tensor:
    """Returns the features of groups of points.

    Args:
        features: Features of shape (B, C, N), or of shape (sum of N, C) for samples of different sizes.
        indices: Indices of points within their sample, of shape (B, M, S), or (sum of M, S).
        features_batch_cnt: The number of points of each sample, of shape (B,), for samples of different sizes.
        indices_batch_cnt: The number of groups of each sample, of shape (B,), for samples of different sizes.

    Returns:
        A tensor of shape (B, C, M, S) or (sum of M, C, S).
    """
    if features_batch_cnt is not None and indices_batch_cnt is not None:
        return _stack_group_points(features, indices, features_batch_cnt, indices_batch_cnt)
    return gather_points(features, indices)


@filling_operator(
    clouds.three_interpolate_forward,
    "features indices weight output",
    clouds.three_interpolate_backward,
    "grad_output indices weight grad_features",
    batched="features indices weight",
)
def three_interpolate(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    """Returns weighted sums of the features of three points.

    Args:
        features: Features of shape (B, C, M).
        indices: The three points of each sum, of shape (B, N, 3).
        weight: Their weights, of shape (B, N, 3).

    Returns:
        A tensor of shape (B, C, N).
    """
    return features.new_empty(*features.shape[:2], indices.size(1))


@filling_operator(
    clouds.assign_score_withk_forward,
    "point_features center_features scores knn_idx output",
    clouds.assign_score_withk_backward,
    "grad_output point_features center_features scores knn_idx grad_point_features grad_center_features grad_scores",
    batched="scores point_features center_features knn_idx",
)
def _assign_score_withk(scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor) -> Tensor:
    return point_features.new_empty(scores.size(0), point_features.size(3), *scores.shape[1:3])


def assign_score_withk(
    scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor, aggregate: str = "sum"
) -> Tensor:
    """Sums the transformed features of neighbors, relative to their center, weighted by scores.

    Args:
        scores: The weights, of shape (B, centers, neighbors, W).
        point_features: The features of the points, transformed by each of W weight matrices, of shape (B, N, W, C).
        center_features: The same for the features of the points as centers.
        knn_idx: The indices of the neighbors, of shape (B, centers, neighbors). The first is the center itself.
        aggregate: Ignored, as in mmcv.

    Returns:
        A tensor of shape (B, C, centers, neighbors).
    """
    return _assign_score_withk(scores, point_features, center_features, knn_idx)


@filling_operator(
    clouds.chamfer_distance_forward,
    "xyz1 xyz2 dist1 dist2 idx1 idx2",
    clouds.chamfer_distance_backward,
    "xyz1 xyz2 idx1 idx2 grad_dist1 grad_dist2 grad_xyz1 grad_xyz2",
    autocast=torch.float32,
    batched="xyz1 xyz2",
)
def chamfer_distance(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each point, finds the nearest point in the other set.

    Args:
        xyz1: Points of shape (B, N, 2).
        xyz2: Points of shape (B, M, 2).

    Returns:
        The squared distances of both sets, of shapes (B, N) and (B, M), and the int32 indices of the nearest points, of
        the same shapes.
    """
    dist1, dist2 = xyz1.new_zeros(xyz1.shape[:2]), xyz2.new_zeros(xyz2.shape[:2])
    return dist1, dist2, torch.zeros_like(dist1, dtype=torch.int), torch.zeros_like(dist2, dtype=torch.int)


def _reduced(feats: Tensor, coors: Tensor, reduce_type: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    voxels, indices = coors.new_empty(number, coors.size(1)), coors.new_empty(coors.size(0))
    return feats.new_empty(number, feats.size(1)), voxels, indices, coors.new_empty(number)


@operator(_reduced, dynamic=True)
def _dynamic_point_to_voxel(feats: Tensor, coors: Tensor, reduce_type: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    reduced, voxels, indices, counts = clouds.dynamic_point_to_voxel_forward(feats, coors, reduce_type)
    return reduced, voxels, indices, counts


_dynamic_point_to_voxel.fill_gradients(
    clouds.dynamic_point_to_voxel_backward,
    "grad_feats grad_reduced feats reduced indices counts",
    outputs="reduced voxels indices counts",
)


def dynamic_scatter(feats: Tensor, coors: Tensor, reduce_type: str = "max") -> tuple[Tensor, Tensor]:
    """Aggregates the features of the points in each voxel.

    Args:
        feats: Features of shape (N, C).
        coors: The voxel of each point, of shape (N, 3). Points with a negative voxel coordinate are skipped.
        reduce_type: "sum", "mean" or "max".

    Returns:
        The reduced features, of shape (voxels, C), and the voxels, of shape (voxels, 3).
    """
    reduced, voxels, _, _ = _dynamic_point_to_voxel(feats, coors, reduce_type)
    return reduced, voxels


def _without_sizes(pool: Callable[..., None]) -> Callable[..., None]:
    return lambda *arguments: pool(*arguments[:-3], arguments[-1])


@filling_operator(
    _without_sizes(clouds.roiaware_pool3d_forward),
    "rois pts pts_feature argmax indices pooled",
    _without_sizes(clouds.roiaware_pool3d_backward),
    "indices argmax grad_pooled grad_pts_feature",
    outputs="pooled argmax indices",
)
def _roiaware_pool3d(
    rois: Tensor, pts: Tensor, pts_feature: Tensor, out_size: list[int], max_pts_per_voxel: int, mode: int
) -> tuple[Tensor, Tensor, Tensor]:
    pooled = pts_feature.new_zeros(rois.size(0), *out_size, pts_feature.size(1))
    indices = pts_feature.new_zeros(rois.size(0), *out_size, max_pts_per_voxel, dtype=torch.int)
    return pooled, torch.zeros_like(pooled, dtype=torch.int), indices


def roiaware_pool3d(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    out_size: int | tuple[int, int, int],
    max_pts_per_voxel: int,
    mode: int,
) -> Tensor:
    """Divides each box into X x Y x Z voxels, and pools the features of the points in each voxel.

    The arguments are those of mmcv's `RoIAwarePool3dFunction.apply`.

    Args:
        rois: Boxes of shape (N, 7); see `points_in_boxes_part`.
        pts: Points of shape (P, 3).
        pts_feature: Features of shape (P, C).
        out_size: The numbers of voxels X, Y and Z.
        max_pts_per_voxel: One more than the maximum number of points per voxel.
        mode: 0 for the maximum, 1 for the mean.

    Returns:
        The pooled features, of shape (N, X, Y, Z, C). Empty voxels are 0.
    """
    sizes = [out_size] * 3 if isinstance(out_size, int) else list(out_size)
    pooled, _, _ = _roiaware_pool3d(rois, pts, pts_feature, sizes, max_pts_per_voxel, mode)
    return pooled


@filling_operator(
    lambda *arguments: clouds.roipoint_pool3d_forward(*arguments[:5]),
    "points boxes3d point_features pooled empty",
    batched="points point_features boxes3d",
)
def _roipoint_pool3d(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int
) -> tuple[Tensor, Tensor]:
    pooled = point_features.new_zeros(*boxes3d.shape[:2], num_sampled_points, 3 + point_features.size(2))
    return pooled, point_features.new_zeros(boxes3d.shape[:2], dtype=torch.int)


def roipoint_pool3d(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int = 512
) -> tuple[Tensor, Tensor]:
    """Returns the first points in each box, with their features. They have no gradient.

    The arguments are those of mmcv's `RoIPointPool3dFunction.apply`.

    Args:
        points: Points of shape (B, N, 3).
        point_features: Features of shape (B, N, C).
        boxes3d: Boxes of shape (B, M, 7); see `points_in_boxes_part`.
        num_sampled_points: The number of points. If a box contains fewer, its points are repeated in order.

    Returns:
        The coordinates and features, of shape (B, M, num_sampled_points, 3 + C), and 1 for each box without points, as
        an int32 tensor of shape (B, M).
    """
    return _roipoint_pool3d(points, point_features, boxes3d, num_sampled_points)

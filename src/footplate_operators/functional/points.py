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
    coors = points.new_zeros(points.size(0), 3, dtype=torch.int)
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


@filling_operator(constant=True, autocast=torch.float32, batched="points_xyz")
def _furthest_point_sample(points_xyz: Tensor, num_points: int) -> Iterator[Tensor]:
    indices = points_xyz.new_zeros(points_xyz.size(0), num_points, dtype=torch.int)
    yield indices
    nearest = points_xyz.new_full(points_xyz.shape[:2], 1e10)
    clouds.furthest_point_sampling_forward(points_xyz, nearest, indices)


def furthest_point_sample(points_xyz: Tensor, num_points: int) -> Tensor:
    """Samples points of shape (B, N, 3): starts with the first, then adds the point farthest from all others.

    Returns:
        The indices of the sampled points, as an int32 tensor of shape (B, num_points).
    """
    return _furthest_point_sample(points_xyz, num_points)


@filling_operator(constant=True, autocast=torch.float32, batched="points_dist")
def _furthest_point_sample_with_dist(points_dist: Tensor, num_points: int) -> Iterator[Tensor]:
    indices = points_dist.new_zeros(points_dist.size(0), num_points, dtype=torch.int)
    yield indices
    nearest = points_dist.new_full(points_dist.shape[:2], 1e10)
    clouds.furthest_point_sampling_with_dist_forward(points_dist, nearest, indices)


def furthest_point_sample_with_dist(points_dist: Tensor, num_points: int) -> Tensor:
    """Like `furthest_point_sample`, but takes the pairwise distances of the points, of shape (B, N, N)."""
    return _furthest_point_sample_with_dist(points_dist, num_points)


@filling_operator(constant=True, autocast=torch.float32, batched="xyz center_xyz")
def _ball_query(
    xyz: Tensor, center_xyz: Tensor, min_radius: float, max_radius: float, sample_num: int
) -> Iterator[Tensor]:
    indices = xyz.new_zeros(*center_xyz.shape[:2], sample_num, dtype=torch.int)
    yield indices
    sizes = xyz.size(0), xyz.size(1), center_xyz.size(1)
    clouds.ball_query_forward(center_xyz, xyz, indices, *sizes, min_radius, max_radius, sample_num)


@filling_operator(constant=True, autocast=torch.float32)
def _stack_ball_query(
    xyz: Tensor,
    center_xyz: Tensor,
    xyz_batch_cnt: Tensor,
    center_xyz_batch_cnt: Tensor,
    max_radius: float,
    sample_num: int,
) -> Iterator[Tensor]:
    indices = xyz.new_zeros(center_xyz.size(0), sample_num, dtype=torch.int)
    yield indices
    clouds.stack_ball_query_forward(
        center_xyz, center_xyz_batch_cnt, xyz, xyz_batch_cnt, indices, max_radius, sample_num
    )


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


@filling_operator(constant=True, autocast=torch.float32, batched="xyz center_xyz")
def _knn(xyz: Tensor, center_xyz: Tensor, k: int) -> Iterator[tuple[Tensor, Tensor]]:
    squared = xyz.new_zeros(*center_xyz.shape[:2], k)
    indices = torch.zeros_like(squared, dtype=torch.int)
    yield squared, indices
    clouds.knn_forward(xyz, center_xyz, indices, squared, xyz.size(0), xyz.size(1), center_xyz.size(1), k)


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


@filling_operator(batched="features indices")
def _gather_points(features: Tensor, indices: Tensor) -> Iterator[Tensor]:
    output = features.new_empty(*features.shape[:2], *indices.shape[1:])
    yield output
    clouds.gather_points_forward(features, indices, output)


@filling_operator()
def _gather_points_backward(grad_output: Tensor, indices: Tensor, features_shape: list[int]) -> Iterator[Tensor]:
    grad = grad_output.new_zeros(features_shape)
    yield grad
    clouds.gather_points_backward(grad_output, indices, grad)


_gather_points.differentiate(_gather_points_backward, outputs="output", inputs="features")


def gather_points(features: Tensor, indices: Tensor) -> Tensor:
    """Returns the features of selected points.

    Args:
        features: Features of shape (B, C, N).
        indices: Indices of points, of shape (B, M).

    Returns:
        A tensor of shape (B, C, M).
    """
    return _gather_points(features, indices)


@filling_operator()
def _stack_group_points(
    features: Tensor, indices: Tensor, features_batch_cnt: Tensor, indices_batch_cnt: Tensor
) -> Iterator[Tensor]:
    output = features.new_empty(indices.size(0), features.size(1), indices.size(1))
    yield output
    clouds.stack_group_points_forward(features, features_batch_cnt, indices, indices_batch_cnt, output)


@filling_operator()
def _stack_group_points_backward(
    grad_output: Tensor,
    indices: Tensor,
    features_batch_cnt: Tensor,
    indices_batch_cnt: Tensor,
    features_shape: list[int],
) -> Iterator[Tensor]:
    grad = grad_output.new_zeros(features_shape)
    yield grad
    clouds.stack_group_points_backward(grad_output, indices, indices_batch_cnt, features_batch_cnt, grad)


_stack_group_points.differentiate(_stack_group_points_backward, outputs="output", inputs="features")


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
    return _gather_points(features, indices)


@filling_operator(batched="features indices weight")
def _three_interpolate(features: Tensor, indices: Tensor, weight: Tensor) -> Iterator[Tensor]:
    output = features.new_empty(*features.shape[:2], indices.size(1))
    yield output
    clouds.three_interpolate_forward(features, indices, weight, output)


@filling_operator()
def _three_interpolate_backward(
    grad_output: Tensor, indices: Tensor, weight: Tensor, features_shape: list[int]
) -> Iterator[Tensor]:
    grad = grad_output.new_zeros(features_shape)
    yield grad
    clouds.three_interpolate_backward(grad_output, indices, weight, grad)


_three_interpolate.differentiate(_three_interpolate_backward, outputs="output", inputs="features")


def three_interpolate(features: Tensor, indices: Tensor, weight: Tensor) -> Tensor:
    """Returns weighted sums of the features of three points.

    Args:
        features: Features of shape (B, C, M).
        indices: The three points of each sum, of shape (B, N, 3).
        weight: Their weights, of shape (B, N, 3).

    Returns:
        A tensor of shape (B, C, N).
    """
    return _three_interpolate(features, indices, weight)


@filling_operator(batched="scores point_features center_features knn_idx")
def _assign_score_withk(
    scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor
) -> Iterator[Tensor]:
    output = point_features.new_empty(scores.size(0), point_features.size(3), *scores.shape[1:3])
    yield output
    clouds.assign_score_withk_forward(point_features, center_features, scores, knn_idx, output)


@filling_operator(batched="grad_output scores point_features center_features knn_idx")
def _assign_score_withk_backward(
    grad_output: Tensor, scores: Tensor, point_features: Tensor, center_features: Tensor, knn_idx: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    grads = torch.zeros_like(scores), torch.zeros_like(point_features), torch.zeros_like(center_features)
    yield grads
    tensors = grad_output, point_features, center_features, scores, knn_idx
    clouds.assign_score_withk_backward(*tensors, grads[1], grads[2], grads[0])


_assign_score_withk.differentiate(
    _assign_score_withk_backward, outputs="output", inputs="scores point_features center_features"
)


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


@filling_operator(autocast=torch.float32, batched="xyz1 xyz2")
def _chamfer_distance(xyz1: Tensor, xyz2: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    dist1, dist2 = xyz1.new_zeros(xyz1.shape[:2]), xyz2.new_zeros(xyz2.shape[:2])
    idx1, idx2 = torch.zeros_like(dist1, dtype=torch.int), torch.zeros_like(dist2, dtype=torch.int)
    yield dist1, dist2, idx1, idx2
    clouds.chamfer_distance_forward(xyz1, xyz2, dist1, dist2, idx1, idx2)


@filling_operator(batched="grad_dist1 grad_dist2 xyz1 xyz2 idx1 idx2")
def _chamfer_distance_backward(
    grad_dist1: Tensor, grad_dist2: Tensor, xyz1: Tensor, xyz2: Tensor, idx1: Tensor, idx2: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    grads = torch.zeros_like(xyz1), torch.zeros_like(xyz2)
    yield grads
    clouds.chamfer_distance_backward(xyz1, xyz2, idx1, idx2, grad_dist1, grad_dist2, *grads)


_chamfer_distance.differentiate(_chamfer_distance_backward, outputs="dist1 dist2 idx1 idx2", inputs="xyz1 xyz2")


def chamfer_distance(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each point, finds the nearest point in the other set.

    Args:
        xyz1: Points of shape (B, N, 2).
        xyz2: Points of shape (B, M, 2).

    Returns:
        The squared distances of both sets, of shapes (B, N) and (B, M), and the int32 indices of the nearest points, of
        the same shapes.
    """
    return _chamfer_distance(xyz1, xyz2)


def _reduced(feats: Tensor, coors: Tensor, reduce_type: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    number = torch.library.get_ctx().new_dynamic_size()
    voxels, indices = coors.new_empty(number, coors.size(1)), coors.new_empty(coors.size(0))
    return feats.new_empty(number, feats.size(1)), voxels, indices, coors.new_empty(number)


@operator(_reduced, dynamic=True)
def _dynamic_point_to_voxel(feats: Tensor, coors: Tensor, reduce_type: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    reduced, voxels, indices, counts = clouds.dynamic_point_to_voxel_forward(feats, coors, reduce_type)
    return reduced, voxels, indices, counts


@filling_operator()
def _dynamic_point_to_voxel_backward(
    grad_reduced: Tensor, feats: Tensor, reduced: Tensor, indices: Tensor, counts: Tensor, reduce_type: str
) -> Iterator[Tensor]:
    grad = torch.zeros_like(feats)
    yield grad
    clouds.dynamic_point_to_voxel_backward(grad, grad_reduced, feats, reduced, indices, counts, reduce_type)


_dynamic_point_to_voxel.differentiate(
    _dynamic_point_to_voxel_backward, outputs="reduced voxels indices counts", inputs="feats"
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


@filling_operator()
def _roiaware_pool3d(
    rois: Tensor, pts: Tensor, pts_feature: Tensor, out_size: list[int], max_pts_per_voxel: int, mode: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    pooled = pts_feature.new_zeros(rois.size(0), *out_size, pts_feature.size(1))
    argmax = torch.zeros_like(pooled, dtype=torch.int)
    indices = pts_feature.new_zeros(rois.size(0), *out_size, max_pts_per_voxel, dtype=torch.int)
    yield pooled, argmax, indices
    clouds.roiaware_pool3d_forward(rois, pts, pts_feature, argmax, indices, pooled, mode)


@filling_operator()
def _roiaware_pool3d_backward(
    grad_pooled: Tensor, argmax: Tensor, indices: Tensor, pts_feature_shape: list[int], mode: int
) -> Iterator[Tensor]:
    grad = grad_pooled.new_zeros(pts_feature_shape)
    yield grad
    clouds.roiaware_pool3d_backward(indices, argmax, grad_pooled, grad, mode)


_roiaware_pool3d.differentiate(_roiaware_pool3d_backward, outputs="pooled argmax indices", inputs="pts_feature")


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


@filling_operator(batched="points point_features boxes3d")
def _roipoint_pool3d(
    points: Tensor, point_features: Tensor, boxes3d: Tensor, num_sampled_points: int
) -> Iterator[tuple[Tensor, Tensor]]:
    pooled = point_features.new_zeros(*boxes3d.shape[:2], num_sampled_points, 3 + point_features.size(2))
    empty = point_features.new_zeros(boxes3d.shape[:2], dtype=torch.int)
    yield pooled, empty
    clouds.roipoint_pool3d_forward(points, boxes3d, point_features, pooled, empty)


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

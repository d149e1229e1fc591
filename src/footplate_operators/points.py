"""Operators on point clouds, such as neighbor search, grouping, interpolation and voxelization.

Points have shape (..., 3), with the coordinates x, y and z. Functions that do not return tensors write their results to
tensors allocated by the caller. The arguments `sizes` and `named` contain tensor sizes and are ignored.

Sources: Qi et al., PointNet++ (2017); Zhou and Tuzel, VoxelNet (2018).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from footplate_operators.sampling import blocks, largest_rows, operators, positions

_CHUNK = 1 << 20  # the maximum number of pairs in memory


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Returns the squared distances, of shape (..., M, N), between points of shapes (..., M, 3) and (..., N, 3)."""
    return sum(
        (ours[..., :, None] - others[..., None, :]).square_()
        for ours, others in zip(first.unbind(-1), second.unbind(-1), strict=True)
    )  # type: ignore[return-value]


def _chunks(count: int, others: int) -> Iterator[slice]:
    """Yields slices of `count` points, so that the pairs with `others` points need little memory."""
    rows = max(1, _CHUNK // max(1, others))
    for begin in range(0, count, rows):
        yield slice(begin, begin + rows)


def _squared_distances_in_chunks(first: Tensor, second: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields the squared distances between two sets of points in chunks, to save memory.

    The first set has shape (B, M, 3). A chunk contains the distances for some of its rows and has shape (B, rows, N).
    """
    for chunk in _chunks(first.size(1), len(first) * second.size(1)):
        yield chunk, _squared_distances(first[:, chunk], second)


def _first_hits(hits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the positions of the first `count` True values in each row.

    If a row has fewer True values, its first position is repeated. If it has none, all positions are N.

    Args:
        hits: A bool tensor of shape (..., N).
        count: The number of positions.

    Returns:
        The positions, of shape (..., count), and whether each row contains a True value, of shape (...,).
    """
    size, counts = hits.size(-1), hits.sum(-1)
    row, column = hits.flatten(0, -2).nonzero(as_tuple=True)
    _, place, _ = positions(counts.flatten())
    found = torch.full((counts.numel(), max(1, count)), size, device=hits.device)
    kept = place < count
    found[row[kept], place[kept]] = column[kept]
    found = found.view(*counts.shape, -1)[..., :count]
    return torch.where(found == size, found[..., :1], found), counts > 0


def ball_query_forward(
    new_xyz: Tensor,
    xyz: Tensor,
    idx: Tensor,
    b: int,
    n: int,
    m: int,
    min_radius: float,
    max_radius: float,
    nsample: int,
) -> None:
    """For each center, finds the points at a distance of 0, or between `min_radius` and `max_radius`.

    The points `xyz` have shape (B, N, 3), and the centers `new_xyz` have shape (B, M, 3). Writes the indices of the
    first `nsample` such points to `idx`, of shape (B, M, nsample), and repeats the first index if there are fewer.
    Leaves `idx` unchanged for centers without such points. Ignores `b`, `n` and `m`.
    """
    for chunk, squared in _squared_distances_in_chunks(new_xyz, xyz):
        hits = (squared == 0) | ((squared >= min_radius**2) & (squared < max_radius**2))
        found, any_hit = _first_hits(hits, nsample)
        idx[:, chunk] = torch.where(any_hit[..., None], found, idx[:, chunk]).to(idx.dtype)


def stack_ball_query_forward(
    new_xyz: Tensor,
    new_xyz_batch_cnt: Tensor,
    xyz: Tensor,
    xyz_batch_cnt: Tensor,
    idx: Tensor,
    max_radius: float,
    nsample: int,
) -> None:
    """For each center, finds the points of the same sample within a distance of `max_radius`.

    The points `xyz` have shape (sum of N, 3), and the centers `new_xyz` have shape (sum of M, 3). `xyz_batch_cnt` and
    `new_xyz_batch_cnt` contain N and M for each sample. Writes the indices of the first `nsample` such points to `idx`,
    of shape (sum of M, nsample), and repeats the first index if there are fewer. Indices are relative to the sample.
    For centers without such points, the first index is -1 and the others are 0.
    """
    counts = new_xyz_batch_cnt.tolist(), xyz_batch_cnt.tolist()
    samples = (torch.split(each, number) for each, number in ((new_xyz, counts[0]), (xyz, counts[1]), (idx, counts[0])))
    for centers, points, indices in zip(*samples, strict=True):
        for chunk, squared in _squared_distances_in_chunks(centers[None], points[None]):
            found, any_hit = _first_hits(squared[0] < max_radius**2, nsample)
            missing = torch.zeros_like(found)
            missing[..., 0] = -1
            indices[chunk] = torch.where(any_hit[..., None], found, missing).to(idx.dtype)


def knn_forward(xyz: Tensor, new_xyz: Tensor, idx: Tensor, dist2: Tensor, b: int, n: int, m: int, nsample: int) -> None:
    """Finds the `nsample` points nearest to each center, nearest first.

    The points `xyz` have shape (B, N, 3), and the centers `new_xyz` have shape (B, M, 3). Writes the indices to `idx`
    and the squared distances to `dist2`, both of shape (B, M, nsample). Ignores `b`, `n` and `m`.
    """
    for chunk, squared in _squared_distances_in_chunks(new_xyz, xyz):
        dist2[:, chunk], idx[:, chunk] = squared.topk(nsample, largest=False, sorted=True)


def furthest_point_sampling_forward(
    points_tensor: Tensor, temp_tensor: Tensor, idx_tensor: Tensor, *sizes: int, **named: int
) -> None:
    """Samples points: starts with point 0, then repeatedly adds the point farthest from all samples so far.

    The points have shape (B, N, 3). Writes the indices to `idx_tensor`, of shape (B, samples). `temp_tensor`, of shape
    (B, N), must contain large values, which are overwritten.
    """
    _sample_furthest(
        lambda sampled: (points_tensor - sampled[:, None]).square().sum(-1), points_tensor, temp_tensor, idx_tensor
    )


def furthest_point_sampling_with_dist_forward(
    points_tensor: Tensor, temp_tensor: Tensor, idx_tensor: Tensor, *sizes: int, **named: int
) -> None:
    """Like `furthest_point_sampling_forward`, but `points_tensor` contains pairwise distances, of shape (B, N, N)."""
    _sample_furthest(lambda distances: distances, points_tensor, temp_tensor, idx_tensor)


def _sample_furthest(
    distances_to: Callable[[Tensor], Tensor], points: Tensor, nearest: Tensor, indices: Tensor
) -> None:
    """Writes the indices of the sampled points to `indices`.

    `distances_to` takes one row of `points` per sample, and returns the squared distances between this point and all
    points of the sample. `nearest`, of shape (B, N), stores the distance between each point and the nearest sampled
    point. Its initial values must be large.
    """
    batch = torch.arange(len(points), device=points.device)
    last = torch.zeros_like(batch)
    for step in range(indices.size(1)):
        indices[:, step] = last
        torch.minimum(nearest, distances_to(points[batch, last]), out=nearest)
        last = nearest.argmax(1)


def _positions(indices: Tensor, features: Tensor) -> Tensor:
    """Expands point indices of shape (B, ...) to gather from all channels of features of shape (B, C, N)."""
    return indices.long().flatten(1)[:, None].expand(-1, features.size(1), -1)


def gather_points_forward(features: Tensor, indices: Tensor, output: Tensor, *sizes: int, **named: int) -> None:
    """Writes the features of the points in `indices` to `output`.

    The features have shape (B, C, N). `indices` has shape (B, npoints), and `output` has shape (B, C, npoints).
    """
    output = output.view(*features.shape[:2], indices.shape[1:].numel())
    torch.gather(features.detach(), 2, _positions(indices, features), out=output)


def gather_points_backward(
    grad_output: Tensor, indices: Tensor, grad_features: Tensor, *sizes: int, **named: int
) -> None:
    """Writes the gradient of `gather_points_forward` with respect to the features to `grad_features`."""
    grad_features.zero_().scatter_add_(2, _positions(indices, grad_features), grad_output.flatten(2))


# For groups of points, `indices` is (B, npoints, nsample) and the output is (B, C, npoints, nsample).
group_points_forward, group_points_backward = gather_points_forward, gather_points_backward


def _stacked_rows(indices: Tensor, index_counts: Tensor, counts: Tensor) -> Tensor:
    """Returns the rows of points in the features of all samples; see `stack_group_points_forward`."""
    starts = counts.long().cumsum(0) - counts.long()
    return indices.long() + starts.repeat_interleave(index_counts.long())[:, None]


def stack_group_points_forward(
    features: Tensor,
    counts: Tensor,
    indices: Tensor,
    index_counts: Tensor,
    output: Tensor,
    *sizes: int,
    **named: int,
) -> None:
    """Groups the features of points. Writes them to `output`, of shape (sum of M, C, nsample).

    The features have shape (sum of N, C). `indices` are point indices within each sample, of shape (sum of M, nsample).
    `counts` and `index_counts` contain the numbers of points and groups in each sample.
    """
    rows = _stacked_rows(indices, index_counts, counts)
    for block in blocks(len(rows), features, output):
        selected = features.index_select(0, rows[block].flatten())  # faster than indexing
        output[block] = selected.view(*rows[block].shape, features.size(1)).mT


def stack_group_points_backward(
    grad_output: Tensor,
    indices: Tensor,
    index_counts: Tensor,
    counts: Tensor,
    grad_features: Tensor,
    *sizes: int,
    **named: int,
) -> None:
    """Writes the gradient of `stack_group_points_forward` with respect to the features to `grad_features`."""
    rows = _stacked_rows(indices, index_counts, counts)
    grad_features.zero_()
    for block in blocks(len(rows), grad_output, grad_features):
        grad_features.index_add_(0, rows[block].flatten(), grad_output[block].mT.flatten(0, 1))


def three_nn_forward(unknown: Tensor, known: Tensor, dist2: Tensor, idx: Tensor, *sizes: int, **named: int) -> None:
    """Finds the three points in `known` that are nearest to each point in `unknown`.

    `unknown` has shape (B, N, 3), and `known` has shape (B, M, 3). Writes the indices to `idx` and the squared
    distances to `dist2`, both of shape (B, N, 3) and sorted by distance.
    """
    knn_forward(known, unknown, idx, dist2, 0, 0, 0, nsample=3)


def _three_interpolate(features: Tensor, indices: Tensor, weights: Tensor, *sizes: int, **named: int) -> Tensor:
    """Interpolates features: returns weighted sums over three points, as a tensor of shape (B, C, N).

    The features have shape (B, C, M). `indices` and `weights`, of shape (B, N, 3), contain the three points and their
    weights for each sum.
    """
    gathered = features.gather(2, _positions(indices, features)).view(*features.shape[:2], *indices.shape[1:])
    return (gathered * weights[:, None]).sum(-1)


three_interpolate_forward, three_interpolate_backward = operators(
    _three_interpolate,
    forward="features indices weights output",
    backward="grad_output indices weights grad_features",
    sliced={"features": 1, "output": 1},
)


class _Neighbors(NamedTuple):
    """The neighbors of a block of centers in one sample.

    Attributes:
        place: The index of the sample and the slice of the centers.
        points: The rows of the neighbors, of shape (centers * neighbors,).
        centers: The rows of the centers, of shape (centers,).
        changes: The features of the neighbors relative to their center, of shape (centers, neighbors, W, C).
        scores: The weights, of shape (centers, neighbors, W).
        valid: Whether the index of a neighbor is in range, of shape (centers, neighbors, 1).
    """

    place: tuple[int, slice]
    points: Tensor
    centers: Tensor
    changes: Tensor
    scores: Tensor
    valid: Tensor


def _neighbors(points: Tensor, centers: Tensor, scores: Tensor, neighbors: Tensor) -> Iterator[_Neighbors]:
    """Yields the neighbors in blocks; see `assign_score_withk_forward` for the arguments."""
    work = 2 * scores.shape[1:].numel() * points.size(3) * points.element_size()
    for sample in range(len(points)):
        for block in blocks(scores.size(1), points, centers, scores, work=work):
            indices = neighbors[sample, block].long()
            valid = (indices >= 0) & (indices < points.size(1))
            indices = indices.where(valid, 0)
            near, center = indices.flatten(), indices[:, 0]
            changes = points[sample].index_select(0, near).view(*indices.shape, *points.shape[2:])
            changes -= centers[sample].index_select(0, center)[:, None]
            yield _Neighbors((sample, block), near, center, changes, scores[sample, block], valid[..., None])


def assign_score_withk_forward(
    points: Tensor, centers: Tensor, scores: Tensor, neighbors: Tensor, output: Tensor, **sizes: int
) -> None:
    """Sums the transformed features of neighbors, relative to their center, weighted by scores.

    A neighbor with an index that is out of range contributes nothing.

    Args:
        points: The features of the points, transformed by each of W weight matrices, of shape (B, N, W, C).
        centers: The same for the features of the points as centers.
        scores: The weights, of shape (B, centers, neighbors, W).
        neighbors: The indices of the neighbors, of shape (B, centers, neighbors). The first is the center itself.
        output: An output, of shape (B, C, centers, neighbors).
        sizes: Ignored. This includes `aggregate`, which the compiled operator ignores as well.
    """
    for block in _neighbors(points, centers, scores, neighbors):
        sample, place = block.place
        sums = (block.scores * block.valid)[..., None, :] @ block.changes  # (centers, neighbors, 1, C)
        output[sample, :, place] = sums[:, :, 0].permute(2, 0, 1)


def assign_score_withk_backward(
    grad_output: Tensor,
    points: Tensor,
    centers: Tensor,
    scores: Tensor,
    neighbors: Tensor,
    grad_points: Tensor,
    grad_centers: Tensor,
    grad_scores: Tensor,
    **sizes: int,
) -> None:
    """Writes the gradients of `assign_score_withk_forward` to `grad_points`, `grad_centers` and `grad_scores`."""
    grad_points.zero_()
    grad_centers.zero_()
    for block in _neighbors(points, centers, scores, neighbors):
        sample, place = block.place
        grad = grad_output[sample, :, place].permute(1, 2, 0) * block.valid
        grad_scores[sample, place] = (block.changes @ grad[..., None])[..., 0]
        torch.mul(block.scores[..., None], grad[:, :, None], out=block.changes)  # now their gradient
        grad_points[sample].index_add_(0, block.points, block.changes.flatten(0, 1))
        grad_centers[sample].index_add_(0, block.centers, block.changes.sum(1), alpha=-1)


def chamfer_distance_forward(
    xyz1: Tensor, xyz2: Tensor, dist1: Tensor, dist2: Tensor, idx1: Tensor, idx2: Tensor
) -> None:
    """For each point, finds the nearest point in the other set, and writes its index and squared distance.

    The sets `xyz1` and `xyz2` have shapes (B, N, 2) and (B, M, 2). `dist1` and `idx1` receive the results for the
    points in `xyz1`, and `dist2` and `idx2` the results for the points in `xyz2`.
    """
    for first, second, distance, index in ((xyz1, xyz2, dist1, idx1), (xyz2, xyz1, dist2, idx2)):
        for chunk, squared in _squared_distances_in_chunks(first, second):
            distance[:, chunk], index[:, chunk] = squared.min(2)


def chamfer_distance_backward(
    xyz1: Tensor,
    xyz2: Tensor,
    idx1: Tensor,
    idx2: Tensor,
    grad_dist1: Tensor,
    grad_dist2: Tensor,
    grad_xyz1: Tensor,
    grad_xyz2: Tensor,
) -> None:
    """Adds the gradients with respect to both sets of points to `grad_xyz1` and `grad_xyz2`.

    `grad_dist1` and `grad_dist2` are the gradients with respect to the squared distances.
    """
    for points, others, nearest, grad, grad_points, grad_others in (
        (xyz1, xyz2, idx1, grad_dist1, grad_xyz1, grad_xyz2),
        (xyz2, xyz1, idx2, grad_dist2, grad_xyz2, grad_xyz1),
    ):
        where = nearest.long()[..., None].expand_as(points)
        change = 2 * grad[..., None] * (points - others.gather(1, where))
        grad_points.add_(change)
        grad_others.scatter_add_(1, where, -change)


def _in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Checks which points of shape (..., M, 3) are in which boxes of shape (..., T, 7).

    The columns of a box are center x, center y, bottom z, the three sizes, and the angle around the z axis.

    Returns:
        A bool tensor of shape (..., M, T).
    """
    along, aside, height = _relative_to_boxes(points, boxes).unbind(-1)
    size_x, size_y, size_z = (boxes[..., None, :, 3:6] / 2).unbind(-1)
    return ((height - size_z).abs() <= size_z) & (along.abs() < size_x) & (aside.abs() < size_y)


def _relative_to_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Transforms points to the coordinate frames of boxes: origin at the bottom center, axes along the box edges.

    See `_in_boxes` for the arguments. The result has shape (..., M, T, 3).
    """
    x, y, z = (points[..., :, None, :] - boxes[..., None, :, :3]).unbind(-1)
    cos, sin = boxes[..., None, :, 6].cos(), boxes[..., None, :, 6].sin()
    return torch.stack((x * cos + y * sin, y * cos - x * sin, z), -1)


def points_in_boxes_part_forward(boxes: Tensor, pts: Tensor, box_idx_of_points: Tensor) -> None:
    """Sets `box_idx_of_points` to the index of the first box that contains each point, or to -1.

    The boxes have shape (B, T, 7), and the points have shape (B, M, 3).
    """
    for chunk in _chunks(pts.size(1), boxes[..., 0].numel()):
        found, any_hit = _first_hits(_in_boxes(pts[:, chunk], boxes), 1)
        box_idx_of_points[:, chunk] = torch.where(any_hit, found[..., 0], -1).to(box_idx_of_points.dtype)


def points_in_boxes_all_forward(boxes: Tensor, pts: Tensor, box_idx_of_points: Tensor) -> None:
    """Sets `box_idx_of_points`, of shape (B, M, T), to 1 where a point is in a box, and to 0 elsewhere.

    The boxes have shape (B, T, 7), and the points have shape (B, M, 3).
    """
    for chunk in _chunks(pts.size(1), boxes[..., 0].numel()):
        box_idx_of_points[:, chunk] = _in_boxes(pts[:, chunk], boxes).to(box_idx_of_points.dtype)


def points_in_boxes_cpu_forward(boxes: Tensor, pts: Tensor, pts_indices: Tensor) -> None:
    """Sets `pts_indices`, of shape (T, M), to 1 where a point is in a box, and to 0 elsewhere.

    The boxes have shape (T, 7), and the points have shape (M, 3).
    """
    indices = pts_indices.mT if pts_indices.shape == (len(boxes), len(pts)) else pts_indices
    for chunk in _chunks(len(pts), len(boxes)):
        indices[chunk] = _in_boxes(pts[chunk], boxes).to(indices.dtype)


def roiaware_pool3d_forward(
    rois: Tensor,
    pts: Tensor,
    pts_feature: Tensor,
    argmax: Tensor,
    pts_idx_of_voxels: Tensor,
    pooled_features: Tensor,
    pool_method: int,
) -> None:
    """Divides each box into X x Y x Z voxels, and pools the features of the points in each voxel.

    Writes the results to `pooled_features`, of shape (N, X, Y, Z, C). Empty voxels stay unchanged. For the backward
    pass, writes the number of points in each voxel and their indices to `pts_idx_of_voxels`, of shape (N, X, Y, Z, 1 +
    maximum number of points). Maximum pooling also writes the indices of the points with the maximum values to
    `argmax`, of shape (N, X, Y, Z, C), and -1 for empty voxels.

    Args:
        rois: The boxes, of shape (N, 7); see `_in_boxes`.
        pts: The points, of shape (P, 3).
        pts_feature: The features of the points, of shape (P, C).
        argmax: An output. For mean pooling, it is filled with -1.
        pts_idx_of_voxels: An output.
        pooled_features: An output.
        pool_method: 0 for the maximum, 1 for the mean.
    """
    argmax.fill_(-1)
    limit, number = pts_idx_of_voxels.size(-1) - 1, torch.tensor(pooled_features.shape[1:4], device=pts.device)
    for index, box in enumerate(rois):
        inside = _in_boxes(pts, box[None])[:, 0].nonzero()[:, 0]
        if not len(inside):
            continue
        local = _relative_to_boxes(pts[inside], box[None])[:, 0]
        local[:, :2] += box[3:5] / 2
        x, y, z = (local / (box[3:6] / number)).long().clamp(min=torch.zeros_like(number), max=number - 1).T
        voxels, order = ((x * number[1] + y) * number[2] + z).sort(stable=True)
        occupied, counts = voxels.unique_consecutive(return_counts=True)
        groups, ranks, _ = positions(counts)
        kept = ranks < limit
        points = occupied.new_full((len(occupied), limit), -1)
        points[groups[kept], ranks[kept]] = inside[order[kept]]
        counts = counts.clamp(max=limit)[:, None]
        pts_idx_of_voxels[index].view(-1, limit + 1)[occupied] = torch.cat([counts, points.clamp(min=0)], 1).int()
        values, used = pts_feature[points.clamp(min=0)], (points >= 0)[..., None]
        if pool_method == 0:
            pooled, places = torch.where(used, values, -torch.inf).max(1)
            argmax[index].flatten(0, 2)[occupied] = points.gather(1, places).int()
        else:
            pooled = torch.where(used, values, 0).sum(1) / counts
        pooled_features[index].flatten(0, 2)[occupied] = pooled


def roiaware_pool3d_backward(
    pts_idx_of_voxels: Tensor, argmax: Tensor, grad_out: Tensor, grad_in: Tensor, pool_method: int
) -> None:
    """Adds the gradient with respect to the point features to `grad_in`, of shape (P, C)."""
    grads, lists = grad_out.flatten(0, -2), pts_idx_of_voxels.flatten(0, -2)
    for block in blocks(len(lists), grads, argmax, lists):
        if pool_method == 0:
            rows = argmax.flatten(0, -2)[block].long()
            grad_in.scatter_add_(0, rows.clamp(min=0), torch.where(rows < 0, 0, grads[block]))
        else:
            counts, points = torch.tensor_split(lists[block].long(), [1], 1)
            used = torch.arange(points.size(1), device=points.device) < counts
            shares = grads[block] / counts.clamp(min=1)
            grad_in.index_add_(0, points[used], shares[used.nonzero()[:, 0]])


def roipoint_pool3d_forward(
    xyz: Tensor, boxes3d: Tensor, pts_feature: Tensor, pooled_features: Tensor, pooled_empty_flag: Tensor
) -> None:
    """Writes the first S points in each box, with their features, to `pooled_features`.

    For a box with fewer points, repeats its points in order. For a box without points, writes 1 to `pooled_empty_flag`
    and leaves the box's features unchanged.

    Args:
        xyz: The points, of shape (B, N, 3).
        boxes3d: The boxes, of shape (B, M, 7); see `_in_boxes`.
        pts_feature: The features, of shape (B, N, C).
        pooled_features: An output, of shape (B, M, S, 3 + C).
        pooled_empty_flag: An output, of shape (B, M).
    """
    size = pooled_features.size(2)
    for sample, boxes in enumerate(boxes3d):
        for box in range(len(boxes)):
            points = _in_boxes(xyz[sample], boxes[box, None])[:, 0].nonzero()[:size, 0]
            if len(points):
                repeated = points[torch.arange(size, device=points.device) % len(points)]
                pooled_features[sample, box, :, :3] = xyz[sample, repeated]
                pooled_features[sample, box, :, 3:] = pts_feature[sample, repeated]
            else:
                pooled_empty_flag[sample, box] = 1


def points_in_polygons_forward(points: Tensor, polygons: Tensor, output: Tensor) -> None:
    """Sets `output`, of shape (N, M), to 1 where a point is in a quadrilateral, and to 0 elsewhere.

    The points have shape (N, 2), and the quadrilaterals have shape (M, 8). A point is inside if a horizontal ray from
    the point to the right crosses the border an odd number of times.
    """
    corners = polygons.view(-1, 4, 2)
    following = corners.roll(-1, 1)
    rise = following[..., 1] - corners[..., 1]
    slope = (following[..., 0] - corners[..., 0]) / torch.where(rise == 0, 1.0, rise)
    for chunk in _chunks(len(points), 4 * len(corners)):
        x, y = points[chunk, :, None, None].unbind(1)
        spans = (corners[..., 1] > y) != (following[..., 1] > y)
        crosses = spans & (x < corners[..., 0] + (y - corners[..., 1]) * slope)
        output[chunk] = (crosses.sum(-1) % 2).to(output.dtype)


def _voxels(points: Tensor, voxel_size: Tensor, coors_range: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the voxel of each point, of shape (N, 3) in the order z, y, x, and whether each point is in range.

    See `hard_voxelize_forward` for the arguments.
    """
    low, high = coors_range.to(points).view(2, 3)
    size = voxel_size.to(points)
    grid = ((high - low) / size).round().long()
    voxel = ((points[:, :3] - low) / size).floor().long()
    inside = ((voxel >= 0) & (voxel < grid)).all(1)
    return voxel.flip(1), inside


def _numbers(voxels: Tensor) -> Tensor:
    """Returns a number for each voxel, of shape (N,), in the same order as the voxels, of shape (N, 3)."""
    sizes = voxels.amax(0) + 1 if len(voxels) else voxels.new_ones(3)
    return (voxels[:, 0] * sizes[1] + voxels[:, 1]) * sizes[2] + voxels[:, 2]


def dynamic_voxelize_forward(points: Tensor, voxel_size: Tensor, coors_range: Tensor, coors: Tensor, **_: int) -> None:
    """Writes the voxel of each point to `coors`, in the order z, y, x. Writes -1 for points out of range.

    `coors` has shape (N, 3). See `hard_voxelize_forward` for the other arguments.
    """
    voxel, inside = _voxels(points, voxel_size, coors_range)
    coors.copy_(torch.where(inside[:, None], voxel, -1))


def hard_voxelize_forward(
    points: Tensor,
    voxel_size: Tensor,
    coors_range: Tensor,
    voxels: Tensor,
    coors: Tensor,
    num_points_per_voxel: Tensor,
    voxel_num: Tensor,
    max_points: int,
    max_voxels: int,
    **_: int,
) -> None:
    """Groups points into voxels. Points keep their input order, and voxels are ordered by their first point.

    Args:
        points: Points of shape (N, C), where the first three columns are x, y and z.
        voxel_size: The voxel size, of shape (3,).
        coors_range: The lower bounds, followed by the upper bounds, of shape (6,).
        voxels: An output with the points in each voxel, of shape (max_voxels, max_points, C).
        coors: An output with the position of each voxel, of shape (max_voxels, 3), in the order z, y, x.
        num_points_per_voxel: An output, of shape (max_voxels,).
        voxel_num: An output with the number of voxels, a scalar tensor.
        max_points: The maximum number of points per voxel. Excess points are dropped.
        max_voxels: The maximum number of voxels. Points in additional voxels are dropped.
        _: Ignored. The number of dimensions is always 3, and the result is always deterministic.
    """
    voxel, inside = _voxels(points, voxel_size, coors_range)
    kept = inside.nonzero()[:, 0]
    unique, inverse = torch.unique(_numbers(voxel[kept]), return_inverse=True)
    arrival = torch.arange(len(kept), device=points.device)
    first = torch.full((len(unique),), len(kept), device=points.device).scatter_reduce(0, inverse, arrival, "amin")
    order = first.argsort()
    number = order.argsort()[inverse]
    grouped = number.sort(stable=True)[1]  # points sorted by voxel; stable within each voxel
    counts = number.bincount(minlength=len(unique))
    within = torch.empty_like(number)
    within[grouped] = positions(counts)[1]
    taken = (number < max_voxels) & (within < max_points)
    voxels[number[taken], within[taken]] = points[kept[taken]]
    total = min(len(unique), max_voxels)
    coors[:total] = voxel[kept[first[order[:total]]]].to(coors.dtype)
    num_points_per_voxel[:total] = counts[:total].clamp(max=max_points).to(num_points_per_voxel.dtype)
    voxel_num.fill_(total)


def dynamic_point_to_voxel_forward(feats: Tensor, coors: Tensor, reduce_type: str) -> list[Tensor]:
    """Aggregates the features of the points in each voxel.

    Args:
        feats: Features of shape (N, C).
        coors: The voxel of each point, of shape (N, 3). Points with a negative voxel coordinate are skipped.
        reduce_type: "sum", "mean" or "max".

    Returns:
        The reduced features (V, C), the voxels (V, 3), the voxel index of each point or -1 (N,), and the number of
        points in each voxel (V,).
    """
    inside = (coors >= 0).all(1)
    places = coors[inside]
    numbers, inverse, counts = torch.unique(_numbers(places.long()), return_inverse=True, return_counts=True)
    unique = places.new_empty(len(numbers), 3).index_copy_(0, inverse, places)
    of_point = inverse.new_full((len(feats),), -1)
    of_point[inside] = inverse
    reduced = feats.new_zeros(len(unique) + 1, feats.size(1))
    where = of_point % len(reduced)  # points outside are reduced to the last row
    how = {"sum": "sum", "mean": "mean", "max": "amax"}[reduce_type]
    reduced.scatter_reduce_(0, where[:, None].expand_as(feats), feats, how, include_self=False)
    return [reduced[:-1], unique, of_point.to(coors.dtype), counts.to(coors.dtype)]


def dynamic_point_to_voxel_backward(
    grad_feats: Tensor,
    grad_reduced_feats: Tensor,
    feats: Tensor,
    reduced_feats: Tensor,
    coors_idx: Tensor,
    reduce_count: Tensor,
    reduce_type: str,
) -> None:
    """Writes the gradient with respect to the point features to `grad_feats`."""
    points = (coors_idx >= 0).nonzero()[:, 0]
    voxels, order = coors_idx[points].long().sort(stable=True)
    points, counts = points[order], reduce_count.long()
    starts = counts.cumsum(0) - counts
    grad_feats.zero_()
    arguments = grad_feats, grad_reduced_feats, feats, reduced_feats
    for block in blocks(feats.size(1), *arguments, work=12 * feats.numel()):
        grads = grad_reduced_feats[:, block]
        if reduce_type == "max":
            _, first = largest_rows(feats[:, block], points, starts)
            grad_feats[:, block].scatter_(0, first, grads)  # a value belongs to one voxel
        else:
            grads = grads / counts[:, None] if reduce_type == "mean" else grads
            grad_feats[:, block].index_copy_(0, points, grads[voxels])

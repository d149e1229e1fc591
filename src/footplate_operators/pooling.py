"""Operators of research code that sum the features of points in the cells of a grid, such as a bird's-eye-view grid.

The points are sorted by cell, and the compiled operators take the first point and the number of points of each cell as
`starts` and `lengths`. The functions here do not need them.

Sources: Philion and Fidler, Lift, Splat, Shoot (2020); Huang and Huang, BEVPoolv2 (2022); Li et al., BEVDepth (2023).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from footplate_operators.sampling import positions


def grid_pooling(axes: tuple[int, ...]) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Returns operators that sum the features of the points in each cell of a grid.

    Args:
        axes: For each dimension of the grid, the column of the cells with the coordinate in this dimension.

    Returns:
        The forward operator, which returns the grid, of shape (*sizes, C), and the backward operator, which returns the
        gradient with respect to the features, of shape (N, C).
    """

    def rows(cells: Tensor, sizes: tuple[int, ...]) -> Tensor:
        row = torch.zeros_like(cells[:, 0], dtype=torch.long)
        for axis, size in zip(axes, sizes, strict=True):
            row = row * int(size) + cells[:, axis]  # some code passes tensors
        return row

    def forward(features: Tensor, cells: Tensor, lengths: Tensor, starts: Tensor, *sizes: int) -> Tensor:
        grid = features.new_zeros(*map(int, sizes), features.size(1))
        grid.flatten(0, -2).index_add_(0, rows(cells, sizes), features)
        return grid

    def backward(grad_grid: Tensor, cells: Tensor, lengths: Tensor, starts: Tensor, *sizes: int) -> Tensor:
        return grad_grid.flatten(0, -2)[rows(cells, sizes)]

    return forward, backward


# The columns of the cells are row, column, depth and sample. The grid has shape (samples, depth, rows, columns, C).
bev_pool_forward, bev_pool_backward = grid_pooling((3, 2, 0, 1))
# The columns of the cells are sample, x, y and z. The grid has shape (samples, X, Y, Z, C).
voxel_pool_forward, voxel_pool_backward = grid_pooling((0, 1, 2, 3))


def bev_pool(feats: Tensor, coords: Tensor, B: int, D: int, H: int, W: int) -> Tensor:  # noqa: N803
    """Sums the features of the points in each cell of a grid.

    Args:
        feats: The features, of shape (N, C).
        coords: The row, column, depth and sample of each point, of shape (N, 4).
        B: The number of samples.
        D: The size of the grid along the depth.
        H: The number of rows.
        W: The number of columns.

    Returns:
        The grid, of shape (B, C, D, H, W).
    """
    return bev_pool_forward(feats, coords.long(), coords, coords, B, D, H, W).movedim(-1, 1).contiguous()


def bev_pool_v2_forward(
    depth: Tensor,
    features: Tensor,
    out: Tensor,
    depth_rows: Tensor,
    feature_rows: Tensor,
    cells: Tensor,
    lengths: Tensor,
    starts: Tensor,
) -> None:
    """Adds the features of points, multiplied by their depth scores, to the cells of the grid `out`.

    Args:
        depth: The depth scores, of any shape.
        features: The image features, of shape (..., C).
        out: The grid, of shape (..., C).
        depth_rows: The index of each point's score in the flattened scores, of shape (N,).
        feature_rows: The index of each point's pixel in the flattened image features, of shape (N,).
        cells: The index of each point's cell in the flattened grid, of shape (N,).
        lengths: Ignored.
        starts: Ignored.
    """
    values = depth.reshape(-1, 1)[depth_rows.long()] * features.flatten(0, -2)[feature_rows.long()]
    out.view(-1, out.size(-1)).index_add_(0, cells.long(), values)


def bev_pool_v2_backward(
    grad_out: Tensor,
    grad_depth: Tensor,
    grad_features: Tensor,
    depth: Tensor,
    features: Tensor,
    depth_rows: Tensor,
    feature_rows: Tensor,
    cells: Tensor,
    lengths: Tensor,
    starts: Tensor,
) -> None:
    """Adds the gradients with respect to the scores and the features to `grad_depth` and `grad_features`."""
    depth_rows, feature_rows = depth_rows.long(), feature_rows.long()
    grads = grad_out.flatten(0, -2)[cells.long()]
    grad_depth.view(-1).index_add_(0, depth_rows, (grads * features.flatten(0, -2)[feature_rows]).sum(1))
    grad_features.view(-1, features.size(-1)).index_add_(0, feature_rows, grads * depth.reshape(-1, 1)[depth_rows])


def voxel_pooling_forward(
    count: int,
    points: int,
    channels: int,
    size_x: int,
    size_y: int,
    size_z: int,
    cells: Tensor,
    features: Tensor,
    out: Tensor,
    memo: Tensor,
) -> None:
    """Adds the features of points, of shape (B, N, C), to their cells in `out`, of shape (B, Y, X, C).

    `cells`, of shape (B, N, 3), contains x, y and z. Points outside the grid are skipped. For the others, writes the
    sample, y and x to `memo`, of shape (B, N, 3). Ignores `count`, `points` and `channels`.
    """
    sizes = cells.new_tensor([int(size_x), int(size_y), int(size_z)])
    sample, point = ((cells >= 0) & (cells < sizes)).all(-1).nonzero(as_tuple=True)
    x, y, _ = cells[sample, point].long().T
    out.index_put_((sample, y, x), features[sample, point], accumulate=True)
    memo[sample, point] = torch.stack((sample, y, x), 1).to(memo.dtype)


def voxel_pooling(geom_xyz: Tensor, input_features: Tensor, voxel_num: Tensor) -> Tensor:
    """Sums the features of the points in each cell of a bird's-eye-view grid. Skips points outside the grid.

    Args:
        geom_xyz: The x, y and z of each point's cell, of shape (B, ..., 3).
        input_features: The features, of shape (B, ..., C).
        voxel_num: The sizes of the grid along x, y and z, of shape (3,).

    Returns:
        The grid, of shape (B, C, Y, X).
    """
    cells, features = geom_xyz.flatten(1, -2), input_features.flatten(1, -2)
    count, points, channels = features.shape
    x, y, z = voxel_num.tolist()
    out = features.new_zeros(count, int(y), int(x), channels)
    voxel_pooling_forward(count, points, channels, x, y, z, cells, features, out, cells.new_empty(cells.shape))
    return out.permute(0, 3, 1, 2)


def group_inner_inds(groups: Tensor, indices: Tensor) -> None:
    """Writes the indices of the first K points of each group to `indices`, of shape (groups, K).

    `groups` contains the group of each point, or a negative number. If a group has fewer points, repeats them in order.
    The row of a group without points stays unchanged.
    """
    order = groups.sort(stable=True)[1]
    order = order[groups[order] >= 0]
    counts = groups[order].bincount(minlength=len(indices))
    _, _, starts = positions(counts)
    places = torch.arange(indices.size(1), device=groups.device) % counts.clamp(min=1)[:, None]
    used = counts > 0
    indices[used] = order[(starts[:, None] + places)[used]].to(indices.dtype)

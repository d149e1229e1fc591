"""Layers for point clouds: grouping, sampling, pooling and voxelization.

Points have shape (B, N, 3) unless stated otherwise.

Sources: Qi et al., PointNet++ (2017); Yang et al., 3DSSD (2020); Shi et al., PartA2 (2020) and PointRCNN (2019); Zhou
and Tuzel, VoxelNet (2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate_operators.functional import (
    ball_query,
    dynamic_scatter,
    furthest_point_sample,
    furthest_point_sample_with_dist,
    grouping_operation,
    knn,
    roiaware_pool3d,
    roipoint_pool3d,
    voxelization,
)
from footplate_operators.mmcv_ops.settings import Settings
from footplate_operators.sizes import Pair, repeated


@dataclass(eq=False, repr=False)
class QueryAndGroup(Settings):
    """Groups the points near centers, with their features.

    Args:
        max_radius: The maximum distance between a point and its center. None takes the nearest points.
        sample_num: The number of points in each group.
        min_radius: The minimum distance.
        use_xyz: Whether to put the coordinates in front of the features.
        return_grouped_xyz: Whether to return the coordinates as well.
        normalize_xyz: Whether to divide the coordinates, which are relative to the center, by `max_radius`.
        uniform_sample: Whether to sample the points of a group with fewer points at random, instead of repeating the
            first one.
        return_unique_cnt: Whether to return the number of different points in each group, which needs
            `uniform_sample`.
        return_grouped_idx: Whether to return the indices as well.

    Raises:
        ValueError: The options contradict each other.
    """

    max_radius: float | None
    sample_num: int
    min_radius: float = 0.0
    use_xyz: bool = True
    return_grouped_xyz: bool = False
    normalize_xyz: bool = False
    uniform_sample: bool = False
    return_unique_cnt: bool = False
    return_grouped_idx: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.return_unique_cnt and not self.uniform_sample:
            raise ValueError("return_unique_cnt needs uniform_sample=True.")
        if self.max_radius is None and self.normalize_xyz:
            raise ValueError("normalize_xyz needs a max_radius.")

    def forward(
        self, points_xyz: Tensor, center_xyz: Tensor, features: Tensor | None = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Groups points around centers of shape (B, M, 3), with features of shape (B, C, N).

        Returns:
            The grouped features, of shape (B, 3 + C, M, sample_num), followed by what the options ask for: the
            coordinates, of shape (B, 3, M, sample_num), the numbers of different points, of shape (B, M), and the
            indices, of shape (B, M, sample_num).
        """
        if self.max_radius is None:
            indices = knn(self.sample_num, points_xyz, center_xyz, False).transpose(1, 2).contiguous()
        else:
            indices = ball_query(self.min_radius, self.max_radius, self.sample_num, points_xyz, center_xyz)
        counts = torch.zeros(indices.shape[:2], device=indices.device)
        if self.uniform_sample:
            for sample, row in torch.cartesian_prod(*(torch.arange(size) for size in indices.shape[:2])).tolist():
                unique = torch.unique(indices[sample, row])
                counts[sample, row] = len(unique)
                extra = torch.randint(0, len(unique), (self.sample_num - len(unique),), dtype=torch.long)
                indices[sample, row] = torch.cat((unique, unique[extra.to(unique.device)]))
        grouped_xyz = grouping_operation(points_xyz.transpose(1, 2).contiguous(), indices)
        relative = grouped_xyz - center_xyz.transpose(1, 2)[..., None]
        if self.normalize_xyz and self.max_radius is not None:
            relative = relative / self.max_radius
        if features is None and not self.use_xyz:
            raise ValueError("Pass features, or set use_xyz=True.")
        grouped = relative
        if features is not None:
            grouped = grouping_operation(features, indices)
            grouped = torch.cat((relative, grouped), 1) if self.use_xyz else grouped
        extras = (
            (self.return_grouped_xyz, grouped_xyz),
            (self.return_unique_cnt, counts),
            (self.return_grouped_idx, indices),
        )
        wanted = [value for is_wanted, value in extras if is_wanted]
        return (grouped, *wanted) if wanted else grouped


@dataclass(eq=False, repr=False)
class GroupAll(Settings):
    """Puts all points into one group. `use_xyz` puts the coordinates in front of the features."""

    use_xyz: bool = True

    def forward(self, xyz: Tensor, new_xyz: Tensor | None, features: Tensor | None = None) -> Tensor:
        """Returns the group, of shape (B, 3 + C, 1, N). Ignores `new_xyz`. The features have shape (B, C, N)."""
        coordinates = xyz.transpose(1, 2)
        if features is None:
            return coordinates[:, :, None]
        return (torch.cat((coordinates, features), 1) if self.use_xyz else features)[:, :, None]


def calc_square_dist(point_feat_a: Tensor, point_feat_b: Tensor, norm: bool = True) -> Tensor:
    """Returns the squared distances between features of shapes (B, N, C) and (B, M, C), of shape (B, N, M).

    With `norm`, returns the distances divided by the number of channels.
    """
    distances = torch.cdist(point_feat_a, point_feat_b)
    return distances / point_feat_a.size(-1) if norm else distances**2


@dataclass(eq=False, repr=False)
class PointsSampler(Settings):
    """Samples the points that are farthest from each other.

    Args:
        num_point: The number of samples of each sampler.
        fps_mod_list: The kind of each sampler: "D-FPS" for the distance between coordinates, "F-FPS" for the distance
            between coordinates and features, or "FS" for both, one after the other.
        fps_sample_range_list: The end of the range of points of each sampler; -1 is the last point.

    Raises:
        ValueError: The lists have different lengths, or the kind of a sampler is unknown.
    """

    num_point: Sequence[int]
    fps_mod_list: Sequence[str] = ("D-FPS",)
    fps_sample_range_list: Sequence[int] = (-1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.num_point) == len(self.fps_mod_list) == len(self.fps_sample_range_list):
            raise ValueError("num_point, fps_mod_list and fps_sample_range_list must have the same length.")
        for kind in self.fps_mod_list:
            if kind not in ("D-FPS", "F-FPS", "FS"):
                raise ValueError(f"fps_mod_list must contain 'D-FPS', 'F-FPS' or 'FS', but contains {kind!r}.")

    def forward(self, points_xyz: Tensor, features: Tensor | None) -> Tensor:
        """Returns the indices of the samples, of shape (B, samples). The features have shape (B, C, N)."""
        indices, start = [], 0
        for end, kind, count in zip(self.fps_sample_range_list, self.fps_mod_list, self.num_point, strict=True):
            stop = points_xyz.size(1) if end == -1 else end
            points = points_xyz[:, start:stop]
            if kind in ("F-FPS", "FS"):
                if features is None:
                    raise ValueError(f"The sampler {kind!r} needs features.")
                values = torch.cat((points, features[:, :, start:stop].transpose(1, 2)), 2)
                distances = calc_square_dist(values, values, norm=False)
                indices.append(furthest_point_sample_with_dist(distances, count) + start)
            if kind in ("D-FPS", "FS"):
                indices.append(furthest_point_sample(points.contiguous(), count) + start)
            start = stop
        return torch.cat(indices, 1)


@dataclass(eq=False, repr=False)
class Voxelization(Settings):
    """Groups the points of one sample into voxels.

    Args:
        voxel_size: The size of a voxel along x, y and z.
        point_cloud_range: The lower bounds, followed by the upper bounds.
        max_num_points: The maximum number of points per voxel, or -1 to return the voxel of each point.
        max_voxels: The maximum number of voxels, or one number for training and one for evaluation.
        deterministic: Ignored; the result is always deterministic.
    """

    voxel_size: Sequence[float]
    point_cloud_range: Sequence[float]
    max_num_points: int
    max_voxels: Pair = 20000
    deterministic: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.max_voxels = repeated(self.max_voxels, 2)
        bounds = torch.tensor(self.point_cloud_range, dtype=torch.float32)
        size = torch.tensor(self.voxel_size, dtype=torch.float32)
        self.grid_size = torch.round((bounds[3:] - bounds[:3]) / size).long()
        self.pcd_shape = [*self.grid_size[:2].tolist(), 1][::-1]

    def forward(self, input: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Groups points of shape (N, C). See `voxelization` for the result."""
        limit = repeated(self.max_voxels, 2)[0 if self.training else 1]
        return voxelization(input, self.voxel_size, self.point_cloud_range, self.max_num_points, limit)


@dataclass(eq=False, repr=False)
class DynamicScatter(Settings):
    """Aggregates the features of the points in each voxel: the mean, or the maximum if `average_points` is False.

    `voxel_size` and `point_cloud_range` are not used.
    """

    voxel_size: Sequence[float]
    point_cloud_range: Sequence[float]
    average_points: bool

    def forward_single(self, points: Tensor, coors: Tensor) -> tuple[Tensor, Tensor]:
        """Aggregates the points of one sample. See `dynamic_scatter`."""
        return dynamic_scatter(points.contiguous(), coors.contiguous(), "mean" if self.average_points else "max")

    def forward(self, points: Tensor, coors: Tensor) -> tuple[Tensor, Tensor]:
        """Aggregates points of shape (N, C) in voxels of shape (N, 3), or (N, 4) with the sample index first.

        Returns:
            The features of the voxels, of shape (V, C), and the voxels, of shape (V, 3) or (V, 4).
        """
        if coors.size(-1) == 3:
            return self.forward_single(points, coors)
        features, voxels = [], []
        for sample in range(int(coors[-1, 0]) + 1):
            rows = (coors[:, 0] == sample).nonzero()[:, 0]
            found, places = self.forward_single(points[rows], coors[rows][:, 1:])
            features.append(found)
            voxels.append(F.pad(places, (1, 0), value=sample))
        return torch.cat(features), torch.cat(voxels)


class RoIAwarePool3d(nn.Module):
    """Divides boxes into voxels, and pools the features of the points in each voxel.

    Args:
        out_size: The number of voxels along x, y and z.
        max_pts_per_voxel: The maximum number of points per voxel.
        mode: "max" or "avg".
    """

    def __init__(self, out_size: Pair, max_pts_per_voxel: int = 128, mode: str = "max") -> None:
        super().__init__()
        if mode not in ("max", "avg"):
            raise ValueError(f"mode must be 'max' or 'avg', but is {mode!r}.")
        self.out_size = out_size
        self.max_pts_per_voxel = max_pts_per_voxel
        self.mode = ("max", "avg").index(mode)

    def forward(self, rois: Tensor, pts: Tensor, pts_feature: Tensor) -> Tensor:
        """Pools features of shape (P, C) for boxes of shape (N, 7) and points of shape (P, 3).

        Returns:
            The pooled features, of shape (N, X, Y, Z, C).
        """
        x, y, z = repeated(self.out_size, 3)
        return roiaware_pool3d(rois, pts, pts_feature, (x, y, z), self.max_pts_per_voxel, self.mode)


@dataclass(eq=False, repr=False)
class RoIPointPool3d(Settings):
    """Takes the first `num_sampled_points` points in each box, with their features."""

    num_sampled_points: int = 512

    def forward(self, points: Tensor, point_features: Tensor, boxes3d: Tensor) -> tuple[Tensor, Tensor]:
        """Pools features of shape (B, N, C) for boxes of shape (B, M, 7).

        Returns:
            The coordinates and features, of shape (B, M, num_sampled_points, 3 + C), and whether a box is empty, as an
            int32 tensor of shape (B, M).
        """
        return roipoint_pool3d(points, point_features, boxes3d, self.num_sampled_points)

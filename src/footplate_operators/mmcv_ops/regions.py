"""Layers that pool regions of interest (RoIs), and functions that sample features at points of RoIs.

Sources: He et al., Mask R-CNN (2017); Kirillov et al., PointRend (2020); Dai et al., Deformable Convolutional Networks
(2017); Zhu et al., Deformable ConvNets v2 (2019); Han et al., ReDet (2021); Liu et al., ABCNet (2020).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from footplate_operators.functional import (
    bezier_align,
    deform_roi_pool,
    riroi_align_rotated,
    roi_align,
    roi_align_rotated,
    roi_pool,
)
from footplate_operators.mmcv_ops.settings import Settings
from footplate_operators.sizes import Pair, pair


@dataclass(eq=False, repr=False)
class _RoILayer(Settings):
    """A layer that pools RoIs into bins."""

    output_size: Pair
    spatial_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.output_size = pair(self.output_size)
        self.spatial_scale = float(self.spatial_scale)


@dataclass(eq=False, repr=False)
class RoIAlign(_RoILayer):
    """Applies RoIAlign.

    Args:
        output_size: The number of rows and columns of bins.
        spatial_scale: The size of the feature map relative to the image.
        sampling_ratio: The number of sampling points per bin in each direction; 0 means about one point per pixel.
        pool_mode: "avg" or "max".
        aligned: Whether to shift coordinates by half a pixel.
        use_torchvision: Ignored; the results are the same.
    """

    sampling_ratio: int = 0
    pool_mode: str = "avg"
    aligned: bool = True
    use_torchvision: bool = False

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pools features of shape (N, C, H, W). Returns a tensor of shape (K, C, rows, columns).

        RoIs have shape (K, 5): image index, and x1, y1, x2 and y2 in image pixels.
        """
        return roi_align(input, rois, *self.values()[:-1])


@dataclass(eq=False, repr=False)
class RoIPool(_RoILayer):
    """Applies RoIPool: the largest value in each bin. See `RoIAlign`."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_pool(input, rois, *self.values())


@dataclass(eq=False, repr=False)
class RoIAlignRotated(_RoILayer):
    """Applies RoIAlign to rotated RoIs, of shape (K, 6): image index, center x and y, width, height, and angle.

    `clockwise` reverses the direction of angles, which are in radians. See `RoIAlign` for the other arguments.
    """

    sampling_ratio: int = 0
    aligned: bool = True
    clockwise: bool = False

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_align_rotated(input, rois, *self.values())


@dataclass(eq=False, repr=False)
class RiRoIAlignRotated(Settings):
    """Applies RoIAlign to rotated RoIs, and shifts the `num_orientations` orientation channels by the angle.

    See `RoIAlignRotated`.
    """

    out_size: Pair
    spatial_scale: float
    num_samples: int = 0
    num_orientations: int = 8
    clockwise: bool = False

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        return riroi_align_rotated(features, rois, *self.values())


@dataclass(eq=False, repr=False)
class BezierAlign(_RoILayer):
    """Applies RoIAlign between two cubic Bezier curves, of shape (K, 17): image index, and x and y of eight points.

    See `RoIAlign` for the arguments.
    """

    sampling_ratio: int = 0
    aligned: bool = True

    def forward(self, input: Tensor, beziers: Tensor) -> Tensor:
        return bezier_align(input, beziers, *self.values())


@dataclass(eq=False, repr=False)
class DeformRoIPool(_RoILayer):
    """Applies RoIAlign with shifted bins. The shift is `gamma` times the offset, relative to the size of the RoI.

    See `RoIAlign` for the other arguments.
    """

    sampling_ratio: int = 0
    gamma: float = 0.1

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None = None) -> Tensor:
        """Pools features. `offset` has shape (K, 2, rows, columns), x before y."""
        return deform_roi_pool(input, rois, offset, *self.values())


class DeformRoIPoolPack(DeformRoIPool):
    """Predicts the offsets of `DeformRoIPool` from the features that are pooled without offsets.

    Args:
        output_size: The number of rows and columns of bins.
        output_channels: The number of channels of the features.
        deform_fc_channels: The number of hidden channels of the layers that predict the offsets.
        spatial_scale: The size of the feature map relative to the image.
        sampling_ratio: The number of sampling points per bin in each direction; 0 means about one point per pixel.
        gamma: The factor for the offsets.
    """

    def __init__(
        self,
        output_size: Pair,
        output_channels: int,
        deform_fc_channels: int = 1024,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        super().__init__(output_size, spatial_scale, sampling_ratio, gamma)
        self.output_channels = output_channels
        self.deform_fc_channels = deform_fc_channels
        bins = math.prod(pair(output_size))
        self.offset_fc = nn.Sequential(
            nn.Linear(bins * output_channels, deform_fc_channels),
            nn.ReLU(inplace=True),
            nn.Linear(deform_fc_channels, deform_fc_channels),
            nn.ReLU(inplace=True),
            nn.Linear(deform_fc_channels, bins * 2),
        )
        _set_to_zero(self.offset_fc[-1])

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        pooled = super().forward(input, rois)
        return super().forward(input, rois, self._offset(pooled))

    def _offset(self, pooled: Tensor) -> Tensor:
        offset: Tensor = self.offset_fc(pooled.flatten(1))
        return offset.view(len(pooled), 2, *pooled.shape[2:])


class ModulatedDeformRoIPoolPack(DeformRoIPoolPack):
    """Also predicts a factor from 0 to 1 for each bin. See `DeformRoIPoolPack`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        hidden, bins = self.deform_fc_channels, math.prod(pair(self.output_size))
        self.mask_fc = nn.Sequential(
            nn.Linear(bins * self.output_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, bins), nn.Sigmoid()
        )
        _set_to_zero(self.mask_fc[2])

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        pooled = DeformRoIPool.forward(self, input, rois)
        mask: Tensor = self.mask_fc(pooled.flatten(1))
        return DeformRoIPool.forward(self, input, rois, self._offset(pooled)) * mask.view(-1, 1, *pooled.shape[2:])


def _set_to_zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def point_sample(input: Tensor, points: Tensor, align_corners: bool = False, **kwargs: Any) -> Tensor:
    """Samples features at points.

    Args:
        input: Features of shape (N, C, H, W).
        points: Points of shape (N, P, 2) or (N, rows, columns, 2), x before y, from 0 to 1.
        align_corners: Whether 0 and 1 are the centers of the first and last pixels instead of their outer edges.
        kwargs: Passed to `torch.nn.functional.grid_sample`.

    Returns:
        The features, of shape (N, C, P) or (N, C, rows, columns).
    """
    grid = (points[:, :, None] if points.dim() == 3 else points) * 2 - 1
    output = F.grid_sample(input, grid, align_corners=align_corners, **kwargs)
    return output[..., 0] if points.dim() == 3 else output


def rel_roi_point_to_rel_img_point(
    rois: Tensor, rel_roi_points: Tensor, img: tuple[int, ...] | Tensor, spatial_scale: float = 1.0
) -> Tensor:
    """Converts points relative to RoIs to points relative to the image.

    Args:
        rois: RoIs of shape (K, 4) or (K, 5); the last four columns are x1, y1, x2 and y2 in image pixels.
        rel_roi_points: Points of shape (K, P, 2), x before y, from 0 to 1.
        img: The height and width of the feature map, or the feature map itself, of shape (N, C, H, W).
        spatial_scale: The size of the feature map relative to the image.
    """
    corners = rois[:, None, -4:]
    height, width = img.shape[-2:] if isinstance(img, Tensor) else img[-2:]
    pixels = rel_roi_points * (corners[..., 2:] - corners[..., :2]) + corners[..., :2]
    return pixels / pixels.new_tensor([width, height]) * spatial_scale


@dataclass(eq=False, repr=False)
class SimpleRoIAlign(_RoILayer):
    """Samples one point at the center of each bin. See `RoIAlign` for the arguments."""

    aligned: bool = True

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Samples features of shape (N, C, H, W) for RoIs of shape (K, 5). Returns (K, C, rows, columns).

        Unlike mmcv's, the result has the order of the RoIs, even if they are not sorted by image.
        """
        rows, columns = pair(self.output_size)
        y = (torch.arange(rows, device=rois.device, dtype=rois.dtype) + 0.5) / rows
        x = (torch.arange(columns, device=rois.device, dtype=rois.dtype) + 0.5) / columns
        centers = torch.stack((x.expand(rows, -1), y[:, None].expand(-1, columns)), -1).view(1, -1, 2)
        points = rel_roi_point_to_rel_img_point(rois, centers.expand(len(rois), -1, -1), features, self.spatial_scale)
        order = [(rois[:, 0] == image).nonzero()[:, 0] for image in range(len(features))]
        sampled = [
            point_sample(features[[image]], points[rows].view(1, -1, 2), align_corners=not self.aligned)
            .view(features.size(1), len(rows), -1)
            .transpose(0, 1)
            for image, rows in enumerate(order)
        ]
        place = torch.cat(order).argsort()
        return torch.cat(sampled)[place].unflatten(2, pair(self.output_size))  # type: ignore[no-untyped-call,no-any-return]

"""Layers that pool regions of interest (RoIs), and functions that sample features at points of RoIs.

Sources: He et al., Mask R-CNN (2017); Kirillov et al., PointRend (2020); Dai et al., Deformable Convolutional Networks
(2017); Zhu et al., Deformable ConvNets v2 (2019); Han et al., ReDet (2021); Liu et al., ABCNet (2020).
"""

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
from footplate_operators.sizes import Pair, pair


class RoIAlign(nn.Module):
    """Applies RoIAlign.

    Args:
        output_size: The number of rows and columns of bins.
        spatial_scale: The size of the feature map relative to the image.
        sampling_ratio: The number of sampling points per bin in each direction; 0 means about one point per pixel.
        pool_mode: "avg" or "max".
        aligned: Whether to shift coordinates by half a pixel.
        use_torchvision: Ignored; the results are the same.
    """

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        pool_mode: str = "avg",
        aligned: bool = True,
        use_torchvision: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.pool_mode = pool_mode
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pools features of shape (N, C, H, W). Returns a tensor of shape (K, C, rows, columns).

        RoIs have shape (K, 5): image index, and x1, y1, x2 and y2 in image pixels.
        """
        settings = (self.output_size, self.spatial_scale, self.sampling_ratio, self.pool_mode, self.aligned)
        return roi_align(input, rois, *settings)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, pool_mode={self.pool_mode}, aligned={self.aligned}"
        )


class RoIPool(nn.Module):
    """Applies RoIPool: the largest value in each bin. See `RoIAlign`."""

    def __init__(self, output_size: Pair, spatial_scale: float = 1.0) -> None:
        super().__init__()
        self.output_size = pair(output_size)
        self.spatial_scale = float(spatial_scale)

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        return roi_pool(input, rois, self.output_size, self.spatial_scale)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, spatial_scale={self.spatial_scale}"


class RoIAlignRotated(nn.Module):
    """Applies RoIAlign to rotated RoIs, of shape (K, 6): image index, center x and y, width, height, and angle.

    `clockwise` reverses the direction of angles, which are in radians. See `RoIAlign` for the other arguments.
    """

    def __init__(
        self,
        output_size: Pair,
        spatial_scale: float,
        sampling_ratio: int = 0,
        aligned: bool = True,
        clockwise: bool = False,
    ) -> None:
        super().__init__()
        self.output_size = pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.aligned = aligned
        self.clockwise = clockwise

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        settings = (self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned, self.clockwise)
        return roi_align_rotated(input, rois, *settings)

    def extra_repr(self) -> str:
        return (
            f"output_size={self.output_size}, spatial_scale={self.spatial_scale}, "
            f"sampling_ratio={self.sampling_ratio}, aligned={self.aligned}, clockwise={self.clockwise}"
        )


class RiRoIAlignRotated(nn.Module):
    """Applies RoIAlign to rotated RoIs, and shifts the `num_orientations` orientation channels by the angle.

    See `RoIAlignRotated`.
    """

    def __init__(
        self,
        out_size: Pair,
        spatial_scale: float,
        num_samples: int = 0,
        num_orientations: int = 8,
        clockwise: bool = False,
    ) -> None:
        super().__init__()
        self.out_size = pair(out_size)
        self.spatial_scale = float(spatial_scale)
        self.num_samples = int(num_samples)
        self.num_orientations = int(num_orientations)
        self.clockwise = clockwise

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        settings = (self.out_size, self.spatial_scale, self.num_samples, self.num_orientations, self.clockwise)
        return riroi_align_rotated(features, rois, *settings)


class BezierAlign(nn.Module):
    """Applies RoIAlign between two cubic Bezier curves, of shape (K, 17): image index, and x and y of eight points.

    See `RoIAlign` for the arguments.
    """

    def __init__(self, output_size: Pair, spatial_scale: float, sampling_ratio: int, aligned: bool = True) -> None:
        super().__init__()
        self.output_size = pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.aligned = aligned

    def forward(self, input: Tensor, beziers: Tensor) -> Tensor:
        return bezier_align(
            input, beziers, self.output_size, self.spatial_scale, self.sampling_ratio, aligned=self.aligned
        )


class DeformRoIPool(nn.Module):
    """Applies RoIAlign with shifted bins. The shift is `gamma` times the offset, relative to the size of the RoI.

    See `RoIAlign` for the other arguments.
    """

    def __init__(
        self, output_size: Pair, spatial_scale: float = 1.0, sampling_ratio: int = 0, gamma: float = 0.1
    ) -> None:
        super().__init__()
        self.output_size = pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.sampling_ratio = int(sampling_ratio)
        self.gamma = float(gamma)

    def forward(self, input: Tensor, rois: Tensor, offset: Tensor | None = None) -> Tensor:
        """Pools features. `offset` has shape (K, 2, rows, columns), x before y."""
        settings = (self.output_size, self.spatial_scale, self.sampling_ratio, self.gamma)
        return deform_roi_pool(input, rois, offset, *settings)


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
        bins = self.output_size[0] * self.output_size[1]
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
        return offset.view(len(pooled), 2, *self.output_size)


class ModulatedDeformRoIPoolPack(DeformRoIPoolPack):
    """Also predicts a factor from 0 to 1 for each bin. See `DeformRoIPoolPack`."""

    def __init__(
        self,
        output_size: Pair,
        output_channels: int,
        deform_fc_channels: int = 1024,
        spatial_scale: float = 1.0,
        sampling_ratio: int = 0,
        gamma: float = 0.1,
    ) -> None:
        super().__init__(output_size, output_channels, deform_fc_channels, spatial_scale, sampling_ratio, gamma)
        bins = self.output_size[0] * self.output_size[1]
        self.mask_fc = nn.Sequential(
            nn.Linear(bins * output_channels, deform_fc_channels),
            nn.ReLU(inplace=True),
            nn.Linear(deform_fc_channels, bins),
            nn.Sigmoid(),
        )
        _set_to_zero(self.mask_fc[2])

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:  # type: ignore[override]
        pooled = DeformRoIPool.forward(self, input, rois)
        mask: Tensor = self.mask_fc(pooled.flatten(1))
        return DeformRoIPool.forward(self, input, rois, self._offset(pooled)) * mask.view(-1, 1, *self.output_size)


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


class SimpleRoIAlign(nn.Module):
    """Samples one point at the center of each bin. See `RoIAlign` for the arguments."""

    def __init__(self, output_size: Pair, spatial_scale: float, aligned: bool = True) -> None:
        super().__init__()
        self.output_size = pair(output_size)
        self.spatial_scale = float(spatial_scale)
        self.aligned = aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Samples features of shape (N, C, H, W) for RoIs of shape (K, 5). Returns (K, C, rows, columns).

        Unlike mmcv's, the result has the order of the RoIs, even if they are not sorted by image.
        """
        rows, columns = self.output_size
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
        return torch.cat(sampled)[place].view(len(rois), features.size(1), *self.output_size)

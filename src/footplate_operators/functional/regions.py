"""Functions that pool regions of interest (RoIs) from feature maps. See `footplate_operators.regions`."""

import torch
from torch import Tensor

from footplate_operators import regions
from footplate_operators.registration import filling_operator
from footplate_operators.sizes import pair


def _pooled(input: Tensor, rois: Tensor, height: int, width: int) -> Tensor:
    """Returns an output of shape (K, C, height, width)."""
    return input.new_zeros(rois.size(0), input.size(1), height, width)


@filling_operator(
    regions.roi_align_forward,
    "input rois output argmax_y argmax_x",
    regions.roi_align_backward,
    "grad_output rois argmax_y argmax_x grad_input",
)
def _roi_align(
    input: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    output = _pooled(input, rois, height, width)
    y, x = (torch.zeros_like(output) if pool_mode == 0 else input.new_zeros(0) for _ in range(2))
    return output, y, x


def roi_align(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Applies RoIAlign to a feature map.

    Args:
        input: The feature map, of shape (N, C, H, W).
        rois: The RoIs, of shape (K, 5): image index, and x1, y1, x2 and y2 in image pixels.
        output_size: The numbers of rows and columns of bins.
        spatial_scale: The size of the feature map relative to the image.
        sampling_ratio: The number of sampling points per bin in each direction; 0 for about one point per pixel.
        pool_mode: "avg" or "max".
        aligned: Whether to shift coordinates by half a pixel.

    Returns:
        The pooled features, of shape (K, C, rows, columns).
    """
    mode = {"max": 0, "avg": 1}[pool_mode]
    output, _, _ = _roi_align(input, rois, *pair(output_size), float(spatial_scale), sampling_ratio, mode, aligned)
    return output


@filling_operator(
    regions.roi_pool_forward,
    "input rois output argmax",
    regions.roi_pool_backward,
    "grad_output rois argmax grad_input",
)
def _roi_pool(input: Tensor, rois: Tensor, height: int, width: int, spatial_scale: float) -> tuple[Tensor, Tensor]:
    output = _pooled(input, rois, height, width)
    return output, torch.zeros_like(output, dtype=torch.int)


def roi_pool(input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0) -> Tensor:
    """Applies RoIPool to a feature map; see `roi_align`. An empty bin has the value 0."""
    output, _ = _roi_pool(input, rois, *pair(output_size), float(spatial_scale))
    return output


@filling_operator(
    regions.roi_align_rotated_forward,
    "input rois output",
    regions.roi_align_rotated_backward,
    "grad_output rois grad_input",
)
def _roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> Tensor:
    return _pooled(input, rois, height, width)


def roi_align_rotated(
    input: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """Applies RoIAlign to rotated RoIs; see `roi_align`.

    They have shape (K, 6): image index, center x, center y, width, height, and angle in radians. `clockwise` reverses
    the direction of angles.
    """
    return _roi_align_rotated(input, rois, *pair(output_size), float(spatial_scale), sampling_ratio, aligned, clockwise)


@filling_operator(
    regions.riroi_align_rotated_forward,
    "features rois output",
    regions.riroi_align_rotated_backward,
    "grad_output rois grad_features",
)
def _riroi_align_rotated(
    features: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> Tensor:
    return _pooled(features, rois, height, width)


def riroi_align_rotated(
    features: Tensor,
    rois: Tensor,
    out_size: int | tuple[int, int],
    spatial_scale: float,
    num_samples: int = 0,
    num_orientations: int = 8,
    clockwise: bool = False,
) -> Tensor:
    """Applies RoIAlign to rotated RoIs, and shifts the orientation channels by the angle of each RoI.

    Args:
        features: The feature map, of shape (N, C, H, W). Each group of `num_orientations` consecutive channels contains
            the responses to equally spaced orientations.
        rois: Rotated RoIs of shape (K, 6); see `roi_align_rotated`.
        out_size: The numbers of rows and columns of bins.
        spatial_scale: The size of the feature map relative to the image.
        num_samples: The number of sampling points per bin in each direction; 0 for about one point per pixel.
        num_orientations: The number of orientations.
        clockwise: Whether to reverse the direction of angles.

    Returns:
        The pooled features, of shape (K, C, rows, columns).
    """
    return _riroi_align_rotated(
        features, rois, *pair(out_size), float(spatial_scale), num_samples, num_orientations, clockwise
    )


@filling_operator(
    regions.bezier_align_forward,
    "input beziers output",
    regions.bezier_align_backward,
    "grad_output beziers grad_input",
)
def _bezier_align(
    input: Tensor, beziers: Tensor, height: int, width: int, spatial_scale: float, sampling_ratio: int, aligned: bool
) -> Tensor:
    return _pooled(input, beziers, height, width)


def bezier_align(
    input: Tensor,
    beziers: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Applies RoIAlign between two cubic Bezier curves; see `roi_align`.

    `beziers` has shape (K, 17): image index, and x and y of the control points, four of the upper curve from left to
    right and four of the lower curve from right to left.
    """
    return _bezier_align(input, beziers, *pair(output_size), float(spatial_scale), sampling_ratio, aligned)


@filling_operator(
    regions.deform_roi_pool_forward,
    "input rois offset output",
    regions.deform_roi_pool_backward,
    "grad_output input rois offset grad_input grad_offset",
)
def _deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> Tensor:
    return _pooled(input, rois, height, width)


def deform_roi_pool(
    input: Tensor,
    rois: Tensor,
    offset: Tensor | None,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    gamma: float = 0.1,
) -> Tensor:
    """Applies RoIAlign with shifted bins; see `roi_align`.

    `offset` has shape (K, 2, rows, columns), x before y. Bins are shifted by `gamma * offset`, relative to the size of
    the RoI. If `offset` is None, they are not shifted.
    """
    offset = rois.new_zeros(0) if offset is None else offset
    return _deform_roi_pool(input, rois, offset, *pair(output_size), float(spatial_scale), sampling_ratio, float(gamma))


@filling_operator(
    regions.rotated_feature_align_forward,
    "features boxes output",
    regions.rotated_feature_align_backward,
    "grad_output boxes grad_features",
    batched="features boxes",
)
def _rotated_feature_align(features: Tensor, boxes: Tensor, spatial_scale: float, points: int) -> Tensor:
    return features.new_empty(features.shape)


def rotated_feature_align(
    features: Tensor, best_rbboxes: Tensor, spatial_scale: float = 1 / 8, points: int = 1
) -> Tensor:
    """Adds the features sampled at the center of each pixel's box to the pixel's features.

    Args:
        features: The features, of shape (N, C, H, W).
        best_rbboxes: A box for each pixel, of shape (N, H, W, 5): center y, center x, width, height, and angle in
            radians.
        spatial_scale: The size of the feature map relative to the image.
        points: 1 for the center of the box, or 5 to also add the features at its corners.
    """
    return _rotated_feature_align(features, best_rbboxes, float(spatial_scale), points)

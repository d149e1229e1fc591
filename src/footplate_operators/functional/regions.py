"""Functions that pool regions of interest (RoIs) from feature maps. See `footplate_operators.regions`."""

from collections.abc import Iterator

import torch
from torch import Tensor

from footplate_operators import regions
from footplate_operators.registration import filling_operator


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    """Returns a height and a width."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def _pooled(input: Tensor, rois: Tensor, height: int, width: int) -> Tensor:
    """Returns an output of shape (K, C, height, width)."""
    return input.new_zeros(len(rois), input.size(1), height, width)


@filling_operator()
def _roi_align(
    input: Tensor,
    rois: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    output = _pooled(input, rois, height, width)
    y, x = (torch.zeros_like(output) if pool_mode == 0 else input.new_zeros(0) for _ in range(2))
    yield output, y, x
    regions.roi_align_forward(
        input, rois, output, y, x, height, width, spatial_scale, sampling_ratio, pool_mode, aligned
    )


@filling_operator()
def _roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    input_shape: list[int],
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> Iterator[Tensor]:
    grad = grad_output.new_zeros(input_shape)
    yield grad
    settings = height, width, spatial_scale, sampling_ratio, pool_mode, aligned
    regions.roi_align_backward(grad_output, rois, argmax_y, argmax_x, grad, *settings)


_roi_align.differentiate(_roi_align_backward, outputs="output argmax_y argmax_x", inputs="input")


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
    output, _, _ = _roi_align(input, rois, *_pair(output_size), spatial_scale, sampling_ratio, mode, aligned)
    return output


@filling_operator()
def _roi_pool(
    input: Tensor, rois: Tensor, height: int, width: int, spatial_scale: float
) -> Iterator[tuple[Tensor, Tensor]]:
    output = _pooled(input, rois, height, width)
    argmax = torch.zeros_like(output, dtype=torch.int)
    yield output, argmax
    regions.roi_pool_forward(input, rois, output, argmax, height, width, spatial_scale)


@filling_operator()
def _roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    input_shape: list[int],
    height: int,
    width: int,
    spatial_scale: float,
) -> Iterator[Tensor]:
    grad = grad_output.new_zeros(input_shape)
    yield grad
    regions.roi_pool_backward(grad_output, rois, argmax, grad, height, width, spatial_scale)


_roi_pool.differentiate(_roi_pool_backward, outputs="output argmax", inputs="input")


def roi_pool(input: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float = 1.0) -> Tensor:
    """Applies RoIPool to a feature map; see `roi_align`. An empty bin has the value 0."""
    output, _ = _roi_pool(input, rois, *_pair(output_size), spatial_scale)
    return output

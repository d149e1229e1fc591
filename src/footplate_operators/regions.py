"""Operators that pool regions of interest (RoIs) from a feature map, such as RoIAlign and RoIPool.

RoIs have shape (K, 5): image index, and x1, y1, x2 and y2 in image pixels. Rotated RoIs have shape (K, 6): image index,
center x, center y, width, height, and angle in radians. Functions write their results to tensors allocated by the
caller.

`spatial_scale` is the size of the feature map relative to the image. `sampling_ratio` is the number of sampling points
per bin in each direction; 0 means about one point per pixel. If `aligned` is set, coordinates are shifted by half a
pixel; otherwise, RoIs are at least one pixel wide and high. `clockwise` reverses the direction of angles.

Sources: He et al., Mask R-CNN (2017); Girshick, Fast R-CNN (2015); Dai et al., Deformable Convolutional Networks
(2017); Yang et al., R3Det (2021); Han et al., ReDet (2021); Liu et al., ABCNet (2020).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from footplate_operators.compiled import compiled_operators, compute_type
from footplate_operators.sampling import (
    RowGradient,
    bilinear_corners,
    blocks,
    largest_rows,
    pixel_rows,
    positions,
    weight_gradient,
    weighted_rows,
)


class _Samples(NamedTuple):
    """The sampling points in all bins of all RoIs, as flat tensors.

    Attributes:
        roi: The RoI of each point, as an int64 tensor of shape (S,).
        bin: The bin of each point, `(roi * height + row) * width + column`, as an int64 tensor of shape (S,).
        down: The distance between each point and the top of its RoI, measured in bins, of shape (S,).
        across: The distance between each point and the left of its RoI, measured in bins, of shape (S,).
        starts: The index of the first point in each bin, as an int64 tensor of shape (K * height * width,).
        counts: The number of points in each bin (at least 1), of shape (K * height * width,).
    """

    roi: Tensor
    bin: Tensor
    down: Tensor
    across: Tensor
    starts: Tensor
    counts: Tensor


def _samples(heights: Tensor, widths: Tensor, bins: tuple[int, int], sampling_ratio: int) -> _Samples:
    """Places a regular grid of sampling points in each bin.

    Args:
        heights: The heights of the RoIs in feature map pixels, of shape (K,).
        widths: The widths of the RoIs in feature map pixels, of shape (K,).
        bins: The numbers of rows and columns of bins in an RoI.
        sampling_ratio: The number of points per bin in each direction; 0 for about one point per pixel.
    """
    rows, columns = bins
    if sampling_ratio > 0:
        grid_rows = torch.full_like(heights, sampling_ratio, dtype=torch.long)
        grid_columns = grid_rows
    else:
        grid_rows = (heights / rows).ceil().long().clamp(min=0)
        grid_columns = (widths / columns).ceil().long().clamp(min=0)
    counts = (grid_rows * grid_columns).repeat_interleave(rows * columns)
    of_bin, within, starts = positions(counts)
    roi = of_bin // (rows * columns)
    grid_row = within // grid_columns[roi]
    grid_column = within % grid_columns[roi]
    down = of_bin // columns % rows + (grid_row + 0.5) / grid_rows[roi]
    across = of_bin % columns + (grid_column + 0.5) / grid_columns[roi]
    return _Samples(roi, of_bin, down.to(heights.dtype), across.to(heights.dtype), starts, counts.clamp(min=1))


class _Points(NamedTuple):
    """Sampling points in feature map pixel coordinates, with the image index of each point."""

    samples: _Samples
    image: Tensor
    y: Tensor
    x: Tensor


_CHANNELS = 32  # the number of channels that are pooled at once


def _pixels_of_points(points: _Points, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns the pixels of each point and their weights in the mean of the point's bin, both of shape (S, 4)."""
    indices, weights = bilinear_corners(points.y, points.x, height, width)
    indices = indices + (points.image * height * width).int()[:, None]
    return indices, weights / points.samples.counts[points.samples.bin][:, None]


def _channel_blocks(channels: int, group: int = 1) -> list[slice]:
    """Returns the slices of channels, each with whole groups of consecutive channels."""
    step = max(1, _CHANNELS // group) * group
    return [slice(start, start + step) for start in range(0, channels, step)]


def _pool(features: Tensor, points: _Points, output: Tensor) -> None:
    """Writes the mean of the features sampled in each bin to `output`, of shape (K, C, rows, columns)."""
    indices, weights = _pixels_of_points(points, *features.shape[2:])
    starts = (points.samples.starts * 4).int()
    del points
    for block in _channel_blocks(features.size(1)):
        pooled = weighted_rows(pixel_rows(features[:, block]), indices.flatten(), weights.flatten(), starts)
        output[:, block] = pooled.view(*output.shape[:1], *output.shape[2:], pooled.size(1)).permute(0, 3, 1, 2)


def _pool_backward(
    grad_output: Tensor,
    points: _Points,
    grad_features: Tensor,
    *,
    group: int = 1,
    change: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> None:
    """Writes the gradient of `_pool` with respect to the features to `grad_features`.

    `change` turns the gradient of some groups of `group` channels into the gradient of the pooled features.
    """
    count, channels, height, width = grad_features.shape
    gradient = RowGradient(*_pixels_of_points(points, height, width), count * height * width, points.samples.bin)
    del points
    for block in _channel_blocks(channels, group):
        rows = gradient(pixel_rows(change(grad_output[:, block])))
        grad_features[:, block] = rows.view(count, height, width, -1).permute(0, 3, 1, 2)


def _aligned_points(
    rois: Tensor, bins: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> _Points:
    left, top, right, bottom = (rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    heights, widths = bottom - top, right - left
    if not aligned:
        heights, widths = heights.clamp(min=1), widths.clamp(min=1)
    samples = _samples(heights, widths, bins, sampling_ratio)
    roi = samples.roi
    y = top[roi] + samples.down * (heights / bins[0])[roi]
    x = left[roi] + samples.across * (widths / bins[1])[roi]
    return _Points(samples, rois[:, 0].long()[roi], y, x)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Applies RoIAlign to `input`, of shape (N, C, H, W), and writes the result to `output`.

    `output` has shape (K, C, rows, columns). `pool_mode` is 0 for max pooling and 1 for mean pooling. Max pooling also
    writes the coordinates of the largest values to `argmax_y` and `argmax_x`.
    """
    bins = (aligned_height, aligned_width)
    compiled = compiled_operators(input) if pool_mode == 1 else None
    if compiled is not None:
        dtype = compute_type(input)
        settings = (spatial_scale, *bins, sampling_ratio, aligned)
        output.copy_(compiled.roi_align(input.to(dtype), rois.to(dtype), *settings))
        return
    points = _aligned_points(rois, bins, spatial_scale, sampling_ratio, aligned)
    if pool_mode == 1:
        _pool(input, points, output)
        return
    height, width = input.shape[2:]
    indices, weights = bilinear_corners(points.y, points.x, height, width)
    indices = indices + (points.image * height * width)[:, None]
    for block in blocks(input.size(1), input, output, argmax_y, argmax_x):
        values = weighted_rows(pixel_rows(input[:, block]), indices, weights)
        largest, first = largest_rows(values, torch.arange(len(values), device=values.device), points.samples.starts)
        for target, found in ((output, largest), (argmax_y, _at(points.y, first)), (argmax_x, _at(points.x, first))):
            target[:, block] = found.view(len(rois), *bins, found.size(1)).permute(0, 3, 1, 2)


def _at(coordinates: Tensor, positions: Tensor) -> Tensor:
    """Returns the coordinates at the given positions. For position -1, returns -2, which is outside any feature map."""
    padded = torch.cat((coordinates, coordinates.new_tensor([-2.0])))
    return padded[positions]


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Writes the gradient of RoIAlign with respect to its input to `grad_input`, which must be initialized to zero."""
    bins = (aligned_height, aligned_width)
    compiled = compiled_operators(grad_output) if pool_mode == 1 else None
    if compiled is not None:
        dtype = compute_type(grad_output)
        settings = (spatial_scale, *bins, *grad_input.shape, sampling_ratio, aligned)
        grad_input.copy_(compiled._roi_align_backward(grad_output.to(dtype), rois.to(dtype), *settings))
        return
    if pool_mode == 1:
        _pool_backward(grad_output, _aligned_points(rois, bins, spatial_scale, sampling_ratio, aligned), grad_input)
        return
    first_pixels = _first_pixels(rois, grad_input)
    for block in blocks(
        grad_input.size(1), grad_output, argmax_y, argmax_x, grad_input, work=160 * grad_output.numel()
    ):
        indices, weights = bilinear_corners(argmax_y[:, block], argmax_x[:, block], *grad_input.shape[2:])
        indices = indices + first_pixels[:, block, ..., None]
        values = weights * grad_output[:, block, ..., None]
        grad_input.view(-1).index_add_(0, indices.flatten(), values.flatten())


def _first_pixels(rois: Tensor, features: Tensor) -> Tensor:
    """Returns where each channel of an RoI's image starts in the flattened features, of shape (K, C, 1, 1)."""
    channels, height, width = features.shape[1:]
    planes = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    return (planes * height * width)[:, :, None, None]


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Applies RoIPool to `input`, of shape (N, C, H, W).

    Writes the largest value in each bin to `output`, and its position in the flattened feature map to `argmax`, both of
    shape (K, C, rows, columns). Empty bins have value 0 and position -1.
    """
    channels, height, width = input.shape[1:]
    left, top = rois[:, 1] * spatial_scale, rois[:, 2] * spatial_scale
    roi_width, roi_height = (rois[:, 3] + 1) * spatial_scale - left, (rois[:, 4] + 1) * spatial_scale - top
    first_row, last_row = _pixel_range(top, roi_height, pooled_height, height)
    first_column, last_column = _pixel_range(left, roi_width, pooled_width, width)
    rows, columns = (last_row - first_row)[:, :, None], (last_column - first_column)[:, None, :]
    counts = (rows.clamp(min=0) * columns.clamp(min=0)).flatten()
    of_bin, within, starts = positions(counts)
    roi = of_bin // (pooled_height * pooled_width)
    row, column = of_bin // pooled_width % pooled_height, of_bin % pooled_width
    bin_columns = (last_column - first_column)[roi, column]
    pixel = (first_row[roi, row] + within // bin_columns) * width + first_column[roi, column] + within % bin_columns
    pixel, starts = (pixel + rois[:, 0].long()[roi] * height * width).int(), starts.int()
    for block in _channel_blocks(channels):
        largest, first = largest_rows(pixel_rows(input[:, block]), pixel, starts)
        place = torch.where(first < 0, -1, first % (height * width))
        for target, found in ((output, largest), (argmax, place)):
            target[:, block] = found.view(len(rois), pooled_height, pooled_width, found.size(1)).permute(0, 3, 1, 2)


def _pixel_range(start: Tensor, length: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """Returns the start and end pixels (exclusive) of each bin, clipped to the feature map, of shape (K, bins).

    `start` and `length`, of shape (K,), are the RoIs' positions and sizes along one axis. `size` is the size of the
    feature map along this axis.
    """
    edges = torch.arange(bins + 1, device=start.device) * (length / bins)[:, None] + start[:, None]
    edges = torch.where(length[:, None] > 0, edges, 0)
    return edges[:, :-1].floor().long().clamp(0, size), edges[:, 1:].ceil().long().clamp(0, size)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Adds the gradient of `roi_pool_forward` with respect to its input to `grad_input`."""
    first_pixels = _first_pixels(rois, grad_input)
    for block in blocks(grad_input.size(1), grad_output, argmax, grad_input):
        used = argmax[:, block] >= 0
        indices = argmax[:, block] + first_pixels[:, block]
        grad_input.view(-1).index_add_(0, indices[used], grad_output[:, block][used])


def _rotated_points(
    rois: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    clockwise: bool,
) -> _Points:
    """Returns the sampling points in rotated RoIs."""
    bins = (pooled_height, pooled_width)
    center_x, center_y = (rois[:, 1:3] * spatial_scale - (0.5 if aligned else 0.0)).unbind(1)
    widths, heights = (rois[:, 3:5] * spatial_scale).unbind(1)
    if not aligned:
        widths, heights = widths.clamp(min=1), heights.clamp(min=1)
    angle = -rois[:, 5] if clockwise else rois[:, 5]
    samples = _samples(heights, widths, bins, sampling_ratio)
    roi = samples.roi
    down = (samples.down / bins[0] - 0.5) * heights[roi]
    across = (samples.across / bins[1] - 0.5) * widths[roi]
    cos, sin = angle.cos()[roi], angle.sin()[roi]
    y = down * cos - across * sin + center_y[roi]
    x = down * sin + across * cos + center_x[roi]
    return _Points(samples, rois[:, 0].long()[roi], y, x)


def _pooling(points_of: Callable[..., _Points]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Returns a forward and a backward operator that pool the features at sampling points.

    `points_of` takes the RoIs and the settings of the operators.
    """

    def forward(input: Tensor, rois: Tensor, output: Tensor, *settings: Any, **named: Any) -> None:
        _pool(input, points_of(rois, *settings, **named), output)

    def backward(grad_output: Tensor, rois: Tensor, grad_input: Tensor, *settings: Any, **named: Any) -> None:
        _pool_backward(grad_output, points_of(rois, *settings, **named), grad_input)

    return forward, backward


roi_align_rotated_forward, roi_align_rotated_backward = _pooling(_rotated_points)


def _bezier_points(
    beziers: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> _Points:
    """Returns the sampling points between two cubic Bezier curves.

    `beziers` has shape (K, 17): image index, and x and y of the control points, four of the upper curve from left to
    right and four of the lower curve from right to left. The size of bins is that of the curves, which for horizontal
    text is flat. Bins are not rotated with the curves.
    """
    bins = (aligned_height, aligned_width)
    upper, lower = (beziers[:, 1:] * spatial_scale).view(-1, 2, 4, 2).unbind(1)
    lower = lower.flip(1)
    widths, heights = torch.maximum((upper[:, 3] - upper[:, 0]).abs(), (lower[:, 3] - lower[:, 0]).abs()).unbind(1)
    if not aligned:
        widths, heights = widths.clamp(min=1), heights.clamp(min=1)
    samples = _samples(heights, widths, bins, sampling_ratio)
    roi, row, column = samples.roi, samples.bin // bins[1] % bins[0], samples.bin % bins[1]
    along, below = (column / bins[1]).to(beziers.dtype), (row / bins[0]).to(beziers.dtype)[:, None]
    rest = 1 - along
    weights = torch.stack((rest**3, 3 * along * rest**2, 3 * along**2 * rest, along**3), 1)[..., None]
    center = (upper[roi] * weights).sum(1) * (1 - below) + (lower[roi] * weights).sum(1) * below
    center_x, center_y = (center - (0.5 if aligned else 0.0)).unbind(1)
    y = center_y + (samples.down - row - 0.5) * (heights / bins[0])[roi]
    x = center_x + (samples.across - column - 0.5) * (widths / bins[1])[roi]
    return _Points(samples, beziers[:, 0].long()[roi], y, x)


bezier_align_forward, bezier_align_backward = _pooling(_bezier_points)


def _turned(pooled: Tensor, rois: Tensor, num_orientations: int, *, back: bool) -> Tensor:
    """Shifts the orientation channels of pooled features, of shape (K, C, rows, columns), by the angle of each RoI.

    Each group of `num_orientations` consecutive channels contains the responses to equally spaced orientations.
    Between two orientations, the channels are interpolated linearly. `back` shifts in the other direction, which turns
    gradients of the result into those of the pooled features.
    """
    groups = pooled.unflatten(1, (-1, num_orientations))  # type: ignore[no-untyped-call]
    turn = rois[:, 5] * (num_orientations / (2 * math.pi))
    lower = turn.floor()
    share = (turn - lower)[:, None, None, None, None]
    orientation, steps = torch.arange(num_orientations, device=rois.device), lower.long()[:, None]
    source = orientation + steps if back else orientation - steps
    following = source - 1 if back else source + 1

    def shifted(indices: Tensor) -> Tensor:
        return torch.take_along_dim(groups, (indices % num_orientations)[:, None, :, None, None], 2)

    return ((1 - share) * shifted(source) + share * shifted(following)).flatten(1, 2)


def riroi_align_rotated_forward(
    features: Tensor,
    rois: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> None:
    """Applies RoIAlign to rotated RoIs, and shifts the orientation channels by the angle of each RoI; see `_turned`.

    Writes the result to `output`, of shape (K, C, rows, columns). `clockwise` reverses only the rotation of the
    sampling grid, not the angle that determines the shift.
    """
    settings = (pooled_height, pooled_width, spatial_scale, num_samples)
    _pool(features, _rotated_points(rois, *settings, aligned=False, clockwise=clockwise), output)
    for block in blocks(len(rois), output):
        output[block] = _turned(output[block], rois[block], num_orientations, back=False)


def riroi_align_rotated_backward(
    grad_output: Tensor,
    rois: Tensor,
    grad_features: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    num_samples: int,
    num_orientations: int,
    clockwise: bool,
) -> None:
    """Writes the gradient of `riroi_align_rotated_forward` with respect to the features to `grad_features`."""
    settings = (pooled_height, pooled_width, spatial_scale, num_samples)
    points = _rotated_points(rois, *settings, aligned=False, clockwise=clockwise)
    turn = partial(_turned, rois=rois, num_orientations=num_orientations, back=True)
    _pool_backward(grad_output, points, grad_features, group=num_orientations, change=turn)


def _shifted_points(
    rois: Tensor,
    offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> _Points:
    """Returns the sampling points of RoIAlign with shifted bins; see `deform_roi_pool_forward`."""
    points = _aligned_points(rois, (pooled_height, pooled_width), spatial_scale, sampling_ratio, aligned=True)
    if offset.numel():
        size = (rois[:, 3:] - rois[:, 1:3]) * spatial_scale * gamma
        shift = (offset.flatten(2) * size[:, :, None]).transpose(1, 2).reshape(-1, 2)[points.samples.bin]
        points = points._replace(x=points.x + shift[:, 0], y=points.y + shift[:, 1])
    return points


def deform_roi_pool_forward(
    input: Tensor, rois: Tensor, offset: Tensor, output: Tensor, *settings: Any, **named: Any
) -> None:
    """Applies RoIAlign with shifted bins. The shift is `gamma * offset`, relative to the size of the RoI.

    `offset` has shape (K, 2, rows, columns), x before y. If it is empty, the bins are not shifted. See
    `_shifted_points` for the settings.
    """
    _pool(input, _shifted_points(rois, offset, *settings, **named), output)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    *settings: Any,
    **named: Any,
) -> None:
    """Writes the gradients with respect to the input and the offset to `grad_input` and `grad_offset`."""
    _pool_backward(grad_output, _shifted_points(rois, offset, *settings, **named), grad_input)
    if not offset.numel():
        return
    with torch.enable_grad():
        leaf = offset.detach().requires_grad_()
        points = _shifted_points(rois, leaf, *settings, **named)
        indices, weights = _pixels_of_points(points, *input.shape[2:])
    grad_weights, starts = torch.zeros_like(weights), (points.samples.starts * 4).int()
    for block in _channel_blocks(input.size(1)):
        grad, rows = pixel_rows(grad_output[:, block]), pixel_rows(input[:, block])
        grad_weights += weight_gradient(grad, rows, indices.flatten(), starts).view_as(weights)
    grad_offset.copy_(torch.autograd.grad(weights, leaf, grad_weights)[0])


def _pixels_of_boxes(boxes: Tensor, spatial_scale: float, points: int) -> tuple[Tensor, Tensor]:
    """Returns the pixels and the weights of `rotated_feature_align_forward`, both of shape (N * H * W, points * 4)."""
    count, height, width = boxes.shape[:3]
    center_y, center_x, box_width, box_height = (boxes.reshape(-1, 5)[:, :4] * spatial_scale).unbind(1)
    angle = boxes.reshape(-1, 5)[:, 4:]
    cos, sin = angle.cos(), angle.sin()
    sides = boxes.new_tensor([[0, 0], [1, 1], [-1, 1], [-1, -1], [1, -1]])[:points] / 2  # the center and the corners
    along, aside = box_width[:, None] * sides[:, 0], box_height[:, None] * sides[:, 1]  # (N * H * W, points)
    x = center_x[:, None] + along * cos - aside * sin
    y = center_y[:, None] + along * sin + aside * cos
    indices, weights = bilinear_corners(y, x, height, width)
    image = torch.arange(count, device=boxes.device).repeat_interleave(height * width) * height * width
    return (indices + image[:, None, None]).flatten(1).int(), weights.flatten(1)


def rotated_feature_align_forward(
    features: Tensor, boxes: Tensor, output: Tensor, spatial_scale: float, points: int
) -> None:
    """Adds the features sampled at the center of each pixel's box to the pixel's features, and writes them to `output`.

    If `points` is 5, also adds the features sampled at the four corners of the box. Features have shape (N, C, H, W).

    `boxes` has shape (N, H, W, 5): center y, center x, width and height in pixels, and angle in radians.
    """
    indices, weights = _pixels_of_boxes(boxes, spatial_scale, points)
    for block in _channel_blocks(features.size(1)):
        sampled = weighted_rows(pixel_rows(features[:, block]), indices, weights)
        output[:, block] = features[:, block] + sampled.view(*boxes.shape[:3], -1).permute(0, 3, 1, 2)


def rotated_feature_align_backward(
    grad_output: Tensor, boxes: Tensor, grad_features: Tensor, spatial_scale: float, points: int
) -> None:
    """Writes the gradient of `rotated_feature_align_forward` with respect to the features to `grad_features`."""
    indices, weights = _pixels_of_boxes(boxes, spatial_scale, points)
    gradient = RowGradient(indices, weights, len(indices))
    for block in _channel_blocks(grad_features.size(1)):
        rows = gradient(pixel_rows(grad_output[:, block]))
        grad_features[:, block] = grad_output[:, block] + rows.view(*boxes.shape[:3], -1).permute(0, 3, 1, 2)

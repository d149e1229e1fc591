"""Deformable convolution, modulated deformable convolution and multi-scale deformable attention.

Sources: Dai et al., Deformable Convolutional Networks (2017); Zhu et al., Deformable ConvNets v2 (2019) and
Deformable DETR (2021).
"""

import warnings
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate_operators.sampling import gradients, operators


def _convolve(
    features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, settings: dict[str, int]
) -> Tensor:
    """Applies a deformable convolution and returns the result, a tensor of shape (N, O, rows, columns).

    Args:
        features: Features of shape (N, C, H, W).
        offset: Offsets in pixels, y before x, of shape (N, deform_groups * kernel * 2, rows, columns).
        weight: Weights of shape (O, C / groups, kernel height, kernel width).
        mask: A mask of shape (N, deform_groups * kernel, rows, columns), or None.
        settings: The other keyword arguments of mmcv's functions.
    """
    count, channels, height, width = map(int, features.shape)
    is_modulated = "kernel_h" in settings  # mmcv's two functions use different argument names
    names, sides = ("stride_ pad_ dilation_", "hw") if is_modulated else ("d pad dilation", "HW")
    groups, deform_groups = settings["group"], settings["deformable_group"]
    positions = []
    for side, size, kernel_size in zip(sides, (height, width), weight.shape[2:], strict=True):
        stride, padding, dilation = (settings[name + side] for name in names.split())
        taps = torch.arange(kernel_size, device=offset.device)[:, None] * dilation
        steps = (size + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
        positions.append(taps + torch.arange(steps, device=offset.device) * stride - padding)
    (kernel_height, rows), (kernel_width, columns) = (each.shape for each in positions)
    y = positions[0][:, None, :, None].expand(-1, kernel_width, -1, columns)
    x = positions[1][None, :, None, :].expand(kernel_height, -1, rows, -1)
    kernel = kernel_height * kernel_width
    # DyHead passes offsets for a larger map. The compiled operators then use the first values of each sample.
    offset = offset.flatten(1)[:, : deform_groups * kernel * 2 * rows * columns]
    shifts = offset.reshape(count * deform_groups, kernel, 2, rows, columns)
    y = shifts[:, :, 0] + y.reshape(kernel, rows, columns)
    x = shifts[:, :, 1] + x.reshape(kernel, rows, columns)
    # Newly initialized layers sample at pixel centers, where the gradient is taken from the following interval.
    # Rounding must not move a position into the preceding interval, so the map is padded to powers of two, which makes
    # divisions by its size exact.
    full_height, full_width = (1 << (size - 1).bit_length() for size in (height, width))
    planes = features.reshape(count * deform_groups, -1, height, width)
    planes = F.pad(planes, (0, full_width - width, 0, full_height - height))
    # At -1, which is one pixel outside the map, the gradient is zero.
    y, x = (torch.where(each <= -1, -2, each) for each in (y, x))
    # grid_sample expects -1 and 1 at the outer edges of the first and last pixels.
    grid = torch.stack(((2 * x + 1) / full_width - 1, (2 * y + 1) / full_height - 1), -1).flatten(1, 2)
    sampled = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
    sampled = sampled.view(count, deform_groups, -1, kernel, rows, columns)
    if mask is not None:
        mask = mask.flatten(1)[:, : deform_groups * kernel * rows * columns]
        sampled = sampled * mask.reshape(count, deform_groups, 1, kernel, rows, columns)
    sampled = sampled.reshape(count, groups, channels // groups * kernel, rows * columns)
    output = weight.reshape(groups, len(weight) // groups, -1) @ sampled
    return output.reshape(count, len(weight), rows, columns)


def _deform_conv(input: Tensor, offset: Tensor, weight: Tensor, **settings: int) -> Tensor:
    return _convolve(input, offset, weight, None, settings)


deform_conv_forward, deform_conv_backward_input = operators(
    _deform_conv,
    forward="input weight offset output columns ones",
    backward="input offset grad_output grad_input grad_offset weight columns",
)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **settings: int,
) -> None:
    """Adds the gradient with respect to the weight, multiplied by `scale`, to `grad_weight`."""
    weight = torch.zeros_like(grad_weight)  # the convolution is linear in its weight
    (gradient,) = gradients(lambda weight: _deform_conv(input, offset, weight, **settings), (weight,), grad_output)
    grad_weight.add_(gradient, alpha=scale)


def _modulated_deform_conv(
    input: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor, with_bias: bool, **settings: int
) -> Tensor:
    output = _convolve(input, offset, weight, mask, settings)
    return output + bias[:, None, None] if with_bias else output + 0 * bias.sum()


modulated_deform_conv_forward, modulated_deform_conv_backward = operators(
    _modulated_deform_conv,
    forward="input weight bias ones offset mask output columns",
    backward="input weight bias ones offset mask columns grad_input grad_weight grad_bias grad_offset grad_mask "
    "grad_output",
)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Computes deformable attention over a feature pyramid. Returns a tensor of shape (N, queries, heads * channels).

    If there are locations for more levels than the pyramid has, reads the first locations and weights in memory as
    those of its levels. The compiled operators do the same, and models such as UniAD were trained in this way.

    In the same way, reads the first sizes in memory if there are three for each level, but two coordinates.

    The levels of the pyramid are maps, or grids with a third dimension. Compiled operators for grids compute another
    gradient with respect to the locations, which is wrong. The one here is the derivative of the output.

    Args:
        value: Values of shape (N, pixels of all levels, heads, channels).
        value_spatial_shapes: The height and width (and depth) of each level, of shape (levels, 2 or 3).
        value_level_start_index: The index of each level's first pixel, of shape (levels,).
        sampling_locations: The x and y (and z) coordinates from 0 to 1, along the width and the height (and the depth),
            of shape (N, queries, heads, levels, points, 2 or 3).
        attention_weights: Weights of shape (N, queries, heads, levels, points).
        im2col_step: Ignored.
    """
    count, _, heads, channels = value.shape
    levels = len(value_spatial_shapes)
    if sampling_locations.size(3) > levels:
        warnings.warn(
            f"the attention has {sampling_locations.size(3)} levels, but its input has {levels}: like the compiled "
            "operator, footplate uses the first values in memory",
            stacklevel=2,
        )
        sampling_locations, attention_weights = (
            tensor.flatten()[: tensor[:, :, :, :levels].numel()].view(*tensor.shape[:3], levels, *tensor.shape[4:])
            for tensor in (sampling_locations, attention_weights)
        )
    queries, levels, points, dimensions = (sampling_locations.size(dim) for dim in (1, 3, 4, 5))
    if value_spatial_shapes.size(1) > dimensions:
        warnings.warn(
            f"the attention has {dimensions} coordinates, but its input has {value_spatial_shapes.size(1)} sizes for "
            "each level: like the compiled operator, footplate uses the first sizes in memory",
            stacklevel=2,
        )
        value_spatial_shapes = value_spatial_shapes.flatten()[: levels * dimensions].view(levels, dimensions)
    shapes, starts = value_spatial_shapes.tolist(), value_level_start_index.tolist()
    # grid_sample expects the coordinate along the last dimension first: (levels, N * heads, queries, points, 2 or 3)
    axes = [2, 0, 1] if dimensions == 3 else [0, 1]
    grids = (2 * sampling_locations - 1)[..., axes].permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    grids = grids.view(*grids.shape[:4], *[1] * (dimensions - 2), dimensions)
    sampled = []
    for grid, shape, start in zip(grids, shapes, starts, strict=True):
        plane = value[:, start : start + prod(shape)].permute(0, 2, 3, 1).reshape(-1, channels, *shape)
        sampled.append(F.grid_sample(plane, grid, padding_mode="zeros", align_corners=False).flatten(3))
    weights = attention_weights.permute(0, 2, 1, 3, 4).reshape(count * heads, 1, queries, levels * points)
    attended = (torch.stack(sampled, -2).flatten(-2) * weights).sum(-1)
    return attended.view(count, heads * channels, queries).transpose(1, 2).contiguous()


_, ms_deform_attn_backward = operators(
    ms_deform_attn_forward,
    forward="value value_spatial_shapes value_level_start_index sampling_locations attention_weights",
    backward="value value_spatial_shapes value_level_start_index sampling_locations attention_weights grad_output "
    "grad_value grad_sampling_locations grad_attention_weights",
)

"""Deformable convolution, plain and modulated, and deformable attention on several levels.

Sources: Dai et al., Deformable Convolutional Networks (2017); Zhu et al., Deformable ConvNets v2 (2019) and
Deformable DETR (2021).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.openmmlab.operators.sampling import gradients, operators


class _Convolution(NamedTuple):
    """The geometry of a deformable convolution. Pairs are (vertical, horizontal)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    deform_groups: int

    def _output_size(self, size: int, kernel_size: int, axis: int) -> int:
        covered = self.dilation[axis] * (kernel_size - 1) + 1
        return (size + 2 * self.padding[axis] - covered) // self.stride[axis] + 1

    def apply(self, features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the convolution (N, O, rows, columns).

        Args:
            features: (N, C, H, W).
            offset: (N, deform_groups * kernel * 2, rows, columns) in pixels, y before x.
            weight: (O, C / groups, kernel height, kernel width).
            mask: (N, deform_groups * kernel, rows, columns), or None.
        """
        count, channels, height, width = features.shape
        out_channels, _, kernel_height, kernel_width = weight.shape
        rows = self._output_size(height, kernel_height, 0)
        columns = self._output_size(width, kernel_width, 1)
        kernel = kernel_height * kernel_width
        # DyHead passes offsets of a larger map. In that case, the compiled operators read the first numbers of each
        # sample.
        offset = offset.flatten(1)[:, : self.deform_groups * kernel * 2 * rows * columns]

        def taps(size: int, kernel_size: int, axis: int) -> Tensor:
            output = torch.arange(size, device=offset.device) * self.stride[axis] - self.padding[axis]
            return torch.arange(kernel_size, device=offset.device)[:, None] * self.dilation[axis] + output

        y = taps(rows, kernel_height, 0)[:, None, :, None].expand(-1, kernel_width, -1, columns)
        x = taps(columns, kernel_width, 1)[None, :, None, :].expand(kernel_height, -1, rows, -1)
        shifts = offset.reshape(count * self.deform_groups, kernel, 2, rows, columns)
        y = shifts[:, :, 0] + y.reshape(kernel, rows, columns)
        x = shifts[:, :, 1] + x.reshape(kernel, rows, columns)
        # At a pixel center, where new layers start, the gradient is that of the following interval. Rounding must not
        # move a position to the preceding interval, so the map is padded to powers of two, by which division is exact.
        full_height, full_width = (1 << (size - 1).bit_length() for size in (height, width))
        planes = features.reshape(count * self.deform_groups, -1, height, width)
        planes = F.pad(planes, (0, full_width - width, 0, full_height - height))
        # At -1, one pixel before the map, the gradient is zero.
        y, x = F.threshold(y, -1, -2), F.threshold(x, -1, -2)
        # grid_sample expects -1 and 1 at the outer edges of the first and last pixels.
        grid = torch.stack(((2 * x + 1) / full_width - 1, (2 * y + 1) / full_height - 1), -1).flatten(1, 2)
        sampled = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
        sampled = sampled.view(count, self.deform_groups, -1, kernel, rows, columns)
        if mask is not None:
            mask = mask.flatten(1)[:, : self.deform_groups * kernel * rows * columns]
            sampled = sampled * mask.reshape(count, self.deform_groups, 1, kernel, rows, columns)
        sampled = sampled.reshape(count, self.groups, channels // self.groups * kernel, rows * columns)
        output = weight.reshape(self.groups, out_channels // self.groups, -1) @ sampled
        return output.reshape(count, out_channels, rows, columns)


def _convolution(settings: dict[str, int]) -> _Convolution:
    """Builds the convolution from the keyword arguments of mmcv's functions. Other arguments are ignored."""
    if "kernel_h" in settings:
        names = (("stride_h", "stride_w"), ("pad_h", "pad_w"), ("dilation_h", "dilation_w"))
    else:
        names = (("dH", "dW"), ("padH", "padW"), ("dilationH", "dilationW"))
    stride, padding, dilation = ((settings[vertical], settings[horizontal]) for vertical, horizontal in names)
    return _Convolution(stride, padding, dilation, settings["group"], settings["deformable_group"])


def _deform_conv(input: Tensor, offset: Tensor, weight: Tensor, **settings: int) -> Tensor:
    return _convolution(settings).apply(input, offset, weight)


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
    """Adds `scale` times the gradient with respect to the weight to `grad_weight`."""
    weight = torch.zeros_like(grad_weight)  # the convolution is linear in its weight
    (gradient,) = gradients(lambda weight: _deform_conv(input, offset, weight, **settings), (weight,), grad_output)
    grad_weight.add_(gradient, alpha=scale)


def _modulated_deform_conv(
    input: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor, with_bias: bool, **settings: int
) -> Tensor:
    output = _convolution(settings).apply(input, offset, weight, mask)
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
    """Computes deformable attention over the levels of a pyramid and returns (N, queries, heads * channels).

    Args:
        value: (N, pixels of all levels, heads, channels).
        value_spatial_shapes: (levels, 2): height and width.
        value_level_start_index: The first pixel of each level, (levels,).
        sampling_locations: (N, queries, heads, levels, points, 2): x and y from 0 to 1.
        attention_weights: (N, queries, heads, levels, points).
        im2col_step: Ignored.
    """
    count, _, heads, channels = value.shape
    queries, levels, points = (sampling_locations.size(dim) for dim in (1, 3, 4))
    shapes, starts = value_spatial_shapes.tolist(), value_level_start_index.tolist()
    # (levels, N * heads, queries, points, 2)
    grids = (2 * sampling_locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)
    sampled = []
    for grid, (height, width), start in zip(grids, shapes, starts, strict=True):
        plane = value[:, start : start + height * width].permute(0, 2, 3, 1).reshape(-1, channels, height, width)
        sampled.append(F.grid_sample(plane, grid, padding_mode="zeros", align_corners=False))
    weights = attention_weights.permute(0, 2, 1, 3, 4).reshape(count * heads, 1, queries, levels * points)
    attended = (torch.stack(sampled, -2).flatten(-2) * weights).sum(-1)
    return attended.view(count, heads * channels, queries).transpose(1, 2)


_, ms_deform_attn_backward = operators(
    ms_deform_attn_forward,
    forward="value value_spatial_shapes value_level_start_index sampling_locations attention_weights",
    backward="value value_spatial_shapes value_level_start_index sampling_locations attention_weights grad_output "
    "grad_value grad_sampling_locations grad_attention_weights",
)

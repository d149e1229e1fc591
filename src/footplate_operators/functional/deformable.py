"""Deformable convolution and attention. See `footplate_operators.deformable`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from footplate_operators import deformable
from footplate_operators.registration import filling_operator, operator
from footplate_operators.sizes import pair


def _convolved(
    input: Tensor, offset: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]
) -> Tensor:
    """Returns an output for a convolution, of shape (N, O, rows, columns)."""
    sizes = [
        (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, gap in zip(
            input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return input.new_empty(input.size(0), weight.size(0), *sizes)


def _settings(
    weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int, deform_groups: int
) -> dict[str, Any]:
    """Returns the keyword arguments of mmcv's deformable convolution."""
    values = {"k": weight.shape[2:], "d": stride, "pad": padding, "dilation": dilation}
    sides = {name + side: value[axis] for name, value in values.items() for axis, side in enumerate("HW")}
    return {**sides, "group": groups, "deformable_group": deform_groups, "im2col_step": 1}


@filling_operator(batched="input offset")
def _deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Iterator[Tensor]:
    output = _convolved(input, offset, weight, stride, padding, dilation)
    yield output
    settings = _settings(weight, stride, padding, dilation, groups, deform_groups)
    empty = input.new_empty(0)
    deformable.deform_conv_forward(input, weight, offset, output, empty, empty, **settings)


@filling_operator()
def _deform_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    grads = torch.zeros_like(input), torch.zeros_like(offset), torch.zeros_like(weight)
    yield grads
    settings = _settings(weight, stride, padding, dilation, groups, deform_groups)
    empty = input.new_empty(0)
    deformable.deform_conv_backward_input(input, offset, grad_output, grads[0], grads[1], weight, empty, **settings)
    deformable.deform_conv_backward_parameters(input, offset, grad_output, grads[2], empty, empty, 1.0, **settings)


_deform_conv2d.differentiate(_deform_conv2d_backward, outputs="output", inputs="input offset weight")


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    deform_groups: int = 1,
    bias: bool = False,
    im2col_step: int = 32,
) -> Tensor:
    """Applies a deformable convolution. It runs in the dtype of `offset`.

    Args:
        input: The features, of shape (N, C, H, W).
        offset: Offsets in pixels, y before x, of shape (N, deform_groups * kernel size * 2, rows, columns).
        weight: The weight, of shape (O, C / groups, kernel height, kernel width).
        stride: The stride.
        padding: The padding with zeros.
        dilation: The dilation of the kernel.
        groups: The number of groups of channels that are convolved separately.
        deform_groups: The number of groups of channels with offsets of their own.
        bias: Must be False.
        im2col_step: Ignored.

    Returns:
        A tensor of shape (N, O, rows, columns).

    Raises:
        ValueError: `bias` is True.
    """
    if bias:
        raise ValueError("deform_conv2d does not support a bias. Set `bias=False`, and add the bias to the result.")
    sizes = [*pair(stride)], [*pair(padding)], [*pair(dilation)]
    return _deform_conv2d(input.type_as(offset), offset, weight.type_as(offset), *sizes, groups, deform_groups)


def _modulated_settings(
    weight: Tensor,
    bias: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> dict[str, Any]:
    """Returns the keyword arguments of mmcv's modulated deformable convolution."""
    values = {"kernel": weight.shape[2:], "stride": stride, "pad": padding, "dilation": dilation}
    sides = {f"{name}_{side}": value[axis] for name, value in values.items() for axis, side in enumerate("hw")}
    return {**sides, "group": groups, "deformable_group": deform_groups, "with_bias": bias.numel() > 0}


@filling_operator(batched="input offset mask")
def _modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Iterator[Tensor]:
    output = _convolved(input, offset, weight, stride, padding, dilation)
    yield output
    settings = _modulated_settings(weight, bias, stride, padding, dilation, groups, deform_groups)
    empty = input.new_empty(0)
    deformable.modulated_deform_conv_forward(input, weight, bias, empty, offset, mask, output, empty, **settings)


@filling_operator()
def _modulated_deform_conv2d_backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]:
    grads = (
        torch.zeros_like(input),
        torch.zeros_like(offset),
        torch.zeros_like(mask),
        torch.zeros_like(weight),
        torch.zeros_like(bias),
    )
    yield grads
    settings = _modulated_settings(weight, bias, stride, padding, dilation, groups, deform_groups)
    empty = input.new_empty(0)
    grad_input, grad_offset, grad_mask, grad_weight, grad_bias = grads
    deformable.modulated_deform_conv_backward(
        *(input, weight, bias, empty, offset, mask, empty),
        *(grad_input, grad_weight, grad_bias, grad_offset, grad_mask, grad_output),
        **settings,
    )


_modulated_deform_conv2d.differentiate(
    _modulated_deform_conv2d_backward, outputs="output", inputs="input offset mask weight bias"
)


def modulated_deform_conv2d(
    input: Tensor,
    offset: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Applies a modulated deformable convolution. It runs in the dtype of `offset`.

    Args:
        input: The features, of shape (N, C, H, W).
        offset: Offsets in pixels, y before x, of shape (N, deform_groups * kernel size * 2, rows, columns).
        mask: Factors for the sampled values, of shape (N, deform_groups * kernel size, rows, columns).
        weight: The weight, of shape (O, C / groups, kernel height, kernel width).
        bias: The bias, of shape (O,).
        stride: The stride.
        padding: The padding with zeros.
        dilation: The dilation of the kernel.
        groups: The number of groups of channels that are convolved separately.
        deform_groups: The number of groups of channels with offsets and masks of their own.

    Returns:
        A tensor of shape (N, O, rows, columns).
    """
    bias = offset.new_empty(0) if bias is None else bias.type_as(offset)
    tensors = input.type_as(offset), offset, mask.type_as(offset), weight.type_as(offset), bias
    sizes = [*pair(stride)], [*pair(padding)], [*pair(dilation)]
    return _modulated_deform_conv2d(*tensors, *sizes, groups, deform_groups)


def _attended(value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, *_: Any) -> Tensor:
    return value.new_empty(value.size(0), locations.size(1), value.size(2) * value.size(3))


@operator(_attended, batched="value sampling_locations attention_weights")
def _ms_deform_attn(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    return deformable.ms_deform_attn_forward(
        value, value_spatial_shapes, value_level_start_index, sampling_locations, attention_weights, im2col_step=1
    )


@filling_operator(batched="grad_output value sampling_locations attention_weights")
def _ms_deform_attn_backward(
    grad_output: Tensor,
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    grads = torch.zeros_like(value), torch.zeros_like(sampling_locations), torch.zeros_like(attention_weights)
    yield grads
    levels = value_spatial_shapes, value_level_start_index
    deformable.ms_deform_attn_backward(
        value, *levels, sampling_locations, attention_weights, grad_output, *grads, im2col_step=1
    )


_ms_deform_attn.differentiate(
    _ms_deform_attn_backward, outputs="output", inputs="value sampling_locations attention_weights"
)


def multi_scale_deformable_attn(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """Computes deformable attention over a feature pyramid. It runs in the dtype of `value`.

    The arguments are those of mmcv's `MultiScaleDeformableAttnFunction.apply`.

    Args:
        value: Values of shape (N, pixels of all levels, heads, channels).
        value_spatial_shapes: The height and width of each level, of shape (levels, 2).
        value_level_start_index: The index of each level's first pixel, of shape (levels,).
        sampling_locations: The x and y coordinates from 0 to 1, of shape (N, queries, heads, levels, points, 2).
        attention_weights: Weights of shape (N, queries, heads, levels, points).
        im2col_step: Ignored.

    Returns:
        A tensor of shape (N, queries, heads * channels).
    """
    return _ms_deform_attn(
        value,
        value_spatial_shapes,
        value_level_start_index,
        sampling_locations.type_as(value),
        attention_weights.type_as(value),
    )


def multi_scale_deformable_attn_pytorch(
    value: Tensor, value_spatial_shapes: Tensor, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Like `multi_scale_deformable_attn`, but computes the index of each level's first pixel."""
    ends = value_spatial_shapes.prod(1).cumsum(0)
    starts = torch.cat((ends.new_zeros(1), ends[:-1]))
    return multi_scale_deformable_attn(value, value_spatial_shapes, starts, sampling_locations, attention_weights)

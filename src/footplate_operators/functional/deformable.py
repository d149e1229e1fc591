"""Deformable convolution and attention. See `footplate_operators.deformable`."""

from functools import partial
from typing import Any

from torch import Tensor

from footplate_operators import deformable
from footplate_operators.registration import filling_operator, operator
from footplate_operators.sizes import pair


def _convolved(input: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int]) -> Tensor:
    """Returns an output for a convolution, of shape (N, O, rows, columns)."""
    sizes = [
        (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, gap in zip(
            input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return input.new_empty(input.size(0), weight.size(0), *sizes)


def _settings(weight: Tensor, bias: Tensor, *settings: Any) -> dict[str, Any]:
    """Returns the keyword arguments of mmcv's modulated deformable convolution."""
    *sizes, groups, deform_groups = settings
    values = zip(("kernel", "stride", "pad", "dilation"), (weight.shape[2:], *sizes), strict=True)
    sides = {f"{name}_{side}": length for name, value in values for side, length in zip("hw", value, strict=True)}
    return {**sides, "group": groups, "deformable_group": deform_groups, "with_bias": bias.numel() > 0}


def _convolve(
    input: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor | None, output: Tensor, *settings: Any
) -> None:
    empty, named = input.new_empty(0), _settings(weight, bias, *settings)
    deformable.modulated_deform_conv_forward(input, weight, bias, empty, offset, mask, output, empty, **named)


def _convolve_backward(input: Tensor, weight: Tensor, bias: Tensor, *arguments: Any) -> None:
    offset, mask, *grads = arguments[:8]
    empty, named = input.new_empty(0), _settings(weight, bias, *arguments[8:])
    deformable.modulated_deform_conv_backward(input, weight, bias, empty, offset, mask, empty, *grads, **named)


def _deform_conv2d_forward(input: Tensor, weight: Tensor, offset: Tensor, *arguments: Any) -> None:
    _convolve(input, weight, input.new_empty(0), offset, None, *arguments)


def _deform_conv2d_backward(input: Tensor, weight: Tensor, offset: Tensor, *arguments: Any) -> None:
    empty, (grad_input, grad_weight, grad_offset, *others) = input.new_empty(0), arguments
    grads = grad_input, grad_weight, empty, grad_offset, None
    _convolve_backward(input, weight, empty, offset, None, *grads, *others)


@filling_operator(
    _deform_conv2d_forward,
    "input weight offset output",
    _deform_conv2d_backward,
    "input weight offset grad_input grad_weight grad_offset grad_output",
    batched="input offset",
)
def _deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    deform_groups: int,
) -> Tensor:
    return _convolved(input, weight, stride, padding, dilation)


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


@filling_operator(
    _convolve,
    "input weight bias offset mask output",
    _convolve_backward,
    "input weight bias offset mask grad_input grad_weight grad_bias grad_offset grad_mask grad_output",
    batched="input offset mask",
)
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
) -> Tensor:
    return _convolved(input, weight, stride, padding, dilation)


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


_ms_deform_attn.fill_gradients(
    partial(deformable.ms_deform_attn_backward, im2col_step=1),
    "value value_spatial_shapes value_level_start_index sampling_locations attention_weights "
    "grad_output grad_value grad_sampling_locations grad_attention_weights",
    outputs="output",
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
    sizes = value_spatial_shapes.prod(1)
    starts = sizes.cumsum(0) - sizes
    return multi_scale_deformable_attn(value, value_spatial_shapes, starts, sampling_locations, attention_weights)

"""Deformable convolution, modulated deformable convolution and multi-scale deformable attention.

Sources: Dai et al., Deformable Convolutional Networks (2017); Zhu et al., Deformable ConvNets v2 (2019) and
Deformable DETR (2021).
"""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from footplate_operators.sampling import (
    RowGradient,
    blocks,
    padded_corners,
    pixel_rows,
    weight_gradient,
    weighted_rows,
)


class _Columns(NamedTuple):
    """What a deformable convolution samples for some output pixels of a sample.

    Attributes:
        sample: The index of the sample.
        pixels: The slice of the output pixels, of which there are P.
        inputs: The offsets, of shape (deform_groups, kernel, 2, P), y before x, and the mask, of shape (deform_groups,
            kernel, P), if there is one. Both require gradients.
        rows: The rows of the features, of shape (P * kernel * deform_groups, 4).
        weights: Their weights, of the same shape.
    """

    sample: int
    pixels: slice
    inputs: list[Tensor]
    rows: Tensor
    weights: Tensor


def _of_sample(tensor: Tensor, sample: int, *shape: int) -> Tensor:
    """Views the first values of a sample.

    DyHead passes offsets for a larger map. The compiled operators then use the first values of each sample.
    """
    return tensor.flatten(1)[sample, : torch.Size(shape).numel()].view(shape)


def _columns(
    features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, grad: Tensor, settings: dict[str, int]
) -> Iterator[_Columns]:
    """Yields what a convolution samples, in blocks of output pixels.

    Args:
        features: Features of shape (N, C, H, W).
        offset: Offsets in pixels, y before x, of shape (N, deform_groups * kernel * 2, rows, columns).
        weight: Weights of shape (O, C / groups, kernel height, kernel width).
        mask: A mask of shape (N, deform_groups * kernel, rows, columns), or None.
        grad: The output or its gradient, of shape (N, O, rows, columns).
        settings: The other keyword arguments of mmcv's functions.
    """
    is_modulated = "kernel_h" in settings  # mmcv's two functions use different argument names
    names, sides = ("stride_ pad_ dilation_", "hw") if is_modulated else ("d pad dilation", "HW")
    deform_groups, kernel, size = settings["deformable_group"], weight[0, 0].numel(), grad[0, 0].numel()
    taps, starts = [], []
    for side, length, kernel_size in zip(sides, grad.shape[2:], weight.shape[2:], strict=True):
        stride, padding, dilation = (settings[name + side] for name in names.split())
        taps.append(torch.arange(kernel_size, device=offset.device) * dilation)
        starts.append(torch.arange(length, device=offset.device) * stride - padding)
    tap = torch.stack(torch.meshgrid(*taps, indexing="ij")).flatten(1)  # (2, kernel)
    start = torch.stack(torch.meshgrid(*starts, indexing="ij")).flatten(1)  # (2, P)
    group = torch.arange(deform_groups, device=offset.device, dtype=torch.int32)[:, None]
    work = 4 * kernel * features.size(1) * size * features.element_size()
    for sample in range(len(features)):
        offsets = _of_sample(offset, sample, deform_groups, kernel, 2, size)
        factors = None if mask is None else _of_sample(mask, sample, deform_groups, kernel, size)
        for pixels in blocks(size, features, offset, weight, grad, work=work):
            inputs = [each[..., pixels].detach().requires_grad_() for each in (offsets, factors) if each is not None]
            with torch.enable_grad():
                place = (tap.T[:, :, None] + start[:, pixels] + inputs[0]).permute(3, 1, 0, 2)  # (P, kernel, groups, 2)
                # At -1, which is one pixel outside the map, the gradient is zero.
                place = torch.where(place <= -1, -2, place)
                rows, weights = padded_corners(place.unbind(-1), features.shape[2:])
                if mask is not None:
                    weights = weights * inputs[1].permute(2, 1, 0)[..., None]
                weights = weights.flatten(0, 2)
            rows = (rows * deform_groups + group).flatten(0, 2)
            yield _Columns(sample, pixels, inputs, rows, weights)


def _convolve(
    features: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, output: Tensor, settings: dict[str, int]
) -> None:
    """Writes the result of a deformable convolution to `output`; see `_columns`."""
    groups, kernel = settings["group"], weight[0, 0].numel()
    filters = weight.reshape(groups, len(weight) // groups, -1)
    results = output.view(len(output), groups, len(weight) // groups, -1)
    sample, rows = -1, features
    for columns in _columns(features, offset, weight, mask, output, settings):
        if columns.sample != sample:
            sample = columns.sample
            rows = pixel_rows(features[sample, None]).view(-1, features.size(1) // settings["deformable_group"])
        sampled = _sampled(rows, columns, groups, kernel)
        results[sample, :, :, columns.pixels] = filters @ sampled.mT


def _sampled(rows: Tensor, columns: _Columns, groups: int, kernel: int) -> Tensor:
    """Returns the sampled inputs of the filters, of shape (groups, P, C / groups * kernel)."""
    sampled = weighted_rows(rows, columns.rows, columns.weights.detach())
    sampled = sampled.view(columns.pixels.stop - columns.pixels.start, kernel, groups, -1)
    return sampled.permute(2, 0, 3, 1).flatten(2)


def _convolve_backward(
    features: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    grad_output: Tensor,
    settings: dict[str, int],
    *,
    grad_weight: Tensor | None,
    grad_features: Tensor | None = None,
    grad_inputs: tuple[Tensor, ...] = (),
    scale: float = 1,
) -> None:
    """Computes the gradients of `_convolve`.

    Adds the gradient with respect to the weight, multiplied by `scale`, to `grad_weight`. Unless `grad_features` is
    None, writes the gradients with respect to the features, and with respect to the offset and the mask to
    `grad_inputs`.
    """
    groups, kernel = settings["group"], weight[0, 0].numel()
    deform_groups, (channels, height, width) = settings["deformable_group"], features.shape[1:]
    filters = weight.reshape(groups, len(weight) // groups, -1)
    grads = grad_output.reshape(len(features), groups, len(weight) // groups, -1)
    for grad_input in grad_inputs:
        grad_input.zero_()
    # A view of the gradient, or a copy if its memory is not contiguous.
    grad_filters = filters if grad_weight is None else grad_weight.reshape(filters.shape)
    sample, rows, grad_rows = -1, features, features
    for columns in _columns(features, offset, weight, mask, grad_output, settings):
        if columns.sample != sample:
            sample = columns.sample
            rows = pixel_rows(features[sample, None]).view(-1, channels // deform_groups)
            grad_rows = torch.zeros_like(rows)
        grad = grads[sample, :, :, columns.pixels]
        if grad_weight is not None:
            grad_filters.baddbmm_(grad, _sampled(rows, columns, groups, kernel), alpha=scale)
        if grad_features is None:
            continue
        grad_sampled = (grad.mT @ filters).unflatten(2, (-1, kernel)).permute(1, 3, 0, 2)  # type: ignore[no-untyped-call]
        grad_sampled = grad_sampled.reshape(-1, channels // deform_groups)
        weights = columns.weights.detach().to(rows.dtype)
        grad_rows += RowGradient(columns.rows, weights, len(rows))(grad_sampled)
        if columns.pixels.stop == grads.size(3):
            grad_features[sample] = grad_rows.view(height, width, channels).permute(2, 0, 1)
        grad_weights = weight_gradient(grad_sampled, rows, columns.rows).to(columns.weights.dtype)
        found = torch.autograd.grad(columns.weights, columns.inputs, grad_weights)
        for whole, part in zip(grad_inputs, found, strict=True):
            _of_sample(whole, sample, *part.shape[:-1], grads.size(3))[..., columns.pixels] = part
    if grad_weight is not None:
        grad_weight.copy_(grad_filters.view_as(grad_weight))


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **settings: int
) -> None:
    """Writes the result of a deformable convolution to `output`. Ignores `columns` and `ones`."""
    _convolve(input, offset, weight, None, output, settings)


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **settings: int,
) -> None:
    """Writes the gradients with respect to the input and the offset to `grad_input` and `grad_offset`."""
    _convolve_backward(
        *(input, offset, weight, None, grad_output, settings),
        grad_weight=None,
        grad_features=grad_input,
        grad_inputs=(grad_offset,),
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
    _convolve_backward(input, offset, grad_weight, None, grad_output, settings, grad_weight=grad_weight, scale=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **settings: int,
) -> None:
    """Writes the result of a modulated deformable convolution to `output`. Ignores `ones`, `columns`."""
    _convolve(input, offset, weight, mask, output, settings)
    if with_bias:
        output += bias[:, None, None]


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor | None,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **settings: int,
) -> None:
    """Writes the gradients of a modulated deformable convolution. Ignores `ones` and `columns`."""
    _convolve_backward(
        *(input, offset, weight, mask, grad_output, settings),
        grad_weight=grad_weight.zero_(),
        grad_features=grad_input,
        grad_inputs=(grad_offset,) if grad_mask is None else (grad_offset, grad_mask),
    )
    if grad_bias.numel():
        grad_bias.copy_(grad_output.sum((0, 2, 3)) if with_bias else torch.zeros_like(grad_bias))


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
    value_spatial_shapes = _known_sizes(value_spatial_shapes, sampling_locations)
    sampling_locations, attention_weights = _known_levels(
        len(value_spatial_shapes), sampling_locations, attention_weights
    )
    return _Attention.apply(  # type: ignore[no-any-return, no-untyped-call]
        value, value_spatial_shapes, value_level_start_index, sampling_locations, attention_weights
    )


def _known_levels(levels: int, *tensors: Tensor) -> list[Tensor]:
    """Views the first values in memory of locations, weights or gradients as those of the first levels."""
    if tensors[0].size(3) == levels:
        return [*tensors]
    return [
        tensor.flatten()[: tensor[:, :, :, :levels].numel()].view(*tensor.shape[:3], levels, *tensor.shape[4:])
        for tensor in tensors
    ]


def _known_sizes(shapes: Tensor, locations: Tensor) -> Tensor:
    """Returns the sizes of the levels. Warns if they or the locations are of another kind of input."""
    (levels, sizes), dimensions = shapes.shape, locations.size(-1)
    if locations.size(3) > levels:
        warnings.warn(
            f"the attention has {locations.size(3)} levels, but its input has {levels}: like the compiled "
            "operator, footplate uses the first values in memory",
            stacklevel=3,
        )
    elif locations.size(3) < levels:
        raise ValueError(f"the input has {levels} levels, which is longer than the attention's {locations.size(3)}")
    if sizes > dimensions:
        warnings.warn(
            f"the attention has {dimensions} coordinates, but its input has {sizes} sizes for "
            "each level: like the compiled operator, footplate uses the first sizes in memory",
            stacklevel=3,
        )
        shapes = shapes.flatten()[: levels * dimensions].view(levels, dimensions)
    return shapes


def _attended_rows(shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the rows of the values that queries attend to, and their weights.

    Args:
        shapes: The size of each level, of shape (levels, 2 or 3).
        starts: The index of each level's first row, of shape (levels,).
        locations: The locations for a head, of shape (queries, levels, points, 2 or 3).
        weights: The attention weights for a head, of shape (queries, levels, points).

    Returns:
        Two tensors of shape (queries, samples).
    """
    sizes = shapes.to(locations.device)[:, None].unbind(-1)
    # The coordinates are those along the width and the height (and the depth), that is, along the sizes 1 and 0
    # (and 2) of a level.
    places = [locations[..., axis] * size - 0.5 for axis, size in zip((1, 0, 2), sizes, strict=False)]
    indices, factors = padded_corners(places, sizes)
    indices = indices + starts.to(locations.device)[:, None, None]
    return indices.int().flatten(1), (factors * weights[..., None]).flatten(1)


class _Attention(torch.autograd.Function):
    """Multi-scale deformable attention that keeps nothing for the backward pass except its inputs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, shapes, starts, locations, weights)
        count, _, heads, channels = value.shape
        output = value.new_empty(count, locations.size(1), heads, channels)
        for sample, head in itertools.product(range(count), range(heads)):
            rows = value[sample, :, head].contiguous()
            for queries in _query_blocks(locations, value, locations, weights, output):
                where = sample, queries, head
                output[where] = weighted_rows(rows, *_attended_rows(shapes, starts, locations[where], weights[where]))
        return output.flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        value, shapes, starts, locations, weights = ctx.saved_tensors
        gradients = [torch.empty_like(each) for each in (value, locations, weights)]
        _attend_backward(value, shapes, starts, locations, weights, grad_output, *gradients)
        return gradients[0], None, None, gradients[1], gradients[2]


def _query_blocks(locations: Tensor, *arguments: Tensor) -> Iterator[slice]:
    samples = locations[0, :, 0, ..., 0].numel() * 2 ** locations.size(-1)  # of a head
    return blocks(locations.size(1), *arguments, work=samples * 64)


def _attend_backward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
) -> None:
    """Writes the gradients of `ms_deform_attn_forward` with respect to the values, locations and weights."""
    count, _, heads, channels = value.shape
    grad_output = grad_output.unflatten(2, (heads, channels))  # type: ignore[no-untyped-call]
    arguments = value, locations, weights, grad_output, *(grad_value, grad_locations, grad_weights)
    for sample, head in itertools.product(range(count), range(heads)):
        rows = value[sample, :, head].contiguous()
        grad_rows = torch.zeros_like(rows)
        for queries in _query_blocks(locations, *arguments):
            where = sample, queries, head
            grad = grad_output[where].contiguous()
            with torch.enable_grad():
                leaves = [each[where].detach().requires_grad_() for each in (locations, weights)]
                indices, factors = _attended_rows(shapes, starts, *leaves)
            found = torch.autograd.grad(factors, leaves, weight_gradient(grad, rows, indices).to(factors.dtype))
            for whole, part in zip((grad_locations, grad_weights), found, strict=True):
                whole[where] = part
            factors = factors.detach().to(rows.dtype)
            grad_rows += RowGradient(indices, factors, len(rows))(grad)
        grad_value[sample, :, head] = grad_rows


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_locations: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Writes the gradients with respect to the values, locations and weights to the tensors of these names."""
    shapes = _known_sizes(value_spatial_shapes, sampling_locations)
    levels = len(shapes)
    locations, weights = _known_levels(levels, sampling_locations, attention_weights)
    gradients = _known_levels(levels, grad_sampling_locations.zero_(), grad_attn_weight.zero_())
    _attend_backward(value, shapes, value_level_start_index, locations, weights, grad_output, grad_value, *gradients)

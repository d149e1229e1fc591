"""Bilinear sampling and autograd helpers for the other operators."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_BLOCK = 1 << 21  # in bytes; smaller blocks of work take longer


def blocks(size: int, *arguments: Tensor, work: int | None = None) -> Iterator[slice]:
    """Yields slices of a dimension, so that the work on each slice needs at most a quarter of the arguments' memory.

    Args:
        size: The length of the dimension.
        arguments: The inputs, outputs and gradients.
        work: The memory that the work on the whole dimension needs, in bytes; by default, 8 times that of the
            arguments.
    """
    memory = sum(tensor.numel() * tensor.element_size() for tensor in arguments)
    work = 8 * memory if work is None else work
    step = max(1, size * max(_SMALLEST_BLOCK, memory // 4) // max(1, work))
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


class Corners(NamedTuple):
    """The four pixels around each sampling point, and their weights.

    Attributes:
        indices: Positions in the flattened `(H * W)` map, as an int32 tensor of shape (..., 4).
        weights: Bilinear weights of shape (..., 4). They are zero for points more than one pixel outside the map.
    """

    indices: Tensor
    weights: Tensor


def bilinear_corners(y: Tensor, x: Tensor, height: int, width: int) -> Corners:
    """Returns the pixels and weights for bilinear sampling at `(y, x)`.

    Points up to one pixel outside the map get the border value. Points farther away get zero.

    Args:
        y: Vertical coordinates in pixels, of any shape. 0 is the center of the first row.
        x: Horizontal coordinates in pixels, of the same shape as `y`.
        height: The height of the map.
        width: The width of the map.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor().int(), x.floor().int()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = y - top, x - left
    indices = [top * width + left, top * width + right, bottom * width + left, bottom * width + right]
    weights = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
    return Corners(torch.stack(indices, -1), torch.stack(weights, -1) * inside[..., None])


def padded_corners(coordinates: Sequence[Tensor], sizes: Sequence[int | Tensor]) -> Corners:
    """Returns the pixels and weights for linear sampling of a map that is surrounded by zeros.

    Unlike with `bilinear_corners`, a point between a pixel of the border and the outside gets a share of the pixel.

    Args:
        coordinates: The coordinates in pixels, one tensor for each dimension of the map, all of the same shape.
        sizes: The size of the map along each dimension, or tensors that broadcast against the coordinates.

    Returns:
        Indices and weights of shape (..., 2 ** dimensions).
    """
    indices, weights = [torch.zeros_like(coordinates[0], dtype=torch.int32)], [torch.ones_like(coordinates[0])]
    for coordinate, size in zip(coordinates, sizes, strict=True):
        low = coordinate.detach().floor()
        share = coordinate - low
        low = low.nan_to_num().float().clamp(-2, 1 << 24).int()  # half cannot represent the limit
        sides = []
        for side, factor in ((low, 1 - share), (low + 1, share)):
            inside = (side >= 0) & (side < size)
            sides.append((torch.where(inside, side, 0), torch.where(inside, factor, 0)))
        indices = [index * size + side for index in indices for side, _ in sides]
        weights = [weight * factor for weight in weights for _, factor in sides]
    return Corners(torch.stack(indices, -1), torch.stack(weights, -1))


def pixel_rows(features: Tensor) -> Tensor:
    """Reshapes a feature map from shape (N, C, H, W) to (N * H * W, C), with one row per pixel."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.size(1)).contiguous()


def weighted_rows(rows: Tensor, indices: Tensor, weights: Tensor, starts: Tensor | None = None) -> Tensor:
    """Returns weighted sums of selected rows without copying the rows.

    Args:
        rows: Rows of shape (R, C).
        indices: The row indices for each sum, of shape (n, s). If `starts` is set, the concatenated row indices for all
            sums, of shape (total,).
        weights: The weight of each selected row, with the same shape as `indices`.
        starts: The position in `indices` where each sum starts, of shape (n,), for sums with different numbers of rows.

    Returns:
        The sums, of shape (n, C). Empty sums are zero.
    """
    if indices.numel() == 0:
        count = len(indices) if starts is None else len(starts)
        return rows.new_zeros(count, rows.size(1)) + rows.sum() * 0
    weights = weights.to(rows.dtype)
    return F.embedding_bag(indices, rows, starts, mode="sum", per_sample_weights=weights)


class RowGradient:
    """Computes the gradient of `weighted_rows` with respect to the rows, for sums with the same indices and weights.

    The gradient of a row is the weighted sum of the gradients of the sums that it is part of. To compute it as such,
    the selected rows are sorted once.

    Args:
        indices: The row indices for all sums, of shape (m, s).
        weights: The weights, of shape (m, s).
        count: The number of rows.
        sums: The sum that each row of `indices` belongs to, of shape (m,), if they are not n sums.
    """

    def __init__(self, indices: Tensor, weights: Tensor, count: int, sums: Tensor | None = None) -> None:
        rows, order = indices.flatten().sort(stable=True)
        self.starts = torch.searchsorted(rows, torch.arange(count, dtype=rows.dtype, device=rows.device)).to(rows.dtype)
        self.weights = weights.flatten()[order]
        order.div_(indices.size(-1), rounding_mode="floor")
        self.sums = (order if sums is None else sums[order]).to(rows.dtype)

    def __call__(self, grad: Tensor) -> Tensor:
        """Returns the gradient, of shape (count, C), for the sums' gradient, of shape (n, C)."""
        return weighted_rows(grad, self.sums, self.weights, self.starts)


def weight_gradient(grad: Tensor, rows: Tensor, indices: Tensor, starts: Tensor | None = None) -> Tensor:
    """Returns the gradient of `weighted_rows` with respect to the weights, given the sums' gradient."""
    weights = rows.new_zeros(indices.shape)  # the sums are linear in the weights
    return gradients(lambda weights: weighted_rows(rows, indices, weights, starts), (weights,), grad)[0]


def positions(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the group and the index within the group for points that are sorted by group.

    Args:
        counts: The number of points in each group.

    Returns:
        The group of each point, the index of each point within its group, and the first point of each group.
    """
    starts = counts.cumsum(0) - counts
    group = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return group, torch.arange(len(group), device=counts.device) - starts[group], starts


def largest_rows(rows: Tensor, indices: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the largest value of each column in groups of rows, and the row of its first occurrence in the group.

    Args:
        rows: Rows of shape (R, C).
        indices: The concatenated row indices of all groups, of shape (total,).
        starts: The position in `indices` where each group starts, of shape (n,), with the dtype of `indices`.

    Returns:
        The values and the row indices, both of shape (n, C). Groups without rows have value 0 and index -1.
    """
    if indices.numel() == 0:
        return rows.new_zeros(len(starts), rows.size(1)), starts.new_full((len(starts), rows.size(1)), -1)
    largest, _, counts, first = torch.embedding_bag(rows, indices, starts, mode=2)  # the maximum
    return largest, first.masked_fill_(counts[:, None] == 0, -1)


def gradients(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad_output: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Returns the gradients of `(function(*inputs) * grad_output).sum()` with respect to all inputs."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    grad_output = torch.ones_like(output) if grad_output is None else grad_output.reshape(output.shape)
    return torch.autograd.grad(output, leaves, grad_output)


Operator = Callable[..., None]


def operators(
    function: Callable[..., Tensor],
    forward: str,
    backward: str,
    *,
    sliced: Mapping[str, int] | None = None,
    work: int = 8,
) -> tuple[Operator, Operator]:
    """Returns a forward and a backward operator with mmcv's signatures for a differentiable function.

    Args:
        function: The function that computes the output. It takes tensors whose names are in `forward`, followed by
            settings.
        forward: The names of the forward operator's tensors. The operator writes the result to `output`.
        backward: The names of the backward operator's tensors. `grad_output` is the gradient of the output; it is all
            ones if not listed. The operator writes the gradient with respect to each non-empty input `x` to
            `grad_x`. Inputs that are not listed are replaced with zeros, so the function must be linear in them.
        sliced: For tensors that can be divided into slices, of which the function is computed one by one: the
            dimension, by the name of the tensor.
        work: The memory that the function and its gradient need, divided by that of its arguments.
    """
    inputs = [name for name in inspect.signature(function).parameters if name in forward.split()]
    dims_of = sliced or {}

    def slices(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
        dims = {name: dims_of[key] for name in tensors if (key := name.removeprefix("grad_")) in dims_of}
        if not dims:
            yield tensors
            return
        memory = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        size = next(tensors[name].size(dim) for name, dim in dims.items())
        for block in blocks(size, *tensors.values(), work=work * memory):
            parts = {
                name: tensors[name].narrow(dim, block.start, block.stop - block.start) for name, dim in dims.items()
            }
            yield tensors | parts

    def run_forward(*arguments: Any, **settings: Any) -> None:
        tensors = dict(zip(forward.split(), arguments, strict=False))
        for parts in slices(tensors):
            output = function(*(parts[name] for name in inputs), *arguments[len(tensors) :], **settings)
            parts["output"].copy_(output.view_as(parts["output"]))

    def run_backward(*arguments: Any, **settings: Any) -> None:
        tensors = dict(zip(backward.split(), arguments, strict=False))
        wanted = [
            name for name in inputs if f"grad_{name}" in tensors and tensors.get(name, tensors[f"grad_{name}"]).numel()
        ]
        for name in wanted:
            tensors[f"grad_{name}"].zero_()
        for parts in slices(tensors):
            values = {
                name: parts[name] if name in parts else torch.zeros_like(parts[f"grad_{name}"]) for name in inputs
            }

            def output(*leaves: Tensor, values: dict[str, Tensor] = values) -> Tensor:
                replaced = {**values, **dict(zip(wanted, leaves, strict=True))}
                return function(*replaced.values(), *arguments[len(tensors) :], **settings)

            found = gradients(output, tuple(values[name] for name in wanted), parts.get("grad_output"))
            for name, gradient in zip(wanted, found, strict=True):
                parts[f"grad_{name}"].add_(gradient)

    for operator in (run_forward, run_backward):
        operator.__module__ = function.__module__
    return run_forward, run_backward

"""Bilinear sampling of feature maps, and gradients through autograd, on which the other operators build."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Corners(NamedTuple):
    """The four pixels around each sampling point.

    Attributes:
        indices: Positions in the flattened `(H * W)` map, (..., 4), int64.
        weights: Bilinear weights, (..., 4). They are zero for points more than one pixel outside the map.
    """

    indices: Tensor
    weights: Tensor


def bilinear_corners(y: Tensor, x: Tensor, height: int, width: int) -> Corners:
    """Returns the pixels and weights for sampling at `(y, x)`.

    A point up to one pixel outside the map takes the value at the border; farther points are zero.

    Args:
        y: Vertical coordinates in pixels, any shape; 0 is the center of the first row.
        x: Horizontal coordinates in pixels, of the same shape.
        height: The height of the map.
        width: The width of the map.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor().long(), x.floor().long()
    bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
    down, across = y - top, x - left
    indices = [top * width + left, top * width + right, bottom * width + left, bottom * width + right]
    weights = [(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across]
    return Corners(torch.stack(indices, -1), torch.stack(weights, -1) * inside[..., None])


def pixel_rows(features: Tensor) -> Tensor:
    """Reshapes a feature map (N, C, H, W) to one row per pixel, (N * H * W, C)."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.size(1))


def weighted_rows(rows: Tensor, indices: Tensor, weights: Tensor, starts: Tensor | None = None) -> Tensor:
    """Returns weighted sums of rows, without storing the rows that are summed.

    Args:
        rows: (R, C).
        indices: The rows of each sum, (n, s). With `starts`, (total,).
        weights: The weight of each row, in the shape of `indices`.
        starts: The position in `indices` at which each sum starts, (n,), for sums of different lengths.

    Returns:
        (n, C); a sum over nothing is zero.
    """
    if indices.numel() == 0:
        count = len(indices) if starts is None else len(starts)
        return rows.new_zeros(count, rows.size(1)) + rows.sum() * 0
    weights = weights.to(rows.dtype)
    return F.embedding_bag(indices, rows, starts, mode="sum", per_sample_weights=weights)


def gradients(function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad_output: Tensor) -> tuple[Tensor, ...]:
    """Returns the gradients of `(function(*inputs) * grad_output).sum()` with respect to all inputs."""
    leaves = [each.detach().requires_grad_() for each in inputs]
    with torch.enable_grad():
        output = function(*leaves)
    return torch.autograd.grad(output, leaves, grad_output)


def write_gradients(
    targets: tuple[Tensor, ...], function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad_output: Tensor
) -> None:
    """Writes the results of `gradients` to `targets`."""
    for target, gradient in zip(targets, gradients(function, inputs, grad_output), strict=True):
        target.copy_(gradient)


def adjoint(function: Callable[[Tensor], Tensor], like: Tensor, grad_output: Tensor) -> Tensor:
    """Returns the gradient of a linear function with respect to an input in the shape of `like`."""
    return gradients(function, (torch.zeros_like(like),), grad_output)[0]

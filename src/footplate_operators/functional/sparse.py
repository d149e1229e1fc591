"""Convolution and max pooling of sparse grids. See `footplate_operators.sparse`.

Only occupied cells are stored: features of shape (N, C), and positions of shape (N, 1 + D), int32, which consist of the
sample index and one coordinate per dimension.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from footplate_operators import sparse
from footplate_operators.registration import operator


def _cells_and_pairs(indices: Tensor, *settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, _, _, ksize, *_, subm, _ = settings
    number = indices.size(0) if subm else torch.library.get_ctx().new_dynamic_size()
    counts = indices.new_empty(math.prod(ksize), dtype=torch.int)
    return indices.new_empty(number, indices.size(1)), counts.new_empty(len(counts), 2, indices.size(0)), counts


@operator(_cells_and_pairs, dynamic=True)
def _get_indice_pairs(
    indices: Tensor,
    batch_size: int,
    out_shape: list[int],
    spatial_shape: list[int],
    ksize: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    out_padding: list[int],
    subm: bool,
    transpose: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    settings = ksize, stride, padding, dilation, out_padding
    cells, pairs, counts = sparse.get_indice_pairs_3d_forward(
        indices, batch_size, out_shape, spatial_shape, *settings, int(subm), int(transpose)
    )
    return cells.clone() if subm else cells, pairs, counts


def output_shape(
    spatial_shape: Sequence[int],
    ksize: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    out_padding: Sequence[int],
    subm: bool,
    transpose: bool,
) -> list[int]:
    """Returns the size of the output grid; see `get_indice_pairs`."""
    if subm:
        return list(spatial_shape)
    axes = list(zip(spatial_shape, ksize, stride, padding, dilation, out_padding, strict=True))
    if transpose:
        return [(size - 1) * step - 2 * pad + kernel + extra for size, kernel, step, pad, _, extra in axes]
    return [(size + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, gap, _ in axes]


def get_indice_pairs(
    indices: Tensor,
    batch_size: int,
    spatial_shape: Sequence[int],
    ksize: int | Sequence[int] = 3,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    out_padding: int | Sequence[int] = 0,
    subm: bool = False,
    transpose: bool = False,
    grid: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the output cells of a layer, and the pairs of input and output cells.

    Args:
        indices: The positions of the input cells.
        batch_size: The number of samples.
        spatial_shape: The size of the input grid.
        ksize: The kernel size.
        stride: The stride; ignored if `subm` is set.
        padding: The padding; ignored if `subm` is set.
        dilation: The dilation.
        out_padding: Additional size of the output grid of a transposed convolution.
        subm: Whether the output cells are the input cells, as in a submanifold convolution.
        transpose: Whether the convolution is transposed.
        grid: Ignored.

    Returns:
        The positions of the output cells; the rows of input and output cells for each position of the kernel, of shape
        (kernel size, 2, N), where unused entries are -1; and their number for each position of the kernel.
    """
    ksize, stride, padding, dilation, out_padding = (
        [value] * len(spatial_shape) if isinstance(value, int) else list(value)
        for value in (ksize, stride, padding, dilation, out_padding)
    )
    settings = ksize, stride, padding, dilation, out_padding, subm, transpose
    return _get_indice_pairs(
        indices, batch_size, output_shape(spatial_shape, *settings), list(spatial_shape), *settings
    )


@operator(lambda features, filters, pairs, counts, number, _: features.new_empty(number, filters.size(-1)))
def _indice_conv(
    features: Tensor, filters: Tensor, pairs: Tensor, counts: Tensor, number: int, inverse: bool
) -> Tensor:
    return sparse.indice_conv_forward(features, filters, pairs, counts, number, int(inverse), 0)


@operator(lambda grad, features, filters, *_: (torch.empty_like(features), torch.empty_like(filters)))
def _indice_conv_backward(
    grad_output: Tensor, features: Tensor, filters: Tensor, pairs: Tensor, counts: Tensor, inverse: bool
) -> tuple[Tensor, Tensor]:
    grads = sparse.indice_conv_backward(features, filters, grad_output, pairs, counts, int(inverse), 0)
    return grads[0], grads[1]


_indice_conv.differentiate(_indice_conv_backward, outputs="output", inputs="features filters")


def indice_conv(
    features: Tensor, filters: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_activate_out: int
) -> Tensor:
    """Applies a sparse convolution. It runs in the dtype of `features`.

    Args:
        features: The features of the input cells, of shape (N, C).
        filters: The weights, of shape (kernel size..., C, O).
        indice_pairs: The pairs that `get_indice_pairs` returns.
        indice_pair_num: Their numbers.
        num_activate_out: The number of output cells, M.

    Returns:
        The features of the output cells, of shape (M, O).
    """
    return _indice_conv(features, filters.type_as(features), indice_pairs, indice_pair_num, num_activate_out, False)


indice_subm_conv = indice_conv


def indice_inverse_conv(
    features: Tensor, filters: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_activate_out: int
) -> Tensor:
    """Like `indice_conv`, but exchanges input and output, to undo a strided convolution."""
    return _indice_conv(features, filters.type_as(features), indice_pairs, indice_pair_num, num_activate_out, True)


@operator(lambda features, pairs, counts, number: features.new_empty(number, features.size(1)))
def _indice_maxpool(features: Tensor, pairs: Tensor, counts: Tensor, number: int) -> Tensor:
    return sparse.indice_maxpool_forward(features, pairs, counts, number)


@operator(lambda grad_output, features, *_: torch.empty_like(features))
def _indice_maxpool_backward(
    grad_output: Tensor, features: Tensor, output: Tensor, pairs: Tensor, counts: Tensor
) -> Tensor:
    return sparse.indice_maxpool_backward(features, output, grad_output, pairs, counts)


_indice_maxpool.differentiate(_indice_maxpool_backward, outputs="output", inputs="features")


def indice_maxpool(features: Tensor, indice_pairs: Tensor, indice_pair_num: Tensor, num_activate_out: int) -> Tensor:
    """Returns the channel-wise maximum in the window of each output cell, or 0 if all values are negative.

    See `indice_conv` for the arguments.
    """
    return _indice_maxpool(features, indice_pairs, indice_pair_num, num_activate_out)

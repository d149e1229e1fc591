"""Convolution and max pooling of sparse grids.

Only occupied cells are stored: their features (N, C), and their positions (N, 1 + D), int32, which consist of the
index of the sample and one coordinate per dimension. For each of the K positions of a layer's kernel, `pairs`
(K, 2, N), int32, lists which input cell contributes to which output cell: the rows of the input cells in `pairs[k, 0]`,
and the rows of the output cells in `pairs[k, 1]`. -1 follows the last pair. `counts` (K,), int32, contains the number
of pairs for each position.

Source: Yan et al., SECOND: Sparsely Embedded Convolutional Detection (2018).
"""

import itertools
from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from footplate_operators.sampling import positions


def get_indice_pairs_3d_forward(
    indices: Tensor,
    batch_size: int,
    out_shape: Sequence[int],
    spatial_shape: Sequence[int],
    ksize: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    out_padding: Sequence[int],
    subm: int,
    transpose: int,
) -> list[Tensor]:
    """Finds the output cells of a layer, and the pairs of input and output cells.

    Args:
        indices: The positions of the input cells.
        batch_size: The number of samples.
        out_shape: The size of the output grid.
        spatial_shape: The size of the input grid.
        ksize: The kernel size.
        stride: The stride.
        padding: The padding.
        dilation: The dilation.
        out_padding: Ignored; `out_shape` already includes it.
        subm: Whether the output cells are the input cells, as in a submanifold convolution.
        transpose: Whether the convolution is transposed.

    Returns:
        The positions of the output cells, the pairs, and the counts.
    """
    device, number = indices.device, indices.size(0)
    if subm:
        stride, padding = [1] * len(ksize), [step * (size // 2) for step, size in zip(dilation, ksize, strict=True)]
    sizes, steps, border = (torch.tensor(list(each), device=device) for each in (out_shape, stride, padding))
    sample, cells = indices[:, 0].long(), indices[:, 1:].long()
    # Each cell of each sample has a number: positions are the digits, and the sizes of the grid are the base.
    weights = torch.tensor([prod(out_shape[k + 1 :]) for k in range(len(ksize))], device=device)
    targets = []  # the number of the output cell of each input cell, or -1, for each position of the kernel
    for position in itertools.product(*map(range, ksize)):
        shift = torch.tensor([place * step for place, step in zip(position, dilation, strict=True)], device=device)
        if transpose:
            place, valid = cells * steps - border + shift, torch.ones(number, dtype=torch.bool, device=device)
        else:
            place = cells + border - shift
            valid, place = (place % steps == 0).all(1), place.div(steps, rounding_mode="floor")
        valid &= ((place >= 0) & (place < sizes)).all(1)
        targets.append(torch.where(valid, sample * prod(out_shape) + (place * weights).sum(1), -1))
    numbers = torch.stack(targets)
    if subm:
        occupied, order = (sample * prod(out_shape) + (cells * weights).sum(1)).sort()
        found = indices
    else:
        occupied = torch.unique(numbers[numbers >= 0])
        order = torch.arange(len(occupied), device=device)
        rest = occupied[:, None] % prod(out_shape) // weights % sizes
        found = torch.cat([(occupied // prod(out_shape))[:, None], rest], 1).to(indices.dtype)
    rows = torch.searchsorted(occupied, numbers).clamp(max=len(occupied) - 1)
    hits = (numbers >= 0) & (occupied[rows] == numbers)
    counts = hits.sum(1)
    pairs = indices.new_full((len(numbers), 2, number), -1, dtype=torch.int32)
    kernel, cell = hits.nonzero(as_tuple=True)
    column = positions(counts)[1]
    pairs[kernel, 0, column] = cell.int()
    pairs[kernel, 1, column] = order[rows[kernel, cell]].int()
    return [found, pairs, counts.int()]


get_indice_pairs_2d_forward = get_indice_pairs_4d_forward = get_indice_pairs_3d_forward


def _pairs(pairs: Tensor, counts: Tensor, *, inverse: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields each kernel position that has pairs, with the rows of the input and output cells.

    If `inverse` is set, exchanges input and output.
    """
    for position, count in enumerate(counts.tolist()):
        if count:
            source, target = pairs[position, :, :count].long()
            yield (position, target, source) if inverse else (position, source, target)


def indice_conv_forward(
    features: Tensor, filters: Tensor, pairs: Tensor, counts: Tensor, num_out: int, inverse: int, subm: int
) -> Tensor:
    """Returns the features (M, C_out) of the output cells.

    Args:
        features: The features of the input cells, (N, C_in).
        filters: The weights, (kernel size..., C_in, C_out).
        pairs: The pairs of input and output cells.
        counts: The number of pairs for each position of the kernel.
        num_out: The number of output cells, M.
        inverse: Whether to exchange input and output, to undo a strided convolution.
        subm: Ignored.
    """
    kernels = filters.flatten(0, -3)
    out = features.new_zeros(num_out, filters.size(-1))
    for position, source, target in _pairs(pairs, counts, inverse=inverse):
        out.index_add_(0, target, features[source] @ kernels[position])
    return out


def fused_indice_conv_forward(
    features: Tensor,
    filters: Tensor,
    bias: Tensor,
    pairs: Tensor,
    counts: Tensor,
    num_out: int,
    inverse: int,
    subm: int,
) -> Tensor:
    """Returns the output of `indice_conv_forward` plus the bias (C_out,)."""
    return indice_conv_forward(features, filters, pairs, counts, num_out, inverse, subm) + bias


def indice_conv_backward(
    features: Tensor, filters: Tensor, out_grad: Tensor, pairs: Tensor, counts: Tensor, inverse: int, subm: int
) -> list[Tensor]:
    """Returns the gradients of the features and the filters."""
    kernels = filters.flatten(0, -3)
    grad, kernel_grads = torch.zeros_like(features), torch.zeros_like(kernels)
    for position, source, target in _pairs(pairs, counts, inverse=inverse):
        grad.index_add_(0, source, out_grad[target] @ kernels[position].T)
        kernel_grads[position] = features[source].T @ out_grad[target]
    return [grad, kernel_grads.view_as(filters)]


def indice_maxpool_forward(features: Tensor, pairs: Tensor, counts: Tensor, num_out: int) -> Tensor:
    """Returns the maximum of the features in the window of each output cell, or 0 if all of them are negative."""
    out = features.new_zeros(num_out, features.size(1))
    for _, source, target in _pairs(pairs, counts):
        out[target] = torch.maximum(out[target], features[source])
    return out


def indice_maxpool_backward(
    features: Tensor, out_features: Tensor, out_grad: Tensor, pairs: Tensor, counts: Tensor
) -> Tensor:
    """Returns the gradient of the features: a cell receives the gradient of each output that is equal to its value."""
    grad = torch.zeros_like(features)
    for _, source, target in _pairs(pairs, counts):
        grad.index_add_(0, source, out_grad[target] * (features[source] == out_features[target]))
    return grad

"""Convolution and max pooling of sparse grids.

Only occupied cells are stored. Their features have shape (N, C). Their positions have shape (N, 1 + D) and type int32,
and consist of the sample index and one coordinate per dimension.

A kernel has K positions. For kernel position k, `pairs[k, 0]` contains the rows of input cells, and `pairs[k, 1]` the
rows of the output cells to which they contribute. `pairs` has shape (K, 2, N), and unused entries are -1. `counts`, of
shape (K,), contains the number of pairs for each kernel position. Both are int32.

Source: Yan et al., SECOND: Sparsely Embedded Convolutional Detection (2018).
"""

import itertools
from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor


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
        stride: The stride; ignored if `subm` is set.
        padding: The padding; ignored if `subm` is set.
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
    if subm:
        occupied, order = (sample * prod(out_shape) + (cells * weights).sum(1)).sort()
        found = indices
    else:
        numbers = torch.cat(targets)
        occupied = torch.unique(numbers[numbers >= 0])
        order = torch.arange(len(occupied), device=device)
        rest = occupied[:, None] % prod(out_shape) // weights % sizes
        found = torch.cat([(occupied // prod(out_shape))[:, None], rest], 1).to(indices.dtype)
    pairs = indices.new_full((len(targets), 2, number), -1, dtype=torch.int32)
    counts = []
    for pair, target in zip(pairs, targets, strict=True):
        cell = (target >= 0).nonzero()[:, 0]
        row = torch.searchsorted(occupied, target[cell]).clamp_(max=len(occupied) - 1)
        hits = (occupied[row] == target[cell]).nonzero()[:, 0]  # in a submanifold convolution, a target may be empty
        cell, row = cell[hits], row[hits]
        pair[0, : len(cell)], pair[1, : len(cell)] = cell, order[row]
        counts.append(len(cell))
    return [found, pairs, torch.tensor(counts, dtype=torch.int32, device=device)]


get_indice_pairs_2d_forward = get_indice_pairs_4d_forward = get_indice_pairs_3d_forward


# The number of pairs that are computed at once, to save memory. On a GPU, each block takes time to launch.
_PAIRS, _GPU_PAIRS = 1 << 12, 1 << 18


def _pairs(pairs: Tensor, counts: Tensor, *, inverse: int = 0) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields the pairs of each kernel position in blocks: the rows of the input and output cells.

    If `inverse` is set, exchanges input and output.
    """
    size = _PAIRS if pairs.device.type == "cpu" else _GPU_PAIRS
    for position, count in enumerate(counts.tolist()):
        if count:
            for source, target in torch.split(pairs[position, :, :count].long(), size, 1):
                yield (position, target, source) if inverse else (position, source, target)


def indice_conv_forward(
    features: Tensor, filters: Tensor, pairs: Tensor, counts: Tensor, num_out: int, inverse: int, subm: int
) -> Tensor:
    """Applies a sparse convolution. Returns the features of the output cells, of shape (M, C_out).

    Args:
        features: The features of the input cells, of shape (N, C_in).
        filters: The weights, of shape (kernel size..., C_in, C_out).
        pairs: The pairs of input and output cells.
        counts: The number of pairs for each position of the kernel.
        num_out: The number of output cells, M.
        inverse: Whether to exchange input and output, to undo a strided convolution.
        subm: Ignored.
    """
    kernels = filters.flatten(0, -3)
    out = features.new_zeros(num_out, filters.size(-1))
    for position, source, target in _pairs(pairs, counts, inverse=inverse):
        out.index_add_(0, target, features.index_select(0, source) @ kernels[position])
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
    """Returns the output of `indice_conv_forward` plus the bias, of shape (C_out,)."""
    return indice_conv_forward(features, filters, pairs, counts, num_out, inverse, subm) + bias


def indice_conv_backward(
    features: Tensor, filters: Tensor, out_grad: Tensor, pairs: Tensor, counts: Tensor, inverse: int, subm: int
) -> list[Tensor]:
    """Returns the gradients with respect to the features and the filters."""
    kernels = filters.flatten(0, -3)
    grad, kernel_grads = torch.zeros_like(features), torch.zeros_like(kernels)
    for position, source, target in _pairs(pairs, counts, inverse=inverse):
        grads = out_grad.index_select(0, target)
        grad.index_add_(0, source, grads @ kernels[position].T)
        kernel_grads[position].addmm_(features.index_select(0, source).T, grads)
    return [grad, kernel_grads.view_as(filters)]


def indice_maxpool_forward(features: Tensor, pairs: Tensor, counts: Tensor, num_out: int) -> Tensor:
    """Returns the channel-wise maximum in the window of each output cell, or 0 if all values are negative."""
    out = features.new_zeros(num_out, features.size(1))
    for _, source, target in _pairs(pairs, counts):
        out[target] = torch.maximum(out[target], features[source])
    return out


def indice_maxpool_backward(
    features: Tensor, out_features: Tensor, out_grad: Tensor, pairs: Tensor, counts: Tensor
) -> Tensor:
    """Returns the gradient with respect to the features. An output passes its gradient to inputs of equal value."""
    grad = torch.zeros_like(features)
    for _, source, target in _pairs(pairs, counts):
        grad.index_add_(0, source, out_grad[target] * (features[source] == out_features[target]))
    return grad

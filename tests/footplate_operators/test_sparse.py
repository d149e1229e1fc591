"""Compares operators on sparse grids with dense convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from footplate_operators import sparse

RANDOM = torch.Generator().manual_seed(3)


def occupied_cells(channels: int, number: int = 25) -> tuple[Tensor, Tensor]:
    """Returns the positions and the features of occupied cells in two grids of 5 x 6 x 4 cells."""
    cells = torch.randperm(2 * 5 * 6 * 4, generator=RANDOM)[:number]
    indices = torch.stack(torch.unravel_index(cells, (2, 5, 6, 4)), 1)
    return indices.int(), torch.randn(number, channels, generator=RANDOM)


def dense(indices: Tensor, features: Tensor, *shape: int) -> Tensor:
    """Returns the grids, (2, C, *shape), with zeros in empty cells."""
    grid = torch.zeros(2, *shape, features.size(1))
    return grid.index_put(tuple(indices.long().T), features).movedim(-1, 1)


def at(grid: Tensor, indices: Tensor) -> Tensor:
    """Returns the features of the cells at `indices`."""
    return grid.movedim(1, -1)[tuple(indices.long().T)]


@pytest.mark.parametrize(
    ("size", "stride", "padding", "dilation", "subm", "transpose"),
    [
        (3, 1, 1, 1, False, False),
        (3, 2, 1, 1, False, False),
        (2, 2, 0, 1, False, False),
        (3, 1, 2, 2, False, False),
        (3, 1, 0, 1, True, False),
        (3, 2, 1, 1, False, True),
    ],
)
def test_convolution(
    size: int,
    stride: int,
    padding: int,
    dilation: int,
    subm: bool,
    transpose: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "_PAIRS", 4)  # so that there are several blocks
    indices, features = occupied_cells(4)
    filters = torch.randn(size, size, size, 4, 3, generator=RANDOM).requires_grad_()
    grid = dense(indices, features.requires_grad_(), 5, 6, 4)
    kernel, border = filters.permute(4, 3, 0, 1, 2), size // 2 if subm else padding
    if transpose:
        expected = F.conv_transpose3d(grid, kernel.transpose(0, 1), stride=stride, padding=border)
    else:
        expected = F.conv3d(grid, kernel, stride=stride, padding=border, dilation=dilation)
    sizes = [size] * 3, [stride] * 3, [padding] * 3, [dilation] * 3, [0] * 3
    found, pairs, counts = sparse.get_indice_pairs_3d_forward(
        indices, 2, expected.shape[2:], (5, 6, 4), *sizes, subm, transpose
    )
    out = sparse.indice_conv_forward(features, filters, pairs, counts, len(found), 0, int(subm))
    assert torch.allclose(out, at(expected, found), atol=1e-5)
    if subm:
        assert torch.equal(found, indices)
    else:  # all other cells are empty
        assert torch.allclose(expected.abs().sum(), at(expected, found).abs().sum(), rtol=1e-5)
    grad = torch.randn(out.shape, generator=RANDOM)
    ours = sparse.indice_conv_backward(features.detach(), filters.detach(), grad, pairs, counts, 0, int(subm))
    for mine, theirs in zip(ours, torch.autograd.grad(at(expected, found), (features, filters), grad), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)


def test_max_pooling() -> None:
    indices, features = occupied_cells(4)
    features = features.abs()
    grid = dense(indices, features, 5, 6, 4).requires_grad_()
    expected = F.max_pool3d(grid, 2)
    found, pairs, counts = sparse.get_indice_pairs_3d_forward(
        indices, 2, (2, 3, 2), (5, 6, 4), [2] * 3, [2] * 3, [0] * 3, [1] * 3, [0] * 3, 0, 0
    )
    out = sparse.indice_maxpool_forward(features, pairs, counts, len(found))
    assert torch.equal(out, at(expected, found))
    grad = torch.randn(out.shape, generator=RANDOM)
    theirs = torch.autograd.grad(at(expected, found), grid, grad)[0]
    ours = sparse.indice_maxpool_backward(features, out, grad, pairs, counts)
    assert torch.equal(ours, at(theirs, indices))

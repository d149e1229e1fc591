"""Convolution and max pooling of sparse grids.

Source: Yan et al., SECOND: Sparsely Embedded Convolutional Detection (2018).
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from footplate_operators.functional import get_indice_pairs, indice_conv, indice_inverse_conv, indice_maxpool
from footplate_operators.functional.sparse import output_shape
from footplate_operators.sizes import Pair, repeated


def scatter_nd(indices: Tensor, updates: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns a tensor of zeros of the given shape, with `updates` at `indices`, whose last dimension is a position."""
    output = torch.zeros(*shape, dtype=updates.dtype, device=updates.device)
    return output.index_put(
        tuple(indices.long().flatten(0, -2).T), updates.reshape(-1, *output.shape[indices.size(-1) :])
    )


class SparseConvTensor:
    """The occupied cells of a batch of grids.

    Args:
        features: The features of the cells, of shape (N, C).
        indices: The positions of the cells, of shape (N, 1 + D): the sample, and one coordinate per dimension.
        spatial_shape: The size of the grid.
        batch_size: The number of samples.
        grid: Ignored.
    """

    def __init__(
        self,
        features: Tensor,
        indices: Tensor,
        spatial_shape: Sequence[int],
        batch_size: int,
        grid: Tensor | None = None,
    ) -> None:
        self.features = features
        self.indices = indices.int()
        self.spatial_shape = spatial_shape
        self.batch_size = batch_size
        self.indice_dict: dict[str | None, tuple[Tensor, Tensor, Tensor, Tensor, Sequence[int]]] = {}
        self.grid = grid

    @property
    def spatial_size(self) -> int:
        """The number of cells of a grid, occupied or not."""
        return math.prod(map(int, self.spatial_shape))

    @property
    def sparity(self) -> float:
        """The fraction of cells that are occupied."""
        return len(self.indices) / (self.spatial_size * self.batch_size)

    def find_indice_pair(self, key: str | None) -> tuple[Tensor, Tensor, Tensor, Tensor, Sequence[int]] | None:
        """Returns the output cells, input cells, pairs, counts and input size of a layer with an `indice_key`."""
        return None if key is None else self.indice_dict.get(key)

    def dense(self, channels_first: bool = True) -> Tensor:
        """Returns all cells, of shape (batch_size, C, *spatial_shape), or with the channels last."""
        shape = [self.batch_size, *map(int, self.spatial_shape), self.features.size(1)]
        output = scatter_nd(self.indices, self.features, shape)
        return output.movedim(-1, 1).contiguous() if channels_first else output

    def _with(self, features: Tensor, indices: Tensor, spatial_shape: Sequence[int]) -> "SparseConvTensor":
        output = SparseConvTensor(features, indices, spatial_shape, self.batch_size, self.grid)
        output.indice_dict = self.indice_dict
        return output


class SparseModule(nn.Module):
    """A layer whose input and output is a `SparseConvTensor`."""


class SparseSequential(SparseModule):
    """Runs layers one after the other. Layers that are not a `SparseModule` get only the features.

    Args:
        args: The layers, or one ordered dict of layers.
        kwargs: More layers by name.
    """

    def __init__(self, *args: Any, **kwargs: nn.Module) -> None:
        super().__init__()
        layers = args[0] if len(args) == 1 and isinstance(args[0], OrderedDict) else dict(enumerate(args))
        for name, layer in {**layers, **kwargs}.items():
            self.add(layer, str(name))

    def __getitem__(self, index: int) -> nn.Module:
        return list(self._modules.values())[index]  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self._modules)

    def add(self, module: nn.Module, name: str | None = None) -> None:
        """Adds a layer. By default, its name is its position."""
        name = str(len(self)) if name is None else name
        if name in self._modules:
            raise KeyError(f"There already is a layer {name!r}.")
        self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        for layer in self.children():
            if isinstance(layer, SparseModule) or not isinstance(input, SparseConvTensor):
                input = layer(input)
            elif len(input.indices):
                input.features = layer(input.features)
        return input


class ToDense(SparseModule):
    """Returns all cells, of shape (batch_size, C, *spatial_shape)."""

    def forward(self, x: SparseConvTensor) -> Tensor:
        return x.dense()


class RemoveGrid(SparseModule):
    """Removes the grid of a `SparseConvTensor`, which is not used."""

    def forward(self, x: SparseConvTensor) -> SparseConvTensor:
        x.grid = None
        return x


class SparseConvolution(SparseModule):
    """Applies a convolution to sparse grids.

    Args:
        ndim: The number of dimensions.
        in_channels: The number of input channels.
        out_channels: The number of output channels.
        kernel_size: The kernel size.
        stride: The stride.
        padding: The padding.
        dilation: The dilation.
        groups: Must be 1.
        bias: Whether there is a bias.
        subm: Whether the output cells are the input cells.
        output_padding: The additional size of the output of a transposed convolution.
        transposed: Whether the convolution is transposed.
        inverse: Whether the output cells are the input cells of the layer with the same `indice_key`.
        indice_key: Layers with the same key use the same pairs of input and output cells.
        fused_bn: Ignored.
    """

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair = 3,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        subm: bool = False,
        output_padding: Pair = 0,
        transposed: bool = False,
        inverse: bool = False,
        indice_key: str | None = None,
        fused_bn: bool = False,
    ) -> None:
        super().__init__()
        if groups != 1:
            raise ValueError(f"A sparse convolution must have one group, but groups={groups}.")
        self.ndim = ndim
        self.in_channels = in_channels
        self.out_channels = out_channels
        sizes = (kernel_size, stride, padding, dilation, output_padding)
        self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding = (
            list(repeated(size, ndim)) for size in sizes
        )
        if any(step != 1 and move != 1 for step, move in zip(self.dilation, self.stride, strict=True)):
            raise ValueError(f"stride={self.stride} and dilation={self.dilation} cannot both be greater than 1.")
        self.conv1x1 = math.prod(self.kernel_size) == 1
        self.transposed = transposed
        self.inverse = inverse
        self.groups = groups
        self.subm = subm
        self.indice_key = indice_key
        self.fused_bn = fused_bn
        self.weight = nn.Parameter(torch.empty(*self.kernel_size, in_channels, out_channels))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initializes the weight like that of an ordinary convolution in mmcv."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            limit = 1 / math.sqrt(math.prod(self.kernel_size) * self.in_channels)
            nn.init.uniform_(self.bias, -limit, limit)

    def forward(self, input: SparseConvTensor) -> SparseConvTensor:
        if self.conv1x1:
            output = input.features @ self.weight.view(self.in_channels, self.out_channels)
            cells, shape = input.indices, input.spatial_shape
        else:
            cells, pairs, counts, shape = self._pairs(input)
            convolve = indice_inverse_conv if self.inverse else indice_conv
            output = convolve(input.features, self.weight, pairs, counts, len(cells))
        return input._with(output if self.bias is None else output + self.bias, cells, shape)

    def _pairs(self, input: SparseConvTensor) -> tuple[Tensor, Tensor, Tensor, Sequence[int]]:
        """Returns the output cells, the pairs, the counts and the size of the output."""
        known = input.find_indice_pair(self.indice_key)
        if self.inverse:
            if known is None:
                raise ValueError(f"No layer with indice_key={self.indice_key!r} ran before this inverse convolution.")
            _, cells, pairs, counts, shape = known
            return cells, pairs, counts, shape
        sizes = (self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding)
        settings = (list(map(int, input.spatial_shape)), *sizes, self.subm, self.transposed)
        if known is None:
            cells, pairs, counts = get_indice_pairs(input.indices, input.batch_size, *settings)
            input.indice_dict[self.indice_key] = (cells, input.indices, pairs, counts, input.spatial_shape)
        else:
            cells, _, pairs, counts, _ = known
        return cells, pairs, counts, output_shape(*settings)


class _Convolution(SparseConvolution):
    """A `SparseConvolution` with the arguments of mmcv's layers. Its kind is given by class attributes."""

    _ndim: int
    _subm = _transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        indice_key: str | None = None,
    ) -> None:
        sizes = (kernel_size, stride, padding, dilation)
        kind = {"subm": self._subm, "transposed": self._transposed}
        super().__init__(self._ndim, in_channels, out_channels, *sizes, groups, bias, indice_key=indice_key, **kind)


class SparseConv2d(_Convolution):
    """A sparse convolution in two dimensions. See `SparseConvolution`."""

    _ndim = 2


class SparseConv3d(_Convolution):
    """A sparse convolution in three dimensions. See `SparseConvolution`."""

    _ndim = 3


class SubMConv2d(_Convolution):
    """A convolution in two dimensions whose output cells are the input cells. See `SparseConvolution`."""

    _ndim, _subm = 2, True


class SubMConv3d(_Convolution):
    """A convolution in three dimensions whose output cells are the input cells. See `SparseConvolution`."""

    _ndim, _subm = 3, True


class SparseConvTranspose2d(_Convolution):
    """A transposed convolution in two dimensions. See `SparseConvolution`."""

    _ndim, _transposed = 2, True


class SparseConvTranspose3d(_Convolution):
    """A transposed convolution in three dimensions. See `SparseConvolution`."""

    _ndim, _transposed = 3, True


class _InverseConvolution(SparseConvolution):
    _ndim: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        indice_key: str | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__(
            self._ndim, in_channels, out_channels, kernel_size, bias=bias, inverse=True, indice_key=indice_key
        )


class SparseInverseConv2d(_InverseConvolution):
    """Undoes the change of cells of the `SparseConv2d` with the same `indice_key`. See `SparseConvolution`."""

    _ndim = 2


class SparseInverseConv3d(_InverseConvolution):
    """Undoes the change of cells of the `SparseConv3d` with the same `indice_key`. See `SparseConvolution`."""

    _ndim = 3


class _MaxPool(SparseModule):
    _ndim: int

    def __init__(self, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1) -> None:
        super().__init__()
        self.ndim = self._ndim
        self.kernel_size, self.stride, self.padding, self.dilation = (
            list(repeated(size, self._ndim)) for size in (kernel_size, stride, padding, dilation)
        )

    def forward(self, input: SparseConvTensor) -> SparseConvTensor:
        sizes = (self.kernel_size, self.stride, self.padding, self.dilation, [0] * self.ndim)
        settings = (list(map(int, input.spatial_shape)), *sizes, False, False)
        cells, pairs, counts = get_indice_pairs(input.indices, input.batch_size, *settings)
        output = indice_maxpool(input.features, pairs, counts, len(cells))
        return input._with(output, cells, output_shape(*settings))


class SparseMaxPool2d(_MaxPool):
    """Takes the maximum in a window, or 0 if all values are negative. An output cell has an occupied cell in it."""

    _ndim = 2


class SparseMaxPool3d(_MaxPool):
    """Like `SparseMaxPool2d`, in three dimensions."""

    _ndim = 3

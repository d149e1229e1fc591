"""Functions of the package torch_scatter, which needs a compiler to install.

`index` contains the group of each element of `src` along the dimension `dim`. It has the same shape as `src`, or one
dimension. `dim_size` is the number of groups, by default the largest index plus 1. The result has the shape of `src`,
with one entry per group along `dim`, and is 0 for a group without elements.
"""

from functools import partial

import torch
from torch import Tensor


def _expanded(index: Tensor, src: Tensor, dim: int) -> Tensor:
    """Expands an index to the shape of `src`."""
    if index.dim() == 1:
        index = index.view([-1 if axis == dim % src.dim() else 1 for axis in range(src.dim())])
    return index.view(*index.shape, *[1] * (src.dim() - index.dim())).expand_as(src)


def scatter(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> Tensor:
    """Reduces the elements of each group with "sum" (or "add"), "mean", "max" or "min"."""
    if out is not None or reduce not in ("sum", "add", "mean", "max", "min"):
        raise NotImplementedError("footplate does not implement 'out' and reduce='mul' of torch_scatter.scatter.")
    if reduce in ("max", "min"):
        return (scatter_max if reduce == "max" else scatter_min)(src, index, dim, None, dim_size)[0]
    index = _expanded(index, src, dim)
    size = _size(index, dim_size)
    shape = [*src.shape]
    shape[dim] = size
    total = src.new_zeros(shape).scatter_add(dim, index, src)
    if reduce != "mean":
        return total
    counts = src.new_zeros(shape).scatter_add(dim, index, torch.ones_like(src)).clamp(min=1)
    return total / counts if src.is_floating_point() else total.div(counts, rounding_mode="floor")


def _size(index: Tensor, dim_size: int | None) -> int:
    return dim_size if dim_size is not None else int(index.max()) + 1 if index.numel() else 0


def _extreme(
    src: Tensor,
    index: Tensor,
    dim: int = -1,
    out: Tensor | None = None,
    dim_size: int | None = None,
    *,
    reduce: str,
) -> tuple[Tensor, Tensor]:
    """Returns the extreme element of each group, and its position along `dim`.

    If several elements are equal, the position is that of the first, which gets the gradient. The position is the size
    of `src` along `dim` for a group without elements.
    """
    if out is not None:
        raise NotImplementedError("footplate does not implement 'out' of torch_scatter's functions.")
    index, count = _expanded(index, src, dim), src.size(dim)
    shape = [*src.shape]
    shape[dim] = _size(index, dim_size)
    values = src.detach()
    best = values.new_zeros(shape).scatter_reduce(dim, index, values, reduce, include_self=False)
    place = _expanded(torch.arange(count, device=src.device), src, dim)
    candidates = torch.where(values == best.gather(dim, index), place, count)
    first = torch.full(shape, count, device=src.device).scatter_reduce(dim, index, candidates, "amin")
    shape[dim] = 1
    return torch.cat((src, src.new_zeros(shape)), dim).gather(dim, first), first


scatter_sum = scatter_add = partial(scatter, reduce="sum")
scatter_mean = partial(scatter, reduce="mean")
scatter_max, scatter_min = partial(_extreme, reduce="amax"), partial(_extreme, reduce="amin")


def segment_csr(src: Tensor, indptr: Tensor, out: Tensor | None = None, reduce: str = "sum") -> Tensor:
    """Reduces consecutive rows of `src`. Segment i has the rows from `indptr[i]` to `indptr[i + 1]`."""
    if indptr.dim() != 1:
        raise NotImplementedError("footplate implements torch_scatter.segment_csr only for an indptr of one dimension.")
    counts = indptr.diff()
    groups = torch.arange(len(counts), device=src.device).repeat_interleave(counts)
    return scatter(src[int(indptr[0]) : int(indptr[-1])], groups, 0, out, len(counts), reduce)

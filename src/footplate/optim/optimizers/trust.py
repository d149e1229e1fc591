"""Trust ratios: how far a layer may move, by the norm of its weights and of its update."""

from collections.abc import Sequence

import torch
from torch import Tensor

from footplate.distributed.sharding import is_part, norms_of_parts


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the 2-norms of `tensors`, `(N,)` on their device; of the whole tensors where these are sharded."""
    if any(is_part(each) for each in tensors):
        return norms_of_parts(tensors)
    return torch.stack(torch._foreach_norm(list(tensors)))


def scale_each(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiplies each tensor in place by its entry of `factors`, `(N,)`, without a copy to the host."""
    for tensor, factor in zip(tensors, factors.unbind(), strict=True):
        tensor.mul_(factor)

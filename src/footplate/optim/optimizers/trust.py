"""Trust ratios: how far a layer may move, by the norm of its weights and of its update."""

from collections.abc import Sequence

import torch
from torch import Tensor


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the 2-norms of `tensors`, `(N,)` on their device; of the whole tensors where these are sharded."""
    norms = torch._foreach_norm(list(tensors))
    return torch.stack([_whole(norm) for norm in norms])


def _whole(norm: Tensor) -> Tensor:
    gather = getattr(norm, "full_tensor", None)
    return norm if gather is None else torch.as_tensor(gather())


def scale_each(tensors: Sequence[Tensor], factors: Tensor) -> None:
    """Multiplies each tensor in place by its entry of `factors`, `(N,)`, without a copy to the host."""
    for tensor, factor in zip(tensors, factors.unbind(), strict=True):
        tensor.mul_(factor)

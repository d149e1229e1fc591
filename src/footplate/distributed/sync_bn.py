"""Batch normalization with the statistics of the batches of all processes."""

import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from footplate.distributed.collectives import get_world_size
from footplate.errors import ArgumentError
from footplate.messages import nearest

_logger = logging.getLogger("footplate.distributed")
_KINDS = ("torch", "mmcv")


def synchronize_batch_norm(model: nn.Module, kind: str | None = None) -> nn.Module:
    """Returns `model` with the batch normalization that its processes need.

    On one process synchronized layers become plain ones, and a line says so. On several, `kind` has all layers
    synchronized; where torch has no such layer for the device, as on CPUs, one with the same state takes its place.

    Args:
        model: On its device.
        kind: "torch", or "mmcv", which means the same here; None leaves plain layers as they are.

    Raises:
        ArgumentError: There is no such kind.
    """
    if kind and kind not in _KINDS:
        raise ArgumentError("sync_bn is 'torch'", key="sync_bn", found=kind, suggestion=nearest(str(kind), _KINDS))
    if get_world_size() == 1:
        count = _become(model, PlainBatchNorm)
        if count or kind:
            told = f"{count} layers" if count else "nothing to synchronize"
            _logger.info("SyncBN on one process acts as plain batch normalization: %s", told)
        return model
    if kind:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    device = next((each.device.type for each in model.parameters()), "cpu")
    if device == "cpu":
        _become(model, RankwiseBatchNorm)
    return model


class PlainBatchNorm(_BatchNorm):
    """Batch normalization of inputs with any number of dimensions, `(N, C, ...)`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _check_dimensions(input)


class RankwiseBatchNorm(PlainBatchNorm):
    """Synchronized batch normalization on any device: means and variances are exchanged as plain tensors.

    Inputs `(N, C, ...)`, N as it comes on each rank. Variances are of the differences from the common mean, so that
    many small batches act as one large batch to the last digits. No SyncBatchNorm of torch, which data-parallel
    wrappers refuse on CPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes."""
        _check_dimensions(input)
        if not self.training:
            normalized: Tensor = super().forward(input)
            return normalized
        others = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = torch.tensor([input.numel() / input.size(1)], dtype=input.dtype, device=input.device)
        sums = _sum_of_ranks(torch.cat([input.sum(others), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = input - mean.view(shape)
        variance = _sum_of_ranks(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape) if self.affine else scaled

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        counted: Any = self.num_batches_tracked
        counted.add_(1)
        share = 1 / float(counted) if self.momentum is None else self.momentum
        for average, value in ((self.running_mean, mean), (self.running_var, variance)):
            average.lerp_(value.to(average), share)  # type: ignore[union-attr]


class _SumOfRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _sum_of_ranks(values: Tensor) -> Tensor:
    total: Tensor = _SumOfRanks.apply(values)  # type: ignore[no-untyped-call]
    return total


def _become(model: nn.Module, kind: type[_BatchNorm]) -> int:
    """Makes the synchronized layers of `model` into `kind`, which has the same fields, and counts them."""
    found = [each for each in model.modules() if isinstance(each, nn.SyncBatchNorm)]
    for each in found:
        each.__class__ = kind  # type: ignore[assignment]
    return len(found)


def _check_dimensions(input: Tensor) -> None:
    if input.dim() < 2:
        raise ArgumentError("batch normalization takes inputs (N, C, ...)", found=tuple(input.shape))

"""Synchronized batch normalization on any device, including CPUs."""

import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from footplate.checks import check_choice
from footplate.distributed.collectives import get_world_size
from footplate.errors import ArgumentError

_logger = logging.getLogger("footplate.distributed")
_KINDS = ("torch", "mmcv")


def check_sync_bn(kind: object) -> None:
    """Checks a value of the config key `sync_bn`.

    Raises:
        ArgumentError: The kind is unknown.
    """
    if kind is not None:
        check_choice("sync_bn", kind, _KINDS)


def synchronize_batch_norm(model: nn.Module, kind: str | None = None) -> nn.Module:
    """Converts the batch normalization layers of `model` for the number of ranks and the device.

    On one process, synchronized layers become plain ones, which is logged. On several, `kind` makes all layers
    synchronized. On CPUs, which torch's SyncBatchNorm does not support, a layer with the same state is used instead.

    Args:
        model: The model, on its device.
        kind: "torch", or "mmcv", which means the same; None does not convert plain layers.

    Raises:
        ArgumentError: The kind is unknown.
    """
    check_sync_bn(kind)
    if get_world_size() == 1:
        count = _convert_sync_layers(model, PlainBatchNorm)
        if count or kind:
            layers = f"{count} layers" if count else "nothing to synchronize"
            _logger.info("SyncBN on one process acts as plain batch normalization: %s", layers)
        return model
    if kind:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    device = next((each.device.type for each in model.parameters()), "cpu")
    if device == "cpu":
        _convert_sync_layers(model, RankwiseBatchNorm)
    return model


class PlainBatchNorm(_BatchNorm):
    """Batch normalization of inputs with any number of dimensions, `(N, C, ...)`."""

    def _check_input_dim(self, input: Tensor) -> None:
        _check_dimensions(input)


class RankwiseBatchNorm(PlainBatchNorm):
    """Synchronized batch normalization on any device, using all-reduce on plain tensors.

    Inputs have shape `(N, C, ...)`; N may differ between ranks. The variance is computed from the differences to the
    global mean, so that many small batches give the result of one large batch to the last digits. Not a subclass of
    torch's SyncBatchNorm, because DistributedDataParallel rejects that on CPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalizes the input."""
        _check_dimensions(input)
        if not self.training:
            normalized: Tensor = super().forward(input)
            return normalized
        reduced_dims = [0, *range(2, input.dim())]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        count = torch.tensor([input.numel() / input.size(1)], dtype=input.dtype, device=input.device)
        sums = _all_reduce_sum(torch.cat([input.sum(reduced_dims), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = input - mean.view(shape)
        variance = _all_reduce_sum(centred.square().sum(reduced_dims)) / count
        if self.track_running_stats:
            self._update_running_stats(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scaled = centred * torch.rsqrt(variance + self.eps).view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape) if self.affine else scaled

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, variance: Tensor) -> None:
        batch_count: Any = self.num_batches_tracked
        batch_count.add_(1)
        weight = 1 / float(batch_count) if self.momentum is None else self.momentum
        for average, value in ((self.running_mean, mean), (self.running_var, variance)):
            average.lerp_(value.to(average), weight)  # type: ignore[union-attr]


class _AllReduceSum(torch.autograd.Function):
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


def _all_reduce_sum(values: Tensor) -> Tensor:
    total: Tensor = _AllReduceSum.apply(values)  # type: ignore[no-untyped-call]
    return total


def _convert_sync_layers(model: nn.Module, kind: type[_BatchNorm]) -> int:
    """Changes the class of all SyncBatchNorm layers to `kind`, which has the same fields; returns their number."""
    found = [each for each in model.modules() if isinstance(each, nn.SyncBatchNorm)]
    for each in found:
        each.__class__ = kind  # type: ignore[assignment]
    return len(found)


def _check_dimensions(input: Tensor) -> None:
    if input.dim() < 2:
        raise ArgumentError("batch normalization needs inputs of shape (N, C, ...)", found=tuple(input.shape))

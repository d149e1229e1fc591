"""Averaging the weights of several checkpoints."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from footplate.checkpoint.loading import load_checkpoint
from footplate.checkpoint.weights import weights_of
from footplate.errors import ArgumentError, CheckpointError


def average_weights(
    paths: "Sequence[str | os.PathLike[str]]", shares: Sequence[float] | None = None
) -> "OrderedDict[str, torch.Tensor]":
    """Returns the mean of the weights of several checkpoints, summed in float64, in the dtype of the first.

    Tensors that hold no fractions, such as counters, are those of the last one. One file is held in memory at a
    time.

    Args:
        paths: The checkpoints.
        shares: The part of each; equal by default. They are divided by their sum.

    Raises:
        ArgumentError: There are no paths, or not as many shares as paths, or the shares sum to zero.
        CheckpointError: A file cannot be read, or holds other keys or shapes than the first.

    Source: https://arxiv.org/abs/1803.05407
    """
    parts = list(shares) if shares is not None else [1.0] * len(paths)
    if not paths or len(parts) != len(paths) or not sum(parts):
        raise ArgumentError("averaging needs checkpoints, and a share of each", key="shares", found=shares)
    sums: dict[str, torch.Tensor] = {}
    first: OrderedDict[str, Any] = OrderedDict()
    for path, part in zip(paths, parts, strict=True):
        weights = weights_of(load_checkpoint(path), os.fspath(path))
        first = first or weights
        _check_fit(first, weights, os.fspath(path))
        for key, value in weights.items():
            if _has_fractions(value):
                sums[key] = sums.get(key, 0) + _wide(value) * (part / sum(parts))
    means = ((key, sums[key].to(first[key].dtype) if key in sums else value) for key, value in weights.items())
    averaged = OrderedDict(means)
    averaged._metadata = first._metadata  # type: ignore[attr-defined]
    return averaged


def _check_fit(first: "OrderedDict[str, Any]", weights: "OrderedDict[str, Any]", path: str) -> None:
    differing = sorted(first.keys() ^ weights.keys())
    if differing:
        raise CheckpointError(f"'{path}' holds other weights than the first checkpoint", found=differing)
    for key, value in weights.items():
        if isinstance(value, torch.Tensor) and value.shape != first[key].shape:
            raise CheckpointError(
                f"'{path}' holds a weight of another shape than the first checkpoint", key=key, found=list(value.shape)
            )


def _has_fractions(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def _wide(value: torch.Tensor) -> torch.Tensor:
    return value.to(torch.complex128 if value.is_complex() else torch.float64)

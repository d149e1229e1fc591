"""Averages the weights of several checkpoints."""

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from footplate.checkpoint.inert.budget import check_separate_copies
from footplate.checkpoint.loading import load_checkpoint
from footplate.checkpoint.weights import weights_of
from footplate.errors import ArgumentError, CheckpointError

_PIECE = 1 << 18  # elements


def average_weights(
    paths: "Sequence[str | os.PathLike[str]]", shares: Sequence[float] | None = None
) -> "OrderedDict[str, torch.Tensor]":
    """Returns the weighted mean of the weights of several checkpoints, in the dtypes of the first.

    Sums are computed in float64, those of 8-bit weights in float32. Integer tensors, such as counters, are taken
    from the last checkpoint. Only one file is held in memory at a time.

    Args:
        paths: The checkpoints.
        shares: The weight of each checkpoint; equal by default. They are divided by their sum.

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
        _check_copies(weights, os.fspath(path))
        first = first or _without_content(weights)
        _check_fit(first, weights, os.fspath(path))
        for key, value in weights.items():
            if _has_fractions(value):
                _add(sums, key, value, part / sum(parts))
    means = ((key, sums.pop(key).to(first[key].dtype) if key in sums else value) for key, value in weights.items())
    averaged = OrderedDict(means)
    averaged._metadata = first._metadata  # type: ignore[attr-defined]
    return averaged


def _check_copies(weights: "OrderedDict[str, Any]", path: str) -> None:
    try:
        check_separate_copies([each for each in weights.values() if isinstance(each, torch.Tensor)])
    except CheckpointError as error:
        raise CheckpointError(f"cannot average '{path}': {error.message}") from error


def _without_content(weights: "OrderedDict[str, Any]") -> "OrderedDict[str, Any]":
    """Returns only shapes and dtypes, so that the first file can be freed."""
    shapes = OrderedDict(
        (key, torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, torch.Tensor) else value)
        for key, value in weights.items()
    )
    shapes._metadata = weights._metadata  # type: ignore[attr-defined]
    return shapes


def _add(sums: dict[str, torch.Tensor], key: str, value: torch.Tensor, share: float) -> None:
    """Adds `value * share` to a sum in pieces, because the full product would double the memory of a large tensor."""
    wide = _wide_dtype(value.dtype)
    if key not in sums:
        sums[key] = torch.zeros(value.shape, dtype=wide)
    total, flat = sums[key].view(-1), value.reshape(-1)
    for begin in range(0, flat.numel(), _PIECE):
        piece = slice(begin, begin + _PIECE)
        total[piece] += flat[piece].to(wide) * share


def _check_fit(first: "OrderedDict[str, Any]", weights: "OrderedDict[str, Any]", path: str) -> None:
    differing = sorted(first.keys() ^ weights.keys())
    if differing:
        raise CheckpointError(f"'{path}' holds other weights than the first checkpoint", found=differing)
    for key, value in weights.items():
        if not isinstance(value, torch.Tensor) or not isinstance(first[key], torch.Tensor):
            if type(value) is not type(first[key]):
                raise CheckpointError(f"'{path}' holds another kind of value than the first checkpoint", key=key)
        elif value.shape != first[key].shape or value.is_complex() != first[key].is_complex():
            raise CheckpointError(
                f"'{path}' holds a weight of another shape than the first checkpoint", key=key, found=list(value.shape)
            )


def _has_fractions(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.itemsize > 1 else torch.float32  # exact enough for 8-bit weights

"""Provides torchvision's compiled operators for use on GPUs."""

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor


def compiled_operators(inputs: Tensor) -> Any:
    """Returns torchvision's operators, or None if `inputs` is not on a CUDA device or torchvision cannot be loaded.

    Also returns None if only deterministic algorithms are allowed, because torchvision's gradients are not
    deterministic. On a GPU, torchvision's operators are more than ten times as fast as the operators in this package.
    On a CPU, they are slower.
    """
    return _load() if inputs.is_cuda and not torch.are_deterministic_algorithms_enabled() else None


@cache
def _load() -> Any:
    try:
        importlib.import_module("torchvision")
        torch.ops.torchvision.nms  # noqa: B018 - missing if torchvision was built for another version of torch
    except (ImportError, OSError, RuntimeError, AttributeError):
        return None
    return torch.ops.torchvision


def compute_type(inputs: Tensor) -> torch.dtype:
    """Returns the dtype for an operator's computations: the input's dtype, but at least float32."""
    return torch.promote_types(inputs.dtype, torch.float32)

"""Registers the optimizers of torch, and those of `pytorch_optimizer` if it is installed."""

import importlib
import inspect
from types import ModuleType

import torch
from torch.optim import Optimizer

from footplate.registry import OPTIMIZERS


def register_torch_optimizers() -> list[str]:
    """Registers all optimizers of `torch.optim` and returns the new names."""
    return _register_from(torch.optim)


def register_extra_optimizers() -> bool:
    """Registers the optimizers of `pytorch_optimizer` whose names are not registered yet.

    Returns:
        Whether the package is installed.
    """
    try:
        extra = importlib.import_module("pytorch_optimizer")
    except ImportError:
        return False
    _register_from(extra)
    return True


def _register_from(module: ModuleType) -> list[str]:
    added = []
    for name, found in list(vars(module).items()):
        is_optimizer = inspect.isclass(found) and issubclass(found, Optimizer) and not inspect.isabstract(found)
        if is_optimizer and found is not Optimizer and name not in OPTIMIZERS.module_dict:
            OPTIMIZERS.register_module(name=name, module=found)
            added.append(name)
    return added


register_torch_optimizers()

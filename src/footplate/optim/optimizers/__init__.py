"""Optimizers: all of torch, LARS and LAMB, and those of `pytorch_optimizer` if it is installed."""

from footplate.optim.optimizers.layerwise import LAMB, LARS
from footplate.optim.optimizers.optimizer_builder import (
    build_optimizer,
    default_of,
    optimizer_class,
    register_extra_optimizers,
)

__all__ = [
    "LAMB",
    "LARS",
    "build_optimizer",
    "default_of",
    "optimizer_class",
    "register_extra_optimizers",
]

"""Optimizers: those of torch, LARS, LAMB, Muon and, if it is installed, those of `pytorch_optimizer`."""

from footplate.optim.optimizers.layerwise import LAMB, LARS
from footplate.optim.optimizers.muon import Muon, split_hidden_matrices
from footplate.optim.optimizers.optimizer_builder import (
    build_optimizer,
    default_of,
    is_schedule_free,
    optimizer_class,
    register_extra_optimizers,
)

__all__ = [
    "LAMB",
    "LARS",
    "Muon",
    "build_optimizer",
    "default_of",
    "is_schedule_free",
    "optimizer_class",
    "register_extra_optimizers",
    "split_hidden_matrices",
]

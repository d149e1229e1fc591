"""PyTorch's optimizers, LARS, LAMB and Muon, and the optimizers from `pytorch_optimizer` if it is installed."""

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

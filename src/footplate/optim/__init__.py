"""Optimizers, optimizer wrappers, their constructors, and schedules."""

from footplate.optim.constructors import DefaultOptimWrapperConstructor
from footplate.optim.lars import LARS
from footplate.optim.learning_rate_scaling import scale_learning_rates
from footplate.optim.muon import Muon
from footplate.optim.optimizer_builder import build_optimizer
from footplate.optim.schedules import ParamSchedule, build_param_schedulers
from footplate.optim.wrapper_builder import build_optim_wrapper
from footplate.optim.wrappers import AmpOptimWrapper, OptimWrapper, OptimWrapperDict

__all__ = [
    "LARS",
    "AmpOptimWrapper",
    "DefaultOptimWrapperConstructor",
    "Muon",
    "OptimWrapper",
    "OptimWrapperDict",
    "ParamSchedule",
    "build_optim_wrapper",
    "build_optimizer",
    "build_param_schedulers",
    "scale_learning_rates",
]

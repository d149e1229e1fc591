"""Optimizer wrappers, which handle the backward pass, gradient accumulation, clipping and mixed precision."""

from footplate.optim.wrappers.amp_optim_wrapper import AmpOptimWrapper
from footplate.optim.wrappers.optim_wrapper import OptimWrapper
from footplate.optim.wrappers.optim_wrapper_dict import OptimWrapperDict

__all__ = ["AmpOptimWrapper", "OptimWrapper", "OptimWrapperDict"]

"""Wrappers: what stands between a loss and an optimizer's step."""

from footplate.optim.wrappers.amp import AmpOptimWrapper
from footplate.optim.wrappers.base import OptimWrapper, momentum_of
from footplate.optim.wrappers.several import OptimWrapperDict

__all__ = ["AmpOptimWrapper", "OptimWrapper", "OptimWrapperDict", "momentum_of"]

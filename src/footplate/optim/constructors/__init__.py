"""Constructors: which settings each parameter gets, and the groups that follow."""

from footplate.optim.constructors.default import DefaultOptimWrapperConstructor
from footplate.optim.constructors.merging import merge_groups
from footplate.optim.constructors.rules import Place, Rules

__all__ = ["DefaultOptimWrapperConstructor", "Place", "Rules", "merge_groups"]

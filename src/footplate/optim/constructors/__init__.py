"""Constructors: build optimizers and their parameter groups from `optim_wrapper` sections."""

from footplate.optim.constructors.default import (
    DefaultOptimWrapperConstructor,
    MultiOptimWrapperConstructor,
    merge_groups,
)
from footplate.optim.constructors.layer_decay import (
    LayerDecayOptimizerConstructor,
    LearningRateDecayOptimizerConstructor,
)
from footplate.optim.constructors.optimizer_constructors import (
    DefaultOptimizerConstructor,
    FirstGenerationRules,
    PatternOptimWrapperConstructor,
)
from footplate.optim.constructors.paramwise import ParamLocation, ParamwiseRules

__all__ = [
    "DefaultOptimWrapperConstructor",
    "DefaultOptimizerConstructor",
    "FirstGenerationRules",
    "LayerDecayOptimizerConstructor",
    "LearningRateDecayOptimizerConstructor",
    "MultiOptimWrapperConstructor",
    "ParamLocation",
    "ParamwiseRules",
    "PatternOptimWrapperConstructor",
    "merge_groups",
]

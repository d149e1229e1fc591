"""Constructors: build optimizers and their parameter groups from `optim_wrapper` sections."""

from footplate.optim.constructors.default import DefaultOptimWrapperConstructor
from footplate.optim.constructors.first_generation import (
    DefaultOptimizerConstructor,
    FirstGenerationRules,
    PatternOptimWrapperConstructor,
)
from footplate.optim.constructors.layer_decay import (
    LayerDecayOptimizerConstructor,
    LearningRateDecayOptimizerConstructor,
)
from footplate.optim.constructors.multi_optimizer import MultiOptimWrapperConstructor
from footplate.optim.constructors.param_groups import merge_groups
from footplate.optim.constructors.paramwise_rules import ParamLocation, ParamwiseRules

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

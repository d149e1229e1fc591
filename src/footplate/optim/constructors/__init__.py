"""Constructors that build optimizers and their parameter groups from `optim_wrapper` sections."""

from footplate.optim.constructors.default_constructor import (
    DefaultOptimWrapperConstructor,
    merge_groups,
)
from footplate.optim.constructors.first_generation_constructors import (
    DefaultOptimizerConstructor,
    FirstGenerationRules,
    PatternOptimWrapperConstructor,
)
from footplate.optim.constructors.layer_decay import (
    LayerDecayOptimizerConstructor,
    LearningRateDecayOptimizerConstructor,
)
from footplate.optim.constructors.paramwise import ParamLocation, ParamwiseRules

__all__ = [
    "DefaultOptimWrapperConstructor",
    "DefaultOptimizerConstructor",
    "FirstGenerationRules",
    "LayerDecayOptimizerConstructor",
    "LearningRateDecayOptimizerConstructor",
    "ParamLocation",
    "ParamwiseRules",
    "PatternOptimWrapperConstructor",
    "merge_groups",
]

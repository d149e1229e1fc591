"""Constructors: which settings each parameter gets, and the groups that follow."""

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
from footplate.optim.constructors.paramwise_rules import Place, Rules

__all__ = [
    "DefaultOptimWrapperConstructor",
    "DefaultOptimizerConstructor",
    "FirstGenerationRules",
    "LayerDecayOptimizerConstructor",
    "LearningRateDecayOptimizerConstructor",
    "MultiOptimWrapperConstructor",
    "PatternOptimWrapperConstructor",
    "Place",
    "Rules",
    "merge_groups",
]

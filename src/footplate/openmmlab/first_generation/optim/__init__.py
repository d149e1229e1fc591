"""First-generation schedules and optimizer constructors."""

from footplate.openmmlab.first_generation.optim.constructors import (
    DefaultOptimizerConstructor,
    FirstGenerationRules,
    PatternOptimWrapperConstructor,
)
from footplate.openmmlab.first_generation.optim.policy_schedule import PolicyLR, PolicyMomentum

__all__ = [
    "DefaultOptimizerConstructor",
    "FirstGenerationRules",
    "PatternOptimWrapperConstructor",
    "PolicyLR",
    "PolicyMomentum",
]

"""Base classes and adapters that run first-generation code on the engine."""

from footplate.openmmlab.first_generation.adapters.evaluation import DistEvalHook, EvalHook, LegacyMetric, adapt_dataset
from footplate.openmmlab.first_generation.adapters.hook import ClosureHook, Hook, SteppedByHook, SteppedByModel
from footplate.openmmlab.first_generation.adapters.logger_hooks import LoggerHook, WriterLoggerHook
from footplate.openmmlab.first_generation.adapters.model import (
    DataContainer,
    LegacyModel,
    MMDataParallel,
    adapt_model,
    collate,
    scatter,
)
from footplate.openmmlab.first_generation.adapters.optimizer_hooks import (
    Fp16OptimizerHook,
    GradientCumulativeFp16OptimizerHook,
    GradientCumulativeOptimizerHook,
    OptimizerHook,
)
from footplate.openmmlab.first_generation.adapters.runner_view import LogBuffer, RunnerView, view_of
from footplate.openmmlab.first_generation.adapters.runners import (
    BaseRunner,
    EpochBasedRunner,
    IterBasedRunner,
    build_runner,
)
from footplate.openmmlab.first_generation.adapters.updater_hooks import (
    CosineAnnealingLrUpdaterHook,
    LrUpdaterHook,
    MomentumUpdaterHook,
    StepLrUpdaterHook,
    annealing_cos,
)
from footplate.openmmlab.first_generation.adapters.workflow import WorkflowHook

__all__ = [
    "BaseRunner",
    "ClosureHook",
    "CosineAnnealingLrUpdaterHook",
    "DataContainer",
    "DistEvalHook",
    "EpochBasedRunner",
    "EvalHook",
    "Fp16OptimizerHook",
    "GradientCumulativeFp16OptimizerHook",
    "GradientCumulativeOptimizerHook",
    "Hook",
    "IterBasedRunner",
    "LegacyMetric",
    "LegacyModel",
    "LogBuffer",
    "LoggerHook",
    "LrUpdaterHook",
    "MMDataParallel",
    "MomentumUpdaterHook",
    "OptimizerHook",
    "RunnerView",
    "StepLrUpdaterHook",
    "SteppedByHook",
    "SteppedByModel",
    "WorkflowHook",
    "WriterLoggerHook",
    "adapt_dataset",
    "adapt_model",
    "annealing_cos",
    "build_runner",
    "collate",
    "scatter",
    "view_of",
]

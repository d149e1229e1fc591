"""Base classes and adapters that run first-generation code on the engine."""

from footplate.legacy.building import build_from_cfg, build_optimizer, build_optimizer_constructor, obj_from_dict
from footplate.legacy.dataset import adapt_dataset
from footplate.legacy.eval_hook import EvalHook
from footplate.legacy.hook import ClosureHook, Hook
from footplate.legacy.log_buffer import LogBuffer
from footplate.legacy.loggers import LoggerHook
from footplate.legacy.metric import LegacyMetric
from footplate.legacy.model import LegacyModel, adapt_model
from footplate.legacy.optim_wrappers import SteppedByHook, SteppedByModel
from footplate.legacy.optimizer_hooks import (
    Fp16OptimizerHook,
    GradientCumulativeFp16OptimizerHook,
    GradientCumulativeOptimizerHook,
    OptimizerHook,
)
from footplate.legacy.parallel import DataContainer, MMDataParallel, collate, scatter
from footplate.legacy.precision import auto_fp16, force_fp32, wrap_fp16_model
from footplate.legacy.runner_view import RunnerView, view_of
from footplate.legacy.runners import BaseRunner, EpochBasedRunner, IterBasedRunner, build_runner
from footplate.legacy.updater_hooks import LrUpdaterHook, MomentumUpdaterHook
from footplate.legacy.workflow import WorkflowHook
from footplate.legacy.writer_loggers import WriterLoggerHook

__all__ = [
    "BaseRunner",
    "ClosureHook",
    "DataContainer",
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
    "SteppedByHook",
    "SteppedByModel",
    "WorkflowHook",
    "WriterLoggerHook",
    "adapt_dataset",
    "adapt_model",
    "auto_fp16",
    "build_from_cfg",
    "build_optimizer",
    "build_optimizer_constructor",
    "build_runner",
    "collate",
    "force_fp32",
    "obj_from_dict",
    "scatter",
    "view_of",
    "wrap_fp16_model",
]

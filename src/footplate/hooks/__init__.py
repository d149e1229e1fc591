"""The built-in hooks, one a file."""

from footplate.hooks.checkpoint import CheckpointHook
from footplate.hooks.curve import CurveHook
from footplate.hooks.iter_timer import IterTimerHook
from footplate.hooks.logger import LoggerHook
from footplate.hooks.param_scheduler import ParamSchedulerHook
from footplate.hooks.progress import ProgressHook
from footplate.hooks.runtime_info import RuntimeInfoHook
from footplate.hooks.sampler_seed import DistSamplerSeedHook

__all__ = [
    "CheckpointHook",
    "CurveHook",
    "DistSamplerSeedHook",
    "IterTimerHook",
    "LoggerHook",
    "ParamSchedulerHook",
    "ProgressHook",
    "RuntimeInfoHook",
]

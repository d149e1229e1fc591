"""The built-in hooks, one a file."""

from footplate.hooks.checkpoint import CheckpointHook
from footplate.hooks.curve import CurveHook
from footplate.hooks.ema import EMAHook
from footplate.hooks.empty_cache import EmptyCacheHook
from footplate.hooks.iter_timer import IterTimerHook
from footplate.hooks.logger import LoggerHook
from footplate.hooks.num_class_check import NumClassCheckHook
from footplate.hooks.param_scheduler import ParamSchedulerHook
from footplate.hooks.progress import ProgressHook
from footplate.hooks.runtime_info import RuntimeInfoHook
from footplate.hooks.sampler_seed import DistSamplerSeedHook
from footplate.hooks.sync_buffers import SyncBuffersHook

__all__ = [
    "CheckpointHook",
    "CurveHook",
    "DistSamplerSeedHook",
    "EMAHook",
    "EmptyCacheHook",
    "IterTimerHook",
    "LoggerHook",
    "NumClassCheckHook",
    "ParamSchedulerHook",
    "ProgressHook",
    "RuntimeInfoHook",
    "SyncBuffersHook",
]

"""The built-in hooks, one per file."""

from footplate.hooks.checkpoint import CheckpointHook
from footplate.hooks.curve import CurveHook
from footplate.hooks.early_stopping import EarlyStoppingHook
from footplate.hooks.ema import EMAHook
from footplate.hooks.empty_cache import EmptyCacheHook
from footplate.hooks.freeze import FreezeHook
from footplate.hooks.gradient_norm import GradientNormHook
from footplate.hooks.iter_timer import IterTimerHook
from footplate.hooks.logger import LoggerHook
from footplate.hooks.naive_visualization import NaiveVisualizationHook
from footplate.hooks.num_class_check import NumClassCheckHook
from footplate.hooks.param_scheduler import ParamSchedulerHook
from footplate.hooks.prepare_tta import PrepareTTAHook
from footplate.hooks.profiler import ProfilerHook
from footplate.hooks.progress import ProgressHook
from footplate.hooks.record import RecordHook
from footplate.hooks.runtime_info import RuntimeInfoHook
from footplate.hooks.sampler_seed import DistSamplerSeedHook
from footplate.hooks.sync_buffers import SyncBuffersHook

__all__ = [
    "CheckpointHook",
    "CurveHook",
    "DistSamplerSeedHook",
    "EMAHook",
    "EarlyStoppingHook",
    "EmptyCacheHook",
    "FreezeHook",
    "GradientNormHook",
    "IterTimerHook",
    "LoggerHook",
    "NaiveVisualizationHook",
    "NumClassCheckHook",
    "ParamSchedulerHook",
    "PrepareTTAHook",
    "ProfilerHook",
    "ProgressHook",
    "RecordHook",
    "RuntimeInfoHook",
    "SyncBuffersHook",
]

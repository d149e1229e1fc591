"""The built-in hooks, and their helper modules `best_checkpoints`, `monitored_metrics` and `live_display`."""

from footplate.hooks.averaged_weights_hooks import EMAHook, ScheduleFreeHook
from footplate.hooks.checkpoint_hook import CheckpointHook
from footplate.hooks.freeze_hook import FreezeHook
from footplate.hooks.housekeeping_hooks import DistSamplerSeedHook, EmptyCacheHook, SyncBuffersHook
from footplate.hooks.logger_hook import LoggerHook, RecordHook
from footplate.hooks.nonfinite_hook import NonFiniteHook
from footplate.hooks.param_scheduler_hook import ParamSchedulerHook
from footplate.hooks.prepare_tta_hook import PrepareTTAHook
from footplate.hooks.profiler_hook import ProfilerHook
from footplate.hooks.progress_hook import ProgressHook
from footplate.hooks.runtime_info_hook import IterTimerHook, RuntimeInfoHook
from footplate.hooks.stopping_hooks import EarlyStoppingHook, TimeLimitHook

__all__ = [
    "CheckpointHook",
    "DistSamplerSeedHook",
    "EMAHook",
    "EarlyStoppingHook",
    "EmptyCacheHook",
    "FreezeHook",
    "IterTimerHook",
    "LoggerHook",
    "NonFiniteHook",
    "ParamSchedulerHook",
    "PrepareTTAHook",
    "ProfilerHook",
    "ProgressHook",
    "RecordHook",
    "RuntimeInfoHook",
    "ScheduleFreeHook",
    "SyncBuffersHook",
    "TimeLimitHook",
]

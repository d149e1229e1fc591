"""The training engine: the runner, the loops and the hooks."""

from footplate.engine.running.base_loops import BaseLoop, BaseTrainLoop
from footplate.engine.running.evaluation_loops import TestLoop, ValLoop
from footplate.engine.running.hook import EVENTS, Hook, Priority, SavingHook, SwappingHook, get_priority
from footplate.engine.running.hook_list import HookList
from footplate.engine.running.run_history import History
from footplate.engine.running.runner import Runner
from footplate.engine.running.train_loops import EpochBasedTrainLoop, IterBasedTrainLoop
from footplate.engine.saving.resume_plan import ResumedCheckpoint

__all__ = [
    "EVENTS",
    "BaseLoop",
    "BaseTrainLoop",
    "EpochBasedTrainLoop",
    "History",
    "Hook",
    "HookList",
    "IterBasedTrainLoop",
    "Priority",
    "ResumedCheckpoint",
    "Runner",
    "SavingHook",
    "SwappingHook",
    "TestLoop",
    "ValLoop",
    "get_priority",
]

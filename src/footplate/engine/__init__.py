"""The training engine: the runner, the loops and the hooks."""

from footplate.engine.control.hook_list import HookList
from footplate.engine.control.run_history import History
from footplate.engine.loops.base_loops import BaseLoop, BaseTrainLoop
from footplate.engine.loops.evaluation_loops import TestLoop, ValLoop
from footplate.engine.loops.train_loops import EpochBasedTrainLoop, IterBasedTrainLoop
from footplate.engine.run.runner import Runner
from footplate.engine.values.events import EVENTS
from footplate.engine.values.hook import Hook, Priority, SavingHook, SwappingHook, get_priority
from footplate.engine.values.run import Run

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
    "Run",
    "Runner",
    "SavingHook",
    "SwappingHook",
    "TestLoop",
    "ValLoop",
    "get_priority",
]

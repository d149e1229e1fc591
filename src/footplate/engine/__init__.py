"""The training engine: the runner, the loops and the hooks."""

from footplate.engine.base_loops import BaseLoop, BaseTrainLoop
from footplate.engine.evaluation_loops import TestLoop, ValLoop
from footplate.engine.hook import EVENTS, Hook, Priority, SavingHook, SwappingHook, get_priority
from footplate.engine.hook_list import HookList
from footplate.engine.run_history import History
from footplate.engine.runner import Runner
from footplate.engine.train_loops import EpochBasedTrainLoop, IterBasedTrainLoop

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
    "Runner",
    "SavingHook",
    "SwappingHook",
    "TestLoop",
    "ValLoop",
    "get_priority",
]

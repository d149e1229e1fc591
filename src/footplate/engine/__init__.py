"""The engine: the runner with its state, the loops, the hooks, and the build order of a run's components."""

from footplate.engine.base_loop import BaseLoop
from footplate.engine.base_train_loop import BaseTrainLoop
from footplate.engine.evaluation_loops import TestLoop, ValLoop
from footplate.engine.hook import EVENTS, Hook, Priority, get_priority
from footplate.engine.hook_list import HookList
from footplate.engine.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from footplate.engine.runner import Runner

__all__ = [
    "EVENTS",
    "BaseLoop",
    "BaseTrainLoop",
    "EpochBasedTrainLoop",
    "Hook",
    "HookList",
    "IterBasedTrainLoop",
    "Priority",
    "Runner",
    "TestLoop",
    "ValLoop",
    "get_priority",
]

"""Loops from `mmengine.runner` for the loops of code bases."""

import inspect
from functools import cache
from typing import Any

from footplate import engine
from footplate.engine import Runner
from footplate.evaluation import Evaluator
from footplate.evaluation.evaluation_sets import EvaluationSet, build_loaders
from footplate_openmmlab.mmengine.runner_members import delegate


class BaseLoop(engine.BaseLoop):
    """Base class for validation and test loops that build their loaders and evaluators from the config sections.

    A subclass may have several loaders, as a list named `dataloaders`. It need not call this constructor if it sets
    `_runner`.
    """

    builds_data = True
    runner: Runner = delegate("_runner")

    def __init__(self, runner: Runner, dataloader: Any) -> None:
        super().__init__(runner, build_loaders(dataloader, lambda cfg: runner.build_dataloader(cfg, runner.seed)))

    @property
    def sets(self) -> list[EvaluationSet]:  # type: ignore[override]
        """The datasets, without their metrics, which only the subclass computes."""
        loaders = getattr(self, "dataloaders", None) or [self.dataloader]
        return [EvaluationSet("", loader, Evaluator([])) for loader in loaders]


@cache
def with_training(loop_class: type[engine.BaseLoop]) -> type[engine.BaseTrainLoop]:
    """Returns a training loop's class with the base class `BaseTrainLoop`, which resumes and handles requests.

    In MMEngine, a training loop may be derived from BaseLoop alone. It then sets its own counters and `_max_epochs`.
    """
    by_epoch = "max_iters" not in inspect.signature(loop_class.__init__).parameters
    members = {
        "__module__": loop_class.__module__,
        "by_epoch": by_epoch,
        # Even if the loop's class sets them. In iteration-based training, the whole run is one epoch.
        "_iter": engine.BaseTrainLoop._iter,
        "_epoch": engine.BaseTrainLoop._epoch if by_epoch else 0,
        "overridable_methods": engine.BaseLoop.overridable_methods,  # only the loop itself calls the others
    }
    return type(loop_class.__name__, (loop_class, engine.BaseTrainLoop), members)

"""Loops from `mmengine.runner` for the loops of code bases."""

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

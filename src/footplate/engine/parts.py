"""The components of a run, each built on first use."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from footplate.engine import assemble
from footplate.engine.base_loops import BaseTrainLoop
from footplate.engine.evaluation_loops import TestLoop, ValLoop
from footplate.errors import ArgumentError

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class Parts:
    """The components of a runner and its progress. Components are built from the runner's arguments."""

    _sections: dict[str, Any]

    @cached_property
    def train_loop(self) -> BaseTrainLoop:
        """The training loop, built on first use like all components below."""
        return assemble.build_train_loop(self._runner, self._part("train_cfg"), self._part("train_dataloader"))

    @cached_property
    def val_loop(self) -> ValLoop | None:
        """The validation loop, or None."""
        loop: ValLoop | None = assemble.build_evaluation_loop(self._runner, "val", self._sections)
        return loop

    @cached_property
    def test_loop(self) -> TestLoop | None:
        """The test loop, or None."""
        loop: TestLoop | None = assemble.build_evaluation_loop(self._runner, "test", self._sections)
        return loop

    @cached_property
    def optim_wrapper(self) -> Any:
        """The optimizer wrapper with its optimizer."""
        return assemble.build_optimization(self._runner, self._part("optim_wrapper"), self._sections["auto_scale_lr"])

    @cached_property
    def param_schedulers(self) -> Any:
        """The parameter schedules: a list, or a dict of lists if there are several optimizers."""
        return assemble.build_schedules(self._runner, self._sections["param_scheduler"])

    @property
    def train_dataloader(self) -> Any:
        """The loader of the training loop."""
        return self.train_loop.dataloader

    @property
    def val_dataloader(self) -> Any:
        """The loader of the validation loop, or None."""
        return self.val_loop.dataloader if self.val_loop else None

    @property
    def test_dataloader(self) -> Any:
        """The loader of the test loop, or None."""
        return self.test_loop.dataloader if self.test_loop else None

    @property
    def iter(self) -> int:
        """The number of completed training iterations."""
        return self.train_loop.iter if "train_loop" in self.__dict__ else 0

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return self.train_loop.epoch if "train_loop" in self.__dict__ else 0

    @property
    def max_iters(self) -> int:
        """The total number of iterations of the run."""
        return self.train_loop.max_iters

    @property
    def max_epochs(self) -> int:
        """The total number of epochs of the run."""
        return self.train_loop.max_epochs

    @property
    def by_epoch(self) -> bool:
        """Whether training counts epochs rather than iterations."""
        return assemble.counts_epochs(self._sections["train_cfg"])

    @property
    def _runner(self) -> "Runner":
        return cast("Runner", self)

    def _part(self, name: str) -> Any:
        if self._sections[name] is None:
            raise ArgumentError(f"training needs '{name}'", key=name)
        return self._sections[name]

"""The counters of training loops, with MMEngine's names."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from footplate.engine.loops.loop_run import LoopRun
from footplate.engine.values.position import Position, PositionViews


class LoopCounters(PositionViews):
    """The numbers of a training loop: views of the position of the run.

    Loops that call hooks themselves count by adding 1 to `_iter` and `_epoch` afterwards, as in MMEngine. The setters
    replace the position.
    """

    runner: LoopRun
    dataloader: Any
    _place_of: Callable[[int], tuple[int, int]]
    position: Position = property(attrgetter("runner.position"))  # type: ignore[assignment]

    @property
    def _is_of_run(self) -> bool:
        """Whether the runner uses this loop. Its constructor has no effect on the position of a run."""
        return "_runner" in vars(self) and self.runner.built.get("train_loop") is self

    @property
    def _iter(self) -> int:
        return self.position.iter

    @_iter.setter
    def _iter(self, number: int) -> None:
        if self._is_of_run:
            self.runner.position = Position(number, *self._place_of(number))

    @property
    def _epoch(self) -> int:
        return self.position.epoch

    @_epoch.setter
    def _epoch(self, number: int) -> None:
        if not self._is_of_run:
            return
        reached = self.position.after_hooks()
        batch = reached.batch if number == reached.epoch else self.iter - self._start_of(number)
        self.runner.position = Position(self.iter, number, batch)

    def _start_of(self, epoch: int) -> int:
        """Returns the iteration at which an epoch of a loop that counts itself begins."""
        return epoch and epoch * len(self.dataloader)

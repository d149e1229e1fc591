"""`mmengine.hooks.IterTimerHook`, the base class of timer hooks in code bases."""

import time

from footplate import hooks
from footplate.engine import Runner


class IterTimerHook(hooks.IterTimerHook):
    """footplate's IterTimerHook with the attributes that subclasses in code bases use to estimate the time left.

    Attributes:
        time_sec_tot: The sum of the iteration times, which the subclass updates.
        start_iter: The iteration at which training started or resumed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time_sec_tot = 0.0
        self.start_iter = 0

    def before_train(self, runner: Runner) -> None:
        """Records the first iteration."""
        self.start_iter = runner.iter

    @property
    def t(self) -> float:
        """The time at which the previous iteration ended, as returned by `time.time()`."""
        return time.time() - (time.perf_counter() - self._since)

    @t.setter
    def t(self, value: float) -> None:
        self._since = time.perf_counter() - (time.time() - value)

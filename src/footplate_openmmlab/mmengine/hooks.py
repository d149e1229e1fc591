"""Hooks from `mmengine.hooks` with additional members for their subclasses in code bases."""

import time
from functools import wraps
from typing import Any

from footplate import hooks
from footplate.engine import Run
from footplate.hooks.averaged_weights_hooks import TRAINING_STATE
from footplate_openmmlab.mmengine.registry import AcceptsBase


class EMAHook(hooks.EMAHook, metaclass=AcceptsBase):
    """footplate's EMAHook with additional attributes and methods for subclasses in code bases.

    As in MMEngine, the averaged model already exists when a subclass's `after_load_checkpoint` is called. The weights
    that this method loads into it are kept, unless it calls the method of this class.
    """

    _keeps_average = False  # whether a subclass has loaded the average

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        load = vars(cls).get("after_load_checkpoint")
        if load is None:
            return

        @wraps(load)
        def after_load_checkpoint(self: EMAHook, runner: Run, checkpoint: dict[str, Any]) -> None:
            average = self.build_average(runner).module
            tensors = [*average.parameters(), *average.buffers()]
            versions = [tensor._version for tensor in tensors]
            self._keeps_average = True
            load(self, runner, checkpoint)
            self._keeps_average &= versions != [tensor._version for tensor in tensors]

        cls.after_load_checkpoint = after_load_checkpoint  # type: ignore[method-assign]

    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Discards the average. If the run resumes, restores the training weights and the average."""
        self._keeps_average = False
        super().after_load_checkpoint(runner, checkpoint)

    def _start_average(self) -> None:
        if not self._keeps_average:
            super()._start_average()

    def _swap_ema_parameters(self) -> None:
        self._swap(None, to_average=not self._is_swapped)  # type: ignore[arg-type]  # the runner is not used

    def _swap_ema_state_dict(self, checkpoint: dict[str, Any]) -> None:
        weights = checkpoint["state_dict"]
        others = checkpoint[TRAINING_STATE]
        for name in weights:
            key = f"module.{name}"
            weights[name], others[key] = others[key], weights[name]


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

    def before_train(self, runner: Run) -> None:
        """Records the first iteration."""
        self.start_iter = runner.iter

    @property
    def t(self) -> float:
        """The time at which the previous iteration ended, as returned by `time.time()`."""
        return time.time() - (time.perf_counter() - self._since)

    @t.setter
    def t(self, value: float) -> None:
        self._since = time.perf_counter() - (time.time() - value)

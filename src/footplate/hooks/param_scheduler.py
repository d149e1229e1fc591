"""Steps the parameter schedules."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from footplate.engine import Hook
from footplate.hooks.comparing import is_left_out
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class ParamSchedulerHook(Hook):
    """Steps schedules by iteration or by epoch. Schedules that monitor a metric are stepped after each validation."""

    priority = "LOW"

    def before_train(self, runner: "Runner") -> None:
        """Sorts the schedules by when they are stepped."""
        found = runner.param_schedulers
        schedules = [each for part in found.values() for each in part] if isinstance(found, Mapping) else list(found)
        self._watching = [each for each in schedules if each.takes_metrics]
        moving = [each for each in schedules if not each.takes_metrics]
        self._by_iter = [each.step for each in moving if not each.by_epoch]
        self._by_epoch = [each.step for each in moving if each.by_epoch]

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Steps the schedules by iteration."""
        for step in self._by_iter:
            step()

    def after_train_epoch(self, runner: "Runner") -> None:
        """Steps the schedules by epoch."""
        if runner.train_loop.by_epoch:
            for step in self._by_epoch:
                step()

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, float] | None = None) -> None:
        """Steps the schedules that monitor a metric."""
        for schedule in getattr(self, "_watching", ()):
            if is_left_out(runner, schedule.monitor):
                continue
            schedule.step(metrics)

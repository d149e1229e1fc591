"""Defines the hook that steps schedules."""

from typing import Any

from footplate.engine import Hook, Runner
from footplate.hooks.monitored_metrics import should_skip_metric
from footplate.metric_names import find_rule
from footplate.optim.schedules import collect_steps
from footplate.registry import HOOKS


@HOOKS.register_module()
class ParamSchedulerHook(Hook):
    """Steps schedules after each iteration or epoch, or after each validation run if they monitor a metric.

    In iteration-based training, epoch-based schedules never step, except those that monitor a metric. Schedules also
    step if the optimizer does not, because it accumulates gradients or skips a step.
    """

    priority = "LOW"

    _steps = collect_steps([])  # used until training starts, and in runs that only validate

    def before_train(self, runner: Runner) -> None:
        """Groups the schedules by the event after which they step, and warns about a doubtful `rule`."""
        self._steps = collect_steps(runner.param_schedulers)
        for schedule in self._steps.by_metrics:
            if schedule.rule in ("less", "min") and find_rule(schedule.monitor) == "greater":
                runner.logger.warning(
                    "A parameter schedule treats lower values of '%s' as better. If higher values are better, set "
                    "rule='greater', or mode='max' in a torch scheduler.",
                    schedule.monitor,
                )

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Steps the iteration-based schedules."""
        for step in self._steps.by_iter:
            step()

    def after_train_epoch(self, runner: Runner) -> None:
        """In epoch-based training, steps the epoch-based schedules."""
        if runner.train_loop.by_epoch:
            for step in self._steps.by_epoch:
                step()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Steps the schedules that monitor a metric."""
        for schedule in self._steps.by_metrics:
            if not should_skip_metric(runner, schedule.monitor, metrics or {}):
                schedule.step(metrics)

"""Defines the hook that steps schedules."""

from typing import Any

from footplate.engine import Hook, Run
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

    def before_train(self, runner: Run) -> None:
        """Groups the schedules by the event after which they step, and warns about a doubtful `rule`."""
        self._steps = collect_steps(runner.param_schedulers)
        for schedule in self._steps.by_metrics:
            is_lower_better = schedule.rule in ("less", "min")
            usual = find_rule(schedule.monitor)
            if usual is not None and is_lower_better != (usual == "less"):
                runner.logger.warning(
                    "A parameter schedule treats %s values of '%s' as better. If this is wrong, set rule='%s', or "
                    "mode='%s' in a torch scheduler, or set `monitor` to another metric.",
                    "lower" if is_lower_better else "higher",
                    schedule.monitor,
                    usual,
                    "max" if is_lower_better else "min",
                )

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Steps the iteration-based schedules."""
        for step in self._steps.by_iter:
            step()

    def after_train_epoch(self, runner: Run) -> None:
        """In epoch-based training, steps the epoch-based schedules."""
        if runner.train_loop.by_epoch:
            for step in self._steps.by_epoch:
                step()

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Steps the schedules that monitor a metric, unless a hook has called `runner.val()`."""
        if runner.activity.is_validating_by_call:
            return
        for schedule in self._steps.by_metrics:
            if not should_skip_metric(runner, schedule.monitor, metrics or {}):
                schedule.step(metrics)

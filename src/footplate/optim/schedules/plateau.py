"""A schedule that reduces the learning rate or another setting when a metric stops improving."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from footplate.checks import check_choice, check_count, check_number
from footplate.errors import ArgumentError
from footplate.metric_names import check_rule
from footplate.optim.schedules.schedule import HasParamGroups, MetricSchedule, read_field, write_field
from footplate.registry import PARAM_SCHEDULERS

_COUNTERS = ("best", "num_bad_epochs", "cooldown_counter")
_logger = logging.getLogger("footplate.optim")
_SETTINGS = ("monitor", "rule", "factor", "patience", "threshold", "threshold_rule", "cooldown", "min_values", "eps")


@PARAM_SCHEDULERS.register_module(name="ReduceOnPlateauParamScheduler")
class ReduceOnPlateau(MetricSchedule):
    """Multiplies a field by `factor` when a metric stops improving.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        param_name: The field to schedule.
        monitor: The name of the validation metric to monitor.
        rule: "less" if lower values of the metric are better, "greater" if higher values are.
        factor: The factor, above 0 and below 1.
        patience: The number of consecutive validation runs without improvement to tolerate. The next one reduces the
            field.
        threshold: The minimum improvement.
        threshold_rule: "rel" if `threshold` is relative to the best value, "abs" if it is absolute.
        cooldown: The number of validation runs after each reduction that do not count towards `patience`.
        min_value: The lower bound of the field: a single value for all groups, or one value per group. Groups that are
            added later use the bound of the last group.
        eps: The minimum change. Smaller reductions are skipped.
        begin: The first validation run to take into account, counted from 1. 0 has the same effect as 1.
        end: The first validation run that is no longer taken into account.
        by_epoch: Ignored; the schedule always steps after each validation run.
        last_step: See `Schedule`.

    Raises:
        ArgumentError: An argument is out of range.
    """

    takes_metrics = True
    need_val_args = True  # MMEngine's name for `takes_metrics`

    def __init__(
        self,
        optimizer: HasParamGroups,
        param_name: str,
        *,
        monitor: str = "loss",
        rule: str = "less",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_rule: str = "rel",
        cooldown: int = 0,
        min_value: float | list[float] = 0.0,
        eps: float = 1e-8,
        begin: int = 0,
        end: int | None = None,
        by_epoch: bool = True,
        last_step: int = -1,
    ) -> None:
        check_choice("threshold_rule", threshold_rule, ("rel", "abs"))
        check_number("factor", factor, above=0, below=1)
        check_count("patience", patience, least=0)
        self.monitor = monitor
        self.rule = check_rule(rule)
        self.factor = factor
        self.patience = patience
        self.cooldown = cooldown
        self.threshold = threshold
        self.threshold_rule = threshold_rule
        self.eps = eps
        self.best = math.inf if rule == "less" else -math.inf
        self.num_bad_epochs = 0
        self.cooldown_counter = 0
        super().__init__(optimizer, param_name, begin=begin, end=end, last_step=last_step, by_epoch=by_epoch)
        self.start()
        count = len(self.base_values)
        self.min_values = [*min_value] if isinstance(min_value, (list, tuple)) else [min_value] * count
        for minimum in self.min_values:
            check_number("min_value", minimum, least=0)
        if len(self.min_values) != count:
            raise ArgumentError(
                f"'min_value' must be a number or have one entry per parameter group ({count})",
                key="min_value",
                found=min_value,
            )

    def start(self) -> None:
        """Starts counting, so that the first validation run is number 1."""
        self._global_step = max(self._global_step, 0)

    def step(self, metrics: Mapping[str, Any] | None = None) -> None:
        """Advances by one validation run.

        Reduces the field's value if the metric has not improved for more than `patience` validation runs.

        Args:
            metrics: The metrics of a validation run. If None, the validation run is counted but has no effect.

        Raises:
            ArgumentError: `metrics` does not contain the monitored metric.
        """
        self._global_step += 1
        if not self.begin <= self._global_step < self.end:
            return
        self.last_step += 1
        if metrics is None:
            return
        value = self.monitored_value(metrics)
        margin = self.threshold * self.best if self.threshold_rule == "rel" else self.threshold
        if math.isinf(self.best):  # before the first validation
            margin = 0.0
        is_improved = value < self.best - margin if self.rule == "less" else value > self.best + margin
        if is_improved:
            self.best = value
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
            for index, group in enumerate(self.optimizer.param_groups):
                old = read_field(group, self._key)
                reduced = max(old * self.factor, self.min_values[min(index, len(self.min_values) - 1)])
                if old - reduced > self.eps:
                    write_field(group, self._key, reduced)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of `Schedule`, the best value of the metric, the counters and the settings."""
        return super().state_dict() | {name: getattr(self, name) for name in (*_COUNTERS, *_SETTINGS)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the counters, the settings and the state of `Schedule`."""
        super().load_state_dict(state_dict)
        for name in (*_COUNTERS, *_SETTINGS):
            setattr(self, name, state_dict.get(name, getattr(self, name)))

    def resume(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of a run that continues with this schedule's own settings, and logs which have changed."""
        new = {name: getattr(self, name) for name in _SETTINGS}
        if changed := [f"{name}={value}" for name, value in new.items() if value != state_dict.get(name, value)]:
            _logger.warning("Resuming %s with the new settings %s.", type(self).__name__, ", ".join(changed))
        super().resume(state_dict | new)


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauLR(ReduceOnPlateau):
    """A `ReduceOnPlateau` schedule for the learning rate."""

    def __init__(self, optimizer: HasParamGroups, **settings: Any) -> None:
        super().__init__(optimizer, "lr", **settings)


@PARAM_SCHEDULERS.register_module()
class ReduceOnPlateauMomentum(ReduceOnPlateau):
    """A `ReduceOnPlateau` schedule for the momentum."""

    def __init__(self, optimizer: HasParamGroups, **settings: Any) -> None:
        super().__init__(optimizer, "momentum", **settings)

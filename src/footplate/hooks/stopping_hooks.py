"""Hooks that end training early, either when a metric stops improving or before a time limit."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from footplate.checks import check_count, check_number
from footplate.data import length_of
from footplate.distributed import get_world_size
from footplate.engine import Hook, Run
from footplate.engine.control.requests import SECONDS_BETWEEN_EXCHANGES
from footplate.errors import ArgumentError
from footplate.evaluation.evaluation_sets import sets_of
from footplate.hooks.monitored_metrics import MonitoredMetric
from footplate.messages import pluralize
from footplate.metric_names import check_rule
from footplate.registry import HOOKS

_SECONDS = 3600  # per hour
_MARGIN = 1.25  # safety factor for the time of the final validation and saves
_FADING = 0.9  # decay of the maximum iteration time, because the first iteration may compile the model


@HOOKS.register_module()
class EarlyStoppingHook(Hook):
    """Ends training after `patience` consecutive validation runs without improvement in a metric.

    If you resume a run that was stopped early, it ends immediately, unless you change the settings that ended it.

    Args:
        monitor: The metric to monitor, e.g. "mIoU" or "coco/bbox_mAP". Its name in logs, "val/mIoU", is also accepted.
        rule: "greater" or "less". By default, the rule is derived from the metric name.
        min_delta: A value counts as an improvement only if it beats the best value by more than `min_delta`. The
            default is 0.1, which suits metrics in percent, and 0 for a plain torch module.
        strict: Ignored; accepted for compatibility. A missing metric raises an error, unless an earlier validation run
            computed it, or the current one returns no metrics at all.
        check_finite: Whether to end training immediately if the metric is NaN or infinite.
        patience: The number of consecutive validation runs without improvement after which training ends. Calls of
            `runner.val()` in hooks do not count.
        stopping_threshold: Training also ends as soon as the metric reaches this value.

    Raises:
        ArgumentError: An argument is invalid.
    """

    priority = "LOWEST"

    def __init__(
        self,
        monitor: str,
        rule: str | None = None,
        min_delta: float | None = None,
        strict: bool = False,
        check_finite: bool = True,
        patience: int = 5,
        stopping_threshold: float | None = None,
    ) -> None:
        check_count("patience", patience)
        if not isinstance(monitor, str):
            raise ArgumentError("monitor must be the name of a metric", key="monitor", found=monitor)
        self._has_default = min_delta is None
        min_delta = 0.1 if min_delta is None else min_delta
        check_number("min_delta", min_delta, least=0)
        self.monitor = monitor
        self._metric = MonitoredMetric(monitor, "monitor", None if rule is None else check_rule(rule))
        self.rule = self._metric.rule
        self.min_delta = min_delta
        self.patience = patience
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self._reset()

    def _reset(self) -> None:
        self.wait_count = 0
        self.best_score = math.inf if self.rule == "less" else -math.inf
        self.last_score: float | None = None

    def before_train(self, runner: Run) -> None:
        """Checks the rule. If a resumed run already meets a stopping condition, ends it at once."""
        self._metric.check_rule()
        if self._has_default and runner.is_plain:
            self.min_delta = 0.0
        if not runner.iter:  # the hook may have been used in another run
            self._reset()
        if reason := self._reason_to_stop():
            runner.train_loop.stop_training = True
            runner.logger.warning(
                "Early stopping ended this run at iteration %d: %s. To continue training, remove EarlyStoppingHook, "
                "increase its patience, or change its threshold.",
                runner.iter,
                reason,
            )

    def after_val_epoch(self, runner: Run, metrics: Mapping[str, Any] | None = None) -> None:
        """Updates the best value of the metric, and ends training if a stopping condition is met.

        Does nothing if a hook has called `runner.val()`.
        """
        score = self._metric.read(runner, metrics or {})
        if score is None or runner.activity.is_validating_by_call:
            return
        if self.last_score is None and 0 < abs(score) < 10 * self.min_delta:
            runner.logger.warning(
                "EarlyStoppingHook: min_delta=%g is large compared to %s=%g. Smaller improvements are ignored.",
                self.min_delta,
                self.monitor,
                score,
            )
        if self._metric.is_better(score, self.best_score, self.min_delta):
            self.best_score = score
            self.wait_count = 0
        else:
            self.wait_count += 1
        self.last_score = score
        if reason := self._reason_to_stop():
            runner.train_loop.stop_training = True
            runner.logger.info("Early stopping after iteration %d: %s.", runner.iter, reason)

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Raises ArgumentError if validation does not compute the metric."""
        self._metric.resolve_name(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best and latest values, and the number of validation runs since the last improvement."""
        return {"wait_count": self.wait_count, "best_score": self.best_score, "last_score": self.last_score}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.wait_count = state["wait_count"]
        self.best_score = state["best_score"]
        self.last_score = state["last_score"]

    def _reason_to_stop(self) -> str:
        score = self.last_score
        limit = self.stopping_threshold
        if score is None:
            return ""
        if self.check_finite and not math.isfinite(score):
            return f"{self.monitor} is {score}"
        if limit is not None and (score == limit or self._metric.is_better(score, limit)):
            return f"{self.monitor} is {score:g}, at least as good as the threshold {limit:g}"
        if self.wait_count >= self.patience:
            return (
                f"{self.monitor} was not better than {self.best_score:g} by more than min_delta={self.min_delta:g} "
                f"in {pluralize(self.wait_count, 'validation run')}"
            )
        return ""


@HOOKS.register_module()
class TimeLimitHook(Hook):
    """Stops training early enough for the final validation run and save to finish within the time limit.

    This hook is added automatically if `train_cfg` sets `max_hours`. The clock starts when training starts in this
    process, so a resumed run gets the full time limit again. The time to reserve at the end is estimated from the
    longest validation run and save so far. Until the first validation run, a validation batch is assumed to take as
    long as a training iteration.

    Args:
        max_hours: The time limit in hours.

    Raises:
        ArgumentError: The limit is not a positive number.
    """

    priority = "VERY_LOW"

    def __init__(self, max_hours: float) -> None:
        check_number("max_hours", max_hours, above=0)
        self.max_hours = max_hours
        self._end = math.inf
        self._validation: float | None = None  # the longest duration of validation on all datasets, in seconds
        self._saving = 0.0  # the duration of the longest save, in seconds
        self._iteration = 0.0  # the decaying maximum duration of an iteration, in seconds
        self._since = time.monotonic()  # the end of the previous iteration or validation

    def before_train(self, runner: Run) -> None:
        """Sets the run's deadline."""
        self._end = time.monotonic() + self.max_hours * _SECONDS

    def before_train_epoch(self, runner: Run) -> None:
        """Restarts the timer before the first iteration of an epoch, and before validation."""
        self._since = time.monotonic()

    before_val = before_train_epoch

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Ends training if the remaining time is needed for the last validation run and save."""
        self._iteration = max(self._elapsed(), self._iteration * _FADING)
        self._end_in_time(runner)

    def after_val(self, runner: Run) -> None:
        """Records how long validation on all datasets takes, and ends training if no time is left to continue."""
        self._validation = max(self._elapsed(), self._validation or 0.0)
        if runner.activity.is_training:
            self._end_in_time(runner)

    def _elapsed(self) -> float:
        """Returns the seconds since the timer was last restarted, and restarts it."""
        since = self._since
        self._since = time.monotonic()
        return self._since - since

    def _end_in_time(self, runner: Run) -> None:
        """Ends training if the next iteration, a validation run and two saves might not finish in time."""
        self._saving = max(self._saving, runner.saver.seconds)
        validation = self._validation
        if validation is None or runner.val_loop is None:
            batches = sum(length_of(data.dataloader) or 0 for data in sets_of(runner.val_loop))
            validation = batches * self._iteration
        exchange = SECONDS_BETWEEN_EXCHANGES if get_world_size() > 1 else 0.0
        needed = self._iteration + exchange + _MARGIN * (validation + 2 * self._saving)
        local = runner.requests.local
        if not local.time_limit and self._since + needed >= self._end:
            local.time_limit = True
            runner.logger.info("Ending training because the time limit is near.")

    def after_run(self, runner: Run) -> None:
        """Warns if the run exceeded the time limit."""
        late = time.monotonic() - self._end
        if runner.train_loop.out_of_time and late > 0:
            runner.logger.warning("The run exceeded max_hours=%g by %.0f s.", self.max_hours, late)

    def state_dict(self) -> dict[str, Any]:
        """Returns the durations of the longest validation run and the longest save, in seconds."""
        return {"validation": self._validation, "saving": self._saving}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the durations that `state_dict` returned."""
        self._validation = state["validation"]
        self._saving = state["saving"]

"""Reads the metrics that hooks monitor, and reports missing or ambiguous ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from footplate.checks import check_score
from footplate.engine import Run
from footplate.errors import ArgumentError
from footplate.evaluation.evaluation_sets import sets_of
from footplate.messages import list_names
from footplate.metric_names import (
    GREATER,
    LESS,
    MissingMetricError,
    Rule,
    find_metric,
    find_rule,
    is_better,
    metric_of_label,
)
from footplate.weighted import EmptyMean

_MAX_NAMES = 10


class UnknownRuleError(ArgumentError):
    """Raised if no rule is set and it is unclear whether a higher or lower value of a metric is better.

    Hooks raise this error at the start of training, not in their constructors, so that the preflight check can first
    report a misspelled name as a missing metric.

    Args:
        metric: The metric.
        key: The setting that selects the metric.
    """

    def __init__(self, metric: str, key: str) -> None:
        super().__init__(
            f"cannot tell whether a higher or lower '{metric}' is better",
            key=key,
            notes=["Set rule='greater' or rule='less'. For several metrics, set a list with one rule for each."],
        )


def should_skip_metric(runner: Run, name: str, metrics: Mapping[str, Any]) -> bool:
    """Decides whether a hook skips a metric after a validation run.

    Skips the metric outside training, or if it is an `EmptyMean`. If the metric is missing for another accepted reason,
    skips it with a warning. Any other missing metric is read, which raises an error.
    """
    if not runner.activity.is_training:
        return True
    if (found := find_metric(name, metrics)) in metrics:
        return isinstance(metrics[found], EmptyMean)
    label = metric_of_label(name)
    may_be_missing = (
        not metrics  # for example, the model does not predict anything yet
        or not runner.history.known_metrics.isdisjoint((name, label))  # an earlier validation run has computed it
        or _lacks_optional_prefix(runner, label, metrics)
    )
    if may_be_missing:
        returned = f"only {list_names(metrics, _MAX_NAMES)}" if metrics else "no metrics"
        runner.logger.warning("Validation returned %s, so no value of '%s' is available.", returned, name)
    return may_be_missing


def _lacks_optional_prefix(runner: Run, label: str, metrics: Mapping[str, Any]) -> bool:
    """Checks whether a metric has an optional prefix that none of `metrics` has; see `BaseMetric.optional_prefixes`."""
    for dataset in sets_of(runner.val_loop):
        for metric in dataset.evaluator.metrics:
            for prefix in dataset.named(dict.fromkeys(metric.optional_prefixes)):
                if label.startswith(prefix) and not any(other.startswith(prefix) for other in metrics):
                    return True
    return False


class MonitoredMetric:
    """A metric that a hook reads after each validation run.

    Args:
        name: The metric.
        key: The hook setting that selects the metric, for messages.
        rule: "greater" or "less". By default, the rule is derived from the name.
        greater: See `find_rule`.
        less: See `find_rule`.
    """

    def __init__(
        self,
        name: str,
        key: str,
        rule: Rule | None = None,
        greater: Sequence[str] = GREATER,
        less: Sequence[str] = LESS,
    ) -> None:
        self.name = name
        self.key = key
        self.rule = rule or find_rule(name, greater, less)

    def check_rule(self) -> None:
        """Raises UnknownRuleError if no rule is set and it cannot be derived from the name."""
        if self.rule is None:
            raise UnknownRuleError(self.name, self.key)

    def resolve_name(self, metrics: Sequence[str]) -> None:
        """Resolves the metric's name in the validation metrics. Raises MissingMetricError if it is missing."""
        self.name = find_metric(self.name, metrics)
        if self.name not in metrics:
            raise MissingMetricError(self.key, self.name, metrics, self.key)

    def read(self, runner: Run, metrics: Mapping[str, Any]) -> float | None:
        """Returns the metric's value, or None if this validation run does not compute it."""
        if should_skip_metric(runner, self.name, metrics):
            return None
        self.resolve_name(tuple(metrics))
        return check_score(self.name, metrics[self.name], key=self.key)

    def is_better(self, value: float, than: float, by: float = 0.0) -> bool:
        """Checks whether `value` beats `than` by more than `by`. Returns False if the rule is unknown."""
        return self.rule is not None and is_better(value, than, self.rule, by)

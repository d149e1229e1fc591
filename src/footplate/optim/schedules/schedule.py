"""The base classes for schedules, which change one field of all parameter groups during training."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from footplate.checks import check_score, is_number
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.metric_names import MissingMetricError, find_metric
from footplate.optim.by_optimizer import schedules_by_optimizer
from footplate.optim.schedules.base_curve import ENDLESS, check_positions
from footplate.registry import PARAM_SCHEDULERS

Lengths = Mapping[str, int | None]
"""The `epoch_length`, `max_epochs` and `max_iters` of a run. Unknown ones are None."""


class HasParamGroups(Protocol):
    """An optimizer or an optimizer wrapper."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups, as in `torch.optim.Optimizer`."""


def field_key(optimizer: HasParamGroups, field: str) -> str:
    """Returns the parameter group key for `field`. For the momentum of optimizers with betas, this is "betas"."""
    defaults = getattr(optimizer, "defaults", {})
    return "betas" if field == "momentum" and field not in defaults and "betas" in defaults else field


def read_field(group: Mapping[str, Any], key: str) -> float:
    """Returns a field of a parameter group as a number. For `betas`, returns the first beta."""
    value = group[key]
    return float(value[0] if isinstance(value, (list, tuple)) else value)


def write_field(group: dict[str, Any], key: str, value: float) -> None:
    """Sets a field of a parameter group. For `betas`, sets the first beta.

    Tensors are modified in place, which compiled optimizers require.
    """
    current = group[key]
    if isinstance(current, Tensor):
        current.fill_(value)
    else:
        group[key] = (value, *current[1:]) if isinstance(current, (list, tuple)) else value


class Schedule:
    """Base class for schedules. Each call to `step` advances by one epoch, iteration or validation run.

    The base value of a group is the initial value of its field, stored in the group as `initial_<field>`.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        param_name: The field to schedule, such as `lr`, `weight_decay` or `momentum` (the first beta of optimizers
            with betas).
        begin: The position at which the schedule begins.
        end: The position at which the schedule ends (exclusive). None if it never ends.
        last_step: The last completed position, counted from `begin`. It is -1 before the first one.
        by_epoch: Whether the schedule counts epochs rather than iterations.

    Raises:
        ArgumentError: A position is invalid, `begin` is not before `end`, or a group does not have the field.
        TypeError: `optimizer` is no optimizer.
        KeyError: `last_step` is set, but a group does not have its initial value.
    """

    takes_metrics = False
    """Whether `step` requires validation metrics."""

    def __init__(
        self,
        optimizer: HasParamGroups,
        param_name: str,
        *,
        begin: float = 0,
        end: float | None = None,
        last_step: int = -1,
        by_epoch: bool,
    ) -> None:
        if end is None or end == math.inf:
            end = ENDLESS
        check_positions("begin", begin, least=0)
        check_positions("end", end, least=0)
        if begin >= end:
            raise ArgumentError("'begin' must be less than 'end'", key="end", found=f"begin {begin}, end {end}")
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(f"the optimizer of a schedule should be an Optimizer or an OptimWrapper, not {optimizer!r}")
        # Store the optimizer, because a wrapper's `param_groups` property would slow down each step.
        self.optimizer: HasParamGroups = getattr(optimizer, "optimizer", optimizer)
        self.param_name = param_name
        self._initial = f"initial_{param_name}"
        self.by_epoch = by_epoch
        self.begin = int(begin)
        self.end = int(end)
        self.last_step = last_step
        self._global_step = self.begin + last_step if last_step >= 0 else -1
        self._key = field_key(self.optimizer, param_name)
        for group in self.optimizer.param_groups:
            if group.get(self._key) is None:
                raise ArgumentError(
                    f"a parameter group of the optimizer has no '{param_name}'",
                    key="param_name",
                    found=param_name,
                    suggestion=nearest(param_name, group),
                )
            if last_step >= 0 and self._initial not in group:
                raise KeyError(
                    f"param '{self._initial}' is not specified in a parameter group. With last_step={last_step}, load "
                    "the optimizer's state first."
                )
        self.base_values: list[float] = []  # the base value of each group
        self._add_groups()

    @classmethod
    def from_config(cls, cfg: Any, optimizer: HasParamGroups, lengths: Lengths) -> "Schedule":
        """Builds the schedule from its config, in which `type` refers to this class, for a run with the given lengths.

        By default, a schedule ends with the run, unless it counts validation runs.
        """
        defaults: dict[str, Any] = {}
        begin = cfg.get("begin", 0)
        end = lengths["max_epochs" if cfg.get("by_epoch", True) else "max_iters"]
        if end is not None and is_number(begin) and end > begin and not cls.takes_metrics:
            defaults["end"] = end
        if cfg.get("convert_to_iter_based"):
            defaults["epoch_length"] = lengths["epoch_length"]
        return PARAM_SCHEDULERS.build(cfg, optimizer, **defaults)  # type: ignore[no-any-return]

    def _add_groups(self) -> None:
        """Stores the base values of parameter groups that have been added to the optimizer since the last call."""
        for group in self.optimizer.param_groups[len(self.base_values) :]:
            self.base_values.append(group.setdefault(self._initial, read_field(group, self._key)))

    def rewind(self, saved: Sequence[Any] = ()) -> None:
        """Resets the schedule to its state before the first step, and each group's field to its base value.

        Base values are read from `initial_<field>` in the groups, which may come from a checkpoint. After rewinding all
        schedules of an optimizer, call `start` on each of them in order.

        Args:
            saved: The states of the optimizer's schedules in that checkpoint, which torch schedulers take into account.
        """
        self.last_step = -1
        self._global_step = -1
        self._add_groups()
        for index, group in enumerate(self.optimizer.param_groups):
            base = self.base_values[index] = group.setdefault(self._initial, self.base_values[index])
            write_field(group, self._key, base)

    def start(self) -> None:
        """Performs the first step, if the schedule has one. Also called after `rewind`."""

    def step(self) -> None:
        """Advances by one epoch, iteration or validation run."""
        raise NotImplementedError

    def get_last_value(self) -> list[float]:
        """Returns the current value of the field in each group."""
        return [read_field(group, self._key) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Returns the type, position, base values and current values as plain data."""
        return {
            "type": type(self).__name__,
            "param_name": self.param_name,
            "begin": self.begin,
            "end": self.end,
            "by_epoch": self.by_epoch,
            "last_step": self.last_step,
            "_global_step": self._global_step,
            "base_values": [float(base) for base in self.base_values],
            "_last_value": self.get_last_value(),
        }

    def changes(self, state_dict: dict[str, Any]) -> list[str]:
        """Returns the new type and settings that differ from a saved state, e.g. `["gamma=0.9"]`. Ignores `end`."""
        new, saved = ({**state, **state.get("settings", {})} for state in (self.state_dict(), state_dict))
        keys = ("type", "param_name", "begin", "by_epoch", *state_dict.get("settings", ()))
        return [f"{key}={new[key]}" for key in keys if key in saved and key in new and saved[key] != new[key]]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state returned by `state_dict`: the position, the base values, `begin`, `end` and `by_epoch`.

        Load the optimizer's state first, since it contains the current values. If the number of groups differs, the
        base values also come from the optimizer.
        """
        for name in ("begin", "end", "by_epoch"):
            setattr(self, name, state_dict.get(name, getattr(self, name)))
        self.last_step = state_dict["last_step"]
        self._global_step = state_dict["_global_step"]
        bases = list(state_dict.get("base_values", ()))
        self.base_values = bases if len(bases) == len(self.optimizer.param_groups) else []
        self._add_groups()

    def resume(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of a run that continues with this schedule's own `end`."""
        self.load_state_dict(state_dict | {"end": self.end})


class MetricSchedule(Schedule):
    """Base class for schedules that monitor a validation metric."""

    monitor: str
    """The name of the monitored metric."""
    rule = ""
    """Whether lower ("less" or "min") or higher ("greater" or "max") values of the metric are better."""
    advice: Sequence[str] = ()
    """Notes to add to the error about a missing metric."""

    def check_metrics(self, metrics: Collection[str]) -> None:
        """Checks that the monitored metric is among `metrics`, the names of the validation metrics.

        Raises:
            MissingMetricError: The metric is missing.
        """
        if find_metric(self.monitor, metrics) not in metrics:
            raise MissingMetricError("monitor", self.monitor, metrics, "param_scheduler.monitor", self.advice)

    def monitored_value(self, metrics: Mapping[str, Any]) -> float:
        """Returns the value of the monitored metric."""
        self.check_metrics(metrics)
        return check_score(self.monitor, metrics[find_metric(self.monitor, metrics)], key="param_scheduler.monitor")


class ScheduleSteps(NamedTuple):
    """A run's schedules in stepping order, grouped by the event after which they step."""

    by_iter: list[Callable[[], None]]
    """The `step` methods to call after each training iteration."""
    by_epoch: list[Callable[[], None]]
    """The `step` methods to call after each training epoch."""
    by_metrics: list[Any]
    """The schedules to step after each validation run, with its metrics."""


def collect_steps(schedules: Iterable[Schedule] | Mapping[str, Iterable[Schedule]]) -> ScheduleSteps:
    """Groups schedules by the event after which they step.

    Args:
        schedules: Schedules, or a dict that maps optimizer names to lists of schedules.
    """
    steps = ScheduleSteps([], [], [])
    for part in schedules_by_optimizer(schedules).values():
        for schedule in part:
            if schedule.takes_metrics:
                steps.by_metrics.append(schedule)
            elif schedule.by_epoch:
                steps.by_epoch.append(schedule.step)
            else:
                steps.by_iter.append(schedule.step)
    return steps

"""The base class for schedules, which apply a curve to a field of parameter groups."""

import itertools
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from footplate.checks import read_count
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.optim.by_optimizer import schedules_by_optimizer
from footplate.optim.schedules.base_curve import ENDLESS, Curve, check_positions

_logger = logging.getLogger("footplate.optim")


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


class ParamSchedule:
    """Applies a curve to one field of all parameter groups, from `begin` to `end`.

    Each call to `step` advances by one epoch or iteration. From `begin` to `end`, `step` sets the field of each group
    to `curve(current value, base value, position, end - begin)`, where `position` is counted from `begin`. Outside this
    range, `step` does not change the field. You can therefore chain several schedules for one field: each continues
    from the last value of the previous one. The base value is the initial value of the field, stored in the group as
    `initial_<field>`.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        curve: The curve. May be omitted only in subclasses that bypass the constructor of a named schedule. They set
            the curve's settings as attributes of the schedule, which are not checked.
        param_name: The field to schedule, such as `lr`, `weight_decay` or `momentum` (the first beta of optimizers
            with betas).
        begin: The epoch or iteration at which the schedule begins.
        end: The epoch or iteration at which the schedule ends (exclusive). In a config, the default is the end of
            training. Otherwise, the schedule is as long as the curve by default, or endless if the curve has no length.
        last_step: The last completed position, counted from `begin`, for continuing a schedule without resetting the
            groups. -1 starts from the beginning.
        by_epoch: Whether the schedule counts epochs rather than iterations.
        verbose: Whether to log each change.
        convert_to_iter_based: Whether to convert `begin`, `end` and the curve's settings from epochs to iterations.
        epoch_length: The number of iterations per epoch, for `convert_to_iter_based`.

    Raises:
        ArgumentError: A position is invalid, `begin` is not before `end`, a group does not have the field, or
            `convert_to_iter_based` is set without `epoch_length` or with `by_epoch=False`.
    """

    takes_metrics: ClassVar[bool] = False
    """Whether `step` requires validation metrics."""
    curve_type: ClassVar[type[Curve]] = Curve
    """The curve class of a named schedule."""
    converts_itself: ClassVar[bool] = False
    """Whether `convert_to_iter_based` is implemented by `build_iter_from_epoch` rather than by the constructor."""

    def __init__(
        self,
        optimizer: HasParamGroups,
        curve: Curve | None = None,
        *,
        param_name: str = "lr",
        begin: float = 0,
        end: float | None = None,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
        convert_to_iter_based: bool = False,
        epoch_length: int | None = None,
    ) -> None:
        if curve is None:
            curve = self.curve_type.without_checks(vars(self))
        if end == math.inf:
            end = ENDLESS
        if convert_to_iter_based:
            if not by_epoch or not epoch_length:
                message = f"convert_to_iter_based in {type(self).__name__} needs epoch_length and by_epoch=True"
                raise ArgumentError(message, key="convert_to_iter_based", found=True)
            begin = int(begin * epoch_length)
            end = None if end is None else int(end * epoch_length)
            by_epoch = False
            curve = curve.in_iterations(epoch_length)
        if end is None:
            length = curve.length()
            end = ENDLESS if length is None else begin + length
        for name, value, least in (("begin", begin, 0), ("end", end, 0), ("last_step", last_step, -1)):
            check_positions(name, value, least=least)
        if begin >= end:
            raise ArgumentError('"begin" must be less than "end"', key="end", found=f"begin {begin}, end {end}")
        # Store the optimizer, because a wrapper's `param_groups` property would slow down each step.
        self.optimizer: HasParamGroups = getattr(optimizer, "optimizer", optimizer)
        self.curve = curve
        self.param_name = param_name
        self.by_epoch = by_epoch
        self.verbose = verbose
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
        self.base_values: list[float] = []  # the base value of each group
        self._add_groups()
        if last_step < 0:
            self.start()

    def __getattr__(self, name: str) -> Any:
        """Returns a setting of the curve, e.g. `gamma`."""
        if name == "curve" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.curve, name)

    @classmethod
    def build_iter_from_epoch(
        cls, optimizer: HasParamGroups, *args: Any, epoch_length: int, **settings: Any
    ) -> "ParamSchedule":
        """Builds an iteration-based schedule from settings in epochs."""
        return cls(optimizer, *args, convert_to_iter_based=True, epoch_length=epoch_length, **settings)

    @property
    def _initial(self) -> str:
        return f"initial_{self.param_name}"

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
            self.base_values[index] = group.setdefault(self._initial, self.base_values[index])
            write_field(group, self._key, self.base_values[index])

    def start(self) -> None:
        """Sets the base values for this schedule and all later ones, and performs the first step.

        A schedule that requires validation metrics has no first step.
        """
        rebased = [self.curve.rebased(base) for base in self.base_values]
        if len(set(rebased)) < len(set(self.base_values)):
            _logger.warning(
                "%s gives all parameter groups the same %s, as in MMEngine, and ignores multipliers such as lr_mult. "
                "To keep them, combine a linear and a cosine schedule.",
                type(self).__name__,
                self.param_name,
            )
        self.base_values = rebased
        for group, base in zip(self.optimizer.param_groups, self.base_values, strict=True):
            group[self._initial] = base
        if not self.takes_metrics:
            self.step()

    def step(self) -> None:
        """Advances by one epoch or iteration, and sets the field if the schedule is active."""
        self._global_step += 1
        if not self.begin <= self._global_step < self.end:
            return
        self.last_step += 1
        if len(self.base_values) < len(self.optimizer.param_groups):
            self._add_groups()
        for group, value in zip(self.optimizer.param_groups, self._get_value(), strict=True):
            if self.verbose and value != read_field(group, self._key):
                _logger.info("%s: %g", self.param_name, value)
            write_field(group, self._key, value)

    def _get_value(self) -> list[float]:
        """Returns each group's value for the current position, `last_step`. Subclasses may override this method."""
        position = self.last_step
        span = self.end - self.begin
        pairs = zip(self.optimizer.param_groups, self.base_values, strict=True)
        return [self.curve(read_field(group, self._key), base, position, span) for group, base in pairs]

    def get_last_value(self) -> list[float]:
        """Returns the current value of the field in each group."""
        return [read_field(group, self._key) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Returns the type, settings, position, base values and current values as plain data."""
        plain = (int, float, str, list, tuple, NoneType)  # other settings cannot be saved
        settings = {name: value for name, value in vars(self.curve).items() if isinstance(value, plain)}
        return {
            "type": type(self).__name__,
            "param_name": self.param_name,
            "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
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
        """Loads the position and the base values, but not the settings, such as the length.

        Load the optimizer's state first, since it contains the current values. If the number of groups differs, the
        base values also come from the optimizer.

        The step that reaches `end` does not change the value. If the saved schedule had just reached its `end` and
        this schedule ends later, repeats this step so that it changes the value.
        """
        self.last_step = read_count(state_dict, "last_step", least=-1)
        self._global_step = read_count(state_dict, "_global_step", least=-1)
        bases = list(state_dict.get("base_values", ()))
        self.base_values = bases if len(bases) == len(self.optimizer.param_groups) else []
        self._add_groups()
        is_at_end = self._global_step == state_dict.get("end")
        if is_at_end and self._global_step < self.end and not self.takes_metrics:
            self._global_step -= 1
            self.step()


class ScheduleSteps(NamedTuple):
    """A run's schedules in stepping order, grouped by the event after which they step."""

    by_iter: list[Callable[[], None]]
    """The `step` methods to call after each training iteration."""
    by_epoch: list[Callable[[], None]]
    """The `step` methods to call after each training epoch."""
    by_metrics: list[Any]
    """The schedules to step after each validation run, with its metrics."""


def collect_steps(schedules: Iterable[ParamSchedule] | Mapping[str, Iterable[ParamSchedule]]) -> ScheduleSteps:
    """Groups schedules by the event after which they step.

    Args:
        schedules: Schedules, or a dict that maps optimizer names to lists of schedules.
    """
    steps = ScheduleSteps([], [], [])
    for schedule in itertools.chain.from_iterable(schedules_by_optimizer(schedules).values()):
        if schedule.takes_metrics:
            steps.by_metrics.append(schedule)
        elif schedule.by_epoch:
            steps.by_epoch.append(schedule.step)
        else:
            steps.by_iter.append(schedule.step)
    return steps

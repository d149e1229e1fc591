"""The base class of schedules, which applies a curve to a field of parameter groups."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from footplate.checks import check_number, check_saved_number, read_count
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.optim.schedules.base_curve import ENDLESS, Curve, check_positions

Slot = MutableMapping[str, Any]
"""A mapping in which a field is read and written as a number. For plain numbers, this is the parameter group itself."""


class HasParamGroups(Protocol):
    """An optimizer or an optimizer wrapper."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The parameter groups."""


class _View(dict[str, Any]):
    """A view of a parameter group in which a field is a plain number."""

    def __init__(self, group: dict[str, Any]) -> None:
        super().__init__()
        self._group = group


class LiveField(_View):
    """A read-only view of a group that returns the current value of a tensor field as a number."""

    def __getitem__(self, name: str) -> Any:
        return float(self._group[name])


class _FirstBeta(_View):
    """A view of a group that reads and writes only the first value of `betas`."""

    def __getitem__(self, name: str) -> Any:
        return self._group[name][0]

    def __setitem__(self, name: str, value: Any) -> None:
        self._group[name] = (value, *self._group[name][1:])


class _TensorField(_View):
    """A view of a group with a tensor field, as in compiled or captured optimizers.

    Writing fills the tensor in place, so that a captured graph uses the new value. Reading returns the last number
    that was written, in double precision and without a copy from the device.
    """

    def __init__(self, group: dict[str, Any], name: str) -> None:
        super().__init__(group)
        super().__setitem__(name, float(group[name]))

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._group[name].fill_(value)


def field_key(optimizer: HasParamGroups, field: str) -> str:
    """Returns the key of `field` in parameter groups: "betas" for the momentum of optimizers with betas."""
    defaults = getattr(optimizer, "defaults", {})
    return "betas" if field == "momentum" and field not in defaults and "betas" in defaults else field


def field_slots(optimizer: HasParamGroups, field: str) -> tuple[str, list[Slot]]:
    """Returns the key of `field`, and its slot in each parameter group; see `field_slot`.

    Raises:
        ArgumentError: A group does not have the field, or its value is None.
    """
    groups, key = optimizer.param_groups, field_key(optimizer, field)
    for group in groups:
        if key not in group:
            known = [name for name in group if name != "params" and not name.startswith("initial_")]
            raise ArgumentError(
                f'the parameter groups of the optimizer have no field "{field}"',
                key="param_name",
                found=field,
                suggestion=nearest(field, known),
            )
        if group[key] is None:
            raise ArgumentError(
                f'"{field}" is None: the optimizer sets it itself, so it cannot be scheduled', key="param_name"
            )
    return key, [field_slot(group, key, first=key != field) for group in groups]


def field_slot(group: dict[str, Any], key: str, *, first: bool) -> Slot:
    """Returns the mapping in which `group[key]`, or with `first` its first value, is read and written as a number."""
    if first:
        return _FirstBeta(group)
    return _TensorField(group, key) if isinstance(group[key], Tensor) else group


_logger = logging.getLogger("footplate.optim")


class ParamSchedule:
    """Applies a curve to one field of all parameter groups, between `begin` and `end`.

    Each `step` advances by one position. From `begin` to `end`, the field of each group is set to
    `curve(current value, base value, position, end - begin)`. Outside this range, the schedule does not change the
    field. Several schedules for one field can therefore be combined: each continues from the value of the previous one.
    The base value is the initial value of the field, stored in the group as `initial_<field>`.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        curve: The curve. It may be omitted only by subclasses that bypass the constructor of a named schedule. The
            settings of the curve are then read from the attributes of the schedule, without checks.
        param_name: The field to schedule, such as `lr`, `weight_decay` or `momentum` (the first beta of optimizers
            with betas).
        begin: The first position at which the schedule acts.
        end: The position from which the schedule no longer acts. By default, it acts for the length of the curve, or
            to the end of training if the curve has no length.
        last_step: The last completed position. The schedule continues after it, and its creation does not change the
            groups. With -1, it starts from the beginning.
        by_epoch: Whether positions are epochs instead of iterations.
        verbose: Whether to log each change.
        convert_to_iter_based: Whether to convert `begin`, `end` and the settings of the curve from epochs to
            iterations.
        epoch_length: The number of iterations per epoch, for `convert_to_iter_based`.

    Raises:
        ArgumentError: `begin` is not before `end`, or a group does not have the field.
    """

    takes_metrics: ClassVar[bool] = False
    """Whether `step` needs the metrics of a validation."""
    curve_type: ClassVar[type[Curve] | None] = None
    """The class of the curve of a named schedule."""
    converts_itself: ClassVar[bool] = False
    """Whether `build_iter_from_epoch`, rather than the constructor, implements `convert_to_iter_based`."""

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
            if self.curve_type is None:
                raise ArgumentError(f"{type(self).__name__} needs a curve", key="curve")
            curve = self.curve_type.without_checks(vars(self))
        check_number("begin", begin)
        if end == math.inf:
            end = ENDLESS
        check_number("end", end, optional=True)
        if convert_to_iter_based:
            if not by_epoch or not epoch_length:
                needed = "epoch_length" if by_epoch else "by_epoch=True"
                message = f"convert_to_iter_based of {type(self).__name__} needs {needed}"
                raise ArgumentError(message, key="convert_to_iter_based", found=True)
            begin, end = int(begin * epoch_length), None if end is None else int(end * epoch_length)
            by_epoch, curve = False, curve.in_iterations(epoch_length)
        if end is None:
            length = curve.length()
            end = ENDLESS if length is None else begin + length
        for name, value, least in (("begin", begin, 0), ("end", end, 0), ("last_step", last_step, -1)):
            check_positions(name, value, least=least)
        if begin >= end:
            raise ArgumentError('"begin" must be less than "end"', key="end", found=f"begin {begin}, end {end}")
        # Not the wrapper: its property `param_groups` would slow down each step.
        self.optimizer: HasParamGroups = getattr(optimizer, "optimizer", optimizer)
        self.curve, self.param_name, self.by_epoch, self.verbose = curve, param_name, by_epoch, verbose
        self.begin, self.end = int(begin), int(end)
        self.last_step = last_step
        self._global_step = self.begin + last_step if last_step >= 0 else -1
        self._bind([])
        if last_step < 0:
            self.start()

    def __getattr__(self, name: str) -> Any:
        """Returns a setting of the curve, such as `gamma`."""
        if name == "curve" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.curve, name)

    @classmethod
    def build_iter_from_epoch(
        cls, optimizer: HasParamGroups, *args: Any, epoch_length: int, **settings: Any
    ) -> "ParamSchedule":
        """Builds a schedule from settings in epochs. The schedule is stepped after each iteration."""
        return cls(optimizer, *args, convert_to_iter_based=True, epoch_length=epoch_length, **settings)

    def _bind(self, bases: list[float]) -> None:
        """Binds the schedule to the current parameter groups of the optimizer.

        Args:
            bases: The base value of each group. If there are more or fewer values than groups, the base values are
                taken from the groups.
        """
        self._groups = self.optimizer.param_groups
        self._key, slots = field_slots(self.optimizer, self.param_name)
        initial = f"initial_{self.param_name}"
        if len(bases) != len(slots):
            values = [slot[self._key] for slot in slots]
            bases = [group.get(initial, value) for group, value in zip(self._groups, values, strict=True)]
        for group, base in zip(self._groups, bases, strict=True):
            group.setdefault(initial, base)
        self._slots = list(zip(slots, bases, strict=True))

    def rewind(self, *, from_groups: bool = False) -> None:
        """Resets the schedule to its state before the first step, and the field of each group to its base value.

        The base value is `initial_<field>` of the group, which may have been loaded from a checkpoint. After all
        schedules of an optimizer have been reset, call `start` on each of them in order.

        Args:
            from_groups: Whether to use the current value of groups without `initial_<field>` as their base value.
        """
        if from_groups:
            self._bind([])
        self.last_step = self._global_step = -1
        groups, initial = self.optimizer.param_groups, f"initial_{self.param_name}"
        self._bind([group.get(initial, base) for group, base in zip(groups, self.base_values, strict=True)])
        for slot, base in self._slots:
            slot[self._key] = base

    def start(self) -> None:
        """Moves to the first position, and sets the base values of the curve, which also apply to later schedules."""
        bases = [self.curve.rebased(base) for base in self.base_values]
        for group, base in zip(self._groups, bases, strict=True):
            group[f"initial_{self.param_name}"] = base
        self._bind(bases)
        if not self.takes_metrics:
            self.step()

    @property
    def base_values(self) -> list[float]:
        """The base value of each group."""
        return [base for _, base in self._slots]

    def step(self) -> None:
        """Advances by one position."""
        self._global_step += 1
        if self.begin <= self._global_step < self.end:
            self.last_step += 1
            groups = self.optimizer.param_groups  # loading a state replaces them, and a hook may add some
            if groups is not self._groups or len(groups) != len(self._slots):
                self._bind(self.base_values)
            key, verbose = self._key, self.verbose
            for group, ((slot, _), value) in enumerate(zip(self._slots, self._get_value(), strict=True)):
                if verbose and slot[key] != value:
                    self.print_value(True, group, value)
                slot[key] = value

    def print_value(self, is_verbose: bool, group: int, value: float) -> None:
        """Logs a new value of the parameter group with the index `group`, if `is_verbose` is set."""
        if is_verbose:
            _logger.info("%s: %g", self.param_name, value)

    def _get_value(self) -> list[float]:
        """Returns the next value of each group, at the position `last_step`. Other code bases override this method."""
        next_value, key = self.curve.at(self.last_step, self.end - self.begin), self._key
        return [next_value(slot[key], base) for slot, base in self._slots]

    def get_last_value(self) -> list[float]:
        """Returns the current value of the field in each group."""
        return [slot[self._key] for slot, _ in self._slots]

    def state_dict(self) -> dict[str, Any]:
        """Returns the settings, position, base values and current values as plain numbers."""
        return {
            "type": type(self).__name__,
            "param_name": self.param_name,
            "begin": self.begin,
            "end": self.end,
            "by_epoch": self.by_epoch,
            "last_step": self.last_step,
            "_global_step": self._global_step,
            "base_values": [float(value) for value in self.base_values],
            "_last_value": [float(value) for value in self.get_last_value()],
        }

    def matches(self, state_dict: dict[str, Any]) -> bool:
        """Checks whether the type and settings in a saved state match those of this schedule."""
        own = {"type": type(self).__name__, "param_name": self.param_name, "begin": self.begin}
        own["by_epoch"] = self.by_epoch
        return all(state_dict.get(key, value) == value for key, value in own.items())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the position and base values. The length and other settings are not loaded.

        Load the state of the optimizer first, since it contains the current values. The base values are also taken from
        the optimizer if the number of groups differs.

        The step that reaches the `end` of a schedule does not change the value. If the saved schedule had reached its
        `end` and this one ends later, that step is repeated here so that it takes effect.
        """
        self.last_step = read_count(state_dict, "last_step", least=-1)
        self._global_step = read_count(state_dict, "_global_step", least=-1)
        bases = state_dict.get("base_values", ())
        if not isinstance(bases, (list, tuple)):
            raise ValueError("'base_values' must be a list of numbers")
        self._bind([check_saved_number(base, "base_values", least=0) for base in bases])
        is_at_end = self._global_step == state_dict.get("end")
        if is_at_end and self._global_step < self.end and not self.takes_metrics:
            self._global_step -= 1
            self.step()


class ScheduleSteps(NamedTuple):
    """The schedules of a run, grouped by the event at which they are stepped, in the order of their steps."""

    by_iter: list[Callable[[], None]]
    """The `step` methods to call after each training iteration."""
    by_epoch: list[Callable[[], None]]
    """The `step` methods to call after each training epoch."""
    by_metrics: list[Any]
    """The schedules to step after each validation, with its metrics."""


def collect_steps(schedules: Iterable[ParamSchedule] | Mapping[str, Iterable[ParamSchedule]]) -> ScheduleSteps:
    """Groups the `step` methods of schedules by the event at which they are called.

    Args:
        schedules: Schedules, or a dict of lists of schedules, keyed by the name of the optimizer.
    """
    lists = schedules.values() if isinstance(schedules, Mapping) else [schedules]
    steps = ScheduleSteps([], [], [])
    for schedule in (each for one in lists for each in one):
        if schedule.takes_metrics:
            steps.by_metrics.append(schedule)
        else:
            (steps.by_epoch if schedule.by_epoch else steps.by_iter).append(schedule.step)
    return steps

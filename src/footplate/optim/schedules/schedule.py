"""A schedule: a pure curve and the name of the field it moves."""

import logging
from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.optim.schedules.checks import check_positions
from footplate.optim.schedules.curves import ENDLESS, Curve, Family
from footplate.optim.schedules.fields import HasGroups, slots_of
from footplate.state_values import check_saved_number, read_count

_logger = logging.getLogger("footplate.optim")


class ParamSchedule:
    """Moves one field of all parameter groups along a curve, between `begin` and `end`.

    Each `step` moves one position on. Between `begin` and `end` the field of each group becomes
    `curve(value before, base value, position)`; elsewhere the schedule leaves it alone. Several schedules of one
    field therefore act in turn, each on the value that the one before left. The base value is the one that the
    constructor of the optimizer set; a group keeps it as `initial_<field>`.

    Args:
        optimizer: An optimizer or wrapper.
        family: The curve's settings.
        param_name: The field: `lr`, `momentum` (the first beta where an optimizer has betas), `weight_decay`, ...
        begin: The first position at which the curve acts.
        end: The position at which it stops acting; by default the curve's own length, or never.
        by_epoch: Whether positions are epochs or iterations.
        last_step: -1 starts anew; anything else goes on after that position without touching the groups.
        verbose: Log every change.

    Raises:
        ArgumentError: `begin` is not before `end`, or the groups have no such field.
    """

    takes_metrics: ClassVar[bool] = False
    """Whether `step` takes the metrics of a validation."""

    def __init__(
        self,
        optimizer: HasGroups,
        family: Family,
        *,
        param_name: str = "lr",
        begin: int = 0,
        end: int | None = None,
        by_epoch: bool = True,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        # The optimizer itself, past a wrapper, since each step looks at its groups.
        self.optimizer: HasGroups = getattr(optimizer, "optimizer", optimizer)
        self.family = family
        self.param_name = param_name
        check_positions("last_step", last_step, least=-1)
        self.begin, self.end, self.by_epoch = begin, _end_of(family, begin, end), by_epoch
        self.last_step = last_step
        self._global_step = begin + last_step if last_step >= 0 else -1
        curve = family.over(self.end - begin)
        self._curve = _logged(curve, param_name) if verbose else curve
        self._bind([])
        if last_step < 0:
            self.start()

    def _bind(self, bases: list[float]) -> None:
        """Finds the field in each group, whose base values are `bases` where these are as many as the groups."""
        self._groups = self.optimizer.param_groups
        self._key, slots = slots_of(self.optimizer, self.param_name)
        note = f"initial_{self.param_name}"
        if len(bases) != len(slots):
            values = [slot[self._key] for slot in slots]
            bases = [group.get(note, value) for group, value in zip(self._groups, values, strict=True)]
        for group, base in zip(self._groups, bases, strict=True):
            group.setdefault(note, base)
        self._slots = list(zip(slots, bases, strict=True))

    def _rebase(self) -> None:
        """Lets the curve set base values of its own, also for the schedules behind this one."""
        bases = [self.family.rebased(base) for base in self.base_values]
        for group, base in zip(self._groups, bases, strict=True):
            group[f"initial_{self.param_name}"] = base
        self._bind(bases)

    def rewind(self, *, from_groups: bool = False) -> None:
        """Puts itself before its first position, and the field of each group back to its base value.

        That is the group's `initial_<field>`, which it may have been loaded with. When all schedules of an optimizer
        are put back, `start` lets them begin again in their order.

        Args:
            from_groups: Whether a group without `initial_<field>` has not been scheduled yet, so that its present value
                is the base value.
        """
        if from_groups:
            self._bind([])
        self.last_step = self._global_step = -1
        groups, note = self.optimizer.param_groups, f"initial_{self.param_name}"
        self._bind([group.get(note, base) for group, base in zip(groups, self.base_values, strict=True)])
        for slot, base in self._slots:
            slot[self._key] = base

    def start(self) -> None:
        """Takes its first position."""
        self._rebase()
        if not self.takes_metrics:
            self.step()

    @property
    def base_values(self) -> list[float]:
        """The field of each group as the constructor of the optimizer set it."""
        return [base for _, base in self._slots]

    def step(self) -> None:
        """Moves one position on."""
        self._global_step += 1
        if self.begin <= self._global_step < self.end:
            self.last_step += 1
            if self.optimizer.param_groups is not self._groups:  # the optimizer loaded its state
                self._bind(self.base_values)
            curve, key, position = self._curve, self._key, self.last_step
            for slot, base in self._slots:
                slot[key] = curve(slot[key], base, position)

    def get_last_value(self) -> list[float]:
        """Returns the field's value in each group."""
        return [slot[self._key] for slot, _ in self._slots]

    def state_dict(self) -> dict[str, Any]:
        """Returns the position, base values and values, all plain numbers."""
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
        """Checks whether a saved state belongs to such a schedule, as far as the state says."""
        own = {
            "type": type(self).__name__,
            "param_name": self.param_name,
            "begin": self.begin,
            "by_epoch": self.by_epoch,
        }
        return all(state_dict.get(key, value) == value for key, value in own.items())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at the position of `state_dict`; its length and settings stay those of the config.

        Load the optimizer's state first: the values themselves are its fields. Base values saved for another number of
        groups are taken from there, too.

        A run that ended saved its schedules at their `end`, where the last step does nothing. If the run goes on to a
        later end, that step is taken now.
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


def _end_of(family: Family, begin: int, end: int | None) -> int:
    if end is None:
        length = family.length()
        end = ENDLESS if length is None else begin + length
    check_positions("begin", begin, least=0)
    if end < ENDLESS:
        check_positions("end", end, least=0)
    if begin >= end:
        raise ArgumentError('"begin" must lie before "end"', key="end", found=f"begin {begin}, end {end}")
    return end


def _logged(curve: Curve, param_name: str) -> Curve:
    """Returns `curve`, with a line in the log for each value that it changes."""

    def speaking(value: float, base: float, position: int) -> float:
        changed = curve(value, base, position)
        if changed != value:
            _logger.info("%s: %g", param_name, changed)
        return changed

    return speaking

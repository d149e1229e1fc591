"""Schedules that apply a curve to a field of parameter groups."""

import dataclasses
import logging
import math
from types import NoneType
from typing import Any

from footplate.errors import ArgumentError
from footplate.optim.schedules.base_curve import Curve
from footplate.optim.schedules.schedule import HasParamGroups, Schedule, read_field, write_field

_logger = logging.getLogger("footplate.optim")


class ParamSchedule(Schedule):
    """Applies a curve to one field of all parameter groups, from `begin` to `end`.

    Each call to `step` advances by one epoch or iteration. From `begin` to `end`, `step` sets the field of each group
    to `curve(current value, base value, position, end - begin)`, where `position` is counted from `begin`. Outside this
    range, `step` does not change the field. You can therefore chain several schedules for one field: each continues
    from the last value of the previous one. The base value is the initial value of the field, stored in the group as
    `initial_<field>`.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        curve: The curve.
        param_name: The field to schedule, such as `lr`, `weight_decay` or `momentum` (the first beta of optimizers
            with betas).
        begin: The epoch or iteration at which the schedule begins.
        end: The epoch or iteration at which the schedule ends (exclusive). In a config, the default is the end of
            training. Otherwise, the schedule is as long as the curve by default, or endless if the curve has no length.
        last_step: The last completed position, counted from `begin`, to continue a schedule with the values in the
            groups. The constructor performs the next step. -1 starts from the beginning.
        by_epoch: Whether the schedule counts epochs rather than iterations.
        verbose: Whether to log each change.
        convert_to_iter_based: Whether to convert `begin`, `end` and the curve's settings from epochs to iterations.
        epoch_length: The number of iterations per epoch, for `convert_to_iter_based`. For schedules in a config,
            `Schedule.from_config` passes the number of training batches.

    Raises:
        ArgumentError: A position is invalid, `begin` is not before `end`, a group does not have the field, or
            `convert_to_iter_based` is set without `epoch_length` or with `by_epoch=False`.
    """

    def __init__(
        self,
        optimizer: HasParamGroups,
        curve: Curve,
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
        if convert_to_iter_based:
            if not by_epoch or not epoch_length:
                message = f"convert_to_iter_based in {type(self).__name__} needs epoch_length and by_epoch=True"
                raise ArgumentError(message, key="convert_to_iter_based", found=True)
            begin = int(begin * epoch_length)
            end = end if end in (None, math.inf) else int(end * epoch_length)
            by_epoch = False
            curve = curve.in_iterations(epoch_length)
        if end is None and (length := curve.length()) is not None:
            end = begin + length
        self.curve = curve
        self.verbose = verbose
        super().__init__(optimizer, param_name, begin=begin, end=end, last_step=last_step, by_epoch=by_epoch)
        if last_step < 0:
            self.start()
        else:
            self.step()

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

    def start(self) -> None:
        """Sets the base values for this schedule and all later ones, and performs the first step."""
        rebased = [self.curve.rebased(base) for base in self.base_values]
        if len(set(rebased)) < len(set(self.base_values)):
            _logger.warning(
                "%s gives all parameter groups the same %s, as in MMEngine, and ignores multipliers such as lr_mult. "
                "To keep them, combine a linear and a cosine schedule.",
                type(self).__name__,
                self.param_name,
            )
        self.base_values = rebased
        for group, base in zip(self.optimizer.param_groups, rebased, strict=True):
            group[self._initial] = base
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
        span = self.end - self.begin
        pairs = zip(self.optimizer.param_groups, self.base_values, strict=True)
        return [self.curve(read_field(group, self._key), base, self.last_step, span) for group, base in pairs]

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of `Schedule` and the curve's settings."""
        plain = (int, float, str, list, tuple, NoneType)  # other settings cannot be saved
        settings = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self.curve).items()
            if isinstance(value, plain)
        }
        return super().state_dict() | {"settings": settings}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads the position, the base values and the settings; see `Schedule`."""
        super().load_state_dict(state_dict)
        new, saved = ParamSchedule.state_dict(self)["settings"], state_dict.get("settings", {})
        names = [field.name for field in dataclasses.fields(self.curve) if field.init and field.name in saved]
        if changed := {name: saved[name] for name in names if saved[name] != new.get(name)}:
            self.curve = dataclasses.replace(self.curve, **changed)

    def resume(self, state_dict: dict[str, Any]) -> None:
        """Loads the state of a run that continues with this schedule's own `end`. Warns if the end has changed.

        A run that is resumed with a later end continues after the last step of the saved schedule. If that step had
        reached the saved `end`, it did not change the value. With the later end it does, so it is repeated.
        """
        super().resume(state_dict)
        saved_end = state_dict.get("end", self.end)
        if saved_end != self.end and self.curve.depends_on_end:
            _logger.warning(
                "%s was saved with end=%s and now has end=%s, so its values continue on a different curve and may stay "
                "close to zero. To use the curve of the new length, set resume_settings='take' "
                "(--resume-settings take).",
                type(self).__name__,
                saved_end,
                self.end,
            )
        if self._global_step == saved_end < self.end:
            self._global_step -= 1
            self.step()

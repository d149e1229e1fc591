"""The base classes of `mmengine.optim.scheduler` from which code bases derive schedules of their own."""

from typing import Any

from footplate.optim.schedules import ParamSchedule

INF = 10**9


class _ParamScheduler:
    """The base of schedules that compute the next value from the current one, in `_get_value`.

    Args:
        optimizer: The optimizer, or the optimizer wrapper.
        param_name: The field of parameter groups, such as "lr".
        begin: The first step of the schedule.
        end: The step at which the schedule ends.
        last_step: The step of a run that is resumed; -1 otherwise.
        by_epoch: Whether steps are epochs.
        verbose: Not used.

    Raises:
        ValueError: `begin` is not less than `end`.
    """

    takes_metrics = False

    def __init__(
        self,
        optimizer: Any,
        param_name: str,
        begin: int = 0,
        end: int = INF,
        last_step: int = -1,
        by_epoch: bool = True,
        verbose: bool = False,
    ) -> None:
        if not 0 <= begin < end:
            raise ValueError(f"'end' must be greater than 'begin', which must be at least 0. Found: {begin} and {end}.")
        self.optimizer, self.param_name = getattr(optimizer, "optimizer", optimizer), param_name
        self.begin, self.end, self.by_epoch = begin, end, by_epoch
        for group in self.optimizer.param_groups:
            group.setdefault(f"initial_{param_name}", group[param_name])
        self.base_values = [group[f"initial_{param_name}"] for group in self.optimizer.param_groups]
        self.last_step = last_step
        self._global_step = 0
        self.step()

    def _get_value(self) -> list[float]:
        """Returns the next value of each parameter group."""
        raise NotImplementedError

    def step(self, *_: Any) -> None:
        """Takes one step, and sets the values of the parameter groups while the schedule lasts."""
        if self._global_step == 0:
            self._global_step += 1
            if self.begin == 0:
                self.last_step += 1
                self._apply()
            return
        if self.begin <= self._global_step < self.end:
            self.last_step += 1
            self._apply()
        self._global_step += 1

    def _apply(self) -> None:
        for group, value in zip(self.optimizer.param_groups, self._get_value(), strict=True):
            group[self.param_name] = value

    def get_last_value(self) -> list[float]:
        """Returns the current value of each parameter group."""
        return [group[self.param_name] for group in self.optimizer.param_groups]

    def rewind(self, *, from_groups: bool = False) -> None:
        """Resets the schedule to before its first step, and the parameter groups to their base values.

        Args:
            from_groups: Not used: groups without a base value always get their current value as such.
        """
        self.last_step, self._global_step, self.base_values = -1, 0, []
        for group in self.optimizer.param_groups:
            group[self.param_name] = group.setdefault(f"initial_{self.param_name}", group[self.param_name])
            self.base_values.append(group[self.param_name])

    def start(self) -> None:
        """Takes the first step, which sets the values at the beginning of training."""
        self.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns the name of the class and everything but the optimizer."""
        return {"type": type(self).__name__, **{key: each for key, each in vars(self).items() if key != "optimizer"}}

    def matches(self, state_dict: dict[str, Any]) -> bool:
        """Checks whether a saved state belongs to a schedule of this kind."""
        own = {"type": type(self).__name__, "param_name": self.param_name, "by_epoch": self.by_epoch}
        return all(state_dict.get(key, value) == value for key, value in own.items())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the state."""
        vars(self).update({key: value for key, value in state_dict.items() if key != "type"})


class _OfField:
    """Sets the field of the schedules that derive from it."""

    _field: str

    def __init__(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(self, ParamSchedule):
            super().__init__(optimizer, *args, param_name=self._field, **kwargs)  # type: ignore[call-arg]
        else:
            super().__init__(optimizer, self._field, *args, **kwargs)  # type: ignore[call-arg]


class LRSchedulerMixin(_OfField):
    """A mixin for schedules that change the learning rate."""

    _field = "lr"


class MomentumSchedulerMixin(_OfField):
    """A mixin for schedules that change the momentum."""

    _field = "momentum"

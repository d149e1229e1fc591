"""Base classes of user-defined learning rate and momentum policies."""

import operator
from collections.abc import Mapping
from typing import Any

from footplate.checks import check_choice, check_number
from footplate.first_generation.adapters.hook import Hook
from footplate.registry import HOOKS

_Values = dict[str, list[float]]
"""Maps the name of each optimizer, empty if there is only one, to the values of its parameter groups."""


class UpdaterHook(Hook):
    """Sets one field of every parameter group to a value computed by a subclass, with an optional warm-up.

    Args:
        by_epoch: Whether the value changes between epochs rather than between iterations.
        warmup: "constant", "linear", "exp" or None.
        warmup_iters: The length of the warm-up in iterations.
        warmup_ratio: The initial factor of the warm-up.
        warmup_by_epoch: Whether `warmup_iters` is in epochs.

    Raises:
        ArgumentError: A warm-up setting is invalid.
    """

    field = ""
    checks_step_order = False
    divides = False  # whether the warm-up divides the value by its factor

    def __init__(
        self,
        by_epoch: bool = True,
        warmup: str | None = None,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.1,
        warmup_by_epoch: bool = False,
    ) -> None:
        if warmup is not None:
            check_choice("warmup", warmup, ("constant", "linear", "exp"))
            check_number("warmup_iters", warmup_iters, above=0)
            check_number("warmup_ratio", warmup_ratio, above=0, most=1)
        self.by_epoch = by_epoch
        self.warmup = warmup
        self.warmup_iters: int | None = None if warmup_by_epoch else warmup_iters
        self.warmup_epochs = warmup_iters if warmup_by_epoch else None
        self.warmup_ratio = warmup_ratio
        self.warmup_by_epoch = warmup_by_epoch
        self._base: _Values = {}
        self._regular: _Values = {}

    def before_run(self, runner: Any) -> None:
        """Reads the initial values of the parameter groups."""
        for name, optimizer in _by_name(runner.optimizer):
            self._base[name] = []
            for group in optimizer.param_groups:
                current = group["betas"][0] if self._is_beta(group) else group.get(self.field, 0)
                self._base[name].append(float(group.setdefault(f"initial_{self.field}", current)))

    def before_train_epoch(self, runner: Any) -> None:
        """Sets the learning rate or momentum for this epoch if `by_epoch` is set."""
        if self.warmup_epochs is not None:
            self.warmup_iters = self.warmup_epochs * len(runner.data_loader)
        if self.by_epoch:
            self._regular = self._values(runner)
            self._write(runner, self._regular)

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Sets the learning rate or momentum for this iteration, including warm-up."""
        iteration, length = runner.iter, self.warmup_iters or 0
        if not self.by_epoch:
            self._regular = self._values(runner)
        if self.warmup is not None and iteration < length:
            left, factor = 1 - iteration / length, self.warmup_ratio  # of a constant warm-up
            if self.warmup == "linear":
                factor = 1 - left * (1 - self.warmup_ratio)
            elif self.warmup == "exp":
                factor = self.warmup_ratio**left
            warm = operator.truediv if self.divides else operator.mul
            values = {name: [warm(each, factor) for each in group] for name, group in self._regular.items()}
            self._write(runner, values)
        elif not self.by_epoch or (self.warmup is not None and iteration == length):
            self._write(runner, self._regular)

    @property
    def base_values(self) -> Any:
        """The initial learning rate or momentum of each parameter group."""
        return self._base.get("", self._base)

    @property
    def regular_values(self) -> Any:
        """The value of each parameter group without warm-up."""
        return self._regular.get("", self._regular)

    def get_regular_values(self, runner: Any) -> Any:
        """Returns the value of each parameter group in this epoch or iteration without warm-up."""
        values = self._values(runner)
        return values.get("", values)

    def _value(self, runner: Any, base: float) -> float:
        raise NotImplementedError

    def _values(self, runner: Any) -> _Values:
        return {name: [self._value(runner, base) for base in bases] for name, bases in self._base.items()}

    def _is_beta(self, group: Mapping[str, Any]) -> bool:
        return self.field not in group and "betas" in group

    def _write(self, runner: Any, values: _Values) -> None:
        for name, optimizer in _by_name(runner.optimizer):
            for group, value in zip(optimizer.param_groups, values[name], strict=True):
                if self._is_beta(group):
                    group["betas"] = (value, *group["betas"][1:])
                elif self.field in group:
                    group[self.field] = value


@HOOKS.register_module()
class LrUpdaterHook(UpdaterHook):
    """Sets the learning rate to the value of `get_lr`. Subclasses implement `get_lr`.

    The arguments are those of UpdaterHook. During warm-up, the learning rate is multiplied by the warm-up factor.
    """

    priority = "VERY_HIGH"
    field = "lr"
    base_lr = UpdaterHook.base_values
    regular_lr = UpdaterHook.regular_values
    get_regular_lr = UpdaterHook.get_regular_values

    def get_lr(self, runner: Any, base_lr: float) -> float:
        """Returns the learning rate of this epoch or iteration for a parameter group with initial value `base_lr`."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_lr()")

    def _value(self, runner: Any, base: float) -> float:
        return self.get_lr(runner, base)


@HOOKS.register_module()
class MomentumUpdaterHook(UpdaterHook):
    """Sets the momentum, or the first beta, to the value of `get_momentum`. Subclasses implement `get_momentum`.

    The arguments are those of UpdaterHook. During warm-up, the momentum is divided by the warm-up factor.
    """

    priority = "HIGH"
    field = "momentum"
    base_momentum = UpdaterHook.base_values
    regular_momentum = UpdaterHook.regular_values
    get_regular_momentum = UpdaterHook.get_regular_values
    divides = True

    def get_momentum(self, runner: Any, base_momentum: float) -> float:
        """Returns the momentum of this epoch or iteration for a parameter group with initial value `base_momentum`."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_momentum()")

    def _value(self, runner: Any, base: float) -> float:
        return self.get_momentum(runner, base)


def _by_name(optimizer: Any) -> list[tuple[str, Any]]:
    return list(optimizer.items()) if isinstance(optimizer, Mapping) else [("", optimizer)]

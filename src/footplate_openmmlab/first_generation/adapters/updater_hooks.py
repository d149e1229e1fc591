"""Hooks for learning rate and momentum policies, with base classes for user-defined policies."""

import functools
import inspect
import math
from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.optim.schedules.schedule import field_key, read_field, write_field
from footplate.registry import HOOKS
from footplate_openmmlab.first_generation.adapters.hook import Hook
from footplate_openmmlab.first_generation.optim.policies import (
    BY_ITERATION,
    RunInfo,
    build_policy,
    check_warmup,
    find_policy,
    policy_settings,
    warm_value,
)

_Values = dict[str, list[float]]
"""Maps optimizer names to the values of the parameter groups. A single optimizer has the name ""."""


class UpdaterHook(Hook):
    """Base class for policies that set a parameter group field, such as `lr`, with an optional warm-up.

    Args:
        by_epoch: Whether values are computed once per epoch rather than once per iteration.
        warmup: "constant", "linear", "exp", or None for no warm-up.
        warmup_iters: The length of the warm-up.
        warmup_ratio: The factor at the start of the warm-up.
        warmup_by_epoch: Whether `warmup_iters` is given in epochs rather than iterations.

    Raises:
        ArgumentError: A warm-up setting is invalid.
    """

    field = ""

    def __init__(
        self,
        by_epoch: bool = True,
        warmup: str | None = None,
        warmup_iters: float = 0,
        warmup_ratio: float = 0.1,
        warmup_by_epoch: bool = False,
    ) -> None:
        check_warmup(warmup, warmup_iters, warmup_ratio)
        self.by_epoch = by_epoch
        self.warmup = warmup
        self.warmup_iters: float | None = None if warmup_by_epoch else warmup_iters
        self.warmup_epochs = warmup_iters if warmup_by_epoch else None
        self.warmup_ratio = warmup_ratio
        self.warmup_by_epoch = warmup_by_epoch
        self._base: _Values = {}
        self._regular: _Values = {}

    def before_run(self, runner: Any) -> None:
        """Stores the initial learning rate or momentum of each parameter group."""
        for name, part in runner.optim_wrapper.parts.items():
            key = field_key(part.optimizer, self.field)
            self._base[name] = [
                float(group.setdefault(f"initial_{self.field}", read_field(group, key) if key in group else 0))
                for group in part.param_groups
            ]

    def before_train_epoch(self, runner: Any) -> None:
        """Sets the learning rate or momentum for the epoch if `by_epoch` is set."""
        if self.warmup_epochs is not None:
            self.warmup_iters = self.warmup_epochs * len(runner.data_loader)
        if self.by_epoch:
            self.regular_values = self._call("get_regular_{}", runner)
            self.set_values(runner, self.regular_values)

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Sets the learning rate or momentum for the iteration, during warm-up or if `by_epoch` is not set."""
        length = 0 if self.warmup is None else self.warmup_iters or 0
        if not self.by_epoch:
            self.regular_values = self._call("get_regular_{}", runner)
        if runner.iter < length:
            self.set_values(runner, self._call("get_warmup_{}", runner.iter))
        elif not self.by_epoch or 0 < runner.iter == length:
            self.set_values(runner, self.regular_values)

    def _call(self, method: str, *args: Any) -> Any:
        """Calls a method that is named after the field, as in `get_lr`. Subclasses may override it."""
        return getattr(self, method.format(self.field))(*args)

    @property
    def base_values(self) -> Any:
        """The initial learning rate or momentum of each parameter group, as a list.

        If there are several optimizers, a dict of such lists, keyed by optimizer name.
        """
        return self._base.get("", self._base)

    @base_values.setter
    def base_values(self, values: Any) -> None:
        self._base = _by_name(values)

    @property
    def regular_values(self) -> Any:
        """The current values without warm-up, in the same form as `base_values`."""
        return self._regular.get("", self._regular)

    @regular_values.setter
    def regular_values(self, values: Any) -> None:
        self._regular = _by_name(values)

    def get_regular_values(self, runner: Any) -> Any:
        """Computes the current values without warm-up, in the same form as `base_values`."""
        values = {name: [self._call("get_{}", runner, base) for base in bases] for name, bases in self._base.items()}
        return values.get("", values)

    def get_warmup_values(self, cur_iters: int) -> Any:
        """Computes the values after `cur_iters` iterations of the warm-up, in the same form as `base_values`."""
        warmup = self.warmup, self.warmup_ratio, cur_iters / (self.warmup_iters or 1)
        warm = {
            name: [warm_value(self.field, regular, *warmup) for regular in values]
            for name, values in self._regular.items()
        }
        return warm.get("", warm)

    def set_values(self, runner: Any, values: Any) -> None:
        """Sets the learning rate or momentum of the parameter groups. `values` has the form of `base_values`."""
        for name, of_groups in _by_name(values).items():
            part = runner.optim_wrapper.parts[name]
            key = field_key(part.optimizer, self.field)
            for group, value in zip(part.param_groups, of_groups, strict=True):
                if key in group:
                    write_field(group, key, value)


def _by_name(values: Any) -> _Values:
    """Returns values in the form of `base_values` as a dict with optimizer names."""
    return values if isinstance(values, dict) else {"": values}


@HOOKS.register_module()
class LrUpdaterHook(UpdaterHook):
    """Base class for learning rate policies. Subclasses implement `get_lr`.

    Takes the same arguments as UpdaterHook. During warm-up, the learning rate is multiplied by the warm-up factor.
    """

    priority = "HIGHEST"  # before RuntimeInfoHook records the learning rate
    field = "lr"
    base_lr = UpdaterHook.base_values
    regular_lr = UpdaterHook.regular_values
    get_regular_lr = UpdaterHook.get_regular_values
    get_warmup_lr = UpdaterHook.get_warmup_values
    _set_lr = UpdaterHook.set_values

    def get_lr(self, runner: Any, base_lr: float) -> float:
        """Returns the current learning rate for a parameter group with initial learning rate `base_lr`."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_lr()")


@HOOKS.register_module()
class MomentumUpdaterHook(UpdaterHook):
    """Base class for policies that set the momentum or first beta. Subclasses implement `get_momentum`.

    Takes the same arguments as UpdaterHook. During warm-up, the momentum is divided by the warm-up factor.
    """

    priority = "HIGH"
    field = "momentum"
    base_momentum = UpdaterHook.base_values
    regular_momentum = UpdaterHook.regular_values
    get_regular_momentum = UpdaterHook.get_regular_values
    get_warmup_momentum = UpdaterHook.get_warmup_values
    _set_momentum = UpdaterHook.set_values

    def get_momentum(self, runner: Any, base_momentum: float) -> float:
        """Returns the current momentum for a parameter group with initial momentum `base_momentum`."""
        raise NotImplementedError(f"{type(self).__name__} must implement get_momentum()")


def annealing_cos(start: float, end: float, factor: float, weight: float = 1) -> float:
    """Interpolates from `start` to `end` along a half cosine.

    `factor` is the progress, from 0 to 1. `weight` scales the distance from `end`.
    """
    return end + 0.5 * weight * (start - end) * (math.cos(math.pi * factor) + 1)


class _PolicyHook(UpdaterHook):
    """Base class for built-in policies. The policy's settings become attributes of the hook.

    Args:
        values: The policy's settings, as positional arguments.
        options: The policy's settings, as keyword arguments, and arguments for UpdaterHook.
    """

    policy: ClassVar[str]

    def __init__(self, *values: Any, **options: Any) -> None:
        policy = find_policy(self.policy, self.field)
        defaults = policy_settings(policy, self.field)
        self._settings = dict(zip(list(defaults)[: len(values)], values, strict=True))
        self._settings |= {key: options.pop(key) for key in defaults if key in options}
        if policy in BY_ITERATION and options.setdefault("by_epoch", False):
            raise ArgumentError(f"the policy '{self.policy}' counts iterations", key="by_epoch", found=True)
        super().__init__(**options)
        build_policy(self.policy, self._settings, self.field, RunInfo(self._settings.get("cyclic_times", 1)))  # checks
        for key, default in defaults.items():
            if not hasattr(type(self), key):  # unlike `base_momentum`
                setattr(self, key, self._settings.get(key, None if default is inspect.Parameter.empty else default))

    def get_lr(self, runner: Any, base_lr: float) -> float:
        """Returns the policy's current learning rate or momentum."""
        done, full = (runner.epoch, runner.max_epochs) if self.by_epoch else (runner.iter, runner.max_iters)
        return float(self._curve(full)(base_lr, base_lr, done, full))

    get_momentum = get_lr

    @functools.lru_cache(maxsize=1)  # noqa: B019 -- one hook per run
    def _curve(self, full: int) -> Any:
        return build_policy(self.policy, self._settings, self.field, RunInfo(full))


_POLICIES: dict[type[UpdaterHook], str] = {
    LrUpdaterHook: "fixed step exp poly inv CosineAnnealing FlatCosineAnnealing CosineRestart cyclic OneCycle "
    "LinearAnnealing",
    MomentumUpdaterHook: "step CosineAnnealing LinearAnnealing cyclic OneCycle",
}
for base, policies in _POLICIES.items():
    for policy in policies.split():
        name = f"{policy[0].upper()}{policy[1:]}{base.__name__}"  # such as StepLrUpdaterHook
        members = {"policy": policy, "__doc__": f"The '{policy}' policy of `{base.field}_config`."}
        made = type(name, (_PolicyHook, base), members | {"__module__": __name__})
        globals()[name] = HOOKS.register_module(module=made)

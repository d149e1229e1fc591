"""The built-in policies of `lr_config` and `momentum_config` as hooks from which code can derive its own policies."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

from footplate.errors import ArgumentError
from footplate.first_generation.adapters.updater_hooks import LrUpdaterHook, MomentumUpdaterHook, UpdaterHook
from footplate.optim.schedules.policies import RunInfo
from footplate.optim.schedules.policy_schedule import build_policy, find_policy
from footplate.registry import HOOKS


def annealing_cos(start: float, end: float, factor: float, weight: float = 1) -> float:
    """Returns the value on a half cosine from `start` to `end`. `factor` is the position between 0 and 1."""
    return end + 0.5 * weight * (start - end) * (math.cos(math.pi * factor) + 1)


def annealing_linear(start: float, end: float, factor: float) -> float:
    """Returns the value on a line from `start` to `end`. `factor` is the position between 0 and 1."""
    return start + (end - start) * factor


class _PolicyHook(UpdaterHook):
    """Computes the values of a built-in policy. The settings of the policy become attributes of the hook.

    Args:
        values: The settings of the policy as positional arguments.
        settings: The settings of the policy as keyword arguments, and arguments for UpdaterHook.

    Raises:
        ArgumentError: A setting is passed twice, or too many settings are passed.
    """

    policy: ClassVar[str]

    def __init__(self, *values: Any, **settings: Any) -> None:
        kind = find_policy(self.policy, self.field)
        fields = [each for each in dataclasses.fields(kind) if each.name != "run"]
        names = [each.name.replace("eta_min", f"min_{self.field}") for each in fields]
        if len(values) > len(names) or settings.keys() & set(names[: len(values)]):
            raise ArgumentError(
                f"{type(self).__name__} accepts only one value for each of {', '.join(names)}", found=values
            )
        self._settings = dict(zip(names, values, strict=False))
        self._settings |= {name: settings.pop(name) for name in names if name in settings}
        super().__init__(**settings)
        self.by_epoch = self.by_epoch and not kind.by_iteration
        for name, each in zip(names, fields, strict=True):
            default = None if each.default is dataclasses.MISSING else each.default
            setattr(self, name, self._settings.get(name, default))

    def _policy_value(self, runner: Any, base: float) -> float:
        done, full = (runner.epoch, runner.max_epochs) if self.by_epoch else (runner.iter, runner.max_iters)
        return float(self._curve(full).at(done, full)(base, base))

    @functools.lru_cache(maxsize=1)  # noqa: B019 -- one hook per run
    def _curve(self, full: int) -> Any:
        run = RunInfo(full=full, unit=1, epoch_length=None, divides=self.field == "momentum")
        return build_policy(self.policy, dict(self._settings), self.field, run)


class _LrPolicyHook(_PolicyHook, LrUpdaterHook):
    def get_lr(self, runner: Any, base_lr: float) -> float:
        """Returns the learning rate of the policy."""
        return self._policy_value(runner, base_lr)


class _MomentumPolicyHook(_PolicyHook, MomentumUpdaterHook):
    def get_momentum(self, runner: Any, base_momentum: float) -> float:
        """Returns the momentum of the policy."""
        return self._policy_value(runner, base_momentum)


def _hook(policy: str, base: type[_PolicyHook]) -> type[_PolicyHook]:
    """Returns the hook class for a policy, registered under its first-generation name, such as StepLrUpdaterHook."""
    kind = "Lr" if issubclass(base, LrUpdaterHook) else "Momentum"
    name = f"{policy[0].upper()}{policy[1:]}{kind}UpdaterHook"
    document = f"The '{policy}' policy of `{base.field}_config`."
    made = type(name, (base,), {"policy": policy, "__doc__": document, "__module__": __name__})
    return HOOKS.register_module(module=made)


FixedLrUpdaterHook: Any = _hook("fixed", _LrPolicyHook)
StepLrUpdaterHook: Any = _hook("step", _LrPolicyHook)
ExpLrUpdaterHook: Any = _hook("exp", _LrPolicyHook)
PolyLrUpdaterHook: Any = _hook("poly", _LrPolicyHook)
InvLrUpdaterHook: Any = _hook("inv", _LrPolicyHook)
CosineAnnealingLrUpdaterHook: Any = _hook("CosineAnnealing", _LrPolicyHook)
FlatCosineAnnealingLrUpdaterHook: Any = _hook("FlatCosineAnnealing", _LrPolicyHook)
CosineRestartLrUpdaterHook: Any = _hook("CosineRestart", _LrPolicyHook)
CyclicLrUpdaterHook: Any = _hook("cyclic", _LrPolicyHook)
OneCycleLrUpdaterHook: Any = _hook("OneCycle", _LrPolicyHook)
LinearAnnealingLrUpdaterHook: Any = _hook("LinearAnnealing", _LrPolicyHook)
StepMomentumUpdaterHook: Any = _hook("step", _MomentumPolicyHook)
CosineAnnealingMomentumUpdaterHook: Any = _hook("CosineAnnealing", _MomentumPolicyHook)
LinearAnnealingMomentumUpdaterHook: Any = _hook("LinearAnnealing", _MomentumPolicyHook)
CyclicMomentumUpdaterHook: Any = _hook("cyclic", _MomentumPolicyHook)
OneCycleMomentumUpdaterHook: Any = _hook("OneCycle", _MomentumPolicyHook)

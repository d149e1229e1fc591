"""Schedules for the first generation's `lr_config` and `momentum_config`."""

import dataclasses
from typing import Any, ClassVar

from footplate.checks import check_choice, check_count
from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.optim.schedules.checks import check_number, check_unit_interval
from footplate.optim.schedules.curves import Curve, Family
from footplate.optim.schedules.first_generation_policies import (
    CooledCosine,
    Cosine,
    Cycle,
    Cyclic,
    Exp,
    Fixed,
    FlatCosine,
    Inv,
    Line,
    Policy,
    Polynomial,
    RestartedCosine,
    RunInfo,
    StepFixedCosine,
    Steps,
    YoloxCosine,
    warmup_factor,
)
from footplate.optim.schedules.param_schedule import HasParamGroups, ParamSchedule
from footplate.registry import PARAM_SCHEDULERS

POLICIES: dict[str, type[Policy]] = {
    "fixed": Fixed,
    "step": Steps,
    "exp": Exp,
    "poly": Polynomial,
    "inv": Inv,
    "CosineAnnealing": Cosine,
    "LinearAnnealing": Line,
    "FlatCosineAnnealing": FlatCosine,
    "CosineRestart": RestartedCosine,
    "cyclic": Cyclic,
    "YOLOX": YoloxCosine,
    "StepFixCosineAnnealing": StepFixedCosine,
    "CosineAnnealingCooldown": CooledCosine,
}
_BY_ITERATION = ("cyclic", "OneCycle")  # even if by_epoch is True
_WARMUPS = ("constant", "linear", "exp")


@dataclasses.dataclass(frozen=True)
class Warmup:
    """The warm-up settings of an `lr_config`."""

    warmup: str | None = None
    warmup_iters: int = 0
    warmup_ratio: float = 0.1
    warmup_by_epoch: bool = False

    def __post_init__(self) -> None:
        if self.warmup is None:
            return
        check_choice("warmup", self.warmup, _WARMUPS)
        check_count("warmup_iters", self.warmup_iters)
        check_unit_interval("warmup_ratio", self.warmup_ratio, zero=False)


@dataclasses.dataclass(frozen=True)
class PolicyFamily(Family):
    """The curve family of a policy with its warm-up.

    Args:
        policy: The policy.
        run: The lengths of the run and the settings of the warm-up.
        divides: Whether values are divided by the warm-up factor, as for momentum.
    """

    policy: Policy
    run: RunInfo
    divides: bool = False

    def over(self, span: int) -> Curve:
        """Returns the curve, which does not depend on `span` or the current value."""
        run, policy, regular = self.run, self.policy, self.policy.over(self.run)
        unit, warmup_iters, divides = run.unit, run.warmup_iters, self.divides

        def curve(value: float, base: float, iteration: int) -> float:
            current = regular(base, iteration // unit)
            if iteration >= warmup_iters:
                return current
            if divides:
                return current / warmup_factor(run.warmup, run.warmup_ratio, iteration / warmup_iters)
            return policy.warm(run, base, current, iteration)

        return curve


class PolicySchedule(ParamSchedule):
    """A schedule with the arguments of `lr_config` and `momentum_config`.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        policy: The name of the policy, such as "step", "poly" or "CosineAnnealing".
        by_epoch: Whether the policy counts epochs instead of iterations.
        warmup: "constant", "linear", "exp", or None for no warm-up.
        warmup_iters: The length of the warm-up.
        warmup_ratio: The factor at the start of the warm-up.
        warmup_by_epoch: Whether `warmup_iters` counts epochs instead of iterations.
        epoch_length: The iterations of an epoch.
        max_epochs: The epochs of the run.
        max_iters: The iterations of the run, if the length of epochs is unknown.
        last_step: See `ParamSchedule`.
        settings: The settings of the policy.

    Raises:
        ArgumentError: The policy is unknown, or a value is out of range.
        BuildError: A setting of the policy is unknown or missing.
    """

    field: ClassVar[str]
    needs_run: ClassVar[bool] = True

    def __init__(
        self,
        optimizer: HasParamGroups,
        *,
        policy: str,
        by_epoch: bool = True,
        warmup: str | None = None,
        warmup_iters: int = 0,
        warmup_ratio: float = 0.1,
        warmup_by_epoch: bool = False,
        epoch_length: int | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        last_step: int = -1,
        **settings: Any,
    ) -> None:
        built = build_policy(policy, settings, self.field)
        name = type(self).__name__
        by_epoch = by_epoch and _known_name(policy) not in _BY_ITERATION
        if max_iters is None:
            max_iters = _require(name, "max_epochs", max_epochs) * _require(name, "epoch_length", epoch_length)
        unit = _require(name, "epoch_length", epoch_length) if by_epoch else 1
        warm = Warmup(warmup, warmup_iters, warmup_ratio, warmup_by_epoch)
        warm_unit = _require(name, "epoch_length", epoch_length) if warmup_by_epoch else 1
        run = RunInfo(
            full=_require(name, "max_epochs", max_epochs) if by_epoch else max_iters,
            unit=unit,
            epoch_length=epoch_length,
            warmup=warm.warmup,
            warmup_iters=warm.warmup_iters * warm_unit if warm.warmup else 0,
            warmup_ratio=warm.warmup_ratio,
        )
        family = PolicyFamily(built, run, divides=self.field == "momentum")
        super().__init__(optimizer, family, param_name=self.field, by_epoch=False, last_step=last_step)


@PARAM_SCHEDULERS.register_module()
class PolicyLR(PolicySchedule):
    """The learning rate schedule of a first-generation `lr_config`; see `PolicySchedule`."""

    field = "lr"


@PARAM_SCHEDULERS.register_module()
class PolicyMomentum(PolicySchedule):
    """The momentum schedule of a first-generation `momentum_config`; see `PolicySchedule`."""

    field = "momentum"


def build_policy(name: str, settings: dict[str, Any], field: str) -> Policy:
    """Builds a policy.

    Args:
        name: The name of the policy, such as "step" or "poly".
        settings: The settings of the policy, with the keys of `lr_config` or `momentum_config`.
        field: "lr" or "momentum".

    Raises:
        ArgumentError: The policy is unknown.
        BuildError: A setting is unknown or missing.
    """
    known = _known_name(name)
    if known == "OneCycle":
        return _build_cycle(settings, field)
    if field == "momentum" and known == "step":
        settings = {"gamma": 0.5, **settings}
    fields = {f"min_{field}": "minimum", f"min_{field}_ratio": "minimum_ratio"}
    return _instantiate(name, POLICIES[known], {fields.get(key, key): value for key, value in settings.items()}, fields)


def _known_name(name: str) -> str:
    """Returns the name of a policy as in `POLICIES`; a capitalized form of a lower-case name is accepted too."""
    known = [*POLICIES, "OneCycle"]
    for each in known:
        if name in (each, each.title() if each == each.lower() else each):
            return each
    raise ArgumentError(f'unknown policy "{name}"', key="policy", found=name, suggestion=nearest(name, known))


def _build_cycle(settings: dict[str, Any], field: str) -> Policy:
    settings = dict(settings)
    if field == "momentum":
        low, high = settings.pop("base_momentum", 0.85), settings.pop("max_momentum", 0.95)
        return _instantiate("OneCycle", Cycle, {"first": high, "peak": low, "last": high, **settings})
    peak = settings.pop("max_lr", None)
    if not isinstance(peak, (int, float)):
        raise ArgumentError('"max_lr" of the policy OneCycle must be a number', key="max_lr", found=peak)
    div_factor, final_div_factor = settings.pop("div_factor", 25), settings.pop("final_div_factor", 1e4)
    for name, value in (("max_lr", peak), ("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        check_number(name, value, above=0)
    first = peak / div_factor
    last = first / final_div_factor
    return _instantiate("OneCycle", Cycle, {"first": first, "peak": peak, "last": last, **settings})


def _instantiate(
    name: str, policy: type[Policy], settings: dict[str, Any], renamed: dict[str, str] | None = None
) -> Policy:
    """Builds a policy, with the keys of the config in errors.

    Args:
        name: The name of the policy.
        policy: The class of the policy.
        settings: The fields of the policy.
        renamed: The fields of the policy whose config key has another name, by config key.
    """
    config_keys = {value: key for key, value in (renamed or {}).items()}
    fields = {each.name: each for each in dataclasses.fields(policy)}
    for key, value in settings.items():
        if key not in fields:
            known = [config_keys.get(each, each) for each in fields]
            raise BuildError(
                f"the policy '{name}' takes no argument '{key}'", key=key, found=value, suggestion=nearest(key, known)
            )
    for key, each in fields.items():
        if each.default is dataclasses.MISSING and key not in settings:
            raise BuildError(f"the policy '{name}' needs the argument '{key}'", key=key)
    try:
        return policy(**settings)
    except ArgumentError as error:
        key = config_keys.get(error.key, error.key)
        error.message, error.key = error.message.replace(f'"{error.key}"', f'"{key}"'), key
        raise


def _require(name: str, key: str, value: int | None) -> int:
    if value is None:
        raise ArgumentError(f"{name} needs {key}", key=key)
    return value

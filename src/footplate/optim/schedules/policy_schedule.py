"""The first generation's `lr_config` and `momentum_config` as schedules."""

import dataclasses
from typing import Any, ClassVar

from footplate.checks import check_count
from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.optim.schedules.checks import check_number, check_unit_interval
from footplate.optim.schedules.curves import Curve, Family
from footplate.optim.schedules.fields import HasGroups
from footplate.optim.schedules.host_policies import CooledCosine, StepFixedCosine, YoloxCosine
from footplate.optim.schedules.policies import (
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
    Run,
    Steps,
    warmup_factor,
)
from footplate.optim.schedules.schedule import ParamSchedule
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
_BY_ITERATION = ("cyclic", "OneCycle")
_WARMUPS = ("constant", "linear", "exp")


@dataclasses.dataclass(frozen=True)
class Warmup:
    """The warm-up's part of a `lr_config`."""

    warmup: str | None = None
    warmup_iters: int = 0
    warmup_ratio: float = 0.1
    warmup_by_epoch: bool = False

    def __post_init__(self) -> None:
        if self.warmup is None:
            return
        if self.warmup not in _WARMUPS:
            raise ArgumentError(
                '"warmup" is "constant", "linear" or "exp"',
                key="warmup",
                found=self.warmup,
                suggestion=nearest(str(self.warmup), _WARMUPS),
            )
        check_count("warmup_iters", self.warmup_iters)
        check_unit_interval("warmup_ratio", self.warmup_ratio, zero=False)


@dataclasses.dataclass(frozen=True)
class PolicyFamily(Family):
    """A policy, its warm-up, and the run they are for.

    Args:
        policy: The policy.
        run: The run that it is for, and its warm-up.
        divides: Whether the warm-up divides, as that of momentum does.
    """

    policy: Policy
    run: Run
    divides: bool = False

    def over(self, span: int) -> Curve:
        """Returns the curve, which looks at the iteration and the base value alone."""
        run, policy, regular = self.run, self.policy, self.policy.over(self.run)
        length, first, divides = run.unit, run.warmup_iters, self.divides

        def curve(value: float, base: float, iteration: int) -> float:
            current = regular(base, iteration // length)
            if iteration >= first:
                return current
            if divides:
                return current / warmup_factor(run.warmup, run.warmup_ratio, iteration / first)
            return policy.warm(run, base, current, iteration)

        return curve


class PolicySchedule(ParamSchedule):
    """A policy of the first generation, in its own words.

    Args:
        optimizer: An optimizer or wrapper.
        policy: "step", "poly", "CosineAnnealing" ...
        by_epoch: Whether the policy counts epochs.
        warmup: "constant", "linear", "exp", or None.
        warmup_iters: The length of the warm-up.
        warmup_ratio: The factor that the warm-up begins with.
        warmup_by_epoch: Whether `warmup_iters` counts epochs.
        epoch_length: The iterations of an epoch.
        max_epochs: The length of the run.
        max_iters: The same in iterations, where epochs have no length.
        last_step: As in `ParamSchedule`.
        settings: Those of the policy.

    Raises:
        ArgumentError: The policy is unknown, or a value makes no sense.
        BuildError: The policy does not take a setting, or lacks one.
    """

    field: ClassVar[str]
    needs_run: ClassVar[bool] = True

    def __init__(
        self,
        optimizer: HasGroups,
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
        made = make_policy(policy, settings, self.field)
        name = type(self).__name__
        by_epoch = by_epoch and _known_name(policy) not in _BY_ITERATION
        if max_iters is None:
            max_iters = _given(name, "max_epochs", max_epochs) * _given(name, "epoch_length", epoch_length)
        unit = _given(name, "epoch_length", epoch_length) if by_epoch else 1
        warm = Warmup(warmup, warmup_iters, warmup_ratio, warmup_by_epoch)
        warm_unit = _given(name, "epoch_length", epoch_length) if warmup_by_epoch else 1
        run = Run(
            full=_given(name, "max_epochs", max_epochs) if by_epoch else max_iters,
            unit=unit,
            epoch_length=epoch_length,
            warmup=warm.warmup,
            warmup_iters=warm.warmup_iters * warm_unit if warm.warmup else 0,
            warmup_ratio=warm.warmup_ratio,
        )
        family = PolicyFamily(made, run, divides=self.field == "momentum")
        super().__init__(optimizer, family, param_name=self.field, by_epoch=False, last_step=last_step)


@PARAM_SCHEDULERS.register_module()
class PolicyLR(PolicySchedule):
    """The first generation's `lr_config`; see `PolicySchedule`."""

    field = "lr"


@PARAM_SCHEDULERS.register_module()
class PolicyMomentum(PolicySchedule):
    """The first generation's `momentum_config`; see `PolicySchedule`."""

    field = "momentum"


def make_policy(name: str, settings: dict[str, Any], field: str) -> Policy:
    """Returns the policy `name` with `settings`.

    Args:
        name: "step", "poly" ...
        settings: In the words of `lr_config` or `momentum_config`.
        field: "lr" or "momentum".

    Raises:
        ArgumentError: There is no such policy.
        BuildError: It does not take a setting, or lacks one.
    """
    known = _known_name(name)
    if known == "OneCycle":
        return _cycle(settings, field)
    if field == "momentum" and known == "step":
        settings = {"gamma": 0.5, **settings}
    words = {f"min_{field}": "minimum", f"min_{field}_ratio": "minimum_ratio"}
    return _checked(name, POLICIES[known], {words.get(key, key): value for key, value in settings.items()}, words)


def _known_name(name: str) -> str:
    known = [*POLICIES, "OneCycle"]
    for each in known:
        if name in (each, each.title() if each == each.lower() else each):
            return each
    raise ArgumentError(f'unknown policy "{name}"', key="policy", found=name, suggestion=nearest(name, known))


def _cycle(settings: dict[str, Any], field: str) -> Policy:
    settings = dict(settings)
    if field == "momentum":
        low, high = settings.pop("base_momentum", 0.85), settings.pop("max_momentum", 0.95)
        return _checked("OneCycle", Cycle, {"first": high, "peak": low, "last": high, **settings})
    peak = settings.pop("max_lr", None)
    if not isinstance(peak, (int, float)):
        raise ArgumentError('"max_lr" of the policy OneCycle is a number', key="max_lr", found=peak)
    div_factor, final_div_factor = settings.pop("div_factor", 25), settings.pop("final_div_factor", 1e4)
    for name, value in (("max_lr", peak), ("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        check_number(name, value, above=0)
    first = peak / div_factor
    last = first / final_div_factor
    return _checked("OneCycle", Cycle, {"first": first, "peak": peak, "last": last, **settings})


def _checked(name: str, policy: type[Policy], settings: dict[str, Any], words: dict[str, str] | None = None) -> Policy:
    spoken = {value: key for key, value in (words or {}).items()}
    fields = {each.name: each for each in dataclasses.fields(policy)}
    for key, value in settings.items():
        if key not in fields:
            known = [spoken.get(each, each) for each in fields]
            raise BuildError(
                f"the policy '{name}' takes no argument '{key}'", key=key, found=value, suggestion=nearest(key, known)
            )
    for key, each in fields.items():
        if each.default is dataclasses.MISSING and key not in settings:
            raise BuildError(f"the policy '{name}' needs the argument '{key}'", key=key)
    try:
        return policy(**settings)
    except ArgumentError as error:
        word = spoken.get(error.key, error.key)
        error.message, error.key = error.message.replace(f'"{error.key}"', f'"{word}"'), word
        raise


def _given(name: str, key: str, value: int | None) -> int:
    if value is None:
        raise ArgumentError(f"{name} needs to know {key}", key=key)
    return value

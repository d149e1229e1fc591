"""The policies of `lr_config` and `momentum_config`, and the schedules that follow them.

A policy is a function of the base value, the progress `done` (in epochs or iterations) and the run. Its keyword
arguments have the same names as the keys of the config section, except that `low` stands for `min_lr` or
`min_momentum`.
"""

import bisect
import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from footplate.checks import check_choice, check_number
from footplate.errors import ArgumentError, BuildError
from footplate.messages import nearest
from footplate.optim.schedules import Curve, ParamSchedule
from footplate.optim.schedules.curves import ANNEALINGS, Cycle, cosine_between, line_between
from footplate.optim.schedules.schedule import HasParamGroups, Lengths
from footplate.registry import PARAM_SCHEDULERS
from footplate_openmmlab.first_generation.translation.schedule_rules import WARMUP, known_policy, nearest_policy


class RunInfo(NamedTuple):
    """The length of a run and the settings of its warm-up."""

    full: int
    """The length of the run, in epochs or iterations depending on the policy."""
    unit: int = 1
    """The number of iterations in the unit of `full`: the epoch length, or 1."""
    epoch_length: int | None = None
    """The number of iterations per epoch, or None if unknown."""
    warmup: str | None = None
    """ "constant", "linear", "exp", or None for no warm-up."""
    warmup_iters: float = 0
    """The length of the warm-up in iterations, such as 12.5 for 2.5 epochs; 0 for no warm-up."""
    warmup_ratio: float = 0.1
    """The factor at the start of the warm-up."""


def check_warmup(warmup: str | None, iters: float, ratio: float) -> None:
    """Raises ArgumentError if a warm-up setting is invalid. The settings are described in `RunInfo`."""
    if warmup is not None:
        check_choice("warmup", warmup, ("constant", "linear", "exp"))
        check_number("warmup_iters", iters, above=0)
        check_number("warmup_ratio", ratio, above=0, most=1)


def warm_value(field: str, regular: float, kind: str | None, ratio: float, done: float) -> float:
    """Returns the value after a fraction `done` of the warm-up. See `RunInfo` for `kind` and `ratio`.

    `regular` is the value without warm-up. Learning rates are multiplied by the warm-up factor, and momenta are divided
    by the factor.
    """
    factors = {"constant": ratio, "linear": 1 - (1 - done) * (1 - ratio), "exp": ratio ** (1 - done)}
    factor = float(factors[str(kind)])
    return regular / factor if field == "momentum" else regular * factor


def step(
    base: float, done: int, run: RunInfo, *, step: int | Sequence[int], gamma: float = 0.1, low: float | None = None
) -> float:
    """Multiplies the value by `gamma` every `step` epochs or iterations, or at each milestone if `step` is a list.

    The value does not fall below `low`.
    """
    # In an unsorted list, a step only takes effect once all previous steps have been reached.
    count = done // step if isinstance(step, int) else len(list(itertools.takewhile(lambda each: each <= done, step)))
    value = base * gamma**count
    return value if low is None else max(value, low)


def flat_cosine(base: float, done: int, run: RunInfo, *, low: float, start_percent: float = 0.75) -> float:
    """Keeps the base value for a fraction `start_percent` (0 to 1) of the run, then decays to `low` along a cosine."""
    start = round(run.full * start_percent)
    return base if done <= start else cosine_between(base, low, (done - start) / (run.full - start))


def cosine_restart(
    base: float, done: int, run: RunInfo, *, low: float, periods: Sequence[int], restart_weights: Sequence[float] = (1,)
) -> float:
    """Decays the value to `low` along a half cosine in each period.

    A period starts at `low` plus its restart weight times the distance between `low` and the base value.

    Raises:
        ArgumentError: There is not exactly one weight per period, or the periods together are shorter than the run.
    """
    ends = list(itertools.accumulate(periods))
    if len(periods) != len(restart_weights) or ends[-1] < run.full:
        raise ArgumentError(
            f"'restart_weights' needs one weight per period, and 'periods' must add up to at least {run.full}",
            key="periods",
            found={"periods": list(periods), "restart_weights": list(restart_weights)},
        )
    index = min(bisect.bisect_right(ends, done), len(ends) - 1)
    fraction = min((done - ends[index] + periods[index]) / periods[index], 1)
    return low + restart_weights[index] * (cosine_between(base, low, fraction) - low)


def cyclic(
    base: float,
    done: int,
    run: RunInfo,
    *,
    target_ratio: Any = (10, 1e-4),
    cyclic_times: int = 1,
    step_ratio_up: float = 0.4,
    anneal_strategy: str = "cos",
    gamma: float = 1.0,
) -> float:
    """Changes the value in `cyclic_times` cycles of equal length.

    Each cycle goes from the base value to a peak of `target_ratio[0]` times the base value, and then to
    `target_ratio[1]` times the base value. A single number is the peak's ratio, and the end's ratio is then this number
    divided by 100,000. The peak is reached after a fraction `step_ratio_up` of the cycle. After each cycle, `gamma`
    scales the peak's distance from the base value.

    Source: Cyclical Learning Rates for Training Neural Networks (Smith, 2017).
    """
    check_choice("anneal_strategy", anneal_strategy, ANNEALINGS)
    ratios = target_ratio if isinstance(target_ratio, (list, tuple)) else [target_ratio]
    if len(ratios) > 2:
        raise ArgumentError("'target_ratio' needs one or two numbers", key="target_ratio", found=target_ratio)
    top, end = ratios if len(ratios) == 2 else (ratios[0], ratios[0] / 1e5)
    length = run.full // cyclic_times
    up = int(step_ratio_up * length)
    cycle, position = divmod(done, length)
    peak, anneal = base * (1 + (top - 1) * gamma**cycle), ANNEALINGS[anneal_strategy]
    if position < up:
        return anneal(base, peak, position / up)
    return anneal(peak, base * end, (position - up) / (length - up))


def one_cycle_lr(
    base: float,
    done: int,
    run: RunInfo,
    *,
    max_lr: float,
    div_factor: float = 25,
    final_div_factor: float = 1e4,
    **cycle: Any,
) -> float:
    """Computes the OneCycle policy of `lr_config`, which ignores the base value. See `OneCycle` for the arguments."""
    first = max_lr / div_factor
    return _one_cycle((first, max_lr, first / final_div_factor), done, run, **cycle)


def one_cycle_momentum(
    base: float, done: int, run: RunInfo, *, base_momentum: float = 0.85, max_momentum: float = 0.95, **cycle: Any
) -> float:
    """Computes the OneCycle policy of `momentum_config`, which ignores the base value.

    The momentum goes from `max_momentum` to `base_momentum` and back. See `OneCycle` for the other arguments.
    """
    return _one_cycle((max_momentum, base_momentum, max_momentum), done, run, **cycle)


def _one_cycle(
    values: tuple[float, float, float],
    done: int,
    run: RunInfo,
    *,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
    total_steps: int | None = None,
) -> float:
    total = total_steps or run.full
    if total < run.full:
        message = f"the cycle ends after {total} iterations, but the run has {run.full}"
        raise ArgumentError(message, key="total_steps", found=total)
    cycle = Cycle(pct_start=pct_start, anneal_strategy=anneal_strategy, three_phase=three_phase)
    return cycle.value_at(done, total, values)


def yolox(base: float, done: int, run: RunInfo, *, low: float, num_last_epochs: int = 0) -> float:
    """Decays the value along a half cosine after a quadratic warm-up.

    The value is `low` in the last `num_last_epochs` epochs. Raises an ArgumentError if `num_last_epochs` is set and the
    epoch length is unknown.

    Source: YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """
    if run.epoch_length is None and num_last_epochs:
        raise ArgumentError("'num_last_epochs' needs a known epoch length", key="num_last_epochs")
    last = run.full - (run.epoch_length or 0) * num_last_epochs
    fraction = (done + 1 - run.warmup_iters) / (last - run.warmup_iters) if done + 1 < last else 1
    return cosine_between(base, low, fraction)


def step_fixed_cosine(base: float, done: int, run: RunInfo, *, low: float) -> float:
    """Decays the value along a half cosine after the warm-up. A linear warm-up starts at 0, not at `warmup_ratio`.

    Source: the BYOL and SimSiam recipes of the first-generation code base for self-supervised learning.
    """
    start = run.warmup_iters // run.unit  # in the policy's unit, rounded down to whole epochs
    return cosine_between(base, low, (done - start) / (run.full - start))


def cooled_cosine(
    base: float, done: int, run: RunInfo, *, low: float, cool_down_ratio: float = 0.1, cool_down_time: int = 10
) -> float:
    """Decays the value to `low` along a half cosine, and then keeps it at `cool_down_ratio * low`.

    The second phase covers the last `cool_down_time - 1` epochs or iterations.
    """
    end = run.full - cool_down_time
    return low * cool_down_ratio if done > end else cosine_between(base, low, done / end)


PolicyFunction = Callable[..., float]

_POLICIES: dict[str, PolicyFunction] = {
    "fixed": lambda base, done, run: base,
    "step": step,
    "exp": lambda base, done, run, *, gamma: base * gamma**done,
    "poly": lambda base, done, run, *, power=1.0, low=0.0: (base - low) * (1 - done / run.full) ** power + low,
    "inv": lambda base, done, run, *, gamma, power=1.0: base * (1 + gamma * done) ** -power,
    "CosineAnnealing": lambda base, done, run, *, low: cosine_between(base, low, done / run.full),
    "LinearAnnealing": lambda base, done, run, *, low: line_between(base, low, done / run.full),
    "FlatCosineAnnealing": flat_cosine,
    "CosineRestart": cosine_restart,
    "cyclic": cyclic,
    "OneCycle": one_cycle_lr,
    "YOLOX": yolox,
    "StepFixCosineAnnealing": step_fixed_cosine,
    "CosineAnnealingCooldown": cooled_cosine,
}
POLICIES: dict[str, dict[str, PolicyFunction]] = {
    "lr": _POLICIES,
    "momentum": {**_POLICIES, "step": functools.partial(step, gamma=0.5), "OneCycle": one_cycle_momentum},
}
"""Maps each scheduled field to a dict of its policy functions, keyed by their names in configs."""

_LIMITS: dict[str, dict[str, Any]] = {
    "step": {"step": {"above": 0}},
    "FlatCosineAnnealing": {"start_percent": {"least": 0, "most": 1}},
    "cyclic": {"gamma": {"above": 0, "most": 1}, "step_ratio_up": {"least": 0, "below": 1}},
}
"""Limits of settings, or of each item of a list, keyed by policy."""

BY_ITERATION = (cyclic, one_cycle_lr, one_cycle_momentum)
"""The policies that count iterations even if `by_epoch` is True."""


def find_policy(name: str, field: str) -> PolicyFunction:
    """Returns the function of a policy for `field`, "lr" or "momentum". See `known_policy` for the accepted names.

    Raises:
        ArgumentError: The policy is unknown.
    """
    if known := known_policy(name):
        return POLICIES[field][known]
    raise ArgumentError(f"unknown policy '{name}'", key="policy", found=name, suggestion=nearest_policy(name))


def policy_settings(policy: PolicyFunction, field: str) -> dict[str, Any]:
    """Returns the default of each policy setting, keyed by the setting's name in `lr_config` or `momentum_config`.

    Required settings have the default `inspect.Parameter.empty`.
    """
    parameters = inspect.signature(policy).parameters
    settings = {name: each.default for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    if "cycle" in parameters:
        settings |= policy_settings(_one_cycle, field)
    if "low" in settings:
        low = settings.pop("low")
        needs_minimum = low is inspect.Parameter.empty
        settings |= {f"min_{field}": None, f"min_{field}_ratio": None} if needs_minimum else {f"min_{field}": low}
    return settings


@dataclasses.dataclass(frozen=True)
class Policy(Curve):
    """A configured policy: a curve over iterations. Call `build_policy` to build one."""

    policy: PolicyFunction
    settings: Mapping[str, Any]
    field: str
    run: RunInfo

    @property
    def eta_min(self) -> float | None:
        """The absolute minimum, as in other curves."""
        return self.settings.get("low")

    @override
    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        warmup, unit = self.run.warmup_iters, self.run.unit
        last = math.ceil(warmup) - 1
        # As in mmcv, a warm-up that ends between two iterations keeps its last value until the end of the epoch.
        is_over = position // unit > last // unit if warmup % 1 else position > last
        return self._regular(base, position) if is_over else self._warm(base, min(position, last))

    def _regular(self, base: float, position: int) -> float:
        """Returns the policy's value without warm-up."""
        settings = dict(self.settings)
        ratio = settings.pop("low_ratio", None)
        if ratio is not None:
            settings["low"] = base * ratio
        return self.policy(base, position // self.run.unit, self.run, **settings)

    def _warm(self, base: float, position: int) -> float:
        run, regular = self.run, self._regular(base, position)
        if self.policy is yolox:  # quadratic, regardless of `warmup`
            return base * run.warmup_ratio * float(((position + 1) / run.warmup_iters) ** 2)
        done = position / run.warmup_iters
        if self.policy is step_fixed_cosine and run.warmup == "linear":
            return regular * done
        return warm_value(self.field, regular, run.warmup, run.warmup_ratio, done)


def build_policy(name: str, settings: Mapping[str, Any], field: str, run: RunInfo) -> Policy:
    """Builds a policy from its name and settings.

    Args:
        name: The name of the policy.
        settings: The policy's settings, keyed by their names in `lr_config` or `momentum_config`.
        field: "lr" or "momentum".
        run: The length of the run and its warm-up settings.

    Raises:
        ArgumentError: The policy is unknown, or its settings are invalid.
        BuildError: A setting is unknown or missing.
    """
    policy = find_policy(name, field)
    defaults = policy_settings(policy, field)
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in defaults:
            near = nearest(key, [*defaults, *WARMUP])
            raise BuildError(f"the policy '{name}' takes no argument '{key}'", key=key, found=value, suggestion=near)
        arguments[key.replace(f"min_{field}", "low")] = value
    for key, default in defaults.items():
        if default is inspect.Parameter.empty and key not in settings:
            raise BuildError(f"the policy '{name}' needs the argument '{key}'", key=key)
    if f"min_{field}_ratio" in defaults and (arguments.get("low") is None) == (arguments.get("low_ratio") is None):
        raise ArgumentError(f"the policy '{name}' needs exactly one of min_{field} and min_{field}_ratio", key="policy")
    for key, limits in _LIMITS.get(str(known_policy(name)), {}).items():
        value = arguments.get(key, [])
        for each in value if isinstance(value, (list, tuple)) else [value]:
            check_number(key, each, **limits)
    curve = Policy(policy, arguments, field, run)
    curve(1.0, 1.0, 0, run.full)  # so that invalid values raise an error now
    return curve


class PolicySchedule(ParamSchedule):
    """Base class for schedules that take the settings of `lr_config` or `momentum_config` as arguments.

    Args:
        optimizer: An optimizer or optimizer wrapper.
        policy: The name of the policy, such as "step", "poly" or "CosineAnnealing".
        by_epoch: Whether the policy changes the value once per epoch rather than once per iteration.
        warmup: "constant", "linear", "exp", or None for no warm-up.
        warmup_iters: The length of the warm-up.
        warmup_ratio: The factor at the start of the warm-up.
        warmup_by_epoch: Whether `warmup_iters` is given in epochs rather than iterations.
        epoch_length: The number of iterations per epoch.
        max_epochs: The number of epochs in the run.
        max_iters: The number of iterations in the run. Required unless the policy counts epochs.
        last_step: See `ParamSchedule`.
        options: The policy's settings.

    Raises:
        ArgumentError: The policy is unknown, or a value is out of range.
        BuildError: A policy setting is unknown or missing.
    """

    field: ClassVar[str]

    def __init__(
        self,
        optimizer: HasParamGroups,
        *,
        policy: str,
        by_epoch: bool = True,
        warmup: str | None = None,
        warmup_iters: float = 0,
        warmup_ratio: float = 0.1,
        warmup_by_epoch: bool = False,
        epoch_length: int | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        last_step: int = -1,
        **options: Any,
    ) -> None:
        def require(key: str, value: int | None) -> int:
            if value is None:
                raise ArgumentError(f"{type(self).__name__} needs {key}", key=key)
            return value

        by_epoch = by_epoch and find_policy(policy, self.field) not in BY_ITERATION
        check_warmup(warmup, warmup_iters, warmup_ratio)
        if not warmup:
            warmup_iters = 0
        elif warmup_by_epoch:
            warmup_iters *= require("epoch_length", epoch_length)
        run = RunInfo(
            full=require("max_epochs", max_epochs) if by_epoch else require("max_iters", max_iters),
            unit=require("epoch_length", epoch_length) if by_epoch else 1,
            epoch_length=epoch_length,
            warmup=warmup,
            warmup_iters=warmup_iters,
            warmup_ratio=warmup_ratio,
        )
        curve = build_policy(policy, options, self.field, run)
        super().__init__(optimizer, curve, param_name=self.field, by_epoch=False, last_step=last_step)

    @classmethod
    def from_config(cls, cfg: Any, optimizer: HasParamGroups, lengths: Lengths) -> ParamSchedule:
        """Builds the schedule from its config and the lengths of the run."""
        return PARAM_SCHEDULERS.build(cfg, optimizer, **lengths)  # type: ignore[no-any-return]


@PARAM_SCHEDULERS.register_module()
class PolicyLR(PolicySchedule):
    """The learning rate schedule for `lr_config`; see `PolicySchedule`."""

    field = "lr"


@PARAM_SCHEDULERS.register_module()
class PolicyMomentum(PolicySchedule):
    """The momentum schedule for `momentum_config`; see `PolicySchedule`."""

    field = "momentum"

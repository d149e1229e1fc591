"""Curves of parameter schedules: dataclasses whose fields are the keys of a config.

A curve is a pure function of the current value, the base value and the position. It can be used for any field of a
parameter group. The curves of first-generation configs are in `policies.py`.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from typing_extensions import override

from footplate.checks import check_number, is_number
from footplate.errors import ArgumentError
from footplate.optim.schedules.base_curve import Curve, ValueFunction, check_positions


def _keep(value: float, base: float) -> float:
    return value


@dataclasses.dataclass(frozen=True)
class Constant(Curve):
    """Multiplies the value by `factor` until the last position, at which the value is restored.

    Args:
        factor: The factor, above 0 and at most 1.
    """

    factor: float = 1.0 / 3

    def __post_init__(self) -> None:
        check_number("factor", self.factor, above=0, most=1)

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        factor = self.factor
        if position == 0:
            return lambda value, base: value * factor
        return (lambda value, base: value / factor) if position == span - 1 else _keep

    @override
    def ends_at_base(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Linear(Curve):
    """Multiplies the value by a factor that changes linearly from `start_factor` to `end_factor`.

    Args:
        start_factor: The first factor, above 0 and at most 1.
        end_factor: The last factor, from 0 to 1.
    """

    start_factor: float = 1.0 / 3
    end_factor: float = 1.0

    def __post_init__(self) -> None:
        check_number("start_factor", self.start_factor, above=0, most=1)
        check_number("end_factor", self.end_factor, least=0, most=1)

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        factor = self.start_factor
        if position:
            rise = self.end_factor - self.start_factor
            factor = 1.0 + rise / (self.start_factor * (span - 1) + (position - 1) * rise)
        return lambda value, base: value * factor

    @override
    def ends_at_base(self) -> bool:
        return self.end_factor == 1.0


@dataclasses.dataclass(frozen=True)
class QuadraticWarmup(Curve):
    """Increases quadratically from almost 0 to the base value.

    Source: the warm-up of YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        odd, share = 2 * position + 1, 1 / span**2
        return lambda value, base: (value if position else 0.0) + base * odd * share

    @override
    def ends_at_base(self) -> bool:
        return True


@dataclasses.dataclass(frozen=True)
class Exponential(Curve):
    """Multiplies the value by `gamma` at each position except the first.

    Args:
        gamma: The factor, at least 0.
    """

    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0)

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        gamma = self.gamma
        return (lambda value, base: value * gamma) if position else _keep


@dataclasses.dataclass(frozen=True)
class Step(Curve):
    """Multiplies the value by `gamma` every `step_size` positions.

    Args:
        step_size: The number of positions from one change to the next.
        gamma: The factor, at least 0.
    """

    step_size: int
    gamma: float = 0.1
    position_fields = ("step_size",)

    def __post_init__(self) -> None:
        check_positions("step_size", self.step_size, least=1)
        check_number("gamma", self.gamma, least=0)

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        gamma = self.gamma
        return _keep if position % self.step_size or not position else lambda value, base: value * gamma


@dataclasses.dataclass(frozen=True)
class MultiStep(Curve):
    """Multiplies the value by `gamma` at each milestone.

    Args:
        milestones: The positions of the changes. At a repeated milestone, the value changes several times.
        gamma: The factor, at least 0.
    """

    milestones: Sequence[int]
    gamma: float = 0.1
    position_fields = ("milestones",)

    def __post_init__(self) -> None:
        milestones = self.milestones
        if isinstance(milestones, str) or not isinstance(milestones, Collection) or not all(map(is_number, milestones)):
            raise ArgumentError('"milestones" must be a list of numbers', key="milestones", found=milestones)
        check_positions("milestones", milestones, least=0)
        check_number("gamma", self.gamma, least=0)

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        factor = self._factors.get(position)
        return _keep if factor is None else lambda value, base: value * factor

    @functools.cached_property
    def _factors(self) -> dict[int, float]:
        return {position: self.gamma**count for position, count in Counter(self.milestones).items()}


@dataclasses.dataclass(frozen=True)
class Poly(Curve):
    """Decays to `eta_min` as `(1 - position / last) ** power`.

    Source: ParseNet (Liu et al., 2015), the "poly" policy.

    Args:
        power: The exponent.
        eta_min: The last value.
    """

    power: float = 1.0
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        check_number("power", self.power, least=0)
        check_number("eta_min", self.eta_min, least=0)

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        if position == 0:
            return _keep
        low, last = self.eta_min, span - 1
        left = (1 - position / last) / (1 - (position - 1) / last)
        factor = math.pow(left, self.power)
        return lambda value, base: low + (value - low) * factor


@dataclasses.dataclass(frozen=True)
class WithMinimum(Curve):
    """The base class of curves that decay to `eta_min`, or to `eta_min_ratio` times the base value."""

    eta_min: float | None = dataclasses.field(default=None, kw_only=True)
    eta_min_ratio: float | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.eta_min is not None and self.eta_min_ratio is not None:
            raise ArgumentError('"eta_min" and "eta_min_ratio" cannot both be set', key="eta_min_ratio")
        check_number("eta_min", self.eta_min, least=0, optional=True)
        check_number("eta_min_ratio", self.eta_min_ratio, least=0, optional=True)

    def minimum(self) -> Callable[[float], float]:
        """Returns a function that computes the minimum from a base value."""
        low, ratio = float(self.eta_min or 0), self.eta_min_ratio
        return (lambda base: low) if ratio is None else lambda base: base * ratio


def _cosine_decay(step: int, half: float) -> float:
    """Returns the factor by which step `step` of a cosine decay with `half` steps scales the distance to the
    minimum."""
    return (1 + math.cos(math.pi * step / half)) / (1 + math.cos(math.pi * (step - 1) / half))


def _decay(minimum: Callable[[float], float], factor: float) -> ValueFunction:
    """Returns a function that multiplies the distance to the minimum by `factor`."""

    def decay(value: float, base: float) -> float:
        low = minimum(base)
        return low + (value - low) * factor

    return decay


@dataclasses.dataclass(frozen=True)
class CosineAnnealing(WithMinimum):
    """Follows a cosine between the base value and the minimum, with a half period of `T_max` positions.

    Source: SGDR (Loshchilov and Hutter, 2017), without restarts.

    Args:
        T_max: The half period. The default is the number of positions.
        eta_min: The minimum; 0 by default.
        eta_min_ratio: The minimum relative to the base value, instead of `eta_min`.
    """

    T_max: float | None = None
    position_fields = ("T_max",)

    def __post_init__(self) -> None:
        check_number("T_max", self.T_max, above=0, optional=True)
        super().__post_init__()

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        if position == 0:
            return _keep
        half, minimum = span if self.T_max is None else self.T_max, self.minimum()
        if (position - 1 - half) % (2 * half) == 0:
            rise = (1 - math.cos(math.pi / half)) / 2
            return lambda value, base: value + (base - minimum(base)) * rise
        return _decay(minimum, _cosine_decay(position, half))


@dataclasses.dataclass(frozen=True)
class CosineRestart(WithMinimum):
    """Decays along a half cosine in each period. A period starts at the base value times its restart weight.

    The value is constant after the last period.

    Source: SGDR (Loshchilov and Hutter, 2017).

    Args:
        periods: The lengths of the periods.
        restart_weights: The weight of each period.
        eta_min: The minimum; 0 by default.
        eta_min_ratio: The minimum relative to the base value, instead of `eta_min`.
    """

    periods: Sequence[int]
    restart_weights: Sequence[float] = (1,)
    position_fields = ("periods",)

    def __post_init__(self) -> None:
        if len(self.periods) != len(self.restart_weights):
            raise ArgumentError(
                '"periods" and "restart_weights" must have the same length',
                key="restart_weights",
                found=f"{len(self.periods)} periods, {len(self.restart_weights)} weights",
            )
        check_positions("periods", self.periods, least=1)
        for weight in self.restart_weights:
            check_number("restart_weights", weight, least=0)
        super().__post_init__()

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        index = bisect.bisect_right(self._ends, position)
        if index == len(self._ends):
            return _keep
        length = self.periods[index]
        step = position - self._ends[index] + length
        if step == 0:
            weight = self.restart_weights[index]
            return lambda value, base: base * weight
        return _decay(self.minimum(), _cosine_decay(step, length))

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(self.periods))

    @override
    def length(self) -> int | None:
        return sum(self.periods)


def cosine_between(start: float, end: float, done: float) -> float:
    """Returns the value at the fraction `done` (0 to 1) of a half cosine from `start` to `end`."""
    return end + 0.5 * (start - end) * (math.cos(math.pi * done) + 1)


def line_between(start: float, end: float, done: float) -> float:
    """Returns the value at the fraction `done` (0 to 1) of a line from `start` to `end`."""
    return start + (end - start) * done


ANNEALINGS: dict[str, Callable[[float, float, float], float]] = {"cos": cosine_between, "linear": line_between}


def check_anneal_strategy(value: object) -> None:
    """Checks the name of an annealing function. Raises an ArgumentError if it is unknown."""
    if value not in ANNEALINGS:
        raise ArgumentError('"anneal_strategy" must be "cos" or "linear"', key="anneal_strategy", found=value)


@dataclasses.dataclass(frozen=True)
class Cycle(Curve):
    """The base class of one-cycle curves, which increase from a first value to a peak, then decay to a last value.

    See `OneCycle` for the settings.
    """

    pct_start: float = dataclasses.field(default=0.3, kw_only=True)
    anneal_strategy: str = dataclasses.field(default="cos", kw_only=True)
    three_phase: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_anneal_strategy(self.anneal_strategy)
        check_number("pct_start", self.pct_start, least=0, most=1)

    def value_at(self, position: int, total: int, values: tuple[float, float, float]) -> float:
        """Returns the value at a position of a cycle with `total` positions. It is constant after the cycle.

        Args:
            position: The position.
            total: The number of positions of the cycle.
            values: The first value, the peak, and the last value.
        """
        (first, peak, last), rise, position = values, self.pct_start * total, min(position, total - 1)
        ends: list[float] = [rise - 1, 2 * rise - 2, total - 1] if self.three_phase else [rise - 1, total - 1]
        targets = [first, peak, first, last] if self.three_phase else [first, peak, last]
        index = next((index for index, end in enumerate(ends) if position <= end), len(ends) - 1)
        start = ends[index - 1] if index else 0.0
        length = ends[index] - start
        done = min((position - start) / length, 1.0) if length else 1.0
        return ANNEALINGS[self.anneal_strategy](targets[index], targets[index + 1], done)


@dataclasses.dataclass(frozen=True)
class OneCycle(Cycle):
    """Increases from `eta_max / div_factor` to `eta_max`, then decays to `eta_max / div_factor / final_div_factor`.

    The curve does not depend on the base value. It is constant after `total_steps`.

    Source: Super-Convergence (Smith and Topin, 2019).

    Args:
        eta_max: The peak.
        total_steps: The number of positions of the cycle.
        div_factor: The peak divided by the first value.
        final_div_factor: The first value divided by the last value.
        pct_start: The fraction of positions before the peak, 0 to 1.
        anneal_strategy: "cos" or "linear".
        three_phase: Whether to add a middle phase that returns to the first value. It takes as many positions as the
            increase.
    """

    eta_max: float
    total_steps: int
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    position_fields = ("total_steps",)

    def __post_init__(self) -> None:
        for name in ("eta_max", "div_factor", "final_div_factor"):
            check_number(name, getattr(self, name), above=0)
        check_positions("total_steps", self.total_steps, least=1)
        super().__post_init__()

    @override
    def at(self, position: int, span: int) -> ValueFunction:
        first = self.eta_max / self.div_factor
        value_here = self.value_at(position, self.total_steps, (first, self.eta_max, first / self.final_div_factor))
        return lambda value, base: value_here

    @override
    def rebased(self, base: float) -> float:
        return self.eta_max / self.div_factor

    @override
    def length(self) -> int | None:
        return self.total_steps

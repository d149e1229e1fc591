"""The families of schedules: each turns its settings into a pure curve.

A curve maps (value the previous schedule left, base value, position) to the next value. Positions count
from 0 at the schedule's `begin`. Every family serves any field of a parameter group.
"""

import bisect
import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from footplate.errors import ArgumentError
from footplate.optim.schedules.checks import check_number, check_positions, check_unit_interval, is_number

Curve = Callable[[float, float, int], float]

_Self = TypeVar("_Self", bound="Family")

ENDLESS = 1_000_000_000
"""The `end` of a schedule that nobody ended."""


@dataclasses.dataclass(frozen=True)
class Family:
    """The settings of one kind of curve, in the words of a config."""

    def over(self, span: int) -> Curve:
        """Returns the curve of a schedule that acts for `span` positions."""
        raise NotImplementedError

    def in_iterations(self: _Self, epoch_length: int) -> _Self:
        """Returns the same family with every setting that counts epochs counted in iterations."""
        return self

    def length(self) -> int | None:
        """Returns the positions after which the curve has no more to say, None where `end` decides."""
        return None

    def rebased(self, base: float) -> float:
        """Returns the base value that the curve and those behind it go by, given the one of the optimizer."""
        return base

    def settles(self) -> bool:
        """Checks whether the curve leaves the base value in force when it ends, as a warm-up does."""
        return False


def _floor(eta_min: float | None, eta_min_ratio: float | None) -> Callable[[float], float]:
    """Returns the function from a base value to the lowest value."""
    if eta_min_ratio is not None:
        return lambda base: base * eta_min_ratio
    lowest = 0.0 if eta_min is None else eta_min
    return lambda base: lowest


def _check_floor(eta_min: float | None, eta_min_ratio: float | None) -> None:
    if eta_min is not None and eta_min_ratio is not None:
        raise ArgumentError('give "eta_min" or "eta_min_ratio", not both', key="eta_min_ratio")
    check_number("eta_min", eta_min, least=0)
    check_number("eta_min_ratio", eta_min_ratio, least=0)


def _cosine_share(step: int, half: int) -> float:
    """Returns by what the distance to the lowest value is multiplied in step `step` of a fall in `half` steps."""
    return (1 + math.cos(math.pi * step / half)) / (1 + math.cos(math.pi * (step - 1) / half))


@dataclasses.dataclass(frozen=True)
class Constant(Family):
    """Multiplies by `factor` at first and takes that back at the last position."""

    factor: float = 1.0 / 3

    def __post_init__(self) -> None:
        check_unit_interval("factor", self.factor, zero=False)

    def over(self, span: int) -> Curve:
        """Returns the curve that divides again at the last of `span` positions."""
        factor, last = self.factor, span - 1

        def curve(value: float, base: float, position: int) -> float:
            if position == 0:
                return value * factor
            return value / factor if position == last else value

        return curve

    def settles(self) -> bool:
        """Says yes: the factor is taken back."""
        return True


@dataclasses.dataclass(frozen=True)
class Linear(Family):
    """Multiplies by a factor that moves from `start_factor` to `end_factor` in a straight line."""

    start_factor: float = 1.0 / 3
    end_factor: float = 1.0

    def __post_init__(self) -> None:
        check_unit_interval("start_factor", self.start_factor, zero=False)
        check_unit_interval("end_factor", self.end_factor, zero=True)

    def over(self, span: int) -> Curve:
        """Returns the curve that reaches `end_factor` at the last of `span` positions."""
        start, rise = self.start_factor, self.end_factor - self.start_factor
        offset = start * (span - 1)

        def curve(value: float, base: float, position: int) -> float:
            if position == 0:
                return value * start
            return value * (1.0 + rise / (offset + (position - 1) * rise))

        return curve

    def settles(self) -> bool:
        """Says whether the last factor is 1."""
        return self.end_factor == 1.0


@dataclasses.dataclass(frozen=True)
class QuadraticWarmup(Family):
    """Grows to the base value as the square of the positions done.

    Source: the warm-up of YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """

    def over(self, span: int) -> Curve:
        """Returns the curve that arrives at the last of `span` positions."""
        share = 1 / span**2

        def curve(value: float, base: float, position: int) -> float:
            growth = base * (2 * position + 1) * share
            return value + growth if position else growth

        return curve

    def settles(self) -> bool:
        """Says yes: it ends at the base value."""
        return True


@dataclasses.dataclass(frozen=True)
class Exponential(Family):
    """Multiplies by `gamma` at every position but the first."""

    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0, optional=False)

    def over(self, span: int) -> Curve:
        """Returns the curve, which no span bends."""
        gamma = self.gamma
        return lambda value, base, position: value * gamma if position else value


@dataclasses.dataclass(frozen=True)
class Step(Family):
    """Multiplies by `gamma` every `step_size` positions."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_positions("step_size", self.step_size, least=1)
        check_number("gamma", self.gamma, least=0, optional=False)

    def over(self, span: int) -> Curve:
        """Returns the curve, which no span bends."""
        size, gamma = self.step_size, self.gamma
        return lambda value, base, position: value if position % size or not position else value * gamma

    def in_iterations(self, epoch_length: int) -> "Step":
        """Counts `step_size` in iterations."""
        return dataclasses.replace(self, step_size=self.step_size * epoch_length)


@dataclasses.dataclass(frozen=True)
class MultiStep(Family):
    """Multiplies by `gamma` at each milestone, as often as the milestone is listed."""

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self) -> None:
        marks = self.milestones
        if isinstance(marks, str) or not isinstance(marks, Collection) or not all(map(is_number, marks)):
            raise ArgumentError('"milestones" is a list of numbers', key="milestones", found=marks)
        check_positions("milestones", marks, least=0)
        check_number("gamma", self.gamma, least=0, optional=False)

    def over(self, span: int) -> Curve:
        """Returns the curve, which no span bends."""
        factors = {position: self.gamma**count for position, count in Counter(self.milestones).items()}
        return lambda value, base, position: value * factors[position] if position in factors else value

    def in_iterations(self, epoch_length: int) -> "MultiStep":
        """Counts `milestones` in iterations."""
        return dataclasses.replace(self, milestones=[mark * epoch_length for mark in self.milestones])


@dataclasses.dataclass(frozen=True)
class Poly(Family):
    """Falls to `eta_min` as (1 - position / last) ** power.

    Source: ParseNet (Liu et al., 2015), the "poly" policy.
    """

    power: float = 1.0
    eta_min: float = 0.0

    def __post_init__(self) -> None:
        check_number("power", self.power, least=0, optional=False)
        check_number("eta_min", self.eta_min, least=0)

    def over(self, span: int) -> Curve:
        """Returns the curve that reaches `eta_min` at the last of `span` positions."""
        power, low, last = self.power, self.eta_min, span - 1

        def curve(value: float, base: float, position: int) -> float:
            if position == 0:
                return value
            left = (1 - position / last) / (1 - (position - 1) / last)
            return low + (value - low) * math.pow(left, power)

        return curve


@dataclasses.dataclass(frozen=True)
class CosineAnnealing(Family):
    """Swings between the base value and the lowest value, half a cosine period in `T_max` positions.

    Source: SGDR (Loshchilov and Hutter, 2017), without restarts.
    """

    T_max: int | None = None
    eta_min: float | None = None
    eta_min_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.T_max is not None:
            check_positions("T_max", self.T_max, least=1)
        _check_floor(self.eta_min, self.eta_min_ratio)

    def over(self, span: int) -> Curve:
        """Returns the curve that swings once in `T_max` positions, by default in `span`."""
        half = span if self.T_max is None else self.T_max
        floor = _floor(self.eta_min, self.eta_min_ratio)
        rise = (1 - math.cos(math.pi / half)) / 2
        share = functools.lru_cache(maxsize=1)(_cosine_share)  # the groups of one step ask for the same one

        def curve(value: float, base: float, position: int) -> float:
            if position == 0:
                return value
            low = floor(base)
            if (position - 1 - half) % (2 * half) == 0:
                return value + (base - low) * rise
            return low + (value - low) * share(position, half)

        return curve

    def in_iterations(self, epoch_length: int) -> "CosineAnnealing":
        """Counts `T_max` in iterations."""
        return dataclasses.replace(self, T_max=self.T_max * epoch_length) if self.T_max else self


@dataclasses.dataclass(frozen=True)
class CosineRestart(Family):
    """Falls along a cosine in each period and starts the next one at its weight times the base value.

    Source: SGDR (Loshchilov and Hutter, 2017).
    """

    periods: Sequence[int]
    restart_weights: Sequence[float] = (1,)
    eta_min: float | None = None
    eta_min_ratio: float | None = None

    def __post_init__(self) -> None:
        if len(self.periods) != len(self.restart_weights):
            counts = f"{len(self.periods)} periods, {len(self.restart_weights)} weights"
            raise ArgumentError(
                '"periods" and "restart_weights" have one entry each per period',
                key="restart_weights",
                found=counts,
            )
        check_positions("periods", self.periods, least=1)
        for weight in self.restart_weights:
            check_number("restart_weights", weight, least=0)
        _check_floor(self.eta_min, self.eta_min_ratio)

    def over(self, span: int) -> Curve:
        """Returns the curve, which stands still after its periods."""
        ends = list(itertools.accumulate(self.periods))
        floor = _floor(self.eta_min, self.eta_min_ratio)

        def curve(value: float, base: float, position: int) -> float:
            index = bisect.bisect_right(ends, position)
            if index == len(ends):
                return value
            length = self.periods[index]
            step = position - ends[index] + length
            if step == 0:
                return base * self.restart_weights[index]
            low = floor(base)
            return low + (value - low) * _cosine_share(step, length)

        return curve

    def in_iterations(self, epoch_length: int) -> "CosineRestart":
        """Counts `periods` in iterations."""
        return dataclasses.replace(self, periods=[length * epoch_length for length in self.periods])

    def length(self) -> int | None:
        """Returns the sum of the periods."""
        return sum(self.periods)


@dataclasses.dataclass(frozen=True)
class OneCycle(Family):
    """Rises from `eta_max / div_factor` to `eta_max`, then falls below where it began; the base value plays no part.

    Source: Super-Convergence (Smith and Topin, 2019).
    """

    eta_max: float
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        for name in ("eta_max", "div_factor", "final_div_factor"):
            check_number(name, getattr(self, name), above=0)
        check_positions("total_steps", self.total_steps, least=1)
        self.over(0)

    def over(self, span: int) -> Curve:
        """Returns the curve, which stands still after its cycle."""
        first = self.eta_max / self.div_factor
        at = cycle(
            (first, self.eta_max, first / self.final_div_factor),
            self.total_steps,
            pct_start=self.pct_start,
            anneal_strategy=self.anneal_strategy,
            three_phase=self.three_phase,
        )
        return lambda value, base, position: at(position)

    def in_iterations(self, epoch_length: int) -> "OneCycle":
        """Counts `total_steps` in iterations."""
        return dataclasses.replace(self, total_steps=self.total_steps * epoch_length)

    def rebased(self, base: float) -> float:
        """Returns the value that the cycle begins with."""
        return self.eta_max / self.div_factor

    def length(self) -> int | None:
        """Returns `total_steps`."""
        return self.total_steps


def cycle(
    values: tuple[float, float, float],
    total: int,
    *,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    three_phase: bool = False,
) -> Callable[[int], float]:
    """Returns the function from a position to the value in a cycle of `total` positions.

    Args:
        values: The first value, the one in the middle and the last one.
        total: The length of the cycle.
        pct_start: The share of the way to the value in the middle, 0 to 1.
        anneal_strategy: "cos" or "linear".
        three_phase: Take the same way back to the first value before going to the last.

    Raises:
        ArgumentError: An argument is out of its range.
    """
    if anneal_strategy not in ANNEALINGS:
        raise ArgumentError('"anneal_strategy" is "cos" or "linear"', key="anneal_strategy", found=anneal_strategy)
    check_unit_interval("pct_start", pct_start, zero=True)
    if total <= 0:
        raise ArgumentError('"total_steps" is a positive number', key="total_steps", found=total)
    anneal, (first, peak, last), rise = ANNEALINGS[anneal_strategy], values, pct_start * total
    ends: list[float] = [rise - 1, 2 * rise - 2, total - 1] if three_phase else [rise - 1, total - 1]
    marks = [first, peak, first, last] if three_phase else [first, peak, last]
    phases = list(zip(ends, [0.0, *ends], marks, marks[1:], strict=False))

    def at(position: int) -> float:
        end, start, before, after = next((each for each in phases if position <= each[0]), phases[-1])
        return anneal(before, after, min((position - start) / (end - start), 1.0))

    return at


def cosine_between(start: float, end: float, done: float) -> float:
    """Returns the value after the share `done` (0 to 1) of half a cosine period from `start` to `end`."""
    return end + 0.5 * (start - end) * (math.cos(math.pi * done) + 1)


def line_between(start: float, end: float, done: float) -> float:
    """Returns the value after the share `done` (0 to 1) of a straight line from `start` to `end`."""
    return start + (end - start) * done


ANNEALINGS: dict[str, Callable[[float, float, float], float]] = {"cos": cosine_between, "linear": line_between}

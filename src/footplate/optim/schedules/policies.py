"""The first generation's policies: a value for each progress, and a warm-up over it.

Each policy turns a base value and the progress of the run into the regular value; the warm-up scales that for the first
iterations. Unlike the other curves these do not look at the value before.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from footplate.checks import check_count
from footplate.errors import ArgumentError
from footplate.optim.schedules.checks import check_number, check_positions, check_unit_interval
from footplate.optim.schedules.curves import ANNEALINGS, cosine_between, cycle, line_between


class Run(NamedTuple):
    """The lengths that a policy refers to."""

    full: int
    """The progress at the end of the run, epochs or iterations as the policy counts."""
    unit: int
    """The iterations in one unit of progress."""
    epoch_length: int | None
    """The iterations of an epoch, None where epochs have no length."""
    warmup: str | None
    warmup_iters: int
    """The length of the warm-up in iterations, 0 without one."""
    warmup_ratio: float


Regular = Callable[[float, int], float]
"""From base value and progress to the regular value."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy's settings, in the words of `lr_config`; `minimum` stands for `min_lr` and `min_momentum`."""

    def over(self, run: Run) -> Regular:
        """Returns the regular value as a function of base value and progress."""
        raise NotImplementedError

    def warm(self, run: Run, base: float, regular: float, iteration: int) -> float:
        """Returns the value at an iteration of the warm-up."""
        return regular * warmup_factor(run.warmup, run.warmup_ratio, iteration / run.warmup_iters)


def warmup_factor(kind: str | None, ratio: float, done: float) -> float:
    """Returns what the regular value is multiplied by after the share `done` of a warm-up.

    Args:
        kind: "constant", "linear" or "exp".
        ratio: The factor at first.
        done: 0 to 1.
    """
    if kind == "constant":
        return ratio
    if kind == "linear":
        return float(1 - (1 - done) * (1 - ratio))
    return float(ratio ** (1 - done))


@dataclasses.dataclass(frozen=True)
class Floored(Policy):
    """A policy that falls to `minimum`, or to `minimum_ratio` times the base value."""

    minimum: float | None = None
    minimum_ratio: float | None = None

    def __post_init__(self) -> None:
        check_number("minimum", self.minimum, least=0)
        check_number("minimum_ratio", self.minimum_ratio, least=0)
        if (self.minimum is None) == (self.minimum_ratio is None):
            raise ArgumentError("this policy needs a lowest value or its ratio, and not both", key="policy")

    def target(self, base: float) -> float:
        """Returns the value that the policy falls to."""
        return base * self.minimum_ratio if self.minimum_ratio is not None else float(self.minimum or 0)


@dataclasses.dataclass(frozen=True)
class Fixed(Policy):
    """The base value throughout."""

    def over(self, run: Run) -> Regular:
        """Returns the base value."""
        return lambda base, done: base


@dataclasses.dataclass(frozen=True)
class Steps(Policy):
    """The base value times `gamma` for each `step` passed: every so often for a number, at these marks for a list."""

    step: int | Sequence[int]
    gamma: float = 0.1
    minimum: float | None = None

    def __post_init__(self) -> None:
        marks = self.step if isinstance(self.step, (list, tuple)) else [self.step]
        if any(not isinstance(mark, int) or mark < 0 for mark in marks) or self.step == 0:
            raise ArgumentError('"step" is a positive number or a list of such', key="step", found=self.step)
        check_number("gamma", self.gamma, least=0)
        check_number("minimum", self.minimum, least=0)

    def over(self, run: Run) -> Regular:
        """Returns the value after the steps passed."""
        passed = self._passed()
        gamma, lowest = self.gamma, self.minimum

        def regular(base: float, done: int) -> float:
            value = base * float(gamma ** passed(done))
            return value if lowest is None else max(value, lowest)

        return regular

    def _passed(self) -> Callable[[int], int]:
        step = self.step
        if isinstance(step, int):
            return lambda done: done // step
        # A mark counts only as far as all before it were passed.
        marks = list(itertools.accumulate(step, max))
        return lambda done: bisect.bisect_right(marks, done)


@dataclasses.dataclass(frozen=True)
class Exp(Policy):
    """The base value times `gamma` to the power of the progress."""

    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0)

    def over(self, run: Run) -> Regular:
        """Returns base * gamma ** progress."""
        gamma = self.gamma
        return lambda base, done: base * float(gamma**done)


@dataclasses.dataclass(frozen=True)
class Polynomial(Policy):
    """Falls to the minimum as (1 - progress) ** power."""

    power: float = 1.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        check_number("power", self.power, least=0, optional=False)
        check_number("minimum", self.minimum, least=0)

    def over(self, run: Run) -> Regular:
        """Returns the value after the share of the run."""
        power, low, full = self.power, self.minimum, run.full
        return lambda base, done: (base - low) * float((1 - done / full) ** power) + low


@dataclasses.dataclass(frozen=True)
class Inv(Policy):
    """The base value times (1 + gamma * progress) ** -power."""

    gamma: float
    power: float = 1.0

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0)
        check_number("power", self.power, least=0, optional=False)

    def over(self, run: Run) -> Regular:
        """Returns base * (1 + gamma * progress) ** -power."""
        gamma, power = self.gamma, self.power
        return lambda base, done: base * float((1 + gamma * done) ** -power)


@dataclasses.dataclass(frozen=True)
class Cosine(Floored):
    """Falls to the minimum along half a cosine period."""

    def over(self, run: Run) -> Regular:
        """Returns the value after the share of the run."""
        target, full = self.target, run.full
        return lambda base, done: cosine_between(base, target(base), done / full)


@dataclasses.dataclass(frozen=True)
class Line(Floored):
    """Falls to the minimum in a straight line."""

    def over(self, run: Run) -> Regular:
        """Returns the value after the share of the run."""
        target, full = self.target, run.full
        return lambda base, done: line_between(base, target(base), done / full)


@dataclasses.dataclass(frozen=True)
class FlatCosine(Floored):
    """Stays at the base value for `start_percent` (0 to 1) of the run, then falls along half a cosine period."""

    start_percent: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unit_interval("start_percent", self.start_percent, zero=True)

    def over(self, run: Run) -> Regular:
        """Returns the value after the share of the run."""
        target, start = self.target, round(run.full * self.start_percent)

        def regular(base: float, done: int) -> float:
            if done <= start:
                return base
            return cosine_between(base, target(base), (done - start) / (run.full - start))

        return regular


@dataclasses.dataclass(frozen=True)
class RestartedCosine(Floored):
    """Falls along half a cosine period in each of `periods`, from its weight on."""

    periods: Sequence[int] = ()
    restart_weights: Sequence[float] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.periods or len(self.periods) != len(self.restart_weights):
            raise ArgumentError(
                '"periods" and "restart_weights" have one entry each per period', key="periods", found=self.periods
            )
        check_positions("periods", self.periods, least=1)
        for weight in self.restart_weights:
            check_number("restart_weights", weight, least=0)

    def over(self, run: Run) -> Regular:
        """Returns the value within the period."""
        ends = list(itertools.accumulate(self.periods))
        if ends[-1] < run.full:
            raise ArgumentError(
                f"the periods end at {ends[-1]}, the run at {run.full}", key="periods", found=list(self.periods)
            )

        def regular(base: float, done: int) -> float:
            index = min(bisect.bisect_right(ends, done), len(ends) - 1)
            length, low = self.periods[index], self.target(base)
            share = min((done - ends[index] + length) / length, 1)
            return low + self.restart_weights[index] * (cosine_between(base, low, share) - low)

        return regular


@dataclasses.dataclass(frozen=True)
class Cyclic(Policy):
    """Goes to `target_ratio[0]` times the base value and on to `target_ratio[1]` times it, `cyclic_times` times.

    Source: Cyclical Learning Rates for Training Neural Networks (Smith, 2017).
    """

    target_ratio: Any = (10, 1e-4)
    cyclic_times: int = 1
    step_ratio_up: float = 0.4
    anneal_strategy: str = "cos"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.anneal_strategy not in ANNEALINGS:
            raise ArgumentError(
                '"anneal_strategy" is "cos" or "linear"', key="anneal_strategy", found=self.anneal_strategy
            )
        check_count("cyclic_times", self.cyclic_times)
        check_unit_interval("step_ratio_up", self.step_ratio_up, zero=False)
        check_number("gamma", self.gamma, least=0)
        for each in self.target_ratio if isinstance(self.target_ratio, (list, tuple)) else [self.target_ratio]:
            check_number("target_ratio", each, least=0)

    def over(self, run: Run) -> Regular:
        """Returns the value within the cycle."""
        anneal = ANNEALINGS[self.anneal_strategy]
        ratio = self.target_ratio
        top, end = ratio if isinstance(ratio, (list, tuple)) and len(ratio) == 2 else _spread(ratio)
        length = run.full // self.cyclic_times
        up = int(self.step_ratio_up * length)

        def regular(base: float, done: int) -> float:
            cycle, place = divmod(done, length)
            peak = 1 + (top - 1) * self.gamma**cycle
            if place < up:
                return anneal(base, base * peak, place / up)
            return anneal(base * peak, base * end, (place - up) / (length - up))

        return regular


@dataclasses.dataclass(frozen=True)
class Cycle(Policy):
    """Goes from `first` to `peak` and on to `last`, whatever the base value.

    Source: Super-Convergence (Smith and Topin, 2019).
    """

    first: float
    peak: float
    last: float
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    three_phase: bool = False

    def over(self, run: Run) -> Regular:
        """Returns the value within the cycle."""
        total = run.full if self.total_steps is None else self.total_steps
        if total < run.full:
            raise ArgumentError(
                f"the cycle ends after {total} iterations, the run after {run.full}", key="total_steps", found=total
            )
        value = cycle(
            (self.first, self.peak, self.last),
            total,
            pct_start=self.pct_start,
            anneal_strategy=self.anneal_strategy,
            three_phase=self.three_phase,
        )
        return lambda base, done: value(done)


def _spread(ratio: Any) -> tuple[float, float]:
    value = ratio[0] if isinstance(ratio, (list, tuple)) else ratio
    return value, value / 1e5

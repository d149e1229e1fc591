"""Curves for parameter schedules: dataclasses whose fields are config keys.

A curve is a pure function of the current value, the base value and the position: the number of epochs or iterations
since the schedule's `begin`. Any field of a parameter group can follow a curve. Curves for first-generation configs are
in `PolicyLR`.
"""

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from footplate.checks import check_choice
from footplate.errors import ArgumentError
from footplate.optim.schedules.base_curve import Curve, number, positions


@dataclass(frozen=True)
class Constant(Curve):
    """Scales the value by `factor` when the schedule begins, and restores it in the schedule's last epoch or iteration.

    A schedule of length 1 does not restore the value.

    Args:
        factor: The factor, above 0 and at most 1.
    """

    factor: float = number(1.0 / 3, above=0, most=1)

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        if position == 0:
            return value * self.factor
        return value / self.factor if position == span - 1 else value

    def ends_at_base(self) -> bool:
        return True


@dataclass(frozen=True)
class Linear(Curve):
    """Multiplies the value by a factor that changes linearly from `start_factor` to `end_factor`.

    Args:
        start_factor: The first factor, above 0 and at most 1.
        end_factor: The last factor, from 0 to 1.
    """

    start_factor: float = number(1.0 / 3, above=0, most=1)
    end_factor: float = number(1.0, least=0, most=1)

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        if position == 0:
            return value * self.start_factor
        # The factor at `position`, divided by the factor at `position - 1`.
        rise = self.end_factor - self.start_factor
        return value * (1.0 + rise / (self.start_factor * (span - 1) + (position - 1) * rise))

    def ends_at_base(self) -> bool:
        return self.end_factor == 1.0


@dataclass(frozen=True)
class QuadraticWarmup(Curve):
    """Increases the value quadratically from almost 0 to the base value.

    Source: the warm-up in YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        return (value if position else 0.0) + base * (2 * position + 1) * (1 / span**2)

    def ends_at_base(self) -> bool:
        return True


@dataclass(frozen=True)
class Exponential(Curve):
    """Multiplies the value by `gamma` in each epoch or iteration of the schedule except the first.

    Args:
        gamma: The factor, at least 0.
    """

    gamma: float = number(least=0)
    depends_on_end = False

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        return value * self.gamma if position else value


@dataclass(frozen=True)
class Step(Curve):
    """Multiplies the value by `gamma` every `step_size` epochs or iterations.

    Args:
        step_size: The number of epochs or iterations between changes, counted from `begin`.
        gamma: The factor, at least 0.
    """

    step_size: int = positions()
    gamma: float = number(0.1, least=0)
    depends_on_end = False

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        return value * self.gamma if position and position % self.step_size == 0 else value


@dataclass(frozen=True)
class MultiStep(Curve):
    """Multiplies the value by `gamma` at each milestone.

    Args:
        milestones: The epochs or iterations at which the value changes, counted from `begin`. A milestone that is
            listed twice multiplies the value by `gamma` twice.
        gamma: The factor, at least 0.
    """

    milestones: Sequence[int] = positions(least=0, is_list=True)
    gamma: float = number(0.1, least=0)
    depends_on_end = False

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        return value * self.gamma ** self.milestones.count(position)


@dataclass(frozen=True)
class Poly(Curve):
    """Decays the value to `eta_min` polynomially.

    The distance from `eta_min` is proportional to `(1 - position / last) ** power`, where `last` is the schedule's last
    position.

    Source: ParseNet (Liu et al., 2015), the "poly" policy.

    Args:
        eta_min: The final value.
        power: The exponent.
    """

    eta_min: float = number(0.0, least=0)
    power: float = number(1.0, least=0)

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        if position == 0:
            return value
        last = span - 1
        # The distance at `position`, divided by the distance at `position - 1`.
        factor = math.pow((1 - position / last) / (1 - (position - 1) / last), self.power)
        return self.eta_min + (value - self.eta_min) * factor


@dataclass(frozen=True, kw_only=True)
class WithMinimum(Curve):
    """Base class for curves that decay to `eta_min` (0 by default), or to `eta_min_ratio` times the base value."""

    eta_min: float | None = number(None, least=0)
    eta_min_ratio: float | None = number(None, least=0)

    def __post_init__(self) -> None:
        if self.eta_min is not None and self.eta_min_ratio is not None:
            raise ArgumentError("'eta_min' and 'eta_min_ratio' cannot both be set", key="eta_min_ratio")
        super().__post_init__()

    def minimum(self, base: float) -> float:
        """Returns the minimum of the curve for the given base value."""
        return float(self.eta_min or 0) if self.eta_min_ratio is None else base * self.eta_min_ratio

    def cosine_decay(self, value: float, base: float, step: int, half: float) -> float:
        """Returns the value after step `step` of a cosine decay over `half` steps, given the previous `value`.

        Each step scales the distance from the minimum.
        """
        factor = (1 + math.cos(math.pi * step / half)) / (1 + math.cos(math.pi * (step - 1) / half))
        low = self.minimum(base)
        return low + (value - low) * factor


@dataclass(frozen=True)
class CosineAnnealing(WithMinimum):
    """Follows a cosine between the base value and the minimum, with a half period of `T_max` epochs or iterations.

    Source: SGDR (Loshchilov and Hutter, 2017), without restarts.

    Args:
        T_max: The half period. Defaults to the length of the schedule.
        eta_min: The minimum. Defaults to 0.
        eta_min_ratio: The minimum relative to the base value, instead of `eta_min`.
    """

    T_max: float | None = number(None, above=0, is_position=True)

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        if position == 0:
            return value
        half = self.T_max or span
        if (position - 1 - half) % (2 * half) == 0:
            return value + (base - self.minimum(base)) * ((1 - math.cos(math.pi / half)) / 2)
        return self.cosine_decay(value, base, position, half)


@dataclass(frozen=True)
class CosineRestart(WithMinimum):
    """Decays the value along a half cosine in each period. A period starts at the base value times its restart weight.

    The value is constant after the last period.

    Source: SGDR (Loshchilov and Hutter, 2017).

    Args:
        periods: The lengths of the periods in epochs or iterations.
        restart_weights: The restart weight of each period.
        eta_min: The minimum. Defaults to 0.
        eta_min_ratio: The minimum relative to the base value, instead of `eta_min`.
    """

    periods: Sequence[int] = positions(is_list=True)
    restart_weights: Sequence[float] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.periods) != len(self.restart_weights):
            raise ArgumentError(
                "'periods' and 'restart_weights' must have the same length",
                key="restart_weights",
                found={"periods": self.periods, "restart_weights": self.restart_weights},
            )

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        ends = list(itertools.accumulate(self.periods))
        index = bisect.bisect_right(ends, position)
        if index == len(ends):
            return value
        length = self.periods[index]
        step = position - ends[index] + length
        if step == 0:
            return base * self.restart_weights[index]
        return self.cosine_decay(value, base, step, length)

    def length(self) -> int | None:
        return sum(self.periods)


def cosine_between(start: float, end: float, fraction: float) -> float:
    """Interpolates between `start` and `end` along a half cosine. `fraction` is the progress, from 0 to 1."""
    return end + 0.5 * (start - end) * (math.cos(math.pi * fraction) + 1)


def line_between(start: float, end: float, fraction: float) -> float:
    """Interpolates linearly between `start` and `end`. `fraction` is the progress, from 0 to 1."""
    return start + (end - start) * fraction


ANNEALINGS: dict[str, Callable[[float, float, float], float]] = {"cos": cosine_between, "linear": line_between}


@dataclass(frozen=True, kw_only=True)
class Cycle(Curve):
    """Base class for one-cycle curves, which increase from an initial value to a peak and then decay to a final value.

    See `OneCycle` for the settings.
    """

    pct_start: float = number(0.3, least=0, most=1)
    anneal_strategy: str = "cos"
    three_phase: bool = False

    def __post_init__(self) -> None:
        check_choice("anneal_strategy", self.anneal_strategy, ANNEALINGS)
        super().__post_init__()

    def value_at(self, position: int, total: int, values: tuple[float, float, float]) -> float:
        """Returns the value at a position of a cycle. The value is constant after the cycle.

        Args:
            position: The position, starting at 0.
            total: The length of the cycle in epochs or iterations.
            values: The initial value, the peak, and the final value.
        """
        first, peak, last = values
        rise = self.pct_start * total
        position = min(position, total - 1)
        ends: list[float] = [rise - 1, 2 * rise - 2, total - 1] if self.three_phase else [rise - 1, total - 1]
        targets = [first, peak, first, last] if self.three_phase else [first, peak, last]
        index = next((index for index, end in enumerate(ends) if position <= end), len(ends) - 1)
        start = ends[index - 1] if index else 0.0
        length = ends[index] - start
        fraction = min((position - start) / length, 1.0) if length else 1.0
        return ANNEALINGS[self.anneal_strategy](targets[index], targets[index + 1], fraction)


@dataclass(frozen=True)
class OneCycle(Cycle):
    """Increases from `eta_max / div_factor` to `eta_max`, then decays to `eta_max / div_factor / final_div_factor`.

    The curve does not depend on the base value. It is constant after `total_steps`. Unlike torch's OneCycleLR,
    `OneCycleLR` changes only the learning rate and not the momentum.

    Source: Super-Convergence (Smith and Topin, 2019).

    Args:
        eta_max: The peak.
        total_steps: The length of the cycle in epochs or iterations. Defaults to the length of the schedule.
        div_factor: The peak divided by the initial value.
        final_div_factor: The initial value divided by the final value.
        pct_start: The fraction of the cycle before the peak, from 0 to 1.
        anneal_strategy: "cos" or "linear".
        three_phase: Whether to add a middle phase that returns to the initial value and takes as long as the increase.
    """

    eta_max: float = number(above=0)
    total_steps: int | None = number(None, above=0, is_position=True)
    div_factor: float = number(25.0, above=0)
    final_div_factor: float = number(1e4, above=0)

    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        first = self.eta_max / self.div_factor
        targets = (first, self.eta_max, first / self.final_div_factor)
        return self.value_at(position, self.total_steps or span, targets)

    def rebased(self, base: float) -> float:
        return self.eta_max / self.div_factor

    def length(self) -> int | None:
        return self.total_steps

"""The learning rate policies of first-generation configs."""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from footplate.checks import check_count
from footplate.errors import ArgumentError
from footplate.optim.schedules.checks import check_number, check_positions, check_unit_interval
from footplate.optim.schedules.curves import ANNEALINGS, cosine_between, cycle, line_between


class RunInfo(NamedTuple):
    """The lengths of a run and the settings of its warm-up."""

    full: int
    """The progress at the end of the run, in epochs or iterations depending on the policy."""
    unit: int
    """The number of iterations per unit of progress."""
    epoch_length: int | None
    """The iterations of an epoch, None if unknown."""
    warmup: str | None
    warmup_iters: int
    """The length of the warm-up in iterations, 0 for no warm-up."""
    warmup_ratio: float


RegularValue = Callable[[float, int], float]
"""A function (base value, progress) -> regular value."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """The base class of policies.

    The fields are the keys of `lr_config` and `momentum_config`, except that `minimum` replaces `min_lr` and
    `min_momentum`.
    """

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        raise NotImplementedError

    def warm(self, run: RunInfo, base: float, regular: float, iteration: int) -> float:
        """Returns the value at an iteration of the warm-up."""
        return regular * warmup_factor(run.warmup, run.warmup_ratio, iteration / run.warmup_iters)


def warmup_factor(kind: str | None, ratio: float, done: float) -> float:
    """Returns the factor of the regular value during a warm-up.

    Args:
        kind: "constant", "linear" or "exp".
        ratio: The factor at the start of the warm-up.
        done: The completed fraction of the warm-up, 0 to 1.
    """
    if kind == "constant":
        return ratio
    if kind == "linear":
        return float(1 - (1 - done) * (1 - ratio))
    return float(ratio ** (1 - done))


@dataclasses.dataclass(frozen=True)
class PolicyWithMinimum(Policy):
    """The base class of policies that decay to `minimum`, or to `minimum_ratio` times the base value."""

    minimum: float | None = None
    minimum_ratio: float | None = None

    def __post_init__(self) -> None:
        check_number("minimum", self.minimum, least=0)
        check_number("minimum_ratio", self.minimum_ratio, least=0)
        if (self.minimum is None) == (self.minimum_ratio is None):
            raise ArgumentError(
                "this policy needs either a minimum or a minimum ratio",
                key="policy",
                notes=["Set exactly one of them: min_lr or min_lr_ratio, min_momentum or min_momentum_ratio."],
            )

    def target(self, base: float) -> float:
        """Returns the final value for a base value."""
        return base * self.minimum_ratio if self.minimum_ratio is not None else float(self.minimum or 0)


@dataclasses.dataclass(frozen=True)
class Fixed(Policy):
    """Keeps the base value."""

    def over(self, run: RunInfo) -> RegularValue:
        """Returns a function that returns the base value."""
        return lambda base, done: base


@dataclasses.dataclass(frozen=True)
class Steps(Policy):
    """Multiplies the base value by `gamma` every `step` epochs or iterations, or at each of a list of steps."""

    step: int | Sequence[int]
    gamma: float = 0.1
    minimum: float | None = None

    def __post_init__(self) -> None:
        steps = self.step if isinstance(self.step, (list, tuple)) else [self.step]
        if any(not isinstance(each, int) or each < 0 for each in steps) or self.step == 0:
            raise ArgumentError('"step" must be a positive integer or a list of integers', key="step", found=self.step)
        check_number("gamma", self.gamma, least=0)
        check_number("minimum", self.minimum, least=0)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        steps_done = self._steps_done()
        gamma, minimum = self.gamma, self.minimum

        def regular(base: float, done: int) -> float:
            value = base * float(gamma ** steps_done(done))
            return value if minimum is None else max(value, minimum)

        return regular

    def _steps_done(self) -> Callable[[int], int]:
        """Returns a function that computes the number of completed steps from the progress."""
        step = self.step
        if isinstance(step, int):
            return lambda done: done // step
        # In an unsorted list a step takes effect only after all steps before it.
        steps = list(itertools.accumulate(step, max))
        return lambda done: bisect.bisect_right(steps, done)


@dataclasses.dataclass(frozen=True)
class Exp(Policy):
    """Decays exponentially: `base * gamma ** progress`."""

    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        gamma = self.gamma
        return lambda base, done: base * float(gamma**done)


@dataclasses.dataclass(frozen=True)
class Polynomial(Policy):
    """Decays to the minimum as `(1 - progress / full) ** power`."""

    power: float = 1.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        check_number("power", self.power, least=0, optional=False)
        check_number("minimum", self.minimum, least=0)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        power, low, full = self.power, self.minimum, run.full
        return lambda base, done: (base - low) * float((1 - done / full) ** power) + low


@dataclasses.dataclass(frozen=True)
class Inv(Policy):
    """Decays as `base * (1 + gamma * progress) ** -power`."""

    gamma: float
    power: float = 1.0

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, least=0)
        check_number("power", self.power, least=0, optional=False)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        gamma, power = self.gamma, self.power
        return lambda base, done: base * float((1 + gamma * done) ** -power)


@dataclasses.dataclass(frozen=True)
class Cosine(PolicyWithMinimum):
    """Decays to the minimum along a half cosine."""

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        target, full = self.target, run.full
        return lambda base, done: cosine_between(base, target(base), done / full)


@dataclasses.dataclass(frozen=True)
class Line(PolicyWithMinimum):
    """Decays linearly to the minimum."""

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        target, full = self.target, run.full
        return lambda base, done: line_between(base, target(base), done / full)


@dataclasses.dataclass(frozen=True)
class FlatCosine(PolicyWithMinimum):
    """Keeps the base value for the fraction `start_percent`, 0 to 1, of the run, then decays along a half cosine."""

    start_percent: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_unit_interval("start_percent", self.start_percent, zero=True)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        target, start = self.target, round(run.full * self.start_percent)

        def regular(base: float, done: int) -> float:
            if done <= start:
                return base
            return cosine_between(base, target(base), (done - start) / (run.full - start))

        return regular


@dataclasses.dataclass(frozen=True)
class RestartedCosine(PolicyWithMinimum):
    """Decays along a half cosine in each of `periods`, scaled by its restart weight."""

    periods: Sequence[int] = ()
    restart_weights: Sequence[float] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.periods or len(self.periods) != len(self.restart_weights):
            raise ArgumentError(
                '"periods" and "restart_weights" must have one length and must not be empty',
                key="periods",
                found=self.periods,
            )
        check_positions("periods", self.periods, least=1)
        for weight in self.restart_weights:
            check_number("restart_weights", weight, least=0)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        ends = list(itertools.accumulate(self.periods))
        if ends[-1] < run.full:
            raise ArgumentError(
                f"the periods end at {ends[-1]}, before the end of the run at {run.full}",
                key="periods",
                found=list(self.periods),
            )

        def regular(base: float, done: int) -> float:
            index = min(bisect.bisect_right(ends, done), len(ends) - 1)
            length, low = self.periods[index], self.target(base)
            share = min((done - ends[index] + length) / length, 1)
            return low + self.restart_weights[index] * (cosine_between(base, low, share) - low)

        return regular


@dataclasses.dataclass(frozen=True)
class Cyclic(Policy):
    """Runs `cyclic_times` cycles to `target_ratio[0]` and then to `target_ratio[1]` times the base value.

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
                '"anneal_strategy" must be "cos" or "linear"', key="anneal_strategy", found=self.anneal_strategy
            )
        check_count("cyclic_times", self.cyclic_times)
        check_unit_interval("step_ratio_up", self.step_ratio_up, zero=False)
        check_number("gamma", self.gamma, least=0)
        for each in self.target_ratio if isinstance(self.target_ratio, (list, tuple)) else [self.target_ratio]:
            check_number("target_ratio", each, least=0)

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        anneal = ANNEALINGS[self.anneal_strategy]
        ratio = self.target_ratio
        if isinstance(ratio, (list, tuple)) and len(ratio) == 2:
            top, end = ratio
        else:
            top = ratio[0] if isinstance(ratio, (list, tuple)) else ratio
            end = top / 1e5
        length = run.full // self.cyclic_times
        up = int(self.step_ratio_up * length)

        def regular(base: float, done: int) -> float:
            cycle, position = divmod(done, length)
            peak = 1 + (top - 1) * self.gamma**cycle
            if position < up:
                return anneal(base, base * peak, position / up)
            return anneal(base * peak, base * end, (position - up) / (length - up))

        return regular


@dataclasses.dataclass(frozen=True)
class Cycle(Policy):
    """Runs one cycle from `first` to `peak` and then to `last`, regardless of the base value.

    Source: Super-Convergence (Smith and Topin, 2019).
    """

    first: float
    peak: float
    last: float
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    three_phase: bool = False

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        total = run.full if self.total_steps is None else self.total_steps
        if total < run.full:
            raise ArgumentError(
                f"the cycle ends after {total} iterations, before the end of the run after {run.full}",
                key="total_steps",
                found=total,
            )
        value = cycle(
            (self.first, self.peak, self.last),
            total,
            pct_start=self.pct_start,
            anneal_strategy=self.anneal_strategy,
            three_phase=self.three_phase,
        )
        return lambda base, done: value(done)


@dataclasses.dataclass(frozen=True)
class YoloxCosine(PolicyWithMinimum):
    """A quadratic warm-up, then a cosine decay, then the minimum for the last `num_last_epochs` epochs.

    Source: YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """

    num_last_epochs: int = 0

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        if run.epoch_length is None and self.num_last_epochs:
            raise ArgumentError('"num_last_epochs" needs a known epoch length', key="epoch_length")
        last = run.full - (run.epoch_length or 0) * self.num_last_epochs

        def regular(base: float, done: int) -> float:
            low = self.target(base)
            if done + 1 >= last:
                return low
            return cosine_between(base, low, (done + 1 - run.warmup_iters) / (last - run.warmup_iters))

        return regular

    def warm(self, run: RunInfo, base: float, regular: float, iteration: int) -> float:
        """Returns the value at an iteration of the warm-up, which is quadratic whatever `warmup` is."""
        return base * run.warmup_ratio * float(((iteration + 1) / run.warmup_iters) ** 2)


@dataclasses.dataclass(frozen=True)
class StepFixedCosine(PolicyWithMinimum):
    """A cosine decay that starts at the end of the warm-up.

    Source: the BYOL and SimSiam recipes of the first generation's self-supervised code base.
    """

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        warmup_length = run.warmup_iters // run.unit  # in the unit of the policy; only complete epochs count

        def regular(base: float, done: int) -> float:
            fraction = (done - warmup_length) / (run.full - warmup_length)
            return cosine_between(base, self.target(base), fraction)

        return regular

    def warm(self, run: RunInfo, base: float, regular: float, iteration: int) -> float:
        """Returns the value at an iteration of the warm-up; a linear warm-up starts at 0."""
        done = iteration / run.warmup_iters
        return regular * (done if run.warmup == "linear" else warmup_factor(run.warmup, run.warmup_ratio, done))


@dataclasses.dataclass(frozen=True)
class CooledCosine(PolicyWithMinimum):
    """A cosine decay that ends `cool_down_time` before the run, then `cool_down_ratio` times the minimum."""

    cool_down_ratio: float = 0.1
    cool_down_time: int = 10

    def over(self, run: RunInfo) -> RegularValue:
        """Returns the function that computes the regular value."""
        end = run.full - self.cool_down_time

        def regular(base: float, done: int) -> float:
            low = self.target(base)
            return low * self.cool_down_ratio if done > end else cosine_between(base, low, done / end)

        return regular

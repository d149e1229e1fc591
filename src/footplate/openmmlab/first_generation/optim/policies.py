"""Curves for the `lr_config` and `momentum_config` policies of first-generation configs."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from typing_extensions import override

from footplate.checks import check_choice, check_count, check_number
from footplate.errors import ArgumentError
from footplate.optim.schedules.base_curve import Curve, check_positions
from footplate.optim.schedules.curves import (
    ANNEALINGS,
    Cycle,
    WithMinimum,
    check_anneal_strategy,
    cosine_between,
    line_between,
)

ValueFunction = Callable[[float, float], float]
"""A function (current value, base value) -> next value."""


class RunInfo(NamedTuple):
    """The lengths of a run and the settings of its warm-up."""

    full: int
    """The progress at the end of the run, in epochs or iterations depending on the policy."""
    unit: int
    """The number of iterations per unit of progress."""
    epoch_length: int | None
    """The number of iterations per epoch, or None if unknown."""
    warmup: str | None = None
    """ "constant", "linear", "exp", or None for no warm-up."""
    warmup_iters: int = 0
    """The length of the warm-up in iterations, 0 for no warm-up."""
    warmup_ratio: float = 0.1
    """The factor at the start of the warm-up."""
    divides: bool = False
    """Whether values are divided by the warm-up factor, as for momentum."""


def check_warmup(warmup: str | None, iters: int, ratio: float) -> None:
    """Raises ArgumentError if the settings of a warm-up are invalid. The arguments are as in `RunInfo`."""
    if warmup is not None:
        check_choice("warmup", warmup, ("constant", "linear", "exp"))
        check_count("warmup_iters", iters)
        check_number("warmup_ratio", ratio, above=0, most=1)


def warmup_factor(kind: str | None, ratio: float, done: float) -> float:
    """Returns the warm-up factor at the fraction `done` of a warm-up. `kind` and `ratio` are as in `RunInfo`.

    The regular value is multiplied by the factor, or divided if `RunInfo.divides` is set.
    """
    if kind == "constant":
        return ratio
    return float(1 - (1 - done) * (1 - ratio)) if kind == "linear" else float(ratio ** (1 - done))


@dataclasses.dataclass(frozen=True)
class Policy(Curve):
    """The base class of policies. Their positions are iterations.

    A subclass defines `_regular`, which computes the values without a warm-up. The fields are the keys of `lr_config`
    and `momentum_config`, except that `eta_min` replaces `min_lr` and `min_momentum`.
    """

    run: RunInfo = dataclasses.field(kw_only=True)
    by_iteration: ClassVar[bool] = False
    """Whether the policy counts iterations even if `by_epoch` is True."""

    @override
    def __call__(self, value: float, base: float, position: int, span: int) -> float:
        run = self.run
        regular = self._regular(position // run.unit)(value, base)
        if position >= run.warmup_iters:
            return regular
        if run.divides:
            return regular / warmup_factor(run.warmup, run.warmup_ratio, position / run.warmup_iters)
        return self._warm(position)(regular, base)

    def _regular(self, done: int) -> ValueFunction:
        """Returns a function that computes the value after `done` epochs or iterations, depending on the policy."""
        raise NotImplementedError

    def _warm(self, iteration: int) -> ValueFunction:
        """Returns a function that computes the value at a warm-up iteration from the regular value and the base
        value."""
        run = self.run
        factor = warmup_factor(run.warmup, run.warmup_ratio, iteration / run.warmup_iters)
        return lambda regular, base: regular * factor


@dataclasses.dataclass(frozen=True)
class Fixed(Policy):
    """Keeps the base value."""

    def _regular(self, done: int) -> ValueFunction:
        return lambda value, base: base


@dataclasses.dataclass(frozen=True)
class Steps(Policy):
    """Multiplies the base value by `gamma` every `step` epochs or iterations, or at each step in a list."""

    step: int | Sequence[int]
    gamma: float = 0.1
    eta_min: float | None = None

    def __post_init__(self) -> None:
        steps = self.step if isinstance(self.step, (list, tuple)) else [self.step]
        if any(not isinstance(each, int) or each < 0 for each in steps) or self.step == 0:
            raise ArgumentError('"step" must be a positive integer or a list of integers', key="step", found=self.step)
        check_number("gamma", self.gamma, least=0)

    def _regular(self, done: int) -> ValueFunction:
        steps_done = done // self.step if isinstance(self.step, int) else bisect.bisect_right(self._steps, done)
        factor, low = float(self.gamma**steps_done), self.eta_min
        if low is None:
            return lambda value, base: base * factor
        return lambda value, base: max(base * factor, low)

    @functools.cached_property
    def _steps(self) -> list[int]:
        # In an unsorted list, a step takes effect only after all steps before it.
        return list(itertools.accumulate(self.step, max)) if isinstance(self.step, Sequence) else []


@dataclasses.dataclass(frozen=True)
class MomentumSteps(Steps):
    """`Steps` with the default `gamma` of `momentum_config`."""

    gamma: float = 0.5


@dataclasses.dataclass(frozen=True)
class Exp(Policy):
    """Decays exponentially: `base * gamma ** progress`."""

    gamma: float

    def _regular(self, done: int) -> ValueFunction:
        factor = float(self.gamma**done)
        return lambda value, base: base * factor


@dataclasses.dataclass(frozen=True)
class Polynomial(Policy):
    """Decays to the minimum as `(1 - progress / full) ** power`."""

    power: float = 1.0
    eta_min: float = 0.0

    def _regular(self, done: int) -> ValueFunction:
        low, factor = self.eta_min, float((1 - done / self.run.full) ** self.power)
        return lambda value, base: (base - low) * factor + low


@dataclasses.dataclass(frozen=True)
class Inv(Policy):
    """Decays as `base * (1 + gamma * progress) ** -power`."""

    gamma: float
    power: float = 1.0

    def _regular(self, done: int) -> ValueFunction:
        factor = float((1 + self.gamma * done) ** -self.power)
        return lambda value, base: base * factor


@dataclasses.dataclass(frozen=True)
class PolicyWithMinimum(Policy, WithMinimum):
    """The base class of policies that need a minimum."""

    def __post_init__(self) -> None:
        if (self.eta_min is None) == (self.eta_min_ratio is None):
            raise ArgumentError(
                "this policy needs either a minimum or a minimum ratio",
                key="policy",
                notes=["Set exactly one of them: min_lr or min_lr_ratio, min_momentum or min_momentum_ratio."],
            )

    def _cosine(self, done: float) -> ValueFunction:
        """Returns a function that computes the value at the fraction `done` of a half cosine from the base to the
        minimum."""
        return lambda value, base: cosine_between(base, self.minimum(base), done)


@dataclasses.dataclass(frozen=True)
class Cosine(PolicyWithMinimum):
    """Decays to the minimum along a half cosine."""

    def _regular(self, done: int) -> ValueFunction:
        return self._cosine(done / self.run.full)


@dataclasses.dataclass(frozen=True)
class Line(PolicyWithMinimum):
    """Decays linearly to the minimum."""

    def _regular(self, done: int) -> ValueFunction:
        return lambda value, base: line_between(base, self.minimum(base), done / self.run.full)


@dataclasses.dataclass(frozen=True)
class FlatCosine(PolicyWithMinimum):
    """Keeps the base value for the fraction `start_percent` (0 to 1) of the run, then decays along a half cosine."""

    start_percent: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("start_percent", self.start_percent, least=0, most=1)

    def _regular(self, done: int) -> ValueFunction:
        full = self.run.full
        start = round(full * self.start_percent)
        return (lambda value, base: base) if done <= start else self._cosine((done - start) / (full - start))


@dataclasses.dataclass(frozen=True)
class RestartedCosine(PolicyWithMinimum):
    """Decays along a half cosine in each of `periods`, scaled by its restart weight."""

    periods: Sequence[int] = ()
    restart_weights: Sequence[float] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.periods or len(self.periods) != len(self.restart_weights):
            raise ArgumentError(
                '"periods" and "restart_weights" must have the same length and must not be empty',
                key="periods",
                found=self.periods,
            )
        check_positions("periods", self.periods, least=1, is_list=True)
        if self._ends[-1] < self.run.full:
            raise ArgumentError(
                f"the periods end at {self._ends[-1]}, before the end of the run at {self.run.full}",
                key="periods",
                found=list(self.periods),
            )

    def _regular(self, done: int) -> ValueFunction:
        index = min(bisect.bisect_right(self._ends, done), len(self._ends) - 1)
        length, weight = self.periods[index], self.restart_weights[index]
        fraction = min((done - self._ends[index] + length) / length, 1)

        def regular(value: float, base: float) -> float:
            low = self.minimum(base)
            return low + weight * (cosine_between(base, low, fraction) - low)

        return regular

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(self.periods))


@dataclasses.dataclass(frozen=True)
class Cyclic(Policy):
    """Runs `cyclic_times` cycles.

    Each cycle anneals the value from the base value to `target_ratio[0]` times the base value, then to
    `target_ratio[1]` times the base value. `gamma` shrinks the peak from cycle to cycle.

    Source: Cyclical Learning Rates for Training Neural Networks (Smith, 2017).
    """

    target_ratio: Any = (10, 1e-4)
    cyclic_times: int = 1
    step_ratio_up: float = 0.4
    anneal_strategy: str = "cos"
    gamma: float = 1.0
    by_iteration = True

    def __post_init__(self) -> None:
        check_anneal_strategy(self.anneal_strategy)
        check_count("cyclic_times", self.cyclic_times)
        check_number("step_ratio_up", self.step_ratio_up, above=0, most=1)
        check_number("gamma", self.gamma, least=0)
        for each in self.target_ratio if isinstance(self.target_ratio, (list, tuple)) else [self.target_ratio]:
            check_number("target_ratio", each, least=0)

    def _regular(self, done: int) -> ValueFunction:
        ratios = self.target_ratio if isinstance(self.target_ratio, (list, tuple)) else [self.target_ratio]
        top, end = ratios if len(ratios) == 2 else (ratios[0], ratios[0] / 1e5)
        length = self.run.full // self.cyclic_times
        up = int(self.step_ratio_up * length)
        cycle, position = divmod(done, length)
        peak, anneal = 1 + (top - 1) * self.gamma**cycle, ANNEALINGS[self.anneal_strategy]
        if position < up:
            return lambda value, base: anneal(base, base * peak, position / up)
        return lambda value, base: anneal(base * peak, base * end, (position - up) / (length - up))


@dataclasses.dataclass(frozen=True)
class PolicyCycle(Policy, Cycle):
    """The base class of the OneCycle policies, which do not depend on the base value."""

    total_steps: int | None = dataclasses.field(default=None, kw_only=True)
    by_iteration = True

    def __post_init__(self) -> None:
        super().__post_init__()
        full = self.run.full
        if self.total_steps is not None and self.total_steps < full:
            raise ArgumentError(
                f"the cycle ends after {self.total_steps} iterations, but the run has {full}",
                key="total_steps",
                found=self.total_steps,
            )

    def _regular(self, done: int) -> ValueFunction:
        total = self.run.full if self.total_steps is None else self.total_steps
        value_here = self.value_at(done, total, self._values())
        return lambda value, base: value_here

    def _values(self) -> tuple[float, float, float]:
        """Returns the first value, the peak, and the last value."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LearningRateCycle(PolicyCycle):
    """The OneCycle policy of `lr_config`."""

    max_lr: float
    div_factor: float = 25
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        for name in ("max_lr", "div_factor", "final_div_factor"):
            check_number(name, getattr(self, name), above=0)
        super().__post_init__()

    def _values(self) -> tuple[float, float, float]:
        first = self.max_lr / self.div_factor
        return first, self.max_lr, first / self.final_div_factor


@dataclasses.dataclass(frozen=True)
class MomentumCycle(PolicyCycle):
    """The OneCycle policy of `momentum_config`."""

    base_momentum: float = 0.85
    max_momentum: float = 0.95

    def _values(self) -> tuple[float, float, float]:
        return self.max_momentum, self.base_momentum, self.max_momentum


@dataclasses.dataclass(frozen=True)
class YoloxCosine(PolicyWithMinimum):
    """A quadratic warm-up, then a cosine decay, then the minimum for the last `num_last_epochs` epochs.

    Source: YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """

    num_last_epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run.epoch_length is None and self.num_last_epochs:
            raise ArgumentError('"num_last_epochs" needs a known epoch length', key="epoch_length")

    def _regular(self, done: int) -> ValueFunction:
        run = self.run
        last = run.full - (run.epoch_length or 0) * self.num_last_epochs
        if done + 1 >= last:
            return lambda value, base: self.minimum(base)
        return self._cosine((done + 1 - run.warmup_iters) / (last - run.warmup_iters))

    def _warm(self, iteration: int) -> ValueFunction:
        # The warm-up is quadratic, regardless of `warmup`.
        ratio, factor = self.run.warmup_ratio, float(((iteration + 1) / self.run.warmup_iters) ** 2)
        return lambda regular, base: base * ratio * factor


@dataclasses.dataclass(frozen=True)
class StepFixedCosine(PolicyWithMinimum):
    """A cosine decay that starts at the end of the warm-up. A linear warm-up starts at 0.

    Source: the BYOL and SimSiam recipes of the first generation's self-supervised code base.
    """

    def _regular(self, done: int) -> ValueFunction:
        start = self.run.warmup_iters // self.run.unit  # in the unit of the policy; only complete epochs count
        return self._cosine((done - start) / (self.run.full - start))

    def _warm(self, iteration: int) -> ValueFunction:
        if self.run.warmup == "linear":
            factor = iteration / self.run.warmup_iters
            return lambda regular, base: regular * factor
        return super()._warm(iteration)


@dataclasses.dataclass(frozen=True)
class CooledCosine(PolicyWithMinimum):
    """A cosine decay until `cool_down_time` before the end of the run, then `cool_down_ratio` times the minimum."""

    cool_down_ratio: float = 0.1
    cool_down_time: int = 10

    def _regular(self, done: int) -> ValueFunction:
        end, ratio = self.run.full - self.cool_down_time, self.cool_down_ratio
        return (lambda value, base: self.minimum(base) * ratio) if done > end else self._cosine(done / end)


_POLICIES: dict[str, type[Policy]] = {
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
    "OneCycle": LearningRateCycle,
    "YOLOX": YoloxCosine,
    "StepFixCosineAnnealing": StepFixedCosine,
    "CosineAnnealingCooldown": CooledCosine,
}
POLICIES = {"lr": _POLICIES, "momentum": {**_POLICIES, "step": MomentumSteps, "OneCycle": MomentumCycle}}
"""Maps each scheduled field to a dict that maps the names of its policies in configs to their classes."""

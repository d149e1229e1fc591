"""Policies of code bases built on the first generation, as used in published configs."""

import dataclasses

from footplate.errors import ArgumentError
from footplate.optim.schedules.curves import cosine_between
from footplate.optim.schedules.first_generation_policies import PolicyWithMinimum, RegularValue, RunInfo, warmup_factor


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

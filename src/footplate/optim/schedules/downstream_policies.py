"""Policies that code bases of the first generation added and that published configs name."""

import dataclasses

from footplate.errors import ArgumentError
from footplate.optim.schedules.curves import cosine_between
from footplate.optim.schedules.first_generation_policies import Floored, Regular, Run, warmup_factor


@dataclasses.dataclass(frozen=True)
class YoloxCosine(Floored):
    """A quadratic warm-up, a cosine that begins after it, and the minimum for the last `num_last_epochs` epochs.

    Source: YOLOX: Exceeding YOLO Series in 2021 (Ge et al., 2021).
    """

    num_last_epochs: int = 0

    def over(self, run: Run) -> Regular:
        """Returns the value at a progress beyond the warm-up."""
        if run.epoch_length is None and self.num_last_epochs:
            raise ArgumentError('"num_last_epochs" needs the length of an epoch', key="epoch_length")
        last = run.full - (run.epoch_length or 0) * self.num_last_epochs

        def regular(base: float, done: int) -> float:
            low = self.target(base)
            if done + 1 >= last:
                return low
            return cosine_between(base, low, (done + 1 - run.warmup_iters) / (last - run.warmup_iters))

        return regular

    def warm(self, run: Run, base: float, regular: float, iteration: int) -> float:
        """Returns the value at an iteration of the warm-up, a square of its share whatever its kind."""
        return base * run.warmup_ratio * float(((iteration + 1) / run.warmup_iters) ** 2)


@dataclasses.dataclass(frozen=True)
class StepFixedCosine(Floored):
    """A cosine that counts from the end of the warm-up, under which it is continued backwards.

    Source: the BYOL and SimSiam recipes of the first generation's self-supervised code base.
    """

    def over(self, run: Run) -> Regular:
        """Returns the value after the share of what follows the warm-up."""
        # Where the policy counts epochs, those that the warm-up fills.
        before = run.warmup_iters // run.unit

        def regular(base: float, done: int) -> float:
            return cosine_between(base, self.target(base), (done - before) / (run.full - before))

        return regular

    def warm(self, run: Run, base: float, regular: float, iteration: int) -> float:
        """Returns the value at an iteration of the warm-up; a linear one begins at 0."""
        share = iteration / run.warmup_iters
        return regular * (share if run.warmup == "linear" else warmup_factor(run.warmup, run.warmup_ratio, share))


@dataclasses.dataclass(frozen=True)
class CooledCosine(Floored):
    """A cosine that ends `cool_down_time` before the run, and `cool_down_ratio` times its minimum after that."""

    cool_down_ratio: float = 0.1
    cool_down_time: int = 10

    def over(self, run: Run) -> Regular:
        """Returns the value after the share of the run."""
        end = run.full - self.cool_down_time

        def regular(base: float, done: int) -> float:
            low = self.target(base)
            return low * self.cool_down_ratio if done > end else cosine_between(base, low, done / end)

        return regular

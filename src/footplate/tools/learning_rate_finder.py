"""Suggests a learning rate: increases the rate over a few iterations, and finds where the loss is lowest."""

import copy
import math
import sys
from collections.abc import Mapping
from itertools import islice
from typing import Any, NamedTuple

from PIL import Image
from rich.console import Console
from rich.progress import track

from footplate.checks import check_count, check_number
from footplate.data import endless_batches
from footplate.distributed import gather_objects, is_main_process, unwrap_model
from footplate.engine import Runner
from footplate.engine.module_state import record_modules
from footplate.engine.run_errors import refuse_during_training
from footplate.errors import ArgumentError, NonFiniteError
from footplate.optim.schedules.param_schedule import write_field
from footplate.visualization.curve_plots import Panel, PlottedCurve, plot

_SMOOTHING = 0.9
_DIVERGED = 4.0  # times the lowest loss
_LEAST = 20  # iterations
_LEAST_DROP = 0.02  # relative; a smaller decrease of the loss does not count


class LearningRateTest(NamedTuple):
    """The result of a learning-rate range test.

    Attributes:
        rates: The learning rate in each iteration. With several parameter groups, the highest of their rates.
        losses: The smoothed loss in each iteration.
        suggestion: A tenth of the rate with the lowest loss, or None if the loss does not decrease.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float | None

    def plot(self) -> Image.Image:
        """Plots the loss against the learning rate, with a line at the suggested rate."""
        curves = [PlottedCurve("smoothed loss", list(zip(self.rates, self.losses, strict=True)), annotated=False)]
        if self.suggestion is not None:
            line = [(self.suggestion, min(self.losses)), (self.suggestion, max(self.losses))]
            curves.append(PlottedCurve(f"suggestion: {self.suggestion:.2g}", line, annotated=False))
        return plot([Panel("loss", curves)], "learning rate", log_x=True)

    def __str__(self) -> str:
        tested = f"{len(self.rates)} iterations, learning rates {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        if self.suggestion is None:
            return f"{tested}\nno suggestion: the loss did not fall\n"
        return f"{tested}\nsuggested learning rate: {self.suggestion:.2g}\n"


def find_learning_rate(
    runner: Runner, *, iterations: int = 100, lowest: float = 1e-7, highest: float = 10.0
) -> LearningRateTest:
    """Trains with exponentially increasing learning rates. Ends early when the loss diverges.

    Restores the model with its buffers and plain attributes, the optimizer and the random generators, so that the
    runner can train afterwards. Schedules and hooks do not run. The ratios between the learning rates of parameter
    groups are preserved.

    Args:
        runner: A runner that has not trained yet.
        iterations: The number of iterations, at least 20.
        lowest: The learning rate in the first iteration.
        highest: The learning rate in the last iteration.

    Raises:
        ArgumentError: An argument is invalid, or the runner has already trained.
        NonFiniteError: The loss of the first iteration is non-finite.

    Source: Cyclical Learning Rates for Training Neural Networks (Smith, 2017), section 3.3.
    """
    check_count("iterations (--iters)", iterations, least=_LEAST)
    check_number("lowest (--min)", lowest, above=0)
    check_number("highest (--max)", highest, above=lowest)
    refuse_during_training(runner, "find_learning_rate")
    if runner.iter:
        raise ArgumentError("the runner has already trained; test learning rates before training", found=runner.iter)
    runner.build_training()
    loader, wrapper, model = runner.train_dataloader, runner.optim_wrapper, runner.model
    runner.load_or_resume()
    groups = [group for part in wrapper.parts.values() for group in part.param_groups]
    base = [float(group["lr"]) for group in groups]
    parts: list[Any] = [unwrap_model(model), wrapper, runner.message_hub]
    states = copy.deepcopy([part.state_dict() for part in parts])
    fields = [set(group) for group in groups]
    restore_modules = record_modules(model)
    runner.message_hub.runtime_info.update(epoch=0, max_epochs=runner.max_epochs, max_iters=iterations)
    model.train()
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    try:
        shows = sys.stderr.isatty() and is_main_process()
        batches = islice(endless_batches(loader), iterations)
        shown = track(batches, "train", iterations, console=Console(stderr=True), transient=True, disable=not shows)
        for number, batch in enumerate(shown):
            rate = lowest * (highest / lowest) ** (number / (iterations - 1))
            for group, lr in zip(groups, base, strict=True):
                write_field(group, "lr", rate * lr / max(base))
            runner.message_hub.runtime_info["iter"] = number
            loss = _total(model.train_step(batch, optim_wrapper=wrapper))
            average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
            smooth = average / (1 - _SMOOTHING ** (number + 1))
            if not math.isfinite(smooth) or (losses and smooth > _DIVERGED * max(min(losses), 0)):
                break
            rates.append(rate)
            losses.append(smooth)
    finally:
        restore_modules()
        for group, names in zip(groups, fields, strict=True):
            for added in group.keys() - names:  # such as the step count of some optimizers
                del group[added]
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
    if not losses:
        raise NonFiniteError("the loss of the first iteration is non-finite", iteration=1)
    return LearningRateTest(rates, losses, _suggest(rates, losses))


def _total(logged: Mapping[str, Any]) -> float:
    """Returns the loss of an iteration, averaged over the processes."""
    values = [logged["loss"]] if "loss" in logged else [value for name, value in logged.items() if "loss" in name]
    totals = gather_objects(sum(float(value) for value in values))
    return sum(totals) / len(totals)


def _suggest(rates: list[float], losses: list[float]) -> float | None:
    """Returns a tenth of the rate with the lowest loss.

    Returns None if the loss does not decrease noticeably after the first fifth of the test.
    """
    begin, lowest = len(losses) // 5, min(losses)
    falls = losses[begin] - lowest > _LEAST_DROP * abs(losses[begin])
    return rates[losses.index(lowest)] / 10 if falls and losses.index(lowest) > begin else None

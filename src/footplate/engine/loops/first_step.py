"""The first training step of a process, and what it shows."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from footplate.data.waiting import InterruptedWaitError, data_wait
from footplate.engine.control.module_state import record_forward_state
from footplate.engine.loops.loop_run import LoopRun

_logger = logging.getLogger("footplate.engine")


def take_first_step(runner: LoopRun, data_batch: Any, optim_wrapper: Any) -> Any:
    """Takes the first step of this process, which may compile the model.

    Until an optimizer steps, with or without its wrapper, a stop request ends the step without a save.
    """
    wrappers = runner.optim_wrapper.parts.values()
    restores = [record_forward_state(runner.model), *(wrapper.record_losses() for wrapper in wrappers)]
    step = partial(runner.model.train_step, data_batch, optim_wrapper=optim_wrapper)
    try:
        with data_wait.during("first step"), register_optimizer_step_pre_hook(data_wait.keep):
            return data_wait.call(step)
    except InterruptedWaitError:  # another call of `train` repeats the step
        for restore in restores:
            restore()
        raise


def update_loss_counts(runner: LoopRun, versions: Sequence[int]) -> None:
    """Counts the losses in the first iteration, from which each optimizer wrapper derives the total.

    `train_step` may compute any number of losses. Logs a warning if a plain module's `training_step` computes none, and
    does not change a weight itself since the `weight_versions` from before.
    """
    iterations_left = runner.max_iters - runner.iter - 1
    counts = [wrapper.update_loss_counts(iterations_left) for wrapper in runner.optim_wrapper.parts.values()]
    if runner.is_plain and not any(counts) and weight_versions(runner.model) == versions:
        _logger.warning(
            "training_step did not step an optimizer in the first iteration, which is fine if it skips the batch. "
            "To step, call `update_params(loss)` of its optimizer argument."
        )


def weight_versions(model: nn.Module) -> list[int]:
    """Returns torch's version counter of each weight, which each change in place increases."""
    return [weight._version for weight in model.parameters()]

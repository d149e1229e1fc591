"""Hooks that each do one small task: step schedules, set the epoch of samplers, average buffers, free memory."""

from typing import Any

import torch
import torch.distributed as dist

from footplate.distributed import get_world_size, is_distributed, unwrap_model
from footplate.engine import Hook, Runner
from footplate.hooks.metric_rules import is_skipped
from footplate.optim.schedules import collect_steps
from footplate.registry import HOOKS


@HOOKS.register_module()
class ParamSchedulerHook(Hook):
    """Steps schedules by iteration or by epoch. Schedules that monitor a metric are stepped after each validation."""

    priority = "LOW"

    _steps = collect_steps([])  # until training starts, and in a run that only validates

    def before_train(self, runner: Runner) -> None:
        """Groups the schedules by the event at which they are stepped."""
        self._steps = collect_steps(runner.param_schedulers)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Steps the schedules that count iterations."""
        for step in self._steps.by_iter:
            step()

    def after_train_epoch(self, runner: Runner) -> None:
        """Steps the schedules that count epochs."""
        if runner.train_loop.by_epoch:
            for step in self._steps.by_epoch:
                step()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Steps the schedules that monitor a metric."""
        for schedule in self._steps.by_metrics:
            if not is_skipped(runner, schedule.monitor):
                schedule.step(metrics)


@HOOKS.register_module()
class DistSamplerSeedHook(Hook):
    """Calls the training sampler's `set_epoch` before each epoch, so that every epoch has a different order."""

    priority = "NORMAL"

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the epoch of the sampler, or of the sampler inside the batch sampler."""
        loader = runner.train_dataloader
        inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        for sampler in (getattr(loader, "sampler", None), inner):
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(runner.epoch)
                return


@HOOKS.register_module()
class UnevenStepHook(Hook):
    """Weights the loss of each rank by its number of samples, so that the gradient equals that of a single process.

    The hook is added automatically if the batch sizes of the ranks differ. A rank that has no samples left
    repeats one with weight 0. If it skipped the iteration, the other ranks would wait for its gradients forever.
    """

    priority = "HIGHEST"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Sets the weight of this batch's loss in the optimizer wrapper."""
        share = runner.train_dataloader.share
        for part in runner.optim_wrapper.parts.values():
            part.loss_share = share


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """Averages floating-point buffers, such as running means and variances, over all ranks after each epoch.

    Args:
        distributed: Whether the hook is enabled.
    """

    priority = "NORMAL"

    def __init__(self, distributed: bool = True) -> None:
        self.distributed = distributed

    @torch.no_grad()
    def after_train_epoch(self, runner: Runner) -> None:
        """Averages the buffers."""
        if not (self.distributed and is_distributed()):
            return
        for buffer in unwrap_model(runner.model).buffers():
            if buffer.is_floating_point() or buffer.is_complex():
                dist.all_reduce(torch.view_as_real(buffer) if buffer.is_complex() else buffer)
                buffer.div_(get_world_size())


@HOOKS.register_module()
class EmptyCacheHook(Hook):
    """Empties the allocator's cache. This costs time and is meant for shared devices.

    Args:
        before_epoch: Whether to empty the cache before each epoch of training, validation and test.
        after_epoch: Whether to empty the cache after each epoch.
        after_iter: Whether to empty the cache after each iteration.
    """

    priority = "NORMAL"

    def __init__(self, before_epoch: bool = False, after_epoch: bool = True, after_iter: bool = False) -> None:
        self.before_each_epoch = before_epoch
        self.after_each_epoch = after_epoch
        self.after_each_iter = after_iter

    def _before_epoch(self, runner: Runner, mode: str = "train") -> None:
        if self.before_each_epoch:
            empty_cache()

    def _after_epoch(self, runner: Runner, mode: str = "train") -> None:
        if self.after_each_epoch:
            empty_cache()

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        if self.after_each_iter:
            empty_cache()


def empty_cache() -> None:
    """Empties the cache of the accelerator's allocator, if there is an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()

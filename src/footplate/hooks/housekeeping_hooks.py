"""Hooks for small tasks, such as emptying the cache or averaging buffers over all ranks."""

from typing import Any

import torch
import torch.distributed as dist

from footplate.data import samplers_of, set_epoch
from footplate.distributed import get_world_size, is_distributed, unwrap_model
from footplate.engine import Hook, Run
from footplate.registry import HOOKS


@HOOKS.register_module()
class DistSamplerSeedHook(Hook):
    """Calls the training sampler's `set_epoch` before each epoch, so that each epoch has a different sample order.

    The engine's loops do the same when they start a pass, so this hook only matters for custom loops that iterate over
    a loader themselves.
    """

    def before_train_epoch(self, runner: Run) -> None:
        """Sets the epoch of the samplers and batch samplers."""
        set_epoch(samplers_of(runner.train_loop.dataloader), runner.epoch)


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """Averages floating-point buffers, such as running means and variances, over all ranks after each epoch.

    Args:
        distributed: Whether the hook is enabled.
    """

    def __init__(self, distributed: bool = True) -> None:
        self.distributed = distributed

    @torch.no_grad()
    def after_train_epoch(self, runner: Run) -> None:
        """Averages the buffers."""
        if not (self.distributed and is_distributed()):
            return
        for buffer in unwrap_model(runner.model).buffers():
            if buffer.is_floating_point() or buffer.is_complex():
                dist.all_reduce(buffer)
                buffer.div_(get_world_size())


@HOOKS.register_module()
class EmptyCacheHook(Hook):
    """Empties the cache of the memory allocator. This is slow, and only useful if other processes share the GPU.

    Args:
        before_epoch: Whether to empty the cache before each training, validation and test epoch.
        after_epoch: Whether to empty the cache after each of these epochs.
        after_iter: Whether to empty the cache after each training, validation and test batch.
    """

    def __init__(self, before_epoch: bool = False, after_epoch: bool = True, after_iter: bool = False) -> None:
        self.before_each_epoch = before_epoch
        self.after_each_epoch = after_epoch
        self.after_each_iter = after_iter

    def _before_epoch(self, runner: Run, mode: str = "train") -> None:
        if self.before_each_epoch:
            empty_cache()

    def _after_epoch(self, runner: Run, mode: str = "train") -> None:
        if self.after_each_epoch:
            empty_cache()

    def _after_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        if self.after_each_iter:
            empty_cache()


def empty_cache() -> None:
    """Empties the GPU allocator's cache, if there is a GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()

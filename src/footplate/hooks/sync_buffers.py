"""Averages buffers over all processes."""

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from footplate.distributed import get_world_size, is_distributed, unwrap_model
from footplate.engine import Hook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class SyncBuffersHook(Hook):
    """Replaces floating point buffers, such as running means and variances, by their mean over ranks after each epoch.

    Args:
        distributed: Whether to do so. False disables the hook.
    """

    priority = "NORMAL"

    def __init__(self, distributed: bool = True) -> None:
        self.distributed = distributed

    @torch.no_grad()
    def after_train_epoch(self, runner: "Runner") -> None:
        """Averages the buffers."""
        if not (self.distributed and is_distributed()):
            return
        for buffer in unwrap_model(runner.model).buffers():
            if buffer.is_floating_point() or buffer.is_complex():
                dist.all_reduce(torch.view_as_real(buffer) if buffer.is_complex() else buffer)
                buffer.div_(get_world_size())

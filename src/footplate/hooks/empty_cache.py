"""Returns unused memory of the accelerator's allocator to the device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from footplate.engine import Hook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class EmptyCacheHook(Hook):
    """Empties the allocator's cache. This costs time and is meant for shared devices.

    Args:
        before_epoch: Whether to do so before each epoch of training, validation and test.
        after_epoch: Whether to do so after each epoch.
        after_iter: Whether to do so after each iteration.
    """

    priority = "NORMAL"

    def __init__(self, before_epoch: bool = False, after_epoch: bool = True, after_iter: bool = False) -> None:
        self.before_each_epoch = before_epoch
        self.after_each_epoch = after_epoch
        self.after_each_iter = after_iter

    def _before_epoch(self, runner: "Runner", mode: str = "train") -> None:
        if self.before_each_epoch:
            empty_cache()

    def _after_epoch(self, runner: "Runner", mode: str = "train") -> None:
        if self.after_each_epoch:
            empty_cache()

    def _after_iter(
        self,
        runner: "Runner",
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | Sequence[Any] | None = None,
        mode: str = "train",
    ) -> None:
        if self.after_each_iter:
            empty_cache()


def empty_cache() -> None:
    """Empties the cache of the accelerator's allocator, if there is an accelerator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()

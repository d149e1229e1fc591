"""Tells samplers which epoch begins."""

from typing import TYPE_CHECKING

from footplate.engine import Hook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class DistSamplerSeedHook(Hook):
    """Calls `set_epoch` of the training sampler before each epoch, so that each is shuffled in its own way."""

    priority = "NORMAL"

    def before_train_epoch(self, runner: "Runner") -> None:
        """Tells the sampler, or the one inside the batch sampler."""
        loader = runner.train_dataloader
        inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        for sampler in (getattr(loader, "sampler", None), inner):
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(runner.epoch)
                return

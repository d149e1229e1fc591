"""Sets the epoch of samplers."""

from typing import TYPE_CHECKING

from footplate.engine import Hook
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class DistSamplerSeedHook(Hook):
    """Calls `set_epoch` of the training sampler before each epoch, so that every epoch has its own order."""

    priority = "NORMAL"

    def before_train_epoch(self, runner: "Runner") -> None:
        """Sets the epoch of the sampler, or of the one inside the batch sampler."""
        loader = runner.train_dataloader
        inner = getattr(getattr(loader, "batch_sampler", None), "sampler", None)
        for sampler in (getattr(loader, "sampler", None), inner):
            if sampler is not None and hasattr(sampler, "set_epoch"):
                sampler.set_epoch(runner.epoch)
                return

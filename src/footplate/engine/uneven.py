"""Weighs the steps at the end of a pass, where ranks have unequal numbers of samples."""

from typing import TYPE_CHECKING, Any

from footplate.engine.hook import Hook

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class UnevenStepHook(Hook):
    """Weighs the loss of each rank by its number of samples, so that the gradient equals that of a single process.

    A rank without samples repeats one with weight 0. It thus takes part in the exchange of gradients, which would
    otherwise wait for it, but does not contribute.
    """

    priority = "HIGHEST"

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Sets the weight of this batch's loss in the optimizer wrapper."""
        share = runner.train_dataloader.share
        for part in runner.optim_wrapper.parts.values():
            part.loss_share = share

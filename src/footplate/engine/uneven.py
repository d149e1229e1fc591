"""Steps at the end of a pass, where ranks hold unequal numbers of samples."""

from typing import TYPE_CHECKING, Any

from footplate.engine.hook import Hook

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class UnevenStepHook(Hook):
    """Weighs the loss of each rank by its samples, so that the gradient is that of one process with all of them.

    A rank without a sample reads one again and weighs it with 0: it takes part in the exchange of gradients, which
    would otherwise wait for it, and adds nothing.
    """

    priority = "HIGHEST"

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Tells the optimizer wrapper how much the loss of this batch weighs."""
        share = runner.train_dataloader.share
        for part in runner.optim_wrapper.parts.values():
            part.loss_share = share

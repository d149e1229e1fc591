"""Gradient accumulation: counts losses, and decides how to scale them and when to step."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from footplate.checks import check_count
from footplate.module_selection import BATCH_NORMS
from footplate.optim.wrappers.weighted_round import WeightedRound
from footplate.weighted import Weighted, refuse_pair

_logger = logging.getLogger("footplate.optim")


class Accumulation:
    """Implements gradient accumulation, as a base class of OptimWrapper.

    This is a base class rather than a separate object, because code written for MMEngine reads the loss counts of the
    wrapper and overrides its methods.

    Args:
        accumulative_counts: The number of losses per optimizer step.

    Attributes:
        has_loaded_gradients: Whether the loaded state contained accumulated gradients for the next step.
    """

    def __init__(self, accumulative_counts: int) -> None:
        self._accumulative_counts = check_count("accumulative_counts", accumulative_counts)
        self._inner_count = 0  # the number of losses so far
        self._max_counts = -1  # the number of losses in the whole run, or -1 if unknown, as in MMEngine
        self._losses_per_iteration: int | None = None  # unknown until an iteration of the run is complete
        self._further_losses = 0  # in the whole run, besides `_losses_per_iteration` in each iteration
        self._max_iters = -1
        self.has_loaded_gradients = False
        self._weights: WeightedRound | None = None  # created by the first weighted loss

    def scale_loss(self, loss: Tensor | Weighted) -> Tensor:
        """Returns the loss divided by the number of losses in the current accumulation round; see `WeightedRound`."""
        if isinstance(loss, Weighted):
            self._weights = self._weights or WeightedRound()
            return self._weights.scale(loss, self._losses_in_round())
        if not isinstance(loss, Tensor):
            refuse_pair(loss, "update_params")
        if self._accumulative_counts == 1:
            return loss
        return loss / self._losses_in_round()

    def _losses_in_round(self) -> int:
        """Returns the number of losses in the current round: 4, 4 and then 2 for 10 losses with 4 per step."""
        losses_per_step = self._accumulative_counts
        if self._inner_count >= self._max_counts:  # the number of losses in the run is unknown or underestimated
            return losses_per_step
        round_start = self._inner_count - self._inner_count % losses_per_step
        return min(losses_per_step, self._max_counts - round_start)

    def should_update(self) -> bool:
        """Checks whether to step the optimizer now: the accumulation round is complete, or this was the last loss."""
        count = self._inner_count
        return count % self._accumulative_counts == 0 or count == self._max_counts

    def should_sync(self) -> bool:
        """Checks whether to synchronize the next loss's gradients between ranks."""
        count = self._inner_count + 1
        return count % self._accumulative_counts == 0 or count == self._max_counts

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Sets the loss counts, which determine when to step and whether the last accumulation round is incomplete.

        If the loaded state of a resumed run contains the number of losses so far, it takes precedence over
        `init_counts`.

        Args:
            model: The model. If gradients are accumulated, logs whether it contains batch normalization layers.
            init_counts: The number of iterations so far, each of which is assumed to have one loss.
            max_counts: The number of iterations in the whole run, or -1 if unknown.
        """
        losses_per_step = self._accumulative_counts
        if self._losses_per_iteration is None:
            self._inner_count = init_counts
        self._max_iters = max_counts
        self._set_max_counts()
        if losses_per_step > 1 and any(isinstance(module, BATCH_NORMS) for module in model.modules()):
            _logger.info(
                "accumulative_counts=%d does not apply to the statistics of batch normalization layers: "
                "they are computed from each batch separately.",
                losses_per_step,
            )
        if self._inner_count % losses_per_step and not self.has_loaded_gradients:
            _logger.warning(
                "Resumed at iteration %d during gradient accumulation (accumulative_counts=%d) without accumulated "
                "gradients, so the first optimizer step will use fewer gradients.",
                init_counts,
                losses_per_step,
            )

    def update_loss_counts(self, iterations_left: int) -> int:
        """Updates the number of losses in the whole run, and returns the number of losses in each iteration.

        Called after this process's first iteration, whose losses are counted unless the checkpoint contains their
        number: the total must not depend on where a run has resumed. If the run's first iteration has no losses, the
        total remains unknown.

        Args:
            iterations_left: The number of iterations left.
        """
        if self._losses_per_iteration is None:
            iterations = self._max_iters - iterations_left
            self._losses_per_iteration = self._inner_count - iterations + 1
            self._further_losses = self._inner_count - self._losses_per_iteration * iterations
            self._set_max_counts()
        return self._losses_per_iteration

    def move(self, iterations: int) -> None:
        """Adapts the loss counts to a resumed run, whose iteration number has grown by `iterations`."""
        self._further_losses -= iterations * (self._losses_per_iteration or 0)

    def _set_max_counts(self) -> None:
        """Sets the number of losses in the whole run. Before the first iteration, assumes one loss per iteration."""
        per_iteration = 1 if self._losses_per_iteration is None else self._losses_per_iteration
        is_known = per_iteration and self._max_iters >= 0
        self._max_counts = self._further_losses + per_iteration * self._max_iters if is_known else -1

    def _load_accumulation(self, state: Mapping[str, Any]) -> Sequence[Tensor | None]:
        """Loads the loss counts of a saved state, and returns its accumulated gradients.

        The result is empty if the state contains no gradients. If `accumulative_counts` has changed since the state was
        saved, the gradients are discarded with a warning.
        """
        counts = (*state.get("loss_counts", (0, None)), 0)  # earlier versions saved two
        self._inner_count, self._losses_per_iteration, self._further_losses = counts[:3]
        gradients = state.get("accumulated_gradients")
        if gradients is not None and (losses_per_step := state["accumulative_counts"]) != self._accumulative_counts:
            _logger.warning(
                "The checkpoint was saved during gradient accumulation with accumulative_counts=%s, but the run "
                "continues with %d. The accumulated gradients are discarded.",
                losses_per_step,
                self._accumulative_counts,
            )
            gradients = None
        self.has_loaded_gradients = gradients is not None
        return gradients or ()

"""The random state that training continues with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from footplate.data import capture_rng, restore_rng


class TrainingRandomState:
    """The random state of training, which is not the current one while a run validates, tests or predicts.

    Attributes:
        kept: The state that training continues with, or None if that is the current one. Set after a resume or an
            interruption until the training loop begins, and during validation and test runs and predictions.
    """

    def __init__(self) -> None:
        self.kept: Mapping[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the state to save."""
        return dict(self.kept or capture_rng())

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Sets the state with which training continues when its loop begins. None means the current state."""
        self.kept = state

    def restore(self) -> None:
        """Continues with the kept state, if there is one. Only the first call has an effect."""
        kept, self.kept = self.kept, None
        if kept is not None:
            restore_rng(dict(kept))

    @contextmanager
    def keeping(self, state: Mapping[str, Any]) -> Iterator[None]:
        """Keeps a state in the block, unless one is kept already, so that what is saved in the block contains it."""
        outer, self.kept = self.kept, self.kept or state
        try:
            yield
        finally:
            self.kept = outer

    @contextmanager
    def beside_training(self, model: nn.Module) -> Iterator[None]:
        """Restores the random state and the model's mode at the end of the block.

        All code that runs the model for anything but training uses this context, including the hooks of its events. A
        checkpoint that is saved in the block contains the random state from before the block.
        """
        random_state, was_training = capture_rng(), model.training
        try:
            with self.keeping(random_state):
                yield
        finally:
            restore_rng(random_state)
            model.train(was_training)

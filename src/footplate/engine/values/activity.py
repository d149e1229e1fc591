"""Records what a run is doing, and refuses calls at the wrong point of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from footplate.engine.values.events import EVENTS
from footplate.errors import ArgumentError

_AFTER_EVALUATION = ("after_val_epoch", "after_val", "after_test_epoch", "after_test")


Phase = Literal["run", "preflight", "train", "val", "test"]
"""A part of a run, which may contain others. A "run" only validates or tests, unless it contains "train"."""


@dataclass
class Activity:
    """What a run is doing. The runner and `CheckpointIO` write the attributes.

    Attributes:
        phases: The phases that have started and not ended, outermost first.
        event: The event whose hooks are being called in the innermost phase, or "".
        is_validating_by_call: Whether a hook or a script has called `runner.val()`, so that the current validation run
            does not belong to the training loop. Its metrics have no effect on schedules and do not end training.
        failed_in: The innermost phase in which the run last failed, or None.
        is_resuming: Whether the run is loading the checkpoint that it resumes from, and not only weights.
    """

    phases: tuple[Phase, ...] = ()
    event: str = ""
    is_validating_by_call: bool = False
    failed_in: Phase | None = None
    is_resuming: bool = False

    @contextmanager
    def resuming(self) -> Iterator[None]:
        """Sets `is_resuming` for the duration of the block."""
        before, self.is_resuming = self.is_resuming, True
        try:
            yield
        finally:
            self.is_resuming = before

    @property
    def is_running(self) -> bool:
        """Whether a run has started and not ended. It may only validate or test."""
        return "run" in self.phases

    @property
    def is_training(self) -> bool:
        """Whether training has started and not ended, including validation runs in between."""
        return "train" in self.phases

    @property
    def is_validating(self) -> bool:
        """Whether a validation run has started and not ended."""
        return "val" in self.phases

    @property
    def is_in_step(self) -> bool:
        """Whether a training, validation or test step, or a hook before or after an iteration, is running."""
        if self.event:
            return self.event in EVENTS and "batch_idx" in EVENTS[self.event].arguments
        return self.phases[-1:] not in ((), ("run",))

    def refuse_during_training(self, method: str, *events: str) -> None:
        """Raises an ArgumentError if `method` is called during training or in a hook for one of `events`."""
        if self.is_training or self.event in ("before_train", *events):
            raise ArgumentError(
                f"{method} cannot be called during training or in this hook",
                notes=["Call it before or after runner.train()."],
            )

    def refuse_during_evaluation(self, method: str) -> None:
        """Raises an ArgumentError if the loop is evaluating, and hooks may have replaced the model's weights.

        Example: in `after_val_iter`, neither `val` nor `test` can be called. In `after_val`, the hooks have restored
        the weights, so `test` can be called, but not `val`, whose loop is still running.
        """
        phase = next((phase for phase in reversed(self.phases) if phase in ("train", "val", "test")), "train")
        if phase != "train" and (phase == method or self.event not in _AFTER_EVALUATION):
            raise ArgumentError(
                f"{method} cannot be called during a {phase} run",
                notes=["Call it in a hook for another event, such as after_train_epoch."],
            )

"""Records what a run is doing, and refuses calls at the wrong point of a run."""

from footplate.errors import ArgumentError


class Activity:
    """What a run is doing: its current phases, and the events whose hooks are being called.

    Both are on one stack, because they contain each other. For example, while an `after_train_epoch` hook calls
    `runner.val()`, the stack is `["run", "train", "after_train_epoch", "val"]`.

    The runner writes the attributes: `Runner.phase` adds the phases "run", "train", "val", "test" and "preflight",
    and `Runner.call_hook` adds the events. So does `footplate check`, which calls only some of the hooks.

    Attributes:
        stack: The names of the phases and events, outermost first.
        failed_in: The innermost phase in which the run last failed, e.g. "val", or "" if it has not failed in "train",
            "val", "test" or "preflight".
    """

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.failed_in = ""

    def is_calling(self, *events: str) -> bool:
        """Checks whether the hooks for any of these events are being called."""
        return not set(events).isdisjoint(self.stack)

    @property
    def is_running(self) -> bool:
        """Whether a run has started and not ended. It may only validate or test."""
        return "run" in self.stack

    @property
    def is_training(self) -> bool:
        """Whether training has started and not ended, including validation runs in between."""
        return "train" in self.stack

    @property
    def is_validating(self) -> bool:
        """Whether a validation run has started and not ended."""
        return "val" in self.stack

    @property
    def is_validating_by_call(self) -> bool:
        """Whether a hook or a script has called `runner.val()`, so that the run does not belong to the training loop.

        Its metrics have no effect on schedules and do not end training.
        """
        return self.is_validating and self.stack[self.stack.index("val") - 1] != "train"

    @property
    def is_in_step(self) -> bool:
        """Whether a training, validation or test step, or a hook before or after an iteration, is running."""
        innermost = self.stack[-1] if self.stack else ""
        return innermost in ("train", "val", "test", "preflight") or innermost.endswith("_iter")

    def refuse_during_training(self, method: str, *events: str) -> None:
        """Raises an ArgumentError if `method` is called during training or in a hook for one of `events`."""
        if self.is_training or self.is_calling("before_train", *events):
            raise ArgumentError(
                f"{method} cannot be called during training or in this hook",
                notes=["Call it before or after runner.train()."],
            )

    def refuse_during_evaluation(self, method: str) -> None:
        """Raises an ArgumentError if the loop is evaluating, and hooks may have replaced the model's weights.

        Example: in `after_val_iter`, neither `val` nor `test` can be called. In `after_val`, the hooks have restored
        the weights, so `test` can be called, but not `val`, whose loop is still running.
        """
        ends = ("after_val_epoch", "after_val", "after_test_epoch", "after_test")
        phase = next((name for name in reversed(self.stack) if name in ("train", "val", "test")), "")
        if phase == method or (phase in ("val", "test") and not self.is_calling(*ends)):
            raise ArgumentError(
                f"{method} cannot be called during a {phase} run",
                notes=["Call it in a hook for another event, such as after_train_epoch."],
            )

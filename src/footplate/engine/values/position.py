"""Where a run is: a value that the training loop replaces when it gets further."""

from enum import Enum
from operator import attrgetter
from typing import NamedTuple


class Progress(NamedTuple):
    """The completed iterations and epochs of a run.

    An epoch is a pass over the training data, also in iteration-based training. Only MMEngine's names that end a run or
    call hooks count differently there: for `before_train_epoch`, `after_train_epoch` and `max_epochs`, the whole run is
    one epoch.

    Attributes:
        iter: The number of completed iterations.
        epoch: The number of completed epochs. It stays 0 for a stream with neither a length nor its own state. In
            iteration-based training, see `DataPosition.locate` for the end of a pass.
    """

    iter: int = 0
    epoch: int = 0


class Stage(Enum):
    """What a run is doing next or, if it has failed, what it was doing. The values are the stages' names for people."""

    READY = "the next step, or the start of an epoch"
    STEP = "a step that has failed"
    ITERATION_HOOKS = "the hooks after an iteration"
    EPOCH_HOOKS = "the hooks at the end of an epoch"
    ENDED = "nothing, except perhaps the final save"


class Position(NamedTuple):
    """The position of a run.

    An iteration or epoch is complete after its last step, and counts as MMEngine counts after its hooks. So there are
    two places while these hooks are called: the one that `iter`, `epoch` and `batch` still give, and `reached`.

                 after_step                      after_hooks
        READY ─┬────────────► ITERATION_HOOKS ─┬─────────────► READY
               │ after_pass                    │
               └────────────► EPOCH_HOOKS ─────┘

    Attributes:
        iter: The iterations whose hooks have been called: MMEngine's `iter`.
        epoch: The epochs whose hooks have been called: MMEngine's `epoch`. In iteration-based training, the completed
            passes over the data.
        batch: The index in the epoch of the batch that follows these iterations. After the last one, until the hooks of
            the epoch have been called, it is the number of its batches.
        stage: What the run is doing next.
        reached: The position after the current hooks. None if no hooks are being called, or if a hook has failed.
    """

    iter: int = 0
    epoch: int = 0
    batch: int = 0
    stage: Stage = Stage.READY
    reached: "Position | None" = None

    @property
    def completed(self) -> Progress:
        """The iterations and epochs that are complete, including those whose hooks are being called."""
        iteration, epoch, *_ = self.reached or self
        return Progress(iteration, epoch)

    def after_step(self, epoch: int, batch: int) -> "Position":
        """Returns the position after a step, whose hooks come next. Training continues with a batch of an epoch."""
        if self.stage is Stage.ITERATION_HOOKS:  # the loop calls a method that has counted the step
            return self
        reached = Position(self.iter + 1, epoch, batch)
        return Position(self.iter, self.epoch, self.batch, Stage.ITERATION_HOOKS, reached)

    def after_pass(self, epochs: int) -> "Position":
        """Returns the position after the last iteration of an epoch, whose hooks come next and complete `epochs`."""
        if self.stage is Stage.EPOCH_HOOKS:
            return self
        here = self.after_hooks()
        reached = Position(here.iter, here.epoch + 1) if epochs else here
        return Position(here.iter, here.epoch, here.batch, Stage.EPOCH_HOOKS, reached)

    def after_hooks(self) -> "Position":
        """Returns the position once the hooks that are being called, if any, have been called."""
        return self.reached or self

    def at(self, stage: Stage) -> "Position":
        """Returns this position in another stage. Drops what the hooks that are being called would have completed."""
        return Position(self.iter, self.epoch, self.batch, stage)


class PositionViews:
    """MMEngine's names for a position, in a run and in its training loop: views of `position`.

    An attrgetter is faster than a function in Python, and hooks read them several times per iteration.
    """

    position: Position
    iter: int = property(attrgetter("position.iter"), doc="See `Position`.")  # type: ignore[assignment]
    epoch: int = property(attrgetter("position.epoch"), doc="See `Position`.")  # type: ignore[assignment]
    completed: Progress = property(  # type: ignore[assignment]
        attrgetter("position.completed"),
        doc="Like `iter` and `epoch`, but includes the iteration or epoch whose `after_train_...` hooks are running.",
    )

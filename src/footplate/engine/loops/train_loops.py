"""The epoch-based and iteration-based training loops."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.data import build_dataloader, length_of
from footplate.data.virtual_epochs import VirtualEpochs
from footplate.distributed import gather_objects
from footplate.engine.loops.base_loops import BaseTrainLoop
from footplate.errors import ArgumentError
from footplate.registry import LOOPS

if TYPE_CHECKING:
    from footplate.engine.run.runner import Runner


@LOOPS.register_module()
class EpochBasedTrainLoop(BaseTrainLoop):
    """The epoch-based training loop. The loader needs a length, which must be the same on all ranks.

    For the arguments that are not listed here, see `BaseTrainLoop`.

    Args:
        max_epochs: The number of epochs.
        steps_per_epoch: The number of batches in an epoch. An epoch then continues where the previous one ended, so the
            loader may be a stream without a length. By default, an epoch is a pass over the loader.
    """

    overridable_methods: ClassVar[dict[str, tuple[str, ...]]] = {**BaseTrainLoop.overridable_methods, "run_epoch": ()}

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        max_hours: float | None = None,
        *,
        steps_per_epoch: int | None = None,
    ) -> None:
        if steps_per_epoch is not None:
            steps = check_count("steps_per_epoch", steps_per_epoch, most=MAX_RUN_LENGTH)
            dataloader = VirtualEpochs(build_dataloader(dataloader, seed=runner.seed), steps)
        super().__init__(runner, dataloader, val_begin, val_interval, dynamic_intervals, max_hours)
        self._max_epochs = check_count("max_epochs", max_epochs, most=MAX_RUN_LENGTH)
        if length_of(self.dataloader) is None:
            raise ArgumentError(
                "epoch-based training needs a train_dataloader with a length",
                key="max_epochs",
                notes=["Set train_cfg=dict(steps_per_epoch=...), or set max_iters instead of max_epochs."],
            )
        lengths = gather_objects(len(self.dataloader))
        if len(set(lengths)) > 1:
            raise ArgumentError(
                "epoch-based training needs the same number of batches on each rank",
                key="max_epochs",
                found=lengths,
                notes=["Yield the same number of batches on each rank, or use IterBasedTrainLoop with max_iters."],
            )
        if getattr(self.dataloader, "endless", False):
            raise ArgumentError(
                "epoch-based training needs a finite sampler",
                key="type",
                suggestion="IterBasedTrainLoop",
                notes=["Use DefaultSampler or max_iters, or set num_batch_per_epoch in train_dataloader."],
            )
        self._max_iters = self._max_epochs * len(self.dataloader)

    def _train(self) -> None:
        # A run that resumes within an epoch in which a hook has set `stop_training` finishes this epoch, too.
        while self.epoch < self._max_epochs and not (self.stop_training if self.at_start else self.out_of_time):
            self.run_epoch()
            self._validate_if_due()

    def run_epoch(self) -> None:
        """Trains for one epoch, or for the rest of the epoch after a resume. Subclasses may override this method."""
        self._begin_epoch()
        iteration, epoch, index, *_ = self.position
        batches = self._read(self._data_position.one_pass(epoch, index, iteration))
        length = len(self.dataloader)  # which the hooks and the sampler's `set_epoch` may have changed
        try:
            for batch in batches:
                self.run_iter(index, batch)
                del batch
                index += 1
                self.runner.boundary.handle()
                if self.runner.requests.agreed.validation:
                    self._validate_if_due()
                if self.out_of_time and index < length:
                    return  # without the hooks of the epoch; `_train` then validates
        finally:
            batches.close()  # also stops the workers
        self._data_position.check_pass(epoch, index, length)
        self._end_epoch()


@LOOPS.register_module()
class IterBasedTrainLoop(BaseTrainLoop):
    """The iteration-based training loop. It restarts the loader whenever it is exhausted.

    For the arguments that are not listed here, see `BaseTrainLoop`.

    Args:
        max_iters: The number of iterations.
    """

    by_epoch = False
    _epoch = 0  # as MMEngine counts: the whole run is one epoch
    overridable_methods: ClassVar[dict[str, tuple[str, ...]]] = {
        **BaseTrainLoop.overridable_methods,
        "run_iter": ("data_batch",),
    }

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        max_hours: float | None = None,
    ) -> None:
        super().__init__(runner, dataloader, val_begin, val_interval, dynamic_intervals, max_hours)
        self._max_iters = check_count("max_iters", max_iters, most=MAX_RUN_LENGTH)
        self._max_epochs = 1
        self._batches: Iterator[Any] | None = None

    @property
    def dataloader_iterator(self) -> Iterator[Any]:
        """The iterator that the loop reads batches from. It never ends."""
        if self._batches is None:
            self._batches = self._read(self._data_position.endless(self.iter))
        return self._batches

    @dataloader_iterator.setter
    def dataloader_iterator(self, batches: Iterator[Any]) -> None:
        self._batches = batches

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned. Training then continues from that position."""
        super().load_state_dict(state)
        self._batches = None

    def _train(self) -> None:
        runner = self.runner
        self._begin_epoch()
        batches = self.dataloader_iterator
        validates = runner.val_loop is not None
        try:
            while runner.position.iter < self._max_iters and not self.stop_training:
                if not runner.model.training:  # a hook has run validation or set evaluation mode
                    runner.model.train()
                self.run_iter(next(batches))
                runner.boundary.handle()
                if validates:
                    self._validate_if_due()
        finally:
            del batches
            # Drops the last reference, which also stops the workers. Iterators set by hooks may lack `close`.
            self._batches = None
        self._end_epoch()

    def run_iter(self, data_batch: Any) -> None:  # type: ignore[override]  # existing subclasses have this signature
        """Trains on one batch. Subclasses may override this method to customize the iteration."""
        super().run_iter(self.runner.position.iter, data_batch)

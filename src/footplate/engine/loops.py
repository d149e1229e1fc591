"""The loops that train: by epoch and by iteration."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.engine.base_train_loop import BaseTrainLoop
from footplate.engine.own_data import CountedBatches, check_not_skipped, warn_of_new_epoch, warn_of_new_pass
from footplate.errors import ArgumentError, DataError
from footplate.records import length_of
from footplate.registry import LOOPS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


@LOOPS.register_module()
class EpochBasedTrainLoop(BaseTrainLoop):
    """Trains a number of epochs.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches with a length, or the dict of one.
        max_epochs: How many.
        val_begin: The first epoch after which to validate.
        val_interval: How many epochs lie between two validations.
        dynamic_intervals: `[(epoch, interval), ...]`: other intervals from those epochs on.
    """

    calls: ClassVar[dict[str, tuple[str, ...]]] = {**BaseTrainLoop.calls, "run_epoch": ()}

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(
            runner,
            dataloader,
            val_begin=val_begin,
            val_interval=val_interval,
            dynamic_intervals=dynamic_intervals,
        )
        self._max_epochs = check_count("max_epochs", max_epochs, most=MAX_RUN_LENGTH)
        if length_of(self.dataloader) is None:
            raise ArgumentError("training by epochs needs a loader with a length", key="dataloader")
        is_limited = getattr(self.dataloader, "is_limited", False)
        if getattr(getattr(self.dataloader, "sampler", None), "endless", False) and not is_limited:
            raise ArgumentError(
                "training by epochs needs a sampler that ends",
                key="type",
                suggestion="IterBasedTrainLoop",
                notes=["Or set num_batch_per_epoch, or use DefaultSampler, in train_dataloader."],
            )
        self._max_iters = self._max_epochs * len(self.dataloader)
        self._reading = False  # whether an epoch of the base class is at work

    @property
    def max_epochs(self) -> int:
        """How many epochs the run has."""
        return self._max_epochs

    @property
    def max_iters(self) -> int:
        """How many iterations the run has."""
        return self._max_iters

    @property
    def at_epoch_start(self) -> bool:
        """Checks whether the coming epoch begins, rather than goes on after a resume."""
        return self._iter == self._epoch * len(self.dataloader)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches epoch by epoch, each with its number in the epoch."""
        for _ in self._epochs():
            yield from self._one_epoch()

    def run_epoch(self) -> None:
        """Trains one epoch, or what a resumed run has left of it.

        Called only where a subclass overrides it, or `run`; otherwise `run` does the same with fewer frames.
        """
        if not self.in_progress:
            self._begin()
        with closing(self._one_epoch()) as stream, self._guarded():
            for idx, data_batch in stream:
                self.run_iter(idx, data_batch)
                del data_batch

    def _own_epochs(self) -> Iterator[tuple[int, Any]]:
        """Calls the overridden `run_epoch` for each epoch; yields no batch."""
        for _ in self._epochs():
            self.run_epoch()
            if self.runner.requests.pending:
                self._answer_requests(iter(()))
        yield from ()

    def _epochs(self) -> Iterator[None]:
        """Yields before each epoch that is left; between them it validates where that is due."""
        if self.at_epoch_start and self._validation_is_due():
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            yield
            if self._validation_is_due():
                self._validate()

    def _one_epoch(self) -> Generator[tuple[int, Any]]:
        """Yields the batches that are left of one epoch, and tells hooks where it begins and ends."""
        runner, length = self.runner, len(self.dataloader)
        if length == 0:
            raise DataError("the training loader gives no batch", notes=["drop_last drops a batch that is too small"])
        within = not self.at_epoch_start
        self.move_epoch_start()
        runner.call_hook("before_train_epoch")
        runner.model.train()
        if within:
            self._go_on_within()
        count = self._iter - self._epoch * length
        self._reading = True
        for batch in self._data.one_pass(self._epoch, count):
            yield count, batch
            del batch
            count += 1
            if self.validation_requested and self._validation_is_due():
                self._validate()
        self._reading = False
        self._data.check_pass(self._epoch, count, length)
        runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _check_own_data(self) -> None:
        done = self._iter - self._epoch * len(self.dataloader)
        if not self._reading and self._iter == self._began_at and done > 0:
            warn_of_new_epoch(self, done)
            self._iter = self._began_at = self._epoch * len(self.dataloader)


@LOOPS.register_module()
class IterBasedTrainLoop(BaseTrainLoop):
    """Trains a number of iterations; a loader that ends is begun anew.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the dict of one.
        max_iters: How many.
        val_begin: The first iteration after which to validate.
        val_interval: How many iterations lie between two validations.
        dynamic_intervals: `[(iteration, interval), ...]`: other intervals from those iterations on.
    """

    by_epoch = False
    calls: ClassVar[dict[str, tuple[str, ...]]] = {**BaseTrainLoop.calls, "run_iter": ("data_batch",)}

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(
            runner,
            dataloader,
            val_begin=val_begin,
            val_interval=val_interval,
            dynamic_intervals=dynamic_intervals,
        )
        self._max_iters = check_count("max_iters", max_iters, most=MAX_RUN_LENGTH)
        self._max_epochs = 1
        self._stream: Iterator[Any] | None = None
        self._own_stream: Iterator[Any] | None = None

    @property
    def epoch(self) -> int:
        """How many times the loader was gone through; 0 with one that never ends."""
        return self._data.epoch_at(self._iter)

    @property
    def max_epochs(self) -> int:
        """One: the run counts iterations."""
        return self._max_epochs

    @property
    def max_iters(self) -> int:
        """How many iterations the run has."""
        return self._max_iters

    @property
    def dataloader_iterator(self) -> Iterator[Any]:
        """The batches from the run's position on, without end; what a subclass draws is not drawn again."""
        if self._own_stream is not None:
            return self._own_stream
        if self._stream is None:
            stream = self._data.endless(self._iter)
            self._stream = CountedBatches(stream) if self._own_run else stream
        return self._stream

    @dataloader_iterator.setter
    def dataloader_iterator(self, stream: Iterator[Any]) -> None:
        self._own_stream = stream

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes a position; training goes on behind it."""
        super().load_state_dict(state)
        self._stream = None

    def run_iter(self, data_batch: Any) -> None:  # type: ignore[override]  # as the field's subclasses have it
        """Trains on one batch; a loop that overrides it decides what an iteration is."""
        super().run_iter(self._iter, data_batch)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches, each with the number of its iteration."""
        runner = self.runner
        runner.call_hook("before_train_epoch")
        runner.model.train()
        self._go_on_within()
        stream = self.dataloader_iterator
        try:
            while self._iter < self._max_iters and not self.stop_training:
                yield self._iter, next(stream)
                if self._validation_is_due():
                    self._validate()
        finally:
            self._stream = None  # and with it the workers
        runner.call_hook("after_train_epoch")

    def _called_with_both(self) -> Callable[[int, Any], None]:
        own = self.run_iter
        return lambda _, data_batch: own(data_batch)

    def _check_own_data(self) -> None:
        if self._own_run and self._iter == self._began_at > 0:
            drawn = getattr(self._stream, "drawn", 0)
            check_not_skipped(self, drawn)
            if not drawn:
                warn_of_new_pass(self)

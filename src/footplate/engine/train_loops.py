"""The epoch-based and the iteration-based training loop."""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.data import length_of
from footplate.engine.base_loops import BaseTrainLoop
from footplate.engine.hook import Phase
from footplate.engine.signals import InterruptedWaitError, answer_requests
from footplate.errors import ArgumentError, DataError
from footplate.registry import LOOPS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")


@LOOPS.register_module()
class EpochBasedTrainLoop(BaseTrainLoop):
    """The epoch-based training loop.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches with a length, or the config dict of a loader.
        max_epochs: The number of epochs.
        val_begin: The first epoch after which to validate.
        val_interval: The number of epochs between two validations.
        dynamic_intervals: `[(epoch, interval), ...]`: each interval applies from its epoch on.
        max_hours: The time limit in hours. Training stops early enough for the last validation and the last save to
            finish within the limit.
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
        max_hours: float | None = None,
    ) -> None:
        super().__init__(runner, dataloader, val_begin, val_interval, dynamic_intervals, max_hours)
        self._max_epochs = check_count("max_epochs", max_epochs, most=MAX_RUN_LENGTH)
        if length_of(self.dataloader) is None:
            raise ArgumentError(
                "epoch-based training needs a train_dataloader with a length",
                key="max_epochs",
                notes=["Set max_iters instead of max_epochs."],
            )
        is_limited = getattr(self.dataloader, "is_limited", False)
        if getattr(getattr(self.dataloader, "sampler", None), "endless", False) and not is_limited:
            raise ArgumentError(
                "epoch-based training needs a finite sampler",
                key="type",
                suggestion="IterBasedTrainLoop",
                notes=["Alternatively, set num_batch_per_epoch in train_dataloader, or use DefaultSampler."],
            )
        self._max_iters = self._max_epochs * len(self.dataloader)
        self._reading = False  # whether an epoch of the base class is in progress

    @property
    def at_epoch_start(self) -> bool:
        """Whether the next epoch starts from its first batch, rather than in the middle after a resume."""
        return self._iter == self._epoch * len(self.dataloader)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches epoch by epoch, each with its index in the epoch."""
        for _ in self._epochs():
            yield from self._one_epoch()

    def run_epoch(self) -> None:
        """Trains one epoch, or the remaining part of it after a resume.

        Called only if a subclass overrides this method or `run`. Otherwise `run` does the same with fewer stack frames.
        """
        if not self.in_progress:
            self._begin()
        with closing(self._one_epoch()) as stream:
            try:
                for idx, data_batch in stream:
                    self.run_iter(idx, data_batch)
                    del data_batch
            except InterruptedWaitError:
                self._save_instead_of_waiting()
            except Exception as error:
                self._save_if_data_failed(error)
                raise

    def _own_epochs(self) -> Iterator[tuple[int, Any]]:
        """Calls the overridden `run_epoch` for each epoch. Yields no batch."""
        for _ in self._epochs():
            self.run_epoch()
            if self.runner.requests.pending:
                answer_requests(self.runner)
        yield from ()

    def _epochs(self) -> Iterator[None]:
        """Yields once before each remaining epoch, and validates between epochs when due."""
        if self.at_epoch_start and self._validation_is_due():
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            yield
            if self._validation_is_due():
                self._validate()
            self._exchange_requests()

    def _one_epoch(self) -> Generator[tuple[int, Any]]:
        """Yields the remaining batches of one epoch, and calls the hooks at its start and end."""
        runner, length = self.runner, len(self.dataloader)
        if length == 0:
            raise DataError(
                "the training loader has no batches",
                notes=["With `drop_last=True`, the loader drops an incomplete last batch."],
            )
        within = not self.at_epoch_start
        self.move_epoch_start()
        runner.call_hook("before_train_epoch")
        runner.model.train()
        if within:
            self._continue_epoch()
        count = self._iter - self._epoch * length
        self._reading = True
        runner.phase = Phase.DATA_LOADING
        for batch in self._data.one_pass(self._epoch, count):
            runner.phase = Phase.OTHER
            yield count, batch
            del batch
            count += 1
            if self.validation_requested and not (self.out_of_time and count == length) and self._validation_is_due():
                self._validate()
            if self.out_of_time and count < length:  # otherwise the epoch ends normally
                self._reading = False
                return
            runner.phase = Phase.DATA_LOADING
        runner.phase = Phase.OTHER
        self._reading = False
        self._data.check_pass(self._epoch, count, length)
        runner.call_hook("after_train_epoch")
        self._epoch += 1

    def _check_resumed_data(self) -> None:
        """Restarts the epoch in which the run was saved if an overridden `run_epoch` reads its own data."""
        done = self._iter - self._epoch * len(self.dataloader)
        if self._reading or self._iter != self._began_at or done <= 0:
            return
        _logger.warning(
            "The run was saved after %d batches of epoch %d, but %s reads its own data, so this epoch starts over. "
            "Call super().run_epoch() to resume within an epoch.",
            done,
            self._epoch + 1,
            type(self).__name__,
        )
        self._iter = self._began_at = self._epoch * len(self.dataloader)


@LOOPS.register_module()
class IterBasedTrainLoop(BaseTrainLoop):
    """The iteration-based training loop. It restarts the loader whenever the loader is exhausted.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the config dict of a loader.
        max_iters: The number of iterations.
        val_begin: The first iteration after which to validate.
        val_interval: The number of iterations between two validations.
        dynamic_intervals: `[(iteration, interval), ...]`: each interval applies from its iteration on.
        max_hours: The time limit in hours. Training stops early enough for the last validation and the last save to
            finish within the limit.
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
        max_hours: float | None = None,
    ) -> None:
        super().__init__(runner, dataloader, val_begin, val_interval, dynamic_intervals, max_hours)
        self._max_iters = check_count("max_iters", max_iters, most=MAX_RUN_LENGTH)
        self._max_epochs = 1
        self._stream: Iterator[Any] | None = None
        self._own_stream: Iterator[Any] | None = None
        self._drawn = 0  # the number of batches that an overridden `run` has drawn

    @property
    def epoch(self) -> int:
        """The number of completed passes over the loader, or 0 if the loader never ends."""
        return self._data.epoch_at(self._iter)

    @property
    def dataloader_iterator(self) -> Iterator[Any]:
        """The endless iterator over the remaining batches. The loop draws its batches from it."""
        if self._own_stream is not None:
            return self._own_stream
        if self._stream is None:
            stream = self._data.endless(self._iter)
            self._stream, self._drawn = map(self._count_drawn, stream) if self._own_run else stream, 0
        return self._stream

    @dataloader_iterator.setter
    def dataloader_iterator(self, stream: Iterator[Any]) -> None:
        self._own_stream = stream

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` and `data_state` returned. Training resumes from there."""
        super().load_state_dict(state)
        self._stream, self._drawn = None, 0

    def run_iter(self, data_batch: Any) -> None:  # type: ignore[override]  # existing subclasses have this signature
        """Trains on one batch. A subclass may override it to change the iteration."""
        super().run_iter(self._iter, data_batch)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches, each with the index of its iteration."""
        runner = self.runner
        runner.call_hook("before_train_epoch")
        runner.model.train()
        self._continue_epoch()
        stream = self.dataloader_iterator
        try:
            while self._iter < self._max_iters and not runner.requests.stop_agreed:
                if not runner.model.training:  # a hook has validated, or has set evaluation mode
                    runner.model.train()
                runner.phase = Phase.DATA_LOADING
                batch = next(stream)
                runner.phase = Phase.OTHER
                yield self._iter, batch
                del batch
                if self._validation_is_due():
                    self._validate()
                    self._exchange_requests()
        finally:
            self._stream = None  # ends its workers too
        runner.call_hook("after_train_epoch")

    def _count_drawn(self, batch: Any) -> Any:
        self._drawn += 1
        return batch

    def _check_resumed_data(self) -> None:
        """Checks that an overridden `run` neither skips batches of completed iterations nor repeats them.

        Raises:
            ArgumentError: `run` skips such batches, although `dataloader_iterator` starts after them.
        """
        if not self._own_run or self._iter == 0 or self._iter != self._began_at:
            return
        name = type(self).__name__
        if self._drawn == self._iter + 1:
            raise ArgumentError(
                f"{name}.run skips the {self._iter} batches of the completed iterations",
                key="train_cfg.type",
                notes=["dataloader_iterator already starts after them. Remove the lines of `run` that skip batches."],
            )
        if not self._drawn:
            _logger.warning(
                "%s.run does not read its data from self.dataloader_iterator, so after the resume at iteration %d, "
                "the data may start again from the beginning. Read the batches from self.dataloader_iterator.",
                name,
                self._iter,
            )

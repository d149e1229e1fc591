"""The loops that train: by epoch and by iteration."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from footplate.checkpoint import capture_rng, restore_rng
from footplate.data import end_workers
from footplate.engine.base_loop import BaseLoop, ValidationLeftError
from footplate.engine.heap import keep_freed_memory
from footplate.engine.position import DataPosition
from footplate.engine.rescue import may_rescue, rescue, who_asked_for_data
from footplate.engine.signals import WaitEndedError, answer_requests
from footplate.engine.validation_points import checked_intervals, interval_at, is_due
from footplate.errors import LONGEST_RUN, ArgumentError, DataError, check_count
from footplate.records import length_of
from footplate.registry import LOOPS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class BaseTrainLoop(BaseLoop):
    """Trains: one body for all ways of counting. A way of counting is the generator `batches`.

    A hook that sets `validation_requested` after an iteration or an epoch has the loop validate behind it.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the dict of one.
        val_begin: The first epoch or iteration after which to validate.
        val_interval: How many epochs or iterations lie between two validations.
        dynamic_intervals: `[(milestone, interval), ...]`: other intervals from those milestones on.

    Raises:
        ArgumentError: A number is not positive.
    """

    by_epoch = True

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        *,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        self.val_begin = check_count("val_begin", val_begin, least=0)
        self.val_interval = check_count("val_interval", val_interval)
        changes = checked_intervals(dynamic_intervals or ())
        self.dynamic_milestones = [0, *(milestone for milestone, _ in changes)]
        self.dynamic_intervals = [val_interval, *(interval for _, interval in changes)]
        self.stop_training = False
        self.validation_requested = False
        self.in_progress = False
        self._data = DataPosition(self.dataloader)
        self._iter = self._began_at = 0
        self._epoch = 0
        self._validated_at = 0
        self._before_epoch: dict[str, Any] | None = None
        self._before_validation: tuple[tuple[int, bool], dict[str, Any]] = (0, False), {}

    @property
    def iter(self) -> int:
        """How many iterations are done."""
        return self._iter

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return self._epoch

    @property
    def max_iters(self) -> int:
        """How many iterations the run has."""
        raise NotImplementedError

    @property
    def max_epochs(self) -> int:
        """How many epochs the run has."""
        raise NotImplementedError

    @property
    def at_epoch_start(self) -> bool:
        """Tells whether the coming epoch begins, rather than goes on after a resume."""
        return self._iter == 0

    @property
    def finished(self) -> bool:
        """Tells whether nothing is left to do, validation included."""
        return self._position >= self._end and not self._validation_is_due()

    def run(self) -> Any:
        """Trains from the present position to the end.

        Returns:
            The model.
        """
        runner = self.runner
        keep_freed_memory(runner.device)
        runner.call_hook("before_train")
        before, after = runner.hooks.at("before_train_iter"), runner.hooks.at("after_train_iter")
        train_step, optim_wrapper = runner.model.train_step, runner.optim_wrapper
        runner.restore_random_state()
        self.in_progress, self._began_at = True, self._iter
        runner.saver.ends = False  # a run before, which was stopped, did
        own_iter = self.run_iter if type(self).run_iter is not BaseTrainLoop.run_iter else None
        requests = runner.requests
        stream = self.batches()
        try:
            for batch_idx, data_batch in stream:
                if own_iter is not None:
                    own_iter(batch_idx, data_batch)
                else:
                    # As in run_iter, but without its frame: four of ours stand above backward().
                    for method in before:
                        method(runner, batch_idx=batch_idx, data_batch=data_batch)
                    outputs = train_step(data_batch, optim_wrapper=optim_wrapper)
                    for method in after:
                        method(runner, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
                    self._iter += 1
                del data_batch  # before the next is asked for: decision 025
                if requests.pending:
                    self._answer_requests(stream)
        except WaitEndedError:
            self._as_before_wait()
            self._answer_and_end_workers()
        except Exception as error:
            self._save_unless_half_done(error)
            raise
        self.in_progress = False
        runner.call_hook("after_train")
        return runner.model

    def run_iter(self, batch_idx: int, data_batch: Any) -> None:
        """Trains on one batch; a loop that overrides it decides what an iteration is."""
        self.runner.call_hook("before_train_iter", batch_idx=batch_idx, data_batch=data_batch)
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        self.runner.call_hook("after_train_iter", batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields number and batch of every iteration that is left; between them it validates where that is due."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the run."""
        return {
            "iter": self._iter,
            "epoch": self._epoch,
            "validated_at": self._validated_at,
            "validation_requested": self.validation_requested,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes a position; training goes on behind it."""
        self._iter, self._epoch = state["iter"], state["epoch"]
        # A checkpoint of another engine does not tell: it is taken to have been validated.
        self._validated_at = state.get("validated_at", self._position)
        self.validation_requested = state.get("validation_requested", False)
        if "data" in state:
            done = self._data.load_state_dict(state["data"], self._iter)
            self._iter = done if self.by_epoch else self._iter

    def data_state(self, iteration: int, epoch: int) -> dict[str, Any]:
        """Returns the place in the data at which a run stands after so many iterations and epochs."""
        return self._data.state_dict(iteration, epoch if self.by_epoch else None)

    def save_within_validation(self) -> None:
        """Saves the run as it stood before the validation that is at work, and lets that go on."""
        here, random = (self._validated_at, self.validation_requested), capture_rng()
        (self._validated_at, self.validation_requested), before = self._before_validation
        restore_rng(before)
        try:
            answer_requests(self.runner)
        finally:
            self._validated_at, self.validation_requested = here
            restore_rng(random)

    @property
    def _position(self) -> int:
        return self._epoch if self.by_epoch else self._iter

    @property
    def _end(self) -> int:
        return self.max_epochs if self.by_epoch else self.max_iters

    def _answer_requests(self, stream: Iterator[Any]) -> None:
        try:
            answer_requests(self.runner)
        except BaseException:
            if isinstance(stream, Generator):
                stream.close()  # and with it the workers, which a traceback would keep
            raise

    def _save_unless_half_done(self, error: Exception) -> None:
        """Saves what was trained here, where it is data that failed: no iteration is at work then."""
        asked_by = who_asked_for_data(error)
        if asked_by and self._iter > self._began_at and may_rescue(self.runner):
            self._as_before_validation() if asked_by == "_evaluate" else self._as_before_wait()
            rescue(self.runner, error)

    def _as_before_wait(self) -> None:
        """Stands where no iteration is at work: before the wait, and before the hooks of an epoch that begins."""
        if self._before_epoch is not None and self.at_epoch_start:
            restore_rng(self._before_epoch)

    def _as_before_validation(self) -> None:
        (self._validated_at, self.validation_requested), random = self._before_validation
        restore_rng(random)

    def _answer_and_end_workers(self) -> None:
        try:
            answer_requests(self.runner)
        finally:  # they may hang, and would be waited for
            end_workers([self.dataloader, self.runner.val_dataloader])

    def _go_on_within(self) -> None:
        """Stands where the checkpoint was made, after hooks were told once more that the epoch begins."""
        self.runner.restore_random_state()
        if self._validation_is_due():
            self._validate()

    def _validation_is_due(self) -> bool:
        if self._runner.val_loop is None:
            return False
        if self.validation_requested:
            return True
        done = self._position
        self.val_interval = interval_at(done, self.dynamic_milestones, self.dynamic_intervals)
        return done != self._validated_at and is_due(done, self._end, self.val_begin, self.val_interval)

    def _validate(self) -> None:
        self._before_validation = (self._validated_at, self.validation_requested), capture_rng()
        # Before it runs: the best checkpoint that it may save is behind the validation.
        self._validated_at, self.validation_requested = self._position, False
        try:
            self.runner.val_loop.run()  # type: ignore[union-attr]  # due only where there is one
        except (ValidationLeftError, WaitEndedError):
            self._as_before_validation()
            self._answer_and_end_workers()
        self.runner.model.train()


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
        self._max_epochs = check_count("max_epochs", max_epochs, most=LONGEST_RUN)
        if length_of(self.dataloader) is None:
            raise ArgumentError("training by epochs needs a loader with a length", key="dataloader")
        if getattr(getattr(self.dataloader, "sampler", None), "endless", False):
            raise ArgumentError(
                "training by epochs needs a sampler that ends",
                key="type",
                suggestion="IterBasedTrainLoop",
                notes=["or take DefaultSampler for train_dataloader.sampler"],
            )

    @property
    def max_epochs(self) -> int:
        """How many epochs the run has."""
        return self._max_epochs

    @property
    def max_iters(self) -> int:
        """How many iterations the run has."""
        return self._max_epochs * len(self.dataloader)

    @property
    def at_epoch_start(self) -> bool:
        """Tells whether the coming epoch begins, rather than goes on after a resume."""
        return self._iter == self._epoch * len(self.dataloader)

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches epoch by epoch, each with its number in the epoch."""
        runner, length = self.runner, len(self.dataloader)
        if length == 0:
            raise DataError("the training loader gives no batch", notes=["drop_last drops a batch that is too small"])
        within = not self.at_epoch_start
        if not within and self._validation_is_due():
            self._validate()
        while self._epoch < self._max_epochs and not self.stop_training:
            self._before_epoch = capture_rng()
            runner.call_hook("before_train_epoch")
            runner.model.train()
            if within:
                self._go_on_within()
            within, start = False, self._iter - self._epoch * length
            count = start
            for batch in self._data.one_pass(self._epoch, start):
                yield count, batch
                del batch
                count += 1
                if self.validation_requested and self._validation_is_due():
                    self._validate()
            if count < length:
                raise DataError(
                    f"epoch {self._epoch + 1} had {count} batches, where the length of the loader is {length}",
                    notes=["a loader without a length of its own trains by iterations: IterBasedTrainLoop"],
                )
            runner.call_hook("after_train_epoch")
            self._epoch += 1
            if self._validation_is_due():
                self._validate()


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
        self._max_iters = check_count("max_iters", max_iters, most=LONGEST_RUN)

    @property
    def epoch(self) -> int:
        """How many times the loader was gone through; 0 with one that never ends."""
        return self._data.epoch_at(self._iter)

    @property
    def max_epochs(self) -> int:
        """One: the run counts iterations."""
        return 1

    @property
    def max_iters(self) -> int:
        """How many iterations the run has."""
        return self._max_iters

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the batches, each with the number of its iteration."""
        runner = self.runner
        runner.call_hook("before_train_epoch")
        runner.model.train()
        self._go_on_within()
        stream = self._data.endless(self._iter)
        while self._iter < self._max_iters and not self.stop_training:
            yield self._iter, next(stream)
            if self._validation_is_due():
                self._validate()
        runner.call_hook("after_train_epoch")

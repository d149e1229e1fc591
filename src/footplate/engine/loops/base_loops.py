"""Base classes for the training and evaluation loops."""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from footplate.checks import check_accepts, check_count, check_number, read_count, read_flag
from footplate.data import build_dataloader, capture_rng, metainfo_of, restore_rng
from footplate.data.position import track_position
from footplate.data.virtual_epochs import VirtualEpochs, VirtualPosition
from footplate.data.waiting import InterruptedWaitError, data_wait
from footplate.distributed import compute_on_ranks, get_rank, get_world_size
from footplate.engine.control.process_setup import keep_freed_memory
from footplate.engine.loops.first_step import take_first_step, update_loss_counts, weight_versions
from footplate.engine.loops.loop_counters import LoopCounters
from footplate.engine.loops.loop_run import LoopRun
from footplate.engine.values.position import Position, Progress, Stage
from footplate.error_context import add_note
from footplate.errors import FootplateError, NonFiniteError
from footplate.evaluation.evaluation_sets import EvaluationSet
from footplate.evaluation.validation_schedule import (
    checked_intervals,
    count_validations,
    interval_at,
    is_validation_point,
)

_logger = logging.getLogger("footplate.engine")
NO_BATCH = "The batch is None. Check that `collate_fn` returns the batch."
# What a second call of `train` repeats after an error, by the stage in which it occurred.
_REPEATED = {
    Stage.STEP: "The step of iteration %d failed, so training repeats it, without its gradients unless they "
    "accumulate.",
    Stage.ITERATION_HOOKS: "A hook failed after the step of iteration %d, so training repeats it: its batch is used "
    "twice.",
    Stage.EPOCH_HOOKS: "A hook failed at the end of an epoch, before iteration %d, so training calls its hooks again: "
    "those that come before it act twice.",
}


@dataclass
class Session:
    """What a training loop knows of a call of `train`, and does not save.

    Attributes:
        began_at: The iteration at which the call started or resumed the run.
        weight_versions: The result of `weight_versions` at that time.
        random_at_start: The random state from before the hooks that begin the current epoch, or None if the loop calls
            them itself.
        recorded: The state from before the current validation, or None if it cannot be interrupted.
    """

    began_at: int
    weight_versions: list[int] = field(default_factory=list)
    random_at_start: dict[str, Any] | None = None
    recorded: Any = None


class BaseLoop:
    """Base class for all loops. A loop reads batches from a data loader and processes them for a runner.

    `overridable_methods` maps the methods that a subclass may override to the names of their positional arguments.

    Args:
        runner: The runner that owns the loop.
        dataloader: A data loader, any other iterable of batches, or a loader config dict.

    Raises:
        ArgumentError: An overridden method does not accept the arguments that the engine passes.
    """

    overridable_methods: ClassVar[dict[str, tuple[str, ...]]] = {"run": ()}
    builds_data: ClassVar[bool] = False
    """Whether the loop receives the config sections of its loader and evaluator, and builds them itself."""
    # What the run reads from a validation or test loop, with the values for custom loops; see `_EvaluationLoop`.
    sets: Sequence[EvaluationSet] = ()
    metrics: Mapping[str, Any] = {}
    predictor: Any = None
    fp16 = inference_mode = loss = False

    def __init__(self, runner: LoopRun, dataloader: Any) -> None:
        self.runner = runner
        self._runner = runner  # MMEngine's name, which existing subclasses use
        # Each of these methods calls the next. A subclass that overrides one may pass other arguments to the next.
        calls = ("run", "run_epoch", "run_iter")
        first = next(filter(self.overrides, calls), None)
        for method, arguments in self.overridable_methods.items():
            if method == first or (method not in calls and self.overrides(method)):
                check_accepts(self, method, arguments)
        self.dataloader = build_dataloader(dataloader, seed=runner.seed)  # if a script passes a config dict

    def run(self) -> Any:
        """Runs the loop once."""
        raise NotImplementedError(f"{type(self).__name__} does not define run()")

    def _pass_metainfo(self, dataloader: Any) -> None:
        """Passes the dataset's metadata, such as its classes, to the visualizer."""
        if (metainfo := metainfo_of(dataloader)) is not None:
            self.runner.visualizer.dataset_meta = metainfo

    def overrides(self, method: str) -> bool:
        """Checks whether a user's subclass or script replaces a method."""
        function = getattr(self, method, None)
        return function is not None and not function.__module__.startswith("footplate.engine.")


class BaseTrainLoop(LoopCounters, BaseLoop):
    """Base class for training loops. Subclasses implement `_train`.

    If a hook sets `validation_requested`, the loop validates after the current iteration or epoch. With several ranks,
    it validates after the ranks have exchanged requests, up to 10 iterations later.

    The loop is what writes the position of the run; see `Position`. Checkpoints and validation use `completed`.

    Args:
        runner: The runner that owns the loop.
        dataloader: A data loader, any other iterable of batches, or a loader config dict.
        val_begin: The loop does not validate before this epoch or iteration unless a hook requests it. The interval is
            not counted from it: `val_begin=5, val_interval=2` validates after 6, 8, 10, ...
        val_interval: The number of epochs or iterations between validation runs. Validation also follows the last one.
        dynamic_intervals: `[(milestone, interval), ...]`. An interval applies as soon as `milestone - 1` epochs or
            iterations are complete.
        max_hours: The time limit in hours. Training ends when the remaining time is needed for the last validation run
            and save, as estimated from earlier ones. You can resume the run later.

    Attributes:
        batches_read: The number of batches read since `adapt_loops`, its only user, last reset it.
        is_overridden: Whether a subclass overrides `run` or `run_epoch`, so that the loop may read batches itself.
        is_adapted: Whether the runner has adapted the loop; see `adapt_loops`.

    Raises:
        ArgumentError: A number is out of range.
    """

    by_epoch = True
    _max_iters: int  # set by subclasses, like `_max_epochs`
    _max_epochs: int
    overridable_methods: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": (),
        "run_iter": ("idx", "data_batch"),
        "_decide_current_val_interval": (),
    }

    def __init__(
        self,
        runner: LoopRun,
        dataloader: Any,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        max_hours: float | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        check_number("max_hours", max_hours, above=0, optional=True)
        self.max_hours = max_hours
        self._pass_metainfo(self.dataloader)
        if getattr(self.dataloader, "uneven", False):
            _logger.warning(
                "With round_up=False, the last batches of an epoch may differ in size between ranks, but their losses "
                "have the same weight, and a rank without samples repeats one. Use round_up=True for equal batches."
            )
        self.val_begin = check_count("val_begin", val_begin, least=0)
        self.dynamic_milestones, self.dynamic_intervals = checked_intervals(val_interval, dynamic_intervals)
        self.val_interval = self.dynamic_intervals[0]  # the current one
        self.session = Session(0)
        # The position of the latest validation, at which the run does not validate again, also after a resume. What is
        # unknown after a resume is -1.
        self._validated = Progress()
        is_virtual = isinstance(self.dataloader, VirtualEpochs)
        self._data_position = VirtualPosition(self.dataloader) if is_virtual else track_position(self.dataloader)
        # Returns the epoch that contains an iteration, and the index of the iteration's batch in that epoch.
        self._place_of = self._place_in_epoch if self.by_epoch else self._data_position.locate
        self.batches_read = 0
        self._is_first_step = True  # of this process: until it is complete, there is nothing to save
        self.is_overridden = self.overrides("run") or self.overrides("run_epoch")
        self.is_adapted = False

    def run(self) -> Any:
        """Trains from the current position to the end of the run, and validates when due.

        Returns:
            The model.
        """
        runner = self.runner
        runner.call_hook("before_train")
        with self.training():
            self.begin()
            self._validate_if_due()  # if the run was saved just before a validation
            self._train()
        runner.call_hook("after_train")
        compute_on_ranks(runner.saver.wait)  # afterwards, each rank can read the final checkpoint
        return runner.model

    def _train(self) -> None:
        """Trains and validates until the run is complete or `stop_training` is set."""
        raise NotImplementedError

    @contextmanager
    def training(self) -> Iterator[None]:
        """The phase "train". After an error, the position does not count an iteration or epoch whose hooks failed.

        Training that is called again then begins with a warning about what it repeats.
        """
        with self.runner.phase("train"):
            if self.position.stage in _REPEATED:
                _logger.warning(
                    f"{_REPEATED[self.position.stage]} To continue exactly from the newest checkpoint, if there is "
                    "one, create a new Runner with resume=True.",
                    self.iter + 1,
                )
            if self.position.stage is Stage.STEP:
                for part in self.runner.optim_wrapper.parts.values():
                    if part._accumulative_counts == 1:  # otherwise, some may belong to earlier iterations
                        part.zero_grad()
            self.runner.position = self.position.at(Stage.READY)
            try:
                yield
            except BaseException:
                self.runner.position = self.position.at(self.position.stage)
                raise

    def begin(self) -> None:
        """Prepares to train from the current position. Called after the `before_train` hooks."""
        keep_freed_memory(self.runner.device)
        self.runner.random_state.restore()
        self.runner.module_attributes.remember_tensors()
        self.session = Session(self.iter, weight_versions(self.runner.model))
        requests = self.runner.requests
        requests.exchange()  # a `before_train` hook may have requested a stop
        if requests.agreed.stop:
            _logger.info(
                "A hook has set stop_training, so training ends early. To train to the end, set "
                "`runner.train_loop.stop_training = False` in a before_train hook."
            )

    def _begin_epoch(self) -> None:
        """Calls the `before_train_epoch` hooks and sets the model to training mode.

        A resumed run calls these hooks again. If it resumes mid-epoch, it then restores the random state, so that
        random numbers drawn by the hooks do not affect the results. If it was stopped before the epoch's first batch,
        it starts with the random state from before the hooks; see `_stop_reading`. If it was saved just
        before a validation, `run` has already run this validation.
        """
        runner = self.runner
        random_state = self.session.random_at_start = capture_rng()
        runner.model.train()
        runner.call_hook("before_train_epoch")
        with runner.random_state.keeping(random_state):  # a resumed run calls these hooks again
            runner.boundary.start_saves()  # a hook may have called `runner.val()`, which requests saves
        if not (self.by_epoch and any(hook.sets_mode for hook in runner.hooks)):
            runner.model.train()
        if not self.at_start:
            restore_rng(random_state)

    def restart_epoch(self) -> None:
        """Returns to the start of the epoch, before training begins."""
        self.runner.position = Position(self.iter - self.position.batch, self.epoch)
        self.session.began_at = self.iter

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains on one batch. Subclasses may override this method to customize the iteration."""
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        take_step = partial(take_first_step, runner) if self._is_first_step else runner.model.train_step
        try:
            outputs = take_step(data_batch, optim_wrapper=runner.optim_wrapper)
        except BaseException as error:
            if not isinstance(error, InterruptedWaitError):
                runner.position = self.position.at(Stage.STEP)
            is_explained = isinstance(error, FootplateError) and not isinstance(error, NonFiniteError)
            if isinstance(error, Exception) and not is_explained:
                for note in [*[NO_BATCH] * (data_batch is None), *self.describe_samples(self.iter, error)]:
                    add_note(error, note)
            raise
        self._is_first_step = False
        if runner.position.iter == self.session.began_at:
            update_loss_counts(runner, self.session.weight_versions)
        self.count_step()
        runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
        runner.position = runner.position.after_hooks()

    def count_step(self) -> None:
        """Counts a step as complete, before the `after_train_iter` hooks. Counts it once if this is called again."""
        position = self.runner.position
        self.runner.position = position.after_step(*self._place_of(position.iter + 1))

    def _place_in_epoch(self, iteration: int) -> tuple[int, int]:
        position = self.runner.position
        return position.epoch, position.batch + iteration - position.iter

    def count_epoch(self) -> None:
        """Counts an epoch as complete, before the `after_train_epoch` hooks. Counts it once if this is called again.

        In iteration-based training, the position in the data counts it.
        """
        self.runner.position = self.position.after_pass(int(self.by_epoch))

    def _end_epoch(self) -> None:
        """Calls the `after_train_epoch` hooks, and saves or stops the run if any rank requested it."""
        self.count_epoch()
        self.runner.call_hook("after_train_epoch")
        self.runner.position = self.position.after_hooks()
        self.runner.requests.exchange()  # before validation, which may take a long time
        self.runner.boundary.handle()

    def describe_samples(self, iteration: int, error: Exception | None = None) -> list[str]:
        """Returns a list with one note on this rank's samples in an iteration (from 0), or [] if they are unknown."""
        position = self._data_position
        if not position.is_planned or self.is_overridden:
            return []
        samples = self.dataloader.describe_samples(*position.locate(iteration), error)
        rank, others = "", ""
        if get_world_size() > 1:
            rank = f" of rank {get_rank()}"
            # Log lines average the losses, the ranks average their gradients, and a model may exchange values.
            is_shared = error is None or isinstance(error, NonFiniteError)
            others = " The cause may also be in the batch of another rank." if is_shared else ""
        return [f"The batch{rank} in iteration {iteration + 1} contains samples {samples}.{others}"]

    def _read(self, stream: Iterator[Any]) -> Generator[Any]:
        """Yields the batches from `stream`.

        A stop request interrupts the wait for a batch. If reading fails, saves the run, unless it has made no progress.
        """
        runner, data = self.runner, self._data_position
        try:
            data_wait.begin()
            for batch in stream:
                data_wait.end()
                self.batches_read += 1
                if data.pass_index != runner.position.epoch:
                    self._relocate()
                yield batch
                del batch  # before the next one is requested (decision 025)
                data_wait.begin()
        except InterruptedWaitError:
            self._stop_reading()
            runner.boundary.handle()  # raises Interrupted, because a stop request ended the wait
        except Exception as error:
            self._stop_reading()
            if self.iter > self.session.began_at:
                runner.boundary.save_after_data_error(error)
            raise
        finally:
            data_wait.cancel()

    def _relocate(self) -> None:
        """Determines the place in the data again, because reading may have begun the next pass."""
        position = self.runner.position
        if self.by_epoch:  # in which an epoch is one pass
            return
        reached = position.reached and Position(position.reached.iter, *self._place_of(position.reached.iter))
        self.runner.position = Position(position.iter, *self._place_of(position.iter), position.stage, reached)

    def _stop_reading(self) -> None:
        """Ends a wait for a batch.

        If no iteration of the epoch is complete, restores the random state from before `before_train_epoch`.
        """
        data_wait.cancel()
        self._relocate()
        if self.session.random_at_start is not None and self.at_start:
            restore_rng(self.session.random_at_start)

    def _validate_if_due(self, *, leaves_for_save: bool = True) -> None:
        """Runs validation if it is due, then handles any requests that arrived in the meantime.

        Called at the start of training, between iterations, and after each epoch of epoch-based training.

        A request to stop, or the first request to save, ends the validation before its `after_val_epoch` hooks. The
        state from before the validation is then restored and saved, and a run that continues repeats the validation.
        """
        runner = self.runner
        if runner.val_loop is None or not self.validation_is_due():
            return
        # Set before the validation, so that a run that resumes from the best checkpoint does not repeat the validation.
        requests = runner.requests
        before = self._validated, requests.agreed.validation
        if self.iter == self.session.began_at and not requests.agreed.validation:
            unit, done = ("epoch" if self.by_epoch else "iteration"), self.units_done
            _logger.info("Running the validation of %s %d, which was due when the checkpoint was saved.", unit, done)
        self._validated = self.completed
        requests.agreed.validation = False
        runner.boundary.start_saves()  # loops that override `run_epoch` have not started these saves
        requests.leaves_for_save = leaves_for_save
        self.session.recorded = recorded = runner.boundary.record()
        is_complete = False
        try:
            with data_wait.during("" if recorded is None else "validation"), runner.phase("val"):
                runner.val_loop.run()
            is_complete = True
        except InterruptedWaitError:
            if recorded is None:
                raise
        finally:
            self.session.recorded = None
            if not is_complete:  # another call of `train` repeats the validation
                self._validated, requests.agreed.validation = before
        if not is_complete and recorded is not None:
            runner.boundary.handle_before(recorded)
            _logger.info("Restarting the validation, which was interrupted to save the run.")
            self._validate_if_due(leaves_for_save=False)
            return
        requests.exchange()
        runner.boundary.start_saves()  # save a best checkpoint before late hooks change the run
        runner.call_hook("after_validation")
        runner.boundary.handle()

    def has_training_weights(self) -> bool:
        """Checks that no hook but a `SwappingHook` has changed weights since the current validation began."""
        return self.session.recorded is not None and self.session.recorded.has_same_weights()

    def validation_is_due(self) -> bool:
        """Checks whether validation is due now or, in a hook, after the hooks of the current iteration or epoch.

        A request and the time limit end an iteration, the schedule an epoch or, in iteration-based training, also an
        iteration. After the last iteration of an epoch, the `after_train_epoch` hooks come first, also in a run that
        resumes there. The schedule and the time limit do not validate a position twice.

        First-generation hooks call this method, because they run after the validation. Updates `val_interval`.
        """
        self._decide_current_val_interval()
        is_last = self.out_of_time and self._validated.iter != self.completed.iter
        if is_last or self.runner.requests.agreed.validation:
            return not self.at_epoch_end
        done = self.units_done
        is_validated = done == self._units(self._validated)
        return not is_validated and is_validation_point(done, self.units_total, self.val_begin, self.val_interval)

    @property
    def validations_left(self) -> int:
        """The number of validation runs still to come, except requested ones, if the interval does not change."""
        if self.runner.val_loop is None:
            return 0
        may_be_due_now = self.units_done != self._units(self._validated)
        return count_validations(self.units_done - may_be_due_now, self.units_total, self.val_begin, self.val_interval)

    def _decide_current_val_interval(self) -> None:
        """Sets `val_interval` to the interval for the current position. Subclasses may override this method."""
        self.val_interval = interval_at(self.units_done, self.dynamic_milestones, self.dynamic_intervals)

    @property
    def stop_training(self) -> bool:
        """Whether training ends after the current iteration or epoch.

        Setting it to True requests a stop on behalf of this rank, and setting it to False withdraws the request.
        Reading it returns the value that all ranks have agreed on.
        """
        agreed = self.runner.requests.agreed
        return agreed.stop or agreed.time_limit

    @stop_training.setter
    def stop_training(self, wanted: bool) -> None:
        self.runner.requests.local.stop = wanted

    @property
    def out_of_time(self) -> bool:
        """Whether training ends early because of `max_hours`."""
        return self.runner.requests.agreed.time_limit

    @property
    def ended(self) -> bool:
        """Whether the run has ended, and only its final save may remain."""
        return self.position.stage is Stage.ENDED

    def end(self) -> None:
        """Marks the run as ended. Called before the final save, and by `Runner.train`."""
        self.runner.position = self.position.at(Stage.ENDED)

    @property
    def has_stopped(self) -> bool:
        """Whether the run has ended, but not within an epoch, as the time limit does: no request to end it is left."""
        return self.ended and (self.at_start or not self.by_epoch)

    @property
    def finished(self) -> bool:
        """Whether the run is complete, including the final validation and the final save."""
        return self.units_done >= self.units_total and self.ended

    @property
    def validation_requested(self) -> bool:
        """Whether this rank has requested a validation run."""
        return self.runner.requests.local.validation

    @validation_requested.setter
    def validation_requested(self, wanted: bool) -> None:
        self.runner.requests.local.validation = wanted

    max_iters: int = property(attrgetter("_max_iters"), doc="The number of iterations.")  # type: ignore[assignment]

    @property
    def max_epochs(self) -> int:
        """The total number of epochs in the run, or 1 in iteration-based training, as in MMEngine."""
        return self._max_epochs

    @property
    def at_start(self) -> bool:
        """Whether `before_train_epoch` comes next, which iteration-based training calls only when the run starts."""
        return (self.position.batch if self.by_epoch else self.iter) == 0

    @property
    def at_epoch_end(self) -> bool:
        """Whether an epoch's iterations are done, but not its `after_train_epoch` hooks.

        In iteration-based training, this is always False.
        """
        return self.by_epoch and self.position.after_hooks().batch == len(self.dataloader)

    @property
    def units_done(self) -> int:
        """The number of completed epochs or, in iteration-based training, iterations."""
        return self._units(self.completed)

    def _units(self, progress: Progress) -> int:
        return progress.epoch if self.by_epoch else progress.iter

    @property
    def units_total(self) -> int:
        """The total number of epochs or, in iteration-based training, iterations."""
        return self.max_epochs if self.by_epoch else self.max_iters

    def state_dict(self) -> dict[str, Any]:
        """Returns the current iteration and epoch, the data position, the validation state, and pending requests."""
        iteration, epoch, batch, *_ = self.position.after_hooks()
        agreed = self.runner.requests.agreed
        return {
            "iter": iteration,
            "epoch": epoch,
            "validated_at": self._units(self._validated),
            "validation_requested": self.validation_requested or agreed.validation,
            "stop_requested": (self.runner.requests.local.stop or agreed.stop) and not self.has_stopped,
            "ended": self.ended and self.units_done == self.units_total,
            "data": self._data_position.state_dict(epoch, batch),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned. Training then continues from that position."""
        saved, epoch = read_count(state, "iter"), read_count(state, "epoch")
        # Checkpoints from other engines lack these keys. Assume that no validation or save is outstanding.
        defaults = {"validation_requested": False, "stop_requested": False, "ended": True}
        state = {"validated_at": epoch if self.by_epoch else saved, **defaults, **state}
        validated_at = read_count(state, "validated_at")
        self._validated = Progress(-1, validated_at) if self.by_epoch else Progress(validated_at, -1)
        self.validation_requested = read_flag(state, "validation_requested")
        self.stop_training = read_flag(state, "stop_requested")
        stage = Stage.ENDED if read_flag(state, "ended") else Stage.READY
        iteration = saved
        if "data" in state:
            if self.by_epoch and state["data"]["epoch"] != epoch:
                raise ValueError(f"the data is at epoch {state['data']['epoch']}, but the run is at epoch {epoch}")
            iteration, batch = self._data_position.load_state_dict(state["data"], iteration, by_epoch=self.by_epoch)
        elif self.by_epoch:  # a checkpoint from another engine, which does not contain the length of an epoch
            batch = iteration - self._start_of(epoch)
            if not 0 <= batch <= len(self.dataloader):
                iteration, batch = self._start_of(epoch), 0
            elif batch:
                _logger.warning(
                    "The checkpoint is from another engine, so training continues after batch %d of epoch %d, as its "
                    "iteration number says. This is wrong if the epochs of the saved run had a different length.",
                    batch,
                    epoch + 1,
                )
        if not self.by_epoch:
            epoch, batch = self._place_of(iteration)
        self.runner.position = Position(iteration, epoch, batch, stage)
        if iteration != saved:
            _logger.warning(
                "The iteration is now %d instead of %d, because the batch size or the epoch length has changed. "
                "`footplate analyze` and `footplate report` rescale the earlier records, but `history` does not.",
                iteration,
                saved,
            )
        self._decide_current_val_interval()

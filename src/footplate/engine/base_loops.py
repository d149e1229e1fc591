"""The base classes of the loops."""

import copy
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import nn

from footplate.checks import check_accepts, check_count, read_count, read_flag
from footplate.data import build_dataloader, capture_rng, kill_workers, restore_rng
from footplate.data.position import DataPosition
from footplate.engine.hook import Phase
from footplate.engine.process_setup import keep_freed_memory
from footplate.engine.signals import InterruptedWaitError, answer_requests, save_after_data_error
from footplate.engine.state import check_optimizer_state, hook_states
from footplate.evaluation.validation_schedule import checked_intervals, interval_at, validation_is_due

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")


class ValidationLeftError(Exception):
    """Raised when a stop request ends a validation early. The resumed run validates again."""


class _BeforeValidation(NamedTuple):
    """The state from before a validation. A stop may end the validation early."""

    validated_at: int
    was_requested: bool
    random: dict[str, Any]
    hooks: dict[str, Any]


class BaseLoop:
    """The base class of all loops. A loop has a runner and a data loader.

    `calls` maps each method that the engine calls and a subclass may override to the names of its positional arguments.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the config dict of a loader.

    Raises:
        ArgumentError: An overridden method does not accept the arguments that the engine passes.
    """

    calls: ClassVar[dict[str, tuple[str, ...]]] = {"run": ()}
    in_progress = False

    def __init__(self, runner: "Runner", dataloader: Any) -> None:
        self._runner = runner
        for method, arguments in self.calls.items():
            if self.overrides(method):
                check_accepts(self, method, arguments)
        self.dataloader = build_dataloader(dataloader, seed=runner.seed)

    @property
    def runner(self) -> "Runner":
        """The runner that drives the loop."""
        return self._runner

    def run(self) -> Any:
        """Runs the loop once."""
        raise NotImplementedError(f"{type(self).__name__} does not define run()")

    def _describe_data(self, dataloader: Any) -> None:
        """Passes the metadata of the dataset, such as its classes, to the visualizer."""
        if (metainfo := getattr(getattr(dataloader, "dataset", None), "metainfo", None)) is not None:
            self._runner.visualizer.dataset_meta = metainfo

    def overrides(self, method: str) -> bool:
        """Checks whether a user's subclass overrides a method."""
        owner = next((kind for kind in type(self).__mro__ if method in vars(kind)), None)
        return owner is not None and not owner.__module__.startswith("footplate.engine.")


class BaseTrainLoop(BaseLoop):
    """The base class of the training loops. A subclass implements the generator `batches`.

    A hook that sets `validation_requested` makes the loop validate after the current iteration or epoch.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the config dict of a loader.
        val_begin: The first epoch or iteration after which to validate.
        val_interval: The number of epochs or iterations between two validations.
        dynamic_intervals: `[(milestone, interval), ...]`: each interval applies from its milestone on.
        max_hours: The time limit in hours. Training stops early enough for the last validation and the last save to
            finish within the limit. The run can be resumed.

    Attributes:
        out_of_time: Whether training was stopped because of `max_hours`.

    Raises:
        ArgumentError: A number is not positive.
    """

    by_epoch = True
    _max_iters: int  # set by subclasses, like `_max_epochs`
    _max_epochs: int
    calls: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": (),
        "run_iter": ("idx", "data_batch"),
        "_decide_current_val_interval": (),
    }

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        max_hours: float | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        if max_hours is not None:
            runner.hooks.build({"type": "TimeLimitHook", "max_hours": max_hours})
        self._describe_data(self.dataloader)
        self.val_begin = check_count("val_begin", val_begin, least=0)
        self.val_interval = check_count("val_interval", val_interval)
        changes = checked_intervals(dynamic_intervals or ())
        self.dynamic_milestones = [0, *(milestone for milestone, _ in changes)]
        self.dynamic_intervals = [val_interval, *(interval for _, interval in changes)]
        self.out_of_time = False
        self.validation_requested = False
        self.validating = False
        self._data = DataPosition(self.dataloader)
        self._iter = self._began_at = 0
        self._epoch = 0
        self._validated_at = 0
        # Whether the steps after the last iteration, such as its validation, are complete. None if unknown: checkpoints
        # of earlier versions do not contain this flag.
        self.ended: bool | None = False
        self._random_at_epoch_start: dict[str, Any] | None = None
        self._before_validation: _BeforeValidation | None = None
        self.hooks_to_save: dict[str, Any] | None = None  # hook states to save instead of the current ones
        self._unchecked: list[torch.optim.Optimizer] = []  # the optimizers that have no state yet
        self._own_run, self._own_epoch = self.overrides("run"), self.overrides("run_epoch")
        self._own_iter = self.overrides("run_iter")
        run_iter: Callable[..., None] = self.run_iter
        takes_index = "idx" in self.calls["run_iter"]
        self._iterate: Callable[[int, Any], None] = (
            run_iter if takes_index else lambda _, data_batch: run_iter(data_batch)
        )
        if self._own_run or self._own_epoch:
            self.run_iter = partial(self._run_own_iter, self.run_iter)  # type: ignore[method-assign]

    @property
    def iter(self) -> int:
        """The number of completed iterations."""
        return self._iter

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return self._epoch

    @property
    def max_iters(self) -> int:
        """The total number of iterations of the run."""
        return self._max_iters

    @property
    def max_epochs(self) -> int:
        """The total number of epochs of the run, or 1 if the run counts iterations."""
        return self._max_epochs

    @property
    def at_epoch_start(self) -> bool:
        """Whether the next epoch starts from its first batch, rather than in the middle after a resume."""
        return self._iter == 0

    @property
    def stop_training(self) -> bool:
        """Whether training ends after the current iteration or epoch.

        A hook may set it. With several ranks, it is True only once they have agreed, so it is the same on all ranks.
        """
        return self._runner.requests.stop_agreed

    @stop_training.setter
    def stop_training(self, wanted: bool) -> None:
        self._runner.requests.stop_wanted = wanted
        if self._runner.world_size == 1:
            self._runner.requests.stop_agreed = wanted

    @property
    def finished(self) -> bool:
        """Whether the run is complete, including everything that follows the last iteration."""
        if self._position < self._end:
            return False
        return not self._validation_is_due() if self.ended is None else self.ended

    def run(self) -> Any:
        """Trains from the current position to the end.

        Returns:
            The model.
        """
        runner = self.runner
        keep_freed_memory(runner.device)
        runner.call_hook("before_train")
        self._begin()
        stream = self._own_epochs() if self._own_epoch else self.batches()
        try:
            for batch_idx, data_batch in stream:
                if self._own_iter:
                    runner.phase = Phase.CUSTOM_STEP
                self._iterate(batch_idx, data_batch)
                runner.phase = Phase.OTHER
                del data_batch  # before the next one is requested: decision 025
                if runner.requests.pending:
                    try:
                        answer_requests(runner)
                    except BaseException:
                        if isinstance(stream, Generator):
                            stream.close()  # ends the workers too, which the traceback would keep alive
                        raise
        except InterruptedWaitError:
            self._save_instead_of_waiting()
        except Exception as error:
            self._save_if_data_failed(error)
            raise
        self.in_progress = False
        runner.call_hook("after_train")
        return runner.model

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Trains on one batch. A subclass may override it to change the iteration."""
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        for optimizer in self._unchecked:
            if optimizer.state:
                check_optimizer_state(optimizer)  # now rather than at the first save, which may be hours later
                self._unchecked = [each for each in self._unchecked if each is not optimizer]
        runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1
        runner.phase = Phase.OTHER

    def batches(self) -> Iterator[tuple[int, Any]]:
        """Yields the index and the batch of every remaining iteration. Validates between iterations when due."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Returns the iteration, the epoch and the validation state of the run.

        `data_state` returns the position in the data.
        """
        return {
            "iter": self._iter,
            "epoch": self._epoch,
            "validated_at": self._validated_at,
            "validation_requested": self.validation_requested,
            "ended": self.ended is True,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` and `data_state` returned. Training resumes from there."""
        self._iter, self._epoch = read_count(state, "iter"), read_count(state, "epoch")
        # Checkpoints of other engines lack this: assume that the validation at this position is done.
        state = {"validated_at": self._position, "validation_requested": False, **state}
        self._validated_at = read_count(state, "validated_at")
        self.validation_requested = read_flag(state, "validation_requested")
        self.ended = read_flag(state, "ended") if "ended" in state else None
        if "data" in state:
            if self.by_epoch and state["data"]["epoch"] != self._epoch:
                raise ValueError(f"the data is at epoch {state['data']['epoch']}, but the run is at {self._epoch}")
            done = self._data.load_state_dict(state["data"], self._iter)
            self._iter = done if self.by_epoch else self._iter

    def data_state(self, iteration: int, epoch: int) -> dict[str, Any]:
        """Returns the position in the data after `iteration` iterations and `epoch` epochs."""
        return self._data.state_dict(iteration, epoch if self.by_epoch else None)

    def save_within_validation(self) -> None:
        """Saves the run as it was before the current validation, and then continues the validation."""
        here, random = (self._validated_at, self.validation_requested), capture_rng()
        buffers = Buffers(self.runner.model)
        self._restore_before_validation()
        try:
            answer_requests(self.runner)
        finally:
            self._validated_at, self.validation_requested = here
            self.hooks_to_save = None
            buffers.restore()
            restore_rng(random)

    def end_early(self) -> None:
        """Stops training after the current iteration because of the time limit.

        The loop validates first, unless it has just done so.
        """
        self.stop_training = self._runner.requests.stop_agreed = self.out_of_time = True
        is_new = self._position != self._validated_at or (self.by_epoch and not self.at_epoch_start)
        self.validation_requested = is_new and self._runner.val_loop is not None
        _logger.info("The time limit is near. Training stops after iteration %d.", self._iter)

    def move_epoch_start(self) -> None:
        """Records the random state with which a run resumes if it stops before the first batch of this epoch."""
        self._random_at_epoch_start = capture_rng()

    @property
    def _position(self) -> int:
        return self._epoch if self.by_epoch else self._iter

    @property
    def _end(self) -> int:
        return self.max_epochs if self.by_epoch else self.max_iters

    def _begin(self) -> None:
        """Records the start position of the run. Called after the `before_train` hooks and before the first batch."""
        self.runner.restore_random_state()
        self.in_progress, self.ended, self._began_at = True, False, self._iter
        self._unchecked = [part.optimizer for part in self.runner.optim_wrapper.parts.values()]
        self._exchange_requests()
        self.hooks_to_save = None  # an earlier run that was stopped may have set them

    def _exchange_requests(self) -> None:
        """Makes all ranks stop if a hook of one of them has set `stop_training`."""
        if self._runner.world_size > 1:
            self._runner.requests.exchange(self._runner.device)

    def _save_instead_of_waiting(self) -> None:
        """Saves the run after a stop was requested while the loop waited for data."""
        self._restore_epoch_start()
        self._answer_and_end_workers()

    def _save_if_data_failed(self, error: Exception) -> None:
        """Saves the run if it was reading data when the error was raised."""
        phase = self.runner.phase
        # In any other phase, an iteration may be half done.
        if self._iter > self._began_at and phase in (Phase.DATA_LOADING, Phase.EVALUATION_DATA_LOADING):
            if phase is Phase.EVALUATION_DATA_LOADING:
                self._restore_before_validation()
            else:
                self._restore_epoch_start()
            save_after_data_error(self.runner, error)

    def _run_own_iter(self, run_iter: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Runs an iteration of an overridden `run` or `run_epoch`, and then answers stop and save requests."""
        if not self.in_progress:
            self._begin()
        self._check_resumed_data()
        self.runner.phase = Phase.CUSTOM_STEP
        run_iter(*args, **kwargs)
        self.runner.phase = Phase.OTHER
        if self.runner.requests.pending:
            answer_requests(self.runner)

    def _check_resumed_data(self) -> None:
        """Checks that a resumed run reads the correct batch. Called before each iteration of an overridden loop."""

    def _own_epochs(self) -> Iterator[tuple[int, Any]]:
        raise NotImplementedError

    def _answer_and_end_workers(self) -> None:
        try:
            answer_requests(self.runner)
        finally:  # the workers may hang, and the exit of the process would wait for them
            kill_workers([self.dataloader, self.runner.val_dataloader])

    def _restore_epoch_start(self) -> None:
        """Restores the random state from before the epoch if the epoch has not yet read its first batch."""
        if self._random_at_epoch_start is not None and self.at_epoch_start:
            restore_rng(self._random_at_epoch_start)

    def _restore_before_validation(self) -> None:
        before = self._before_validation
        assert before is not None  # set by `_validate`
        self._validated_at, self.validation_requested = before.validated_at, before.was_requested
        self.hooks_to_save = before.hooks
        buffers = getattr(self.runner.val_loop, "buffers", None)
        if buffers is not None:
            buffers.restore()
        restore_rng(before.random)

    def _continue_epoch(self) -> None:
        """Restores the random state from the checkpoint once the epoch-start hooks have run, and validates if due."""
        self.runner.restore_random_state()
        if self._validation_is_due():
            self._validate()

    def _validation_is_due(self) -> bool:
        if self._runner.val_loop is None:
            return False
        if self.validation_requested:
            return True
        done = self._position
        self._decide_current_val_interval()
        return done != self._validated_at and validation_is_due(done, self._end, self.val_begin, self.val_interval)

    def _decide_current_val_interval(self) -> None:
        """Sets `val_interval` to the interval that applies now. A subclass may override this method."""
        self.val_interval = interval_at(self._position, self.dynamic_milestones, self.dynamic_intervals)

    def _validate(self) -> None:
        self._before_validation = _BeforeValidation(
            self._validated_at, self.validation_requested, capture_rng(), copied_state(hook_states(self.runner))
        )
        # Set before the validation runs, so that a best checkpoint that it saves resumes after the validation.
        self._validated_at, self.validation_requested = self._position, False
        self.validating = True
        try:
            self.runner.phase = Phase.EVALUATION
            self.runner.val_loop.run()  # type: ignore[union-attr]  # due only if there is a loop
            self.runner.phase = Phase.OTHER
        except (ValidationLeftError, InterruptedWaitError):
            self._restore_before_validation()
            self._answer_and_end_workers()
        finally:
            self.validating = False
        if self.runner.requests.stop is not None:  # the validation had to be finished first
            self._answer_and_end_workers()
        self.runner.model.train()


def copied_state(value: Any) -> Any:
    """Returns a deep copy of a state. Tensors are detached, because `copy.deepcopy` rejects non-leaf tensors."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update((key, copied_state(each)) for key, each in value.items())
        return copied
    if type(value) in (list, tuple):
        return type(value)(map(copied_state, value))
    return copy.deepcopy(value)


class Buffers:
    """Copies the buffers of a model, to restore them later."""

    def __init__(self, model: nn.Module) -> None:
        self._held = [(each._buffers, dict(each._buffers)) for each in model.modules() if each._buffers]
        self._values = [(each, each.detach().clone()) for each in model.buffers()]

    def restore(self) -> None:
        """Restores the buffers."""
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        for held, before in self._held:
            held.update(before)

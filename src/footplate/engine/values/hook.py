"""Defines the hook base class and priorities."""

import enum
import inspect
import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from footplate.checkpoint import Saved
from footplate.checks import check_accepts, check_choice, is_integer
from footplate.engine.values.events import EVENTS
from footplate.engine.values.run import Run
from footplate.errors import ArgumentError
from footplate.messages import nearest

if TYPE_CHECKING:
    from torch import nn

_logger = logging.getLogger("footplate.engine")


_METHODS = frozenset({*EVENTS, *(event.shared for event in EVENTS.values() if event.shared)})


class Priority(enum.IntEnum):
    """Determines the order in which hooks run on an event. Hooks with lower values run first."""

    HIGHEST = 0
    VERY_HIGH = 10
    HIGH = 30
    ABOVE_NORMAL = 40
    NORMAL = 50
    BELOW_NORMAL = 60
    LOW = 70
    VERY_LOW = 90
    LOWEST = 100


def get_priority(priority: int | str | Priority) -> int:
    """Converts a priority to a number.

    Raises:
        ArgumentError: The name is unknown, or the number is not between 0 and 100.
    """
    if isinstance(priority, str):
        return Priority[check_choice("priority", priority.upper(), Priority.__members__)].value
    if not is_integer(priority) or not 0 <= priority <= 100:
        raise ArgumentError("'priority' must be a name or an integer from 0 to 100", key="priority", found=priority)
    return int(priority)


class Hook:
    """Base class for all hooks, with one method per event of a run. By default, these methods do nothing.

    A run calls the methods in the following order. For each event, hooks run in order of priority::

        (after_load_checkpoint)
        before_run
          before_train
            before_train_epoch
              before_train_iter(batch_idx, data_batch)
              after_train_iter(batch_idx, data_batch, outputs)
            after_train_epoch
            before_val  before_val_epoch  (before_val_iter  after_val_iter)*  after_val_epoch(metrics)  after_val
            after_validation
          after_train
        after_run

    To handle training, validation and test in the same way, override `_before_epoch`, `_after_epoch`, `_before_iter` or
    `_after_iter`, which receive the `mode`. Only overridden methods are called.

    In `before_train_iter` and `after_train_iter`, the current iteration, counted from 1, is `runner.iter + 1`. In these
    methods, `before_train_epoch` and `after_train_epoch`, the current epoch is `runner.epoch + 1`. The methods
    `every_n_train_iters`, `every_n_epochs`, `is_last_train_iter` and `is_last_train_epoch` use these numbers. In other
    hook methods, for example in validation, use `runner.completed`; see `BaseTrainLoop`.

    Example:
        >>> from footplate import HOOKS, Hook
        >>> @HOOKS.register_module()
        ... class StopAfterFiveEpochs(Hook):
        ...     priority = "LOW"
        ...     def after_train_epoch(self, runner):
        ...         if runner.epoch + 1 == 5:
        ...             runner.train_loop.stop_training = True
    """

    stages: ClassVar[tuple[str, ...]] = tuple(EVENTS)
    """The names of all events."""
    priority: int | str = "NORMAL"
    """A name or number that determines when the hook runs on an event; see `Priority`."""
    acts_last = False
    """Whether the hook runs after all hooks without this flag, regardless of priority.

    Required for hooks that save the run.
    """
    sets_predictor = False
    """Whether the hook sets `predictor` of a validation or test loop in `before_run`."""
    sets_mode = False
    """Whether `before_train_epoch` may change the mode of modules.

    In an epoch-based run with such a hook, the loop does not set the model to training mode again after these hooks.
    """
    reads_gradients = False
    """Whether the hook reads gradients after the step, so that they are only cleared before the next backward pass."""
    is_of_user = False
    """Whether the hook calls functions of the user, although its class is defined in footplate.

    `footplate check` then runs it, as it runs hooks of the user.
    """

    def before_run(self, runner: Run) -> None:
        """Called once, at the start of a run. `Runner.val` and `Runner.test` are separate runs."""

    def after_run(self, runner: Run) -> None:
        """Called once, at the end of a run. Not called if the run fails or is stopped by a signal; see `before_run`."""

    def before_train(self, runner: Run) -> None:
        """Called before the first training iteration."""

    def after_train(self, runner: Run) -> None:
        """Called after the last training iteration and the validation that follows it, unless training fails."""

    def before_val(self, runner: Run) -> None:
        """Called before a validation run."""

    def after_val(self, runner: Run) -> None:
        """Called after a validation run."""

    def before_test(self, runner: Run) -> None:
        """Called before a test run."""

    def after_test(self, runner: Run) -> None:
        """Called after a test run."""

    def before_save_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Called with the checkpoint that is about to be saved. The hook may modify it."""

    def after_save_checkpoint(self, runner: Run, saved: Saved) -> None:
        """Called when a save has ended, in the main thread: after an iteration, or before the next save.

        `saved` contains the path and the error, if any. With several processes, only rank 0 calls the hooks, except if
        all of them have noticed that the checkpoint cannot be saved.
        """

    def after_validation(self, runner: Run) -> None:
        """Called after a validation run of the training loop, when the saves that it has led to have started."""

    def after_load_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Called with a loaded checkpoint before it is used. The hook may modify it.

        `runner.activity.is_resuming` is True if the run resumes from it, and does not only load its weights.
        """

    def before_train_epoch(self, runner: Run) -> None:
        """Called before each epoch, also when a run resumes mid-epoch.

        In iteration-based training, called once, when training starts or resumes.
        """
        self._before_epoch(runner, mode="train")

    def before_val_epoch(self, runner: Run) -> None:
        """Called before the first batch of a validation run."""
        self._before_epoch(runner, mode="val")

    def before_test_epoch(self, runner: Run) -> None:
        """Called before the first batch of a test run."""
        self._before_epoch(runner, mode="test")

    def after_train_epoch(self, runner: Run) -> None:
        """Called after each epoch, before `runner.epoch` is incremented.

        In iteration-based training, called once, when training ends.
        """
        self._after_epoch(runner, mode="train")

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Called after the last batch of a validation run, with its metrics."""
        self._after_epoch(runner, mode="val")

    def after_test_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Called after the last batch of a test run, with its metrics."""
        self._after_epoch(runner, mode="test")

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Called before each training iteration."""
        self._before_iter(runner, batch_idx=batch_idx, data_batch=data_batch, mode="train")

    def before_val_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Called before each validation batch."""
        self._before_iter(runner, batch_idx=batch_idx, data_batch=data_batch, mode="val")

    def before_test_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Called before each test batch."""
        self._before_iter(runner, batch_idx=batch_idx, data_batch=data_batch, mode="test")

    def after_train_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Called after each training iteration. `outputs` contains the losses, which are still on the device."""
        self._after_iter(runner, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs, mode="train")

    def after_val_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Called after each validation batch. `outputs` contains the predictions."""
        self._after_iter(runner, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs, mode="val")

    def after_test_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Called after each test batch. `outputs` contains the predictions."""
        self._after_iter(runner, batch_idx=batch_idx, data_batch=data_batch, outputs=outputs, mode="test")

    def _before_epoch(self, runner: Run, mode: str = "train") -> None:
        """Called before each training epoch, validation run and test run."""

    def _after_epoch(self, runner: Run, mode: str = "train") -> None:
        """Called after each training epoch, validation run and test run."""

    def _before_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        """Called before each training, validation and test batch."""

    def _after_iter(
        self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        """Called after each training, validation and test batch."""

    def every_n_epochs(self, runner: Run, n: int, start: int = 0) -> bool:
        """Checks whether the current epoch, counted from 1, is `start`, `start + n`, ... Returns False if `n` <= 0."""
        epoch = runner.epoch + 1
        return n > 0 and epoch >= start and (epoch - start) % n == 0

    def every_n_inner_iters(self, batch_idx: int, n: int) -> bool:
        """Checks whether `batch_idx + 1` is a multiple of `n`. Returns False if `n` <= 0."""
        return n > 0 and (batch_idx + 1) % n == 0

    def every_n_train_iters(self, runner: Run, n: int, start: int = 0) -> bool:
        """Checks whether the current iteration, counted from 1, is `start`, `start + n`, ... False if `n` <= 0."""
        iteration = runner.iter + 1
        return n > 0 and iteration >= start and (iteration - start) % n == 0

    def end_of_epoch(self, dataloader: Any, batch_idx: int) -> bool:
        """Checks whether `batch_idx` is the index of the loader's last batch. Kept from MMEngine."""
        return batch_idx + 1 == len(dataloader)

    def is_last_train_epoch(self, runner: Run) -> bool:
        """Checks whether the current epoch is the last one."""
        return runner.epoch + 1 == runner.max_epochs

    def is_last_train_iter(self, runner: Run) -> bool:
        """Checks whether the current iteration is the last one."""
        return runner.iter + 1 == runner.max_iters

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the methods to call, keyed by event.

        A method may omit event arguments that it does not need.

        Raises:
            ArgumentError: The signature of a method does not match its event.
        """
        own = _overridden(self)
        methods = {
            event: _checked_method(self, event, is_own=event in own)
            for event, (_, shared, _) in EVENTS.items()
            if event in own or shared in own
        }
        for event in EVENTS.values():
            if event.mode == "train":  # the shared methods take the same arguments in all modes
                check_accepts(self, event.shared, ("runner",), keywords=(*event.arguments, "mode"))
        for name in sorted(set(dir(type(self))) - set(dir(Hook))):
            if name.startswith(("before_", "after_", "on_")) and (near := similar_event(name)):
                _logger.warning("%s.%s is never called: did you mean %s?", type(self).__name__, name, near)
        return methods

    # The following methods are not events. `idle_settings.py` and `preflight.py` call `check_metrics`, and `state.py`
    # calls `state_dict` and `load_state_dict`.

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Raises an ArgumentError if the hook needs a metric that validation does not compute."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that a resumed run needs. Most hooks have no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""

    @classmethod
    def get_triggered_stages(cls) -> list[str]:
        """Returns the events that the hook handles, in the order of `stages`. Kept from MMEngine."""
        own = _overridden(cls)
        return [event for event, (_, shared, _) in EVENTS.items() if event in own or shared in own]


class SavingHook(Hook):
    """Base class for hooks that save the run's checkpoints."""

    acts_last = True

    def folder_in(self, runner: Run) -> str:
        """Returns the folder where the hook saves the run's checkpoints."""
        raise NotImplementedError

    def adapt_to_loop(self, runner: Run) -> None:
        """Adapts the hook's settings to the training loop. Called each time training starts, before `before_run`."""

    def paths_to_overwrite(self, runner: Run) -> list[str]:
        """Returns the paths of existing checkpoints that the run would overwrite. Called before training."""
        raise NotImplementedError


class SwappingHook(Hook):
    """Base class for hooks that swap the model's weights for validation, test and checkpoints. A run can have only one.

    When a run resumes, the hook restores the training weights. Despite its name, `ema_state_dict` contains them.
    """

    @property
    def average(self) -> "nn.Module | None":
        """The averaged model, if there is one, whose weights are checked before a save."""
        return None

    def restore_weights(self, runner: Run) -> None:
        """Restores the training weights in the model if the hook has swapped them out.

        Called at the end of each phase (see `Runner.phase`), even after an error.
        """

    def reset_average(self, runner: Run) -> None:
        """Resets the averaged weights to the model's weights, unless they were restored because the run resumes.

        Called after weights are loaded.
        """


class FunctionHook(Hook):
    """Calls a function on one event; see `Runner.on`.

    On "after_val_epoch" and "after_test_epoch", the function is called before hooks of priority "NORMAL", such as
    EMAHook, so the model still has the averaged weights.

    Args:
        event: The event, e.g. "after_train_epoch".
        function: A function that takes the runner and, optionally, the event's arguments by name.

    Raises:
        ArgumentError: The event is unknown, or `function` is not callable.
    """

    is_of_user = True

    def __init__(self, event: str, function: Callable[..., Any]) -> None:
        if event not in EVENTS:
            near = similar_event(event)
            notes = [] if near else [f"events: {', '.join(EVENTS)}"]
            raise ArgumentError(f"unknown event '{event}'", key="event", suggestion=near, notes=notes)
        if not callable(function):
            raise ArgumentError(f"the handler for '{event}' is not callable", found=function)
        if event in ("after_val_epoch", "after_test_epoch"):
            self.priority = "ABOVE_NORMAL"
        setattr(self, event, function)
        # Logs and errors contain the name of a hook's class.
        self.__class__ = type(getattr(function, "__name__", type(function).__name__), (type(self),), {})


def similar_event(name: str) -> str | None:
    """Translates another engine's event name, or returns the most similar event, or None if no event is similar."""
    if name in ("on_after_backward", "on_before_optimizer_step"):  # Lightning's; such hooks would slow down each step
        return "optimizer.register_step_pre_hook"
    if re.search("exception|error|fail", name):
        return "try/except around runner.train()"
    name = name.replace("fit", "train")
    for end, when in (("_start", "before_"), ("_begin", "before_"), ("_end", "after_")):
        if name.startswith("on_") and name.endswith(end):
            middle = name.removeprefix("on_").removesuffix(end)
            name = when + middle.replace("batch", "iter").replace("validation", "val")
    return name if name in EVENTS else nearest(name, EVENTS)


def _overridden(hook: Hook | type[Hook]) -> set[str]:
    """Returns the names of the methods of events, and of those that events share, which a hook overrides."""
    methods = {name: getattr(hook, name) for name in _METHODS}
    return {name for name, method in methods.items() if getattr(method, "__func__", method) is not getattr(Hook, name)}


def _checked_method(hook: Hook, event: str, *, is_own: bool) -> Callable[..., Any]:
    """Returns the hook's method for an event, wrapped to drop event arguments that the method does not take.

    `is_own` specifies whether the hook overrides it, rather than a method that events share.
    """
    method: Callable[..., Any] = getattr(hook, event)
    arguments, shared, mode = EVENTS[event]
    if not is_own and "metrics" not in arguments:  # which the shared methods do not take
        return partial(getattr(hook, shared), mode=mode)  # saves one call: the default method only calls the shared one
    parameters = inspect.signature(method).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    taken = tuple(name for name in arguments if takes_all or name in parameters)
    check_accepts(hook, event, ("runner",), keywords=taken, expected=("runner", *arguments))
    for name in parameters:
        near = None if name in ("runner", *arguments) else nearest(name, arguments)
        if near:  # the argument would always keep its default value
            raise ArgumentError(f"{type(hook).__name__}.{event} has an unknown argument '{name}'", suggestion=near)
    if taken == arguments:
        return method

    def call(runner: Run, **values: Any) -> Any:
        return method(runner, **{name: values[name] for name in taken if name in values})

    return call

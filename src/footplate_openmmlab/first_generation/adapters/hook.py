"""The base class for first-generation hooks, and optimizer wrappers for optimizers stepped by a hook or the model."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from footplate.checks import check_choice
from footplate.engine import Hook as EngineHook
from footplate.engine import Runner
from footplate.engine.values.hook import Priority, get_priority
from footplate.errors import ArgumentError, CheckpointError
from footplate.hooks import LoggerHook
from footplate.optim import OptimWrapper
from footplate.registry import HOOKS, OPTIM_WRAPPERS
from footplate.weighted import Weighted
from footplate_openmmlab.first_generation.adapters.runner_view import RunnerView, view_of
from footplate_openmmlab.mmengine.dist import allreduce_params

_logger = logging.getLogger("footplate.openmmlab.first_generation")

# Maps each first-generation event to the general event that its method calls by default, or to itself.
GENERAL = {
    "before_run": "before_run",
    "before_train_epoch": "before_epoch",
    "before_train_iter": "before_iter",
    "after_train_iter": "after_iter",
    "after_train_epoch": "after_epoch",
    "before_val_epoch": "before_epoch",
    "before_val_iter": "before_iter",
    "after_val_iter": "after_iter",
    "after_val_epoch": "after_epoch",
    "after_run": "after_run",
}


class Hook(EngineHook):
    """Base class for first-generation hooks, whose methods take the runner as their only argument.

    `before_epoch`, `after_epoch`, `before_iter` and `after_iter` are called in training phases and in the validation
    phases of a workflow. An iteration-based run calls `before_epoch` and `after_epoch` only once, and does not call
    `before_train_epoch` and `after_train_epoch`.

    Example:
        >>> class LossLogger(Hook):
        ...     def after_train_iter(self, runner):
        ...         if self.every_n_iters(runner, 100):
        ...             runner.logger.info("%s", runner.outputs["loss"])
    """

    stages = tuple(GENERAL)
    sets_mode = reads_gradients = True
    # Whether a hook with a priority lower than LOW handles the end of an iteration or epoch after validation. MMCV
    # validates in a hook with the priority LOW, so that later hooks can read the metrics.
    waits_for_validation = True
    is_of_user = True  # the callbacks call methods of user-defined hooks

    def before_run(self, runner: Any) -> None:
        """Called once at the start of the run."""

    def after_run(self, runner: Any) -> None:
        """Called once at the end of the run."""

    def before_epoch(self, runner: Any) -> None:
        """Called before each training or validation epoch."""

    def after_epoch(self, runner: Any) -> None:
        """Called after each training or validation epoch."""

    def before_iter(self, runner: Any) -> None:
        """Called before each training or validation iteration."""

    def after_iter(self, runner: Any) -> None:
        """Called after each training or validation iteration."""

    def before_train_epoch(self, runner: Any) -> None:
        """Called before each training epoch."""
        self.before_epoch(runner)

    def before_val_epoch(self, runner: Any) -> None:
        """Called before each validation epoch of a workflow."""
        self.before_epoch(runner)

    def after_train_epoch(self, runner: Any) -> None:
        """Called after each training epoch."""
        self.after_epoch(runner)

    def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
        """Called after each validation epoch of a workflow."""
        self.after_epoch(runner)

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Called before each training iteration."""
        self.before_iter(runner)

    def before_val_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Called before each validation iteration of a workflow."""
        self.before_iter(runner)

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Called after each training iteration."""
        self.after_iter(runner)

    def after_val_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Called after each validation iteration of a workflow."""
        self.after_iter(runner)

    def every_n_epochs(self, runner: Any, n: int, start: int = 0) -> bool:
        """Checks whether the current epoch (counted from 1) is a multiple of `n`. Ignores `start`."""
        return n > 0 and bool((runner.epoch + 1) % n == 0)

    def every_n_inner_iters(self, runner: Any, n: int) -> bool:
        """Checks whether the current iteration within the epoch (counted from 1) is a multiple of `n`."""
        return n > 0 and bool((runner.inner_iter + 1) % n == 0)

    def every_n_iters(self, runner: Any, n: int) -> bool:
        """Checks whether the current iteration of the run (counted from 1) is a multiple of `n`."""
        return n > 0 and bool((runner.iter + 1) % n == 0)

    def end_of_epoch(self, runner: Any, batch_idx: int | None = None) -> bool:
        """Checks whether the current iteration is the last one in the epoch. Ignores `batch_idx`."""
        return bool(runner.inner_iter + 1 == len(runner.data_loader))

    def is_last_epoch(self, runner: Any) -> bool:
        """Checks whether the current epoch is the last one."""
        return bool(runner.epoch + 1 == runner.max_epochs)

    def is_last_iter(self, runner: Any) -> bool:
        """Checks whether the current iteration is the last one of the run."""
        return bool(runner.iter + 1 == runner.max_iters)

    def get_triggered_stages(self) -> list[str]:  # type: ignore[override]
        """Returns the events that the hook handles, in the order of `stages`."""
        return [event for event in GENERAL if _handles(self, event)]

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the hook's callbacks, keyed by event. Each callback passes a runner view to a method of the hook."""
        # WorkflowHook triggers the validation events, and the engine triggers the others.
        found = {event: _with_view(self, event) for event in GENERAL if "val" not in event and _handles(self, event)}
        if "after_train_iter" in found or "after_train_epoch" in found:
            found.setdefault("before_train_iter", _with_view(self, "before_train_iter"))
        if self.waits_for_validation and get_priority(self.priority) > Priority.LOW:
            found = found | _after_validation(self, found)
        if "after_train_iter" in found and get_priority(self.priority) < Priority.ABOVE_NORMAL:
            before_run = _with_view(self, "before_run")

            def warn_about_step_order(runner: Runner) -> None:
                if not isinstance(runner.optim_wrapper, SteppedByHook):
                    _logger.warning(
                        "%s has a higher priority than the optimizer, but its after_train_iter runs after "
                        "optimizer.step().",
                        type(self).__name__,
                    )
                before_run(runner)

            found["before_run"] = warn_about_step_order
        if "EMA" in type(self).__name__ and "before_run" in found:
            found |= _with_saved_averages(self, found["before_run"])
        return found


@HOOKS.register_module()
class ClosureHook(Hook):
    """Calls a function whenever a given event occurs.

    Args:
        fn_name: The event, such as `after_train_iter`.
        fn: A function that takes the runner.

    Raises:
        ArgumentError: The event is unknown.
    """

    def __init__(self, fn_name: str, fn: Callable[[Any], Any]) -> None:
        check_choice("fn_name", fn_name, sorted({*GENERAL, *GENERAL.values()}))
        setattr(self, fn_name, fn)


def _handles(hook: Hook, event: str) -> bool:
    names = (event, GENERAL[event])
    return any(name in vars(hook) or getattr(type(hook), name) is not getattr(Hook, name) for name in names)


def _with_view(hook: Hook, event: str) -> Callable[..., Any]:
    """Returns a callback that passes a view of the runner to the hook's method for an event."""
    method = getattr(hook, event)
    general = getattr(hook, GENERAL[event])
    is_epoch = event.endswith("_epoch")

    def call(runner: Runner, **arguments: Any) -> None:
        view = view_of(runner)
        view.set_training_event(event, arguments)
        _run(general if is_epoch and not runner.train_loop.by_epoch else method, view, event)
        if event == "before_train_iter":
            view.save_rates()

    return call


def _run(method: Callable[[RunnerView], Any], view: RunnerView, event: str) -> None:
    """Calls a hook's method for an event, and records the values that it assigns to `log_buffer.output`.

    Values assigned after an epoch are validation metrics. After an iteration, they are if the hook marks the buffer as
    ready and it does not contain training averages, which include the time. Metrics are logged at once.
    """
    method(view)
    runner, buffer = view.engine, view.log_buffer
    if runner is None or not buffer.output.assigned:
        return
    values, buffer.output.assigned = buffer.output.assigned, {}
    ends_iter = event == "after_train_iter" and buffer.ready and "time" not in buffer.output
    if view.late_event or not (ends_iter or event == "after_train_epoch"):
        buffer.update(values)
        return
    view.mode = "val"
    for scalar in runner.message_hub.scalars_of("val").values():
        scalar.mark()  # the log line contains only new values
    buffer.update(values)
    for hook, log in runner.hooks.at("after_val_epoch"):
        if isinstance(hook, (LoggerHook, Hook)):  # of the first-generation hooks, only loggers handle this event
            log(runner, metrics=values)
    view.mode, buffer.ready = "train", False


def _after_validation(hook: Hook, listeners: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Returns callbacks that delay the end-of-iteration and end-of-epoch methods until a due validation run is over."""
    ends = listeners.keys() & {"after_train_iter", "after_train_epoch"}

    def validates_next(runner: Runner) -> bool:
        loop = runner.train_loop
        if runner.val_loop is None or loop.at_epoch_end:
            return False
        return loop.validation_requested or loop.validation_is_due()

    def call_or_wait(event: str, runner: Runner, **arguments: Any) -> None:
        if validates_next(runner):
            view = view_of(runner)
            view.set_training_event(event, arguments)
            view.awaiting_validation = event
        else:
            listeners[event](runner, **arguments)

    def before_train(runner: Runner) -> None:
        loop = runner.train_loop
        if loop.iter and validates_next(runner):  # the run was saved just before a validation
            ends_epoch = loop.by_epoch and loop.at_start
            view_of(runner).awaiting_validation = "after_train_epoch" if ends_epoch else "after_train_iter"

    def after_validation(runner: Runner) -> None:  # the best checkpoint is saved first
        view = view_of(runner)
        if (event := view.awaiting_validation) in ends:
            _run_after_validation(hook, view, event)

    late = {end: partial(call_or_wait, end) for end in ends}
    return {"before_train": before_train, "after_validation": after_validation, **late}


def _run_after_validation(hook: Hook, view: RunnerView, event: str) -> None:
    """Calls a hook's method for a training event that was delayed until after validation.

    During the call, `log_buffer.output` contains the validation metrics.
    """
    view.awaiting_validation = ""
    view.set_training_event(event, {}, is_late=True)
    view.log_buffer.replace_output(view.val_loop.metrics)
    try:
        _run(getattr(hook, event), view, event)
    finally:
        view.late_event = ""
        view.log_buffer.clear()
    view.requests.exchange()  # the hook may have requested a stop


def _with_saved_averages(hook: Hook, before_run: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Returns callbacks that restore the averaged weights of a hook such as MMDetection's EMA hook in a resumed run.

    The averages are model buffers named `ema_...`. The hook's `before_run` creates them only after the checkpoint has
    been loaded.
    """
    averages: dict[str, Tensor] = {}

    def after_load_checkpoint(runner: Runner, checkpoint: dict[str, Any]) -> None:
        if runner.activity.is_resuming:
            weights, known = checkpoint["state_dict"], runner.unwrapped_model.state_dict()
            names = [name for name in weights if name.startswith("ema_") and name not in known]
            averages.update((name, weights.pop(name)) for name in names)

    def restore(runner: Runner) -> None:
        before_run(runner)
        if unknown := runner.unwrapped_model.load_state_dict(averages, strict=False).unexpected_keys:
            message = f"{type(hook).__name__} does not create buffers for these saved averages"
            raise CheckpointError(message, found=unknown)
        loop = runner.train_loop
        if averages and loop.by_epoch and not loop.at_start:
            # before_train_epoch is about to be called again. It swaps weights and averages, so swap them first.
            hook.after_train_epoch(view_of(runner))
        averages.clear()

    return {"after_load_checkpoint": after_load_checkpoint, "before_run": restore}


def call_hooks(view: RunnerView, event: str) -> None:
    """Calls the run's first-generation hooks for an event, in order of priority."""
    for hook in view.hooks:
        if isinstance(hook, Hook):
            _run(getattr(hook, event), view, event)


@OPTIM_WRAPPERS.register_module()
class SteppedByHook(OptimWrapper):
    """Optimizer wrapper for runs where a user-defined hook steps the optimizer.

    Attributes:
        pending_loss: The current iteration's loss, still attached to its autograd graph. Hooks read it as
            `runner.outputs["loss"]`.
        precision: The autocast dtype for the forward pass, or None to use the model's own precision.
    """

    pending_loss: Tensor | None = None
    precision: torch.dtype | None = None
    _iteration_groups: Sequence[dict[str, Any]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with suppress(AttributeError):  # an optimizer that does not call `Optimizer.__init__`, as many Lookaheads
            self.optimizer.register_step_post_hook(self._record_step)

    def _record_step(self, *_: Any) -> None:
        self._called_backward = self._called_zero_grad = False
        self._clears_between_steps = True  # hooks clear the gradients before the next loss

    def update_params(self, loss: Tensor | Weighted, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Stores the loss and the current parameter group settings for the hook.

        Raises:
            ArgumentError: The loss is `Weighted`, and the hook does not support weights.
        """
        if isinstance(loss, Weighted):
            notes = ["Return the loss without a weight, or replace the optimizer hook with optim_wrapper."]
            raise ArgumentError("a hook that steps the optimizer does not support weighted losses", notes=notes)
        data_parallel = self.data_parallel
        self.pending_loss = loss if data_parallel is None else data_parallel.prepare_backward(loss, True)
        self._called_backward = True  # the hook is about to call it
        self._iteration_groups = [dict(group) for group in self.param_groups]

    @contextmanager
    def iteration_settings(self) -> Iterator[None]:
        """Restores the current iteration's parameter group settings for the duration of the block.

        Schedules change the settings right after the loss is computed, but the hook steps the optimizer later.
        """
        scheduled = []
        for group, before in zip(self.param_groups, self._iteration_groups, strict=True):
            scheduled.append({name: group[name] for name in before if group[name] is not before[name]})
            group.update(before)
        yield
        for group, changes in zip(self.param_groups, scheduled, strict=True):
            group.update(changes)

    def optim_context(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Returns the context manager for the forward pass."""
        if self.precision is None:
            return super().optim_context(model)
        return torch.autocast(next(model.parameters()).device.type, self.precision)


@OPTIM_WRAPPERS.register_module()
class SteppedByModel(OptimWrapper):
    """Optimizer wrapper for models whose `train_step` steps the optimizer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optimizer.register_step_pre_hook(self._average_gradients)

    def _average_gradients(self, *_: Any) -> None:
        if self.data_parallel is not None:  # DDP does not average gradients if the model runs the backward pass
            allreduce_params([each.grad for each in self.parameters() if each.grad is not None])

    def update_params(self, loss: Tensor | Weighted | None, step_kwargs: Any = None, zero_kwargs: Any = None) -> None:
        """Does nothing, because the model has already stepped the optimizer."""

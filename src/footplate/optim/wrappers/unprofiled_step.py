"""Steps an optimizer without torch's profiler entry if no profiler is active."""

import inspect
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from footplate.errors import ArgumentError, FootplateError

# The code of the function that torch wraps around `step` of each optimizer class, for profiling and hooks.
_PROFILE_WRAPPER = Optimizer.profile_hook_step(lambda optimizer: None).__code__


def unprofiled_step(optimizer: Optimizer) -> Callable[..., Any]:
    """Returns the optimizer's `step` method, bypassing the profiling wrapper if the wrapper would have no effect.

    The wrapper opens and closes a profiler entry even if no profiler is active. This takes a tenth of the time of one
    iteration with a small model. The wrapper is kept if a profiler is active, if there are hooks, or if `step` was
    wrapped by something else.
    """
    step: Any = optimizer.step
    function: Any = getattr(step, "__func__", None)
    own_hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    global_hooks = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    is_observed = own_hooks or global_hooks or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    if is_observed or getattr(function, "__code__", None) is not _PROFILE_WRAPPER:
        return step  # type: ignore[no-any-return]
    return MethodType(function.__wrapped__, optimizer)


def raise_if_unusable(optimizer: Optimizer, error: Exception, arguments: Mapping[str, Any]) -> None:
    """Raises a clear error if a failed step means that the optimizer cannot train this model.

    Args:
        optimizer: The optimizer.
        error: The exception that its step raised.
        arguments: The arguments of the step.

    Raises:
        ArgumentError: The optimizer needs a closure, or does not support the kind of gradients or parameters. For an
            optimizer of `pytorch_optimizer`, also if its step raised another error.
    """
    if isinstance(error, (FootplateError, OSError, MemoryError)):  # of the run or of the machine
        return
    name = type(optimizer).__name__
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    # NoClosureError is compared by name, because its package is optional.
    needs_closure = closure is not None and closure.default is closure.empty
    if (needs_closure or type(error).__name__ == "NoClosureError") and "closure" not in arguments:
        raise ArgumentError(
            f"the optimizer {name} needs a closure that recomputes the loss, but training does not pass one",
            key="optim_wrapper.optimizer.type",
            found=name,
            notes=["Use a different optimizer, or pass step_kwargs=dict(closure=...) in your own train_step."],
        ) from error
    # The message is about sparse or dense gradients, or complex parameters.
    if isinstance(error, (TypeError, RuntimeError)) and "does not support" in str(error):
        raise ArgumentError(str(error), key="optim_wrapper.optimizer.type", found=name) from error
    if type(optimizer).__module__.startswith("pytorch_optimizer.") and not isinstance(error, RuntimeError):
        raise ArgumentError(
            f"the optimizer {name} cannot train this model: {type(error).__name__}: {error}",
            key="optim_wrapper.optimizer.type",
            found=name,
        ) from error

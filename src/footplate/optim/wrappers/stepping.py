"""An optimizer's step without its entry in a profile, as long as nobody looks."""

import inspect
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from footplate.errors import ArgumentError

# What torch puts around the `step` of each class of optimizers: the entry, and the calls of hooks.
_AROUND = Optimizer.profile_hook_step(lambda optimizer: None).__code__


def step_of(optimizer: Optimizer) -> Callable[..., Any]:
    """Returns what takes a step of the optimizer.

    Torch opens and closes an entry around each step also where no profiler is at work, which takes a tenth of an
    iteration of a small model. Without a profiler and without hooks the step inside is called. Whatever else stands
    around it, somebody has put there.

    Args:
        optimizer: The optimizer.
    """
    step: Any = optimizer.step
    around: Any = getattr(step, "__func__", None)
    own = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    of_all = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    is_watched = own or of_all or torch.autograd._profiler_enabled()  # type: ignore[attr-defined]
    if is_watched or getattr(around, "__code__", None) is not _AROUND:
        return step  # type: ignore[no-any-return]
    return MethodType(around.__wrapped__, optimizer)


def refuse_step(optimizer: Optimizer, error: Exception, arguments: Mapping[str, Any]) -> None:
    """Raises the error of a step again if the optimizer cannot train this model; does nothing for other errors.

    Args:
        optimizer: The optimizer.
        error: What its step raised.
        arguments: The arguments of the step.

    Raises:
        ArgumentError: The optimizer needs a closure, or takes no gradients or parameters of this kind.
    """
    name = type(optimizer).__name__
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty and "closure" not in arguments:
        raise ArgumentError(
            f"the optimizer {name} needs a closure that computes the loss again, and training passes none",
            key="optim_wrapper.optimizer.type",
            found=name,
            notes=["Use another optimizer, or pass step_kwargs=dict(closure=...) in a train_step of your own."],
        ) from error
    if "does not support" in str(error):  # sparse or dense gradients, complex parameters
        raise ArgumentError(str(error), key="optim_wrapper.optimizer.type", found=name) from error

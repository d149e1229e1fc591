"""An optimizer's step without its entry in a profile, as long as nobody looks."""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

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

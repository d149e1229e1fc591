"""Turns the gradient synchronization between ranks off during gradient accumulation."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

Context = AbstractContextManager[Any]
NO_CONTEXT: Context = nullcontext()


def gradient_sync_switches(model: nn.Module) -> tuple[Callable[[], Context], Callable[[], None] | None]:
    """Returns two functions that turn the gradient synchronization of `model` off and on.

    The first one returns a context for the forward pass. DistributedDataParallel synchronizes again after a forward
    pass outside of this context. A sharded model does not synchronize until the second function is called. For other
    models the second one is None.

    Call this once per model: looking up a missing attribute of a module takes as long as running a small layer.
    """
    no_sync: Callable[[], Context] | None = getattr(model, "no_sync", None)
    if no_sync is not None:
        return no_sync, None
    toggle: Callable[[bool], None] | None = getattr(model, "set_requires_gradient_sync", None)
    if toggle is None:
        return (lambda: NO_CONTEXT), None

    def turn_off() -> Context:
        toggle(False)
        return NO_CONTEXT

    return turn_off, lambda: toggle(True)

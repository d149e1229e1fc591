"""Holding back the exchange of gradients between ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

Context = AbstractContextManager[Any]
NOTHING: Context = nullcontext()


def syncing_of(model: nn.Module) -> tuple[Callable[[], Context], Callable[[], None] | None]:
    """Returns what has `model` keep its gradients to itself, and what ends that.

    The first gives the context of the forward pass; NOTHING where there is no one to tell, or where what it did holds
    until the second is called, since the backward pass lies behind that context. None where there is nothing to end.

    A wrapper asks once: that a model has no such method takes as long to find out as a small layer to compute.
    """
    no_sync: Callable[[], Context] | None = getattr(model, "no_sync", None)
    if no_sync is not None:
        return no_sync, None
    toggle: Callable[[bool], None] | None = getattr(model, "set_requires_gradient_sync", None)
    if toggle is None:
        return (lambda: NOTHING), None

    def begin() -> Context:
        toggle(False)
        return NOTHING

    return begin, lambda: toggle(True)

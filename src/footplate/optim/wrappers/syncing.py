"""Holding back the exchange of gradients between ranks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn

Context = AbstractContextManager[Any]
NOTHING: Context = nullcontext()


def syncing_of(model: nn.Module) -> Callable[[], Context]:
    """Returns what gives the context in which `model` keeps its gradients to itself; NOTHING where it tells no one.

    A wrapper asks once: that a model has no such method takes as long to find out as a small layer to compute.
    """
    no_sync: Callable[[], Context] | None = getattr(model, "no_sync", None)
    if no_sync is not None:
        return no_sync
    toggle = getattr(model, "set_requires_gradient_sync", None)
    return (lambda: NOTHING) if toggle is None else (lambda: _untoggled(toggle))


@contextmanager
def _untoggled(toggle: Any) -> Iterator[None]:
    toggle(False)
    try:
        yield
    finally:
        toggle(True)

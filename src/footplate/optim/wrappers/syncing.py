"""Holding back the exchange of gradients between ranks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn

_NOTHING: AbstractContextManager[Any] = nullcontext()


def without_sync(model: nn.Module) -> AbstractContextManager[Any]:
    """Returns the context in which `model` keeps its gradients to itself; nothing where it has no one to tell."""
    no_sync = getattr(model, "no_sync", None)
    if no_sync is not None:
        held: AbstractContextManager[Any] = no_sync()
        return held
    toggle = getattr(model, "set_requires_gradient_sync", None)
    return _NOTHING if toggle is None else _untoggled(toggle)


@contextmanager
def _untoggled(toggle: Any) -> Iterator[None]:
    toggle(False)
    try:
        yield
    finally:
        toggle(True)

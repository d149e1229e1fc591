"""The default scope, in which names without a scope are looked up first."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("footplate_default_scope", default=None)


def default_scope() -> str | None:
    """Returns the scope of the running config (`default_scope = 'mmseg'`), or None."""
    return _current.get()


def set_default_scope(scope: str | None) -> None:
    """Sets the default scope."""
    _current.set(scope)


@contextmanager
def using_scope(scope: str | None) -> Iterator[None]:
    """Sets the default scope for the duration of the block; None leaves it unchanged."""
    if scope is None:
        yield
        return
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)

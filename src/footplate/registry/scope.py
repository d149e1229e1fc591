"""The scope in which names without one are looked up first."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str | None] = ContextVar("footplate_default_scope", default=None)


def default_scope() -> str | None:
    """Returns the scope of the running config (`default_scope = 'mmseg'`), or None."""
    return _current.get()


def set_default_scope(scope: str | None) -> None:
    """Makes `scope` the first one in which names are looked up."""
    _current.set(scope)


@contextmanager
def using_scope(scope: str | None) -> Iterator[None]:
    """Makes `scope` the default for the duration of a block; None leaves things as they are."""
    if scope is None:
        yield
        return
    token = _current.set(scope)
    try:
        yield
    finally:
        _current.reset(token)

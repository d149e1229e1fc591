"""Manages the default scope, and the scopes of packages that extensions support."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from footplate.extensions import known_packages
from footplate.registry.dotted_paths import find_spec, is_footplate_alias, is_user_module

_current_scope: ContextVar[str | None] = ContextVar("footplate_default_scope", default=None)

# The scopes of all registries, and of packages whose configs often work even if the package is not installed.
known_scopes = set(known_packages())


def default_scope() -> str | None:
    """Returns the current default scope, such as 'mmseg', or None if the config does not set one."""
    return _current_scope.get()


def set_default_scope(scope: str | None) -> None:
    """Sets the default scope. An unknown scope is reported only if a name lookup fails."""
    _current_scope.set(scope)


@contextmanager
def using_scope(scope: str | None) -> Iterator[None]:
    """Sets the default scope for the duration of the block, unless `scope` is None."""
    if scope is None:
        yield
        return
    token = _current_scope.set(scope)
    try:
        yield
    finally:
        _current_scope.reset(token)


def is_installed(package: str) -> bool:
    """Checks whether a package is installed. A name that footplate provides, such as `mmengine`, does not count."""
    spec = find_spec(package)
    return spec is not None and not is_footplate_alias(spec)


def code_base_of(entry: Any) -> str:
    """Returns the name of the code base that defines a class, or "" if the class is not from a code base.

    A user's folder with the name of a code base counts only if it is a copy of the code base, which has a version.
    """
    package = str(entry.__module__).partition(".")[0]
    if package not in known_packages():
        return ""
    return package if not is_user_module(package) or hasattr(sys.modules.get(package), "__version__") else ""

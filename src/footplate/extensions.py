"""Extensions add configs, scopes and registry entries to the core.

`footplate/__init__.py` registers the extensions of footplate itself. They are imported on first use.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from pkgutil import resolve_name
from typing import Any

_paths: list[str] = []


class Extension:
    """Adds configs, scopes and registry entries to the core. A subclass overrides the members that it needs.

    Attributes:
        packages: Maps scopes that configs may name without a registry to the names of their packages on PyPI, or "".
        locations: Maps names of registries, such as "hook", to modules that register entries when they are imported.
        ignored_keys: Maps top-level keys of a config that have no effect to advice for the warning.
    """

    packages: Mapping[str, str] = {}
    locations: Mapping[str, tuple[str, ...]] = {}
    ignored_keys: Mapping[str, str] = {}

    @property
    def config_keys(self) -> frozenset[str]:
        """The top-level keys that `translate` replaces."""
        return frozenset()

    def check_config(self, cfg: Any) -> None:
        """Raises an error if a config has a top-level key without which the results would differ."""

    def translates(self, cfg: Any) -> bool:
        """Checks whether `translate` changes a config."""
        return False

    def translate(self, cfg: Any) -> Any:
        """Returns a config with the keys of the Runner."""
        return cfg

    def check_dataset(self, dataset: Any) -> None:
        """Raises an error or logs a warning if the samples of a dataset would be misunderstood."""

    def repair_step(self, error: RuntimeError) -> AbstractContextManager[Any] | None:
        """Returns the context in which the failed first training step and the later ones succeed, or None."""
        return None

    def explain_unknown(self, noun: str, name: str) -> list[str]:
        """Returns advice for a name that no registry has, or an empty list.

        Args:
            noun: The kind of the entry, such as "transform".
            name: The name without its scope.
        """
        return []

    def explain_missing(self, scope: str) -> list[str]:
        """Returns advice for a scope of `packages` whose package is not installed, or an empty list."""
        return []


def register(path: str) -> None:
    """Registers an extension.

    Args:
        path: `"module:Class"`, a subclass of Extension.
    """
    if path not in _paths:  # a notebook may reload the package
        _paths.append(path)
        extensions.cache_clear()


@cache
def extensions() -> tuple[Extension, ...]:
    """Returns the registered extensions, in the order of their registration."""
    return tuple(resolve_name(path)() for path in _paths)


def known_packages() -> dict[str, str]:
    """Maps the scopes of all extensions to the names of their packages on PyPI, or ""."""
    return {scope: package for extension in extensions() for scope, package in extension.packages.items()}

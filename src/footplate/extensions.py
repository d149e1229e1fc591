"""Defines extensions, which add config formats, scopes, registry entries and checks to the core.

`footplate/__init__.py` registers footplate's own extensions. Extensions are imported on first use.
"""

from collections.abc import Mapping
from functools import cache
from pkgutil import resolve_name
from typing import Any

_paths: list[str] = []


class Extension:
    """Adds config formats, scopes, registry entries and checks to the core. Subclasses override the members they need.

    Attributes:
        packages: Maps additional scopes, such as "mmdet", to their PyPI packages, or to "" if they have no package.
        locations: Maps registry names, such as "hook", to the modules to import for their additional entries.
        ignored_keys: Maps top-level config keys that have no effect to advice for a warning.
        advice: Additional rows for the table in `footplate.advice`.
    """

    packages: Mapping[str, str] = {}
    locations: Mapping[str, tuple[str, ...]] = {}
    ignored_keys: Mapping[str, str] = {}
    advice: Mapping[str, str] = {}

    @property
    def config_keys(self) -> frozenset[str]:
        """The top-level keys that `translate` replaces."""
        return frozenset()

    def check_config(self, cfg: Any) -> None:
        """Raises an error if footplate would ignore a key in the config that affects the results."""

    def translates(self, cfg: Any) -> bool:
        """Checks whether `translate` would change a config."""
        return False

    def translate(self, cfg: Any) -> Any:
        """Translates a config so that it uses the Runner's keys."""
        return cfg

    def check_dataset(self, dataset: Any) -> None:
        """Raises an error or logs a warning if footplate would misinterpret a dataset's samples."""

    def check_training(self, runner: Any) -> None:
        """Raises an error or logs warnings about the parts of a run that do not match, before it trains."""

    def prepare_training(self, model: Any) -> None:
        """Adapts a run's model before training."""

    def explain_unknown(self, noun: str, name: str) -> list[str]:
        """Returns notes to add to the error about an unregistered name. The list may be empty.

        Args:
            noun: The kind of entry, such as "transform".
            name: The name without its scope.
        """
        return []

    def explain_missing(self, scope: str) -> list[str]:
        """Returns notes to add to the error about a scope whose package is not installed. The list may be empty."""
        return []


def register(path: str) -> None:
    """Registers an extension.

    Args:
        path: `"module:Class"`, where the class is a subclass of Extension.
    """
    if path not in _paths:  # a notebook may reload the package
        _paths.append(path)
        extensions.cache_clear()


@cache
def extensions() -> tuple[Extension, ...]:
    """Returns the extensions in registration order."""
    return tuple(resolve_name(path)() for path in _paths)


def known_packages() -> dict[str, str]:
    """Returns the PyPI package names of all extensions, keyed by scope. Scopes without a package map to ""."""
    return {scope: package for extension in extensions() for scope, package in extension.packages.items()}

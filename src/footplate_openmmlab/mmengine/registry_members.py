"""Adds members of MMEngine's Registry to footplate's Registry, for code written for MMEngine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from footplate.registry import Registry, default_scope, using_scope


class RegistryMembers(Registry):
    """The members that `add_members` adds to `Registry`, so that existing registries have them too."""

    _module_dict = property(attrgetter("_entries"))  # code bases may modify the dict

    @property
    def build_func(self) -> Callable[..., Any]:
        """The function that `build` calls."""
        return self._build_func or self.build_entry

    @staticmethod
    def split_scope_key(key: str) -> tuple[str | None, str]:
        """Splits "scope.Name" into the scope and the name. If there is no dot, the scope is None."""
        scope, dot, name = key.partition(".")
        return (scope, name) if dot else (None, key)

    @contextmanager
    def switch_scope_and_registry(self, scope: str | None) -> Iterator["Registry"]:
        """Sets the default scope for the duration of the block, and yields the registry in this tree for the scope.

        If `scope` is None, keeps the current scope. If the tree has no registry for the scope, yields this registry.
        """
        with using_scope(scope):
            member = self.root._member(default_scope())
            yield self if member is None else member  # an empty registry is falsy

    def import_from_location(self) -> None:
        """Imports the modules that register this registry's entries."""
        self._import_locations()

    def _register_module(
        self, module: Any, module_name: str | Sequence[str] | None = None, force: bool = False
    ) -> None:
        self.register_module(module_name, force, module=module)

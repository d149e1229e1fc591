"""Members of MMEngine's registries that only code bases use."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from footplate.registry.registry import Registry


class RegistryMembers:
    """The members of MMEngine's `Registry` that code bases use but footplate itself does not."""

    name: str
    scope: str
    _build_func: Callable[..., Any] | None

    @property
    def _module_dict(self) -> dict[str, Callable[..., Any]]:
        """Maps names to entries. Code bases may modify this dict."""
        return cast("dict[str, Callable[..., Any]]", cast("Registry", self).module_dict)

    @property
    def build_func(self) -> Callable[..., Any]:
        """The function that `build` calls."""
        return self._build_func or cast("Registry", self).build_entry

    @staticmethod
    def infer_scope() -> str:
        """Returns the top-level package of the caller's caller, two frames up the stack."""
        return str(sys._getframe(2).f_globals.get("__name__", "")).partition(".")[0]

    @staticmethod
    def split_scope_key(key: str) -> tuple[str | None, str]:
        """Splits "scope.Name" at its first dot into the scope and the name. Without a dot, the scope is None."""
        scope, dot, name = key.partition(".")
        return (scope, name) if dot else (None, key)

    def import_from_location(self) -> None:
        """Imports the modules that register entries."""
        _ = cast("Registry", self).module_dict

    def _register_module(
        self, module: Any, module_name: str | Sequence[str] | None = None, force: bool = False
    ) -> None:
        cast("Registry", self).register_module(module_name, force, module=module)

    def _get_root_registry(self) -> "Registry":
        return cast("Registry", self).root

    def _search_child(self, scope: str) -> "Registry | None":
        return cast("Registry", self)._member(scope)

    def _add_child(self, registry: "Registry") -> None:
        cast("Registry", self).children[registry.scope] = registry

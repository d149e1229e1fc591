"""Manages the default scope, and supports the code bases of OpenMMLab, whose import names are scopes."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from footplate.messages import nearest
from footplate.registry.dotted_paths import is_footplate_alias, is_user_module, top_level_spec

if TYPE_CHECKING:
    from footplate.registry.registry import Registry

_logger = logging.getLogger("footplate.registry")
_current_scope: ContextVar[str | None] = ContextVar("footplate_default_scope", default=None)
CODE_BASES = {"mmaction": "mmaction2", "mmseg": "mmsegmentation"}
_SAME_NAMES = "mmcls mmdet mmdet3d mmedit mmfewshot mmflow mmgen mmagic mmocr mmpose mmpretrain mmrazor mmrotate"
CODE_BASES |= {name: name for name in f"{_SAME_NAMES} mmselfsup mmtrack mmyolo".split()}
"""Maps the import name of each OpenMMLab code base, which is also its scope, to its name on PyPI."""

# The scopes of all registries, and of OpenMMLab packages, whose configs often run without the package.
known_scopes = {"mmengine", "mmcv", *CODE_BASES}
_warned_scopes: set[str] = set()


def default_scope() -> str | None:
    """Returns the scope of the running config (`default_scope = 'mmseg'`), or None."""
    return _current_scope.get()


def set_default_scope(scope: str | None) -> None:
    """Sets the default scope. Warns once if neither a registry nor a package has this scope."""
    _current_scope.set(scope)
    if not isinstance(scope, str) or not scope or scope in known_scopes | _warned_scopes:
        return
    if top_level_spec(scope.partition(".")[0]) is not None:
        return
    _warned_scopes.add(scope)
    near = nearest(scope, sorted(known_scopes))
    advice = f"Did you mean '{near}'?" if near else "Register classes in it, or remove the key."
    _logger.warning("default_scope='%s' has no effect, because no registry or package has this name. %s", scope, advice)


@contextmanager
def using_scope(scope: str | None) -> Iterator[None]:
    """Sets the default scope for the duration of the block. None leaves it unchanged."""
    if scope is None:
        yield
        return
    token = _current_scope.set(scope)
    try:
        yield
    finally:
        _current_scope.reset(token)


def explain_missing_scope(scope: str) -> list[str]:
    """Explains why a scope has no registry: its package is not installed, or the scope does not exist.

    Returns the lines of the message, or an empty list if the package is installed.
    """
    spec = top_level_spec(scope)
    if spec is not None and not is_footplate_alias(spec):
        return []
    if scope not in known_scopes:
        near = nearest(scope, sorted(known_scopes))
        return [f"no registry or package has the scope '{scope}'{f'; did you mean {near!r}?' if near else ''}"]
    lines = [f"'{scope}' is not installed; only the names that footplate also provides are available"]
    if scope in CODE_BASES:
        lines.append(f"Install it: pip install 'footplate[hosts]' {CODE_BASES[scope]}")
        lines.append("A config of the first generation needs an older version; see docs/hosts.md.")
    return lines


def code_base_of(entry: Any) -> str:
    """Returns the installed code base that defines a class, or "". Ignores a user folder of the same name."""
    package = str(entry.__module__).partition(".")[0]
    return package if package in ("mmcv", *CODE_BASES) and not is_user_module(package) else ""


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

"""Finds the installed code bases that a config names, and imports them on footplate."""

import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from footplate.errors import ConfigError
from footplate.hosts.installation import install
from footplate.registry import CODE_BASES
from footplate.registry.dotted_paths import is_footplate_alias, top_level_spec

if TYPE_CHECKING:
    from footplate.config import Config


_used: dict[str, str] = {}  # scope -> name and version, of the code bases that this process uses


def used_code_bases() -> tuple[str, ...]:
    """Returns the code bases that `use_code_bases` has imported, with their versions."""
    return tuple(_used.values())


def use_code_bases(cfg: "Config | Mapping[str, Any]") -> tuple[str, ...]:
    """Imports the installed code bases that a config names by `default_scope` or in a type such as `mmdet.Resize`.

    Their registries become children of footplate's, so that their classes are found by name. Names of `mmengine` that
    they import resolve to footplate. A second call has no effect.

    Args:
        cfg: The config.

    Returns:
        The code bases with their versions, such as "mmdet 3.3.0".

    Raises:
        ConfigError: A code base is installed but cannot be imported.
    """
    default = cfg.get("default_scope")
    named = {*_scopes(dict(cfg.items())), default if isinstance(default, str) else ""}
    used = [scope for scope in sorted(CODE_BASES) if scope in named and _is_installed(scope)]
    if used:
        install()
    for scope in used:
        try:
            module = importlib.import_module(scope)
        except Exception as error:
            raise ConfigError(
                f"the code base '{scope}' is installed but cannot be imported: {type(error).__name__}: {error}",
                key="default_scope" if scope == default else "",
            ) from error
        _used[scope] = f"{CODE_BASES[scope]} {getattr(module, '__version__', '')}".strip()
    return tuple(_used[scope] for scope in used)


def _scopes(value: Any) -> Iterator[str]:
    """Yields the scopes of the types in nested values."""
    if isinstance(value, Mapping):
        kind = value.get("type")
        if isinstance(kind, str) and "." in kind:
            yield kind.partition(".")[0]
        for each in value.values():
            yield from _scopes(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _scopes(each)


def _is_installed(scope: str) -> bool:
    """Checks whether a code base is installed: a folder of the same name without `__init__.py` has user modules."""
    spec = top_level_spec(scope)
    return spec is not None and spec.origin is not None and not is_footplate_alias(spec)

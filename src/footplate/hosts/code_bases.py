"""Finds the installed code bases that a config names, and imports them on footplate."""

import importlib
import importlib.metadata
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from footplate.errors import ConfigError
from footplate.hosts.installation import install
from footplate.registry import CODE_BASES
from footplate.registry.dotted_paths import is_footplate_alias, top_level_spec

if TYPE_CHECKING:
    from footplate.config import Config

_logger = logging.getLogger("footplate.hosts")


def use_code_bases(cfg: "Config | Mapping[str, Any]") -> tuple[str, ...]:
    """Imports the installed code bases that a config names by `default_scope` or in a type such as `mmdet.Resize`.

    Their registries become children of footplate's, so that their classes are found by name. Names of `mmengine` that
    they import resolve to footplate.

    Args:
        cfg: The config.

    Returns:
        The import names of the code bases, which are logged with their versions.

    Raises:
        ConfigError: A code base is installed but cannot be imported.
    """
    named = {cfg.get("default_scope"), *_scopes(dict(cfg.items()))}
    used = tuple(scope for scope in sorted(CODE_BASES) if scope in named and _is_installed(scope))
    if used:
        install()
    for scope in used:
        try:
            importlib.import_module(scope)
        except Exception as error:
            raise ConfigError(
                f"the code base '{scope}' is installed but cannot be imported: {type(error).__name__}: {error}",
                key="default_scope" if scope == cfg.get("default_scope") else "",
            ) from error
        version = importlib.metadata.version(CODE_BASES[scope])
        _logger.info("the config uses %s %s; its imports of mmengine resolve to footplate", CODE_BASES[scope], version)
    return used


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
    spec = top_level_spec(scope)
    return spec is not None and not is_footplate_alias(spec)

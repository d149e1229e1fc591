"""Imports the modules that a config lists in `custom_imports`."""

import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from footplate.config.mapping import ConfigDict
from footplate.error_context import origin_of
from footplate.errors import ConfigError, Origin
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.config.config import Config

_logger = logging.getLogger("footplate.config")


def import_custom(config: "Config | ConfigDict") -> None:
    """Imports the modules in `custom_imports` from the Python path or the current folder.

    Raises:
        ConfigError: If a module cannot be imported and `allow_failed_imports` is not set.
    """
    section = config.get("custom_imports")
    if section is None:
        return
    origin = origin_of(config, "custom_imports")
    if not isinstance(section, ConfigDict):
        raise ConfigError(
            "`custom_imports` takes dict(imports=['module'], allow_failed_imports=False)",
            origin=origin,
            key="custom_imports",
            found=section,
        )
    modules, allow_failed = _read_section(section)
    _let_current_folder_be_found()
    for module in modules:
        try:
            import_module(module, origin_of(section, "imports"))
        except ConfigError as error:
            if not allow_failed:
                raise
            _logger.warning("%s; going on, as allow_failed_imports=True says", error.message)


def import_module(name: str, origin: Origin | None = None) -> None:
    """Imports a module.

    Raises:
        ConfigError: If it cannot be imported. If the name is a class, the error suggests its module.
    """
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"cannot import '{name}': {error}", origin=origin, key="custom_imports.imports", notes=_advice(name, error)
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"the module '{name}' fails while it is imported: {type(error).__name__}: {error}",
            origin=origin,
            key="custom_imports.imports",
        ) from error


def _read_section(section: ConfigDict) -> tuple[list[str], bool]:
    imports: Any = section.get("imports", [])
    for key in section:
        if key not in ("imports", "allow_failed_imports"):
            raise ConfigError(
                f"`custom_imports` has no '{key}'",
                origin=origin_of(section, key),
                key="custom_imports",
                suggestion=nearest(str(key), ["imports", "allow_failed_imports"]),
            )
    modules = [imports] if isinstance(imports, str) else imports
    if not isinstance(modules, (list, tuple)) or not all(isinstance(module, str) for module in modules):
        raise ConfigError(
            "`custom_imports.imports` takes the names of modules",
            origin=origin_of(section, "imports"),
            key="custom_imports.imports",
            found=imports,
        )
    allows = section.get("allow_failed_imports", False)
    if not isinstance(allows, bool):
        raise ConfigError(
            "`custom_imports.allow_failed_imports` must be True or False",
            origin=origin_of(section, "allow_failed_imports"),
            key="custom_imports.allow_failed_imports",
            found=allows,
        )
    return list(modules), allows


def _advice(name: str, error: ImportError) -> list[str]:
    module, _, attribute = name.rpartition(".")
    if module in sys.modules and hasattr(sys.modules[module], attribute):
        return [f"'{attribute}' is not a module: custom_imports takes modules, so write '{module}'"]
    if getattr(error, "name", None) == name.split(".")[0]:
        return ["modules are looked for on PYTHONPATH and in the current folder"]
    return []


def _let_current_folder_be_found() -> None:
    folder = os.getcwd()
    if "" not in sys.path and folder not in sys.path:
        sys.path.append(folder)

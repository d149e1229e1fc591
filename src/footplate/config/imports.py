"""Imports the modules in `custom_imports`, and lazily imports names in pure-Python configs."""

import importlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from footplate.checks import check_keys, check_names
from footplate.error_context import at_key, located, origin_of
from footplate.errors import ConfigError, ConfigSyntaxError, Origin
from footplate.extensions import extensions, known_packages
from footplate.registry.dotted_paths import find_spec, import_class, is_executed, is_footplate_alias

if TYPE_CHECKING:
    from footplate.config.config import Config

_logger = logging.getLogger("footplate.config")
# The function that recorded configs call for a value that is not data.
REFERENCE = "__reference__"
_SECTION_KEYS = ("imports", "allow_failed_imports")


def import_modules(config: "Config") -> None:
    """Imports the packages that a config refers to, and the modules in its `custom_imports`.

    Also appends the config's folder to `sys.path`.

    Raises:
        ConfigError: A module or package cannot be imported.
    """
    for extension in extensions():
        extension.import_packages(config)
    add_folder(config)
    import_custom(config)


def add_folder(config: "Config") -> None:
    """Appends the folder of a config file to `sys.path`. The current folder takes precedence."""
    folder = os.path.dirname(os.path.abspath(str(config.filename)))
    if config.filename and folder not in sys.path:
        sys.path.append(folder)


def import_custom(config: "Config") -> None:
    """Imports the modules in `custom_imports` from the Python path or the current folder.

    Raises:
        ConfigError: The section is invalid, or a module cannot be imported and `allow_failed_imports` is not set.
    """
    section = config.get("custom_imports")
    if section is None:
        return
    if not isinstance(section, dict):
        raise ConfigError(
            "`custom_imports` must be a dict, such as dict(imports=['module'], allow_failed_imports=False)",
            origin=origin_of(config, "custom_imports"),
            key="custom_imports",
            found=section,
        )
    with at_key("custom_imports"), located(section):
        check_keys("`custom_imports`", section, _SECTION_KEYS)
        modules = check_names("imports", section.get("imports"))
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    for module in modules:
        try:
            import_module(module, origin_of(section, "imports"))
        except ConfigError as error:
            if not section.get("allow_failed_imports"):
                raise
            _logger.warning("Ignoring a failed import, because allow_failed_imports=True: %s.", error.message)


def import_module(name: str, origin: Origin | None = None, key: str = "custom_imports.imports") -> None:
    """Imports a module whose name comes from a config.

    Args:
        name: The dotted name of the module.
        origin: The file and line of the config entry that contains the name.
        key: The key path of that entry.

    Raises:
        ConfigError: The module cannot be imported. If `name` is a class, the message suggests its module.
    """
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:
        message = f"cannot import '{name}': {type(error).__name__}: {error}".rstrip(": ")
        module, _, attribute = name.rpartition(".")
        notes: list[str] = []
        missing = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        parent, _, _ = missing.rpartition(".")
        package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        known = known_packages()
        if hasattr(sys.modules.get(module), attribute):  # a mistake in published guides
            notes = [f"'{attribute}' is not a module. List its module '{module}' in custom_imports."]
        elif package in known and (missing == package or (known[package] and is_footplate_alias(find_spec(package)))):
            notes = [f"`footplate doctor {package}` shows how to install it."]
            if not known[package]:
                notes = [f"footplate replaces {package} if you start your script with `footplate run`."]
        elif missing and f"{name}.".startswith(f"{missing}."):
            notes = ["Install its package, run from the folder that contains it, or add that folder to PYTHONPATH."]
            if parent:
                notes = [f"'{parent}' was found, but does not contain this module."]
        raise ConfigError(message, origin=origin, key=key, notes=notes, shows_cause=not notes) from error


class LazyObject:
    """A dotted name in a config. The name is imported only when `build` is called.

    Args:
        path: The dotted name, such as `torch.optim.SGD`, or `<...>` for a value that a recorded config lacks.
        origin: Where the config imports the name.

    Attributes:
        dotted_path: The dotted name.
    """

    __slots__ = ("_origin", "dotted_path")

    def __init__(self, path: str, origin: Origin | None = None) -> None:
        self.dotted_path = path
        self._origin = origin

    def build(self) -> Any:
        """Imports and returns the object with this dotted name.

        Raises:
            ConfigError: The module or the name does not exist, the import fails, or the value was not recorded.
            BuildError: The name comes from a config that was not executed, which must not refer to this object.
        """
        if self.dotted_path.startswith("<"):
            message = f"the recorded config lacks this value, which was {self.dotted_path[1:-1]}"
            notes = ["Use the original config. Functions and classes are recorded if they are defined in a module."]
            raise ConfigError(message, origin=self._origin, notes=notes)
        try:
            if self._origin is None or is_executed(self._origin.file):
                return _resolve(self.dotted_path)
            if (found := import_class(self.dotted_path, "model", (), "class", trusted=False)) is not None:
                return found
            raise ImportError("it does not exist")
        except (ImportError, ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"cannot import '{self.dotted_path}': {error}", origin=self._origin) from error

    def __getattr__(self, name: str) -> "LazyObject":
        if name.startswith("__") or name == "_origins":  # `origin_of` looks for `_origins`
            raise AttributeError(name)
        return LazyObject(f"{self.dotted_path}.{name}", self._origin)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Raises an error, because a call would import the module while the config is being read."""
        raise ConfigError(
            f"cannot call '{self.dotted_path}' in a pure Python style config, which does not execute its imports",
            notes=[
                "Write dict(type=...) instead. The run then builds the object.",
                "If the file has no `with read_base():`, you can also add `_base_ = []` to execute its imports.",
            ],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LazyObject) and other.dotted_path == self.dotted_path

    def __hash__(self) -> int:
        return hash(self.dotted_path)

    def __str__(self) -> str:
        return self.dotted_path.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"LazyObject({self.dotted_path!r})"


def _resolve(path: str) -> Any:
    """Imports an object by its dotted name. Unlike `pkgutil.resolve_name`, this does not hide import errors."""
    parent, _, name = path.rpartition(".")
    if parent:
        owner = _resolve(parent)
        if hasattr(owner, name):
            return getattr(owner, name)
    return importlib.import_module(path)


def is_standard(module: str) -> bool:
    """Checks whether a module is in the standard library."""
    return module.split(".")[0] in sys.stdlib_module_names


def import_lazily(path: str, origin: Origin) -> Any:
    """Handles an import in a pure-Python config.

    Returns the object for imports from the standard library, and a `LazyObject` for all other imports.

    Raises:
        ConfigSyntaxError: The name does not exist in the standard library.
    """
    if not is_standard(path):
        return LazyObject(path, origin)
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigSyntaxError(f"there is no Python module or object '{path}'", origin=origin) from error


@contextmanager
def read_base() -> Iterator[None]:
    """Marks the imports in the block as bases of a pure-Python config.

    Configs are parsed rather than imported, so this function never runs. It exists for editors and linters.

    Example:
        ```python
        with read_base():
            from .._base_.default_runtime import *
        ```
    """
    yield

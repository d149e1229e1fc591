"""Finds configs of other packages, such as `mmdet::_base_/default_runtime.py`."""

import importlib.util
import os
from typing import Any

from footplate.errors import ConfigError, Origin
from footplate.messages import nearest

SUFFIXES = (".py", ".json", ".yaml", ".yml", ".toml")
_RECIPES = os.path.realpath(os.path.join(os.path.dirname(__file__), os.pardir, "tasks", "recipes", "configs"))
_FOLDERS = ((".mim", "configs"), ("configs",), ("tasks", "recipes", "configs"), (os.pardir, "configs"))


def split_package(name: str) -> tuple[str, str] | None:
    """Splits `package::file`; returns None for a plain path."""
    package, mark, rest = name.partition("::")
    return (package, rest) if mark else None


def locate(package: str, file: str, asked_at: Origin | None = None) -> str:
    """Returns the path of a config in another package, without importing the package.

    Raises:
        ConfigError: If the package is not installed or has no such config.
    """
    roots = package_folders(package)
    if not roots:
        raise ConfigError(
            f"the package '{package}' of '{package}::{file}' is not installed",
            origin=asked_at,
            notes=["install it, or put the folder that holds it on PYTHONPATH"],
        )
    for root in roots:
        for folder in _FOLDERS:
            path = os.path.normpath(os.path.join(root, *folder, file))
            for candidate in (path, f"{path}.py"):
                if os.path.isfile(candidate):
                    return candidate
    near = near_config(package, file)
    raise ConfigError(f"the package '{package}' has no config '{file}'", origin=asked_at, suggestion=near)


def is_recipe(path: str) -> bool:
    """Checks whether a file is a recipe of footplate."""
    return os.path.dirname(os.path.realpath(path)) == _RECIPES


def near_config(package: str, file: str) -> str | None:
    """Returns `package::file` of the config whose name is most similar to `file`, or None; the suffix is optional."""
    folder, name = os.path.split(file)
    places = [os.path.join(root, *each, folder) for root in package_folders(package) for each in _FOLDERS]
    there = [entry for place in places if os.path.isdir(place) for entry in sorted(os.listdir(place))]
    stems = {os.path.splitext(entry)[0]: entry for entry in there if entry.endswith(SUFFIXES)}
    near = nearest(os.path.splitext(name)[0], stems)
    return f"{package}::{os.path.join(folder, stems[near])}" if near else None


def locate_module(module: str, asked_at: Origin | None = None) -> str:
    """Returns the path of the config for `from package.configs.folder.name import *` in `read_base`.

    Raises:
        ConfigError: If there is no such config.
    """
    package, _, rest = module.partition(".")
    parts = rest.split(".")
    for root in package_folders(package):
        for candidate in (parts, [".mim", *parts], [os.pardir, *parts]):
            path = os.path.normpath(os.path.join(root, *candidate) + ".py")
            if os.path.isfile(path):
                return path
    raise ConfigError(f"no config '{module}'", origin=asked_at, notes=["is the package installed?"])


def mark_scope(value: Any, scope: str) -> None:
    """Sets the scope of every outermost dict with a `type`; nested dicts inherit it."""
    if isinstance(value, dict):
        if "type" in value:
            dict.setdefault(value, "_scope_", scope)
            return
        for item in value.values():
            mark_scope(item, scope)
    elif isinstance(value, (list, tuple)):
        for item in value:
            mark_scope(item, scope)


def package_folders(package: str) -> list[str]:
    """Returns the folders of a package, given its import name or its distribution name."""
    for name in (package, *_modules_of(package)):
        try:
            spec = importlib.util.find_spec(name) if name.isidentifier() else None
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.submodule_search_locations:
            return list(spec.submodule_search_locations)
    return []


def _modules_of(distribution: str) -> list[str]:
    # This import takes 0.1 s, and few configs need it.
    import importlib.metadata

    try:
        text = importlib.metadata.distribution(distribution).read_text("top_level.txt")
    except (importlib.metadata.PackageNotFoundError, ValueError, OSError):
        return []
    return (text or "").split()

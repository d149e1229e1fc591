"""Decides which classes a dotted path in a config may refer to.

A data config (YAML, JSON, TOML) is untrusted, and constructors of libraries may unpickle files or run programs.
Therefore, its dotted paths may only refer to registered classes, classes defined in the user's own modules, and the
classes in `TORCH_CLASSES`. Anything else is neither imported nor called. A Python config has already been executed, so
its dotted paths may refer to any class that the registry accepts. Python code can pass any class directly.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Collection, Mapping
from typing import Any

from footplate.errors import Origin

# Maps each registry to the torch module that exports its classes, and their names. None allows all layers and losses.
TORCH_CLASSES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "model": ("torch.nn", None),
    "data sampler": (
        "torch.utils.data",
        (
            "BatchSampler",
            "DistributedSampler",
            "RandomSampler",
            "SequentialSampler",
            "SubsetRandomSampler",
            "WeightedRandomSampler",
        ),
    ),
}
# The config files that this process has executed.
_executed: set[str] = set()
_INSTALLED = tuple(
    {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGE_FOLDERS = {"site-packages", "dist-packages"}


class ForbiddenPathError(Exception):
    """A dotted path leads to code that a data config may not refer to."""


def mark_executed(file: str) -> None:
    """Marks a config file as executed, so that its dotted paths are trusted like its code."""
    _executed.add(file)


def is_from_executed_config(mapping: object, key: str = "type") -> bool:
    """Checks whether a key of a mapping was written in a config file that this process has executed."""
    origins = getattr(mapping, "_origins", None)
    origin = origins.get(key) if isinstance(origins, Mapping) else None  # the origin of the mapping is not enough
    return isinstance(origin, Origin) and origin.file in _executed


def import_object(path: str) -> Any:
    """Imports and returns the object at a dotted path, or returns None if it does not exist."""
    module, _, name = path.rpartition(".")
    return _import_attribute(module, name)


def find_known_class(path: str, registry: str, registered: Collection[Any]) -> Any:
    """Returns the registered class or allowed torch class at a dotted path, or None if it is neither.

    Args:
        path: The dotted path.
        registry: The name of the registry.
        registered: The classes and functions in the registry, its parents and its children.
    """
    module, _, name = path.rpartition(".")
    if module.endswith("__main__"):
        return None
    loaded = vars(sys.modules[module]).get(name) if module in sys.modules else None
    named = _import_attribute(module, name) if _is_footplate_module(module) else loaded
    for each in registered:
        if each is named or f"{getattr(each, '__module__', '')}.{getattr(each, '__qualname__', '')}" == path:
            return each
    home, names = TORCH_CLASSES.get(registry, ("", ()))
    if not home or not f"{module}.".startswith(f"{home}."):
        return None
    exported = vars(importlib.import_module(home)).get(name)
    known = importlib.import_module(f"{home}.modules").__all__ if names is None else names
    loaded = vars(sys.modules[module]).get(name) if module in sys.modules else None  # `home` may have imported it
    return loaded if name in known and loaded is exported else None


def import_user_class(path: str) -> Any:
    """Imports and returns the class at a dotted path in a user module, or returns None if it does not exist.

    Raises:
        ForbiddenPathError: The module is not a user module, or the class is defined outside user modules.
    """
    module, _, name = path.rpartition(".")
    if not (is_user_module(module) or _is_footplate_module(module)) or module.endswith("__main__"):
        raise ForbiddenPathError(module)
    found = _import_attribute(module, name)
    if found is not None and not is_user_module(getattr(found, "__module__", None) or ""):
        raise ForbiddenPathError(path)
    return found


def has_submodule(package: str, name: str) -> bool:
    """Checks whether an installed package has a submodule, without importing the package."""
    spec = top_level_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    full_name = f"{package}.{name}"
    return bool(places) and importlib.machinery.PathFinder.find_spec(full_name, places) is not None


def is_user_module(module: str) -> bool:
    """Checks whether a module is user code, not part of the standard library, footplate or an installed package."""
    top = module.partition(".")[0]
    if not top or top == "footplate" or top in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(top)
    spec = getattr(loaded, "__spec__", None) if loaded is not None else top_level_spec(top)
    if spec is None:
        return loaded is not None  # a module created at run time
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else ())]
    return bool(places) and not is_footplate_alias(spec) and not any(map(_is_installed, places))


def is_footplate_alias(spec: importlib.machinery.ModuleSpec | None) -> bool:
    """Checks whether the module of a spec is provided by footplate itself."""
    return spec is not None and type(spec.loader).__module__.startswith("footplate.")


def _is_footplate_module(module: str) -> bool:
    top = module.partition(".")[0]
    return top == "footplate" or is_footplate_alias(top_level_spec(top))


def _import_attribute(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name, None) if module_exists(module) else None


def top_level_spec(top: str) -> importlib.machinery.ModuleSpec | None:
    """Returns the spec of a top-level module without importing it, or None if there is no such module."""
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def module_exists(module: str) -> bool:
    """Checks whether a module exists. Imports its parent packages."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _is_installed(place: str) -> bool:
    real = os.path.realpath(place)
    if any(f"{real}{os.sep}".startswith(f"{folder}{os.sep}") for folder in _INSTALLED):
        return True
    try:  # a folder filled by `pip install --target` has .dist-info folders
        names = os.listdir(os.path.dirname(real))
    except OSError:
        names = []
    return not _PACKAGE_FOLDERS.isdisjoint(real.split(os.sep)) or any(name.endswith(".dist-info") for name in names)

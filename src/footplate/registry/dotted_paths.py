"""Restricts which classes a dotted path in a config may refer to.

Data configs (YAML, JSON) are untrusted, and constructors in libraries may unpickle files or run programs. Dotted
paths in data configs may therefore refer only to registered classes, classes in the user's own modules, and the classes
in `TORCH_CLASSES`. To find these classes, modules of footplate and torch, the user's own modules, `<package>.registry`
and the packages of `PackageModels` (such as timm) may be imported. Nothing else is imported or called. A Python config
has already been executed, so its dotted paths may refer to any class that the registry accepts. Python code can pass
any class directly.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Collection
from typing import Any

from footplate.errors import BuildError, is_own_module

# Maps each registry to a torch module and the names of its allowed classes. None allows all layers and losses.
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
# `sys.stdlib_module_names` lacks some standard library modules, such as its tests.
_STANDARD_LIBRARY = os.path.dirname(os.path.realpath(os.__file__))
# Config files that this process has executed.
_executed: set[str] = set()


def mark_executed(file: str) -> None:
    """Marks a config file as executed, so that its dotted paths are trusted like its code."""
    _executed.add(file)


def is_executed(file: str) -> bool:
    """Checks whether this process has executed a config file."""
    return file in _executed


def is_from_executed_config(mapping: object, key: str) -> bool:
    """Checks whether the value of a key was set in a config file that this process has executed."""
    origin = getattr(mapping, "_origins", {}).get(key)  # the mapping's own origin is not sufficient
    return origin is not None and is_executed(origin.file)


def import_class(path: str, registry: str, registered: Collection[Any], noun: str, *, trusted: bool) -> Any:
    """Imports and returns the object at a dotted path, or returns None if it does not exist.

    Args:
        path: The dotted path.
        registry: The name of the registry.
        registered: The classes and functions in the registry, its parents and its children.
        noun: The term for an entry in messages.
        trusted: Whether the path may refer to any object.

    Raises:
        BuildError: The path is not trusted and does not refer to a registered class, a class in `TORCH_CLASSES` or a
            class in a user module.
    """
    module, _, name = path.rpartition(".")
    home, names = TORCH_CLASSES.get(registry, ("", ()))
    known = [*registered]
    if home and f"{module}.".startswith(f"{home}."):
        exported = vars(importlib.import_module(home))
        known += [exported[class_name] for class_name in names or importlib.import_module(f"{home}.modules").__all__]
    top = module.partition(".")[0]
    is_own = is_own_module(top) or is_footplate_alias(find_spec(top))
    may_import = trusted or ((is_own or is_user_module(module)) and not module.endswith("__main__"))
    if may_import and module_exists(module):
        entry = getattr(importlib.import_module(module), name, None)
    else:
        entry = vars(sys.modules[module]).get(name) if module in sys.modules else None
    for candidate in known:
        if (
            candidate is entry
            or f"{getattr(candidate, '__module__', '')}.{getattr(candidate, '__qualname__', '')}" == path
        ):
            return candidate
    is_defined_elsewhere = entry is not None and not is_user_module(getattr(entry, "__module__", None) or "")
    if not trusted and (not may_import or is_defined_elsewhere):
        raise BuildError(
            f"a config must not refer to '{path}', which is neither a registered {noun} nor defined in your modules",
            found=path,
            notes=[
                "Register the class in a module and set custom_imports = dict(imports=['my_module']).",
                "Or import the class in a .py config. docs/security.md lists what other configs may refer to.",
            ],
        )
    return entry


def has_submodule(package: str, name: str) -> bool:
    """Checks whether an installed package has a submodule, without importing the package."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    full_name = f"{package}.{name}"
    return bool(places) and importlib.machinery.PathFinder.find_spec(full_name, places) is not None


def is_user_module(module: str) -> bool:
    """Checks whether a module is user code, i.e. not from the standard library, footplate or an installed package."""
    top = module.partition(".")[0]
    if not top or is_own_module(top) or top in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(top)
    spec = getattr(loaded, "__spec__", None) if loaded is not None else find_spec(top)
    if spec is None:
        return loaded is not None  # a module created at runtime
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else ())]
    return bool(places) and not is_footplate_alias(spec) and not any(map(_is_installed, places))


def _is_installed(place: str) -> bool:
    folder = os.path.dirname(os.path.realpath(place))
    if folder == _STANDARD_LIBRARY or not {"site-packages", "dist-packages"}.isdisjoint(folder.split(os.sep)):
        return True
    # Folders that were created by `pip install --target` contain .dist-info folders.
    return os.path.isdir(folder) and any(name.endswith(".dist-info") for name in os.listdir(folder))


def is_footplate_alias(spec: importlib.machinery.ModuleSpec | None) -> bool:
    """Checks whether footplate provides a spec's module under another package's name, e.g. `mmengine`."""
    return spec is not None and is_own_module(type(spec.loader).__module__)


def find_spec(module: str) -> importlib.machinery.ModuleSpec | None:
    """Returns the spec of a module without importing it, or None if it does not exist. Imports its parent packages."""
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def module_exists(module: str) -> bool:
    """Checks whether a module exists. Imports its parent packages."""
    return find_spec(module) is not None

"""Which classes a dotted path in a config may name.

A config that is data cannot be trusted, and the constructors of libraries do what their arguments say: some unpickle,
some run programs. A dotted path therefore names a registered class, a class that the user's own modules define, or a
class of `TORCH_CLASSES`. Anything else is neither imported nor called. A Python config has been executed already: a
path that is written in one may name any class that fits the registry, and Python code may pass any class itself.
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

# By registry: the module of torch that exports the classes, and their names; None stands for all layers and losses.
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
# Config files that this process has executed.
_executed: set[str] = set()
_INSTALLED = tuple(
    {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_PACKAGE_FOLDERS = {"site-packages", "dist-packages"}


def mark_executed(file: str) -> None:
    """Records that a config file was executed, so that its dotted paths are trusted like its code."""
    _executed.add(file)


def is_from_executed_config(mapping: object) -> bool:
    """Checks whether the `type` of a mapping was written in a config file that this process has executed."""
    origins = getattr(mapping, "_origins", None)
    origin = origins.get("type") if isinstance(origins, Mapping) else None  # that of the mapping says nothing of it
    return isinstance(origin, Origin) and origin.file in _executed


def import_object(path: str) -> Any:
    """Returns what a dotted path names, None where it names nothing."""
    module, _, name = path.rpartition(".")
    return _imported(module, name)


def find_known_class(path: str, registry: str, registered: Collection[Any]) -> Any:
    """Returns the registered class, or the one of torch, that a dotted path names; None where it names another one.

    Args:
        path: The dotted path.
        registry: The name of the registry.
        registered: The classes and functions of the registry and of its relatives.
    """
    module, _, name = path.rpartition(".")
    if module.endswith("__main__"):
        return None
    return _registered(path, module, name, registered) or _of_torch(module, name, registry)


def import_user_class(path: str) -> Any:
    """Returns what a dotted path into the user's modules names, None where it names nothing.

    Raises:
        LookupError: The module is not the user's, or what it holds is defined elsewhere.
    """
    module, _, name = path.rpartition(".")
    if not (is_user_module(module) or _is_ours(module)) or module.endswith("__main__"):
        raise LookupError(module)
    found = _imported(module, name)
    if found is not None and not is_user_module(getattr(found, "__module__", None) or ""):
        raise LookupError(path)
    return found


def has_submodule(package: str, name: str) -> bool:
    """Returns whether an installed package has a submodule, without importing the package."""
    spec = top_level_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    full_name = f"{package}.{name}"
    return bool(places) and importlib.machinery.PathFinder.find_spec(full_name, places) is not None


def is_user_module(module: str) -> bool:
    """Returns whether a module is the user's: neither Python's, nor footplate's, nor of an installed package."""
    top = module.partition(".")[0]
    if not top or top == "footplate" or top in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(top)
    spec = getattr(loaded, "__spec__", None) if loaded is not None else top_level_spec(top)
    if spec is None:
        return loaded is not None  # a module that the program made
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.has_location else ())]
    return bool(places) and not is_footplate_alias(spec) and not any(map(_is_installed, places))


def is_footplate_alias(spec: importlib.machinery.ModuleSpec | None) -> bool:
    """Returns whether an import name is one that footplate answers to itself (`footplate.compat`)."""
    return spec is not None and type(spec.loader).__module__.startswith("footplate.")


def _registered(path: str, module: str, name: str, registered: Collection[Any]) -> Any:
    if _is_ours(module):
        named = _imported(module, name)
    else:
        named = vars(sys.modules[module]).get(name) if module in sys.modules else None
    for each in registered:
        if each is named or f"{getattr(each, '__module__', '')}.{getattr(each, '__qualname__', '')}" == path:
            return each
    return None


def _is_ours(module: str) -> bool:
    top = module.partition(".")[0]
    return top == "footplate" or is_footplate_alias(top_level_spec(top))


def _imported(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name, None) if module_exists(module) else None


def _of_torch(module: str, name: str, registry: str) -> Any:
    home, names = TORCH_CLASSES.get(registry, ("", ()))
    if not home or not f"{module}.".startswith(f"{home}."):
        return None
    exporting = importlib.import_module(home)
    if names is None:
        names = tuple(importlib.import_module(f"{home}.modules").__all__)
    found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    return found if name in names and found is vars(exporting).get(name) else None


def top_level_spec(top: str) -> importlib.machinery.ModuleSpec | None:
    """Returns the spec of a top-level name, None where there is none; nothing is imported."""
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None


def module_exists(module: str) -> bool:
    """Returns whether there is a module; the packages around it are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _is_installed(place: str) -> bool:
    real = os.path.realpath(place)
    inside = any(f"{real}{os.sep}".startswith(f"{folder}{os.sep}") for folder in _INSTALLED)
    return inside or not _PACKAGE_FOLDERS.isdisjoint(real.split(os.sep)) or _holds_distributions(os.path.dirname(real))


def _holds_distributions(folder: str) -> bool:
    # What `pip install --target` fills has the records of what it holds.
    try:
        return any(name.endswith(".dist-info") for name in os.listdir(folder))
    except OSError:
        return False

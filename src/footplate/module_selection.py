"""Selects modules of a model by class name, or by patterns that match module names."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch import nn

from footplate.checks import check_keys, check_names, check_pattern
from footplate.errors import ArgumentError
from footplate.messages import list_names, nearest

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

Selection = str | Sequence[str] | Mapping[str, Any]
"""A mapping with two optional keys. `classes` contains class names, with or without the Python module path. `names`
contains regular expressions that must match full module names. A string or a list is shorthand for `names`."""


def check_selection(selection: Selection) -> dict[str, list[str]]:
    """Returns a selection as a dict with two lists: class names (`classes`) and module name patterns (`names`).

    Raises:
        ArgumentError: The selection is malformed, or a pattern is not a valid regular expression.
    """
    section = selection if isinstance(selection, Mapping) else {"names": selection}
    check_keys("the selection", section, ("classes", "names"))
    classes, names = (check_names(key, _as_names(section.get(key))) for key in ("classes", "names"))
    return {"classes": classes, "names": [check_pattern(name, key="names").pattern for name in names]}


def select_modules(modules: Mapping[str, nn.Module], selection: Selection) -> dict[str, nn.Module]:
    """Returns the selected modules, keyed by name. Submodules come before the modules that contain them.

    Args:
        modules: The modules to choose from, in the order of `named_modules`.
        selection: Which modules to select; see `Selection`.

    Raises:
        ArgumentError: The selection is invalid (see `check_selection`), a class or a pattern matches no module, or a
            selected module has no `forward`.
    """
    checked = check_selection(selection)
    selected: set[str] = set()
    for class_name in checked["classes"]:
        names = {name for name, module in modules.items() if type(module).__name__ == class_name.rpartition(".")[2]}
        if not names:
            near = nearest(class_name, {type(module).__name__ for module in modules.values()})
            message = f"no module of class '{class_name}' can be selected"
            raise ArgumentError(message, key="classes", found=class_name, suggestion=near)
        selected |= names
    for pattern in checked["names"]:
        names = {name for name in modules if re.fullmatch(pattern, name)}
        if not names:
            near = nearest(pattern, modules)
            raise ArgumentError(
                f"no module name matches '{pattern}'",
                key="names",
                found=pattern,
                suggestion=near,
                notes=["A pattern must match the full name of a module."],
            )
        selected |= names
    for name in selected:
        if isinstance(modules[name], (nn.ModuleList, nn.ModuleDict)):
            message = f"'{name}' is a list or dict of modules, which has no forward(); select its submodules instead"
            example = rf"For example, '{name}\.[^.]+' matches its direct members."
            raise ArgumentError(message, key="names", found=name, notes=[example])
    return {name: modules[name] for name in reversed(list(modules)) if name in selected}  # the same order on every rank


def named_children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns the direct submodules with their names. torch's method omits all but the first name of a module."""
    return [(name, child) for name, child in module._modules.items() if child is not None]


def _prefixes(name: str) -> Iterator[str]:
    """Yields the prefixes of a dotted name: "a", "a.b" and "a.b.c" for "a.b.c"."""
    return accumulate(name.split("."), "{}.{}".format)


def matching_names(pattern: str, names: Collection[str]) -> list[str]:
    """Returns the parameter names that a regular expression matches, or whose first parts it matches.

    Raises:
        ArgumentError: No name matches. The message lists the first two parts of the names.
    """
    matching = [name for name in names if any(re.fullmatch(pattern, prefix) for prefix in _prefixes(name))]
    if not matching:
        prefixes = sorted(
            {prefix for name in names for prefix in _prefixes(name)}, key=lambda prefix: (len(prefix), prefix)
        )
        word = pattern.replace("\\", "")
        starts = dict.fromkeys(".".join(name.split(".")[:2]) for name in names)
        raise ArgumentError(
            f"no parameter name begins with a match of '{pattern}'",
            key="patterns",
            suggestion=next((prefix for prefix in prefixes if prefix.endswith(f".{word}")), None)
            or nearest(word, prefixes),
            notes=[f"The names begin with {list_names(starts, 12)}."],
        )
    return matching


def _as_names(value: Any) -> Any:
    """Replaces classes with their names. (Only Python configs can contain classes.)"""
    return [_as_name(item) for item in value] if isinstance(value, (list, tuple)) else _as_name(value)


def _as_name(value: Any) -> Any:
    if hasattr(type(value), "dotted_path"):  # a LazyObject in a config
        return value.dotted_path
    return value.__name__ if isinstance(value, type) else value

"""Selects modules of a model by class name, or by patterns that match module names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from footplate.checks import check_keys, check_names, check_pattern
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import nearest

# The layers of code bases derive from these, as `_BatchNormXd` of MMEngine does.
BATCH_NORMS = (_BatchNorm,)
INSTANCE_NORMS = (_InstanceNorm,)

Selection = str | Sequence[str] | Mapping[str, Any]
"""A mapping with `classes`, class names with or without their Python module path, and `names`, regular expressions that
must match full module names. A string or a list is short for `names`."""


def check_selection(selection: Selection) -> dict[str, list[str]]:
    """Returns the class names and the name patterns of a selection, as `classes` and `names`.

    Raises:
        ArgumentError: The selection is malformed, or a pattern is not a valid regular expression.
    """
    if not isinstance(selection, Mapping):
        return {"classes": [], "names": _patterns(selection)}
    check_keys("the selection", selection, ("classes", "names"), prefix="")
    with at_key("names"):
        patterns = _patterns(selection.get("names"))
    return {"classes": check_names("classes", _as_names(selection.get("classes"))), "names": patterns}


def select_modules(modules: Mapping[str, nn.Module], selection: Selection) -> dict[str, nn.Module]:
    """Maps the names of the selected modules to the modules. A module comes after the modules that it contains.

    Args:
        modules: The modules to choose from, in the order of `named_modules`.
        selection: The selection.

    Raises:
        ArgumentError: The selection is invalid (see `check_selection`), a class or a pattern matches no module, or a
            selected module has no `forward`.
    """
    checked = check_selection(selection)
    names_key = "names" if isinstance(selection, Mapping) else ""
    selected: set[str] = set()
    for kind in checked["classes"]:
        names = {name for name, each in modules.items() if type(each).__name__ == kind.rpartition(".")[2]}
        if not names:
            near = nearest(kind, {type(each).__name__ for each in modules.values()})
            raise ArgumentError(
                f"the model has no module of class '{kind}'", key="classes", found=kind, suggestion=near
            )
        selected |= names
    for text in checked["names"]:
        names = {name for name in modules if re.fullmatch(text, name)}
        if not names:
            near = nearest(text, modules)
            raise ArgumentError(f"no module name matches '{text}'", key=names_key, found=text, suggestion=near)
        selected |= names
    found = {
        name: modules[name] for name in reversed(list(modules)) if name in selected
    }  # the same order on every rank
    for name, each in found.items():
        if isinstance(each, (nn.ModuleList, nn.ModuleDict)):
            message = f"'{name}' is a {type(each).__name__}, which has no forward(); select its submodules instead"
            example = rf"For example, '{name}\.\d+' matches its direct members."
            raise ArgumentError(message, key=names_key, found=name, notes=[example])
    return found


def nearest_prefix(pattern: str, names: Iterable[str]) -> str | None:
    """Returns the module or parameter whose name a pattern was most likely meant to match at the start.

    Args:
        pattern: A regular expression that matches the start of no name.
        names: Dotted names. Their prefixes, such as "backbone" of "backbone.conv.weight", are candidates too.
    """
    prefixes = {name[:end] for name in names for end in (*_dots(name), len(name))}
    return nearest(pattern.replace("\\", ""), sorted(prefixes))


def _dots(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "."]


def _patterns(value: Any) -> list[str]:
    names = _as_names([] if value is None else value)
    if not isinstance(names, (str, list, tuple)) or not all(isinstance(each, str) for each in names):
        raise ArgumentError("names must be a pattern or a list of patterns", found=value)
    return [check_pattern(each).pattern for each in ([names] if isinstance(names, str) else names)]


def _as_names(value: Any) -> Any:
    """Replaces classes with their names. Only Python configs may contain classes."""
    if isinstance(value, (list, tuple)):
        return [_as_name(each) for each in value]
    return _as_name(value)


def _as_name(value: Any) -> Any:
    if hasattr(type(value), "dotted_path"):  # a LazyObject of a config
        return value.dotted_path
    return value.__name__ if isinstance(value, type) else value

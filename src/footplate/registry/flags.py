"""Checks that arguments annotated `bool` are True or False: any other text counts as true, "no" too."""

import inspect
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Union, get_args, get_origin

from footplate.errors import ArgumentError, origin_of

_CHECKED_PACKAGES = ("footplate", "torch")
_OPTIONAL = (bool, type(None))
_POSTPONED = {"bool": (bool,), "bool | None": _OPTIONAL, "Optional[bool]": _OPTIONAL}


def check_flags(entry: Callable[..., Any], settings: Mapping[str, Any], *, source: object = None) -> None:
    """Refuses a value that is not a bool where `entry`, or a base class of it, annotates the argument as `bool`.

    Only annotations of footplate and torch count: what other code accepts is its own decision. An argument that is
    annotated `bool | Mapping`, for example, also takes a mapping.

    Args:
        entry: A class or function.
        settings: Its keyword arguments.
        source: The mapping that the settings came from; errors name the place of its keys.

    Raises:
        ArgumentError: A flag is neither True nor False.
    """
    try:
        flags = flags_of(entry)
    except TypeError:  # not hashable
        return
    for key, kinds in flags.items():
        if key in settings and not isinstance(settings[key], kinds):
            raise ArgumentError(
                f"{key} must be True or False", key=key, found=settings[key], origin=origin_of(source, key)
            )


@lru_cache(maxsize=1024)
def flags_of(entry: Callable[..., Any]) -> Mapping[str, tuple[type, ...]]:
    """Returns the arguments of `entry` that are flags, each with the types that its annotation allows."""
    found: dict[str, tuple[type, ...]] = {}
    seen: set[str] = set()
    for each in getattr(entry, "__mro__", (entry,)):
        own = vars(each) if inspect.isclass(each) else {}
        if inspect.isclass(each) and not {"__init__", "__signature__"} & own.keys():
            continue
        try:
            parameters = inspect.signature(each if "__signature__" in own else own.get("__init__", each)).parameters
        except (TypeError, ValueError):  # written in C, without a signature
            continue
        is_checked = (getattr(each, "__module__", None) or "").partition(".")[0] in _CHECKED_PACKAGES
        for name, parameter in parameters.items():
            kinds = _kinds_of(parameter)
            if is_checked and name not in seen and bool in kinds:
                found[name] = kinds
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                seen.add(name)
    return found


def _kinds_of(parameter: inspect.Parameter) -> tuple[type, ...]:
    """Returns the types of an argument; none where its annotation holds something that cannot be checked."""
    annotation = parameter.annotation
    if annotation is parameter.empty and isinstance(parameter.default, bool):
        return (bool,)
    if isinstance(annotation, str):  # of a module with postponed annotations
        return _POSTPONED.get(annotation, ())
    if get_origin(annotation) in (Union, types.UnionType):
        members = [get_origin(each) or each for each in get_args(annotation)]
    else:
        members = [annotation]
    return tuple(members) if all(isinstance(each, type) for each in members) else ()

"""Compares arguments with their annotations: flags are True or False, and the kind of a value may explain a failure."""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Union, get_args, get_origin

from footplate.errors import ArgumentError, origin_of

_CHECKED_PACKAGES = ("footplate", "torch")
_OPTIONAL = (bool, type(None))
_POSTPONED = {"bool": (bool,), "bool | None": _OPTIONAL, "Optional[bool]": _OPTIONAL}
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))  # what a config file can hold
_WORDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    type(None): "None",
    **dict.fromkeys((list, tuple, Sequence), "a list"),
    **dict.fromkeys((dict, Mapping), "a dict"),
}


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


def check_numbers(entry: Callable[..., Any], settings: Mapping[str, Any], *, source: object = None) -> None:
    """Refuses what no number can be where `entry`, or a base class of it, annotates the argument as `int` or `float`.

    That is True, text and NaN; and a fraction where only whole numbers are allowed. Whole numbers written as 2.0 pass.
    As in `check_flags`, annotations of footplate and torch count.

    Args:
        entry: A class or function.
        settings: Its keyword arguments.
        source: The mapping that the settings came from; errors name the place of its keys.

    Raises:
        ArgumentError: An argument is no such number.
    """
    try:
        known = kinds_of(entry)
    except TypeError:  # not hashable
        return
    for key, kinds in known.items():
        if key not in settings or bool in kinds or not {int, float} & set(kinds):
            continue
        value = settings[key]
        is_text = isinstance(value, str) and str not in kinds
        is_odd = isinstance(value, float) and (math.isnan(value) or (float not in kinds and value % 1 != 0))
        if isinstance(value, bool) or is_text or is_odd:
            raise ArgumentError(
                f'"{key}" must be {_described(kinds)}', key=key, found=value, origin=origin_of(source, key)
            )


def wrong_kind(entry: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns the first argument of another kind than its annotation allows, and what it must be; None without one.

    An annotation is no promise that a class refuses anything else, so this explains a failure and is no check.

    Args:
        entry: A class or function.
        settings: Its keyword arguments.
    """
    try:
        known = kinds_of(entry)
    except TypeError:  # not hashable
        return None
    for key, kinds in known.items():
        if key in settings and kinds and not _fits(settings[key], kinds):
            return key, _described(kinds)
    return None


def _described(kinds: tuple[type, ...]) -> str:
    return " or ".join(dict.fromkeys(_WORDS.get(kind, kind.__name__) for kind in kinds))


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    if not isinstance(value, _PLAIN) or isinstance(value, kinds):
        return not isinstance(value, str) or str in kinds  # text is a sequence, too
    if isinstance(value, (list, tuple)):
        return any(kind in (list, tuple) for kind in kinds)
    return isinstance(value, int) and float in kinds


def flags_of(entry: Callable[..., Any]) -> Mapping[str, tuple[type, ...]]:
    """Returns the arguments of `entry` that are flags, each with the types that its annotation allows."""
    return {name: kinds for name, kinds in kinds_of(entry).items() if bool in kinds}


@lru_cache(maxsize=1024)
def kinds_of(entry: Callable[..., Any]) -> Mapping[str, tuple[type, ...]]:
    """Returns the arguments of `entry` with the types that their annotations allow, none where that cannot be told."""
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
            if is_checked and name not in seen:
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
        members = [get_origin(annotation) or annotation]
    is_known = all(isinstance(each, type) and each is not Any and each is not parameter.empty for each in members)
    return tuple(members) if is_known else ()

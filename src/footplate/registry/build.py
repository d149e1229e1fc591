"""Builds an object from config values and reports arguments that do not fit."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from footplate.error_context import changes_in, describe_changes, origin_at, origin_of
from footplate.errors import BuildError, FootplateError
from footplate.messages import nearest
from footplate.registry.arguments import check_flags, check_numbers, find_wrong_type, keyword_names, keywords_of

# First-generation arguments whose second-generation names are spelled too differently for `nearest`.
_RENAMED = {"img_scale": "scale", "flip_ratio": "prob"}
_LABEL_MAP_HINT = (
    "for images and label maps, set type='BaseSegDataset', data_prefix=dict(img_path='...', seg_map_path='...')"
)
_HINTS = {"img_dir": _LABEL_MAP_HINT, "ann_dir": _LABEL_MAP_HINT}
_MOVED = {"classes": ("metainfo", "dict(classes=[...])"), "img_prefix": ("data_prefix", "dict(img='...')")}
_DEBUG = "--debug shows where"
_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


def build_object(
    entry: Callable[..., Any],
    noun: str,
    settings: Mapping[str, Any],
    *,
    args: tuple[Any, ...] = (),
    source: object = None,
) -> Any:
    """Calls `entry(*args, **settings)`.

    Args:
        entry: A class or function.
        noun: The word for it in messages, such as "hook".
        settings: Its keyword arguments.
        args: Its positional arguments.
        source: The mapping that the settings come from, for the location in errors.

    Raises:
        BuildError: An argument is unknown or missing, or the constructor raised while building from a config file.
        FootplateError: Raised by the constructor itself; the location in the config is added.
    """
    check_arguments(entry, noun, settings, args=args, source=source)
    name, parameters = getattr(entry, "__name__", repr(entry)), _parameters(entry)
    try:
        return entry(*args, **settings)
    except FootplateError as error:
        if error.origin is None:
            error.origin = origin_at(source, error.key or "type")
            if error.key not in changes_in(source):  # the base alone is valid: a change to it may be the cause
                error.notes = (*error.notes, *describe_changes(source))
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
        # The argument passed through **kwargs to a base class that does not take it.
        unexpected = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
        if unexpected and unexpected.group(1) in settings and parameters is not None:
            raise _unknown_argument(f"{noun} '{name}'", unexpected.group(1), _names(entry), settings, source) from error
        if origin_of(source, "type") is None:
            raise
        # The user needs the location in the config file, not the frames of footplate.
        raise _constructor_error(entry, f"{noun} '{name}'", settings, error, source) from error


def check_arguments(
    entry: Callable[..., Any],
    noun: str,
    settings: Mapping[str, Any],
    *,
    args: tuple[Any, ...] = (),
    source: object = None,
) -> None:
    """Checks, without calling `entry`, that it takes all given arguments and that no required one is missing.

    Raises:
        BuildError: An argument is unknown or missing.
        ArgumentError: An argument annotated as bool, int or float has another value.
    """
    parameters = _parameters(entry)
    if parameters is not None:
        what = f"{noun} '{getattr(entry, '__name__', repr(entry))}'"
        _check_arguments(what, parameters, keywords_of(entry, parameters), args=args, settings=settings, source=source)
    check_flags(entry, settings, source=source)
    check_numbers(entry, settings, source=source)


def _constructor_error(
    entry: Callable[..., Any], what: str, settings: Mapping[str, Any], error: Exception, source: object
) -> BuildError:
    """Returns the error for a constructor that raised one, with the argument that caused it if that can be told."""
    first_line = str(error).strip().partition("\n")[0]
    wrong = find_wrong_type(entry, settings)
    if wrong is not None:
        key, expected = wrong
        message = f"{key} of {what} must be {expected}"
    else:
        changes = list(changes_in(source))
        key = _mentioned_argument(first_line, settings) or (changes[0] if len(changes) == 1 else "")
        message = f"{what} cannot be built: {type(error).__name__}: {first_line}"
    if key:
        found = {"found": settings[key]} if key in settings else {}
        return BuildError(message, origin=origin_at(source, key), key=key, notes=[_DEBUG], **found)
    return BuildError(message, origin=origin_of(source, "type"), notes=[*describe_changes(source), _DEBUG])


def _mentioned_argument(text: str, settings: Mapping[str, Any]) -> str:
    """Returns the only argument whose name, or else whose distinctive value, is in `text`; "" if there is not one."""
    words = re.findall(r"[A-Za-z_]\w*|-?[\d.]+(?:e-?\d+)?", text)
    by_name = [key for key in settings if key in words]
    values = {key: str(value) for key, value in settings.items() if isinstance(value, (int, float, str))}
    by_value = [key for key, value in values.items() if not value.isdecimal() and len(value) > 1 and value in words]
    for found in (by_name, by_value):
        if len(found) == 1:
            return found[0]
    return ""


def _check_arguments(
    what: str,
    parameters: Mapping[str, inspect.Parameter],
    keywords: list[str] | None,
    *,
    args: tuple[Any, ...],
    settings: Mapping[str, Any],
    source: object,
) -> None:
    for key in settings:
        if keywords is not None and key not in keywords:
            raise _unknown_argument(what, key, keywords, settings, source)
    positional = [
        name
        for name, each in parameters.items()
        if each.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    given = {*positional[: len(args)], *settings}
    missing = [
        name
        for name in keyword_names(parameters)
        if parameters[name].default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        raise BuildError(f"{what} needs the argument '{missing[0]}'", origin=origin_of(source, "type"), key=missing[0])


def _unknown_argument(what: str, key: str, names: list[str], settings: Mapping[str, Any], source: object) -> BuildError:
    renamed = _RENAMED.get(key)
    near = renamed if renamed in names else nearest(key, [*names, "type"])
    takes = _HINTS.get(key) or f"it takes: {', '.join(names) or 'none'}"
    holder, value = _MOVED.get(key, ("", ""))
    if holder in names:
        near, takes = None, f"in second-generation configs, set {holder}={value}"
    return BuildError(
        f"{what} takes no argument '{key}'",
        origin=origin_of(source, key),
        key=key,
        found=settings[key],
        suggestion=near,
        notes=() if near else [takes],
    )


@lru_cache(maxsize=1024)
def _signature(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return inspect.signature(entry).parameters
    except (TypeError, ValueError):  # implemented in C, without a signature
        return None


def _parameters(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return _signature(entry)
    except TypeError:  # the entry is not hashable
        return None


def _names(entry: Callable[..., Any]) -> list[str]:
    """Returns the keyword arguments of a class and its base classes."""
    names: dict[str, None] = {}
    for each in getattr(entry, "__mro__", (entry,)):
        parameters = _parameters(each) if each is not object else None
        names.update(dict.fromkeys(keyword_names(parameters or {})))
    return list(names)

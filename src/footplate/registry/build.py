"""Calling a constructor with the arguments a config gives, and saying clearly when they do not fit."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from footplate.errors import BuildError, FootplateError, changes_in, describe_changes, nearest, origin_at, origin_of
from footplate.registry.flags import check_flags, check_numbers, wrong_kind
from footplate.registry.handing_on import accepted, keywords_of

# Words of the first generation whose letters lead to none of the second.
_SAID_NOW = {"img_scale": "scale", "flip_ratio": "prob"}
_LABEL_MAPS = "pictures and label maps: type='BaseSegDataset', data_prefix=dict(img_path='...', seg_map_path='...')"
_IN_A_DICT = {"img_dir": _LABEL_MAPS, "ann_dir": _LABEL_MAPS}
_IN_ANOTHER = {"classes": ("metainfo", "dict(classes=[...])"), "img_prefix": ("data_prefix", "dict(img='...')")}
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
        noun: What it is, "hook".
        settings: Its keyword arguments.
        args: Its positional arguments.
        source: The mapping that the settings came from; errors name the place of its keys.

    Raises:
        BuildError: An argument is unknown or missing. Errors of the constructor itself pass as they are, those of
            ours with the place in the config.
    """
    check_arguments(entry, noun, settings, args=args, source=source)
    name, parameters = getattr(entry, "__name__", repr(entry)), _parameters(entry)
    try:
        return entry(*args, **settings)
    except FootplateError as error:
        if error.origin is None:
            error.origin = origin_at(source, error.key or "type")
            if error.key not in changes_in(source):  # the base alone is sound: what changes it may be at fault
                error.notes = (*error.notes, *describe_changes(source))
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
        # An argument that **kwargs let through to a base class.
        unexpected = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
        if unexpected and unexpected.group(1) in settings and parameters is not None:
            raise _unknown(f"{noun} '{name}'", unexpected.group(1), _names(entry), settings, source) from error
        if origin_of(source, "type") is None:
            raise
        # A value of a config file that the constructor stumbles over: its user wants the place, not our frames.
        raise _stumbled(entry, f"{noun} '{name}'", settings, error, source) from error


def check_arguments(
    entry: Callable[..., Any],
    noun: str,
    settings: Mapping[str, Any],
    *,
    args: tuple[Any, ...] = (),
    source: object = None,
) -> None:
    """Refuses arguments that `entry` does not take, and finds those that it lacks, without calling it.

    Raises:
        BuildError: An argument is unknown or missing.
        ArgumentError: A flag is neither True nor False.
    """
    parameters = _parameters(entry)
    if parameters is not None:
        what = f"{noun} '{getattr(entry, '__name__', repr(entry))}'"
        _check_arguments(what, parameters, keywords_of(entry, parameters), args=args, settings=settings, source=source)
    check_flags(entry, settings, source=source)
    check_numbers(entry, settings, source=source)


def _stumbled(
    entry: Callable[..., Any], what: str, settings: Mapping[str, Any], error: Exception, source: object
) -> BuildError:
    """Returns the error of a constructor that raised one, at the argument that it is about where that can be told."""
    first = str(error).strip().partition("\n")[0]
    wrong = wrong_kind(entry, settings)
    if wrong is not None:
        key, due = wrong
        message = f"{key} of {what} must be {due}"
    else:
        changes = list(changes_in(source))
        key = _named_in(first, settings) or (changes[0] if len(changes) == 1 else "")
        message = f"{what} cannot be built: {type(error).__name__}: {first}"
    if key:
        found = {"found": settings[key]} if key in settings else {}
        return BuildError(message, origin=origin_at(source, key), key=key, notes=[_DEBUG], **found)
    return BuildError(message, origin=origin_of(source, "type"), notes=[*describe_changes(source), _DEBUG])


def _named_in(text: str, settings: Mapping[str, Any]) -> str:
    """Returns the one argument whose name or, if it is unmistakable, whose value is in an error's text; else ""."""
    words = re.findall(r"[A-Za-z_]\w*|-?[\d.]+(?:e-?\d+)?", text)
    named = [key for key in settings if key in words]
    shown = {key: str(value) for key, value in settings.items() if isinstance(value, (int, float, str))}
    held = [key for key, value in shown.items() if not value.isdecimal() and len(value) > 1 and value in words]
    for found in (named, held):
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
            raise _unknown(what, key, keywords, settings, source)
    positional = [
        name
        for name, each in parameters.items()
        if each.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    given = {*positional[: len(args)], *settings}
    missing = [
        name
        for name in accepted(parameters)
        if parameters[name].default is inspect.Parameter.empty and name not in given
    ]
    if missing:
        raise BuildError(f"{what} needs the argument '{missing[0]}'", origin=origin_of(source, "type"), key=missing[0])


def _unknown(what: str, key: str, names: list[str], settings: Mapping[str, Any], source: object) -> BuildError:
    now = _SAID_NOW.get(key)
    near = now if now in names else nearest(key, [*names, "type"])
    takes = _IN_A_DICT.get(key) or f"it takes: {', '.join(names) or 'none'}"
    holder, value = _IN_ANOTHER.get(key, ("", ""))
    if holder in names:
        near, takes = None, f"the second generation says {holder}={value}"
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
    except (TypeError, ValueError):  # built in C, without a signature
        return None


def _parameters(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return _signature(entry)
    except TypeError:  # not hashable
        return None


def _names(entry: Callable[..., Any]) -> list[str]:
    """The keyword arguments of a class and of the bases its **kwargs go to."""
    names: dict[str, None] = {}
    for each in getattr(entry, "__mro__", (entry,)):
        parameters = _parameters(each) if each is not object else None
        names.update(dict.fromkeys(accepted(parameters or {})))
    return list(names)

"""Calling a constructor with the arguments a config gives, and saying clearly when they do not fit."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from footplate.error_context import origin_at, origin_of
from footplate.errors import BuildError, FootplateError
from footplate.messages import nearest
from footplate.registry.arguments import check_flags, keyword_names, keywords_of

# Words of the first generation whose letters lead to none of the second.
_SAID_NOW = {"img_scale": "scale", "flip_ratio": "prob"}
_LABEL_MAPS = "pictures and label maps: type='BaseSegDataset', data_prefix=dict(img_path='...', seg_map_path='...')"
_IN_A_DICT = {"img_dir": _LABEL_MAPS, "ann_dir": _LABEL_MAPS}
_IN_ANOTHER = {"classes": ("metainfo", "dict(classes=[...])"), "img_prefix": ("data_prefix", "dict(img='...')")}
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
        error.origin = error.origin or origin_at(source, error.key or "type")
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
        # An argument that **kwargs let through to a base class.
        unexpected = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
        if unexpected and unexpected.group(1) in settings and parameters is not None:
            raise _unknown(f"{noun} '{name}'", unexpected.group(1), _names(entry), settings, source) from error
        if origin_of(source, "type") is None:
            raise
        # A value of a config file that the constructor stumbles over: its user wants the place, not our frames.
        raise BuildError(
            f"{noun} '{name}' cannot be built: {type(error).__name__}: {_first_line(error)}",
            origin=origin_of(source, "type"),
            notes=["--debug shows where"],
        ) from error


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


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


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
        for name in keyword_names(parameters)
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
        names.update(dict.fromkeys(keyword_names(parameters or {})))
    return list(names)

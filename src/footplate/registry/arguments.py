"""Builds an object from config values, and checks arguments against the signature and annotations of its class."""

import copy
import inspect
import math
import operator
import re
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from typing import Any, Union, get_args, get_origin

from footplate.error_context import changes_in, describe_changes, explain_missing_path, origin_at, origin_of
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.messages import nearest

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_CHECKED_PACKAGES = ("footplate", "torch")
_CONFIG_TYPES = (bool, int, float, str, list, tuple, dict, type(None))  # types that a config file can contain
_TYPE_NAMES: dict[type, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "None",
    **dict.fromkeys((list, tuple, Sequence), "a list"),
    **dict.fromkeys((dict, Mapping), "a dict"),
}


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
        noun: The noun for the entry in messages, such as "hook".
        settings: The keyword arguments. Lazily imported names in them are replaced with the imported objects.
        args: The positional arguments.
        source: The mapping that the settings come from, for the location in errors.

    Raises:
        BuildError: An argument is unknown or missing, or the constructor failed on values from a config file.
        FootplateError: The constructor raised this error. The location in the config is added to it.
    """
    check_arguments(entry, noun, settings, args=args, source=source)
    name, parameters = getattr(entry, "__name__", repr(entry)), _parameters(entry)
    try:
        return entry(*args, **{key: import_lazy(value) for key, value in settings.items()})
    except FootplateError as error:
        if error.origin is None:
            error.origin = origin_at(source, error.key or "type")
            if error.key not in changes_in(source):  # a change to the base config may be the cause
                error.notes = (*error.notes, *describe_changes(source))
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
        # The constructor may have passed an argument on through **kwargs to a base class that does not accept it.
        unexpected = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
        if unexpected and unexpected.group(1) in settings and parameters is not None:
            raise _unknown_argument(
                f"{noun} '{name}'", unexpected.group(1), list(argument_types(entry)), settings, source
            ) from error
        if origin_of(source, "type") is None:
            raise
        # The user needs the location in the config file, not the frames of footplate.
        raise _constructor_error(entry, f"{noun} '{name}'", settings, error, source) from error


def report_unknown_keywords(kind: type, noun: str) -> None:
    """Makes the constructor of a class raise a BuildError for an unknown keyword, with the argument that was meant.

    Calls from Python thus get the same message as configs. Python itself suggests arguments only from version 3.13 on.
    """
    init = vars(kind).get("__init__")
    if not inspect.isfunction(init):
        return

    @wraps(init)
    def construct(self: Any, *args: Any, **settings: Any) -> None:
        try:
            init(self, *args, **settings)
        except TypeError as error:
            unknown, names = _UNEXPECTED.search(str(error)), list(argument_types(type(self)))
            if not unknown or unknown[1] not in settings or unknown[1] in names:
                raise  # an error in the constructor
            raise _unknown_argument(f"{noun} '{type(self).__name__}'", unknown[1], names, settings, None) from None

    kind.__init__ = construct  # type: ignore[misc]


def import_lazy(value: Any) -> Any:
    """Returns a config value with lazily imported names replaced by the imported objects.

    A value without such names is not copied.
    """
    if hasattr(type(value), "dotted_path"):  # a LazyObject
        return value.build()
    if isinstance(value, dict):
        changed = {key: each for key, old in dict.items(value) if (each := import_lazy(old)) is not old}
        copied = copy.copy(value) if changed else value
        dict.update(copied, changed)
        return copied
    if type(value) in (list, tuple):
        found = [import_lazy(each) for each in value]
        return value if all(map(operator.is_, found, value)) else type(value)(found)
    return value


def check_arguments(
    entry: Callable[..., Any],
    noun: str,
    settings: Mapping[str, Any],
    *,
    args: tuple[Any, ...] = (),
    source: object = None,
) -> None:
    """Checks, without calling `entry`, that it accepts all given arguments and that no required one is missing.

    Raises:
        BuildError: An argument is unknown or missing.
        ArgumentError: A value does not match the annotation `bool`, `int` or `float` of its argument.
    """
    parameters = _parameters(entry)
    if parameters is not None:
        what = f"{noun} '{getattr(entry, '__name__', repr(entry))}'"
        keywords = keywords_of(entry, parameters)
        for key in settings:
            if keywords is not None and key not in keywords:
                raise _unknown_argument(what, key, keywords, settings, source)
        by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        positional = [name for name, each in parameters.items() if each.kind in by_position]
        given = {*positional[: len(args)], *settings}
        for name in keyword_names(parameters):
            if parameters[name].default is inspect.Parameter.empty and name not in given:
                raise BuildError(f"{what} needs the argument '{name}'", origin=origin_of(source, "type"), key=name)
    check_annotations(entry, settings, source=source)


def _constructor_error(
    entry: Callable[..., Any], what: str, settings: Mapping[str, Any], error: Exception, source: object
) -> BuildError:
    """Returns the error to raise after a constructor failed, with the offending argument if it can be determined.

    The offending argument is the first one whose value does not match its annotation, or the only one that was changed.
    """
    first_line = str(error).strip().partition("\n")[0]
    wrong = find_wrong_type(entry, settings)
    notes: list[str] = []
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        message = f"{what} cannot be built: the file '{error.filename}' does not exist"
        values = {key: value for key, value in settings.items() if isinstance(value, str) and value}
        key = next((each for each, value in values.items() if error.filename.endswith(value)), "")
        notes = explain_missing_path(error.filename)
    elif wrong is not None:
        key, expected = wrong
        message = f"{key} of {what} must be {expected}"
    else:
        changed = list(changes_in(source))
        key = changed[0] if len(changed) == 1 else ""
        message = f"{what} cannot be built: {type(error).__name__}: {first_line}"
    if key:
        details = {"found": settings[key]} if key in settings else {}
        return BuildError(message, origin=origin_at(source, key), key=key, notes=notes, hides_cause=True, **details)
    notes += describe_changes(source)
    return BuildError(message, origin=origin_of(source, "type"), notes=notes, hides_cause=True)


def _unknown_argument(what: str, key: str, names: list[str], settings: Mapping[str, Any], source: object) -> BuildError:
    near = nearest(key, [*names, "type"])
    return BuildError(
        f"{what} takes no argument '{key}'",
        origin=origin_of(source, key),
        key=key,
        found=settings[key],
        suggestion=near,
        notes=() if near else [f"it takes: {', '.join(names) or 'none'}"],
    )


def _parameters(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter] | None:
    try:
        return _signature(entry).parameters
    except (TypeError, ValueError):  # implemented in C, without a signature, or not hashable
        return None


_signature = lru_cache(maxsize=1024)(inspect.signature)


def keyword_names(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Returns the names of the parameters that can be passed by keyword."""
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, each in parameters.items() if each.kind in by_keyword]


def keywords_of(entry: Callable[..., Any], parameters: Mapping[str, inspect.Parameter]) -> list[str] | None:
    """Returns the keyword arguments of `entry`, or None if it may accept any keyword.

    In footplate, a constructor with `**settings` passes them to that of its base class.
    """
    if _var_keyword_name(parameters) is None:
        return keyword_names(parameters)
    names: dict[str, None] = {}
    for kind in getattr(entry, "__mro__", ()):
        if "__init__" in vars(kind):
            own = inspect.signature(vars(kind)["__init__"]).parameters
            names |= dict.fromkeys(name for name in keyword_names(own) if name != "self")
            rest = _var_keyword_name(own)
            if rest is None:
                return list(names)
            if rest != "settings" or not kind.__module__.startswith("footplate."):
                break
    return None


def _var_keyword_name(parameters: Mapping[str, inspect.Parameter]) -> str | None:
    rest = [name for name, parameter in parameters.items() if parameter.kind is inspect.Parameter.VAR_KEYWORD]
    return rest[0] if rest else None


def check_annotations(
    entry: Callable[..., Any], settings: Mapping[str, Any], *, source: object = None, only_flags: bool = False
) -> None:
    """Checks the values of arguments that `entry` or a base class annotates as `bool`, `int` or `float`.

    Without this check, a string such as "no" would count as true. Numbers must not be bools, strings or NaN. An integer
    may be written as 2.0. Only annotations in footplate and torch are checked. An argument with the annotation
    `bool | Mapping` also accepts a mapping.

    Args:
        entry: A class or function.
        settings: Its keyword arguments.
        source: The mapping that the settings come from, for the location in errors.
        only_flags: Whether to check only arguments that are annotated as `bool`.

    Raises:
        ArgumentError: A value does not match its annotation.
    """
    for key, allowed in argument_types(entry).items():
        if key not in settings:
            continue
        value, message = settings[key], ""
        if bool in allowed:
            message = "" if isinstance(value, allowed) else f"{key} must be True or False"
        elif {int, float} & set(allowed) and not only_flags:
            is_text = isinstance(value, str) and str not in allowed
            is_odd = isinstance(value, float) and (math.isnan(value) or (float not in allowed and value % 1 != 0))
            if isinstance(value, bool) or is_text or is_odd:
                message = f'"{key}" must be {_describe_types(allowed)}'
        if message:
            raise ArgumentError(message, key=key, found=value, origin=origin_of(source, key))


def find_wrong_type(entry: Callable[..., Any], settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns the first argument whose value does not match its annotation, and a description of the allowed types.

    Returns None if all values match. Use this function to explain a failure, not as a check, because a class may accept
    values that its annotations do not mention.
    """
    for key, allowed in argument_types(entry).items():
        if key not in settings or not allowed:
            continue
        value = settings[key]
        if not isinstance(value, _CONFIG_TYPES) or isinstance(value, allowed):
            is_allowed = not isinstance(value, str) or str in allowed  # a string is also a Sequence
        elif isinstance(value, (list, tuple)):
            is_allowed = list in allowed or tuple in allowed
        else:
            is_allowed = isinstance(value, int) and float in allowed
        if not is_allowed:
            return key, _describe_types(allowed)
    return None


def _describe_types(allowed: tuple[type, ...]) -> str:
    return " or ".join(dict.fromkeys(_TYPE_NAMES.get(each, each.__name__) for each in allowed))


def argument_types(entry: Callable[..., Any]) -> Mapping[str, tuple[type, ...]]:
    """Maps each argument of `entry` and its base classes to the types that its annotation allows.

    An empty tuple allows any value. Annotations in packages other than footplate and torch are ignored.
    """
    try:
        return _read_annotations(entry)
    except TypeError:  # the entry is not hashable
        return {}


@lru_cache(maxsize=1024)
def _read_annotations(entry: Callable[..., Any]) -> Mapping[str, tuple[type, ...]]:
    types_of: dict[str, tuple[type, ...]] = {}
    for kind in getattr(entry, "__mro__", (entry,)):
        own = vars(kind) if inspect.isclass(kind) else {}
        if inspect.isclass(kind) and not {"__init__", "__signature__"} & own.keys():
            continue
        package = (getattr(kind, "__module__", None) or "").partition(".")[0]
        function = kind if "__signature__" in own else own.get("__init__", kind)
        try:
            try:
                parameters = inspect.signature(function, eval_str=package == "torch").parameters  # has postponed ones
            except NameError:  # one of them is a name that is imported for type checking only
                parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # implemented in C
            continue
        for name in keyword_names(parameters):
            if name not in types_of and name != "self":
                types_of[name] = _allowed_types(parameters[name]) if package in _CHECKED_PACKAGES else ()
    return types_of


def _allowed_types(parameter: inspect.Parameter) -> tuple[type, ...]:
    annotation = parameter.annotation
    if isinstance(annotation, str):  # a postponed one that could not be evaluated
        annotation = {"bool": bool, "int": int, "float": float}.get(annotation, Any)
    if annotation is parameter.empty:
        return (bool,) if isinstance(parameter.default, bool) else ()
    is_union = get_origin(annotation) in (Union, types.UnionType)
    members = [get_origin(part) or part for part in (get_args(annotation) if is_union else (annotation,))]
    return tuple(members) if all(isinstance(part, type) and part is not Any for part in members) else ()

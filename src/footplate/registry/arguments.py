"""Builds an object from config values, and checks arguments against the signature and annotations of its class."""

import copy
import inspect
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Union, get_args, get_origin

from footplate.error_context import describe_changes, explain_missing_path, origin_at, origin_of
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.messages import nearest

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_CHECKED_PACKAGES = ("footplate.", "torch.")
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
    try:
        return entry(*args, **{key: import_lazy(value) for key, value in settings.items()})
    except FootplateError as error:
        if error.origin is None:
            error.origin = origin_at(source, error.key or "type")
            error.notes = (*error.notes, *describe_changes(source))
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError) as error:
        if origin_of(source, "type") is None:
            raise
        # The user needs the location in the config file, not the frames of footplate.
        raise _constructor_error(entry, _name(entry, noun), settings, error, source) from error


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
    arguments = arguments_of(entry)
    if arguments is not None:
        for key in settings:
            if key not in arguments.types and not arguments.accepts_any:
                raise _unknown_argument(entry, noun, key, arguments, settings[key], source)
        present = {*list(arguments.own)[: len(args)], *settings}
        for name, parameter in arguments.own.items():
            is_required = parameter.kind in _BY_KEYWORD and parameter.default is inspect.Parameter.empty
            if is_required and name not in present:
                message = f"{_name(entry, noun)} needs the argument '{name}'"
                raise BuildError(message, origin=origin_of(source, "type"), key=name)
    check_annotations(entry, settings, source=source)


def _unknown_argument(
    entry: Callable[..., Any], noun: str, key: str, arguments: "Arguments", value: Any, source: object
) -> BuildError:
    near = nearest(key, [*arguments.types, "type"])
    return BuildError(
        f"{_name(entry, noun)} takes no argument '{key}'",
        origin=origin_of(source, key),
        key=key,
        found=value,
        suggestion=near,
        notes=() if near else [f"it takes: {', '.join(arguments.types) or 'none'}"],
    )


def _name(entry: Any, noun: str) -> str:
    return f"{noun} '{getattr(entry, '__name__', repr(entry))}'"


def _constructor_error(
    entry: Callable[..., Any], what: str, settings: Mapping[str, Any], error: Exception, source: object
) -> BuildError:
    """Returns the error to raise after a constructor failed, with the offending argument if it can be determined."""
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
        key = ""
        message = f"{what} cannot be built: {type(error).__name__}: {first_line}"
    if key:
        details = {"found": settings[key]} if key in settings else {}
        return BuildError(message, origin=origin_at(source, key), key=key, notes=notes, hides_cause=True, **details)
    notes += describe_changes(source)
    return BuildError(message, origin=origin_of(source, "type"), notes=notes, hides_cause=True)


class Arguments(NamedTuple):
    """The arguments of a class or function.

    Attributes:
        own: Its parameters.
        types: Maps each keyword to the types that its annotation allows; an empty tuple allows any value. Annotations
            in packages other than footplate and torch are ignored. Contains the keywords that `**kwargs` passes to base
            classes.
        defaults: Maps each keyword to its default.
        accepts_any: Whether it may accept other keywords, too.
    """

    own: Mapping[str, inspect.Parameter]
    types: Mapping[str, tuple[type, ...]]
    defaults: Mapping[str, Any]
    accepts_any: bool


@lru_cache(maxsize=1024)
def arguments_of(entry: Callable[..., Any]) -> Arguments | None:
    """Returns the arguments of a class or function, or None if it is implemented in C and has no signature.

    In footplate, a constructor with `**settings` passes them to that of its base class. `**kwargs` of other code may
    accept any keyword.
    """
    try:
        own = _signature(entry, str(getattr(entry, "__module__", "")))
    except (TypeError, ValueError):
        return None
    types: dict[str, tuple[type, ...]] = {}
    defaults: dict[str, Any] = {}
    accepts_any = False
    kinds = [kind for kind in getattr(entry, "__mro__", ()) if "__init__" in vars(kind)]
    for kind in kinds or [entry]:
        module = str(getattr(kind, "__module__", ""))
        parameters = _signature(vars(kind)["__init__"], module) if kind in kinds[1:] else own
        for name, parameter in parameters.items():
            if parameter.kind in _BY_KEYWORD and name not in types and name != "self":
                types[name] = _allowed_types(parameter) if module.startswith(_CHECKED_PACKAGES) else ()
                defaults[name] = parameter.default
        rest = [name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD]
        if not rest:
            break
        passes_on = bool(kinds) and rest == ["settings"] and module.startswith("footplate.")
        accepts_any = accepts_any or not passes_on
    return Arguments(own, types, defaults, accepts_any)


def _signature(function: Callable[..., Any], module: str) -> Mapping[str, inspect.Parameter]:
    try:  # torch has postponed annotations
        return inspect.signature(function, eval_str=module.startswith("torch.")).parameters
    except NameError:  # one of them is a name that is imported for type checking only
        return inspect.signature(function).parameters


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
    for key, allowed in _types_of(entry).items():
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
    for key, allowed in _types_of(entry).items():
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


def _types_of(entry: Callable[..., Any]) -> Mapping[str, tuple[type, ...]]:
    arguments = arguments_of(entry)
    return {} if arguments is None else arguments.types


def _allowed_types(parameter: inspect.Parameter) -> tuple[type, ...]:
    annotation = parameter.annotation
    if isinstance(annotation, str):  # a postponed one that could not be evaluated
        annotation = {"bool": bool, "int": int, "float": float}.get(annotation, Any)
    if annotation is parameter.empty:
        return (bool,) if isinstance(parameter.default, bool) else ()
    is_union = get_origin(annotation) in (Union, types.UnionType)
    members = [get_origin(part) or part for part in (get_args(annotation) if is_union else (annotation,))]
    return tuple(members) if all(isinstance(part, type) and part is not Any for part in members) else ()

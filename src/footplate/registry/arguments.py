"""Checks arguments for a class or function against its signature and annotations."""

import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Union, get_args, get_origin

from typing_extensions import is_protocol

from footplate.error_context import explain_base, origin_of
from footplate.errors import ArgumentError, BuildError, is_own_module
from footplate.messages import nearest

Entry = Callable[..., Any]  # a class or function
_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_SCALARS = (bool, int, float, str)
_CONFIG_TYPES = (*_SCALARS, list, tuple, dict, type(None))  # the types that a config file can contain
_TYPE_NAMES: dict[type, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    type(None): "None",
    **dict.fromkeys((list, tuple, Sequence), "a list"),
    **dict.fromkeys((dict, Mapping), "a dict"),
}


class Arguments(NamedTuple):
    """The arguments that a class or function accepts.

    Attributes:
        types: The types that each keyword's annotation allows. An empty tuple allows any value. Only annotations in
            footplate and torch are used.
        defaults: The default value of each keyword, or `inspect.Parameter.empty` if it has none.
        required: The required keywords.
        accepts_any: Whether the class or function might accept other keywords, because it has `**kwargs` or is
            implemented in C.
    """

    types: Mapping[str, tuple[type, ...]]
    defaults: Mapping[str, Any]
    required: Sequence[str]
    accepts_any: bool


@lru_cache(maxsize=1024)
def arguments_of(entry: Entry) -> Arguments:
    """Returns the arguments that a class or function accepts.

    If a constructor in footplate takes `**settings`, the keywords of the base class's constructor are included.
    Functions that have any other `**kwargs` or are implemented in C may accept any keyword.
    """
    types: dict[str, tuple[type, ...]] = {}
    defaults: dict[str, Any] = {}
    required: list[str] = []
    accepts_any = False
    owners = [owner for owner in getattr(entry, "__mro__", ()) if "__init__" in vars(owner)] or [entry]
    for depth, owner in enumerate(owners):
        module = str(getattr(owner, "__module__", ""))
        is_checked = is_own_module(module) or module.startswith("torch.")
        try:
            parameters = inspect.signature(vars(owner)["__init__"] if depth else entry).parameters
        except (TypeError, ValueError):
            accepts_any = True
            break
        function = vars(owner).get("__init__", owner) if inspect.isclass(owner) else owner
        is_decorated = inspect.unwrap(function) is not function  # the decorator may supply arguments
        for name, parameter in parameters.items():
            if parameter.kind not in _BY_KEYWORD or name in types or name == "self":
                continue
            types[name] = _allowed_types(parameter) if is_checked else ()
            defaults[name] = parameter.default
            if parameter.default is parameter.empty and not depth and not is_decorated:
                required.append(name)
        rest = [name for name, parameter in parameters.items() if parameter.kind is parameter.VAR_KEYWORD]
        if not rest:
            break
        passes_on = inspect.isclass(entry) and rest == ["settings"] and is_own_module(module)
        accepts_any = accepts_any or not passes_on
    return Arguments(types, defaults, required, accepts_any)


def _allowed_types(parameter: inspect.Parameter) -> tuple[type, ...]:
    annotation = parameter.annotation
    if isinstance(annotation, str):  # a postponed annotation
        annotation = {"bool": bool, "int": int, "float": float}.get(annotation, Any)
    if annotation is parameter.empty:
        return (bool,) if isinstance(parameter.default, bool) else ()
    is_union = get_origin(annotation) in (Union, types.UnionType)
    members = [get_origin(part) or part for part in (get_args(annotation) if is_union else (annotation,))]
    is_checkable = all(isinstance(part, type) and part is not Any and not is_protocol(part) for part in members)
    return tuple(members) if is_checkable else ()


# Lightning's names of settings.
_OTHER_NAMES = {
    "accumulate_grad_batches": "accumulative_counts",
    "every_n_epochs": "interval",
    "mode": "rule",
    "monitor": "save_best",
    "save_top_k": "max_keep_best",
}


def check_arguments(
    entry: Entry, what: str, settings: Mapping[str, Any], *, args: Sequence[Any], source: object
) -> None:
    """Checks that `entry` accepts all arguments and that no required argument is missing, without calling `entry`.

    Args:
        entry: A class or function.
        what: The name of `entry` in messages, e.g. "hook 'EMAHook'".
        settings: The keyword arguments.
        args: The positional arguments. Their values are ignored.
        source: The mapping that contains the settings, for locating errors.

    Raises:
        BuildError: An argument is unknown or missing.
        ArgumentError: A value does not match its annotation; see `check_annotations`.
    """
    arguments = arguments_of(entry)
    for key in () if arguments.accepts_any else settings:
        if key not in arguments.types:
            notes = explain_base(source, key)
            alias = _OTHER_NAMES.get(key)
            near = alias if alias in arguments.types else nearest(key, () if notes else [*arguments.types, "type"])
            raise BuildError(
                f"{what} takes no argument '{key}'",
                origin=origin_of(source, "type" if notes else key),
                key=key,
                found=settings[key],
                suggestion=near,
                notes=notes or (() if near else [f"arguments: {', '.join(arguments.types) or 'none'}"]),
            )
    present = {*list(arguments.types)[: len(args)], *settings}
    for name in arguments.required:
        if name not in present:
            raise BuildError(f"{what} needs the argument '{name}'", origin=origin_of(source, "type"), key=name)
    check_annotations(entry, settings, source=source)


def check_annotations(entry: Entry, settings: Mapping[str, Any], *, source: object) -> None:
    """Checks arguments that footplate or torch annotates as bools or numbers.

    Without this check, a string such as "no" would be treated as true. Numbers must not be bools, strings or NaN. An
    integer may be written as 2.0. An argument annotated as `bool | Mapping` may also be a mapping.

    Raises:
        ArgumentError: A value does not match its annotation.
    """
    for key, allowed in wrong_types(entry, settings):
        if bool in allowed or (not {int, float}.isdisjoint(allowed) and isinstance(settings[key], _SCALARS)):
            text = f"'{key}' must be {describe_types(allowed)}"
            raise ArgumentError(text, key=key, found=settings[key], origin=origin_of(source, key))


def wrong_types(entry: Entry, settings: Mapping[str, Any]) -> Iterator[tuple[str, tuple[type, ...]]]:
    """Yields the name and the allowed types of each argument whose value does not match its annotation.

    Classes may accept values that their annotations do not allow, so do not reject a value only because of a mismatch.
    """
    for key, allowed in arguments_of(entry).types.items():
        if key in settings and not matches_types(settings[key], allowed):
            yield key, allowed


def matches_types(value: Any, allowed: tuple[type, ...]) -> bool:
    """Checks whether a value of a config matches one of the types. An empty tuple allows any value."""
    if not allowed or not isinstance(value, _CONFIG_TYPES):
        return True
    if isinstance(value, (bool, str)):
        return (bool if isinstance(value, bool) else str) in allowed  # a bool is an int, a string is a Sequence
    if isinstance(value, float) and not value.is_integer() and float not in allowed:
        return False
    if isinstance(value, (int, float)):
        return not math.isnan(value) and not {int, float}.isdisjoint(allowed)
    is_list = isinstance(value, (list, tuple)) and not {list, tuple}.isdisjoint(allowed)
    return is_list or isinstance(value, allowed)


def describe_types(allowed: tuple[type, ...]) -> str:
    """Returns a description of the allowed types, such as "an integer or None"."""
    names = " or ".join(dict.fromkeys(_TYPE_NAMES.get(type_, type_.__name__) for type_ in allowed))
    return names.replace("True or False or", "True, False or")

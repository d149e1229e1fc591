"""Executes a parsed config."""

import sys
import traceback
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from footplate.config import templates
from footplate.config.mapping import ConfigDict
from footplate.config.origins import KeyOrigin, Place, Replaced
from footplate.config.references import FILL_STRING
from footplate.config.script import Script
from footplate.config.traced import TracedDict
from footplate.config.tracer import BASE, MAKE_DICT, Site
from footplate.errors import ConfigError, ConfigKeyError, FootplateError, Origin
from footplate.registry.dotted_paths import mark_executed


class Namespace(dict[str, Any]):
    """The variables of a running config; records the line of each assignment."""

    def __init__(self, path: str, variables: Mapping[str, Any]) -> None:
        super().__init__(variables)
        self.path = path
        self.origins: dict[object, Origin] = {}
        self.imported: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        self.imported.discard(name)
        replaced = Replaced(self[name], self.origins.get(name)) if name in self.origins else None
        self.origins[name] = KeyOrigin(self.path, sys._getframe(1).f_lineno, replaced)
        super().__setitem__(name, value)


def run(
    script: Script,
    path: str,
    base: ConfigDict,
    base_names: list[str],
    helpers: Callable[[Namespace], Mapping[str, Any]] | None = None,
) -> Namespace:
    """Executes a config and returns its variables.

    Args:
        script: The result of `parse`.
        path: The path of the file.
        base: The merged bases; the config may change them through `_base_`.
        base_names: The paths in `{{ _base_.path }}` references, by number.
        helpers: Creates the functions that rewritten imports call.

    Raises:
        ConfigError: If the config fails.
    """
    references = _references(script, path, base, base_names)
    variables: dict[str, Any] = {f"__footplate_base_{number}__": value for number, value in references.items()}
    variables[MAKE_DICT] = _dict_maker(script.sites)
    variables[FILL_STRING] = lambda text: templates.fill_string(text, references.__getitem__)
    if not script.pure:
        variables[BASE] = base
    namespace = Namespace(path, variables)
    if helpers is not None:
        dict.update(namespace, helpers(namespace))
    mark_executed(path)
    try:
        exec(script.code, namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failure(error, path) from error
    return namespace


def variables_of(namespace: Namespace, pure: bool) -> ConfigDict:
    """Returns the keys that a config set, without its imports; keeps functions only in a pure-Python config."""
    dropped: tuple[type, ...] = (ModuleType,) if pure else (ModuleType, FunctionType)
    result = ConfigDict()
    for name, value in namespace.items():
        if name.startswith("__") or name == BASE or name in namespace.imported or isinstance(value, dropped):
            continue
        dict.__setitem__(result, name, value)
        if name in namespace.origins:
            result._origins[name] = namespace.origins[name]
    result._origins[None] = Place(namespace.path, 1)
    return result


def _dict_maker(sites: list[Site]) -> Callable[..., TracedDict]:
    def make_dict(site: int, spread: tuple[Any, ...], /, *args: Any, **kwargs: Any) -> TracedDict:
        result = TracedDict.__new__(TracedDict)
        dict.update(result, *args, **kwargs)
        if args and isinstance(args[0], TracedDict):
            result._origins.update(args[0]._origins)
        result._origins.update(sites[site])
        for source in spread:
            if isinstance(source, TracedDict):
                result._origins.update(_places_of_same(result, source))
        return result

    return make_dict


def _places_of_same(mapping: Mapping[Any, Any], source: TracedDict) -> dict[object, Origin]:
    """Returns the origins of the values in `mapping` that still come from `source`, not from a later dict."""
    known = source._origins
    return {key: known[key] for key, value in source.items() if key in known and mapping.get(key) is value}


def _references(script: Script, path: str, base: ConfigDict, names: list[str]) -> dict[int, Any]:
    return {number: _value_at(base, names[number], Place(path, line)) for number, line in script.references.items()}


def fill_references(value: Any, base: ConfigDict, names: list[str], origin: Origin) -> Any:
    """Replaces the reference markers that `expand` put into strings by values of the base."""
    if isinstance(value, TracedDict):
        result = TracedDict()
        for key, item in value.items():
            place = value._origins.get(key, origin)
            dict.__setitem__(result, key, fill_references(item, base, names, place))
        result._remember(value)
        return result
    if isinstance(value, (list, tuple)):
        return type(value)([fill_references(item, base, names, origin) for item in value])
    if isinstance(value, str):
        return templates.fill_string(value, lambda number: _value_at(base, names[number], origin))
    return value


def _value_at(base: ConfigDict, name: str, origin: Origin) -> Any:
    value: Any = base
    for part in name.split("."):
        try:
            value = value[int(part)] if isinstance(value, (list, tuple)) else value[part]
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigKeyError(
                f"the base has no '{name}'", origin=origin, suggestion=getattr(error, "suggestion", None)
            ) from error
    return value


def _failure(error: BaseException, path: str) -> FootplateError:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    origin = Place(path, (lines[-1] if lines else None) or 1)
    if isinstance(error, FootplateError):
        inside = error.origin is not None and error.origin.file == path
        error.origin = error.origin if inside else origin
        return error
    name = type(error).__name__
    text = str(error).split("\n")[0][:200]
    return ConfigError(
        f"the config fails with {name}: {text}" if text else f"the config fails with {name}", origin=origin
    )

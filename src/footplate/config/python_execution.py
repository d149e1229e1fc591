"""Executes a parsed .py config and records the line of each assignment."""

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from footplate.config.config_dict import ConfigDict
from footplate.config.imports import import_lazily
from footplate.config.origins import KeyOrigin, Place, Replaced, TracedDict
from footplate.config.python_parser import BASE, FILL_STRING, IMPORT, INHERIT, MAKE_DICT, KeyLines, Script
from footplate.config.sources import fill_string, referenced_value
from footplate.errors import ConfigError, ConfigKeyError, FootplateError, Origin
from footplate.registry.dotted_paths import mark_executed

# Loads the base with a relative level and a module name. Returns its keys and the names that it imported.
LoadModule = Callable[[int, str, Origin], tuple[ConfigDict, Mapping[str, Any]]]


class Namespace(dict[str, Any]):
    """The variables of a running config.

    Attributes:
        key_lines: The lines of each dict's keys; see `Script`.
        origins: Maps each variable to the place where it was last set, with its earlier values.
        imported: The variables that are imports and not keys of the config.
    """

    def __init__(self, path: str, variables: Mapping[str, Any], key_lines: Sequence[KeyLines] = ()) -> None:
        super().__init__(variables)
        self.path = path
        self.key_lines = key_lines
        self.origins: dict[object, Origin] = {}
        self.imported: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        self.imported.discard(name)
        replaced = Replaced(self[name], self.origins.get(name)) if name in self.origins else None
        self.origins[name] = KeyOrigin(self.path, sys._getframe(1).f_lineno, replaced)
        super().__setitem__(name, value)

    def make_dict(self, index: int, unpacked: tuple[Any, ...], /, *args: Any, **kwargs: Any) -> TracedDict:
        """Creates a dict that records the lines of its keys; see `python_parser`."""
        result = TracedDict.__new__(TracedDict)
        dict.update(result, *args, **kwargs)
        if args and isinstance(args[0], TracedDict):
            result._origins.update(args[0]._origins)
        result._origins.update(self.key_lines[index])
        for source in unpacked:
            if isinstance(source, TracedDict):
                # Copies only the origins of values that no later dict has replaced.
                origins = source._origins
                result._origins.update(
                    {key: origins[key] for key, value in source.items() if key in origins and result.get(key) is value}
                )
        return result

    def import_name(self, name: str, target: str, line: int) -> None:
        """Binds `name` to a lazy import of `target`."""
        super().__setitem__(name, import_lazily(target, Place(self.path, line)))
        self.imported.add(name)

    def inherit(
        self, mapping: ConfigDict, imported: Mapping[str, Any], module: str, names: list[tuple[str, str]], line: int
    ) -> None:
        """Binds names of a base to names in this config. The name `*` stands for all names of the base.

        Raises:
            ConfigKeyError: The base has no such name.
        """
        available = {**imported, **mapping}
        for name, bound in [(name, name) for name in available] if names[0][0] == "*" else names:
            if name not in available:
                raise ConfigKeyError(f"'{module}' has no '{name}'", origin=Place(self.path, line))
            origin, earlier = mapping._origins.get(name), self.origins.get(bound)
            if origin is not None:
                replaced = Replaced(self[bound], earlier) if earlier is not None else None
                self.origins[bound] = KeyOrigin(*origin, replaced) if replaced else origin
            super().__setitem__(bound, available[name])
            self.imported.discard(bound)
            if name in imported:
                self.imported.add(bound)


def execute(script: Script, path: str, base: ConfigDict, references: list[str], load_module: LoadModule) -> Namespace:
    """Executes a config and returns its variables.

    Args:
        script: The parsed config.
        path: The path of the file.
        base: The merged bases, which the config may change through `_base_`.
        references: The paths in `{{ _base_.path }}` references, in the order of their indices.
        load_module: Loads the bases of a pure-Python config.

    Raises:
        ConfigError: The config raises an error.
    """
    values = {
        number: referenced_value(base, references[number], Place(path, line))
        for number, line in script.references.items()
    }
    variables = {f"__footplate_base_{number}__": value for number, value in values.items()}
    namespace = Namespace(path, variables, script.key_lines)

    def inherit(level: int, module: str, names: list[tuple[str, str]], line: int) -> None:
        namespace.inherit(*load_module(level, module, Place(path, line)), module, names, line)

    functions = {
        MAKE_DICT: namespace.make_dict,
        FILL_STRING: lambda text: fill_string(text, values.__getitem__),
    }
    imports = {IMPORT: namespace.import_name, INHERIT: inherit}
    dict.update(namespace, {**functions, **(imports if script.pure else {BASE: base})})
    mark_executed(path)
    try:
        exec(script.code, namespace)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        origin = Place(path, (lines[-1] if lines else None) or 1)
        if isinstance(error, FootplateError):
            if error.origin is None or error.origin.file != path:
                error.origin = origin
            raise
        text = str(error).split("\n")[0][:200]
        message = f"executing the config raised {type(error).__name__}"
        raise ConfigError(f"{message}: {text}" if text else message, origin=origin) from error
    return namespace


def variables_of(namespace: Namespace, pure: bool) -> ConfigDict:
    """Returns the keys that a config set, without its imports. Includes functions only for a pure-Python config."""
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

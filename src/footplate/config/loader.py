"""Loads a config with its bases. Executes .py configs and records the line of each assignment."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from footplate.config.config_dict import ConfigDict, copy_as_config_dict, merge_into
from footplate.config.formats import read_data
from footplate.config.imports import import_lazily
from footplate.config.origins import KeyOrigin, Place, Replaced, TracedDict, shown_path
from footplate.config.overrides import parse_value
from footplate.config.python_parser import BASE, FILL_STRING, IMPORT, INHERIT, MAKE_DICT, KeyLines, Script, parse
from footplate.config.sources import (
    absolute,
    expand_placeholders,
    fill_references,
    fill_string,
    is_recipe,
    locate,
    locate_module,
    read_text,
    referenced_value,
    split_package,
    suffix_of,
)
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, FootplateError, Origin
from footplate.registry.dotted_paths import mark_executed

_logger = logging.getLogger("footplate.config")


class Options(NamedTuple):
    """The options for reading files."""

    predefined: bool = True  # whether to replace `{{ fileDirname }}` and similar placeholders
    environment: bool = True  # whether to replace environment variables
    pure: bool | None = None  # whether .py files are pure-Python configs; None detects it


class Loaded(NamedTuple):
    """A config with its bases merged.

    Attributes:
        mapping: The keys and values.
        texts: The text of each file, bases first.
        environment: The environment variables that were used.
        imported: The names that a pure-Python config imported. Configs that inherit from it may use them.
    """

    mapping: ConfigDict
    texts: list[str]
    environment: dict[str, str]
    imported: dict[str, Any]


def load(path: str, options: Options, asked_at: Origin | None = None, chain: tuple[str, ...] = ()) -> Loaded:
    """Loads the config at an absolute path and its bases.

    `asked_at` is the place that refers to the file. `chain` contains the files that are being loaded.

    Raises:
        ConfigError: A file is missing or invalid, or inherits from itself.
    """
    if path in chain:
        names = " -> ".join(shown_path(name) for name in (*chain[chain.index(path) :], path))
        raise ConfigError(f"circular `_base_`: {names}", origin=asked_at, key=BASE)
    text = read_text(path, asked_at)
    return load_text(text, path, suffix_of(path, asked_at), options, chain)


def load_text(text: str, path: str, suffix: str, options: Options, chain: tuple[str, ...] = ()) -> Loaded:
    """Loads a config from its text. `path` is used in messages and for relative paths of bases."""
    return _FileLoader(text, path, suffix, options, (*chain, path)).load()


class _FileLoader:
    """Loads one config file. The bases are loaded first, and the keys of the file are then merged into them."""

    def __init__(self, text: str, path: str, suffix: str, options: Options, chain: tuple[str, ...]) -> None:
        self._text, self._path, self._suffix = text, path, suffix
        self._options, self._chain = options, chain
        self._bases: list[Loaded] = []
        write = repr if suffix == ".py" else json.dumps
        self._expanded = expand_placeholders(
            text,
            path,
            predefined=options.predefined,
            environment=options.environment,
            literal=lambda value: write(parse_value(value)),
        )

    def load(self) -> Loaded:
        origin = Place(self._path, 1)
        imported: dict[str, Any] = {}
        if self._suffix == ".py":
            mapping, imported = self._load_script()
        else:
            own: Any = read_data(self._expanded.text, self._path, self._suffix)
            base_origin = origin_of(own, BASE)
            names = own.pop(BASE, [])
            names = [names] if isinstance(names, str) else names
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                message = "`_base_` must be a path or a list of paths"
                raise ConfigError(message, origin=base_origin, key=BASE, found=names)
            for name in names:
                self._load_base(name, base_origin or origin)
            base = self._joined_bases()
            if self._expanded.references:
                own = fill_references(own, base, self._expanded.references, origin)
            mapping = self._merge(base, own)
        environment: dict[str, str] = {}
        for each in self._bases:
            environment.update(each.environment)
        texts = [text for each in self._bases for text in each.texts] + [f"{self._path}\n{self._text}\n"]
        return Loaded(mapping, texts, {**environment, **self._expanded.environment}, imported)

    def _load_script(self) -> tuple[ConfigDict, dict[str, Any]]:
        script = parse(self._path, self._expanded.text, pure=self._options.pure)
        for name, origin in script.bases:
            self._load_base(name, origin)
        base = self._joined_bases()
        namespace = self._execute(script, base)
        mapping = self._merge(base, variables_of(namespace, script.pure))
        if BASE in script.reads:
            # The code may have put one dict of the base in several places; give each place its own copy.
            mapping = copy_as_config_dict(mapping)
        for name in script.reads.union(path.split(".")[0] for path in self._expanded.references):
            key_origin = mapping._origins.get(name)
            if isinstance(key_origin, KeyOrigin):
                key_origin.read = key_origin.read_here = True
        return mapping, {name: namespace[name] for name in namespace.imported}

    def _execute(self, script: Script, base: ConfigDict) -> "Namespace":
        """Executes a .py config and returns its variables. The config may change its merged bases through `_base_`.

        Raises:
            ConfigError: The config raises an error.
        """
        path, references = self._path, self._expanded.references
        values = {
            number: referenced_value(base, references[number], Place(path, line))
            for number, line in script.references.items()
        }
        variables = {f"__footplate_base_{number}__": value for number, value in values.items()}
        namespace = Namespace(path, variables, script.key_lines)

        def inherit(level: int, module: str, names: list[tuple[str, str]], line: int) -> None:
            if level:
                folder = os.path.join(os.path.dirname(path), *[os.pardir] * (level - 1))
                target = absolute(os.path.join(folder, *module.split(".")) + ".py")
            else:
                target = locate_module(module, Place(path, line))
            loaded = load(target, self._options, Place(path, line), self._chain)
            self._bases.append(loaded)
            namespace.inherit(loaded.mapping, loaded.imported, module, names, line)

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

    def _load_base(self, name: str, origin: Origin) -> None:
        """Loads a base. `name` is a path relative to this file, or `package::file`."""
        parts = split_package(name)
        if parts:
            target = locate(*parts, origin)
        else:
            target = absolute(os.path.join(os.path.dirname(self._path), os.path.expanduser(name)))
            if not os.path.exists(target) and os.path.isfile(f"{target}.py"):
                target += ".py"  # a few published configs omit the suffix
        if self._suffix != ".py" and target.lower().endswith(".py") and not is_recipe(target):
            raise ConfigError(
                f"a {self._suffix[1:].upper()} config cannot inherit from the Python config '{name}'",
                origin=origin,
                key=BASE,
                notes=[
                    "Reading a Python config executes code, which reading a data file must never do.",
                    f"Convert the base with `footplate explain {name} --dump base.yaml`, or make this a Python config.",
                ],
            )
        loaded = load(target, self._options, origin, self._chain)
        if parts:
            _set_scope(loaded.mapping, parts[0])
        self._bases.append(loaded)

    def _joined_bases(self) -> ConfigDict:
        """Joins the keys of all bases.

        Raises:
            ConfigKeyError: Two bases define the same key.
        """
        if len(self._bases) == 1:
            return self._bases[0].mapping
        result = ConfigDict()
        for base in (each.mapping for each in self._bases):
            for key in base:
                if key in result:
                    raise ConfigKeyError(
                        f"two bases of '{shown_path(self._path)}' define the key '{key}'",
                        origin=base._origins.get(key),
                        key=str(key),
                        notes=[f"It is also defined at {result._origins.get(key)}.", "Only one base may define a key."],
                    )
            dict.update(result, base)
            result._origins.update(base._origins)
        return result

    def _merge(self, base: ConfigDict, own: Any) -> ConfigDict:
        """Merges the keys of this file into its base. Logs the notice in `_deprecation_`."""
        keys: ConfigDict = copy_as_config_dict(own)
        notice = keys.pop("_deprecation_")
        if isinstance(notice, ConfigDict):
            reference = f" (see {notice['reference']})" if notice.get("reference") else ""
            expected = f"; use '{notice['expected']}'" if notice.get("expected") else ""
            _logger.warning("The config '%s' is deprecated%s%s.", shown_path(self._path), expected, reference)
        return merge_into(base, keys) if base else keys


def _set_scope(value: Any, scope: str) -> None:
    """Sets `_scope_` in every outermost dict that has a `type`. Nested dicts inherit the scope."""
    if isinstance(value, dict):
        if "type" in value:
            dict.setdefault(value, "_scope_", scope)
            return
        for item in value.values():
            _set_scope(item, scope)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _set_scope(item, scope)


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

"""Defines `Config`, and loads a config file with its bases.

Executes .py configs and records the line of each assignment.
"""

import copy
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from io import IOBase
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from footplate.config.config_dict import (
    ConfigDict,
    KeyOrigin,
    Replaced,
    TracedDict,
    as_config_dict,
    calling_line,
    mark_read,
    merge_into,
)
from footplate.config.formats import write_config, write_python
from footplate.config.imports import REFERENCE, LazyObject, import_custom, import_lazily
from footplate.config.key_paths import merge_options
from footplate.config.python_parser import BASE, FILL, IMPORT, INHERIT, MAKE_DICT, parse
from footplate.config.sources import (
    absolute,
    expand_placeholders,
    fill_references,
    fill_string,
    find_config,
    is_recipe,
    locate,
    locate_in_clone,
    read_text,
    suffix_of,
)
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, ConfigTypeError, FootplateError, Origin, shown_path
from footplate.extensions import extensions
from footplate.messages import describe_exception
from footplate.registry.dotted_paths import mark_executed
from footplate.storage import commit_bytes

_RESERVED = ("filename", "text", "pretty_text", "env_variables")
_logger = logging.getLogger("footplate.config")


class Config:
    """A config that records the origin of each key. Keys are accessible as attributes and items.

    Args:
        cfg_dict: The keys and values. If this is a Config, its source text, source file and environment variables are
            the defaults for the next three arguments.
        cfg_text: The source text.
        filename: The source file.
        env_variables: The environment variables used in the files.
        format_python_code: Accepted for compatibility and ignored; dumps are always formatted.

    Attributes:
        filename: The source file, or None. A name without a suffix, such as a recipe name, is replaced with the path of
            the file.
        text: The source text of the file and its bases, each preceded by its path.
        env_variables: The environment variables used in the files, with their values.

    Raises:
        ConfigError: `cfg_dict` is not a mapping, or has the key `filename`, `text`, `pretty_text` or `env_variables`.

    Example:
        >>> config = Config.fromstring("optimizer = dict(type='SGD', lr=0.1)", ".py")
        >>> config.optimizer.lr
        0.1
    """

    # Stored in `__dict__`, because attribute assignment sets a key.
    _cfg_dict: ConfigDict
    filename: str | None
    text: str
    env_variables: dict[str, str]
    _untranslated: "Config | None"  # the first-generation config that this one was translated from

    def __init__(
        self,
        cfg_dict: "Mapping[str, Any] | Config | None" = None,
        cfg_text: str | None = None,
        filename: str | os.PathLike[str] | None = None,
        env_variables: Mapping[str, str] | None = None,
        format_python_code: bool = True,
    ) -> None:
        mapping: Any = cfg_dict or {}
        if isinstance(cfg_dict, Config):
            mapping = cfg_dict._cfg_dict
            cfg_text = cfg_text or cfg_dict.text
            filename = filename or cfg_dict.filename
            env_variables = env_variables or cfg_dict.env_variables
        if not isinstance(mapping, Mapping):
            raise ConfigTypeError("a Config must be created from a dict", found=cfg_dict)
        for key in _RESERVED:
            if key in mapping:
                raise ConfigKeyError(
                    f"'{key}' is a reserved name and cannot be a config key",
                    origin=origin_of(mapping, key),
                    key=key,
                )
        self.__dict__.update(
            _cfg_dict=as_config_dict(mapping if isinstance(mapping, dict) else dict(mapping), copies=True),
            filename=os.fspath(filename) if filename is not None else None,
            text=cfg_text or "",
            env_variables=dict(env_variables or {}),
            _untranslated=cfg_dict._untranslated if isinstance(cfg_dict, Config) else None,
        )

    @staticmethod
    def fromfile(
        filename: str | os.PathLike[str],
        use_predefined_variables: bool = True,
        import_custom_modules: bool = True,
        use_environment_variables: bool = True,
        lazy_import: bool | None = None,
        format_python_code: bool = True,
    ) -> "Config":
        """Loads a .py, .json or .yaml config with its bases.

        Args:
            filename: A path, `package::file` for a config in an installed package, or the name of a recipe.
            use_predefined_variables: Whether to replace `{{ fileDirname }}` and similar placeholders.
            import_custom_modules: Whether to import the modules in `custom_imports`.
            use_environment_variables: Whether to replace `{{$NAME:default}}` with environment variables.
            lazy_import: Whether a .py file is a pure-Python config. Detected by default.
            format_python_code: Accepted for compatibility and ignored; dumps are always formatted.

        Raises:
            ConfigError: A file is missing or invalid, or a module in `custom_imports` cannot be imported. The message
                states the file and, if known, the line.
        """
        path = find_config(filename)
        options = Options(use_predefined_variables, use_environment_variables, lazy_import)
        loaded = load(path, options)
        shown = filename if os.path.splitext(filename)[1] else path
        config = Config(loaded.mapping, loaded.text, shown, loaded.environment)
        if import_custom_modules:
            import_custom(config)
        return config

    @staticmethod
    def fromstring(cfg_str: str, file_format: str) -> "Config":
        """Loads a config from a string. Relative base paths are resolved against the current folder.

        Imports the modules in `custom_imports`.

        Args:
            cfg_str: The text.
            file_format: `.py`, `.json` or `.yaml`.

        Raises:
            ConfigError: The text is invalid.
        """
        path = f"{absolute('.')}/<string>{file_format}"
        loaded = FileLoader(cfg_str, path, suffix_of(path), Options()).load()
        config = Config(loaded.mapping, loaded.text, None, loaded.environment)
        import_custom(config)
        return config

    @staticmethod
    def diff(cfg1: "str | os.PathLike[str] | Config", cfg2: "str | os.PathLike[str] | Config") -> str:
        """Returns the differences between two configs in unified diff format."""
        import difflib

        first, second = (
            cfg if isinstance(cfg, Config) else Config.fromfile(cfg, import_custom_modules=False)
            for cfg in (cfg1, cfg2)
        )
        lines = difflib.unified_diff(first.pretty_text.split("\n"), second.pretty_text.split("\n"), lineterm="")
        return "\n".join(lines)

    @property
    def pretty_text(self) -> str:
        """The resolved config as Python source."""
        return write_python(self._cfg_dict)

    @property
    def _origins(self) -> Mapping[object, Origin]:
        return self._cfg_dict._origins

    def to_dict(self) -> dict[str, Any]:
        """Returns the config as plain dicts. Lazily imported names become dotted strings."""
        return self._cfg_dict.to_dict()

    def dump(self, file: str | os.PathLike[str] | None = None) -> str | None:
        """Writes the resolved config to a single file, or returns its text. The suffix selects the format.

        Args:
            file: The path, or None to return the text in the format of the source file (by default, Python).

        Raises:
            ConfigError: The format cannot represent a value.
        """
        suffix = suffix_of(os.fspath(file if file is not None else self.filename or "config.py"))
        text = write_config(self._cfg_dict, suffix)
        if file is None:
            return text
        commit_bytes(file, text.encode())
        return None

    def merge_from_dict(self, options: Mapping[str, Any], allow_list_keys: bool = True) -> None:
        """Merges options, such as `{"model.backbone.depth": 50, "pipeline.0.type": "Load"}`, into the config.

        Args:
            options: Maps key paths to values. Dicts are merged and support `_delete_`.
            allow_list_keys: Whether numbers in a path may be list indices.

        Raises:
            ConfigError: A path is malformed, goes through a value that is neither a dict nor a list, or goes past the
                end of a list. Also raised if a dict would be merged into a value that is not a dict.
        """
        merge_options(self._cfg_dict, options, origin=calling_line(), allow_list_keys=allow_list_keys)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_cfg_dict" not in self.__dict__:
            raise AttributeError(name)
        if name in ("_filename", "_text", "_env_variables"):  # which code for mmcv and MMEngine reads
            return self.__dict__[name[1:]]
        return getattr(self._cfg_dict, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._cfg_dict[name] = value

    def __delattr__(self, name: str) -> None:
        delattr(self._cfg_dict, name)

    def __getitem__(self, name: str) -> Any:
        return self._cfg_dict[name]

    __setitem__ = __setattr__

    def __delitem__(self, name: str) -> None:
        del self._cfg_dict[name]

    def __contains__(self, name: object) -> bool:
        return name in self._cfg_dict

    def __iter__(self) -> Iterator[str]:
        return iter(self._cfg_dict)

    def __len__(self) -> int:
        return len(self._cfg_dict)

    def __repr__(self) -> str:
        return f"Config (path: {self.filename}): {self._cfg_dict!r}"

    def __copy__(self) -> "Config":
        return self._with(copy.copy(self._cfg_dict))

    copy = __copy__

    def __deepcopy__(self, memo: dict[int, Any]) -> "Config":
        result = self._with(copy.deepcopy(self._cfg_dict, memo))
        memo[id(self)] = result
        return result

    def _with(self, mapping: ConfigDict) -> "Config":
        copied = Config.__new__(type(self))
        copied.__dict__.update(self.__dict__, _cfg_dict=mapping, env_variables=dict(self.env_variables))
        return copied


class Options(NamedTuple):
    """Options for reading config files."""

    predefined: bool = True  # whether to replace `{{ fileDirname }}` and similar placeholders
    environment: bool = True  # whether to replace environment variables
    pure: bool | None = None  # whether .py files are pure-Python configs; None detects it


class Loaded(NamedTuple):
    """A config, merged with its bases.

    Attributes:
        mapping: The keys and values.
        text: The source text of all files, bases first; see `Config`.
        environment: The environment variables that were used.
        imported: The names that a pure-Python config imports, with their values. Inheriting configs may use them too.
    """

    mapping: ConfigDict
    text: str
    environment: dict[str, str]
    imported: dict[str, Any]


def load(path: str, options: Options, referrer: Origin | None = None, chain: tuple[str, ...] = ()) -> Loaded:
    """Loads a config and its bases. `path` must be absolute.

    `referrer` is the config line that refers to the file. `chain` contains the files that are being loaded.

    Raises:
        ConfigError: A file is missing or invalid, or inherits from itself.
    """
    if path in chain:
        names = " -> ".join(shown_path(name) for name in (*chain[chain.index(path) :], path))
        raise ConfigError(f"circular inheritance: {names}", origin=referrer, key=BASE)
    text = read_text(path, referrer)
    return FileLoader(text, path, suffix_of(path, referrer), options, chain).load()


class FileLoader:
    """Loads the text of one config: first its bases, then its own keys, which are merged into the bases.

    Args:
        text: The text of the file.
        path: The path of the file, which messages contain and relative base paths are resolved against.
        suffix: The suffix of the format.
        options: The options.
        chain: The files that are being loaded and inherit from this one.
    """

    def __init__(self, text: str, path: str, suffix: str, options: Options, chain: tuple[str, ...] = ()) -> None:
        self._text = text
        self._path = path
        self._suffix = suffix
        self._options = options
        self._chain = (*chain, path)
        self._bases: list[Loaded] = []
        self._base = ConfigDict()  # the keys of the files in `_base_`
        self._is_in_base = False
        self._expanded, self._environment = expand_placeholders(
            text, path, suffix, predefined=options.predefined, environment=options.environment
        )

    def load(self) -> Loaded:
        """Returns the config, merged with its bases."""
        mapping, imported = self._load_script() if self._suffix == ".py" else (self._load_data(), {})
        text = f"{self._path}\n{self._text}"
        environment = self._environment
        for base in reversed(self._bases):
            text = f"{base.text}\n{text}"
            environment = base.environment | environment
        return Loaded(mapping, text, environment, imported)

    def _load_data(self) -> ConfigDict:
        from footplate.config.data_formats import read_data  # not needed for Python configs

        keys = read_data(self._expanded, self._path, self._suffix)
        origin = origin_of(keys, BASE) or Origin(self._path, 1)
        base = self._set_base(keys.pop(BASE, []), origin)
        return self._merge(base, fill_references(keys, base, origin))

    def _load_script(self) -> tuple[ConfigDict, dict[str, Any]]:
        """Executes a .py config, which loads its bases when it sets `_base_`, and may change them through `_base_`."""
        script = parse(self._path, self._expanded, pure=self._options.pure)
        namespace = Namespace(
            self._path,
            lambda names, line: self._set_base(names, Origin(self._path, line), script.base_lines.get(line, ())),
        )
        namespace.add("__file__", self._path)
        namespace.add(MAKE_DICT, namespace.make_dict)
        namespace.add(REFERENCE, lambda name: LazyObject(name, Origin(self._path, sys._getframe(1).f_lineno)))
        namespace.add(FILL, lambda text, line: fill_string(text, self._base, Origin(self._path, line)))
        if script.is_pure:
            namespace.add(IMPORT, namespace.import_name)
            namespace.add(INHERIT, partial(self._inherit, namespace))
        self._execute(script.code, namespace)
        if namespace.get(BASE, self._base) is not self._base:  # by a function with `global _base_`, for example
            raise ConfigError("`_base_` must be set by a top-level assignment", origin=Origin(self._path, 0), key=BASE)
        mapping = self._merge(self._base, variables_of(namespace, script.is_pure))
        if BASE in script.reads:
            # The code may use a dict from the base in several places, each of which needs its own copy.
            mapping = as_config_dict(mapping, copies=True)
        mark_read(mapping, script.reads)
        return mapping, {name: namespace[name] for name in namespace.imported}

    def _execute(self, code: CodeType, namespace: "Namespace") -> None:
        """Executes a .py config.

        Raises:
            ConfigError: The config raises an error.
        """
        mark_executed(self._path)
        try:
            exec(code, namespace)
        except (Exception, SystemExit) as error:
            frames = list(traceback.walk_tb(error.__traceback__))
            lines = [line for frame, line in frames if frame.f_code.co_filename == self._path]
            origin = Origin(self._path, lines[-1] if lines else 0)
            if isinstance(error, FootplateError):
                # An error in a key of a base has the origin of that key, but the mistake is here.
                if not self._is_in_base and (error.origin is None or error.origin.file != self._path):
                    error.origin = origin
                raise
            message = f"executing the config raised {describe_exception(error)}"
            is_here = frames[-1][0].f_code.co_filename == self._path
            name = error.name if is_here and isinstance(error, NameError) else None
            notes = []
            if any(name in base.mapping for base in self._bases):
                is_text = BASE in namespace
                advice = f"Write `{BASE}.{name}`" if is_text else f"Import '{name}' in `with read_base():`"
                notes = [f"A base defines '{name}'. {advice}."]
            raise ConfigError(message, origin=origin, notes=notes) from error

    def _inherit(
        self, namespace: "Namespace", level: int, module: str, names: list[tuple[str, str]], line: int
    ) -> None:
        """Loads the base for `from module import names` in `with read_base():`."""
        origin = Origin(self._path, line)
        if level:
            folder = os.path.join(os.path.dirname(self._path), *[os.pardir] * (level - 1))
            target = absolute(os.path.join(folder, *module.split(".")) + ".py")
        else:
            package, _, file = module.partition(".")
            target = locate(package, file.replace(".", "/"), origin)
        self._is_in_base = True
        base = load(target, self._options, origin, self._chain)
        self._is_in_base = False
        self._bases.append(base)
        namespace.inherit(base, module, names, origin)

    def _set_base(self, names: Any, origin: Origin, lines: Iterable[int] = ()) -> ConfigDict:
        """Loads the files in `_base_` and returns their joined keys.

        Args:
            names: The value of `_base_`.
            origin: Where it is set.
            lines: The lines of its first items. The others are on the line of `origin`.

        Raises:
            ConfigError: The value is not a path or a list of paths, or two bases define the same key.
        """
        self._is_in_base = True
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
            raise ConfigError("`_base_` must be a path or a list of paths", origin=origin, key=BASE, found=names)
        for name, line in zip(names, [*lines, *[origin.line] * len(names)], strict=False):
            self._load_base(name, Origin(origin.file, line))
        self._base = self._joined_bases()
        self._is_in_base = False
        return self._base

    def _load_base(self, name: str, origin: Origin) -> None:
        """Loads a base. `name` is a path relative to this file, or `package::file`."""
        package, mark, file = name.partition("::")
        if mark:
            target = locate(package, file, origin)
        else:
            target = absolute(os.path.join(os.path.dirname(self._path), os.path.expanduser(name)))
            if not os.path.exists(target):
                if os.path.isfile(f"{target}.py"):
                    target += ".py"  # a few published configs omit the suffix
                elif elsewhere := locate_in_clone(name, origin):
                    _logger.info("The base '%s' does not exist. Using '%s'.", name, elsewhere)
                    target = elsewhere
        if self._suffix != ".py" and target.lower().endswith(".py") and not is_recipe(target):
            raise ConfigError(
                f"a {self._suffix[1:].upper()} config cannot inherit from the Python config '{name}'",
                origin=origin,
                key=BASE,
                notes=[
                    "Reading a Python config executes code, but reading a data config must never do so.",
                    f"Convert the base with `footplate explain {shown_path(target)} --dump base.yaml`, "
                    "or make this a Python config.",
                ],
            )
        loaded = load(target, self._options, origin, self._chain)
        # First-generation configs have no scopes, and the code bases' own functions do not accept the key.
        if mark and not any(extension.translates(loaded.mapping) for extension in extensions()):
            _set_scope(loaded.mapping, package)
        self._bases.append(loaded)

    def _joined_bases(self) -> ConfigDict:
        """Combines the keys of all bases.

        Raises:
            ConfigKeyError: Two bases define the same key.
        """
        result = ConfigDict()
        for mapping in (base.mapping for base in self._bases):
            for key in mapping:
                if key in result:
                    other = result._origins.get(key) or "an unknown line"
                    raise ConfigKeyError(
                        f"two bases of '{shown_path(self._path)}' define the key '{key}'",
                        origin=mapping._origins.get(key),
                        key=str(key),
                        notes=[f"Only one base may define a key. The other definition is at {other}."],
                    )
            dict.update(result, mapping)
            result._origins.update(mapping._origins)
        return result

    def _merge(self, base: ConfigDict, mapping: Any) -> ConfigDict:
        """Merges the keys of this file into its base, and logs the notice in `_deprecation_`, if any."""
        keys: ConfigDict = as_config_dict(mapping, copies=True)
        notice = keys.pop("_deprecation_")
        if isinstance(notice, ConfigDict):
            advice = "".join(f"; {name}: {text}" for name, text in notice.items())
            _logger.warning("The config '%s' is deprecated%s", shown_path(self._path), advice)
        return merge_into(base, keys) if base else keys


def _set_scope(value: Any, scope: str) -> None:
    """Sets `_scope_` in each outermost dict with a `type`, unless it is already set. Nested dicts inherit the scope."""
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
    """The variables of a config that is being executed.

    Args:
        path: The path of the config.
        set_base: Called with the value and the line when the config sets `_base_`. Returns the new value.

    Attributes:
        origins: The place where each variable was last set, with its previous values.
        imported: The variables that are imports rather than config keys.
    """

    def __init__(self, path: str, set_base: Callable[[Any, int], ConfigDict]) -> None:
        super().__init__()
        self.path = path
        self._set_base = set_base
        self.origins: dict[object, Origin] = {}
        self.imported: set[str] = set()

    def __setitem__(self, name: str, value: Any) -> None:
        line = sys._getframe(1).f_lineno
        if name == BASE:
            if BASE in self:
                notes = ["List all files in one `_base_`."]
                raise ConfigError("`_base_` is set twice", origin=Origin(self.path, line), notes=notes)
            self.add(BASE, self._set_base(value, line))
            return
        self.imported.discard(name)
        replaced = Replaced(self[name], self.origins[name]) if name in self and name in self.origins else None
        self.origins[name] = KeyOrigin(self.path, line, replaced)
        super().__setitem__(name, value)

    def add(self, name: str, value: Any) -> None:
        """Adds a variable that the config itself does not set."""
        super().__setitem__(name, value)

    def make_dict(self, line: int, key_lines: Iterable[tuple[Any, int]], /, *args: Any, **kwargs: Any) -> TracedDict:
        """Creates a dict that records the lines of its keys. Called by the code that `python_parser` generates."""
        result = TracedDict()
        dict.update(result, *args, **kwargs)
        result._origins.update(getattr(args[0], "_origins", {}) if args else {})
        result._origins.update((key, Origin(self.path, key_line)) for key, key_line in key_lines)
        result._origins[None] = Origin(self.path, line)
        return result

    def import_name(self, name: str, target: str, line: int) -> None:
        """Binds `name` to a lazy import of `target`."""
        self.add(name, import_lazily(target, Origin(self.path, line)))
        self.imported.add(name)

    def inherit(self, base: Loaded, module: str, names: list[tuple[str, str]], origin: Origin) -> None:
        """Imports names from a base into this config. `*` imports all names.

        Raises:
            ConfigKeyError: The base has no such name.
        """
        available = {**base.imported, **base.mapping}
        for name, bound in [(name, name) for name in available] if names[0][0] == "*" else names:
            if name not in available:
                raise ConfigKeyError(f"the base '{module}' does not define '{name}'", origin=origin)
            self[bound] = available[name]
            if name in base.mapping._origins:
                self.origins[bound] = base.mapping._origins[name]
            if name in base.imported:
                self.imported.add(bound)


def variables_of(namespace: Namespace, is_pure: bool) -> ConfigDict:
    """Returns the variables that a config defines, except imported names and files, which cannot be copied.

    Includes functions for pure configs only.
    """
    dropped: tuple[type, ...] = (ModuleType, IOBase) if is_pure else (ModuleType, IOBase, FunctionType)
    result = ConfigDict()
    for name, value in namespace.items():
        if name.startswith("__") or name == BASE or name in namespace.imported or isinstance(value, dropped):
            continue
        result._set_with_origin(name, value, namespace.origins.get(name))
    result._origins[None] = Origin(namespace.path, 1)
    return result

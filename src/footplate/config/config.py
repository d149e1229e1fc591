"""Defines `Config`, a config file merged with its bases."""

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any

from footplate.config.config_dict import ConfigDict, calling_line, copy_as_config_dict
from footplate.config.config_loader import Loaded, Options, load, load_text
from footplate.config.formats import write_config, write_python
from footplate.config.imports import import_custom
from footplate.config.key_paths import merge_options
from footplate.config.sources import absolute, find_config, suffix_of
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin
from footplate.storage import commit_bytes

_RESERVED = ("filename", "text", "pretty_text", "env_variables")


class Config:
    """A config that records the origin of each key. Keys are accessible as attributes and items.

    Args:
        cfg_dict: The keys and values.
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

    def __init__(
        self,
        cfg_dict: "Mapping[str, Any] | Config | None" = None,
        cfg_text: str | None = None,
        filename: str | os.PathLike[str] | None = None,
        env_variables: Mapping[str, str] | None = None,
        format_python_code: bool = True,
    ) -> None:
        mapping = cfg_dict._cfg_dict if isinstance(cfg_dict, Config) else (cfg_dict or {})
        if not isinstance(mapping, Mapping):
            raise ConfigError("a Config must be created from a dict", found=cfg_dict)
        for key in _RESERVED:
            if key in mapping:
                raise ConfigKeyError(
                    f"'{key}' is a reserved name and cannot be a config key",
                    origin=origin_of(mapping, key),
                    key=key,
                )
        self.__dict__.update(
            _cfg_dict=copy_as_config_dict(mapping if isinstance(mapping, dict) else dict(mapping)),
            filename=os.fspath(filename) if filename is not None else None,
            text=cfg_text or "",
            env_variables=dict(env_variables or {}),
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
        """Loads a .py, .json, .yaml or .toml config with its bases.

        Args:
            filename: A path, `package::file` for a config in an installed package, or the name of a recipe.
            use_predefined_variables: Whether to replace `{{ fileDirname }}` and similar placeholders.
            import_custom_modules: Whether to import the modules in `custom_imports`.
            use_environment_variables: Whether to replace `{{$NAME:default}}` with environment variables.
            lazy_import: Whether a .py file is a pure-Python config. By default, this is detected.
            format_python_code: Accepted for compatibility and ignored; dumps are always formatted.

        Raises:
            ConfigError: A file is missing or invalid. The message states the file and line.
        """
        path = find_config(filename)
        options = Options(use_predefined_variables, use_environment_variables, lazy_import)
        config = _config_of(load(path, options), filename if os.path.splitext(filename)[1] else path)
        if import_custom_modules:
            import_custom(config._cfg_dict)
        return config

    @staticmethod
    def fromstring(cfg_str: str, file_format: str) -> "Config":
        """Loads a config from a string. Relative base paths are resolved against the current folder.

        Imports the modules in `custom_imports`.

        Args:
            cfg_str: The text.
            file_format: `.py`, `.json`, `.yaml` or `.toml`.

        Raises:
            ConfigError: The text is invalid.
        """
        path = f"{absolute('.')}/<string>{file_format}"
        config = _config_of(load_text(cfg_str, path, suffix_of(path), Options()), None)
        import_custom(config._cfg_dict)
        return config

    @staticmethod
    def diff(cfg1: "str | os.PathLike[str] | Config", cfg2: "str | os.PathLike[str] | Config") -> str:
        """Returns the differences between two configs in unified diff format."""
        import difflib

        first, second = (
            config if isinstance(config, Config) else Config.fromfile(config, import_custom_modules=False)
            for config in (cfg1, cfg2)
        )
        return "\n".join(
            difflib.unified_diff(first.pretty_text.split("\n"), second.pretty_text.split("\n"), lineterm="")
        )

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
            ConfigError: A path goes through a value that is neither a dict nor a list, or past the end of a list.
        """
        merge_options(self._cfg_dict, options, origin=calling_line(), allow_list_keys=allow_list_keys)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_cfg_dict" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._cfg_dict, name)

    def __setattr__(self, name: str, value: object) -> None:
        self._cfg_dict[name] = value

    def __delattr__(self, name: str) -> None:
        delattr(self._cfg_dict, name)

    def __getitem__(self, name: str) -> Any:
        return self._cfg_dict[name]

    def __setitem__(self, name: str, value: object) -> None:
        self._cfg_dict[name] = value

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


def _config_of(loaded: Loaded, filename: str | os.PathLike[str] | None) -> Config:
    return Config(loaded.mapping, "\n".join(loaded.texts), filename, loaded.environment)

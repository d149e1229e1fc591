"""Reads and writes the formats of configs: Python, JSON, YAML and TOML."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from footplate.config.merging import joined
from footplate.config.origins import Place
from footplate.config.python_form import dotted_name, write_python
from footplate.config.templates import TEMPLATE
from footplate.config.traced import TracedDict
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

_logger = logging.getLogger("footplate.config")
_RESERVED = ("_base_", "_deprecation_")


class _Form(NamedTuple):
    """The types that a format supports, besides strings, numbers, booleans, lists and dicts with string keys."""

    name: str
    kinds: frozenset[type]
    any_keys: bool


_PYTHON = _Form("Python", frozenset({type(None), tuple, set, frozenset, bytes, complex}), True)
_YAML = _Form("YAML", frozenset({type(None), tuple, set, bytes}), True)
_JSON = _Form("JSON", frozenset({type(None)}), False)
_TOML = _Form("TOML", frozenset(), False)
_FORMS = {".py": _PYTHON, ".yaml": _YAML, ".yml": _YAML, ".json": _JSON, ".toml": _TOML}
_EVERYWHERE = (bool, str, int, float)
_LONGEST = 1 << 20  # characters of a data config
_MOST_SEPARATORS = 100_000


def read_form(
    text: str, path: str, suffix: str, *, longest: int = _LONGEST, most_values: int = _MOST_SEPARATORS
) -> TracedDict:
    """Parses a JSON, YAML or TOML text without executing anything.

    Args:
        text: The text.
        path: The path of its file, for errors.
        suffix: The suffix of the format, such as `.json`.
        longest: The maximum length in characters.
        most_values: The maximum number of values, counted by their separators.

    Raises:
        ConfigSyntaxError: If the text is invalid, or is not a mapping with string keys.
    """
    if len(text) > longest or sum(map(text.count, ",\n[{")) > most_values:
        raise ConfigSyntaxError(
            f"the config is too long: the most are {longest:,} letters and {most_values:,} values",
            origin=Place(path, 1),
        )
    try:
        value = _reader(suffix)(text, path)
    except RecursionError as error:
        raise ConfigSyntaxError("the config is nested too deeply", origin=Place(path, 1)) from error
    if not isinstance(value, TracedDict):
        raise ConfigSyntaxError("a config maps keys to values", origin=Place(path, 1), found=value)
    for key in value:
        if not isinstance(key, str):
            raise ConfigSyntaxError("the keys of a config are names", origin=origin_of(value, key), found=key)
    return value


def write_form(mapping: dict[Any, Any], suffix: str) -> str:
    """Returns the text of a config in the format of a suffix.

    Lazily imported names, classes and functions become dotted strings. In a format without tuples, tuples become lists,
    and a warning is logged.

    Raises:
        ConfigError: If the format cannot represent a value.
    """
    form = _FORMS[suffix]
    simplifier = _Simplifier(form)
    value = simplifier.simplified(mapping, [])
    if simplifier.lists:
        _logger.warning("%s has no tuples: %d were written as lists", form.name, simplifier.lists)
    if suffix == ".py":
        return write_python(value)
    return TEMPLATE.sub(r"\\u007b", _writer(suffix)(value))


def _reader(suffix: str) -> Callable[[str, str], Any]:
    if suffix == ".json":
        from footplate.config.json_form import read_json

        return read_json
    if suffix == ".toml":
        from footplate.config.toml_form import read_toml

        return read_toml
    from footplate.config.yaml_form import read_yaml

    return read_yaml


def _writer(suffix: str) -> Callable[[Any], str]:
    if suffix == ".json":
        from footplate.config.json_form import write_json

        return write_json
    if suffix == ".toml":
        from footplate.config.toml_form import write_toml

        return write_toml
    from footplate.config.yaml_form import write_yaml

    return write_yaml


class _Simplifier:
    """Converts a config to the types that a format supports."""

    def __init__(self, form: _Form) -> None:
        self.form = form
        self.lists = 0

    def simplified(self, value: Any, place: list[Any], origin: Origin | None = None) -> Any:
        if isinstance(value, dict):
            return self._simplified_dict(value, place)
        if type(value) in (list, tuple):
            kept = type(value) is list or tuple in self.form.kinds
            self.lists += not kept
            items = [self.simplified(item, [*place, index], origin) for index, item in enumerate(value)]
            return items if type(value) is list or not kept else tuple(items)
        for kind in _EVERYWHERE:
            if isinstance(value, kind):
                return value if type(value) is kind else kind(value)
        if type(value) in self.form.kinds:
            return value
        name = dotted_name(value)
        if name:
            return name
        raise ConfigError(
            f"{self.form.name} cannot hold {_described(value)}", origin=origin, key=joined(place), found=value
        )

    def _simplified_dict(self, value: dict[Any, Any], place: list[Any]) -> dict[Any, Any]:
        result = {}
        for key, item in value.items():
            origin = origin_of(value, key)
            if not place and (key in _RESERVED or (self.form is _PYTHON and str(key).startswith("__"))):
                raise ConfigError(f"'{key}' at the top of a {self.form.name} config is no key", origin=origin)
            if not isinstance(key, str) and not self.form.any_keys:
                raise ConfigError(
                    f"{self.form.name} has strings as keys only",
                    origin=origin,
                    key=joined([*place, str(key)]),
                    found=key,
                )
            result[key] = self.simplified(item, [*place, key if isinstance(key, str) else str(key)], origin)
        return result


def _described(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"

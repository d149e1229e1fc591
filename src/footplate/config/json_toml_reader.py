"""Reads JSON and TOML. Keys have the origin of their file, without a line."""

import datetime
import json
import re
import sys
from typing import Any

from footplate.config.origins import TracedDict
from footplate.errors import ConfigSyntaxError, Origin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A reference to the base outside of strings and comments. It needs quotes.
_REFERENCE = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\]|\\.)*"|\'[^\'\n]*\'|#[^\n]*'
    r"|(?P<bare>__base__[\w·]+)(?!\s*[:=])",
    re.DOTALL,
)


def read_json(text: str, path: str) -> Any:
    """Parses JSON text.

    Raises:
        ConfigSyntaxError: An object has a duplicate key.
        ValueError: The text is not valid JSON.
    """

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise ConfigSyntaxError(f"the key '{key}' occurs twice in one object", origin=Origin(path, 0), key=key)
            result[key] = value
        return result

    return _traced(json.loads(_quoted(text), object_pairs_hook=build), Origin(path, 0))


def read_toml(text: str, path: str) -> Any:
    """Parses TOML text. Dates become strings.

    Raises:
        ValueError: The text is not valid TOML.
    """
    return _traced(tomllib.loads(_quoted(text)), Origin(path, 0))


def _quoted(text: str) -> str:
    if "__base__" not in text:
        return text
    return _REFERENCE.sub(lambda match: f'"{match[0]}"' if match["bare"] else match[0], text)


def _traced(value: Any, place: Origin) -> Any:
    """Returns a parsed value with `place` as the origin of all keys, and with dates as strings."""
    if isinstance(value, dict):
        result = TracedDict()
        result._origins[None] = place
        for key, item in value.items():
            result._put(key, _traced(item, place), place)
        return result
    if isinstance(value, list):
        return [_traced(item, place) for item in value]
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value

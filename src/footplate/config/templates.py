"""Replaces the placeholders in double braces in a config's text.

`{{ fileDirname }}` and similar names are parts of the file's own path, `{{$NAME:default}}` is an environment variable,
and `{{ _base_.a.b }}` is a value of the base.
"""

import json
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from footplate.config.origins import Place
from footplate.errors import ConfigError, ConfigKeyError

_PREDEFINED = re.compile(r"\{\{\s*(fileDirname|fileBasename|fileBasenameNoExtension|fileExtname)\s*\}\}")
_ENVIRONMENT = re.compile(
    r"\{\{\s*(?P<quote>['\"]?)\s*\$(?P<name>[A-Za-z_]\w*)\s*(?::(?P<default>[^{}\n]*?))?\s*(?P=quote)\s*\}\}"
)
_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+?)\s*\}\}")
_BASE_NAME = re.compile(r"__footplate_base_(\d+)__")
TEMPLATE = re.compile(
    r"\{(?=\{\s*(?:(?:fileDirname|fileBasename|fileBasenameNoExtension|fileExtname|_base_\.[\w.]+)\s*\}\}|['\"]?\s*\$))"
)


class Expanded(NamedTuple):
    """A config's text after its placeholders were replaced.

    `base_names` are the referenced paths in the base. Reference number 3 appears in the text as `__footplate_base_3__`.
    """

    text: str
    environment: dict[str, str]
    base_names: list[str]


def expand(
    text: str, path: str, *, predefined: bool = True, environment: bool = True, literal: Callable[[str], str] = str
) -> Expanded:
    """Replaces the placeholders in double braces.

    Args:
        text: The text of the file.
        path: The absolute path of the file.
        predefined: Whether to replace `{{ fileDirname }}` and similar names.
        environment: Whether to replace environment variables.
        literal: Formats the value of an environment variable that is quoted inside the braces, and so forms a whole
            value.

    Raises:
        ConfigKeyError: If an environment variable is not set and has no default.
    """
    if "{{" not in text:
        return Expanded(text, {}, [])
    if predefined:
        names = _names_of(path)
        text = _PREDEFINED.sub(lambda match: _escaped(names[match[1]]), text)
    used: dict[str, str] = {}
    if environment:
        text = _ENVIRONMENT.sub(lambda match: _from_environment(match, path, used, literal), text)
    base_names: list[str] = []

    def number(match: re.Match[str]) -> str:
        base_names.append(match[1])
        return f"__footplate_base_{len(base_names) - 1}__"

    return Expanded(_BASE.sub(number, text), used, base_names)


def base_references(text: str) -> list[int]:
    """Returns the numbers of the base references in `text`."""
    return [int(number) for number in _BASE_NAME.findall(text)]


def fill_string(text: str, value_of: Callable[[int], object]) -> object:
    """Replaces references in a string by values of the base; a string that is one reference becomes the value."""
    whole = _BASE_NAME.fullmatch(text)
    if whole:
        return value_of(int(whole[1]))
    return _BASE_NAME.sub(lambda match: str(value_of(int(match[1]))), text)


def _names_of(path: str) -> dict[str, str]:
    folder, name = os.path.split(path)
    stem, suffix = os.path.splitext(name)
    return {
        "fileDirname": folder,
        "fileBasename": name,
        "fileBasenameNoExtension": stem,
        "fileExtname": suffix,
    }


def _from_environment(match: re.Match[str], path: str, used: dict[str, str], literal: Callable[[str], str]) -> str:
    name, default = match["name"], match["default"]
    place = Place(path, match.string.count("\n", 0, match.start()) + 1)
    if name in os.environ:
        value = used[name] = os.environ[name]
    elif default:
        value = default
    else:
        raise ConfigKeyError(
            f"the environment variable '{name}' is not set and has no default",
            origin=place,
            notes=[f"set it, or write `{{{{${name}:default}}}}`"],
        )
    if not match["quote"]:
        return _escaped(value)
    try:
        return literal(value)
    except ConfigError as error:
        error.origin = place
        raise


def _escaped(value: str) -> str:
    """Escapes a value for use inside a quoted string, with escapes that all config formats support."""
    if '"' not in value and "\\" not in value and "'" not in value and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)[1:-1].replace("'", "\\u0027")

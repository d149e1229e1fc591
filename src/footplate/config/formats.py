"""Writes configs as Python, JSON and YAML."""

import json
import keyword
import logging
import math
import operator
import os
import sys
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from footplate.checks import is_integer, is_number
from footplate.config.imports import REFERENCE, LazyObject
from footplate.config.sources import PLACEHOLDER_BRACE
from footplate.error_context import at_key, located, origin_of, walk_paths
from footplate.errors import ConfigError

_logger = logging.getLogger("footplate.config")
_RESERVED = ("_base_", "_deprecation_")
_LINE_WIDTH = 88
SCALARS = (bool, str, int, float)
# The types that each format supports in addition to strings, numbers, booleans, lists, and dicts with string keys.
_TYPES: dict[str, tuple[type, ...]] = {
    ".py": (type(None), tuple, set, frozenset, bytes, range),
    ".yaml": (type(None), tuple, set, bytes),
    ".yml": (type(None), tuple, set, bytes),
    ".json": (type(None),),
}


def write_config(mapping: dict[Any, Any], suffix: str) -> str:
    """Returns a config as text. The suffix selects the format.

    In JSON and YAML, lazily imported names, classes and functions become dotted strings; for Python, see
    `write_python`. If the format does not support tuples, they become lists, and a warning is logged.

    Raises:
        ConfigError: The format cannot represent a value, or a top-level key is reserved.
    """
    for key in mapping:
        if key in _RESERVED or (suffix == ".py" and str(key).startswith("__")):
            raise ConfigError(
                f"'{key}' is a reserved top-level key in {suffix} configs", origin=origin_of(mapping, key)
            )
    # Functions that a config defines for its own use are no settings. YAML and JSON only name them.
    helpers = (
        {}
        if suffix == ".py"
        else {key: item for key, item in mapping.items() if isinstance(item, FunctionType) and item.__module__ is None}
    )
    with located(mapping):
        value = _converted(dict(mapping.items()) | {key: dotted_name(item) for key, item in helpers.items()}, suffix)
    if tuple not in _TYPES[suffix] and any(type(item) is tuple for _, item in walk_paths(mapping)):
        _logger.warning("%s does not support tuples. They were written as lists.", suffix[1:].upper())
    if suffix == ".py":
        return write_python(value)
    if suffix == ".json":
        text = json.dumps(value, indent=4, ensure_ascii=False) + "\n"
    else:
        from footplate.config.data_formats import write_yaml

        text = write_yaml(value)
    return PLACEHOLDER_BRACE.sub(r"\\u007b", text)


def _converted(value: Any, suffix: str) -> Any:
    """Converts a value to the types that a format supports."""
    types = (*SCALARS, *_TYPES[suffix])
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            with at_key(str(key)):
                if not isinstance(key, str) and tuple not in types:
                    raise ConfigError(f"the keys of a {suffix} config must be strings", found=key)
                result[key] = _converted(item, suffix)
        return result
    if type(value) in (list, tuple) or (type(value) is range and range not in types):
        items = []
        for index, item in enumerate(value):
            with at_key(f"[{index}]"):
                items.append(_converted(item, suffix))
        return tuple(items) if type(value) is tuple and tuple in types else items
    value = plain_scalar(value)
    if type(value) in types:
        return value
    if name := importable_name(value):
        return value if suffix == ".py" else name
    described = "None" if value is None else f"a value of type {type(value).__name__}"
    raise ConfigError(f"a {suffix} config cannot represent {described}", found=value)


def plain_scalar(value: Any) -> Any:
    """Converts NumPy numbers, and subclass instances of str, int and float, to plain Python values, and paths to text.

    Returns other values unchanged.
    """
    if isinstance(value, (str, os.PathLike)):
        return str(value)
    if is_integer(value):
        return int(value)
    return float(value) if is_number(value) else value


def dotted_name(value: object) -> str | None:
    """Returns the dotted name of a class, a function or a lazily imported name, or None for other values."""
    if isinstance(value, LazyObject):
        return value.dotted_path
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if isinstance(name, str) and hasattr(value, "__module__") else None


def importable_name(value: Any) -> str | None:
    """Returns the dotted name from which another process can import a value, or None if there is none."""
    name = dotted_name(value)
    if name is None or isinstance(value, LazyObject):
        return name
    try:
        found = operator.attrgetter(value.__qualname__)(sys.modules.get(value.__module__))
    except AttributeError:  # a lambda, or a name of a config
        return None
    return name if found is value else None


def write_python(mapping: Mapping[str, Any]) -> str:
    """Returns the Python source of a config. Loading the source yields an equal config if all values are plain data.

    Functions, classes and lazily imported names become dotted strings under the key `type`, and `LazyObject` elsewhere.
    So do all other objects, but building with them raises an error. A frozenset becomes a set.

    Example:
        >>> print(write_python({"optimizer": {"type": "AdamW", "lr": 0.001}}), end="")
        optimizer = dict(type='AdamW', lr=0.001)
    """
    targets = {key: str(key) if is_identifier(str(key)) else f"globals()[{str(key)!r}]" for key in mapping}
    items = _named_types(mapping)
    return "".join(f"{targets[key]} = {_written(value, '', len(targets[key]) + 3)}\n" for key, value in items)


def _named_types(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the items of a mapping, with a dotted name instead of a class under the key `type`."""
    return [(key, (key == "type" and importable_name(value)) or value) for key, value in mapping.items()]


def write_value(value: Any) -> str:
    """Returns a value as Python source on one line."""
    value = plain_scalar(value)
    value_type = type(value)
    if value_type is str:
        return PLACEHOLDER_BRACE.sub(r"\\u007b", repr(value))
    if value_type is float:
        return repr(value) if math.isfinite(value) else f"float('{value!r}')"
    if isinstance(value, (dict, list, tuple)):
        opening, items, closing = _parts(value)
        inside = ", ".join(prefix + write_value(item) for prefix, item in items)
        return f"{opening}{inside}{',' if value_type is tuple and len(value) == 1 else ''}{closing}"
    if value_type in (set, frozenset):
        return f"{{{', '.join(sorted(map(write_value, value)))}}}" if value else "set()"
    if value_type in _TYPES[".py"] or value_type in SCALARS:
        return repr(value)
    described = f"{value_type.__name__} {getattr(value, '__qualname__', '')}".rstrip()
    return f"{REFERENCE}({importable_name(value) or f'<{described}>'!r})"


def _written(value: Any, indent: str, used: int) -> str:
    """Formats a value on one line if it fits (`used` columns are already taken), or else with one item per line."""
    flat = write_value(value)
    if used + len(flat) <= _LINE_WIDTH or not isinstance(value, (dict, list, tuple)) or not value:
        return flat
    opening, items, closing = _parts(value)
    inner = indent + "    "
    lines = [f"{inner}{prefix}{_written(item, inner, len(inner) + len(prefix) + 1)},\n" for prefix, item in items]
    return f"{opening}\n{''.join(lines)}{indent}{closing}"


def _parts(value: "dict[Any, Any] | list[Any] | tuple[Any, ...]") -> tuple[str, list[tuple[str, Any]], str]:
    """Splits a container into its opening bracket, items with prefixes (such as `key=`), and closing bracket."""
    if isinstance(value, dict):
        items = _named_types(value)
        if all(isinstance(key, str) and is_identifier(key) for key in value):
            return "dict(", [(f"{key}=", item) for key, item in items], ")"
        return "{", [(f"{write_value(key)}: ", item) for key, item in items], "}"
    opening, closing = "[]" if isinstance(value, list) else "()"
    return opening, [("", item) for item in value], closing


def is_identifier(key: str) -> bool:
    """Checks whether a key is an ASCII name that can be used as a Python argument or variable."""
    # ASCII only: Python normalizes some other letters in identifiers, such as `ª` to `a`.
    return key.isascii() and key.isidentifier() and not keyword.iskeyword(key)

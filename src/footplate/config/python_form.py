"""Writes a config as Python source: `optimizer = dict(type='AdamW', lr=0.001)`."""

import keyword
import math
from collections.abc import Mapping
from typing import Any

from footplate.config.lazy import LazyObject
from footplate.config.templates import TEMPLATE

_WIDTH = 88
_INDENT = "    "


def write_python(mapping: Mapping[str, Any]) -> str:
    """Returns the source of a .py config that loads as an equal config.

    Functions, classes and lazily imported names become dotted strings.

    Example:
        >>> print(write_python({"optimizer": {"type": "AdamW", "lr": 0.001}}), end="")
        optimizer = dict(type='AdamW', lr=0.001)
    """
    return "".join(_statement(str(key), value) for key, value in mapping.items())


def dotted_name(value: object) -> str | None:
    """Returns the dotted name of a lazily imported name, a class or a function; None for other values."""
    if isinstance(value, LazyObject):
        return value.dotted_path
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if isinstance(name, str) and hasattr(value, "__module__") else None


def _statement(key: str, value: Any) -> str:
    target = key if _is_word(key) else f"globals()[{key!r}]"
    return f"{target} = {_written(value, '', len(target) + 3)}\n"


def _written(value: Any, indent: str, used: int) -> str:
    """Returns a value on one line if it fits after `used` characters, otherwise with one item per line."""
    flat = write_value(value)
    if used + len(flat) <= _WIDTH or not isinstance(value, (dict, list, tuple)) or not value:
        return flat
    inner = indent + _INDENT
    if isinstance(value, dict):
        if _has_word_keys(value):
            items = [(f"{key}=", item) for key, item in value.items()]
            opening, closing = "dict(", ")"
        else:
            items = [(f"{write_value(key)}: ", item) for key, item in value.items()]
            opening, closing = "{", "}"
    else:
        items = [("", item) for item in value]
        opening, closing = "[]" if isinstance(value, list) else "()"
    lines = [f"{inner}{prefix}{_written(item, inner, len(inner) + len(prefix) + 1)},\n" for prefix, item in items]
    return f"{opening}\n{''.join(lines)}{indent}{closing}"


def write_value(value: Any) -> str:
    """Returns a value as Python source on one line."""
    kind = type(value)
    if kind is str:
        return TEMPLATE.sub(r"\\u007b", repr(value))
    if kind is float:
        return repr(value) if math.isfinite(value) else f"float('{value!r}')"
    if isinstance(value, dict):
        if _has_word_keys(value):
            return f"dict({', '.join(f'{key}={write_value(item)}' for key, item in value.items())})"
        return f"{{{', '.join(f'{write_value(key)}: {write_value(item)}' for key, item in value.items())}}}"
    if kind is list:
        return f"[{', '.join(map(write_value, value))}]"
    if kind is tuple:
        return f"({', '.join(map(write_value, value))}{',' if len(value) == 1 else ''})"
    if kind in (set, frozenset):
        return _flat_set(value)
    name = dotted_name(value)
    return repr(name) if name else repr(value)


def _flat_set(value: "set[Any] | frozenset[Any]") -> str:
    name = type(value).__name__
    inside = ", ".join(sorted(map(write_value, value)))
    if not inside:
        return f"{name}()"
    return f"{{{inside}}}" if name == "set" else f"{name}({{{inside}}})"


def _has_word_keys(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and _is_word(key) for key in value)


def _is_word(key: str) -> bool:
    # Python normalizes some non-ASCII letters in identifiers, such as `ª` to `a`.
    return key.isascii() and key.isidentifier() and not keyword.iskeyword(key) and key != "__debug__"

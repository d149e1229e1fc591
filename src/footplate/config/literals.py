"""Parses values from text, such as the values of `--set`, without executing code."""

import ast
import math
import warnings
from collections.abc import Callable
from typing import Any

from footplate.errors import OverrideError

_CONSTANTS = {"null": None, "true": True, "false": False, "inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KEYS = (ast.Constant, ast.Name, ast.UnaryOp, ast.Tuple, ast.Call)
_OPENINGS = ("[", "(", "{", "'", '"', "dict(")


def parse_value(text: str) -> Any:
    """Parses numbers, booleans, None, strings, lists, tuples and dicts. Treats any other text as a string.

    Raises:
        OverrideError: Brackets or quotes are not closed, or a value in brackets cannot be parsed.

    Example:
        >>> parse_value("[1, (a, 2e-3), {x: null, 'y': True}]")
        [1, ('a', 0.002), {'x': None, 'y': True}]
        >>> parse_value("0.9,0.999")
        [0.9, 0.999]
    """
    text = text.strip()
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    source = f"[{text}]"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about escapes such as "\d"
            parsed = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    if isinstance(parsed, ast.List):
        try:
            items = [read_literal(node, lambda element: _read_text(element, source)) for node in parsed.elts]
        except TypeError as error:  # a key contains a list
            raise _unreadable(text) from error
        if len(items) > 1 or text.endswith(","):
            return items
        return items[0] if items else ""
    if text.startswith(_OPENINGS):
        raise _unreadable(text)
    if "," in text and not set(text) & set("([{'\""):
        return [parse_value(part) for part in text.split(",") if part.strip()]
    return text


def read_literal(node: ast.expr, read_other: Callable[[ast.expr], Any]) -> Any:
    """Returns the value of a syntax tree without executing code.

    Evaluates numbers, booleans, None and strings, alone or nested in lists, tuples, `{...}` and `dict(...)`.

    Args:
        node: The syntax tree.
        read_other: Called for every other kind of node. Returns the node's value.
    """
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)):
            return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=nodes):
            return [read_literal(item, read_other) for item in nodes]
        case ast.Tuple(elts=nodes):
            return tuple(read_literal(item, read_other) for item in nodes)
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, _KEYS) for key in keys):
            items = zip(filter(None, keys), values, strict=True)
            return {read_literal(key, read_other): read_literal(value, read_other) for key, value in items}
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords) if all(item.arg for item in keywords):
            return {item.arg: read_literal(item.value, read_other) for item in keywords}
    return read_other(node)


def _read_text(node: ast.expr, source: str) -> Any:
    """Returns the source text of a node. If the text is the name of a constant, such as `null`, returns its value.

    Raises:
        OverrideError: The text starts like a container or a quoted string.
    """
    text = ast.get_source_segment(source, node) or ""
    if text.startswith(_OPENINGS):
        raise _unreadable(text)
    return _CONSTANTS.get(text, text)


def _unreadable(text: str) -> OverrideError:
    notes = ["Close all brackets, and quote strings that contain special characters."]
    return OverrideError("cannot read the value", found=text, notes=notes)

"""Writes and reads the configs that runs record. They are read as data, so that no code in them is executed."""

import ast
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from footplate.config.config import Config
from footplate.config.formats import dotted_name, read_data, write_config
from footplate.config.origins import Place, TracedDict
from footplate.config.overrides import MAX_BITS
from footplate.config.sources import absolute, read_text, suffix_of
from footplate.errors import ConfigSyntaxError
from footplate.storage import commit_bytes

_MAX_CHARACTERS = 16 << 20
_MAX_TOKENS = 500_000  # a parsed value takes about a hundred times the memory of its text
_TOKEN = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\w+|[^\w\s]")
_MAX_LEVELS = 64
_PLAIN = (str, int, float, bool)
_SEQUENCES: dict[type[ast.expr], Any] = {ast.List: list, ast.Tuple: tuple, ast.Set: set}
_MAX_OBJECT = 2000  # characters
_NOTE = "Recorded configs are read as data, and no code in them is executed."


def write_recorded(config: Any, path: str | os.PathLike[str]) -> None:
    """Writes a config as JSON next to its Python form. Tuples become lists.

    If JSON cannot represent the config, for example because of integer keys, a JSON file from an earlier run is
    removed. Readers then use the Python form, which contains only plain values.
    """
    content = config.to_dict() if hasattr(config, "to_dict") else config
    try:
        text = json.dumps(content) if _has_string_keys(content) else None
    except (TypeError, ValueError, RecursionError):
        text = None
    if text is None:
        Path(path).unlink(missing_ok=True)
    else:
        commit_bytes(path, f"{text}\n".encode())


def as_python(config: Config) -> str:
    """Returns a config as Python source that loads as an equal config.

    Raises:
        ConfigError: A value is an object that has no source form.
    """
    return write_config(config._cfg_dict, ".py")


def read_recorded(path: str | os.PathLike[str]) -> Config:
    """Loads a config that a run recorded as JSON or Python, without executing it.

    A Python file may contain only assignments of plain values, as in a dumped config. `_base_` and `{{ ... }}`
    placeholders have no effect.

    Raises:
        ConfigError: The file cannot be read as data.
    """
    file = absolute(path)
    return parse_recorded(read_text(file), file)


def parse_recorded(text: str, file: str) -> Config:
    """Parses the text of a config that a run recorded, as `read_recorded` does.

    Args:
        text: JSON or Python source.
        file: The name of the file, for error messages. Its suffix determines the format.

    Raises:
        ConfigError: The text cannot be read as data.
    """
    if len(text) > _MAX_CHARACTERS or sum(1 for _ in _TOKEN.finditer(text)) > _MAX_TOKENS:
        raise ConfigSyntaxError("the recorded config is too large", origin=Place(file, 1), notes=[_NOTE])
    try:
        if suffix_of(file) == ".py":
            mapping = _read_plain_python(text, file)
        else:
            limits = {"max_characters": _MAX_CHARACTERS, "max_values": _MAX_TOKENS}
            mapping = read_data(text, file, suffix_of(file), **(limits if suffix_of(file) == ".json" else {}))
        _check_size(mapping, file)
    except (RecursionError, MemoryError) as error:
        raise _not_data(file, 1, "it is nested too deeply") from error
    return Config(mapping, f"{file}\n{text}\n")


def as_plain(value: Any) -> Any:
    """Replaces the objects in a value with text, so that it can be recorded. Classes and functions are replaced with
    their names.

    Example:
        >>> as_plain({"model": object(), "train_cfg": {"max_epochs": 3}})
        {'model': '<builtins.object>', 'train_cfg': {'max_epochs': 3}}
    """
    if isinstance(value, Mapping):
        return {key if isinstance(key, _PLAIN) else _as_text(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    return value if value is None or type(value) in _PLAIN else _as_text(value)


def _as_text(value: Any) -> str:
    name = dotted_name(value)
    if name is not None:
        return name
    try:
        text = repr(value)[:_MAX_OBJECT]
    except Exception:  # noqa: BLE001 - an object with a broken repr must not stop a run
        text = " at 0x"
    # Addresses differ between runs for equal objects.
    return f"<{type(value).__module__}.{type(value).__qualname__}>" if " at 0x" in text else text


def _has_string_keys(value: Any) -> bool:
    """Checks whether all keys are strings, because JSON would convert other keys."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _has_string_keys(item) for key, item in value.items())
    return all(map(_has_string_keys, value)) if isinstance(value, (list, tuple)) else True


def _check_size(value: Any, file: str, level: int = 0) -> None:
    """Raises an error for deep nesting and huge integers, because code that shows or compares the config would fail."""
    if level > _MAX_LEVELS:
        raise _not_data(file, 1, "it is nested too deeply")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise _not_data(file, 1, "it contains an integer that is too long")
    items: Iterable[Any] = value if isinstance(value, (list, tuple, set, frozenset)) else ()
    for item in [*value, *value.values()] if isinstance(value, dict) else items:
        _check_size(item, file, level + 1)


def _not_data(file: str, line: int, reason: str) -> ConfigSyntaxError:
    return ConfigSyntaxError(
        f"the recorded config cannot be read as data: {reason}", origin=Place(file, line), notes=[_NOTE]
    )


class _NonFiniteNames(ast.NodeTransformer):
    """Replaces the names `inf` and `nan` with float constants."""

    def visit_Name(self, node: ast.Name) -> ast.expr:  # noqa: N802
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node


def _read_plain_python(text: str, file: str) -> TracedDict:
    """Reads Python source that consists of assignments of plain values.

    Raises:
        ConfigSyntaxError: The text contains other code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes such as "\d"
            tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        raise _not_data(file, getattr(error, "lineno", None) or 1, "it is not valid Python") from error
    items: list[tuple[str, ast.expr]] = []
    for statement in tree.body:
        match statement:
            case ast.Expr(value=ast.Constant()):  # a docstring
                continue
            case (
                ast.Assign(targets=[ast.Name(id=key)])
                | ast.Assign(
                    targets=[
                        ast.Subscript(value=ast.Call(func=ast.Name(id="globals")), slice=ast.Constant(value=str(key)))
                    ]
                )
            ):
                items.append((key, statement.value))
            case _:
                raise _not_data(file, statement.lineno, "it contains code other than assignments of plain values")
    return _fill(TracedDict(), items, file)


def _value_of(node: ast.expr, file: str) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    try:
        match node:
            case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
                return _SEQUENCES[type(node)](_value_of(each, file) for each in parts)
            case ast.Dict():
                items = zip(node.keys, node.values, strict=True)
                return _fill(TracedDict._written_at(Place(file, node.lineno)), items, file)
            case ast.Call(func=ast.Name(id="dict"), args=[]):
                keywords = ((each.arg, each.value) for each in node.keywords)
                return _fill(TracedDict._written_at(Place(file, node.lineno)), keywords, file)
            case ast.Call(func=ast.Name(id="set" | "frozenset" | "float" as name), keywords=[]):
                kinds: dict[str, Any] = {"set": set, "frozenset": frozenset, "float": float}
                return kinds[name](*[_value_of(each, file) for each in node.args])
        return ast.literal_eval(_NonFiniteNames().visit(node))
    except (TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, ConfigSyntaxError):
            raise
        raise _not_data(file, node.lineno, "it contains a value that is not a plain literal") from error


def _fill(result: TracedDict, items: Iterable[tuple[ast.expr | str | None, ast.expr]], file: str) -> TracedDict:
    """Sets the keys of a dict to the values of AST nodes. The keys are strings or nodes."""
    for key, value in items:
        if key is None:
            raise ValueError("it unpacks a dict")
        name, place = (key, value) if isinstance(key, str) else (_value_of(key, file), key)
        result._put(name, _value_of(value, file), Place(file, place.lineno))
    return result

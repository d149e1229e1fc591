"""Writes and reads the configs that runs record, as data, so that reading one never executes code."""

import ast
import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from footplate.config.config import Config
from footplate.config.forms import read_form, write_form
from footplate.config.origins import Place
from footplate.config.python_form import dotted_name
from footplate.config.sources import absolute, read_text, suffix_of
from footplate.config.traced import TracedDict
from footplate.errors import ConfigSyntaxError
from footplate.storage import commit_bytes

_MOST_CHARACTERS = 16 << 20
_MOST_TOKENS = 500_000  # a parsed value takes about a hundred times the memory of its text
_TOKEN = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|\w+|[^\w\s]")
_MOST_LEVELS = 64
_PLAIN = (str, int, float, bool)
_LONGEST_OBJECT = 2000  # characters
_MOST_BITS = 10_000  # per integer; Python converts at most 4,300 digits to text
_NAMES = {"inf": float("inf"), "nan": float("nan")}
_NOTE = "recorded configs are read as data, and nothing in them is executed"


def write_recorded(config: Any, path: str | os.PathLike[str]) -> None:
    """Writes a config as JSON next to its Python form; tuples become lists.

    If JSON cannot represent the config, for example because of integer keys, the JSON file of an earlier run is removed
    and readers use the Python form, which contains only plain values.
    """
    content = config.to_dict() if hasattr(config, "to_dict") else config
    try:
        text = json.dumps(content) if _has_names_as_keys(content) else None
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
    return write_form(config._cfg_dict, ".py")


def read_recorded(path: str | os.PathLike[str]) -> Config:
    """Loads a config that a run recorded as JSON or Python, without executing it.

    A Python file may contain only assignments of plain values, as dumps do. `_base_` and `{{ ... }}` placeholders have
    no effect.

    Raises:
        ConfigError: The file cannot be read as data.
    """
    file = absolute(path)
    text = read_text(file)
    if len(text) > _MOST_CHARACTERS or sum(1 for _ in _TOKEN.finditer(text)) > _MOST_TOKENS:
        raise ConfigSyntaxError("the recorded config is too large to be read", origin=Place(file, 1), notes=[_NOTE])
    try:
        if suffix_of(file) == ".py":
            mapping = _read_python(text, file)
        else:
            own = {"longest": _MOST_CHARACTERS, "most_values": _MOST_TOKENS} if suffix_of(file) == ".json" else {}
            mapping = read_form(text, file, suffix_of(file), **own)
        _check(mapping, file)
    except (RecursionError, MemoryError) as error:
        raise _refusal(file, 1, "it is nested too deeply") from error
    return Config(mapping, f"{file}\n{text}\n")


def as_plain(value: Any) -> Any:
    """Returns a value with objects replaced by text, so that it can be recorded; classes and functions by name.

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
        text = repr(value)[:_LONGEST_OBJECT]
    except Exception:  # noqa: BLE001 - an object with a broken repr must not stop a run
        text = " at 0x"
    # Addresses differ between runs for equal objects.
    return f"<{type(value).__module__}.{type(value).__qualname__}>" if " at 0x" in text else text


def _has_names_as_keys(value: Any) -> bool:
    """Checks whether all keys are strings, since JSON would convert other keys."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _has_names_as_keys(item) for key, item in value.items())
    return all(map(_has_names_as_keys, value)) if isinstance(value, (list, tuple)) else True


def _check(value: Any, file: str, levels: int = 0) -> None:
    """Raises an error for deep nesting and huge integers, which would break code that shows or compares the config."""
    if levels > _MOST_LEVELS:
        raise _refusal(file, 1, "it is nested too deeply")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise _refusal(file, 1, "an integer in it is too long")
    for item in [*value, *value.values()] if isinstance(value, dict) else value if _is_sequence(value) else ():
        _check(item, file, levels + 1)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset))


def _refusal(file: str, line: int, reason: str) -> ConfigSyntaxError:
    return ConfigSyntaxError(
        f"the recorded config cannot be read as data: {reason}", origin=Place(file, line), notes=[_NOTE]
    )


def _read_python(text: str, file: str) -> TracedDict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as "\d"
            tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        raise _refusal(file, getattr(error, "lineno", None) or 1, "it is not valid Python") from error
    reader = _PlainValues(file)
    mapping = TracedDict()
    for statement in tree.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise _refusal(file, statement.lineno, "it holds more than assignments of plain values")
        reader.put(mapping, reader.name_of(statement.targets[0]), statement.value, statement.lineno)
    return mapping


class _PlainValues:
    """Evaluates syntax trees of plain values.

    Args:
        file: The path of the file, for origins and errors.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._readers: dict[type[ast.expr], Callable[[Any], Any]] = {
            ast.Constant: lambda node: node.value,
            ast.List: lambda node: [self.value_of(each) for each in node.elts],
            ast.Tuple: lambda node: tuple(self.value_of(each) for each in node.elts),
            ast.Set: lambda node: {self.value_of(each) for each in node.elts},
            ast.Dict: self._dict,
            ast.Call: self._call,
            ast.UnaryOp: self._signed,
            ast.BinOp: self._complex,
            ast.Name: lambda node: _NAMES[node.id],
        }

    def value_of(self, node: ast.expr) -> Any:
        """Returns the value of an expression.

        Raises:
            ConfigSyntaxError: It is not a plain value.
        """
        try:
            return self._readers[type(node)](node)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            if isinstance(error, ConfigSyntaxError):
                raise
            raise _refusal(self._file, node.lineno, "a value in it is no plain value") from error

    def name_of(self, target: ast.expr) -> str:
        """Returns the key that an assignment sets: `name = ...` or `globals()['na-me'] = ...`."""
        if isinstance(target, ast.Name):
            return target.id
        if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
            call, key = target.value, target.slice.value
            if isinstance(call, ast.Call) and _called(call) == "globals" and isinstance(key, str):
                return key
        raise _refusal(self._file, target.lineno, "it holds more than assignments of plain values")

    def put(self, mapping: TracedDict, key: Any, node: ast.expr, line: int) -> None:
        """Sets a key and records its line."""
        dict.__setitem__(mapping, key, self.value_of(node))
        mapping._origins[key] = Place(self._file, line)

    def _dict(self, node: ast.Dict) -> TracedDict:
        result = TracedDict()
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise ValueError("a dict is unpacked")
            self.put(result, self.value_of(key), value, key.lineno)
        result._origins[None] = Place(self._file, node.lineno)
        return result

    def _call(self, node: ast.Call) -> Any:
        name = _called(node)
        if name == "dict" and not node.args:
            result = TracedDict()
            for keyword in node.keywords:
                if keyword.arg is None:
                    raise ValueError("a dict is unpacked")
                self.put(result, keyword.arg, keyword.value, keyword.value.lineno)
            result._origins[None] = Place(self._file, node.lineno)
            return result
        if name not in ("set", "frozenset", "float") or node.keywords or len(node.args) > 1:
            raise ValueError("a function is called")
        arguments = [self.value_of(each) for each in node.args]
        return {"set": set, "frozenset": frozenset, "float": float}[name](*arguments)

    def _signed(self, node: ast.UnaryOp) -> Any:
        value = self.value_of(node.operand)
        if isinstance(node.op, ast.USub):
            return -value
        if isinstance(node.op, ast.UAdd):
            return +value
        raise ValueError("an operation")

    def _complex(self, node: ast.BinOp) -> complex:
        real, imaginary = self.value_of(node.left), self.value_of(node.right)
        if isinstance(real, (int, float)) and isinstance(imaginary, complex):
            if isinstance(node.op, ast.Add):
                return real + imaginary
            if isinstance(node.op, ast.Sub):
                return real - imaginary
        raise ValueError("an operation")


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""

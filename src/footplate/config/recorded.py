"""Reads configs that runs have recorded, without executing code in them."""

import ast
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from footplate.config.config import Config
from footplate.config.formats import SCALARS, dotted_name, plain_scalar, write_config
from footplate.config.imports import REFERENCE, LazyObject
from footplate.config.literals import read_literal
from footplate.config.sources import absolute, read_text, suffix_of
from footplate.error_context import walk_paths
from footplate.errors import ConfigSyntaxError, Origin

_MAX_OBJECT = 2000  # characters
_MAX_OBJECTS = 20
_NOTE = "Recorded configs are read as data, and no code in them is executed."


def as_python(config: Config) -> str:
    """Returns the Python source of a config. Loading the source yields an equal config; see `write_python`.

    Raises:
        ConfigError: A value is an object that cannot be written as source code.
    """
    return write_config(config._cfg_dict, ".py")


def read_recorded(path: str | os.PathLike[str]) -> Config:
    """Loads a config that a run recorded, without executing it.

    A Python file may contain only assignments of plain values, like a dumped config. `_base_` and `{{ ... }}`
    placeholders have no effect.

    Raises:
        ConfigError: The file is missing or invalid, or cannot be read without executing it.
    """
    file = absolute(path)
    return parse_recorded(read_text(file), file)


def parse_recorded(text: str, file: str) -> Config:
    """Parses the text of a recorded config; see `read_recorded`.

    Args:
        text: The text of a Python, JSON or YAML config.
        file: The name of the file, for error messages. Its suffix determines the format.

    Raises:
        ConfigError: The text is invalid or cannot be read without executing it, or the suffix is not supported.
    """
    suffix = suffix_of(file)
    if suffix == ".py":
        mapping = _read_plain_python(text, file)
    else:
        from footplate.config.data_formats import read_data

        mapping = read_data(text, file, suffix)
    return Config(mapping, f"{file}\n{text}\n")


def as_plain(value: Any) -> Any:
    """Converts a value to types that JSON supports: dicts, lists, strings, numbers, booleans and None.

    Classes and functions become dotted names, optimizers and their wrappers become dicts of their settings, tuples and
    sets become lists, NumPy numbers become plain numbers, dataloaders and schedulers become dicts of their public
    attributes, and other objects become text. So does a list of more than 20 objects, such as batches.

    Example:
        >>> as_plain({"model": object(), "train_cfg": {"max_epochs": 3}})
        {'model': '<builtins.object>', 'train_cfg': {'max_epochs': 3}}
    """
    if isinstance(value, Mapping):
        return {key if isinstance(key, SCALARS) else _as_text(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if len(value) > _MAX_OBJECTS and any(_is_object(item) for _, item in walk_paths(value[:1])):
            return f"<{type(value).__name__} of {len(value)} items>"
        return [as_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):  # their order differs between processes
        return [as_plain(item) for item in sorted(value, key=str)]
    value = plain_scalar(value)
    if value is None or type(value) in SCALARS:
        return value
    if _is_object(value):
        if isinstance(getattr(value, "param_groups", None), list):
            return _settings_of(value)
        if hasattr(value, "dataset") or hasattr(value, "optimizer"):
            return _attributes_of(value)
    return _as_text(value)


def _is_object(value: Any) -> bool:
    """Checks whether a value is neither plain data nor a class or function."""
    plain = (type(None), Mapping, list, tuple, set, frozenset, *SCALARS)
    return not isinstance(plain_scalar(value), plain) and dotted_name(value) is None


def _attributes_of(value: Any) -> dict[str, Any]:
    """Returns an object's class, dataset and plain public attributes as a dict. Nested objects become text."""
    attributes: dict[str, Any] = {"object": dotted_name(type(value))}
    for name, item in vars(value).items() if hasattr(value, "__dict__") else ():
        if name.startswith("_") or name == "optimizer":
            continue
        if name == "dataset":
            attributes[name] = _attributes_of(item)
            with suppress(Exception):  # an iterable dataset may have no length
                attributes[name]["length"] = len(item)
        elif type(item) in SCALARS:
            attributes[name] = item
        elif hasattr(item, "__dict__") and not hasattr(item, "shape"):
            attributes[name] = _as_text(item)
    return attributes


def _settings_of(optimizer: Any) -> dict[str, Any]:
    """Returns the type and the settings of an optimizer or an optimizer wrapper.

    If settings differ between parameter groups, `param_groups` lists them for each group.
    """
    groups = []
    for group in optimizer.param_groups:
        settings = {key: value for key, value in group.items() if key != "params" and value is not None}
        if "initial_lr" in settings:  # a schedule may have changed the learning rate
            settings["lr"] = settings.pop("initial_lr")
        groups.append(as_plain(settings))
    shared = {key: value for key, value in groups[0].items() if all(group.get(key) == value for group in groups)}
    rest = [{key: value for key, value in group.items() if key not in shared} for group in groups]
    return {"type": dotted_name(type(optimizer)), **shared, **({"param_groups": rest} if any(rest) else {})}


def _as_text(value: Any) -> str:
    name = dotted_name(value)
    if name is not None:
        return name
    text = str(value)[:_MAX_OBJECT]
    # Memory addresses differ between runs.
    return f"<{type(value).__module__}.{type(value).__qualname__}>" if " at 0x" in text else text


def _not_data(file: str, line: int, reason: str) -> ConfigSyntaxError:
    return ConfigSyntaxError(
        f"the recorded config cannot be read as data: {reason}", origin=Origin(file, line), notes=[_NOTE]
    )


def _read_special(file: str, node: ast.expr) -> Any:
    """Evaluates `float('inf')`, `inf`, `nan`, `range(1)`, references, and literals such as bytes and sets."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(path))]) if name == REFERENCE:
            return LazyObject(path, Origin(file, node.lineno))
        case ast.Set(elts=items):
            return {read_literal(item, partial(_read_special, file)) for item in items}
        case (
            ast.Name(id="inf" | "nan" as text)
            | ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str(text))], keywords=[])
        ):
            return float(text)
        case ast.Call(func=ast.Name(id="range"), args=args, keywords=[]):  # the `gpu_ids` of MMDetection 2.x scripts
            return range(*map(ast.literal_eval, args))
    return ast.literal_eval(node)


def _read_plain_python(text: str, file: str) -> dict[str, Any]:
    """Parses Python source that contains only assignments of plain values.

    Raises:
        ConfigSyntaxError: The text contains other code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns about escapes such as "\d"
            tree = ast.parse(text, file)
    except (SyntaxError, ValueError) as error:
        raise _not_data(file, getattr(error, "lineno", None) or 0, "it is not valid Python") from error
    values: dict[str, Any] = {}
    for statement in tree.body:
        match statement:
            case ast.Expr(value=ast.Constant()):  # a docstring
                continue
            case ast.Assign(
                targets=[
                    ast.Name(id=key)
                    | ast.Subscript(value=ast.Call(func=ast.Name(id="globals")), slice=ast.Constant(value=str(key)))
                ],
                value=value,
            ):
                try:
                    values[key] = read_literal(value, partial(_read_special, file))
                except (TypeError, ValueError) as error:
                    reason = f"'{key}' is not a plain literal"
                    raise _not_data(file, statement.lineno, reason) from error
            case _:
                raise _not_data(file, statement.lineno, "it contains code other than assignments of plain values")
    return values

"""Parses and applies command-line overrides such as `key=value` and `+new.key=value`."""

import argparse
import ast
import logging
import math
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from footplate.config.config_dict import ConfigDict
from footplate.config.formats import write_value
from footplate.config.key_paths import find_value, join_path, merge_options, split_path
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin, OverrideError
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.config.config import Config

AcceptedKeys = Callable[[ConfigDict, Sequence[str]], Collection[str]]  # returns the keys accepted by a section
_logger = logging.getLogger("footplate.config")
_CONSTANTS = {"null": None, "true": True, "false": False, "inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KEYS = (ast.Constant, ast.Name, ast.UnaryOp, ast.Tuple)
_OPENINGS = ("[", "(", "{", "'", '"', "dict(")


def apply_overrides(
    cfg: "Config | ConfigDict",
    overrides: Iterable[str],
    strict: bool = True,
    accepted: AcceptedKeys = lambda mapping, parts: (),
) -> None:
    """Applies overrides to a config, in order.

    Args:
        cfg: The config, changed in place.
        overrides: Strings such as `key=value`.
        strict: Whether to raise an error for an unknown key, or a value of a different type, unless the key starts
            with `+`. If False, a warning is logged and the value is merged, as the OpenMMLab tools do.
        accepted: Returns the keys that the section at a key path accepts. They may be added without `+`.

    Raises:
        OverrideError: An override is rejected or cannot be parsed.
    """
    mapping = cfg if isinstance(cfg, ConfigDict) else cfg._cfg_dict
    origin = Origin("--set" if strict else "--cfg-options", 0)
    for text in overrides:
        path, value, is_forced = _split_override(text)
        try:
            if not is_forced:
                try:
                    value = _checked_value(mapping, path, value, origin, accepted)
                except ConfigError as error:
                    if strict:
                        raise
                    advice = f"; did you mean '{error.suggestion}'?" if error.suggestion else ""
                    _logger.warning("--cfg-options %s: %s%s", path, error.message, advice)
            merge_options(mapping, {path: value}, origin=origin)
        except ConfigError as error:
            notes = [f"Write +{path}=... to add the key."] if isinstance(error, ConfigKeyError) else []
            raise OverrideError(
                f"cannot set '{path}': {error.message}",
                origin=error.origin,
                key=error.key,
                found=error.found,
                suggestion=error.suggestion,
                notes=[*error.notes, *notes],
            ) from error


def _split_override(text: str) -> tuple[str, Any, bool]:
    """Returns the key path and the value of `key=value`, and whether a `+` precedes the key."""
    left, mark, right = text.partition("=")
    path = left.strip()
    if not mark or not path.strip("+"):
        raise OverrideError(f"'{text}' is not an override: expected key=value")
    try:
        value = parse_value(right)
    except OverrideError as error:
        error.key = path
        raise
    return path.lstrip("+").strip(), value, path.startswith("+")


def _checked_value(mapping: ConfigDict, path: str, value: Any, origin: Origin, accepted: AcceptedKeys) -> Any:
    """Returns the value of an override, converted to the type of the current value."""
    try:
        holder, key, present = find_value(mapping, path)
    except ConfigKeyError as error:
        if _is_accepted(mapping, path, accepted, error):
            return value
        error.origin = error.origin or origin
        raise
    try:
        return convert_type(present, value, path)
    except ConfigError as error:
        error.origin = error.origin or origin_of(holder, key) or origin
        raise


def _is_accepted(mapping: ConfigDict, path: str, accepted: AcceptedKeys, error: ConfigKeyError) -> bool:
    """Checks whether the sections accept all missing keys of a path. If not, improves the suggestion in the error."""
    parts = split_path(path)
    for end in range(1, len(parts) + 1):
        try:
            find_value(mapping, join_path(parts[:end]))
        except ConfigError:
            keys = accepted(mapping, parts[: end - 1])
            if parts[end - 1] in keys:
                continue
            near = nearest(parts[end - 1], keys)
            if near and (error.suggestion is None or split_path(error.suggestion)[-1] != parts[end - 1]):
                error.suggestion, error.notes = join_path([*parts[: end - 1], near]), ()
            return False
    return True


def convert_type(present: Any, value: Any, path: str) -> Any:
    """Converts `value` to the type of `present`, the current value that it will replace.

    Integers and floats are treated as the same type, and so are lists and tuples. None can replace any value, and any
    value can replace None.

    Raises:
        OverrideError: The types differ.

    Example:
        >>> convert_type(100, 1e3, "train_cfg.max_iters"), convert_type((0.9, 0.999), [0.9, 0.95], "optimizer.betas")
        (1000, (0.9, 0.95))
    """
    if present is None or value is None:
        return value
    kind = _kind(present)
    if kind != _kind(value):
        advice = "The new value has the wrong type."
        if kind == "a string" and not isinstance(value, (dict, list, tuple)):
            advice = f"Quote it if it is a string: \"'{value}'\"."
        raise OverrideError(f"'{path}' must be {kind}, not {value!r}", key=path, found=present, notes=[advice])
    if type(present) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "a list":
        return tuple(value) if isinstance(present, tuple) else list(value)
    if isinstance(present, ConfigDict) and not value.get("_delete_"):
        return {key: convert_type(present[key], item, f"{path}.{key}") for key, item in value.items()}
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a dict" if isinstance(value, dict) else "a string"


def parse_value(text: str) -> Any:
    """Parses numbers, booleans, None, strings, lists, tuples and dicts. Any other text is a string.

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
            warnings.simplefilter("ignore")  # about escapes such as "\d"
            parsed = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    if isinstance(parsed, ast.List):
        try:
            items = [read_literal(node, lambda other: _read_text(other, source)) for node in parsed.elts]
        except TypeError as error:  # a list is in a key
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
    """Returns the value of a syntax tree of plain values, without executing it.

    Args:
        node: Numbers, booleans, None and strings, in lists, tuples, `{...}` and `dict(...)`.
        read_other: Returns the value of any other node in the tree.
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
    """Returns the text of a word or an expression."""
    text = ast.get_source_segment(source, node) or ""
    if text.startswith(_OPENINGS):
        raise _unreadable(text)
    return _CONSTANTS.get(text, text)


def _unreadable(text: str) -> OverrideError:
    notes = ["Close all brackets, and quote strings that contain special characters."]
    return OverrideError("cannot read the value", found=text, notes=notes)


def format_value(value: Any) -> str:
    """Formats a value for `--set`. A string has quotes if `parse_value` would return another value without them.

    Example:
        >>> format_value("ResNet"), format_value("true"), format_value("x,y")
        ('ResNet', "'true'", "'x,y'")
    """
    if not isinstance(value, str):
        return write_value(value)
    try:
        is_plain = parse_value(value) == value
    except OverrideError:
        is_plain = False
    return value if is_plain else repr(value)


class DictAction(argparse.Action):
    """Collects `key=value` arguments into a dict for `Config.merge_from_dict`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> action = parser.add_argument("--cfg-options", nargs="+", action=DictAction)
        >>> parser.parse_args(["--cfg-options", "optimizer.lr=0.1", "scale=1333,800"]).cfg_options
        {'optimizer.lr': 0.1, 'scale': [1333, 800]}
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Adds the pairs passed with one flag to those of earlier flags."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in [values] if isinstance(values, str) else values or []:
            key, mark, value = str(pair).partition("=")
            if not mark or not key:
                raise argparse.ArgumentError(self, f"expected key=value, got '{pair}'")
            try:
                options[key] = parse_value(value.strip())
            except OverrideError as error:
                raise argparse.ArgumentError(self, error.message) from error
        setattr(namespace, self.dest, options)

"""Applies command-line overrides such as `key=value` and `+new.key=value` to a config."""

import logging
import reprlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from footplate.config import Config, ConfigDict
from footplate.config.key_paths import merge_options, split_path
from footplate.config.literals import parse_value
from footplate.error_context import join_path, origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin, OverrideError
from footplate.messages import nearest
from footplate.registry.arguments import matches_types
from footplate.tools.key_lookup import find_value

# Returns the keys accepted by a section. If it is a mapping, a value consists of the key's default and allowed types.
AcceptedKeys = Callable[[ConfigDict, Sequence[str]], Collection[str]]
_logger = logging.getLogger("footplate.config")


def apply_overrides(
    cfg: Config | ConfigDict,
    overrides: Iterable[str],
    strict: bool = True,
    accepted: AcceptedKeys = lambda mapping, parts: (),
) -> None:
    """Applies overrides to a config, in order.

    Args:
        cfg: The config, changed in place.
        overrides: Strings such as `key=value`.
        strict: Whether to reject unknown keys, and values that differ in type from the current one. If False, logs a
            warning and merges the value, like the OpenMMLab tools. Keys that start with `+` are always accepted.
        accepted: A function that returns the keys accepted by the section at a key path. These keys can be added
            without `+`.

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
                    value = _checked_value(mapping, path, value, accepted)
                except ConfigError as error:
                    if strict:
                        raise
                    advice = f"; did you mean '{error.suggestion}'?" if error.suggestion else ""
                    _logger.warning("--cfg-options sets '%s', but %s%s", path, error.message, advice)
            merge_options(mapping, {path: value}, origin=origin)
        except ConfigError as error:
            notes = [f"Write +{path}=... to add the key."] if isinstance(error, ConfigKeyError) else []
            suggestion = error.suggestion
            if suggestion:  # the whole key path, to be pasted
                fixed = split_path(suggestion)
                suggestion = join_path([*fixed, *split_path(path)[len(fixed) :]])
            raise OverrideError(
                f"cannot set '{path}': {error.message}",
                origin=error.origin or origin,
                key=error.key,
                found=error.found,
                suggestion=suggestion,
                notes=[*error.notes, *notes],
            ) from error


def _split_override(text: str) -> tuple[str, Any, bool]:
    """Splits `key=value` into the key path, the value, and whether the key starts with `+`."""
    left, mark, right = text.partition("=")
    path = left.strip()
    if not mark or not path.strip("+"):
        raise OverrideError(f"'{text}' must have the form KEY=VALUE")
    try:
        value = parse_value(right)
    except OverrideError as error:
        error.key = path
        raise
    return path.lstrip("+").strip(), value, path.startswith("+")


def _checked_value(mapping: ConfigDict, path: str, value: Any, accepted: AcceptedKeys) -> Any:
    """Returns the value of an override, converted to the type of the current value.

    The type may also be one that the argument's annotation allows. A single value may replace a list, and vice versa,
    because arguments such as `metric` and `ann_file` accept both.
    """
    try:
        holder, key, present = find_value(mapping, path)
    except ConfigKeyError as error:
        if _is_accepted(mapping, path, accepted, error):
            return value
        raise
    try:
        return convert_type(present, value, path)
    except ConfigError as error:
        kinds = {_kind(present), _kind(value)}
        if "a list" in kinds and "a dict" not in kinds:
            return value
        keys = accepted(mapping, split_path(path)[:-1])
        _, types = keys.get(key, (None, ())) if isinstance(keys, Mapping) else (None, ())
        if len(kinds) > 1 and types and matches_types(value, types):
            return value
        error.origin = origin_of(holder, key)
        raise


def _is_accepted(mapping: ConfigDict, path: str, accepted: AcceptedKeys, error: ConfigKeyError) -> bool:
    """Checks whether each missing key of a path is accepted by its section. If not, improves the error's suggestion."""
    parts = split_path(path)
    for place in range(len(split_path(error.key)) - 1, len(parts)):
        section, key = parts[:place], parts[place]
        keys = accepted(mapping, section)
        if key not in keys:
            near = nearest(key, keys)
            if near and (error.suggestion is None or split_path(error.suggestion)[-1] != key):
                error.suggestion, error.notes = join_path([*section, near]), ()
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
        shown = {**value, "_delete_": True} if isinstance(value, dict) else "..."
        advice = f'To replace the value with another type, write "+{path}={shown}".'
        if kind == "a string" and not isinstance(value, (dict, list, tuple)):
            advice = f"Quote it if it is a string: \"'{value}'\"."
        message = f"'{path}' must be {kind}, like its current value {reprlib.repr(present)}"
        raise OverrideError(message, key=path, found=value, notes=[advice])
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

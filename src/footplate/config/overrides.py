"""Parses and applies overrides from the command line: `key=value`, `+new.key=value`."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.config.mapping import ConfigDict, settled
from footplate.config.merging import Placing, find, put, split_path
from footplate.config.origins import Place
from footplate.config.values import read_value
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin, OverrideError

if TYPE_CHECKING:
    from footplate.config.config import Config

_logger = logging.getLogger("footplate.config")
_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}


class Override(NamedTuple):
    """An override: a key path, its value, and whether it may add a key or change the type."""

    path: str
    value: Any
    on_purpose: bool


def parse_override(text: str) -> Override:
    """Parses `key=value` or `+key=value`.

    Raises:
        OverrideError: If the `=` or the key is missing, or the value is invalid.

    Example:
        >>> parse_override("optim_wrapper.optimizer.betas=(0.9,0.95)")
        Override(path='optim_wrapper.optimizer.betas', value=(0.9, 0.95), on_purpose=False)
    """
    left, mark, right = text.partition("=")
    path = left.strip()
    if not mark or not path.strip("+"):
        raise OverrideError(f"an override is written key=value, which '{text}' is not")
    try:
        value = read_value(right.strip())
    except OverrideError as error:
        error.key = path
        raise
    return Override(path.lstrip("+").strip(), value, path.startswith("+"))


def apply_overrides(
    cfg: "Config | ConfigDict", overrides: Iterable[str], strict: bool = True, source: str | None = None
) -> None:
    """Applies overrides to a config, in order.

    Strict overrides raise an error for unknown keys and for values of another type, unless the key starts with `+`.
    Other overrides are merged as the OpenMMLab tools do, with a warning in these cases.

    Args:
        cfg: The config, changed in place.
        overrides: Texts such as `key=value`.
        strict: Whether to raise errors.
        source: The origin of the values. The default is `--set` if strict, otherwise `--cfg-options`.

    Raises:
        OverrideError: If an override is rejected or cannot be parsed.
    """
    mapping = cfg if isinstance(cfg, ConfigDict) else cfg._cfg_dict
    origin = Place(source or ("--set" if strict else "--cfg-options"), 0)
    for text in overrides:
        override = parse_override(text)
        try:
            value = override.value
            if not override.on_purpose:
                value = _checked(mapping, override, strict, origin)
            put(mapping, list(split_path(override.path)), settled(value), Placing(origin), [])
        except OverrideError:
            raise
        except ConfigError as error:
            raise _refusal(error, override) from error


def _checked(mapping: ConfigDict, override: Override, strict: bool, origin: Origin) -> Any:
    """Returns the value in the type of the key; an unknown key or a wrong type is an error or a warning."""
    place: Origin | None = origin
    try:
        holder, key, held = find(mapping, override.path)
        place = origin_of(holder, key) or origin
        return fitted(held, override.value, override.path)
    except ConfigError as error:
        if strict:
            error.origin = error.origin or place
            raise _refusal(error, override) from error
        advice = f"; did you mean '{error.suggestion}'?" if error.suggestion else ""
        _logger.warning("--cfg-options %s: %s%s", override.path, error.message, advice)
        return override.value


def fitted(held: Any, value: Any, path: str) -> Any:
    """Returns `value` converted to the type of the value it replaces.

    Integers and floats count as one type, and so do lists and tuples. None can replace any value, and any value can
    replace None.

    Raises:
        OverrideError: If the types differ.

    Example:
        >>> fitted(100, 1e3, "train_cfg.max_iters"), fitted((0.9, 0.999), [0.9, 0.95], "optimizer.betas")
        (1000, (0.9, 0.95))
    """
    if held is None or value is None:
        return value
    if isinstance(held, bool) and isinstance(value, str) and value.casefold() in _SWITCHES:
        return _SWITCHES[value.casefold()]
    if _kind(held) != _kind(value):
        raise OverrideError(
            f"'{path}' is {_KIND_NAMES[_kind(held)]}, which {value!r} is not",
            key=path,
            found=held,
            notes=[_advice(held, value)],
        )
    if type(held) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(held, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(held, list) and isinstance(value, tuple):
        return list(value)
    if isinstance(held, ConfigDict) and not value.get("_delete_"):
        return {key: _fitted_item(held, key, item, path) for key, item in value.items()}
    return value


def _fitted_item(held: ConfigDict, key: Any, value: Any, path: str) -> Any:
    _, _, item = find(held, f"'{key}'")
    return fitted(item, value, f"{path}.{key}")


_KIND_NAMES = {
    "boolean": "True or False",
    "number": "a number",
    "string": "a string",
    "list": "a list",
    "dict": "a dict",
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, (list, tuple)):
        return "list"
    return "dict" if isinstance(value, dict) else "string"


def _advice(held: Any, value: Any) -> str:
    if isinstance(held, str) and not isinstance(value, (dict, list, tuple)):
        return f"quote it if it is a string: \"'{value}'\"; or write +key=value to change the kind on purpose"
    return "write +key=value to change the kind on purpose"


def _refusal(error: ConfigError, override: Override) -> OverrideError:
    notes = list(error.notes)
    if isinstance(error, ConfigKeyError):
        notes = [*notes[:1], f"write +{override.path}=... to add it on purpose"]
    return OverrideError(
        f"cannot set '{override.path}': {error.message}",
        origin=error.origin,
        key=error.key,
        found=error.found,
        suggestion=error.suggestion,
        notes=notes,
    )

"""Sets and finds values by key path, such as `model.backbone.depth`, `pipeline.0.type` or `pipeline[0].type`."""

import re
from collections.abc import Mapping
from typing import Any

from footplate.config.config_dict import ConfigDict, Override, as_config_dict, is_index, merge_into
from footplate.error_context import join_path
from footplate.errors import ConfigError, ConfigIndexError, Origin
from footplate.messages import pluralize

_PART = re.compile(r"""'([^']*)'|"([^"]*)"|\[([^\[\]]+)\]|([^.\[\]'"]+)""")


def split_path(path: str) -> list[str]:
    """Splits a key path at dots and brackets. A quoted key may contain dots.

    Raises:
        ConfigError: A part is empty, a quote or bracket is not closed, or two parts are not separated.

    Example:
        >>> split_path("optim_wrapper.custom_keys.'layers.0'.lr_mult")
        ['optim_wrapper', 'custom_keys', 'layers.0', 'lr_mult']
        >>> split_path("pipeline[0].type")
        ['pipeline', '0', 'type']
    """
    parts = []
    position = 0
    while True:
        match = _PART.match(path, position)
        if match is None:
            raise ConfigError("the key path has an empty part, or an unclosed quote or bracket", key=path)
        parts.append(next(group for group in match.groups() if group is not None))
        position = match.end()
        if position == len(path):
            return parts
        if path[position] == ".":
            position += 1
        elif path[position] != "[":
            raise ConfigError("the key path has an unmatched bracket, or parts without dots between them", key=path)


def next_step(holder: Any, parts: list[Any], prefix: list[Any]) -> tuple[Any, list[Any]]:
    """Splits a path into its first key or index in `holder` and the remaining parts.

    A key may contain dots; if several keys match, the longest is used. A number becomes an int if a dict has it only as
    an int key. If no key matches, the first part is used. `prefix` is the path to `holder`, for error messages.

    Raises:
        ConfigError: `holder` is neither a dict nor a list.
        ConfigIndexError: The path goes past the end of a list.
    """
    if isinstance(holder, ConfigDict):
        for count in range(len(parts), 1, -1):
            key = ".".join(map(str, parts[:count]))
            if key in holder:
                return key, parts[count:]
        first = parts[0]
        if first not in holder and isinstance(first, str) and first.lstrip("-").isdigit() and int(first) in holder:
            first = int(first)
        return first, parts[1:]
    if not isinstance(holder, (list, tuple)):
        type_name = type(holder).__name__
        raise ConfigError(
            f"'{join_path(prefix)}' is of type {type_name} and has no keys", key=join_path(prefix), found=holder
        )
    if not is_index(parts[0]) or int(parts[0]) >= len(holder):
        size = pluralize(len(holder), "element")
        message = f"'{parts[0]}' is not a valid index for the list '{join_path(prefix)}' ({size}, counted from 0)"
        raise ConfigIndexError(message, key=join_path([*prefix, parts[0]]))
    return int(parts[0]), parts[1:]


def merge_options(
    config: ConfigDict, options: Mapping[Any, Any], *, origin: Origin, allow_list_keys: bool = True
) -> None:
    """Merges values at key paths into `config` in place. Replaces changed lists and tuples with new ones.

    Args:
        config: The config.
        options: Maps key paths to values. A dict is merged into an existing dict and supports `_delete_`.
        origin: The origin of the values.
        allow_list_keys: Whether numbers in a path may be indices into lists and tuples.

    Raises:
        ConfigError: A path is malformed, goes through a value that is neither a dict nor a list, or goes past the end
            of a list. Also raised if a dict would be merged into a value that is not a dict.
    """
    try:
        for path, value in options.items():
            holder: Any = config
            parts: list[Any] = list(split_path(path)) if isinstance(path, str) else [path]
            keys: list[Any] = []
            while parts:
                key, parts = next_step(holder, parts, keys)
                keys.append(key)
                holder = ConfigDict() if isinstance(holder, ConfigDict) and key not in holder else holder[key]
            tree = as_config_dict(value, copies=True)
            for key in reversed(keys):
                tree = ConfigDict({key: tree})
            merge_into(config, tree, Override(origin, allow_list_keys))
    except ConfigError as error:
        error.origin = error.origin or origin
        raise

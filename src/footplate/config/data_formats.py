"""Reads JSON and YAML without executing code, and writes YAML.

The origin of a YAML key is its file and line. For JSON, the line is unknown.
"""

import json
import re
from functools import partial
from typing import Any

import yaml

from footplate.config.config_dict import TracedDict
from footplate.config.sources import PLACEHOLDER_BRACE
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigSyntaxError, Origin

_TUPLE = "tag:yaml.org,2002:python/tuple"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_PLAIN_FLOAT = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+\Z")
# The group `bare` matches references to the base that need quotes, i.e. those outside of strings.
_REFERENCE = re.compile(r'"(?:[^"\\]|\\.)*"|(?P<bare>__base__[\w·]+)(?!\s*:)', re.DOTALL)


def read_data(text: str, path: str, suffix: str) -> TracedDict:
    """Parses JSON or YAML text without executing any code. Empty YAML text yields an empty dict.

    Args:
        text: The text.
        path: The path of the file, for error messages.
        suffix: The suffix of the format, such as `.json`.

    Raises:
        ConfigSyntaxError: The text is invalid, contains an unsupported YAML tag or a duplicate key, or is not a mapping
            whose top-level keys are strings.
    """
    origin = Origin(path, 0)
    try:
        if suffix == ".json":
            value = json.loads(_quoted(text), object_pairs_hook=partial(_build_object, origin))
        else:
            loader = _Loader(text)
            loader.path = path
            value = loader.get_single_data()
            value = TracedDict() if value is None else value
    except ConfigError as error:
        error.origin = error.origin or origin
        raise
    except (ValueError, OverflowError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = ", ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", str(error)))))
        reason = reason.partition("\n")[0]
        origin = Origin(path, mark.line + 1 if mark else getattr(error, "lineno", 0))
        raise ConfigSyntaxError(f"the text is not valid {suffix[1:].upper()}: {reason}", origin=origin) from error
    if not isinstance(value, TracedDict):
        raise ConfigSyntaxError("a config must be a mapping of keys to values", origin=Origin(path, 1), found=value)
    for key in value:
        if not isinstance(key, str):
            raise ConfigSyntaxError("a top-level key must be a string", origin=origin_of(value, key), found=key)
    return value


def _build_object(origin: Origin, pairs: list[tuple[str, Any]]) -> TracedDict:
    result = TracedDict()
    result._origins[None] = origin
    for key, value in pairs:
        if key in result:
            raise ConfigSyntaxError(f"the key '{key}' occurs twice in one object", key=key)
        result._set_with_origin(key, value, origin)
    return result


def _quoted(text: str) -> str:
    if "__base__" not in text:
        return text
    return _REFERENCE.sub(lambda match: f'"{match[0]}"' if match["bare"] else match[0], text)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A YAML loader that records the line of each key.

    Parses `1e-3` as a number, as users expect, and dates as strings.
    """

    path = ""

    def construct_traced(self, node: yaml.MappingNode) -> TracedDict:
        written = {id(key) for key, _ in node.value}
        self.flatten_mapping(node)  # adds the keys from merges (`<<`), which the mapping may override
        result = TracedDict()
        result._origins[None] = self._origin(node)
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            origin = self._origin(key_node)
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)):
                raise ConfigSyntaxError("a key must not be a list or a mapping", origin=origin)
            if id(key_node) in written:
                if key in lines:
                    message = f"the key '{key}' occurs twice in one mapping, first on line {lines[key]}"
                    raise ConfigSyntaxError(message, origin=origin, key=str(key))
                lines[key] = origin.line
            result._set_with_origin(key, self.construct_object(value_node, deep=True), origin)
        return result

    def _origin(self, node: yaml.Node) -> Origin:
        return Origin(self.path, node.start_mark.line + 1)


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.construct_traced)
_Loader.add_constructor(_TUPLE, lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes tuples with a tag, and repeated values without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Unprintable characters and literal placeholders must be escaped, which requires double quotes.
        style = '"' if PLACEHOLDER_BRACE.search(data) or not data.isprintable() else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_sequence(_TUPLE, value))
_Dumper.add_representer(str, _Dumper.represent_str)
for _kind in (_Loader, _Dumper):
    _resolvers: dict[Any, list[tuple[str, Any]]] = {
        first: [pair for pair in pairs if pair[0] != _TIMESTAMP]
        for first, pairs in _kind.yaml_implicit_resolvers.items()
    }
    for _first in "-+0123456789":
        _resolvers.setdefault(_first, []).insert(0, (_FLOAT, _PLAIN_FLOAT))
    _kind.yaml_implicit_resolvers = _resolvers


def write_yaml(value: Any) -> str:
    """Converts plain dicts, lists, tuples, sets and scalars to YAML text."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=None)

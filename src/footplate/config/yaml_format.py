"""Reads and writes YAML. Reading records the line of every key and executes no code."""

import re
from typing import Any

import yaml

from footplate.config.origins import TracedDict
from footplate.config.sources import PLACEHOLDER_BRACE
from footplate.errors import ConfigSyntaxError, Origin

_TUPLE = "tag:yaml.org,2002:python/tuple"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_PLAIN_FLOAT = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+\Z")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A YAML loader that parses `1e-3` as a number, as users expect, and dates as strings.

    Mappings record the lines of their keys.
    """

    path = ""

    def construct_traced(self, node: yaml.MappingNode) -> TracedDict:
        written = {id(key) for key, _ in node.value}
        self.flatten_mapping(node)  # adds the keys of merges (`<<`), which may be written again
        result = TracedDict()
        result._origins[None] = self._origin(node)
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            origin, key = self._origin(key_node), self.construct_object(key_node, deep=True)
            if isinstance(key, (dict, list, set)):
                raise ConfigSyntaxError("a key must not be a list or a mapping", origin=origin)
            if id(key_node) in written:
                if key in lines:
                    message = f"the key '{key}' occurs twice in one mapping, first on line {lines[key]}"
                    raise ConfigSyntaxError(message, origin=origin, key=str(key))
                lines[key] = origin.line
            result._put(key, self.construct_object(value_node, deep=True), origin)
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
        # Only double-quoted strings have escapes, which unprintable characters and literal placeholders need.
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


def read_yaml(text: str, path: str) -> Any:
    """Parses YAML text. Each dict records the lines of its keys. An empty text yields an empty dict.

    Raises:
        ConfigSyntaxError: The text is not valid YAML, has a tag that would execute code, or has a mapping with a
            duplicate key.
    """
    try:
        loader = _Loader(text)
        loader.path = path
        try:
            value = loader.get_single_data()
            return TracedDict() if value is None else value
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigSyntaxError(f"the text is not valid YAML: {reason}", origin=Origin(path, line)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, ConfigSyntaxError):
            raise
        reason = str(error).split("\n")[0]
        raise ConfigSyntaxError(f"the text is not valid YAML: {reason}", origin=Origin(path, 1)) from error


def write_yaml(value: Any) -> str:
    """Converts plain dicts, lists, tuples, sets and scalars to YAML text."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=None
    )
    return text

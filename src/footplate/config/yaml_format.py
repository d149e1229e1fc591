"""Reads and writes YAML. Reading records the line of every key and executes no code."""

import re
from typing import Any

import yaml

from footplate.config.origins import Place, TracedDict
from footplate.config.sources import PLACEHOLDER_BRACE
from footplate.errors import ConfigSyntaxError, Origin

# YAML aliases let a short text expand to a tree of any size.
_MAX_NODES = 100_000
_MAX_DEPTH = 200
_MAX_DIGITS = 20_000  # characters
_MAX_DIRECTIVES = 100  # the parser compares each one with all earlier ones
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_MERGE = "tag:yaml.org,2002:merge"
_TUPLE = "tag:yaml.org,2002:python/tuple"
_ORDERED = ("tag:yaml.org,2002:omap", "tag:yaml.org,2002:pairs")
_MAPPING = "tag:yaml.org,2002:map"
_SEQUENCE = "tag:yaml.org,2002:seq"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_FLOAT = "tag:yaml.org,2002:float"
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)
_PLAIN_FLOAT = re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+\Z")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A YAML loader that parses `1e-3` as a number, as users expect, and dates as strings.

    Rejects ordered mappings (`!!omap`, `!!pairs`) and limits the time for merges (`<<`).
    """

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Replaces merges (`<<`) with the merged pairs, each key once, before the mapping's own pairs.

        Raises:
            ConstructorError: A `<<` is not a mapping, or the merges have too many pairs.
        """
        values = [value for key, value in node.value if key.tag == _MERGE]
        if not values:
            return super().flatten_mapping(node)  # type: ignore[no-any-return]
        node.value = [(key, value) for key, value in node.value if key.tag != _MERGE]
        super().flatten_mapping(node)
        sources: list[yaml.MappingNode] = []
        for value in values:
            listed: list[Any] = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for source in listed:  # in the order of the text, because a mapping may merge earlier ones
                if not isinstance(source, yaml.MappingNode):
                    raise _constructor_error(source, "`<<` must be a mapping or a list of mappings")
                self.flatten_mapping(source)
            sources.extend(reversed(listed))
        if len(sources) > _MAX_NODES:
            raise _constructor_error(node, "there are too many merges (`<<`)")
        pairs: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for source in sources:  # later ones take precedence
            self._merged += len(source.value)
            if self._merged > _MAX_NODES:
                raise _constructor_error(node, f"the merges (`<<`) expand to more than {_MAX_NODES} values")
            for key, value in source.value:
                pairs[(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)] = key, value
        node.value = [*pairs.values(), *node.value]
        return None


class _Dumper(yaml.SafeDumper):
    """A YAML dumper that writes tuples with a tag, and repeated values without aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Only double-quoted strings have escapes, which unprintable characters and literal placeholders need.
        style = '"' if PLACEHOLDER_BRACE.search(data) or not data.isprintable() else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


def _constructor_error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.yaml_constructors = {tag: value for tag, value in _Loader.yaml_constructors.items() if tag not in _ORDERED}
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
        _check_extent(text, path)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            return TracedDict() if node is None else _Builder(loader, path).build(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise ConfigSyntaxError(f"the text is not valid YAML: {reason}", origin=Place(path, line)) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        if isinstance(error, ConfigSyntaxError) or "integer string conversion" in str(error):
            raise
        reason = str(error).split("\n")[0]
        raise ConfigSyntaxError(f"the text is not valid YAML: {reason}", origin=Place(path, 1)) from error


def write_yaml(value: Any) -> str:
    """Converts plain dicts, lists, tuples, sets and scalars to YAML text."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=None
    )
    return text


def _check_extent(text: str, path: str) -> None:
    """Checks that the text does not have too many values, and is not nested so deeply that the C parser would crash."""
    if len(_DIRECTIVE.findall(text)) > _MAX_DIRECTIVES:
        raise ConfigSyntaxError("the config has too many directives (lines that begin with %)", origin=Place(path, 1))
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH or count > 2 * _MAX_NODES:
            problem = "is nested too deeply" if depth > _MAX_DEPTH else f"has more than {_MAX_NODES} values"
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ConfigSyntaxError(f"the config {problem}", origin=Place(path, line))


class _Builder:
    """Converts YAML nodes to values."""

    def __init__(self, loader: Any, path: str) -> None:
        self.loader = loader
        self.path = path
        self.built = 0

    def build(self, node: yaml.Node) -> Any:
        """Returns the value of a node."""
        self.built += 1
        if self.built > _MAX_NODES:
            raise ConfigSyntaxError(f"the config has more than {_MAX_NODES} values", origin=self._origin(node))
        if node.tag == _MAPPING and isinstance(node, yaml.MappingNode):
            own = {id(key) for key, _ in node.value}  # the other keys come from merges (`<<`)
            self.loader.flatten_mapping(node)
            result = TracedDict._written_at(self._origin(node))
            seen: set[Any] = set()
            for key_node, value_node in node.value:
                origin, key = self._origin(key_node), self.build(key_node)
                if isinstance(key, (dict, list, set)):
                    raise ConfigSyntaxError("a key must not be a list or a mapping", origin=origin)
                if id(key_node) in own and key in seen:
                    message = f"the key '{key}' occurs twice in one mapping, first on line {result._origins[key].line}"
                    raise ConfigSyntaxError(message, origin=origin, key=str(key))
                if id(key_node) in own:
                    seen.add(key)
                result._put(key, self.build(value_node), origin)
            return result
        if node.tag in (_SEQUENCE, _TUPLE) and isinstance(node, yaml.SequenceNode):
            items = [self.build(child) for child in node.value]
            return tuple(items) if node.tag == _TUPLE else items
        if node.tag in _NUMBERS and len(node.value) > _MAX_DIGITS:
            raise ConfigSyntaxError("the text is not valid YAML: a number is too long", origin=self._origin(node))
        return self.loader.construct_object(node, deep=True)

    def _origin(self, node: yaml.Node) -> Origin:
        return Place(self.path, node.start_mark.line + 1)

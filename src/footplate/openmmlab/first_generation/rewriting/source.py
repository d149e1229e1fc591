"""Reads a first-generation config file: statements, expressions, comments."""

import functools
import importlib
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from footplate.errors import ConfigSyntaxError, MissingExtraError, Origin

cst: Any
try:
    cst = importlib.import_module("libcst")
except ImportError:  # an optional dependency; SourceFile raises the error
    cst = None

KeyPath = tuple[str, ...]

# The maximum number of variables that are followed, so that circular assignments end.
_MAX_HOPS = 8


class Comment(NamedTuple):
    """A comment.

    Attributes:
        line: The line number, from 1.
        column: The column at which the comment starts.
        text: The text, including the `#`.
        own_line: Whether the line contains nothing else.
    """

    line: int
    column: int
    text: str
    own_line: bool


class EntryComments(NamedTuple):
    """The comments on an entry of a dict, a call or a list.

    Attributes:
        above: The comments on separate lines above the entry.
        trailing: The comment at the end of the entry's last line.
    """

    above: tuple[Comment, ...] = ()
    trailing: Comment | None = None

    @property
    def all(self) -> tuple[Comment, ...]:
        """All comments on the entry."""
        return (*self.above, *((self.trailing,) if self.trailing else ()))


class Statement(NamedTuple):
    """A top-level statement of a file.

    Attributes:
        name: The variable that the statement assigns, changes (`data["train"] = ...`) or calls, or None.
        assigns: Whether the statement is a plain assignment to the variable.
        first: The first line, from 1.
        last: The last line.
        value: The assigned expression, a libcst node.
        reads: The variables that the statement reads.
        target: The assigned key path, such as `("data", "train")` for `data["train"] = ...`, or empty.
    """

    name: str | None
    assigns: bool
    first: int
    last: int
    value: Any
    reads: frozenset[str]
    target: KeyPath = ()


class SourceFile:
    """The source of a .py config.

    Args:
        path: The path of the file.

    Raises:
        ConfigSyntaxError: The file is not valid Python.
        MissingExtraError: libcst is not installed.
    """

    def __init__(self, path: Path) -> None:
        if cst is None:
            raise MissingExtraError("libcst", extra="migrate", why="rewriting config files")
        self.path = path
        self.text = path.read_text(encoding="utf-8-sig")
        try:
            wrapper = cst.metadata.MetadataWrapper(cst.parse_module(self.text), unsafe_skip_copy=True)
        except cst.ParserSyntaxError as error:
            raise ConfigSyntaxError(error.message, origin=Origin(str(path), error.raw_line)) from error
        self._module = wrapper.module
        self._positions = wrapper.resolve(cst.metadata.PositionProvider)
        self.lines = self.text.splitlines()
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        found = [(*each.start, each.string) for each in tokens if each.type == tokenize.COMMENT]
        self._comments = [
            Comment(line, column, text, own_line=not self.lines[line - 1][:column].strip())
            for line, column, text in found
        ]

    @functools.cached_property
    def statements(self) -> list[Statement]:
        """The top-level statements in order."""
        return [self._statement(node) for node in self._module.body]

    @functools.cached_property
    def bases(self) -> list[str]:
        """The names in `_base_`."""
        return [str(node.evaluated_value) for node in self._base_nodes]

    def assigned(self, name: str) -> Statement | None:
        """Returns the last statement that assigns a variable, or None."""
        return next((each for each in reversed(self.statements) if each.name == name and each.assigns), None)

    def expression(self, path: KeyPath, hops: int = _MAX_HOPS) -> Any:
        """Returns the node that the file assigns to a key path, or None.

        Args:
            path: The key path.
            hops: The maximum number of variables to follow.
        """
        for statement in reversed(self.statements):
            if statement.target and path[: len(statement.target)] == statement.target:
                node = statement.value
                for part in path[len(statement.target) :]:
                    node = _child(self.resolved(node, hops), part)
                    if node is None:
                        break
                return node
        return None

    def resolved(self, node: Any, hops: int = _MAX_HOPS) -> Any:
        """Returns the node assigned to a variable or an item of one. Other nodes are returned unchanged."""
        path = _key_path(node)
        return node if not path else self.expression(path, hops - 1) if hops > 0 else None

    def keys(self, node: Any) -> frozenset[str] | None:
        """Returns the keys of a dict or a call to dict(), or None for other nodes or if a mapping is unpacked."""
        items = _items(node)
        return None if items is None or None in dict(items) else frozenset(str(key) for key, _ in items)

    def is_list(self, node: Any) -> bool | None:
        """Checks whether a node is a list or a tuple. Returns None if this cannot be determined."""
        node = self.resolved(node)
        if isinstance(node, (cst.List, cst.Tuple)):
            return True
        return False if self.keys(node) is not None else None

    def code(self, node: Any) -> str:
        """Returns the source text of a node. Lines after the first keep their indentation."""
        return str(self._module.code_for_node(node))

    def indentation(self, node: Any) -> int:
        """Returns the indentation of the line on which a node starts."""
        line = self.lines[self._positions[node].start.line - 1]
        return len(line) - len(line.lstrip())

    def column(self, node: Any) -> int:
        """Returns the column at which a node starts."""
        return int(self._positions[node].start.column)

    def reads(self, node: Any) -> frozenset[str]:
        """Returns the variables that a node reads. A variable of a base is returned as `_base_.name`."""
        return frozenset(_reads(node))

    def comments_on_lines(self, first: int, last: int) -> list[Comment]:
        """Returns the comments on the lines from `first` to `last`, inclusive."""
        return [each for each in self._comments if first <= each.line <= last]

    def comments_inside(self, node: Any) -> list[Comment]:
        """Returns the comments within the text of a node."""
        start, end = self._positions[node].start, self._positions[node].end
        found = self.comments_on_lines(start.line, end.line)
        return [each for each in found if (each.line, each.column) < (end.line, end.column)]

    def comments_of_entry(self, node: Any) -> EntryComments:
        """Returns the comments on the entry of a dict, a call or a list whose value is `node`."""
        return self._comments_by_entry.get(id(node), EntryComments())

    def with_bases(self, renamed: dict[str, str | None]) -> list[str]:
        """Returns the lines of the file with new names in `_base_`. None removes a name."""
        lines = list(self.lines)
        for node in reversed(self._base_nodes):
            name = str(node.evaluated_value)
            new = renamed.get(name, name)
            if new == name:
                continue
            position = self._positions[node]
            line = lines[position.start.line - 1]
            rest = line[position.end.column :]
            if new is None:
                rest = rest.removeprefix(",").removeprefix(" ")
            lines[position.start.line - 1] = line[: position.start.column] + (repr(new) if new else "") + rest
        return lines

    @functools.cached_property
    def _base_nodes(self) -> list[Any]:
        statement = self.assigned("_base_")
        return [] if statement is None else list(_nodes(statement.value, cst.SimpleString))

    @functools.cached_property
    def _comments_by_entry(self) -> dict[int, EntryComments]:
        found: dict[int, EntryComments] = {}
        for container in _nodes(self._module, (cst.Call, cst.Dict, cst.List, cst.Tuple)):
            entries = container.args if isinstance(container, cst.Call) else container.elements
            positions = [self._positions[each] for each in entries]
            ends = [self._positions[container].start.line, *(each.end.line for each in positions)]
            starts = [*(each.start.line for each in positions), self._positions[container].end.line]
            for index, entry in enumerate(entries):
                before, first, last, after = ends[index], starts[index], ends[index + 1], starts[index + 1]
                above = tuple(each for each in self.comments_on_lines(before + 1, first - 1) if each.own_line)
                ending = [each for each in self.comments_on_lines(last, last) if not each.own_line and after > last]
                if above or ending:
                    found[id(entry.value)] = EntryComments(above, ending[0] if ending else None)
        return found

    def _statement(self, node: Any) -> Statement:
        first, last = self._positions[node].start.line, self._positions[node].end.line
        reads = self.reads(node)
        small = node.body[0] if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1 else None
        if isinstance(small, cst.Assign) and len(small.targets) == 1:
            target = small.targets[0].target
            path = _key_path(target)
            if isinstance(target, cst.Name):
                return Statement(target.value, True, first, last, small.value, self.reads(small.value), path)
            return Statement(_root(target), False, first, last, small.value if path else None, reads, path)
        changed = None
        if isinstance(small, cst.Expr) and isinstance(small.value, cst.Call):  # data.update(...)
            changed = small.value.func
        elif isinstance(small, (cst.AugAssign, cst.Del)):
            changed = small.target
        return Statement(_root(changed), False, first, last, None, reads)


def _nodes(node: Any, kind: Any) -> Iterator[Any]:
    """Yields the node itself and its descendants that are of type `kind`."""
    if isinstance(node, kind):
        yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child, kind)


def _root(node: Any) -> str | None:
    """Returns the variable at the start of `data["x"].y`, or None."""
    while isinstance(node, (cst.Attribute, cst.Subscript)):
        node = node.value
    return str(node.value) if isinstance(node, cst.Name) else None


def _key_path(node: Any) -> KeyPath:
    """Returns the key path of a variable or an item, such as ("data", "val") for `data["val"]`.

    For any other node, returns ().
    """
    parts: list[str] = []
    while isinstance(node, cst.Subscript):
        index = node.slice[0].slice if len(node.slice) == 1 else None
        if not isinstance(index, cst.Index) or not isinstance(index.value, cst.SimpleString):
            return ()
        parts.insert(0, str(index.value.evaluated_value))
        node = node.value
    return (str(node.value), *parts) if isinstance(node, cst.Name) else ()


def _items(node: Any) -> list[tuple[str | None, Any]] | None:
    """Returns the items of a dict or a call to dict(), or None for other nodes.

    The key is None for an unpacked mapping and for a key that is not a string literal.
    """
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "dict":
        return [(str(each.keyword.value) if each.keyword else None, each.value) for each in node.args]
    if isinstance(node, cst.Dict):
        keys = [getattr(each, "key", None) for each in node.elements]
        names = [str(key.evaluated_value) if isinstance(key, cst.SimpleString) else None for key in keys]
        return [(name, each.value) for name, each in zip(names, node.elements, strict=True)]
    return None


def _child(node: Any, part: str) -> Any:
    """Returns the value of an entry of a dict, a list or a tuple, or None."""
    if isinstance(node, (cst.List, cst.Tuple)) and part.isdigit() and int(part) < len(node.elements):
        element = node.elements[int(part)]
        return None if isinstance(element, cst.StarredElement) else element.value
    return dict(_items(node) or ()).get(part)


def _reads(node: Any) -> Iterator[str]:
    if isinstance(node, cst.Name):
        yield str(node.value)
    elif isinstance(node, cst.Attribute):
        if isinstance(node.value, cst.Name) and node.value.value == "_base_":
            yield f"_base_.{node.attr.value}"
        yield from _reads(node.value)
    elif isinstance(node, cst.Arg):
        yield from _reads(node.value)
    else:
        for child in getattr(node, "children", ()):
            yield from _reads(child)

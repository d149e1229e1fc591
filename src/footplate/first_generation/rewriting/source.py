"""Reads a first-generation config file: statements, expressions, comments."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.errors import ConfigSyntaxError, MissingExtraError, Origin


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
        above: The comments on lines of their own above the entry.
        trailing: The comment at the end of the entry's last line.
    """

    above: tuple[Comment, ...] = ()
    trailing: Comment | None = None

    @property
    def all(self) -> tuple[Comment, ...]:
        """All comments on the entry."""
        return (*self.above, *((self.trailing,) if self.trailing else ()))


class Comments:
    """The comments of a file.

    Args:
        cst: The package libcst.
        module: The libcst module node of the file.
        positions: The position of each node.
        lines: The lines of the file.
    """

    def __init__(self, cst: Any, module: Any, positions: Mapping[Any, Any], lines: list[str]) -> None:
        self._cst = cst
        self._module = module
        self._positions = positions
        self._lines = lines

    def on_lines(self, first: int, last: int) -> list[Comment]:
        """Returns the comments on the lines from `first` to `last`, inclusive."""
        return [each for each in self._all if first <= each.line <= last]

    def inside(self, node: Any) -> list[Comment]:
        """Returns the comments within the text of a node."""
        position = self._positions[node]
        end = (position.end.line, position.end.column)
        found = self.on_lines(position.start.line, position.end.line)
        return [each for each in found if (each.line, each.column) < end]

    def of_entry(self, node: Any) -> EntryComments:
        """Returns the comments on the entry whose value is `node`."""
        return self._by_entry.get(id(node), EntryComments())

    @functools.cached_property
    def _all(self) -> list[Comment]:
        found = []
        for node in nodes(self._module, self._cst.Comment):
            start = self._positions[node].start
            own_line = not self._lines[start.line - 1][: start.column].strip()
            found.append(Comment(start.line, start.column, str(node.value), own_line))
        return sorted(found)

    @functools.cached_property
    def _by_entry(self) -> dict[int, EntryComments]:
        cst = self._cst
        found: dict[int, EntryComments] = {}
        for container in nodes(self._module, (cst.Call, cst.Dict, cst.List, cst.Tuple)):
            entries = container.args if isinstance(container, cst.Call) else container.elements
            if entries:
                self._add(found, container, entries)
        return found

    def _add(self, found: dict[int, EntryComments], container: Any, entries: Any) -> None:
        positions = [self._positions[each] for each in entries]
        ends = [self._positions[container].start.line, *(each.end.line for each in positions)]
        starts = [*(each.start.line for each in positions), self._positions[container].end.line]
        for index, entry in enumerate(entries):
            before, first, last, after = ends[index], starts[index], ends[index + 1], starts[index + 1]
            above = tuple(each for each in self.on_lines(before + 1, first - 1) if each.own_line)
            trailing = [each for each in self.on_lines(last, last) if not each.own_line] if after > last else []
            if above or trailing:
                found[id(entry.value)] = EntryComments(above, trailing[0] if trailing else None)


def nodes(node: Any, kind: Any) -> Iterator[Any]:
    """Yields the node itself and its descendants that are of type `kind`."""
    if isinstance(node, kind):
        yield node
    for child in getattr(node, "children", ()):
        yield from nodes(child, kind)


KeyPath = tuple[str, ...]

# Limits how many variables are followed, so that circular assignments end.
_MAX_HOPS = 8


def syntax_trees() -> Any:
    """Returns the package libcst.

    Raises:
        MissingExtraError: libcst is not installed.
    """
    try:
        import libcst
    except ImportError as error:
        raise MissingExtraError("libcst", extra="migrate", why="rewriting config files") from error
    return libcst


class Statement(NamedTuple):
    """A top-level statement of a file.

    Attributes:
        name: The variable that the statement assigns, changes (`data["train"] = ...`) or calls; None for others.
        assigns: Whether the statement is a plain assignment to the variable.
        first: The first line, from 1.
        last: The last line.
        value: The assigned expression, a libcst node.
        reads: The variables that the statement reads.
        target: The assigned key path, such as `("data", "train")` for `data["train"] = ...`; empty for others.
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
        cst = syntax_trees()
        self.path = path
        self.text = path.read_text(encoding="utf-8-sig")
        try:
            wrapper = cst.metadata.MetadataWrapper(cst.parse_module(self.text), unsafe_skip_copy=True)
        except cst.ParserSyntaxError as error:
            raise ConfigSyntaxError(error.message, origin=Origin(str(path), error.raw_line)) from error
        self._module = wrapper.module
        self._positions = wrapper.resolve(cst.metadata.PositionProvider)
        self.lines = self.text.splitlines()

    @functools.cached_property
    def statements(self) -> list[Statement]:
        """The top-level statements in order."""
        return [self._statement(node) for node in self._module.body]

    @functools.cached_property
    def bases(self) -> list[str]:
        """The names in `_base_`."""
        return [text for _, text in self._base_nodes()]

    def assigned(self, name: str) -> Statement | None:
        """Returns the last statement that assigns a variable, or None."""
        found = [each for each in self.statements if each.name == name and each.assigns]
        return found[-1] if found else None

    def expression(self, path: KeyPath, hops: int = _MAX_HOPS) -> Any:
        """Returns the node that the file assigns to a key path, or None.

        Args:
            path: The key path.
            hops: How many variables to follow at most.
        """
        for statement in reversed(self.statements):
            if statement.target and path[: len(statement.target)] == statement.target:
                return self._below(statement.value, path[len(statement.target) :], hops)
        return None

    def resolved(self, node: Any, hops: int = _MAX_HOPS) -> Any:
        """Returns the node assigned to a variable or an item of one; returns other nodes unchanged."""
        path = _key_path(node)
        return node if not path else self.expression(path, hops - 1) if hops > 0 else None

    def keys(self, node: Any) -> frozenset[str] | None:
        """Returns the keys of a dict or a call of dict(); None for other nodes and if another mapping is unpacked."""
        cst = syntax_trees()
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "dict":
            keys = [each.keyword.value if each.keyword else None for each in node.args]
        elif isinstance(node, cst.Dict):
            pairs = [each.key if isinstance(each, cst.DictElement) else None for each in node.elements]
            keys = [each.evaluated_value if isinstance(each, cst.SimpleString) else None for each in pairs]
        else:
            return None
        known = frozenset(str(key) for key in keys if key is not None)
        return known if len(known) == len(keys) else None

    def is_list(self, node: Any) -> bool | None:
        """Checks whether a node is a list or a tuple; returns None if this cannot be determined."""
        cst = syntax_trees()
        node = self.resolved(node)
        if isinstance(node, (cst.List, cst.Tuple)):
            return True
        return False if self.keys(node) is not None else None

    def _below(self, node: Any, path: KeyPath, hops: int) -> Any:
        for part in path:
            node = _child(self.resolved(node, hops), part)
            if node is None:
                return None
        return node

    def code(self, node: Any) -> str:
        """Returns the source text of a node; lines after the first keep their indentation."""
        return str(self._module.code_for_node(node))

    def indentation(self, node: Any) -> int:
        """Returns the indentation of the line on which a node starts."""
        line = self.lines[self._positions[node].start.line - 1]
        return len(line) - len(line.lstrip())

    def column(self, node: Any) -> int:
        """Returns the column at which a node starts."""
        return int(self._positions[node].start.column)

    def reads(self, node: Any) -> frozenset[str]:
        """Returns the variables that a node reads; a variable of a base is returned as `_base_.name`."""
        return frozenset(_reads(node))

    @functools.cached_property
    def comments(self) -> Comments:
        """The comments of the file."""
        return Comments(syntax_trees(), self._module, self._positions, self.lines)

    def with_bases(self, renamed: dict[str, str | None]) -> list[str]:
        """Returns the lines of the file with other names in `_base_`; None removes a name."""
        lines = list(self.lines)
        for node, text in reversed(self._base_nodes()):
            new = renamed.get(text, text)
            if new == text:
                continue
            position = self._positions[node]
            line = lines[position.start.line - 1]
            piece = repr(new) if new is not None else ""
            rest = line[position.end.column :]
            if new is None:
                rest = rest.removeprefix(",").removeprefix(" ")
            lines[position.start.line - 1] = line[: position.start.column] + piece + rest
        return lines

    def _base_nodes(self) -> list[tuple[Any, str]]:
        cst = syntax_trees()
        statement = self.assigned("_base_")
        if statement is None:
            return []
        return [(node, str(node.evaluated_value)) for node in nodes(statement.value, cst.SimpleString)]

    def _statement(self, node: Any) -> Statement:
        cst = syntax_trees()
        position = self._positions[node]
        first, last = position.start.line, position.end.line
        reads = frozenset(_reads(node))
        small = node.body[0] if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1 else None
        if isinstance(small, cst.Assign) and len(small.targets) == 1:
            target, own = small.targets[0].target, frozenset(_reads(small.value))
            if isinstance(target, cst.Name):
                path: KeyPath = (target.value,)
                return Statement(target.value, True, first, last, small.value, own, path)
            path = _key_path(target)
            value = small.value if path else None
            return Statement(_root(target), False, first, last, value, reads, path)
        return Statement(_root(_changed_node(small)), False, first, last, None, reads)


def _changed_node(small: Any) -> Any:
    """Returns the node changed by `data.update(...)`, `del data["x"]` or `data["x"] += 1`, or None."""
    cst = syntax_trees()
    if isinstance(small, cst.Expr) and isinstance(small.value, cst.Call):
        return small.value.func
    if isinstance(small, (cst.AugAssign, cst.Del)):
        return small.target
    return None


def _root(node: Any) -> str | None:
    cst = syntax_trees()
    while isinstance(node, (cst.Attribute, cst.Subscript)):
        node = node.value
    return str(node.value) if isinstance(node, cst.Name) else None


def _key_path(node: Any) -> KeyPath:
    """Returns the key path of a variable or an item, such as ("data", "val") for `data["val"]`; () for other nodes."""
    cst = syntax_trees()
    parts: list[str] = []
    while isinstance(node, cst.Subscript):
        index = node.slice[0].slice if len(node.slice) == 1 else None
        if not isinstance(index, cst.Index) or not isinstance(index.value, cst.SimpleString):
            return ()
        parts.insert(0, str(index.value.evaluated_value))
        node = node.value
    return (str(node.value), *parts) if isinstance(node, cst.Name) else ()


def _child(node: Any, part: str) -> Any:
    cst = syntax_trees()
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "dict":
        found = [each.value for each in node.args if each.keyword is not None and each.keyword.value == part]
        return found[-1] if found else None
    if isinstance(node, cst.Dict):
        pairs = [each for each in node.elements if isinstance(each, cst.DictElement)]
        keyed = [(each.key, each.value) for each in pairs if isinstance(each.key, cst.SimpleString)]
        return next((value for key, value in keyed if key.evaluated_value == part), None)
    if isinstance(node, (cst.List, cst.Tuple)) and part.isdigit() and int(part) < len(node.elements):
        element = node.elements[int(part)]
        return None if isinstance(element, cst.StarredElement) else element.value
    return None


def _reads(node: Any) -> Iterator[str]:
    cst = syntax_trees()
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

"""Parses a config file into statements and expressions with their source text."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from footplate.errors import ConfigSyntaxError, MissingExtraError, Origin
from footplate.migration.rewriting.comments import Comments, nodes

KeyPath = tuple[str, ...]

_HOPS = 8


def syntax_trees() -> Any:
    """Returns the package libcst.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import libcst
    except ImportError as error:
        raise MissingExtraError("libcst", extra="migrate", why="rewriting config files") from error
    return libcst


class Statement(NamedTuple):
    """A statement at the top level of a file.

    Attributes:
        name: The variable that it assigns, changes (`data["train"] = ...`) or calls, None for others.
        assigns: Whether it is a plain assignment to that variable.
        first: Its first line, from 1.
        last: Its last line.
        value: The expression that is assigned, a node of libcst.
        reads: The variables that it reads.
        target: What the value is assigned to, `("data", "train")` for `data["train"] = ...`; empty for others.
    """

    name: str | None
    assigns: bool
    first: int
    last: int
    value: Any
    reads: frozenset[str]
    target: KeyPath = ()


class SourceFile:
    """A .py config as it is written.

    Args:
        path: Its path.

    Raises:
        ConfigSyntaxError: It is no Python.
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
        """The statements in their order."""
        return [self._statement(node) for node in self._module.body]

    @functools.cached_property
    def bases(self) -> list[str]:
        """What `_base_` names."""
        return [text for _, text in self._base_nodes()]

    def assigned(self, name: str) -> Statement | None:
        """Returns the last statement that assigns a variable."""
        found = [each for each in self.statements if each.name == name and each.assigns]
        return found[-1] if found else None

    def expression(self, path: KeyPath, hops: int = _HOPS) -> Any:
        """Returns the node that stands at a key path of what the file assigns, None where there is none.

        Args:
            path: The key path.
            hops: Through how many variables to look for it.
        """
        for statement in reversed(self.statements):
            if statement.target and path[: len(statement.target)] == statement.target:
                return self._below(statement.value, path[len(statement.target) :], hops)
        return None

    def resolved(self, node: Any, hops: int = _HOPS) -> Any:
        """Returns what a variable or an item of one stands for; other nodes as they are."""
        path = _key_path(node)
        return node if not path else self.expression(path, hops - 1) if hops > 0 else None

    def keys(self, node: Any) -> frozenset[str] | None:
        """Returns the keys that a dict or a call of dict() writes, None for others and where it takes others in."""
        cst = syntax_trees()
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "dict":
            words = [each.keyword.value if each.keyword else None for each in node.args]
        elif isinstance(node, cst.Dict):
            pairs = [each.key if isinstance(each, cst.DictElement) else None for each in node.elements]
            words = [each.evaluated_value if isinstance(each, cst.SimpleString) else None for each in pairs]
        else:
            return None
        known = frozenset(str(word) for word in words if word is not None)
        return known if len(known) == len(words) else None

    def is_list(self, node: Any) -> bool | None:
        """Checks whether a node is a list or a tuple, None where only running the file would tell."""
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
        """Returns the text of a node; lines after its first keep their indentation."""
        return str(self._module.code_for_node(node))

    def indentation(self, node: Any) -> int:
        """Returns how far the line is indented that a node begins on."""
        line = self.lines[self._positions[node].start.line - 1]
        return len(line) - len(line.lstrip())

    def column(self, node: Any) -> int:
        """Returns where in its line a node begins."""
        return int(self._positions[node].start.column)

    def reads(self, node: Any) -> frozenset[str]:
        """Returns the variables that a node reads; of `_base_.name` the name with the word before it."""
        return frozenset(_reads(node))

    @functools.cached_property
    def comments_of(self) -> Comments:
        """The comments."""
        return Comments(syntax_trees(), self._module, self._positions, self.lines)

    def with_bases(self, renamed: dict[str, str | None]) -> list[str]:
        """Returns the lines with other names in `_base_`; None takes a name out."""
        lines = list(self.lines)
        for node, text in reversed(self._base_nodes()):
            new = renamed.get(text, text)
            if new == text:
                continue
            place = self._positions[node]
            line = lines[place.start.line - 1]
            piece = repr(new) if new is not None else ""
            rest = line[place.end.column :]
            if new is None:
                rest = rest.removeprefix(",").removeprefix(" ")
            lines[place.start.line - 1] = line[: place.start.column] + piece + rest
        return lines

    def _base_nodes(self) -> list[tuple[Any, str]]:
        cst = syntax_trees()
        statement = self.assigned("_base_")
        if statement is None:
            return []
        return [(node, str(node.evaluated_value)) for node in nodes(statement.value, cst.SimpleString)]

    def _statement(self, node: Any) -> Statement:
        cst = syntax_trees()
        place = self._positions[node]
        reads = frozenset(_reads(node))
        small = node.body[0] if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1 else None
        if isinstance(small, cst.Assign) and len(small.targets) == 1:
            target, own = small.targets[0].target, frozenset(_reads(small.value))
            if isinstance(target, cst.Name):
                path: KeyPath = (target.value,)
                return Statement(target.value, True, place.start.line, place.end.line, small.value, own, path)
            path = _key_path(target)
            value = small.value if path else None
            return Statement(_root(target), False, place.start.line, place.end.line, value, reads, path)
        touched = _touched(small)
        return Statement(_root(touched), False, place.start.line, place.end.line, None, reads)


def _touched(small: Any) -> Any:
    """What a statement that is no assignment changes: `data.update(...)`, `del data["x"]`, `data["x"] += 1`."""
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
    """The key path that a variable or an item of one names, empty for other nodes: ("data", "val")."""
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

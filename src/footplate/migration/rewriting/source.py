"""A config file as it is written: its statements, and the expressions in them."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from footplate.errors import ConfigSyntaxError, MissingExtraError, Origin

KeyPath = tuple[str, ...]


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
    """

    name: str | None
    assigns: bool
    first: int
    last: int
    value: Any
    reads: frozenset[str]


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
        self.text = path.read_text(encoding="utf-8")
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

    def expression(self, path: KeyPath) -> Any:
        """Returns the node that stands at a key path of what the file assigns, None where there is none."""
        statement = self.assigned(path[0])
        node = statement.value if statement is not None else None
        for part in path[1:]:
            node = _child(node, part)
            if node is None:
                return None
        return node

    def code(self, node: Any) -> str:
        """Returns the text of a node; lines after its first keep their indentation."""
        return str(self._module.code_for_node(node))

    def column(self, node: Any) -> int:
        """Returns how far the line is indented that a node begins on."""
        line = self.lines[self._positions[node].start.line - 1]
        return len(line) - len(line.lstrip())

    def reads(self, node: Any) -> frozenset[str]:
        """Returns the variables that a node reads; of `_base_.name` the name with the word before it."""
        return frozenset(_reads(node))

    def comments(self, statement: Statement) -> list[str]:
        """Returns the comments that stand within the lines of a statement."""
        return [text for line, text in self._comments if statement.first <= line <= statement.last]

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

    @functools.cached_property
    def _comments(self) -> list[tuple[int, str]]:
        found = _descendants(self._module, syntax_trees().Comment)
        return sorted((self._positions[each].start.line, str(each.value)) for each in found)

    def _base_nodes(self) -> list[tuple[Any, str]]:
        cst = syntax_trees()
        statement = self.assigned("_base_")
        if statement is None:
            return []
        found = _descendants(statement.value, cst.SimpleString)
        return [(node, str(node.evaluated_value)) for node in found]

    def _statement(self, node: Any) -> Statement:
        cst = syntax_trees()
        place = self._positions[node]
        reads = frozenset(_reads(node))
        small = node.body[0] if isinstance(node, cst.SimpleStatementLine) and len(node.body) == 1 else None
        if isinstance(small, cst.Assign) and len(small.targets) == 1:
            target = small.targets[0].target
            if isinstance(target, cst.Name):
                own = frozenset(_reads(small.value))
                return Statement(target.value, True, place.start.line, place.end.line, small.value, own)
            return Statement(_root(target), False, place.start.line, place.end.line, None, reads)
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


def _descendants(node: Any, kind: Any) -> list[Any]:
    found = [node] if isinstance(node, kind) else []
    for child in getattr(node, "children", ()):
        found += _descendants(child, kind)
    return found

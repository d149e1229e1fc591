"""Assigns the comments of a file to its entries."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


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

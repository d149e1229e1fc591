"""Assigns the comments of a file to its entries."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class Comment(NamedTuple):
    """A comment.

    Attributes:
        line: Its line, from 1.
        column: Where in the line it begins.
        text: What it says, with its mark.
        alone: Whether it has the line for itself.
    """

    line: int
    column: int
    text: str
    alone: bool


class EntryComments(NamedTuple):
    """The comments of an entry of a dict, a call or a list.

    Attributes:
        above: Those on lines of their own above it.
        behind: The one behind it.
    """

    above: tuple[Comment, ...] = ()
    behind: Comment | None = None

    @property
    def all(self) -> tuple[Comment, ...]:
        """All of them."""
        return (*self.above, *((self.behind,) if self.behind else ()))


class Comments:
    """The comments of a file.

    Args:
        cst: The package libcst.
        module: The file, a node of it.
        positions: Where its nodes stand.
        lines: Its lines.
    """

    def __init__(self, cst: Any, module: Any, positions: Mapping[Any, Any], lines: list[str]) -> None:
        self._cst = cst
        self._module = module
        self._positions = positions
        self._lines = lines

    def on_lines(self, first: int, last: int) -> list[Comment]:
        """Returns the comments on some lines."""
        return [each for each in self._all if first <= each.line <= last]

    def within(self, node: Any) -> list[Comment]:
        """Returns the comments in the text of a node."""
        place = self._positions[node]
        end = (place.end.line, place.end.column)
        return [each for each in self.on_lines(place.start.line, place.end.line) if (each.line, each.column) < end]

    def beside(self, node: Any) -> EntryComments:
        """Returns the comments on the entry whose value is `node`."""
        return self._beside.get(id(node), EntryComments())

    @functools.cached_property
    def _all(self) -> list[Comment]:
        found = []
        for node in nodes(self._module, self._cst.Comment):
            place = self._positions[node].start
            alone = not self._lines[place.line - 1][: place.column].strip()
            found.append(Comment(place.line, place.column, str(node.value), alone))
        return sorted(found)

    @functools.cached_property
    def _beside(self) -> dict[int, EntryComments]:
        cst = self._cst
        found: dict[int, EntryComments] = {}
        for holder in nodes(self._module, (cst.Call, cst.Dict, cst.List, cst.Tuple)):
            entries = holder.args if isinstance(holder, cst.Call) else holder.elements
            if entries:
                self._add(found, holder, entries)
        return found

    def _add(self, found: dict[int, EntryComments], holder: Any, entries: Any) -> None:
        places = [self._positions[each] for each in entries]
        ends = [self._positions[holder].start.line, *(each.end.line for each in places)]
        starts = [*(each.start.line for each in places), self._positions[holder].end.line]
        for place, entry in enumerate(entries):
            before, first, last, after = ends[place], starts[place], ends[place + 1], starts[place + 1]
            above = tuple(each for each in self.on_lines(before + 1, first - 1) if each.alone)
            behind = [each for each in self.on_lines(last, last) if not each.alone] if after > last else []
            if above or behind:
                found[id(entry.value)] = EntryComments(above, behind[0] if behind else None)


def nodes(node: Any, kind: Any) -> Iterator[Any]:
    """Yields the nodes of a kind at and below a node."""
    if isinstance(node, kind):
        yield node
    for child in getattr(node, "children", ()):
        yield from nodes(child, kind)

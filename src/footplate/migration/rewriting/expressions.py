"""Finds the expressions of the old file that a new one can reuse."""

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

from footplate.migration.key_map import Path, is_first_use, old_paths, same_meaning
from footplate.migration.rewriting.comments import EntryComments, Comment
from footplate.migration.rewriting.differences import DELETE
from footplate.migration.rewriting.source import SourceFile


class OldExpression(NamedTuple):
    """An expression of the old file.

    Attributes:
        code: Its text; None where it can only be taken apart.
        indentation: How far the line was indented that it began on.
        column: Where in that line it began.
        keys: The keys that it writes, None where it is no dict or takes others in.
        is_list: Whether it is a list or a tuple, None where nobody knows.
        reads: The variables that it reads.
        beside: Its comments.
        within: The comments in it.
    """

    code: str | None
    indentation: int = 0
    column: int = 0
    keys: frozenset[str] | None = None
    is_list: bool | None = None
    reads: frozenset[str] = frozenset()
    beside: EntryComments = EntryComments()
    within: tuple[Comment, ...] = ()


class ExpressionFinder:
    """Finds old expressions.

    Args:
        source: The old file.
        removed: Its variables that give way, which nothing may read.
        by_value: Sections that are written out.
    """

    def __init__(self, source: SourceFile, removed: Container[str], by_value: Iterable[str] = ()) -> None:
        self._source = source
        self._removed = removed
        self._by_value = frozenset(by_value)
        self._found: dict[Path, OldExpression | None] = {}

    def quote(self, path: Path) -> OldExpression | None:
        """Returns the old expression for a path of the new config, if there is one."""
        if path[0] in self._by_value:
            return None
        if path not in self._found:
            self._found[path] = self._quote(path)
        return self._found[path]

    def _quote(self, path: Path) -> OldExpression | None:
        source = self._source
        old, node = next(((old, node) for old in old_paths(path) if (node := source.expression(old))), ((), None))
        if node is None:
            return None
        beside = source.comments_of.beside(node) if is_first_use(path, old) else EntryComments()
        if self._depends(node):
            node = source.resolved(node)
            if node is None or self._depends(node):
                return OldExpression(None, beside=beside)
        return OldExpression(
            source.code(node),
            source.indentation(node),
            source.column(node),
            source.keys(node),
            source.is_list(node),
            source.reads(node),
            beside,
            tuple(source.comments_of.within(node)),
        )

    def says(self, path: Path) -> bool:
        """Checks whether the old file itself writes the value at a path, rather than entries of it."""
        if path[-1] == DELETE or same_meaning(path):
            return any(self._source.expression(old) is not None for old in (*old_paths(path), *same_meaning(path)))
        found = self.quote(path)
        return found is not None and found.code is not None and found.keys is None

    def _depends(self, node: Any) -> bool:
        """Checks whether an expression depends on a removed variable."""
        return any(name.removeprefix("_base_.") in self._removed for name in self._source.reads(node))

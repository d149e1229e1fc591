"""Finds the expressions of a first-generation file that its second-generation counterpart can reuse."""

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

from footplate.first_generation.rewriting.comments import Comment, EntryComments
from footplate.first_generation.rewriting.differences import DELETE
from footplate.first_generation.rewriting.source import SourceFile
from footplate.first_generation.translation.key_map import Path, is_first_use, old_paths, same_meaning


class OldExpression(NamedTuple):
    """An expression of the first-generation file.

    Attributes:
        code: The source text; None if the expression cannot be reused as a whole.
        indentation: The indentation of the line on which the expression starts.
        column: The column at which the expression starts.
        keys: The keys that the expression writes; None if it is not a dict or unpacks another mapping.
        is_list: Whether the expression is a list or a tuple; None if unknown.
        reads: The variables that the expression reads.
        comments: The comments on the entry.
        inner_comments: The comments within the expression.
    """

    code: str | None
    indentation: int = 0
    column: int = 0
    keys: frozenset[str] | None = None
    is_list: bool | None = None
    reads: frozenset[str] = frozenset()
    comments: EntryComments = EntryComments()
    inner_comments: tuple[Comment, ...] = ()


class ExpressionFinder:
    """Finds expressions of the first-generation file for paths of the new config.

    Args:
        source: The first-generation file.
        removed: The variables that the new file does not have, so that no expression may read them.
        by_value: Sections that reuse no expressions.
    """

    def __init__(self, source: SourceFile, removed: Container[str], by_value: Iterable[str] = ()) -> None:
        self._source = source
        self._removed = removed
        self._by_value = frozenset(by_value)
        self._cache: dict[Path, OldExpression | None] = {}

    def find(self, path: Path) -> OldExpression | None:
        """Returns the old expression for a path of the new config, or None."""
        if path[0] in self._by_value:
            return None
        if path not in self._cache:
            self._cache[path] = self._find(path)
        return self._cache[path]

    def _find(self, path: Path) -> OldExpression | None:
        source = self._source
        old, node = next(((old, node) for old in old_paths(path) if (node := source.expression(old))), ((), None))
        if node is None:
            return None
        comments = source.comments.of_entry(node) if is_first_use(path, old) else EntryComments()
        if self._reads_removed(node):
            node = source.resolved(node)
            if node is None or self._reads_removed(node):
                return OldExpression(None, comments=comments)
        return OldExpression(
            source.code(node),
            source.indentation(node),
            source.column(node),
            source.keys(node),
            source.is_list(node),
            source.reads(node),
            comments,
            tuple(source.comments.inside(node)),
        )

    def is_written(self, path: Path) -> bool:
        """Checks whether the old file writes the value at a path as a whole, rather than entries of it."""
        if path[-1] == DELETE or same_meaning(path):
            return any(self._source.expression(old) is not None for old in (*old_paths(path), *same_meaning(path)))
        found = self.find(path)
        return found is not None and found.code is not None and found.keys is None

    def _reads_removed(self, node: Any) -> bool:
        return any(name.removeprefix("_base_.") in self._removed for name in self._source.reads(node))

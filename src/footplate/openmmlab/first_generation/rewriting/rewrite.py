"""Generates the second-generation counterpart of a first-generation file.

Sections are written with the expressions and comments of the first-generation file where they can be reused.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, NamedTuple

from footplate.config.formats import is_identifier, write_value
from footplate.openmmlab.first_generation.rewriting.plan import DELETE, OLD_KEYS
from footplate.openmmlab.first_generation.rewriting.source import (
    Comment,
    KeyPath,
    SourceFile,
    Statement,
    comments_of,
    names_read,
)
from footplate.openmmlab.first_generation.translation.key_map import is_first_use, old_paths, owners_of

_WIDTH = 79
_INDENT = 4


class OldExpression(NamedTuple):
    """An expression of the first-generation file.

    Attributes:
        code: The source text, or None if it cannot be reused unchanged.
        keys: The keys of the dict, or None if the expression is not a dict or unpacks another mapping.
        is_list: Whether the expression is a list or a tuple, or None if unknown.
        comments: The comments on the entry.
    """

    code: str | None
    keys: frozenset[str] | None
    is_list: bool | None
    comments: list[Comment]

    def code_for(self, value: Any) -> str | None:
        """Returns the code for a value of the new config, or None if it does not fit."""
        if self.code is None or self.is_list not in (None, isinstance(value, (list, tuple))):
            return None
        if not isinstance(value, Mapping):
            return self.code if self.keys is None else None
        if self.keys is None and DELETE in value:
            return f"dict({DELETE}=True, **{self.code})" if self.code.isidentifier() else None
        return self.code if self.keys in (None, frozenset(value)) else None


class SectionWriter:
    """Writes config sections with the expressions of the first-generation file.

    Args:
        source: The first-generation file.
        removed: Variables that the new file no longer defines, in addition to the first-generation keys. An expression
            that reads one of them is not reused unchanged.
        by_value: Sections for which no expressions are reused.
    """

    def __init__(self, source: SourceFile, removed: Set[str] = frozenset(), by_value: Iterable[str] = ()) -> None:
        self._source = source
        self._removed = OLD_KEYS | removed
        self._by_value = frozenset(by_value)
        self._written_comments: set[Comment] = set()

    def write(self, path: KeyPath, value: Any) -> str:
        """Returns `name = value` or `name["key"] = value`. Each old comment is written only once."""
        target = path[0] + "".join(f"[{key!r}]" for key in path[1:])
        return self._entry(f"{target} = ", value, path, self._find(path), "") + "\n"

    def _find(self, path: KeyPath) -> OldExpression | None:
        """Returns the old expression for a path of the new config, or None."""
        if path[0] in self._by_value:
            return None
        source = self._source
        old, node = next(((old, node) for old in old_paths(path) if (node := source.expression(old))), ((), None))
        if node is None:
            return None
        comments = source.comments_by_entry.get(node, []) if is_first_use(path, old) else []
        if self._reads_removed(node):
            node = source.resolved(node)
            if node is None or self._reads_removed(node):
                return OldExpression(None, None, None, comments)
        return OldExpression(source.code(node), source.keys(node), source.is_list(node), comments)

    def _reads_removed(self, node: ast.expr) -> bool:
        return any(name.removeprefix("_base_.") in self._removed for name in names_read(node))

    def _entry(self, prefix: str, value: Any, path: KeyPath, old: OldExpression | None, space: str) -> str:
        """Returns the prefix and the text of a value, on one line if possible. `space` is the indentation."""
        code = None if old is None else old.code_for(value)
        if code is not None:
            return prefix + (code if '"""' in code or "'''" in code else code.replace("\n", "\n" + space))
        if not isinstance(value, (Mapping, list, tuple)) or not value:
            return prefix + ("dict()" if isinstance(value, Mapping) else write_value(value))
        deeper = space + " " * _INDENT
        rows, texts = [], []
        for name, key, item in self._items(value):
            expression = self._find((*path, key))
            comments = [] if expression is None else expression.comments
            comments = [comment for comment in comments if comment not in self._written_comments]
            self._written_comments.update(comments)
            text = self._entry(name, item, (*path, key), expression, deeper)
            texts.append(text)
            rows += [deeper + comment.text for comment in comments if comment.own_line]
            rows.append(f"{deeper}{text}," + "".join(f"  {each.text}" for each in comments if not each.own_line))
        opening, closing = _brackets(value)
        comma = "," if isinstance(value, tuple) and len(texts) == 1 else ""
        line = prefix + opening + ", ".join(texts) + comma + closing
        has_comments = any(row != f"{deeper}{text}," for row, text in zip(rows, texts, strict=False))
        if has_comments or "\n" in line or len(space) + len(line) >= _WIDTH:
            return "\n".join([prefix + opening, *rows, space + closing])
        return line

    def _items(self, value: Any) -> list[tuple[str, str, Any]]:
        """Returns the text before each item of a container, its key and the item."""
        if not isinstance(value, Mapping):
            return [("", str(index), item) for index, item in enumerate(value)]
        names = {key: f"{key}=" if _has_identifier_keys(value) else f"{write_value(key)}: " for key in value}
        return [(names[key], str(key), item) for key, item in value.items()]


def rewrite(
    source: SourceFile,
    sections: Mapping[str, Any],
    *,
    removed: Set[str] = frozenset(),
    by_value: Iterable[str] = (),
    deleted: Iterable[str] = (),
) -> str:
    """Returns the text of the second-generation counterpart of a file.

    Statements that set first-generation keys or a section are replaced with sections. Everything else, including
    comments, is kept. If other lines read a replaced variable, its statement is kept, and the variable is deleted at
    the end of the file.

    Args:
        source: The first-generation file.
        sections: The sections that the new file contains.
        removed: Names of the variables whose statements are replaced.
        by_value: Sections that are written as plain values, without the expressions of the source file.
        deleted: Variables to delete at the end of the file.
    """
    removed = removed | ({"_base_"} & sections.keys())
    replaced = [statement for statement in source.statements if statement.name in removed]
    read = {name for statement in source.statements if statement.name not in removed for name in statement.reads}
    writer = SectionWriter(source, removed, by_value)
    texts: dict[str, str] = {}
    for key, value in sections.items():
        moved: list[str] = []  # settings that move into `model`; only they are written if the file assigns `model`
        if key == "model" and isinstance(value, Mapping) and source.assigned("model"):
            moved = [name for name in ("train_cfg", "test_cfg") if name in value and source.assigned(name)]
        if moved:
            texts[key] = "".join(writer.write((key, name), value[name]) for name in moved)
        else:
            texts[key] = writer.write((key,), value)
    written = [comment.text for comment in comments_of("".join(texts.values()))]
    positions = _positions(source, texts, replaced)
    lines = list(source.lines)
    for statement in reversed(replaced):
        new = "".join(texts[key] for key in positions.pop(statement, [])).splitlines()
        if statement.name in read:
            lines[statement.last : statement.last] = new
            continue
        comments = []
        for comment in source.comments_on_lines(statement.first, statement.last):
            if comment.text in written:
                written.remove(comment.text)
            else:
                comments.append(comment)
        if len(new) == len(comments) == 1 and not comments[0].own_line:
            new = [f"{new[0]}  {comments.pop().text}"]
        lines[statement.first - 1 : statement.last] = [*(comment.text for comment in comments), *new]
    lines += "".join(texts[key] for keys in positions.values() for key in keys).splitlines()
    deleted = {*deleted, *(str(statement.name) for statement in replaced if statement.name in read)}
    lines += [f"del {', '.join(sorted(deleted))}"] if deleted else []
    return re.sub(r"\n{4,}", "\n\n\n", "\n".join(lines)).strip("\n") + "\n"


def _positions(
    source: SourceFile, texts: Mapping[str, str], replaced: list[Statement]
) -> dict[Statement | None, list[str]]:
    """Maps each replaced statement to the sections that replace it. None is the end of the file."""
    kept = [statement for statement in reversed(source.statements) if statement.assigns and statement not in replaced]
    last_lines = {statement.name: statement.last for statement in kept}
    positions: dict[Statement | None, list[str]] = {}
    for key, text in texts.items():
        names = owners_of(key) or (key,)
        owners = [each for name in names for each in replaced if each.name == name and each.assigns]
        # A section must follow the variables that it reads or replaces.
        after = max(last_lines.get(name, 0) for name in {key, *names_read(ast.parse(text))})
        candidates = [each for each in (*(owners or replaced[-1:]), *replaced) if each.first > after]
        positions.setdefault(candidates[0] if candidates else None, []).append(key)
    return positions


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return ("dict(", ")") if _has_identifier_keys(value) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")


def _has_identifier_keys(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and is_identifier(key) for key in value)

"""Generates the second-generation counterpart of a first-generation file.

Sections are written with the expressions and comments of the first-generation file where they can be reused.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, NamedTuple

from footplate.config.formats import is_identifier, write_value
from footplate.openmmlab.first_generation.rewriting.plan import DELETE, OLD_KEYS
from footplate.openmmlab.first_generation.rewriting.source import Comment, EntryComments, KeyPath, SourceFile, Statement
from footplate.openmmlab.first_generation.translation.key_map import is_first_use, old_paths, owners_of, same_meaning

# Sections that are written next to each other.
_LOOPS = ("train_cfg", "val_cfg", "test_cfg")


class OldExpression(NamedTuple):
    """An expression of the first-generation file.

    Attributes:
        code: The source text, or None if it cannot be reused unchanged.
        indentation: The indentation of the line on which the expression starts.
        column: The column at which the expression starts.
        keys: The keys of the dict, or None if the expression is not a dict or unpacks another mapping.
        is_list: Whether the expression is a list or a tuple, or None if unknown.
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
    """Finds the first-generation expression to reuse for each key path of the new config.

    Args:
        source: The first-generation file.
        removed: Variables that the new file no longer defines, in addition to the first-generation keys. An expression
            that reads one of them is not reused unchanged.
        by_value: Sections for which no expressions are reused.
    """

    def __init__(self, source: SourceFile, removed: Set[str], by_value: Iterable[str] = ()) -> None:
        self._source = source
        self._removed = OLD_KEYS | removed
        self._by_value = frozenset(by_value)

    def find(self, path: KeyPath) -> OldExpression | None:
        """Returns the old expression for a path of the new config, or None."""
        if path[0] in self._by_value:
            return None
        source = self._source
        old, node = next(((old, node) for old in old_paths(path) if (node := source.expression(old))), ((), None))
        if node is None:
            return None
        comments = source.comments_of_entry(node) if is_first_use(path, old) else EntryComments()
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
            tuple(source.comments_inside(node)),
        )

    def is_written(self, path: KeyPath) -> bool:
        """Checks whether the old file assigns the value at a path, and not only some entries of a dict there."""
        if path[-1] == DELETE or same_meaning(path):
            return any(self._source.expression(old) is not None for old in (*old_paths(path), *same_meaning(path)))
        found = self.find(path)
        return found is not None and found.code is not None and found.keys is None

    def _reads_removed(self, node: Any) -> bool:
        return any(name.removeprefix("_base_.") in self._removed for name in self._source.reads(node))


_WIDTH = 79
_INDENT = 4

FindExpression = Callable[[KeyPath], OldExpression | None]
"""Returns the old expression for a path of the new config, or None."""


class _Entry(NamedTuple):
    """A value within a section: the text before it on its line, the value, its path and its old expression."""

    prefix: str
    value: Any
    path: KeyPath
    old: OldExpression | None

    @property
    def comments(self) -> EntryComments:
        return EntryComments() if self.old is None else self.old.comments

    @property
    def reusable(self) -> OldExpression | None:
        """The old expression, or None if it cannot be reused."""
        old = self.old
        if old is None or old.code is None:
            return None
        if not isinstance(self.value, Mapping):
            fits = old.keys is None and old.is_list in (None, isinstance(self.value, (list, tuple)))
            return old if fits else None
        if old.is_list or old.keys not in (None, frozenset(self.value)):
            return None
        if old.keys is None and DELETE in self.value:
            return old._replace(code=f"dict({DELETE}=True, **{old.code})") if old.code.isidentifier() else None
        return old


class SectionText(NamedTuple):
    """The text of a section.

    Attributes:
        text: The text, including a final newline.
        reads: The variables that the text reads.
        comments: The comments of the old file that the text contains.
    """

    text: str
    reads: frozenset[str]
    comments: frozenset[Comment]


class SectionWriter:
    """Writes config sections in the style of an existing file.

    Args:
        find: Finds old expressions for the values of a section.
        double_quotes: Whether strings are written in double quotes.
    """

    def __init__(self, find: FindExpression, *, double_quotes: bool) -> None:
        self._find = find
        self._quote = '"' if double_quotes else "'"
        self._written_comments: set[Comment] = set()
        self._reused: list[OldExpression] = []

    def write(self, values: Mapping[KeyPath, Any]) -> SectionText:
        """Returns `name = value` or `name["key"] = value` for each path. Each old comment is written only once."""
        text, before = "", set(self._written_comments)
        self._reused = []
        for path, value in values.items():
            target = path[0] + "".join(f"[{self._quote}{key}{self._quote}]" for key in path[1:])
            entry = _Entry(f"{target} = ", value, path, self._find(path))
            text += f"{entry.prefix}{self._text(entry, 0)}\n"
        reads = frozenset(name for each in self._reused for name in each.reads)
        comments = {comment for each in self._reused for comment in each.inner_comments}
        return SectionText(text, reads, frozenset(comments | (self._written_comments - before)))

    def _text(self, entry: _Entry, indent: int, *, after: int = 0) -> str:
        """Returns the text of a value. Uses one line if there is room for it and the `after` characters that follow."""
        old = entry.reusable
        column = indent + len(entry.prefix)
        code = "" if old is None else str(old.code)
        # A dict on one line is split if it would exceed the line length.
        is_too_wide = old is not None and old.keys and "\n" not in code and column + after + len(code) > _WIDTH
        if old is not None and not is_too_wide:
            self._reused.append(old)
            if '"""' in code or "'''" in code:
                return code  # the lines of a string cannot be moved
            first, *rest = code.split("\n")
            is_aligned = all(len(line) - len(line.lstrip()) > old.column for line in rest if line.strip())
            by = column - old.column if is_aligned else indent - old.indentation
            moved = (" " * max(len(line) - len(line.lstrip()) + by, 0) + line.lstrip() for line in rest)
            return "\n".join([first, *(line if line.strip() else "" for line in moved)])
        entries = self._entries(entry)
        if not entries:
            return self._atom(entry.value)
        reused: list[OldExpression] = []
        line = self._one_line(entry, reused)
        if line is not None and column + len(line) + after <= _WIDTH:
            self._reused += reused
            return line
        opening, closing = _brackets(entry.value)
        rows: list[str] = []
        space = " " * (indent + _INDENT)
        for each in entries:
            new = [comment for comment in each.comments.all if comment not in self._written_comments]
            self._written_comments.update(new)
            rows += [space + comment.text for comment in each.comments.above if comment in new]
            trailing = [f"  {comment.text}" for comment in new if comment == each.comments.trailing]
            rows.append(f"{space}{each.prefix}{self._text(each, indent + _INDENT, after=1)},{''.join(trailing)}")
        return "\n".join([opening, *rows, f"{' ' * indent}{closing}"])

    def _one_line(self, entry: _Entry, reused: list[OldExpression]) -> str | None:
        """Returns a value on one line, or None if an old expression or a comment needs more lines."""
        old = entry.reusable
        if old is not None:
            reused.append(old)
            return None if "\n" in str(old.code) else old.code
        entries = self._entries(entry)
        if not entries:
            return self._atom(entry.value)
        pieces = []
        for each in entries:
            piece = self._one_line(each, reused)
            if piece is None or not self._written_comments.issuperset(each.comments.all):
                return None
            pieces.append(each.prefix + piece)
        comma = "," if type(entry.value) is tuple and len(pieces) == 1 else ""
        opening, closing = _brackets(entry.value)
        return opening + ", ".join(pieces) + comma + closing

    def _entries(self, entry: _Entry) -> list[_Entry]:
        value = entry.value
        if isinstance(value, Mapping):
            as_names = _has_identifier_keys(value)
            items = [(f"{k}=" if as_names else f"{self._atom(k)}: ", item, str(k)) for k, item in value.items()]
        elif type(value) in (list, tuple):
            items = [("", item, str(index)) for index, item in enumerate(value)]
        else:
            return []
        paths = [(prefix, item, (*entry.path, part)) for prefix, item, part in items]
        return [_Entry(prefix, item, path, self._find(path)) for prefix, item, path in paths]

    def _atom(self, value: Any) -> str:
        if isinstance(value, Mapping):
            return "dict()"
        text = write_value(value)
        if isinstance(value, str) and text[0] != self._quote and self._quote not in text[1:-1]:
            inside = text[1:-1].replace(f"\\{text[0]}", text[0])
            return f"{self._quote}{inside}{self._quote}"
        return text


def rewrite(
    source: SourceFile,
    sections: Mapping[str, Any],
    *,
    removed: Set[str] = frozenset(),
    renamed: dict[str, str | None],
    by_value: Iterable[str] = (),
    deleted: Iterable[str] = (),
) -> str:
    """Returns the text of the second-generation counterpart of a file.

    Statements that set first-generation keys are replaced with sections. Everything else, including comments, is kept.
    If other lines read a replaced variable, its statement is kept, and the variable is deleted at the end of the file.

    Args:
        source: The first-generation file.
        sections: The sections that the new file contains.
        removed: Names of the variables whose statements are replaced.
        renamed: Maps names of base files to new names. None removes a base.
        by_value: Sections that are written as plain values, without the expressions of the source file.
        deleted: Variables to delete at the end of the file.
    """
    replaced = [each for each in source.statements if each.name in removed]
    read = {name for each in source.statements if each.name not in removed for name in each.reads}
    finder = ExpressionFinder(source, removed, by_value)
    writer = SectionWriter(finder.find, double_quotes=source.text.count('"') > source.text.count("'"))
    texts: dict[str, SectionText] = {}
    for key, value in sections.items():
        moved: list[str] = []  # settings that move into `model`; only they are written if the file assigns `model`
        if key == "model" and isinstance(value, Mapping) and source.assigned("model"):
            moved = [name for name in ("train_cfg", "test_cfg") if name in value and source.assigned(name)]
        texts[key] = writer.write({(key, name): value[name] for name in moved} or {(key,): value})
    written = {comment for each in texts.values() for comment in each.comments}
    positions = _positions(source, texts, replaced)
    lines = source.with_bases(renamed)
    for each in reversed(replaced):
        new = "".join(texts[key].text for key in positions.pop(id(each), [])).splitlines()
        if each.name in read:
            lines[each.last : each.last] = new
            continue
        kept = [comment for comment in source.comments_on_lines(each.first, each.last) if comment not in written]
        if len(new) == len(kept) == 1 and not kept[0].own_line:
            new = [f"{new[0]}  {kept[0].text}"]
        else:
            new = [*(comment.text for comment in kept), *new]
        lines[each.first - 1 : each.last] = new
    lines += "".join(texts[key].text for keys in positions.values() for key in keys).splitlines()
    ended = sorted({*deleted, *(str(each.name) for each in replaced if each.name in read)})
    lines += [f"del {', '.join(ended)}"] if ended else []
    limited: list[str] = []  # with at most two empty lines in a row
    for line in lines:
        if line.strip() or any(each.strip() for each in limited[-2:]):
            limited.append(line)
    return "\n".join(limited).strip("\n") + "\n"


def _positions(source: SourceFile, texts: Mapping[str, SectionText], replaced: list[Statement]) -> dict[int, list[str]]:
    """Maps the `id` of each replaced statement to the sections that replace it. Key 0 is the end of the file."""
    last_lines = {each.name: each.last for each in reversed(source.statements) if each.assigns}
    positions: dict[int, list[str]] = {}
    for key, section in texts.items():
        owners = [each for owner in owners_of(key) for each in replaced if each.name == owner and each.assigns]
        together = [texts[each] for each in _LOOPS if each in texts] if key in _LOOPS else [section]
        # A section must follow the variables that it reads.
        after = max((last_lines.get(name, 0) for each in together for name in each.reads), default=0)
        candidates = [each for each in (*(owners or replaced[-1:]), *replaced) if each.first > after]
        positions.setdefault(id(candidates[0]) if candidates else 0, []).append(key)
    return positions


def _brackets(value: Any) -> tuple[str, str]:
    if isinstance(value, Mapping):
        return ("dict(", ")") if _has_identifier_keys(value) else ("{", "}")
    return ("[", "]") if isinstance(value, list) else ("(", ")")


def _has_identifier_keys(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and is_identifier(key) for key in value)

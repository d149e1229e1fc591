"""Writes the second-generation counterpart of a first-generation file."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from footplate.first_generation.rewriting.plan import OLD_KEYS
from footplate.first_generation.rewriting.section_writer import ExpressionFinder, SectionText, SectionWriter
from footplate.first_generation.rewriting.source import Comment, SourceFile, Statement
from footplate.first_generation.translation.key_map import owners_of

# Sections that are written next to each other.
_LOOPS = ("train_cfg", "val_cfg", "test_cfg")
_MODEL_SETTINGS = ("train_cfg", "test_cfg")


def rewrite(
    source: SourceFile,
    sections: Mapping[str, Any],
    *,
    removed: Container[str] = (),
    renamed: dict[str, str | None],
    by_value: Iterable[str] = (),
    deleted: Iterable[str] = (),
) -> str:
    """Returns the text of the second-generation counterpart of a file.

    Statements of first-generation keys are replaced by sections. Everything else, including comments, is kept. A
    replaced variable that other lines read is kept too, and deleted at the end of the file.

    Args:
        source: The first-generation file.
        sections: The sections that the new file writes.
        removed: Names of the variables whose statements are replaced.
        renamed: New names of base files; None removes a base.
        by_value: Sections that are written as plain values, without the expressions of the source file.
        deleted: Variables to delete at the end of the file.
    """
    replaced = replaced_statements(source, removed)
    names = frozenset(each.name for each in replaced if each.name is not None)
    read = names & {name for each in source.statements if each.name not in names for name in each.reads}
    finder = expression_finder(source, removed, by_value)
    writer = SectionWriter(finder.find, double_quotes=source.text.count('"') > source.text.count("'"))
    texts = {key: _section_text(source, writer, key, value) for key, value in sections.items()}
    comments = {comment for each in texts.values() for comment in each.comments}
    positions = _positions(source, texts, replaced)
    lines = source.with_bases(renamed)
    for each in reversed(replaced):
        text = "".join(texts[key].text for key in positions.pop(id(each), []))
        is_read = each.name in read
        first = each.last if is_read else each.first - 1
        lines[first : each.last] = text.splitlines() if is_read else _with_comments(source, each, text, comments)
    rest = "".join(texts[key].text for keys in positions.values() for key in keys)
    ended = sorted({*deleted, *read})
    return _limit_empty_lines([*lines, *rest.splitlines(), *([f"del {', '.join(ended)}"] if ended else [])])


def replaced_statements(source: SourceFile, removed: Container[str]) -> list[Statement]:
    """Returns the statements of a file that assign or change one of the removed variables."""
    return [each for each in source.statements if each.name is not None and each.name in removed]


def expression_finder(source: SourceFile, removed: Container[str], by_value: Iterable[str] = ()) -> ExpressionFinder:
    """Returns a finder for expressions that do not read removed variables, of this file or of its bases."""
    return ExpressionFinder(
        source, OLD_KEYS | {str(each.name) for each in replaced_statements(source, removed)}, by_value
    )


def _section_text(source: SourceFile, writer: SectionWriter, key: str, value: Any) -> SectionText:
    """Writes a section; for a model that the file already assigns, writes only the settings that move into it."""
    names = [name for name in _MODEL_SETTINGS if isinstance(value, Mapping) and name in value and source.assigned(name)]
    if key != "model" or not names or source.assigned("model") is None:
        return writer.statement(key, value)
    items = [writer.item("model", name, value[name]) for name in names]
    reads = frozenset[str]().union(*(each.reads for each in items))
    comments = frozenset[Comment]().union(*(each.comments for each in items))
    return SectionText("".join(each.text for each in items), reads, comments)


def _positions(source: SourceFile, texts: Mapping[str, SectionText], replaced: list[Statement]) -> dict[int, list[str]]:
    """Finds the statement, by its `id`, that each section replaces; 0 stands for the end of the file."""
    positions: dict[int, list[str]] = {}
    for key, section in texts.items():
        owners = [each for owner in owners_of(key) for each in replaced if each.name == owner and each.assigns]
        together = [texts[each] for each in _LOOPS if each in texts] if key in _LOOPS else [section]
        # A section must follow the variables that it reads.
        after = max((_last_line_of(source, name) for each in together for name in each.reads), default=0)
        candidates = [each for each in (*(owners or replaced[-1:]), *replaced) if each.first > after]
        positions.setdefault(id(candidates[0]) if candidates else 0, []).append(key)
    return positions


def _last_line_of(source: SourceFile, name: str) -> int:
    """Returns the last line of the first statement that assigns a variable, or 0 if there is none."""
    return next((each.last for each in source.statements if each.name == name and each.assigns), 0)


def _with_comments(source: SourceFile, each: Statement, text: str, written: Container[Comment]) -> list[str]:
    """Returns the lines that replace a statement, with those comments of it that `text` does not contain."""
    kept = [comment for comment in source.comments.on_lines(each.first, each.last) if comment not in written]
    lines = text.splitlines()
    if len(lines) == len(kept) == 1 and not kept[0].own_line:
        return [f"{lines[0]}  {kept[0].text}"]
    return [*(comment.text for comment in kept), *lines]


def _limit_empty_lines(lines: list[str]) -> str:
    """Limits runs of empty lines to two and removes them at both ends."""
    found: list[str] = []
    for line in lines:
        if line.strip() or (found and any(each.strip() for each in found[-2:])):
            found.append(line)
    return "\n".join(found).strip("\n") + "\n"

"""Writes the second-generation counterpart of a first-generation file."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from footplate.migration.key_map import owners_of
from footplate.migration.rewriting.comments import Comment
from footplate.migration.rewriting.plan import OLD_KEYS
from footplate.migration.rewriting.expressions import ExpressionFinder
from footplate.migration.rewriting.source import SourceFile, Statement
from footplate.migration.rewriting.section_writer import Writer, Written

# Sections that stand together.
_LOOPS = ("train_cfg", "val_cfg", "test_cfg")
_BESIDE_MODEL = ("train_cfg", "test_cfg")


def rewritten(
    source: SourceFile,
    said: Mapping[str, Any],
    *,
    gone: Container[str] = (),
    renamed: dict[str, str | None],
    by_value: Iterable[str] = (),
    deleted: Iterable[str] = (),
) -> str:
    """Returns the text of the second-generation counterpart of a file.

    Statements of first-generation keys give way to sections; everything else, comments included, stays. A variable
    that other lines read stays too, and is deleted at the end.

    Args:
        source: The old file.
        said: The sections that it is to say.
        gone: The variables of the old file whose statements give way.
        renamed: Other names for its bases; None takes a base out.
        by_value: Sections whose values are written out, rather than the old file's expressions.
        deleted: Variables to delete at the end.
    """
    giving_way = giving_way_in(source, gone)
    removed = frozenset(each.name for each in giving_way if each.name is not None)
    read = removed & {name for each in source.statements if each.name not in removed for name in each.reads}
    writer = Writer(quoter(source, gone, by_value).quote, double=source.text.count('"') > source.text.count("'"))
    sections = {key: _section(source, writer, key, value) for key, value in said.items()}
    told = {comment for each in sections.values() for comment in each.told}
    placed = _placed(source, sections, giving_way)
    lines = source.with_bases(renamed)
    for each in reversed(giving_way):
        text = "".join(sections[key].text for key in placed.pop(id(each), []))
        first = each.last if each.name in read else each.first - 1
        lines[first : each.last] = text.splitlines() if each.name in read else _with_comments(source, each, text, told)
    rest = "".join(sections[key].text for keys in placed.values() for key in keys)
    ended = sorted({*deleted, *read})
    return _tidied([*lines, *rest.splitlines(), *([f"del {', '.join(ended)}"] if ended else [])])


def giving_way_in(source: SourceFile, gone: Container[str]) -> list[Statement]:
    """Returns the statements of a file that are removed."""
    return [each for each in source.statements if each.name is not None and each.name in gone]


def quoter(source: SourceFile, gone: Container[str], by_value: Iterable[str] = ()) -> ExpressionFinder:
    """Returns a finder of old expressions that do not depend on removed statements, here or in bases."""
    return ExpressionFinder(source, OLD_KEYS | {str(each.name) for each in giving_way_in(source, gone)}, by_value)


def _section(source: SourceFile, writer: Writer, key: str, value: Any) -> Written:
    """Writes a section; for a model that the file has already, only the settings that move into it."""
    words = [word for word in _BESIDE_MODEL if isinstance(value, Mapping) and word in value and source.assigned(word)]
    if key != "model" or not words or source.assigned("model") is None:
        return writer.statement(key, value)
    items = [writer.item("model", word, value[word]) for word in words]
    reads = frozenset[str]().union(*(each.reads for each in items))
    told = frozenset[Comment]().union(*(each.told for each in items))
    return Written("".join(each.text for each in items), reads, told)


def _placed(source: SourceFile, sections: Mapping[str, Written], giving_way: list[Statement]) -> dict[int, list[str]]:
    """Finds the statement that each section replaces; 0 stands for the end of the file."""
    places: dict[int, list[str]] = {}
    for key, section in sections.items():
        owners = [each for owner in owners_of(key) for each in giving_way if each.name == owner and each.assigns]
        together = [sections[each] for each in _LOOPS if each in sections] if key in _LOOPS else [section]
        behind = max((_assigned_in(source, name) for each in together for name in each.reads), default=0)
        near = [each for each in (*(owners or giving_way[-1:]), *giving_way) if each.first > behind]
        places.setdefault(id(near[0]) if near else 0, []).append(key)
    return places


def _assigned_in(source: SourceFile, name: str) -> int:
    """Returns the last line of the statement that first assigns a variable, or 0."""
    return next((each.last for each in source.statements if each.name == name and each.assigns), 0)


def _with_comments(source: SourceFile, each: Statement, text: str, told: Container[Comment]) -> list[str]:
    """Keeps the comments of a removed statement above or after the sections that replace it."""
    kept = [comment for comment in source.comments_of.on_lines(each.first, each.last) if comment not in told]
    lines = text.splitlines()
    if len(lines) == len(kept) == 1 and not kept[0].alone:
        return [f"{lines[0]}  {kept[0].text}"]
    return [*(comment.text for comment in kept), *lines]


def _tidied(lines: list[str]) -> str:
    """Limits runs of empty lines to two and removes them at both ends."""
    found: list[str] = []
    for line in lines:
        if line.strip() or (found and any(each.strip() for each in found[-2:])):
            found.append(line)
    return "\n".join(found).strip("\n") + "\n"

"""Writing the second-generation twin of a first-generation file."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from footplate.migration.rewriting.moves import OWNERS, origins_of
from footplate.migration.rewriting.planning import OLD_KEYS
from footplate.migration.rewriting.source import SourceFile, Statement
from footplate.migration.rewriting.writing import Path, Quoted, Writer


def rewritten(
    source: SourceFile,
    said: Mapping[str, Any],
    *,
    gone: Container[str] = (),
    renamed: dict[str, str | None],
    by_value: Iterable[str] = (),
    deleted: Iterable[str] = (),
) -> str:
    """Returns the text of a file in the second generation's words.

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
    giving_way = [each for each in source.statements if each.name is not None and each.name in gone]
    removed = frozenset(each.name for each in giving_way if each.name is not None)
    read = removed & {name for each in source.statements if each.name not in removed for name in each.reads}
    values = frozenset(by_value)

    def quote(path: Path) -> Quoted | None:
        return None if path[0] in values else _quoted(source, path, removed)

    writer = Writer(quote, double=source.text.count('"') > source.text.count("'"))
    placed = _placed(said, giving_way)
    lines = source.with_bases(renamed)
    for each in reversed(giving_way):
        sections = "".join(writer.statement(key, said[key]) for key in placed.pop(id(each), []))
        first = each.last if each.name in read else each.first - 1
        lines[first : each.last] = (
            sections.splitlines() if each.name in read else _with_comments(source, each, sections)
        )
    rest = "".join(writer.statement(key, said[key]) for keys in placed.values() for key in keys)
    ended = sorted({*deleted, *read})
    return _tidied([*lines, *rest.splitlines(), *([f"del {', '.join(ended)}"] if ended else [])])


def _placed(said: Mapping[str, Any], gone: list[Statement]) -> dict[int, list[str]]:
    """Finds for each section the statement in whose place it is written; 0 stands for the end of the file."""
    places: dict[int, list[str]] = {}
    for key in said:
        owners = [each for owner in OWNERS.get(key, ()) for each in gone if each.name == owner and each.assigns]
        near = owners or ([gone[-1]] if gone else [])
        places.setdefault(id(near[0]) if near else 0, []).append(key)
    return places


def _quoted(source: SourceFile, path: Path, removed: frozenset[str]) -> Quoted | None:
    for old in origins_of(path):
        node = source.expression(old)
        if node is None:
            continue
        reads = source.reads(node)
        if any(name.removeprefix("_base_.") in removed | OLD_KEYS for name in reads):
            return None
        return Quoted(source.code(node), source.column(node))
    return None


def _with_comments(source: SourceFile, each: Statement, text: str) -> list[str]:
    """Puts the comments of a statement that its sections do not repeat above them."""
    kept = [comment for comment in source.comments(each) if comment not in text]
    return [*kept, *text.splitlines()]


def _tidied(lines: list[str]) -> str:
    """Leaves at most two empty lines behind each other, and none at the ends."""
    found: list[str] = []
    for line in lines:
        if line.strip() or (found and any(each.strip() for each in found[-2:])):
            found.append(line)
    return "\n".join(found).strip("\n") + "\n"

"""Generates the second-generation counterpart of a first-generation file."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

from footplate.first_generation.rewriting.section_writer import ExpressionFinder, SectionText, SectionWriter
from footplate.first_generation.rewriting.source import SourceFile, Statement
from footplate.first_generation.translation.key_map import owners_of

# Sections that are written next to each other.
_LOOPS = ("train_cfg", "val_cfg", "test_cfg")


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

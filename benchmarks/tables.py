"""Tables for pages and for the terminal."""

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats rows as a Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def plain(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Formats rows as a table for the terminal. Columns of numbers are aligned to the right."""
    every = [[str(cell) for cell in row] for row in (head, *rows)]
    columns = []
    for cells in zip(*every, strict=True):
        width = max(map(len, cells))
        is_number = all(cell[:1].isdigit() for cell in cells[1:])
        columns.append([cell.rjust(width) if is_number else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))

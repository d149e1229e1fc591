import pytest

from footplate.errors import Origin
from footplate.first_generation.translation.notes import Kind, Note


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (Origin("old.py", 12), "old.py:12: evaluation.start: counts from 1"),
        (None, "evaluation.start: counts from 1"),
    ],
)
def test_note_is_one_line_with_its_origin(origin: Origin | None, line: str) -> None:
    assert str(Note(Kind.WARNING, "evaluation.start", "counts from 1", origin)) == line


def test_values_of_kinds() -> None:
    assert [kind.value for kind in Kind] == ["became", "warning", "person"]

from typing import Any

import pytest

from footplate.error_context import WEIGHTS_ALONE, add_note, located, restoring
from footplate.errors import ArgumentError, CheckpointError, FootplateError, Origin


class WithOrigins(dict[str, Any]):
    def __init__(self, lines: dict[str | None, int], **values: Any) -> None:
        super().__init__(values)
        self._origins = {key: Origin("a.py", line) for key, line in lines.items()}


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("hooks[1].interval", 7),
        ("hooks[1].priority", 6),  # not set there: the line of the hook
        ("hooks[1]", 6),
        ("hooks[0]", 3),
        ("head.'layers.0'.rate", 8),  # a key that contains a dot
        ("head.channels", 4),  # not set there: the last change of the section, not its base
        ("model.layers[0]", 2),
        ("model", 2),
        ("nothing", None),  # not a section: the first line of the first base would be misleading
    ],
)
def test_located_finds_origin_of_key_path(key: str, line: int | None) -> None:
    hook = WithOrigins({None: 6, "interval": 7}, interval=-1)
    keys = {"layers.0": WithOrigins({None: 1, "rate": 8}, rate=-1)}
    values = {"model": {"layers": [1]}, "hooks": [{}, hook], "head": WithOrigins({None: 1}, **keys)}
    source = WithOrigins({None: 1, "model": 2, "hooks": 3, "head": 4}, **values)
    with pytest.raises(ArgumentError) as caught, located(source):
        raise ArgumentError("wrong", key=key)
    assert caught.value.origin == (None if line is None else Origin("a.py", line))


@pytest.mark.parametrize("count", [0, 3, 9])
def test_added_note_is_always_shown(count: int) -> None:
    error = FootplateError("wrong", key="a.b", notes=[f"note {number}" for number in range(count)])
    add_note(error, "and this")
    lines = str(error).splitlines()
    assert (len(lines), lines[2]) == (min(count, 2) + 3, "  and this")


@pytest.mark.parametrize(("notes", "expected"), [((), (WEIGHTS_ALONE,)), (("Set momentum.",), ("Set momentum.",))])
def test_error_while_a_run_is_restored_has_advice(notes: tuple[str, ...], expected: tuple[str, ...]) -> None:
    with pytest.raises(CheckpointError) as caught, restoring("optimizer"):
        raise CheckpointError("the saved state has other parameters", notes=notes)
    assert caught.value.notes == expected

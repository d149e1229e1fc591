"""The guide `docs/output-files.md` is correct: its tables are complete, and its configs build."""

import re
from pathlib import Path

import pytest

from footplate import records
from footplate.registry import VISBACKENDS

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/output-files.md").read_text()
ROW = re.compile(r"^\| `(\w+VisBackend)` \| (?:`(\w+)`)? ?\| .*\|$", re.MULTILINE)
WRITERS = ROW.findall(GUIDE[: GUIDE.index("### No network")])


def test_every_writer_has_its_row() -> None:
    writers = {name for name in records.__all__ if name.endswith("VisBackend")}
    assert {kind for kind, _ in WRITERS} == writers - {"BaseVisBackend"}


@pytest.mark.parametrize(("kind", "extra"), WRITERS)
def test_table_lists_registered_writers_and_their_extras(kind: str, extra: str) -> None:
    assert isinstance(VISBACKENDS.get(kind), type)
    if extra:
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()

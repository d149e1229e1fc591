"""The guide `docs/records.md` is correct: its tables are complete, and its configs build."""

import inspect
import re
from pathlib import Path

import pytest

from footplate import records
from footplate.registry import VISBACKENDS

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/records.md").read_text()
ROW = re.compile(r"^\| `(\w+VisBackend)` \| (?:`(\w+)`)? ?\| ?(.*?) ?\| .*\|$", re.MULTILINE)
ARGUMENTS = ROW.findall(GUIDE[: GUIDE.index("### No network")])


def test_every_writer_has_its_row() -> None:
    writers = {name for name in records.__all__ if name.endswith("VisBackend")}
    assert {kind for kind, _, _ in ARGUMENTS} == writers - {"BaseVisBackend"}


@pytest.mark.parametrize(("kind", "extra", "arguments"), ARGUMENTS)
def test_table_lists_arguments_and_extras(kind: str, extra: str, arguments: str) -> None:
    known = list(inspect.signature(VISBACKENDS.get(kind)).parameters)
    assert ["save_dir", *re.findall(r"`(\w+)`", arguments)] == known
    if extra:
        assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text()

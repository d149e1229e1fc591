import re
from pathlib import Path

import pytest

import footplate

PACKAGE = Path(footplate.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["architecture.md", "architecture.zh.md"])
def test_files_to_read_first_are_few_and_short(name: str) -> None:
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", (DOCS / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert 0 < len(files) <= 10
    assert sum(len((PACKAGE / each).read_text(encoding="utf-8").splitlines()) for each in files) <= 2500

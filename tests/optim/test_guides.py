"""The guides of this room tell the truth: their code is executed, block after block."""

import re
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["optimization.md", "schedules.md"])
def test_the_code_of_a_guide(name: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / name).read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, name, "exec"), names)

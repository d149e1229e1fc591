"""Checks that the planning page shows the values of the code."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.tools.published_scaling import PUBLISHED, Published, predicted_efficiency


@pytest.mark.parametrize("path", [DOCS / "planning.md", DOCS / "planning.zh.md"], ids=lambda path: path.name)
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_published_runs_are_listed_with_their_prediction(path: Path, published: Published) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    model, device = published.name.split(", ")
    (line,) = [line for line in lines if line.startswith((f"| {model},", f"| {model}，")) and f" {device} |" in line]
    figures = [cell.strip() for cell in line.split("|")][-4:-2]
    assert figures == [f"{100 * published.efficiency:.0f} %", f"{100 * predicted_efficiency(published):.0f} %"]

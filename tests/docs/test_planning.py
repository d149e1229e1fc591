"""Checks that the planning page shows the values and the output of the code."""

import dataclasses
import re
from pathlib import Path

import pytest

from footplate.tools.plan_measurements import Cluster, Measurements
from footplate.tools.plan_prediction import describe_plan, predict_growth
from tests.docs.pages import DOCS
from tests.tools.published_scaling import PUBLISHED, Published, predicted_efficiency
from tests.tools.test_plan_measurements import GIVEN


@pytest.mark.parametrize("path", [DOCS / "planning.md", DOCS / "planning.zh.md"], ids=lambda path: path.name)
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_published_runs_are_listed_with_their_prediction(path: Path, published: Published) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    model, device = published.name.split(", ")
    (line,) = [line for line in lines if line.startswith((f"| {model},", f"| {model}，")) and f" {device} |" in line]
    figures = [cell.strip() for cell in line.split("|")][-4:-2]
    assert figures == [f"{100 * published.efficiency:.0f} %", f"{100 * predicted_efficiency(published):.0f} %"]


@pytest.mark.parametrize("path", [DOCS / "planning.md", DOCS / "planning.zh.md"], ids=lambda path: path.name)
def test_sample_output_has_the_lines_of_the_command(path: Path) -> None:
    sample = path.read_text(encoding="utf-8").partition("```\n")[2].partition("```")[0]
    measured, cluster = dataclasses.replace(Measurements(**GIVEN), on_cores=True), Cluster(nodes=4)
    output = describe_plan(measured, cluster, predict_growth(measured, cluster))
    assert _without_numbers(sample) == _without_numbers(output)


def _without_numbers(text: str) -> list[list[str]]:
    units = "(?: (?:s|ms|B|kB|MB|GB)(?![a-z]))?"
    return [re.sub(rf"\d[\d.,]*{units}", "#", line).split() for line in text.splitlines()]

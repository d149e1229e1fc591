"""Tests the README of the wheel `footplate-operators`."""

import json
import re

import pytest

from scripts.operators_table import MEASUREMENTS, README, table

TEXT = README.read_text(encoding="utf-8")


def test_the_first_example_prints_what_its_comments_say(capsys: pytest.CaptureFixture[str]) -> None:
    example = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    exec(example, {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"\)  # (.*)", example)


def test_the_table_is_current() -> None:
    measurements = json.loads(MEASUREMENTS.read_text()) if MEASUREMENTS.exists() else {"rows": []}
    assert f"\n{table(measurements)}\n" in TEXT

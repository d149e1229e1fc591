"""Runs the short form of the fault harness, `python -m tests.faults --short`, in a separate process, since it forks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import reference
from tests.faults.table import ROWS

_LINE = re.compile(r"^(\w+) +(control|.*): (\d+) of (\d+) ")


@pytest.mark.parametrize("number", range(reference.COUNT), ids=[name for name, _ in reference.FILES])
def test_checkpoints_of_the_reference_engines_load(number: int) -> None:
    found = reference.compare(number)
    assert found.wrong == ""
    assert found.figures["compared"] == (24, 24, 75)[number]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_row_finds_what_is_planted_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults", "--short", "--folder", str(tmp_path / "faults")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr[-2000:]
    lines = [match.groups() for line in found.stdout.splitlines() if (match := _LINE.match(line))]
    controls = {row: (good, all_of) for row, what, good, all_of in lines if what == "control"}
    assert controls == {row.name: (str(len(row.planted)),) * 2 for row in ROWS.values()}
    trials = {row: (int(good), int(all_of)) for row, what, good, all_of in lines if what != "control"}
    assert trials.keys() == ROWS.keys()
    for good, all_of in trials.values():
        assert good == all_of > 0
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert again.stdout == found.stdout  # it continues where it stopped, with nothing left to do

"""The short form of the fault harness, `python -m tests.faults`; in a process of its own, since it forks."""

import subprocess
import sys
from pathlib import Path

import pytest

_LINES = [
    "control  11 of 11 planted faults found",
    "kill     80 of 80 trials bit-equal",
    "signal   40 of 40 trials bit-equal",
]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_interrupted_runs_end_as_those_left_alone(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.faults",
        "--kills",
        "80",
        "--signals",
        "40",
        "--folder",
        str(tmp_path / "f"),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.splitlines() == _LINES, found.stderr[-2000:]
    assert found.returncode == 0
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert again.stdout.splitlines() == _LINES  # it goes on where it stopped: nothing was left to do

"""Runs give the recorded events and results, and the recorded checkpoints resume; see `recorded_runs`."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.footplate.engine.recorded_runs import FILE, RUNS, RUNS_OF_RANKS, of_ranks, whole_and_resumed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*RUNS, *RUNS_OF_RANKS])
def test_events_and_results_are_those_of_the_record(tmp_path: Path, name: str) -> None:
    checkpoint = tmp_path / "iter_6.pth"
    with zipfile.ZipFile(FILE) as archive:
        recorded = json.loads(archive.read(f"{name}.json"))
        checkpoint.write_bytes(archive.read(f"{name}.pth"))
    if name in RUNS:
        found = whole_and_resumed(RUNS[name], tmp_path, checkpoint)
    else:
        found = of_ranks(name, tmp_path, checkpoint)
    for part in ("whole", "resumed"):
        _compare(found[part], recorded[part])


def _compare(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert found["events"] == recorded["events"]
    assert [list(row) for row in found["rows"]] == [list(row) for row in recorded["rows"]]
    # Processors differ in the last digits.
    torch.testing.assert_close(found["weights"], recorded["weights"], rtol=1e-4, atol=1e-5)
    for row, expected in zip(found["rows"], recorded["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)

"""Runs give the recorded events and results, and the recorded checkpoints resume; see `recorded_runs`."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.footplate.engine.recorded_runs import FILE, RUNS, record


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", RUNS)
def test_events_and_results_are_those_of_the_record(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(FILE) as archive:
        recorded = json.loads(archive.read(f"{name}.json"))
        (tmp_path / "iter_6.pth").write_bytes(archive.read(f"{name}.pth"))
    _compare(record(RUNS[name], tmp_path / "whole"), recorded["whole"])
    resumed = record(RUNS[name], tmp_path / "resumed", resume=True, load_from=str(tmp_path / "iter_6.pth"))
    _compare(resumed, recorded["resumed"])


def _compare(found: dict[str, Any], recorded: dict[str, Any]) -> None:
    assert found["events"] == recorded["events"]
    assert [list(row) for row in found["rows"]] == [list(row) for row in recorded["rows"]]
    # Processors differ in the last digits.
    torch.testing.assert_close(found["weights"], recorded["weights"], rtol=1e-4, atol=1e-5)
    for row, expected in zip(found["rows"], recorded["rows"], strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)

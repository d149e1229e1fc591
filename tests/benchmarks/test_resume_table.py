"""Tests the judge of the resume table, and attacks runs of footplate as the table does."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.resume import page
from benchmarks.resume.environments import engines
from benchmarks.resume.judge import compare, compare_logs, compare_samples

ROOT = Path(__file__).parents[2]


def _records(*batches: list[int], start: int = 0, shade: str = "a") -> list[dict[str, Any]]:
    return [{"batch": start + index, "samples": samples, "sum": shade} for index, samples in enumerate(batches)]


@pytest.mark.parametrize(
    ("restart", "data", "twice", "never"),
    [
        (_records([3, 4], [5, 6], start=1), "equal", 0, 0),
        (_records([3, 4], [5, 6], start=1, shade="b"), "augmentation", 0, 0),
        (_records([4, 3], [6, 5], start=1), "order", 0, 0),
        (_records([1, 4], [5, 6], start=1), "different", 1, 1),
        (_records([3, 4], start=1), "different", 0, 2),
    ],
)
def test_samples_behind_the_final_weights_are_compared(
    restart: list[dict[str, Any]], data: str, twice: int, never: int
) -> None:
    alone = _records([1, 2], [3, 4], [5, 6])
    killed = _records([1, 2], [3, 4], [6, 5])  # the second and third batch came after the newest checkpoint
    told = compare_samples(alone, killed, restart)
    assert (told["data"], told["twice"], told["never"], told["repeated"]) == (data, twice, never, 2)


def test_states_are_equal_close_or_different() -> None:
    weight = torch.tensor([1.0, 2.0])
    state = {"model": {"w": weight}, "averaged": None, "optimizer": {"lr": 0.1}, "schedule": 3, "best": {"w": weight}}
    other = {**state, "model": {"w": weight + 1e-6}, "optimizer": {"lr": 0.2}, "best": {"v": weight}}
    told = compare({**state, "log": None}, {**other, "log": None})
    assert {name: value[0] for name, value in told.items() if name != "log"} == {
        "model": "close",
        "averaged": "absent",
        "optimizer": "different",
        "schedule": "equal",
        "best": "different",
    }
    assert told["optimizer"][1] == pytest.approx(1.0)
    assert told["best"][1] == float("inf")


def test_logs_are_compared() -> None:
    log = [(1, 0.5), (2, 0.7)]
    assert compare_logs(log, log) == "equal"
    assert compare_logs(log, [(1, 0.5), (1, 0.5), (2, 0.7)]) == "repeated"
    assert compare_logs(log, [(2, 0.7)]) == "incomplete"
    assert compare_logs(log, [(1, 0.5), (2, 0.6)]) == "different"


def test_page_is_written_from_the_published_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = {name: getattr(page, name).read_text() for name in ("PAGE", "DETAILS", "CHART")}
    for name in published:
        monkeypatch.setattr(page, name, tmp_path / name)
    lines = page.read(ROOT / "docs" / "resume-table.jsonl")
    assert {line["engine"] for line in lines} == set(engines())
    page.write(lines)
    assert {name: (tmp_path / name).read_text() for name in published} == published


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    platform.system() != "Linux" or not shutil.which("gcc"), reason="attacks system calls of Linux by C"
)
def test_attacked_runs_of_footplate_are_exact(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "benchmarks.resume", "--engines", "footplate", "--seeds", "3", "--here"]
    kinds = ["--kinds", "step", "save", "epoch end", "SIGTERM", "full disk", "truncated", "workers"]
    ended = subprocess.run(
        [*command, *kinds, "--results", str(results)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(lines) == 16
    inexact = [line for line in lines if not page.is_exact(line)]
    assert not inexact

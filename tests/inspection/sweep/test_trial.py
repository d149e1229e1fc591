"""Trials in processes of their own."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate.config import Config
from footplate.inspection.sweep.trial import Request
from tests.support import settings

study = pytest.importorskip("footplate.inspection.sweep.study")
pytestmark = [pytest.mark.slow]


def sound(cfg: Config) -> None:
    import tests.support  # noqa: F401 - registers its parts


def starved(cfg: Config) -> None:
    raise MemoryError


def killed(cfg: Config) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run(tmp_path: Path, prepare: Any, *, prune: bool = False, **changes: Any) -> tuple[list[float], Any, list[int]]:
    steps: list[int] = []
    trial = SimpleNamespace(report=lambda value, step: steps.append(step), should_prune=lambda: prune)
    cfg = settings(tmp_path, by_epoch=False, **changes)
    return (*study._in_a_process(Request(cfg, "accuracy", 1, prepare), trial), steps)


def test_a_run_tells_what_each_validation_gives(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, sound)
    assert (len(scores), outcome, steps) == (3, ("done", ""), [4, 8, 12])
    assert "Iter(val)" in (tmp_path / "output.txt").read_text() or (tmp_path / "output.txt").exists()


def test_a_run_that_is_told_to_stops(tmp_path: Path) -> None:
    scores, outcome, steps = run(tmp_path, sound, prune=True)
    assert (len(scores), outcome, steps) == (1, ("pruned", ""), [4])


def test_a_run_without_memory_is_infeasible(tmp_path: Path) -> None:
    assert run(tmp_path, starved)[1] == ("infeasible", "out of memory")
    assert run(tmp_path, killed)[1] == ("infeasible", "killed, most likely since memory ran out")


def test_a_mistake_is_told(tmp_path: Path) -> None:
    kind, why = run(tmp_path, sound, model={"type": "ToyModl"})[1]
    assert (kind, why) == ("failed", "UnknownNameError: unknown model 'ToyModl'")

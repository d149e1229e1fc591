"""Writers in a run: a failing writer does not affect the others, and a resumed run continues their output."""

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.records import BaseVisBackend
from footplate.registry import VISBACKENDS
from tests.support import settings


def lines(runner: Runner) -> list[int]:
    text = Path(runner.log_dir, "vis_data/scalars.json").read_text()
    return [json.loads(line)["step"] for line in text.splitlines()]


def test_full_disk_leaves_complete_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        if b'"step"' not in data:
            return write(descriptor, data)
        calls.append(data)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    hooks = {"logger": {"interval": 2}, "checkpoint": None}
    runner = Runner(**settings(tmp_path, by_epoch=False, default_hooks=hooks))
    monkeypatch.setattr("os.write", full)
    runner.train()
    assert runner.iter == 12
    # The third call would have written the second line of step 4.
    assert lines(runner) == [2, 4, 6, 8, 8, 10, 12, 12]
    warned = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warned) == 1
    assert "No space left on device" in warned[0]


@VISBACKENDS.register_module(force=True)
class NamedRunBackend(BaseVisBackend):
    """Has a named run, stored in its state."""

    def __init__(self, save_dir: str | None = None, run: str = "") -> None:
        super().__init__(save_dir)
        self.run = run
        self.first_word = ""

    def add_config(self, config: Any, **kwargs: Any) -> None:
        self.first_word = self.run

    def state_dict(self) -> dict[str, Any]:
        return {"run": self.run}

    def load_state_dict(self, state: Any) -> None:
        self.run = state["run"]


def test_identity_is_restored_before_the_first_write(tmp_path: Path) -> None:
    def run(name: str, epochs: int, work_dir: str = "a", **changes: Any) -> NamedRunBackend:
        backends = [{"type": "NamedRunBackend", "run": name}]
        train_cfg = {"by_epoch": True, "max_epochs": epochs}
        cfg = settings(tmp_path / work_dir, train_cfg=train_cfg, visualizer={"vis_backends": backends}, **changes)
        runner = Runner(**cfg)
        runner.train()
        writer = runner.visualizer.get_backend("NamedRunBackend")
        assert isinstance(writer, NamedRunBackend)
        return writer

    assert run("first", 1).first_word == "first"
    assert run("second", 2, resume=True).first_word == "first"
    assert run("third", 1, "b", load_from=str(tmp_path / "a" / "epoch_2.pth")).first_word == "third"


def test_writers_are_closed_when_a_run_fails(tmp_path: Path) -> None:
    """Those that buffer, such as TensorBoard's, would lose the last scalars."""
    closed: list[bool] = []

    @VISBACKENDS.register_module(force=True)
    class ClosedBackend(BaseVisBackend):
        def close(self) -> None:
            closed.append(True)

    runner = Runner(**settings(tmp_path, by_epoch=False, visualizer={"vis_backends": [{"type": "ClosedBackend"}]}))

    def fail(runner: Runner) -> None:
        raise ZeroDivisionError

    runner.on("before_train_iter", fail)
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert closed == [True]

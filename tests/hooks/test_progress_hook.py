import math
import os
import pty
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint
from footplate.engine.signals import Interrupted
from footplate.hooks import CheckpointHook, ProgressHook
from footplate.hooks.progress_hook import recurring_events
from tests.support import settings


class Passing:
    """A clock that advances a little with each read."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[78])")


@pytest.fixture(autouse=True)
def _drawn_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("footplate.hooks.progress_hook._SECONDS_BETWEEN", 0.0)


@contextmanager
def terminal() -> Iterator[list[str]]:
    """Makes standard output a terminal, and collects its output in a list."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    text: list[str] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                shown.append(data)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    before, screen = sys.stdout, os.fdopen(theirs, "w")
    sys.stdout = screen
    try:
        yield text
    finally:
        sys.stdout = before
        screen.close()
        reader.join(5)
        os.close(ours)
        text.append(b"".join(shown).decode())


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPES.sub("", text))]


def trained(tmp_path: Path, *hooks: Hook, **changes: Any) -> None:
    quiet = {"checkpoint": None, "logger": None}
    Runner(**settings(tmp_path, default_hooks=quiet, custom_hooks=list(hooks), **changes)).train()


def test_a_terminal_shows_a_live_display(tmp_path: Path) -> None:
    told = {"type": "Told", "values": {"mIoU": [51.0, 53.5, 52.0], "time": [1.0, 2.0, 3.0]}}
    with terminal() as shown:
        trained(tmp_path, ProgressHook(), val_evaluator=told)
    lines = lines_of(shown[0])
    ends = [line for line in lines if re.match(r"train .* 12/12", line)]
    assert re.fullmatch(r"train ━+ 12/12  left 00:00  \S+ it/s  \d+% waiting for data  \d+ MiB", ends[-1])
    assert any(re.fullmatch(r"now   loss \d\.\d+(e-\d+)? [▁-█]+  lr 1\.00e-01", line) for line in lines)
    assert lines[-2:] == ["best  mIoU 53.5 at 8, now 52", ""]  # the best of the three, and no time
    for part in (" 1/12", " 7/12", "valid", " 1/2", " 2/2"):
        assert any(part in line for line in lines), part
    assert "\x1b[?25l" in shown[0]  # the cursor is hidden
    assert shown[0].rindex("\x1b[?25h") > shown[0].rindex("\x1b[?25l")  # and shown again


def test_only_numeric_metrics_are_shown(tmp_path: Path) -> None:
    values: Any = {"table": [[1, 2]] * 3, "mIoU": [51.0, 52.0, 53.5]}
    with terminal() as shown:
        trained(tmp_path, ProgressHook(), val_evaluator={"type": "Told", "values": values})
    assert "best  mIoU 53.5 at 12" in lines_of(shown[0])


def test_validation_loss_gets_a_prefix(tmp_path: Path) -> None:
    with terminal() as shown:
        trained(tmp_path, ProgressHook(), val_cfg={"loss": True})
    assert re.match(r"best  val/loss \d", lines_of(shown[0])[-2])


def test_metric_of_save_best_comes_first(tmp_path: Path) -> None:
    values: Any = {"aAcc": [70.0] * 3, "mIoU": [51.0, 52.0, 53.5], "IoU.trouser": [60.0] * 3}
    checkpoint = {"type": "CheckpointHook", "save_best": "mIoU"}
    hooks: dict[str, Any] = {"default_hooks": {"logger": None, "checkpoint": checkpoint}}
    with terminal() as shown:
        told = {"type": "Told", "values": values}
        Runner(**settings(tmp_path, val_evaluator=told, custom_hooks=[ProgressHook()], **hooks)).train()
    assert "best  mIoU 53.5 at 12  aAcc 70 at 4" in lines_of(shown[0])


def test_rule_of_checkpoint_hook_decides_the_best_value(tmp_path: Path) -> None:
    told = {"type": "Told", "values": {"share": [0.2, 0.4, 0.3]}}
    checkpoint = {"type": "CheckpointHook", "save_best": "share", "rule": "less"}
    hooks: dict[str, Any] = {"default_hooks": {"logger": None, "checkpoint": checkpoint}}
    with terminal() as shown:
        Runner(**settings(tmp_path, val_evaluator=told, custom_hooks=[ProgressHook()], **hooks)).train()
    assert "best  share 0.2 at 4, now 0.3" in lines_of(shown[0])


def test_best_value_after_initial_nan(tmp_path: Path) -> None:
    told = {"type": "Told", "values": {"mIoU": [math.nan, 52.0, 51.0]}}
    with terminal() as shown:
        trained(tmp_path, ProgressHook(), val_evaluator=told)
    assert "best  mIoU 52 at 8, now 51" in lines_of(shown[0])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"loss": 0.5, "loss_ce": 0.5}, ["loss"]),
        ({"loss_ce": math.nan, "loss": math.nan}, ["loss"]),
        ({"loss_ce": 0.5, "loss": 0.75}, ["loss", "loss_ce"]),  # a custom loop
        ({"loss_a": 0.5, "loss_b": 0.5}, ["loss_a", "loss_b"]),
        ({"loss_a": 0.0, "loss": 0.5, "loss_b": 0.5}, ["loss", "loss_a", "loss_b"]),
    ],
)
def test_only_loss_term_is_not_shown_twice(values: dict[str, float], names: list[str]) -> None:
    progress = ProgressHook()
    progress._read_losses({name: torch.tensor(value) for name, value in values.items()})
    assert list(progress._losses) == names


def test_pipe_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, ProgressHook())
    assert capsys.readouterr().out == ""


def test_a_terminal_that_cannot_move_its_cursor_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as shown:
        trained(tmp_path, ProgressHook())
    assert shown == [""]


def test_log_lines_appear_above_the_display(tmp_path: Path) -> None:
    class Speak(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if runner.iter == 6:
                runner.logger.warning("a line of the log")

    with terminal() as shown:
        trained(tmp_path, ProgressHook(), Speak())
    spoken = [line for line in lines_of(shown[0]) if "a line of the log" in line]
    assert len(spoken) == 1
    assert re.fullmatch(r"\S+ \S+ - footplate - WARNING - a line of the log", spoken[0])


def test_error_restores_the_terminal(tmp_path: Path) -> None:
    class Fail(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            raise ZeroDivisionError

    progress = ProgressHook()
    with terminal() as shown:
        runner = Runner(**settings(tmp_path, custom_hooks=[progress, Fail()]))
        with pytest.raises(ZeroDivisionError):
            runner.train()
        progress.stop(runner)
        progress.stop(runner)
    assert shown[0].count("\x1b[?25h") == shown[0].count("\x1b[?25l") == 1


def test_suspended_time_is_excluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Suspend(Hook):
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            if runner.iter == 6:
                os.kill(os.getpid(), signal.SIGTSTP)

    def stop_here() -> None:
        passing.now += 3600
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    signal.signal(signal.SIGTSTP, signal.SIG_DFL)  # some shells without job control make processes ignore it
    passing = Passing()
    monkeypatch.setattr("time.perf_counter", passing)
    monkeypatch.setattr("time.monotonic", passing)
    monkeypatch.setattr("footplate.hooks.live_display._stop_process", stop_here)
    runner = Runner(**settings(tmp_path, custom_hooks=[ProgressHook(), Suspend()]))
    with terminal() as shown:
        runner.train()
    assert runner.message_hub.history("train/time").statistics("max") < 60
    assert passing.now > 3600
    assert not re.findall(r"left \d+:\d\d:", ESCAPES.sub("", shown[0]))  # hours


def test_last_lines_of_stopped_run_show_the_saved_position(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if runner.iter == 6:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("footplate.hooks.progress_hook._SECONDS_BETWEEN", 1000.0)
    progress = ProgressHook()
    with terminal() as shown:
        runner = Runner(**settings(tmp_path, custom_hooks=[progress, Stop()]))
        with pytest.raises(Interrupted):
            runner.train()
        progress.stop(runner)
    assert load_checkpoint(str(tmp_path / "on_signal.pth"))["meta"]["iter"] == 7
    assert [line for line in lines_of(shown[0]) if "train " in line][-1].split()[2] == "7/12"


def test_resumed_run_starts_at_its_position(tmp_path: Path) -> None:
    Runner(**settings(tmp_path)).train()
    with terminal() as shown:
        trained(tmp_path, ProgressHook(), resume=True, load_from=str(tmp_path / "epoch_2.pth"))
    assert " 9/12" in shown[0]
    assert " 7/12" not in shown[0]


@pytest.mark.parametrize(
    ("by_epoch", "options", "expected"),
    [
        (False, {"interval": 5}, [5, 10, 12]),
        (False, {"interval": 4}, [4, 8, 12]),
        (False, {"interval": 4, "save_begin": 3, "save_last": False}, [3, 7, 11]),
        (False, {"interval": -1}, [12]),
        (True, {"interval": 1}, [4, 8, 12]),
        (True, {"interval": 2, "save_begin": 1, "save_last": False}, [4, 12]),
    ],
)
def test_expected_saves_match_actual_saves(
    tmp_path: Path, by_epoch: bool, options: dict[str, Any], expected: list[int]
) -> None:
    saved: list[int] = []
    known: list[Any] = []

    class Noting(CheckpointHook):
        def _save(self, runner: Any, number: int) -> None:
            saved.append(number * (4 if by_epoch else 1))

    class Reading(Hook):
        priority = "LOWEST"

        def before_train(self, runner: Any) -> None:
            known.extend(recurring_events(runner))

    checkpoint = Noting(by_epoch=by_epoch, **options)
    hooks = {"checkpoint": checkpoint, "logger": None}
    Runner(**settings(tmp_path, default_hooks=hooks, custom_hooks=[Reading()])).train()
    epochs, saves = known
    assert saved == expected
    assert [at for at in range(13) if saves.advance(at, between=True)] == saved
    assert [at for at in range(13) if epochs.advance(at, between=False)] == [5, 9]  # the first iterations of epochs

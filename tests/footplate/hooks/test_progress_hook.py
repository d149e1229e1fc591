import os
import pty
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook, Runner
from footplate.hooks import ProgressHook
from tests.support import settings

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
    assert re.fullmatch(r"train ━+ 12/12  in 0:00:0\d  \S+ it/s  \d+% waiting for data  \d+ MiB", ends[-1])
    assert any(re.fullmatch(r"now   loss \d\.\d+(e-\d+)? [▁-█]+  lr 1\.00e-01", line) for line in lines)
    assert lines[-2:] == ["best  mIoU 53.5 at 8, now 52", ""]  # the best of the three, and no time
    for part in (" 1/12", " 7/12", "valid", " 1/2", " 2/2"):
        assert any(part in line for line in lines), part
    assert "\x1b[?25l\x1b[?25h" in shown[0]  # the cursor is visible even if the process is killed


def test_pipe_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path, ProgressHook())
    assert capsys.readouterr().out == ""


def test_error_restores_the_terminal(tmp_path: Path) -> None:
    class Fail(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    progress = ProgressHook()
    with terminal() as shown:
        runner = Runner(**settings(tmp_path, custom_hooks=[progress, Fail()]))
        with pytest.raises(ZeroDivisionError):
            runner.train()
        progress.after_train(runner)
        progress.after_train(runner)
    assert shown[0].rindex("\x1b[?25h") > shown[0].rindex("\x1b[?25l")
    assert shown[0].endswith("\n\x1b[?25h")
    assert not hasattr(sys.stdout, "rich_proxied_file")


def test_display_and_log_show_the_same_eta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Each reading of the clock takes 50 s: three in an iteration, six in a validation of two batches.
    clock = count(100.0, 50.0)
    monkeypatch.setattr("footplate.hooks.runtime_info_hook.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("footplate.hooks.progress_hook.time.monotonic", lambda: 0.0)
    hooks = {"checkpoint": None, "logger": {"interval": 1}}
    run = settings(tmp_path, by_epoch=False, log_level="INFO", default_hooks=hooks, custom_hooks=[ProgressHook()])
    with terminal() as shown:
        Runner(**run).train()
    logged = re.findall(r"\[ *(\d+)/12\].*eta: (\S+)", caplog.text)
    displayed = re.findall(r" (\d+)/12  eta (\S+)", ESCAPES.sub("", shown[0]))
    left = dict(logged)
    assert (left["4"], left["5"], left["8"], left["12"]) == ("0:20:00", "0:27:30", "0:20:00", "0:05:00")
    assert {*logged} <= {*displayed}

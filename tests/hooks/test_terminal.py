"""Tests the live display in a real terminal whose width changes; requires tmux."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]

# The display of a run of 100,000 iterations, redrawn more often than usual, with log lines in between.
SCRIPT = """
import os, sys, time
from footplate.hooks.live_display import LiveTerminal
from footplate.hooks.progress_lines import Progress, Sparkline, format_progress

curves = {{name: Sparkline() for name in ("loss", "loss_ce", "loss_dice")}}
print("a command was typed")
live = LiveTerminal(sys.stdout)
live.open()
for step in range(20_000):
    for curve in curves.values():
        curve.add(2 / (1 + step / 50))
    metrics = {{"mIoU": (53.5, 53.5, 550), "mAcc": (61.0, 62.5, 550)}}
    validating = (step % 100, 100) if step % 200 > 100 else None
    shown = Progress(step, 20_000, 3600.0, 0.07, 0.17, 555, 1.5e-3, curves, metrics, validating)
    width = live.width
    live.show(format_progress(shown, width))
    with open({told!r}, "w") as told:
        told.write(f"{{width}} of {{os.get_terminal_size().columns}}")
    if step % 10 == 0:
        print(f"a line of the log {{step}}", flush=True)
    time.sleep({pause})
"""
LOGGED = re.compile(r"a line of the log (\d+)")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Controls a separate tmux server, which ends with the test."""
    command = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "socket")]

    def speak(*arguments: str) -> str:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout

    yield speak
    subprocess.run([*command, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def show(tmp_path: Path, tmux: Callable[..., str]) -> Callable[[float], None]:
    """Starts the display on a terminal of 80 columns, with pauses between updates."""

    def show(pause: float) -> None:
        (tmp_path / "show.py").write_text(SCRIPT.format(pause=pause, told=str(tmp_path / "told")))
        source = Path(__file__).parents[2] / "src"
        command = (
            f"env PYTHONPATH={source}{os.pathsep}$PYTHONPATH {sys.executable} {tmp_path / 'show.py'} 2>&1; sleep 60"
        )
        tmux("new-session", "-d", "-x", "80", "-y", "20", command)
        _wait_for(lambda: "best" in tmux("capture-pane", "-p"))

    return show


def live_of(screen: str) -> list[str]:
    """Returns the lines of the display, starting at the first line that is not from the log."""
    lines = [line for line in screen.splitlines() if line.strip()]
    return [line for line in lines if line != "a command was typed" and not LOGGED.fullmatch(line)]


def is_whole(live: list[str], width: int) -> bool:
    """Checks whether exactly one display is shown, without torn or wrapped lines."""
    heads = [line[:5].strip() for line in live]
    return heads in (["train", "now", "best"], ["train", "now", "best", "valid"]) and max(map(len, live)) < width


def settled(tmux: Callable[..., str], width: int, *captured: str) -> list[str]:
    """Waits until the lines of the display are intact, and returns them; a torn display is usually redrawn."""
    seen: list[list[str]] = []

    def is_there() -> bool:
        seen.append(live_of(tmux(*(captured or ("capture-pane", "-p")))))
        return is_whole(seen[-1], width)

    _wait_for(is_there)
    return seen[-1]


@pytest.mark.parametrize("height", [20, 6])
def test_resizing_leaves_no_remains(
    tmp_path: Path, tmux: Callable[..., str], show: Callable[[float], None], height: int
) -> None:
    show(0.1)
    for width in (60, 80, 200, 47, 80, 200, 60):
        drag = range(200, width, -9) if width < 200 else range(60, width, 9)
        for each in (*drag, width):  # as when dragging the edge of a window
            tmux("resize-window", "-x", str(each), "-y", str(height))
            time.sleep(0.02)
        # tmux reports the width late, so lines are short until the display has the width of the terminal.
        _wait_for(lambda width=width: (tmp_path / "told").read_text() == f"{width} of {width}")  # type: ignore[misc]
        live = settled(tmux, width)
        wide = "waiting for data" in live[0] and "555 MiB" in live[0]
        assert wide == (width == 200), live[0]
    history = ("capture-pane", "-p", "-J", "-S", "-")
    _wait_for(lambda: len(LOGGED.findall(tmux(*history))) > 10)
    settled(tmux, 60, *history)
    logged = [int(step) for step in LOGGED.findall(tmux(*history))]
    assert logged == list(range(0, 10 * len(logged), 10))


def test_narrower_terminal_is_redrawn_immediately(tmux: Callable[..., str], show: Callable[[float], None]) -> None:
    show(600)
    for width in (200, 60, 47, 60):
        tmux("resize-window", "-x", str(width), "-y", "20")
        settled(tmux, width)
    assert LOGGED.findall(tmux("capture-pane", "-p", "-S", "-")) == ["0"]


def _wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)

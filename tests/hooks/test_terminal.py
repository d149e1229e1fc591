"""The live display in a real terminal whose width changes: tmux, which this needs."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]

# What a run of 100,000 iterations shows, drawn oftener than a run draws, with lines of the log at first.
SCRIPT = """
import sys, time
from footplate.hooks.live_text import LiveText
from footplate.hooks.readings import Readings, Sparkline, lines_of

curves = {name: Sparkline() for name in ("loss", "loss_ce", "loss_dice")}
print("a command was typed")  # what is cleared from the first row on tmux keeps
live = LiveText(sys.stdout)
live.open()
for step in range(20_000):
    for curve in curves.values():
        curve.add(2 / (1 + step / 50))
    metrics = {"mIoU": (53.5, 53.5, 550), "mAcc": (61.0, 62.5, 550)}
    validating = (step % 100, 100) if step % 200 > 100 else None
    shown = Readings(step, 20_000, 3600.0, 0.07, 0.17, 555, 1.5e-3, curves, metrics, validating)
    live.show(lines_of(shown, live.width))
    if step % 5 == 0 and step < 100:
        print(f"a line of the log {step}", flush=True)
    time.sleep(0.02)
"""


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Speaks to a server of its own, which ends with the test."""
    command = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "socket")]

    def speak(*arguments: str) -> str:
        return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True).stdout

    yield speak
    subprocess.run([*command, "kill-server"], capture_output=True, check=False)


def test_nothing_wraps_whatever_the_width(tmp_path: Path, tmux: Callable[..., str]) -> None:
    (tmp_path / "show.py").write_text(SCRIPT)
    source = Path(__file__).parents[2] / "src"
    command = f"env PYTHONPATH={source}{os.pathsep}$PYTHONPATH {sys.executable} {tmp_path / 'show.py'} 2>&1; sleep 60"
    tmux("new-session", "-d", "-x", "80", "-y", "20", command)
    _wait_for(lambda: "a line of the log 95" in tmux("capture-pane", "-p"))
    time.sleep(1)
    for width in (60, 80, 200, 47, 80):
        for each in (200, 120, width):  # as one who drags the edge of a window
            tmux("resize-window", "-x", str(each), "-y", "20")
            time.sleep(0.1)
        time.sleep(1)
        lines = [line for line in tmux("capture-pane", "-p").splitlines() if line.strip()]
        begin = max(place for place, line in enumerate(lines) if line.startswith("train"))
        live = lines[begin:]
        heads = [line[:5].strip() for line in live]
        assert heads in (["train", "", "best"], ["train", "", "best", "valid"]), (width, lines)
        assert max(map(len, live)) < width
        wide = "waiting for data" in live[0] and "555 MiB" in live[0]
        assert wide == (width == 200), live[0]
    history = tmux("capture-pane", "-p", "-S", "-").splitlines()
    # A terminal that tells its width late may keep a line that it has torn, of each time that it was made narrower.
    assert sum(line.startswith("train") for line in history) <= 1 + 4
    logged = [line for line in history if line.startswith("a line of the log")]
    assert [int(line.split()[-1]) for line in logged] == list(range(0, 100, 5))


def _wait_for(there: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.2)

"""Tests Ctrl-Z, `bg` and `fg` while the live display runs, on a terminal with a job control shell."""

import os
import pty
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_MOST = 100_000  # characters, since a display that does not stop keeps writing
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"

# A shell with one job and one command per line, which resumes the job in the background or foreground.
SHELL = """
import os, signal, sys
job = os.fork()
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
if job == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
while not os.WIFEXITED(os.waitpid(job, os.WUNTRACED)[1]):
    os.tcsetpgrp(0, os.getpgrp())
    print("[stopped]", flush=True)
    if input() == "bg":
        os.kill(job, signal.SIGCONT)
        input()
    print("[foreground]", flush=True)
    os.tcsetpgrp(0, job)
    os.kill(job, signal.SIGCONT)
print("[ended]", flush=True)
"""

# A display that is redrawn repeatedly, with lines above it, until a file exists.
JOB = """
import os, sys, time
from rich.text import Text
from footplate.hooks.live_display import LiveTerminal

live = LiveTerminal(sys.stdout)
live.open()
step = 0
while not os.path.exists(sys.argv[1]):
    step += 1
    live.show([Text(f"bar {step}")])
    if step % 5 == 0:
        print(f"line {step}", flush=True)
    time.sleep(0.01)
live.close()
"""


class Terminal:
    """A terminal with simulated key presses and recorded output."""

    def __init__(self, fd: int) -> None:
        self._fd, self.shown = fd, ""

    def type(self, keys: str) -> None:
        self.shown = ""
        os.write(self._fd, keys.encode())

    def wait_for(self, is_there: str | Callable[[str], bool]) -> str:
        """Waits for a text in the output since the last key press, and returns this output. Fails if the job ends."""
        there = is_there if callable(is_there) else lambda shown: is_there in shown
        while not there(self.shown):
            assert len(self.shown) < _MOST, self.shown[-1000:]
            assert select.select([self._fd], [], [], 60)[0], self.shown[-1000:]
            self.shown += os.read(self._fd, 4096).decode(errors="replace")
        return self.shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    (tmp_path / "shell.py").write_text(SHELL)
    (tmp_path / "job.py").write_text(JOB)
    source = str(Path(__file__).parents[2] / "src")
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="40", LINES="10", PYTHONPATH=source)
        files = [str(tmp_path / name) for name in ("shell.py", "job.py", "end")]
        os.execv(sys.executable, [sys.executable, *files])
    yield Terminal(fd)
    (tmp_path / "end").touch()
    os.close(fd)
    os.waitpid(pid, 0)


def test_suspending_restores_the_cursor(terminal: Terminal) -> None:
    terminal.wait_for("line 10")
    assert terminal.shown.index(HIDDEN) < terminal.shown.index("bar 1")
    terminal.type("\x1a")
    before, _, _ = terminal.wait_for("[stopped]").partition("[stopped]")
    assert before.endswith(SHOWN)
    assert before.rindex("bar ") < before.rindex("\n")  # the shell prints below the lines
    terminal.type("fg\n")
    _, _, after = terminal.wait_for(lambda shown: "line" in shown.partition("[foreground]")[2]).partition(
        "[foreground]"
    )
    assert after.index(HIDDEN) < after.index("bar ")
    assert after.count(HIDDEN) == 1
    terminal.type("\x1a")  # and once more
    assert SHOWN in terminal.wait_for("[stopped]")
    terminal.type("fg\n")
    terminal.wait_for(HIDDEN)


def test_background_process_draws_nothing(terminal: Terminal) -> None:
    terminal.wait_for("line 10")
    terminal.type("\x1a")
    terminal.wait_for("[stopped]")
    terminal.type("bg\n")
    shown = terminal.wait_for(lambda shown: shown.count("line ") >= 3)
    assert HIDDEN not in shown
    assert "bar" not in shown
    terminal.type("fg\n")
    _, _, after = terminal.wait_for(lambda shown: "bar" in shown.partition("[foreground]")[2]).partition("[foreground]")
    assert after.index(HIDDEN) < after.index("bar ")

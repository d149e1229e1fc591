import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest
from rich.text import Text

from footplate.hooks.live_text import LiveText
from footplate.records.urgent import say_at_once


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def taken(self) -> str:
        """Returns the output since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def opened() -> Iterator[tuple[Screen, LiveText]]:
    """Opens a display on standard output, and discards the output of opening it."""
    screen = Screen()
    live = LiveText(screen)
    with redirect_stdout(screen):
        live.open()
        screen.taken()
        yield screen, live
        live.close()
        assert sys.stdout is screen


CLEAR = "\r\x1b7\x1b[B\x1b[J\x1b8\x1b[K"


def drawn(*lines: str, then: str | None = None) -> str:
    """Returns the control sequence that draws lines from the cursor on without wrapping, and moves the cursor back."""
    up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
    return "\r\x1b[?7l" + "\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J\x1b[?7h" + (then or f"\r{up}")


def at_once(text: str) -> str:
    return f"\x1b[?2026h{text}\x1b[?2026l"


def test_lines_are_drawn_over_those_before_and_the_cursor_waits_before_them() -> None:
    with opened() as (screen, live):
        live.show([Text("one"), Text("two")])
        assert screen.taken() == at_once(drawn("one", "two"))
        live.show([Text("three")])
        assert screen.taken() == at_once(drawn("three"))
        live.show([])
        assert screen.taken() == at_once(CLEAR)
        live.show([Text("four"), Text("five")])
        screen.taken()
    assert screen.taken() == drawn("four", "five", then="\n") + "\x1b[?25h"


def test_what_is_written_stands_above() -> None:
    with opened() as (screen, live):
        live.show([Text("bar")])
        screen.taken()
        sys.stdout.write("a line, ")
        assert screen.taken() == ""
        sys.stdout.write("whole\nand more")
        assert screen.taken() == at_once(f"{CLEAR}a line, whole\n{drawn('bar')}")
    assert screen.taken() == drawn("bar", then="\n") + "\x1b[?25hand more"


def test_lines_are_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "3")
    with opened() as (screen, live):
        live.show([Text("x" * 50), Text("short"), Text("left out")])
        assert screen.taken() == at_once(drawn("x" * 18 + "…", "short"))


def test_a_terminal_made_narrower_has_rows_above_the_lines_for_what_wraps_next(monkeypatch: pytest.MonkeyPatch) -> None:
    for logged, down in ((0, f"{CLEAR}\x1b[4B"), (2, f"{CLEAR}\x1b[4B"), (5, f"{CLEAR}\x1b[2B"), (7, ""), (70, "")):
        with opened() as (screen, live):
            live.show([Text("bar")])
            sys.stdout.write("of the log\n" * logged)
            screen.taken()
            monkeypatch.setenv("COLUMNS", "8")  # at this width the old text takes three rows
            live.show([Text("bar")])
            assert screen.taken() == at_once(down + drawn("bar"))
            live.show([Text("bar")])
            assert screen.taken() == at_once(drawn("bar"))
            monkeypatch.setenv("COLUMNS", "20")
            live.show([Text("bar")])
            assert screen.taken() == at_once(drawn("bar"))


def test_lines_are_short_while_the_edge_is_dragged(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("footplate.hooks.live_text.time.monotonic", lambda: now)
    monkeypatch.setenv("COLUMNS", "200")
    with opened() as (_, live):
        live.show([Text("bar")])
        assert live.width == 200
        for columns, width in ((180, 90), (60, 40), (30, 30)):
            monkeypatch.setenv("COLUMNS", str(columns))
            live.show([Text("bar")])
            assert live.width == width
        now += 1.0
        assert live.width == 30


def test_a_terminal_that_is_resized_is_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGWINCH, lambda number, frame: seen.append(number))
    try:
        with opened() as (screen, live):
            os.kill(os.getpid(), signal.SIGWINCH)
            assert screen.taken() == ""  # there is nothing to draw yet
            live.show([Text("x" * 19)])
            screen.taken()
            monkeypatch.setenv("COLUMNS", "8")
            os.kill(os.getpid(), signal.SIGWINCH)
            assert screen.taken() == at_once(f"{CLEAR}\x1b[4B{drawn('x' * 6 + '…')}")
        screen.taken()
        os.kill(os.getpid(), signal.SIGWINCH)
        assert (screen.taken(), len(seen)) == ("", 3)  # earlier handlers are still called
    finally:
        signal.signal(signal.SIGWINCH, before)


def test_a_stop_waits_until_what_is_being_written_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with opened() as (screen, live):
        write = screen.write

        def interrupted(text: str) -> int:
            monkeypatch.setattr(screen, "write", write)
            os.kill(os.getpid(), signal.SIGTSTP)
            return write(text)

        monkeypatch.setattr("footplate.hooks.live_text._stop_here", lambda: seen.append(screen.taken()))
        monkeypatch.setattr(screen, "write", interrupted)
        live.show([Text("bar")])
        assert seen == [at_once(drawn("bar")) + drawn("bar", then="\n") + "\x1b[?25h"]
        for _ in range(2):  # the second time as after SIGSTOP, when a shell may have shown the cursor
            os.kill(os.getpid(), signal.SIGCONT)
            assert screen.taken() == at_once("\x1b[?25l" + drawn("bar"))
    assert signal.getsignal(signal.SIGTSTP) == signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


def test_a_worker_stops_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr("footplate.hooks.live_text._stop_here", lambda: stopped.append(True))
    with opened() as (screen, live):
        live.show([Text("bar")])
        screen.taken()
        monkeypatch.setattr(live, "_process", -1)
        os.kill(os.getpid(), signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGCONT)
        assert (stopped, screen.taken()) == ([True], "")
        monkeypatch.undo()
        live._process = os.getpid()


def test_a_worker_that_prints_needs_no_lock_of_another_process() -> None:
    with opened() as (_, live), live._lock:
        child = os.fork()
        if child == 0:
            thread = threading.Thread(target=print, args=["from a worker"], daemon=True)
            thread.start()  # in a new thread, since the lock is owned by this one
            thread.join(10)
            os._exit(0 if "from a worker" in live._screen.getvalue() else 1)  # type: ignore[attr-defined]
        assert os.waitpid(child, 0)[1] == 0


def test_the_cursor_is_hidden_and_given_back() -> None:
    screen = Screen()
    live = LiveText(screen)
    with redirect_stdout(screen):
        live.open()
        assert screen.taken() == "\x1b[?25l"
        live.close()
        assert screen.taken() == "\x1b[?25h"
        live.close()
    assert screen.taken() == ""


@pytest.mark.parametrize(("leaving", "last"), [(False, ""), (True, "\x1b[?25h")])
def test_what_a_handler_says_stands_above_what_is_drawn_next(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, leaving: bool, last: str
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with opened() as (_, live):
        live.show([Text("bar")])
        say_at_once("SIGINT: saving", leaving=leaving)
        assert capfd.readouterr().err == f"{CLEAR}SIGINT: saving\n{last}"
    say_at_once("SIGINT: saving", leaving=leaving)
    assert capfd.readouterr().err == "SIGINT: saving\n"


LEAVING = """
import sys
from rich.text import Text
from footplate.hooks.live_text import LiveText
from footplate.records.urgent import say_at_once

live = LiveText(sys.stdout)
live.open()
live.show([Text("bar")])
{}
"""


@pytest.mark.parametrize("end", ["sys.exit(3)", "1 / 0", "import _thread; _thread.interrupt_main()"])
def test_a_process_that_ends_gives_the_terminal_back(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING.format(end)], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("\x1b[?25h")
    assert done.stdout.count("\x1b[?7l") == done.stdout.count("\x1b[?7h") == 2


@pytest.mark.parametrize(("wanted", "coloured"), [("", True), ("1", False)])
def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch, wanted: str, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", wanted)
    with opened() as (screen, live):
        live.show([Text("best", style="green")])
        assert ("\x1b[32m" in screen.taken()) is coloured


def test_a_name_cannot_move_the_cursor() -> None:
    with opened() as (screen, live):
        live.show([Text("loss\x1b[2J\n 1")])
        assert "\x1b[2J" not in screen.getvalue()
        assert r"loss\x1b[2J\n 1" in screen.getvalue()

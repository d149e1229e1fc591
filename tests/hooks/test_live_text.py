import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest
from rich.text import Text

from footplate.hooks.live_text import LiveText


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def taken(self) -> str:
        """Returns what was written since."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def opened() -> Iterator[tuple[Screen, LiveText]]:
    """Opens a display on a screen that is the standard output, and forgets what opening wrote."""
    screen = Screen()
    live = LiveText(screen)
    with redirect_stdout(screen):
        live.open()
        screen.taken()
        yield screen, live
        live.close()
        assert sys.stdout is screen


def cut(text: str) -> str:
    """Returns what a terminal is told to draw without wrapping."""
    return f"\x1b[?7l{text}\x1b[?7h"


def test_lines_are_drawn_over_those_before() -> None:
    with opened() as (screen, live):
        live.show([Text("one"), Text("two")])
        assert screen.taken() == cut("one\ntwo")
        live.show([Text("three")])
        assert screen.taken() == f"\r\x1b[1A\x1b[J{cut('three')}"
    assert screen.taken() == f"\r\x1b[J{cut('three')}\n\x1b[?25h"


def test_what_is_written_stands_above() -> None:
    with opened() as (screen, live):
        live.show([Text("bar")])
        screen.taken()
        sys.stdout.write("a line, ")
        assert screen.taken() == ""
        sys.stdout.write("whole\nand more")
        assert screen.taken() == f"\r\x1b[Ja line, whole\n{cut('bar')}"


def test_lines_are_cut_to_the_width() -> None:
    with opened() as (screen, live):
        live.show([Text("x" * 50)])
        assert screen.taken() == cut("x" * 18 + "…")


def test_a_terminal_made_narrower_has_wrapped_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as (screen, live):
        live.show([Text("x" * 19), Text("y" * 3)])
        screen.taken()
        monkeypatch.setenv("COLUMNS", "8")
        live.show([Text("short")])
        assert screen.taken() == f"\r\x1b[3A\x1b[J{cut('short')}"  # three rows of the first line, one of the second


def test_a_line_that_was_just_written_is_not_taken_for_one_that_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("footplate.hooks.live_text.time.monotonic", lambda: now)
    with opened() as (screen, live):
        live.show([Text("x" * 19)])
        for later, rows in ((0.1, ""), (0.9, "\x1b[2A")):
            sys.stdout.write("of the log\n")
            screen.taken()
            now += later
            monkeypatch.setenv("COLUMNS", "8")
            live.show([Text("x" * 19)])
            assert screen.taken() == f"\r{rows}\x1b[J{cut('xxxxxx…')}"
            monkeypatch.setenv("COLUMNS", "20")
            live.show([Text("x" * 19)])


def test_the_cursor_is_hidden_and_given_back() -> None:
    screen = Screen()
    live = LiveText(screen)
    with redirect_stdout(screen):
        live.open()
        assert screen.taken() == "\x1b[?25l"
        live.close()
    assert screen.taken() == "\x1b[?25h"


@pytest.mark.parametrize(("wanted", "coloured"), [("", True), ("1", False)])
def test_without_colours_there_are_none(monkeypatch: pytest.MonkeyPatch, wanted: str, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", wanted)
    with opened() as (screen, live):
        live.show([Text("best", style="green")])
        assert ("\x1b[32m" in screen.taken()) is coloured

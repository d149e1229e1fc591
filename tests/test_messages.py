import fcntl
import io
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest

from footplate.cli.output import wrap_for_screen
from footplate.messages import (
    printable,
    terminal_width,
    wrap_text,
)

SOURCE = Path(__file__).parents[1] / "src/footplate"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, tab\tand\nlines", "plain, tab\tand\nlines"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\u202egnp.exe\u2066\u200f\u2028", r"\u202egnp.exe\u2066\u200f\u2028"),
        ("café 鞋 \U0001f97e", "café 鞋 \U0001f97e"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    shown.encode()


def test_commands_print_only_through_streams() -> None:
    """Writing to a stream directly would bypass the escaping of untrusted text."""
    raw = [
        f"{path.name}: {line.strip()}"
        for path in sorted((SOURCE / "cli").glob("*.py"))
        if path.name != "output.py"
        for line in path.read_text().splitlines()
        if re.search(r"sys\.(stdout|stderr)\.write|^ *print\(", line)
    ]
    assert raw == [  # JSON escapes control characters itself
        'arguments.py: sys.stdout.write(json.dumps({"error": error}, indent=2) + "\\n")',
        'main.py: sys.stderr.write("interrupted\\n")',
    ]


def test_terminal_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal_width(io.StringIO()) is None
    assert terminal_width(object()) is None
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb"), os.fdopen(theirs, "w") as screen:
        monkeypatch.setenv("COLUMNS", "47")
        assert terminal_width(screen) == 47  # as the terminal reports no size
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 33, 0, 0))
        assert terminal_width(screen) == 33


HOOKS = "  before_train     RuntimeInfoHook (VERY_HIGH), LoggerHook (LOW)"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        (HOOKS, len(HOOKS), [HOOKS]),
        (
            HOOKS,
            len(HOOKS) - 1,
            ["  before_train     RuntimeInfoHook (VERY_HIGH), LoggerHook", "                   (LOW)"],
        ),
        ("val a data  " + "six " * 9, 40, ["val a data  " + ("six " * 7)[:-1], "            six six"]),
        ("  no label of two words at all in this one", 40, ["  no label of two words at all in this", "    one"]),
        ("size        " + "/" * 50, 40, ["size        " + "/" * 50]),
        ("one\n\ntwo\n", 40, ["one", "", "two", ""]),
    ],
)
def test_continuation_is_indented_to_the_second_column(text: str, width: int, lines: list[str]) -> None:
    assert wrap_text(text, width).split("\n") == lines


@pytest.mark.parametrize(("is_screen", "lines"), [(True, 2), (False, 1)])
def test_only_screen_output_is_wrapped(monkeypatch: pytest.MonkeyPatch, is_screen: bool, lines: int) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_screen)
    assert wrap_for_screen("a " * 40).count("\n") + 1 == lines

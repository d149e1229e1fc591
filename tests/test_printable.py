import re
from pathlib import Path

import pytest

from footplate.printable import printable

SOURCE = Path(__file__).parents[1] / "src/footplate"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, tab\tand\nlines", "plain, tab\tand\nlines"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\rb\x0b\x7f\x9b31m", r"a\rb\x0b\x7f\x9b31m"),
        ("\u202egnp.exe\u2066\u200f\u2028", r"\u202egnp.exe\u2066\u200f\u2028"),
        ("caf\udce9", r"caf\udce9"),
        ("café 鞋 \U0001f97e", "café 鞋 \U0001f97e"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    shown.encode()


def test_commands_print_through_one_function() -> None:
    """A command that writes to a stream by itself would pass on what a config or checkpoint of others holds."""
    raw = [
        f"{path.name}: {line.strip()}"
        for path in sorted((SOURCE / "cli").glob("*.py"))
        if path.name != "streams.py"
        for line in path.read_text().splitlines()
        if re.search(r"sys\.(stdout|stderr)\.write|^ *print\(", line)
    ]
    assert raw == ['main.py: sys.stderr.write("interrupted\\n")']

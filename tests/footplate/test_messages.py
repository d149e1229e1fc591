import re
from pathlib import Path

import pytest

from footplate.messages import nearest, printable

SOURCE = Path(__file__).parents[2] / "src/footplate"


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


@pytest.mark.parametrize(
    ("word", "candidate", "is_near"),
    [
        ("train_loader", "train_dataloader", True),
        ("work_dirs/e4", "work_dirs/e3", True),
        ("CosineLrUpdaterHook", "InvLrUpdaterHook", False),
        ("warmup_ratio", "warmup_iters", False),
    ],
)
def test_a_common_start_or_end_does_not_make_words_similar(word: str, candidate: str, is_near: bool) -> None:
    assert (nearest(word, [candidate]) is not None) == is_near


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

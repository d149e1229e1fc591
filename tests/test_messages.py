import re
from pathlib import Path

import pytest

from footplate.messages import format_bytes, format_interval, nearest, pluralize, printable

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


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("train_dataloder", "train_dataloader"),
        ("checkpointhook", "CheckpointHook"),
        ("CheckpoinHook", "CheckpointHook"),
        ("intervall", "interval"),
        ("models", None),
        ("gallery_dataloader", None),
        ("val_evaluator_dice", None),
        ("", None),
    ],
)
def test_nearest(word: str, near: str | None) -> None:
    known = ["train_dataloader", "test_evaluator", "CheckpointHook", "LoggerHook", "interval", "work_dir"]
    assert nearest(word, known) == near


@pytest.mark.parametrize(("word", "near"), [("SDG", "SGD"), ("lrr", "lr"), ("xyz", None), ("Adma", "Adam")])
def test_nearest_of_short_words(word: str, near: str | None) -> None:
    assert nearest(word, ["SGD", "Adam", "lr", "betas"]) == near


def test_nearest_without_candidates() -> None:
    assert nearest("lr", []) is None


@pytest.mark.parametrize(
    ("count", "how_many", "how_often"),
    [(0, "0 epochs", "every 0 epochs"), (1, "1 epoch", "every epoch"), (2, "2 epochs", "every 2 epochs")],
)
def test_plural_and_interval(count: int, how_many: str, how_often: str) -> None:
    assert pluralize(count, "epoch") == how_many
    assert format_interval(count, "epoch") == how_often


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (1_000_000, "1.0 MB"),
        (2_345_678_901, "2.3 GB"),
        (7_000_000_000_000, "7.0 TB"),
        (12_345_000_000_000_000, "12345.0 TB"),
    ],
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text

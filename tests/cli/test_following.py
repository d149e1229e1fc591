import argparse
import shlex
from types import SimpleNamespace
from typing import Any

import pytest

from footplate.cli.following import resuming, tell_how_to_go_on, tell_how_to_look


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("a.py", "a.py --resume"),
        ("a.py --resume", "a.py --resume"),
        ("a.py --resume old.pth --seed 3", "a.py --seed 3 --resume"),
        ("a.py --resume=old.pth --amp", "a.py --amp --resume"),
        ("a.py --resume --set 'b=[1, 2]' c=3", "a.py --set 'b=[1, 2]' c=3 --resume"),
    ],
)
def test_the_command_is_the_one_that_was_given(words: str, command: str) -> None:
    assert resuming(["train", *shlex.split(words)]) == f"footplate train {command}"


@pytest.mark.parametrize(
    ("world_size", "nproc", "last", "told"),
    [(1, None, "a.pth", True), (2, "2", "a.pth", True), (2, None, "a.pth", False), (1, None, None, False)],
)
def test_it_is_told_where_it_would_go_on(
    capsys: pytest.CaptureFixture[str], world_size: int, nproc: str | None, last: str | None, told: bool
) -> None:
    runner: Any = SimpleNamespace(rank=0, world_size=world_size, saver=SimpleNamespace(last=last))
    tell_how_to_go_on(runner, argparse.Namespace(nproc=nproc, words=["train", "a.py"]))
    assert capsys.readouterr().out == ("go on:           footplate train a.py --resume\n" if told else "")


def test_a_folder_with_a_blank_is_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    runner: Any = SimpleNamespace(work_dir="/my runs/one")
    tell_how_to_look(runner)
    assert capsys.readouterr().out == "look:            footplate report '/my runs/one'\n"

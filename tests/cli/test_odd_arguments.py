"""Odd values for every option of every command cause a message, never a traceback."""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.cli.main import build_parser, main

ODD = ["", "no", "-1", "0", "nan", "1e400", "9" * 5000, "foo://x", "/dev/null", "nowhere/x", "[", "{x", "=", "a=", "☃"]
# Arguments that would start servers, processes or long runs.
_LEFT_OUT = {"--nproc", "--launcher", "--help", "--debug", "--timeout"}


def commands(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yields every command and subcommand with its parser."""
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for action in inner:
        for name, each in action.choices.items():
            yield from commands(each, (*words, name))
    if words and not inner:
        yield words, parser


def cases() -> list[tuple[str, ...]]:
    """Returns command lines: each option of each command with each odd value, and odd values alone."""
    found: list[tuple[str, ...]] = []
    for words, parser in commands(build_parser()):
        places = [each for each in parser._actions if not each.option_strings and each.nargs != 0]
        given = [
            "tiny.py" if "config" in each.dest else "nothing.pth" for each in places if each.nargs not in ("?", "*")
        ]
        for value in ODD:
            found.append((*words, *[value] * max(len(given), 1)))
            for action in parser._actions:
                if action.option_strings and action.nargs != 0 and not _LEFT_OUT & set(action.option_strings):
                    option = action.option_strings[-1]
                    found.append((*words, *given, option, value))
    return found


CASES = cases()


def outcome(words: tuple[str, ...]) -> str:
    """Runs a command line, and returns a description of what is wrong with its result, or ""."""
    try:
        code: object = main(list(words))
    except SystemExit as error:
        code = error.code
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "" if code in (0, 1, 2) else f"exit code {code}"


@pytest.mark.parametrize(
    "words",
    random.Random(0).sample([each for each in CASES if each[0] != "sweep"], 20),
    ids=lambda words: " ".join(words)[:40],
)
def test_unusual_arguments_are_reported(monkeypatch: pytest.MonkeyPatch, tiny: Path, words: tuple[str, ...]) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # restores it afterwards, because --local_rank sets it
    monkeypatch.delenv("LOCAL_RANK")
    assert tiny.exists()
    assert outcome(words) == ""


def test_work_dir_with_an_unknown_protocol_is_an_error(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tiny), "--work-dir", "foo://x"]) == 2
    assert "cannot use the storage protocol" in capsys.readouterr().err

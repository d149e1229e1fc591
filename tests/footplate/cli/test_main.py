import argparse
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate.cli.main import build_parser, main
from tests.footplate.cli.conftest import Command


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def every_parser(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name, inner in parsers(parser):
        yield name, inner
        yield from every_parser(inner)


def test_every_command_has_help(footplate: Command) -> None:
    overview = footplate("--help")[1]
    for name, _ in parsers(build_parser()):
        code, said, _ = footplate(name, "--help")
        assert (code, said.startswith(f"usage: footplate {name}"), "--debug" in said) == (0, True, True)
        assert name in overview


def test_every_argument_has_help() -> None:
    unexplained = [
        (name, action.dest)
        for name, parser in every_parser(build_parser())
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]
    assert unexplained == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "error: invalid choice 'trian'; did you mean 'train'?"),
        (
            ["train", "--set", "a=1", "a.py"],
            "error: the following arguments are required: CONFIG; put positional arguments before the "
            "options, because some options take all that follow",
        ),
        (["train", "a.py", "--resum"], None),
    ],
)
def test_invalid_command_is_an_error(footplate: Command, arguments: list[str], says: str | None) -> None:
    code, said, errors = footplate(*arguments)
    lines = errors.splitlines()
    assert (code, said, len(lines) <= 5) == (2, "", True)
    if says is not None:
        assert lines[0] == says
        assert lines[1].endswith(" --help` for usage.")


@pytest.mark.parametrize("arguments", [[], ["checkpoint"]])
def test_a_command_line_without_a_command_prints_the_help(footplate: Command, arguments: list[str]) -> None:
    code, help_text, errors = footplate(*arguments)
    assert (code, errors) == (2, "")
    assert footplate(*arguments, "--help") == (0, help_text, "")


def test_interrupt_ends_without_a_traceback(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("footplate.engine.Runner.train", interrupt)
    assert footplate("train", "tiny.py", "--work-dir", "work")[::2] == (130, "interrupted\n")
    assert main(["train", "tiny.py", "--work-dir", "work", "--json", "--debug"]) == 130
    with pytest.raises(KeyboardInterrupt):
        main(["train", "tiny.py", "--work-dir", "work", "--debug"])


def run(*code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_light_commands_load_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "PIL", "cv2", "rich", "yaml", "fsspec")
    code = f"""
import atexit, sys
from footplate.cli.main import main
main(["recipes"])
atexit.register(lambda: print([name for name in {heavy!r} if name in sys.modules]))
print(main(["train", "no.py"]), "torch" in sys.modules)
"""
    found = run("-c", code)
    assert found.stdout.splitlines()[-2:] == ["2 False", "[]"], found.stderr


@pytest.mark.parametrize(
    "command", ["recipes", "explain fashion-seg model", "diff tiny.py run", "analyze run", "schema"]
)
def test_commands_that_read_files_do_not_import_torch(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("HOME", str(tmp_path))
    if command == "schema":
        main(["schema"])  # which caches it
    code = f"import sys; from footplate.cli.main import main; main({command.split()}); print('torch' in sys.modules)"
    found = run("-c", code)
    assert found.stdout.splitlines()[-1:] == ["False"], found.stderr


@pytest.mark.parametrize("is_seen", [True, False])
def test_errors_are_wrapped_and_red_only_on_a_terminal(
    tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch, is_seen: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_seen)
    code, _, error = footplate("train", tiny, "--set", "train_dataloader.dataset.quantity=50")
    whole = "error: cannot set 'train_dataloader.dataset.quantity': 'train_dataloader.dataset' has no key 'quantity'"
    assert error.startswith("\x1b[31merror:\x1b[0m ") is is_seen
    error = re.sub(r"\x1b\[\d+m", "", error)
    lines = error.splitlines()
    assert code == 2
    assert (lines[0] == whole) is not is_seen
    assert " ".join(error.split()).startswith(whole)
    assert (max(len(line) for line in lines if " " in line.strip()) <= 60) is is_seen


def test_a_command_in_a_notebook_cell_does_not_redraw_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "argv", ["footplate", "recipes"])
    assert main() == 0
    assert os.environ["TERM"] == "dumb"

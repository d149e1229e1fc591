import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from footplate.cli.main import build_parser, main

Command = Callable[..., tuple[int, str, str]]


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def options(parser: argparse.ArgumentParser) -> list[str]:
    return ["/".join(each.option_strings) or str(each.metavar) for each in parser._actions]


CONFIG = ["-h/--help", "CONFIG", "--set", "--cfg-options"]
LAUNCHING = ["--launcher", "--nproc", "--max-restarts", "--local-rank/--local_rank"]


def test_the_command_line() -> None:
    # Whoever changes an option that people type changes this test.
    found = {name: options(parser) for name, parser in parsers(build_parser())}
    assert options(build_parser()) == ["-h/--help", "--version", "COMMAND"]
    assert found["train"] == [
        *CONFIG,
        "--work-dir",
        "--resume",
        "--amp",
        "--seed",
        *LAUNCHING,
        "--no-preflight",
        "--trust",
        "--debug",
    ]
    assert found["test"] == [*CONFIG, "CHECKPOINT", "--work-dir", *LAUNCHING, "--trust", "--debug"]
    assert found["recipes"] == ["-h/--help", "--debug"]
    assert set(found) >= {"train", "test", "recipes", "explain", "diff", "checkpoint"}


@pytest.mark.parametrize("name", [name for name, _ in parsers(build_parser())])
def test_every_command_explains_itself(name: str, footplate: Command) -> None:
    code, said, _ = footplate(name, "--help")
    assert code == 0
    assert said.startswith(f"usage: footplate {name}")
    assert "--debug" in said
    assert name in footplate("--help")[1]


def test_the_version(footplate: Command) -> None:
    import footplate as package

    assert footplate("--version") == (0, f"footplate {package.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "footplate: error: there is no 'trian': did you mean 'train'?"),
        (["xyz"], "footplate: error: there is no 'xyz'"),
        ([], "footplate: error: the following arguments are required: COMMAND"),
        (["train"], "footplate train: error: the following arguments are required: CONFIG"),
        (["train", "a.py", "--seed", "x"], "footplate train: error: argument --seed: invalid int value: 'x'"),
        (["test", "a.py"], "footplate test: error: the following arguments are required: CHECKPOINT"),
        (["train", "a.py", "--launcher", "slrm"], "footplate train: error: there is no 'slrm': did you mean 'slurm'?"),
        (["train", "a.py", "--resum"], None),
    ],
)
def test_a_command_that_cannot_be_read(footplate: Command, arguments: list[str], says: str | None) -> None:
    code, said, errors = footplate(*arguments)
    lines = errors.splitlines()
    assert (code, said, len(lines) <= 5) == (2, "", True)
    if says is not None:
        assert lines[0] == says
        assert lines[1].endswith(" --help shows what it takes")


def test_an_interrupt_ends_without_a_traceback(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("footplate.engine.Runner.train", interrupt)
    assert footplate("train", "tiny.py", "--work-dir", "work")[::2] == (130, "interrupted\n")
    with pytest.raises(KeyboardInterrupt):
        main(["train", "tiny.py", "--work-dir", "work", "--debug"])


def run(*code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


@pytest.mark.parametrize("command", ["--help", "train --help", "--version", "recipes"])
def test_help_loads_nothing_heavy(command: str) -> None:
    heavy = ("torch", "numpy", "PIL", "rich", "yaml", "fsspec")
    look = f"import atexit; atexit.register(lambda: print([each for each in {heavy!r} if each in sys.modules]))"
    found = run("-c", f"import sys; {look}; from footplate.cli.main import main; sys.exit(main({command.split()!r}))")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1] == "[]"


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("-m", "footplate", "--help").stdout.startswith("usage: footplate")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(3)) < 0.3


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    found = subprocess.run(
        f"{sys.executable} -m footplate recipes | true", shell=True, capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")

import argparse
import os
from pathlib import Path
from typing import Any

import pytest

from footplate.cli import launching
from footplate.cli.launching import add_launcher, choose_launcher, refuse_launchers, start_processes, starts_processes
from footplate.config import Config
from footplate.errors import ArgumentError
from tests.support import TINY


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_launcher(parser)
    return parser.parse_args(words, argparse.Namespace(words=["train", "a.py", *words]))


@pytest.mark.parametrize(
    ("words", "env", "given", "chosen"),
    [
        ([], {}, {}, None),
        ([], {"LOCAL_RANK": "1"}, {}, "pytorch"),
        ([], {"LOCAL_RANK": "1"}, {"launcher": "none"}, "pytorch"),
        ([], {"LOCAL_RANK": "1"}, {"launcher": "slurm"}, "slurm"),
        (["--launcher", "none"], {"LOCAL_RANK": "1"}, {}, "none"),
        (["--launcher", "mpi"], {}, {"launcher": "slurm"}, "mpi"),
        (["--local_rank", "2"], {}, {}, "pytorch"),
    ],
)
def test_who_started_the_processes(
    monkeypatch: pytest.MonkeyPatch, words: list[str], env: dict[str, str], given: dict[str, Any], chosen: str | None
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    cfg = Config(given)
    choose_launcher(_arguments(*words), cfg)
    assert cfg.get("launcher") == chosen


def test_processes_are_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert starts_processes(_arguments("--nproc", "2"))
    assert not starts_processes(_arguments())
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not starts_processes(_arguments("--nproc", "2"))


def test_torchrun_gets_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"{TINY}work_dir = 'work'\n")
    got: list[Any] = []

    def torchrun(*given: Any) -> int:
        got.append(given)
        return 7

    monkeypatch.setattr(launching, "_torchrun", torchrun)
    words = ["--nproc", "2", "--max-restarts", "3"]
    assert start_processes(_arguments(*words), Config.fromfile(str(tmp_path / "a.py"))) == 7
    assert got == [(2, 3, ["-m", "footplate", "train", "a.py", *words])]
    assert os.environ["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))


@pytest.mark.parametrize("number", ["0", "-1", "two", "gpu"])
def test_a_number_of_processes_that_makes_no_sense(number: str) -> None:
    with pytest.raises(ArgumentError, match="--nproc is a number"):
        start_processes(_arguments(f"--nproc={number}"), Config({}))


def test_a_command_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_launchers("sweep")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="footplate sweep is one process: start it without torchrun"):
        refuse_launchers("sweep")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "told"), [("1 / 0", 1), ("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("pass", 0)]
)
def test_exit_codes_pass_through(tmp_path: Path, code: str, told: int) -> None:
    (tmp_path / "script.py").write_text(f"import os, sys\nif os.environ['RANK'] == '1':\n    {code}\n")
    assert launching._torchrun(2, 0, [str(tmp_path / "script.py")]) == told

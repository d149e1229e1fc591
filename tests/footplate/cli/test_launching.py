import argparse
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from footplate.cli import launching
from footplate.cli.arguments import Parser
from footplate.cli.config_arguments import read_run_config
from footplate.cli.launching import add_launcher, start_processes
from footplate.cli.output import DOCUMENT_FILE
from footplate.config import Config
from footplate.engine.plan.plan import RunPlan
from footplate.errors import ArgumentError
from tests import programs
from tests.footplate.cli.conftest import environment
from tests.support import TINY


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)


def _arguments(*words: str) -> argparse.Namespace:
    parser = Parser()
    add_launcher(parser)
    given = {"argv": ["train", "a.py", *words], "cfg": Config({}), "json": False, "has_document": False}
    return parser.parse_args(words, argparse.Namespace(**given))


@pytest.mark.parametrize(
    ("words", "given", "chosen"),
    [([], {}, None), ([], {"launcher": "slurm"}, "slurm"), (["--launcher", "mpi"], {"launcher": "slurm"}, "mpi")],
)
def test_launcher_option_replaces_the_key(
    tmp_path: Path, words: list[str], given: dict[str, Any], chosen: str | None
) -> None:
    Config(given).dump(tmp_path / "a.py")
    arguments = _arguments(*words)
    arguments.config, arguments.set, arguments.cfg_options = str(tmp_path / "a.py"), [], []
    assert read_run_config(arguments).get("launcher") == chosen


def test_torchrun_gets_the_command(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    got: list[Any] = []

    def torchrun(*given: Any) -> tuple[int, None]:
        got.append(given)
        return 7, None

    def warn(cfg: Config) -> Any:
        logging.getLogger("footplate.engine").warning("a warning")
        return MagicMock()

    monkeypatch.setattr(launching, "_torchrun", torchrun)
    monkeypatch.setattr(RunPlan, "from_config", warn)
    words = ["--nproc", "2", "--max-restarts", "3"]
    assert start_processes(_arguments(*words)) == 7
    assert got == [(2, 3, ["-m", "footplate", "train", "a.py", *words], None)]
    assert os.environ["OMP_NUM_THREADS"] == str(max(1, (os.cpu_count() or 1) // 2))
    assert caplog.messages == []  # the ranks emit the warnings


def test_restarts_without_processes_are_an_error() -> None:
    with pytest.raises(ArgumentError, match="--max-restarts needs --nproc"):
        start_processes(_arguments("--max-restarts", "2"))


@pytest.mark.parametrize("number", ["0", "two"])
def test_invalid_number_of_processes_is_an_error(number: str) -> None:
    with pytest.raises(ArgumentError, match="--nproc must be a positive integer"):
        start_processes(_arguments(f"--nproc={number}"))


_FINISHED = {"state": "finished"}
_ERROR = {"error": {"type": "RankError", "message": "rank 1 failed", "exit_code": 137}}


@pytest.mark.parametrize(
    ("code", "error", "left", "printed"),
    [
        (0, None, _FINISHED, _FINISHED),
        (137, _ERROR, _FINISHED, _ERROR),  # rank 1 was killed after rank 0 had finished
    ],
)
def test_json_of_several_processes_is_one_document(
    monkeypatch: pytest.MonkeyPatch, code: int, error: Any, left: Any, printed: Any
) -> None:
    def torchrun(*given: Any) -> tuple[int, Any]:
        if left is not None:
            Path(os.environ[DOCUMENT_FILE]).write_text(json.dumps(left))
        return code, error

    monkeypatch.setattr(launching, "_torchrun", torchrun)
    monkeypatch.setattr(RunPlan, "from_config", lambda cfg: MagicMock())
    arguments = _arguments("--nproc", "2")
    arguments.json, arguments.results = True, io.StringIO()
    assert start_processes(arguments) == code
    assert json.loads(arguments.results.getvalue()) == printed


_HOOK = """
import os, signal, time
from footplate import HOOKS, Hook

@HOOKS.register_module()
class DieOnce(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        time.sleep(0.02)
        if (runner.rank, runner.iter, os.environ["TORCHELASTIC_RESTART_COUNT"]) == (1, 7, "0"):
            os.kill(os.getpid(), signal.SIGKILL)
"""


def prepared(folder: Path, hook: str) -> dict[str, str]:
    """Writes a config with the hook and returns the environment of the command."""
    (folder / "my_hook.py").write_text(hook)
    text = TINY.replace('["tests.support"]', '["tests.support", "my_hook"]')
    (folder / "tiny.py").write_text(text.replace('dict(type="Witness")', 'dict(type="DieOnce")'))
    return environment(OMP_NUM_THREADS="1")


@pytest.mark.timeout(120)
def test_error_of_a_rank_is_printed_once_and_is_one_document(tmp_path: Path) -> None:
    env = prepared(tmp_path, _HOOK.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError(7)"))
    words = ["train", "tiny.py", "--work-dir", "work", "--no-preflight", "--nproc", "2", "--json"]
    command = ["-m", "footplate", *words, "--set", "log_level=ERROR"]
    done = programs.run(*command, folder=tmp_path, environment=env)
    lines = [
        "ValueError: 7",
        "  at my_hook.py:10, in before_train_iter: raise ValueError(7)",
        "  after 7 of 8 iterations",
        "  --debug shows the whole traceback",
    ]
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["rank"], error["message"], error["notes"]) == (1, 1, lines[0], lines[1:])
    assert [line for line in done.stderr.splitlines() if line and not line.startswith("[")] == [
        f"error: rank 1: {lines[0]}",
        *lines[1:],
    ]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_restart_resumes_and_signal_to_the_launcher_saves_once(tmp_path: Path) -> None:
    env = prepared(tmp_path, _HOOK)
    words = ["train", "tiny.py", "--work-dir", "work", "--no-preflight", "--nproc", "2", "--max-restarts", "1"]
    command = [sys.executable, "-m", "footplate", *words, "--set", "train_cfg.max_iters=100000"]
    with open(tmp_path / "said", "w") as said:
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=said, stderr=said)
    until = time.monotonic() + 120
    while not (tmp_path / "work/iter_12.pth").exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGUSR1)
    while "Saving a checkpoint" not in (tmp_path / "said").read_text() and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 143
    told = (tmp_path / "said").read_text()
    assert told.count("(restart 1 of 1)") == 1
    assert ("was killed by SIGKILL" in told, told.count("Saving a checkpoint")) == (True, 2)
    assert told.count("SIGTERM: stopped after iteration") == 1
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/on_signal.pth")

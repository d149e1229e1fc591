"""Whole runs in which one rank fails, without a launcher that ends the others: messages and exit codes."""

import faulthandler
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from footplate import Hook
from footplate.cli.main import main
from footplate.distributed import failures, get_rank
from footplate.registry import HOOKS, MODELS
from tests.faults.processes import end, fork
from tests.support import TINY, ToyModel, free_port

_MOST_SECONDS = 10.0
_IGNORED = re.compile(r"^\[| - INFO - |^(log|last checkpoint|curves|report): ")  # messages of gloo, and paths


@HOOKS.register_module()
class FailForTest(Hook):
    """Makes a rank fail in an iteration; each iteration takes a few milliseconds."""

    def __init__(self, kind: str, rank: int = 1, at: int = 3) -> None:
        self.kind, self.rank, self.at = kind, rank, at

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        time.sleep(0.005)
        if self.rank in (runner.rank, -1) and runner.iter == self.at and "TORCHELASTIC_RESTART_COUNT" not in os.environ:
            self._fail()

    def _fail(self) -> None:
        if self.kind == "raises":
            raise ValueError("the label 12 is beyond 10 classes")
        if self.kind == "hangs":
            time.sleep(100)
        if self.kind == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)


@MODELS.register_module()
class DiffersForTest(ToyModel):
    """A model with a different head on rank 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "num_classes": 3 if get_rank() == 1 else 2})


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_AFTER_RANK_0", 0.1)
    monkeypatch.setattr(failures, "_AFTER_CAUSE", 0.5)


def _start(folder: Path, world: int, *changes: str, **env: str) -> list[int]:
    """Forks ranks that train by the command line, with output in `output_N` of the folder."""
    (folder / "tiny.py").write_text(TINY)
    port = free_port()

    def train(rank: int) -> int:
        faulthandler.disable()  # pytest's
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 - not pytest's
        names = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({**{name: str(value) for name, value in names.items()}, **env})
        if "TRACE_FILES" in env and rank:
            sys.addaudithook(_trace_files)
        timeout = "env_cfg={'dist_cfg': {'timeout': 60}}"
        arguments = ["train", str(folder / "tiny.py"), "--work-dir", str(folder / "work"), "--no-preflight"]
        return main([*arguments, "--set", f"+{timeout}", "+log_level=WARNING", *changes])

    return [fork(lambda rank=rank: train(rank), folder / f"output_{rank}") for rank in range(world)]  # type: ignore[misc]


def _trace_files(event: str, arguments: tuple[Any, ...]) -> None:
    """Prints which files in a work_dir are opened for writing, created, renamed or removed."""
    changes = event in ("os.mkdir", "os.rename", "os.remove")
    if (changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))) and "/work" in str(arguments[0]):
        os.write(2, f"{event} {arguments[0]}\n".encode())


def _await(processes: list[int]) -> tuple[float, list[int]]:
    start = time.monotonic()
    codes = [end(process, 60.0) for process in processes]
    return time.monotonic() - start, codes


def _output(folder: Path, rank: int) -> list[str]:
    lines = (folder / f"output_{rank}").read_text().splitlines()
    return [line for line in lines if not _IGNORED.search(line)]


def _fault(kind: str, **settings: Any) -> str:
    return f"custom_hooks=[{ {'type': 'FailForTest', 'kind': kind, **settings} }]"


def test_rank_raises(tmp_path: Path) -> None:
    _, codes = _await(_start(tmp_path, 2, _fault("raises"), "default_hooks.checkpoint.interval=1"))
    assert codes == [1, 1]
    first, second, *_, third, _ = _output(tmp_path, 1)
    assert first == "error: rank 1: ValueError: the label 12 is beyond 10 classes"
    assert second.startswith(f"  at {_line_of('raise ValueError')}, in _fail: ")
    assert third == "  after 3 of 8 iterations"  # rank 0 may still be saving
    (log,) = (tmp_path / "work").glob("*/rank_1.log")
    assert "in _fail" in log.read_text()


def _line_of(text: str) -> str:
    numbers = [number for number, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line]
    return f"{os.path.relpath(__file__)}:{numbers[0]}"


@pytest.mark.parametrize("rank", [0, 1])
def test_rank_dies(tmp_path: Path, rank: int) -> None:
    seconds, codes = _await(_start(tmp_path, 2, _fault("SIGKILL", rank=rank)))
    assert seconds < _MOST_SECONDS
    assert (codes[rank], codes[1 - rank]) == (-signal.SIGKILL, 1)
    first, cause, advice, *_ = _output(tmp_path, 1 - rank)
    assert first == f"error: rank {1 - rank}: another rank has ended, or did not respond within the time limit"
    assert cause.startswith("  RuntimeError: ")
    assert advice == (
        "  Check the errors on the other ranks. To change the time limit, set env_cfg.dist_cfg.timeout (in seconds)."
    )
    log = "".join(path.read_text() for path in (tmp_path / "work").glob("*/2*.log"))
    assert ("another rank has ended" in log, "Connection closed" in log) == (rank == 1, False)


def test_rank_hangs(tmp_path: Path) -> None:
    waiting, hanging = _start(tmp_path, 2, _fault("hangs"), "+env_cfg.dist_cfg.timeout=2")
    assert end(waiting, 60.0) == 1
    os.kill(hanging, signal.SIGKILL)
    end(hanging)
    assert "did not respond" in _output(tmp_path, 0)[0]
    assert "Timed out waiting 2000ms" in _output(tmp_path, 0)[1]


def test_rank_has_different_parameters(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 3, "model.type=DiffersForTest"))[1] == [2, 2, 2]
    first, _, *rest = _output(tmp_path, 0)  # the second line is the config file
    assert [first, *rest] == [
        "error: rank 0: the parameters on rank 1 differ from the parameters on rank 0",
        "  layers.3.weight: 3x8 float32 on rank 1, layers.3.weight: 2x8 float32 on rank 0",
        "  Use the same config, dataset and code path on all ranks.",
    ]


def test_restart_resumes_automatically(tmp_path: Path) -> None:
    _await(_start(tmp_path, 2, _fault("SIGKILL", at=6)))
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/iter_4.pth")
    _, codes = _await(_start(tmp_path, 2, TORCHELASTIC_RESTART_COUNT="1", TORCHELASTIC_MAX_RESTARTS="3"))
    assert codes == [0, 0]
    assert any("(restart 1 of 3)" in line for line in _output(tmp_path, 0))
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/iter_8.pth")


def test_only_rank_0_writes(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("none"), TRACE_FILES="yes"))[1] == [0, 0]
    written = sorted(path.relative_to(tmp_path / "work").parts[-1] for path in (tmp_path / "work").rglob("*"))
    assert not [name for name in written if name.startswith("rank_")]
    assert len([name for name in written if name.endswith(".log")]) == 1
    assert _output(tmp_path, 0) + _output(tmp_path, 1) == []

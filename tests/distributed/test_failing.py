"""Whole runs in which one rank fails: the printed report, and that all ranks exit within seconds."""

import faulthandler
import os
import random
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate import Hook
from footplate.cli.main import main
from footplate.distributed import get_rank, rank_monitor
from footplate.distributed.failure_report import RankStatus
from footplate.errors import ArgumentError
from footplate.registry import HOOKS, MODELS
from tests.faults.processes import end, fork
from tests.support import TINY, ToyModel

_MOST_SECONDS = 10.0
_NO_ERROR = "os._exit() was called, or native code exited: Python raised no error"
_IGNORED = re.compile(r"^\[| - INFO - |^(log|last checkpoint|curves|report): ")  # messages of gloo, and paths


@HOOKS.register_module()
class FailForTest(Hook):
    """Makes a rank fail in an iteration; each iteration takes a few milliseconds."""

    def __init__(self, kind: str, rank: int = 1, at: int = 3) -> None:
        self.kind, self.rank, self.at = kind, rank, at

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        time.sleep(0.005)
        if self.rank in (runner.rank, -1) and runner.iter == self.at and "TORCHELASTIC_RESTART_COUNT" not in os.environ:
            self._fail()

    def _fail(self) -> None:
        if self.kind == "raises":
            raise ValueError("the label 12 is beyond 10 classes")
        if self.kind == "hangs":
            time.sleep(100)
        if self.kind == "refuses":
            raise ArgumentError("not possible", key="here")
        if self.kind == "leaves":
            sys.exit(0)
        if self.kind == "aborts":
            os.abort()
        if self.kind.startswith("leaves with"):
            os._exit(int(self.kind[-1]))
        if self.kind in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, self.kind))


@HOOKS.register_module()
class AbortWithUnreadMessageForTest(FailForTest):
    """Makes rank 0 abort before it has read a message of rank 1."""

    def _fail(self) -> None:
        if get_rank():
            rank_monitor._current._channel.send("moved", status=list(RankStatus(get_rank(), "a")))  # type: ignore[union-attr]
            return
        sys.setswitchinterval(10.0)  # keeps other threads from reading the message
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
        super()._fail()


@MODELS.register_module()
class DiffersForTest(ToyModel):
    """A model with a different head on rank 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "num_classes": 3 if get_rank() == 1 else 2})


@MODELS.register_module()
class NormedForTest(ToyModel):
    """A model with buffers, which ranks synchronize before the forward pass."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.layers.insert(0, nn.BatchNorm1d(4))


@MODELS.register_module()
class UnusedForTest(ToyModel):
    """A model with a layer that is not used in the loss."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.extra = nn.Linear(2, 2)


@pytest.fixture(autouse=True, scope="module")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports what a run needs, so that forked processes start at once."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "tiny.py").write_text(TINY)
    assert main(["train", str(folder / "tiny.py"), "--work-dir", str(folder / "work")]) == 0


def _start(folder: Path, world: int, *changes: str, **env: str) -> list[int]:
    """Forks ranks that train by the command line, with output in `output_N` of the folder."""
    (folder / "tiny.py").write_text(TINY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

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


def _output(folder: Path) -> list[str]:
    lines = [line for path in sorted(folder.glob("output_*")) for line in path.read_text().splitlines()]
    lines = [re.sub(r"^  process \d+(, last seen \d.\d s earlier: .+)?$", "  process N", line) for line in lines]
    return [re.sub(r"\b\d+ s\b", "N s", line) for line in lines if not _IGNORED.search(line)]


def _fault(kind: str, **settings: Any) -> str:
    return f"custom_hooks=[{ {'type': 'FailForTest', 'kind': kind, **settings} }]"


def test_rank_raises(tmp_path: Path) -> None:
    _, codes = _await(_start(tmp_path, 3, _fault("raises")))
    assert codes == [1, 1, 1]
    (log,) = (tmp_path / "work").glob("*/rank_1.log")
    assert _output(tmp_path) == [
        f"error: rank 1 on {socket.gethostname()} failed in iteration 4, FailForTest.before_train_iter: "
        "ValueError: the label 12 is beyond 10 classes",
        f"  at {_line_of('raise ValueError')}",
        f"  traceback: {log}",
    ]
    assert "Traceback" in log.read_text()
    assert "in _fail" in log.read_text()


def test_report_of_another_rank_names_the_last_checkpoint(tmp_path: Path) -> None:
    # Each save waits for the one before it, so that after iteration 1 is complete when iteration 3 begins.
    _await(_start(tmp_path, 2, _fault("raises"), "default_hooks.checkpoint.interval=1"))
    path = re.escape(str(tmp_path / "work" / "iter_"))
    assert re.fullmatch(
        rf"  the last checkpoint is {path}[123]\.pth; use --resume to continue from it", _output(tmp_path)[-1]
    )


def _line_of(text: str) -> str:
    numbers = [number for number, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line]
    return f"{os.path.relpath(__file__)}:{numbers[0]}"


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("kind", "how", "why", "codes"),
    [
        (
            "SIGKILL",
            "was killed by SIGKILL",
            "if no one sent SIGKILL, the kernel's OOM killer probably did; check dmesg",
            (-9, 137),
        ),
        ("aborts", "was killed by SIGABRT", "stack trace: {log}", (-6, 134)),
        ("leaves with 3", "exited with code 3", _NO_ERROR, (3, 3)),
        ("leaves with 0", "exited with code 0", _NO_ERROR, (0, 1)),
    ],
)
def test_rank_dies(tmp_path: Path, rank: int, kind: str, how: str, why: str, codes: tuple[int, int]) -> None:
    processes = _start(tmp_path, 3, _fault(kind, rank=rank))
    dead = processes.pop(rank)
    seconds, ended = _await([*processes, dead])  # the parent process may collect the exit code late
    assert seconds < _MOST_SECONDS
    assert ended == [codes[1], codes[1], codes[0]]
    logs = [*(tmp_path / "work").glob(f"*/rank_{rank}.log")]
    assert _output(tmp_path) == [
        f"error: rank {rank} on {socket.gethostname()} {how} near iteration 4",
        *([f"  at {_line_of('os.abort()')}, in _fail"] if kind == "aborts" else []),
        "  process N",
        f"  {why.format(log=logs[0] if logs else '')}",
        f"  {'ranks 1, 2' if rank == 0 else 'ranks 0, 2'} stopped because of it",
    ]
    if kind == "aborts":
        assert "in before_train_iter\n" in logs[0].read_text()


def test_crash_dump_is_complete_with_unread_messages(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("aborts", type="AbortWithUnreadMessageForTest", rank=-1)))[1] == [-6, 134]
    assert _output(tmp_path)[1] == f"  at {_line_of('os.abort()')}, in _fail"


def test_rank_calls_sys_exit(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("leaves")))[1] == [1, 1]
    assert "rank 1" in _output(tmp_path)[0]
    assert "SystemExit(0)" in _output(tmp_path)[0]


def test_rank_hangs(tmp_path: Path) -> None:
    seconds, codes = _await(_start(tmp_path, 3, _fault("hangs"), "+env_cfg.dist_cfg.timeout=4"))
    assert codes == [1, 1, 1]
    host, (warning, *lines) = socket.gethostname(), _output(tmp_path)
    assert warning.endswith(
        f"WARNING - rank 1 on {host}: in FailForTest.before_train_iter of iteration 4 for N s; "
        "ranks 0, 2: waiting in backward pass of iteration 4"
    )
    assert lines == [
        "error: ranks 0, 2 waited for rank 1 for N s",
        f"  rank 1 on {host}: FailForTest.before_train_iter of iteration 4 for N s, {_line_of('time.sleep(100)')}",
        f"  ranks 0, 2 on {host}: backward pass of iteration 4 for N s",
        "  set env_cfg.dist_cfg.timeout to change how long a rank may wait",
    ]


def test_rank_has_different_parameters(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 3, "model.type=DiffersForTest"))[1] == [2, 2, 2]
    assert _output(tmp_path)[:2] == [
        "error: the parameters on rank 1 differ from those on ranks 0, 2",
        "  'layers.3.weight' is 3x8 float32 on rank 1, 2x8 float32 on rank 0",
    ]
    assert len(_output(tmp_path)) == 3


def test_ranks_waiting_for_buffers_are_not_late(tmp_path: Path) -> None:
    changes = "model.type=NormedForTest", "+env_cfg.dist_cfg.timeout=4"
    _await(_start(tmp_path, 3, _fault("hangs"), *changes))
    lines = [line for line in _output(tmp_path) if "WARNING" not in line]
    assert lines[0] == "error: ranks 0, 2 waited for rank 1 for N s"
    assert "training step (distributed_broadcast_coalesced) of iteration 4 for N s" in " ".join(lines)


def test_unused_parameters_are_reported_once(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, "model.type=UnusedForTest"))[1] == [2, 2]
    assert _output(tmp_path) == [
        "error: 2 parameters were not used in the loss of the previous iteration: extra.weight, extra.bias",
        "  key find_unused_parameters",
        "  they belong to extra (Linear)",
        "  Set find_unused_parameters=True.",
    ]


def test_error_on_all_ranks_is_printed_once(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 3, _fault("refuses", rank=-1)))[1] == [2, 2, 2]
    assert _output(tmp_path) == ["error: not possible", "  key here"]


def test_signal_to_one_rank_stops_all_and_saves_once(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("SIGTERM", rank=1)))[1] == [143, 143]
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/on_signal.pth")
    (line,) = [line.partition("WARNING - ")[2] for line in _output(tmp_path)]
    assert re.fullmatch(r"SIGTERM: stopped after iteration [4-8]\. Resume to continue from there\.", line)


def test_restart_resumes_automatically(tmp_path: Path) -> None:
    _await(_start(tmp_path, 2, _fault("SIGKILL", at=6)))
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/iter_4.pth")
    _, codes = _await(_start(tmp_path, 2, TORCHELASTIC_RESTART_COUNT="1", TORCHELASTIC_MAX_RESTARTS="3"))
    assert codes == [0, 0]
    assert any(
        "Restart 1 of 3 by torchrun: the run resumes from its last checkpoint." in line for line in _output(tmp_path)
    )
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/iter_8.pth")


def test_only_rank_0_writes(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("none"), TRACE_FILES="yes"))[1] == [0, 0]
    written = sorted(path.relative_to(tmp_path / "work").parts[-1] for path in (tmp_path / "work").rglob("*"))
    assert not [name for name in written if name.startswith("rank_")]
    assert len([name for name in written if name.endswith(".log")]) == 1
    assert _output(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_kill_at_random_time(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    processes = _start(tmp_path, 4, "train_cfg.max_iters=400", "default_hooks.checkpoint.interval=2")
    until = time.monotonic() + 60.0
    while not list((tmp_path / "work").glob("*/*.log")) and time.monotonic() < until:
        time.sleep(0.05)  # before all ranks are connected, a death is only noticed by a launcher
    time.sleep(draw.uniform(0.0, 5.0))
    os.kill(processes[draw.randrange(4)], signal.SIGKILL)
    seconds, codes = _await(processes)
    assert seconds < _MOST_SECONDS
    assert 0 not in codes or codes == [0] * 4
    saved = [int(path.stem[5:]) for path in (tmp_path / "work").glob("iter_*.pth")]
    _, codes = _await(_start(tmp_path, 4, "train_cfg.max_iters=400", TORCHELASTIC_RESTART_COUNT="1"))
    assert codes == [0] * 4
    output = "\n".join(_output(tmp_path))
    assert not saved or "Restart 1 of 0 by torchrun: the run resumes" in output

"""What users read when one of several processes goes wrong, and that all others end within seconds."""

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
_IGNORED = re.compile(r"^\[| - INFO - |^(log|last checkpoint|curves|look): ")  # what gloo says, and where things lie


@HOOKS.register_module()
class GoWrongForTest(Hook):
    """Has a rank go wrong in an iteration; each iteration takes some milliseconds."""

    def __init__(self, kind: str, rank: int = 1, at: int = 3) -> None:
        self.kind, self.rank, self.at = kind, rank, at

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        time.sleep(0.005)
        if self.rank in (runner.rank, -1) and runner.iter == self.at and "TORCHELASTIC_RESTART_COUNT" not in os.environ:
            self._go_wrong()

    def _go_wrong(self) -> None:
        if self.kind == "raises":
            raise ValueError("the label 12 is beyond 10 classes")
        if self.kind == "hangs":
            time.sleep(100)
        if self.kind == "refuses":
            raise ArgumentError("this does not go", key="here")
        if self.kind == "leaves":
            sys.exit(0)
        if self.kind == "aborts":
            os.abort()
        if self.kind.startswith("leaves with"):
            os._exit(int(self.kind[-1]))
        if self.kind in ("SIGKILL", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, self.kind))


@HOOKS.register_module()
class AbortUnheardForTest(GoWrongForTest):
    """Has the first rank abort before it has read what the other one says."""

    def _go_wrong(self) -> None:
        if get_rank():
            rank_monitor._current._line.send("seen", place=list(RankStatus(get_rank(), "a")))  # type: ignore[union-attr]
            return
        sys.setswitchinterval(10.0)  # no other thread of this process comes to read it
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass
        super()._go_wrong()


@MODELS.register_module()
class DiffersForTest(ToyModel):
    """Has another head on rank 1."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "num_classes": 3 if get_rank() == 1 else 2})


@MODELS.register_module()
class NormedForTest(ToyModel):
    """Has buffers, which ranks exchange before a forward pass."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.layers.insert(0, nn.BatchNorm1d(4))


@MODELS.register_module()
class UnusedForTest(ToyModel):
    """Has a layer that takes no part in the loss."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.extra = nn.Linear(2, 2)


@pytest.fixture(autouse=True, scope="module")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Has this process import what a run needs, so that those that are forked from it begin at once."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "tiny.py").write_text(TINY)
    assert main(["train", str(folder / "tiny.py"), "--work-dir", str(folder / "work")]) == 0


def _start(folder: Path, world: int, *changes: str, **env: str) -> list[int]:
    """Forks ranks that train by the command line; each says what it says in `said_N` of the folder."""
    (folder / "tiny.py").write_text(TINY)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def train(rank: int) -> int:
        faulthandler.disable()  # pytest's
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 - not pytest's
        names = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({**{name: str(value) for name, value in names.items()}, **env})
        if "TELL_OF_FILES" in env and rank:
            sys.addaudithook(_tell_of_files)
        timeout = "env_cfg={'dist_cfg': {'timeout': 60}}"
        words = ["train", str(folder / "tiny.py"), "--work-dir", str(folder / "work"), "--no-preflight"]
        return main([*words, "--set", f"+{timeout}", "+log_level=WARNING", *changes])

    return [fork(lambda rank=rank: train(rank), folder / f"said_{rank}") for rank in range(world)]  # type: ignore[misc]


def _tell_of_files(event: str, arguments: tuple[Any, ...]) -> None:
    """Says which files in a work_dir are opened to be written, folders made, and names changed."""
    changes = event in ("os.mkdir", "os.rename", "os.remove")
    if (changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))) and "/work" in str(arguments[0]):
        os.write(2, f"{event} {arguments[0]}\n".encode())


def _await(processes: list[int]) -> tuple[float, list[int]]:
    begun = time.monotonic()
    codes = [end(process, 60.0) for process in processes]
    return time.monotonic() - begun, codes


def _said(folder: Path) -> list[str]:
    lines = [line for path in sorted(folder.glob("said_*")) for line in path.read_text().splitlines()]
    lines = [re.sub(r"^  process \d+(, \d\.\d s before: .+)?$", "  process N", line) for line in lines]
    return [re.sub(r"\b\d+ s\b", "N s", line) for line in lines if not _IGNORED.search(line)]


def _fault(kind: str, **settings: Any) -> str:
    return f"custom_hooks=[{ {'type': 'GoWrongForTest', 'kind': kind, **settings} }]"


def test_a_rank_that_raises(tmp_path: Path) -> None:
    _, codes = _await(_start(tmp_path, 3, _fault("raises")))
    assert codes == [1, 1, 1]
    (log,) = (tmp_path / "work").glob("*/rank_1.log")
    assert _said(tmp_path) == [
        f"error: rank 1 on {socket.gethostname()} failed in iteration 4, GoWrongForTest.before_train_iter: "
        "ValueError: the label 12 is beyond 10 classes",
        f"  at {_line_of('raise ValueError')}",
        f"  traceback: {log}",
    ]
    assert "Traceback" in log.read_text()
    assert "in _go_wrong" in log.read_text()


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
            "if no one sent SIGKILL, the kernel killed it for lack of memory; check dmesg",
            (-9, 137),
        ),
        ("aborts", "was killed by SIGABRT", "stack trace: {log}", (-6, 134)),
        ("leaves with 3", "exited with code 3", _NO_ERROR, (3, 3)),
        ("leaves with 0", "exited with code 0", _NO_ERROR, (0, 1)),
    ],
)
def test_a_rank_that_dies(tmp_path: Path, rank: int, kind: str, how: str, why: str, codes: tuple[int, int]) -> None:
    processes = _start(tmp_path, 3, _fault(kind, rank=rank))
    dead = processes.pop(rank)
    seconds, ended = _await([*processes, dead])  # who started it need not be the first to look
    assert seconds < _MOST_SECONDS
    assert ended == [codes[1], codes[1], codes[0]]
    logs = [*(tmp_path / "work").glob(f"*/rank_{rank}.log")]
    assert _said(tmp_path) == [
        f"error: rank {rank} on {socket.gethostname()} {how} near iteration 4",
        *([f"  at {_line_of('os.abort()')}, in _go_wrong"] if kind == "aborts" else []),
        "  process N",
        f"  {why.format(log=logs[0] if logs else '')}",
        f"  {'ranks 1, 2' if rank == 0 else 'ranks 0, 2'} ended with it",
    ]
    if kind == "aborts":
        assert "in before_train_iter\n" in logs[0].read_text()


def test_a_crash_is_told_whole_though_messages_are_unread(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("aborts", type="AbortUnheardForTest", rank=-1)))[1] == [-6, 134]
    assert _said(tmp_path)[1] == f"  at {_line_of('os.abort()')}, in _go_wrong"


def test_a_rank_that_leaves(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("leaves")))[1] == [1, 1]
    assert "rank 1" in _said(tmp_path)[0]
    assert "SystemExit(0)" in _said(tmp_path)[0]


def test_a_rank_that_hangs(tmp_path: Path) -> None:
    seconds, codes = _await(_start(tmp_path, 3, _fault("hangs"), "+env_cfg.dist_cfg.timeout=4"))
    assert codes == [1, 1, 1]
    host, (warning, *lines) = socket.gethostname(), _said(tmp_path)
    assert warning.endswith(
        f"WARNING - rank 1 on {host}: in GoWrongForTest.before_train_iter of iteration 4 for N s; "
        "ranks 0, 2: waiting in backward pass of iteration 4"
    )
    assert lines == [
        "error: ranks 0, 2 waited for rank 1 for N s",
        f"  rank 1 on {host}: GoWrongForTest.before_train_iter of iteration 4 for N s, {_line_of('time.sleep(100)')}",
        f"  ranks 0, 2 on {host}: backward pass of iteration 4 for N s",
        "  set env_cfg.dist_cfg.timeout to change how long a rank may wait",
    ]


def test_a_rank_that_sees_other_parameters(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 3, "model.type=DiffersForTest"))[1] == [2, 2, 2]
    assert _said(tmp_path)[:2] == [
        "error: other parameters on rank 1 than on ranks 0, 2",
        "  'layers.3.weight' is 3x8 float32 on rank 1, 2x8 float32 on rank 0",
    ]
    assert len(_said(tmp_path)) == 3


def test_ranks_that_wait_with_their_buffers_are_not_missed(tmp_path: Path) -> None:
    changes = "model.type=NormedForTest", "+env_cfg.dist_cfg.timeout=4"
    _await(_start(tmp_path, 3, _fault("hangs"), *changes))
    lines = [line for line in _said(tmp_path) if "WARNING" not in line]
    assert lines[0] == "error: ranks 0, 2 waited for rank 1 for N s"
    assert "forward pass (exchange of buffers) of iteration 4 for N s" in " ".join(lines)


def test_parameters_that_nobody_uses_are_said_once(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, "model.type=UnusedForTest"))[1] == [2, 2]
    assert _said(tmp_path) == [
        "error: 2 parameters were not used in the loss of the previous iteration: extra.weight, extra.bias",
        "  key find_unused_parameters",
        "  they belong to extra (Linear)",
        "  set find_unused_parameters=True, or freeze them with FreezeHook",
    ]


def test_an_error_of_all_is_said_once(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 3, _fault("refuses", rank=-1)))[1] == [2, 2, 2]
    assert _said(tmp_path) == ["error: this does not go", "  key here"]


def test_a_signal_to_one_rank_ends_all_saved_once(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("SIGTERM", rank=1)))[1] == [143, 143]
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/on_signal.pth")
    (line,) = [line.partition("WARNING - ")[2] for line in _said(tmp_path)]
    assert re.fullmatch(r"SIGTERM: stopped after iteration [4-8]: resume goes on from there", line)


def test_a_restart_goes_on_by_itself(tmp_path: Path) -> None:
    _await(_start(tmp_path, 2, _fault("SIGKILL", at=6)))
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/iter_4.pth")
    _, codes = _await(_start(tmp_path, 2, TORCHELASTIC_RESTART_COUNT="1", TORCHELASTIC_MAX_RESTARTS="3"))
    assert codes == [0, 0]
    assert any("restart 1 of 3 by torchrun: goes on from the last checkpoint" in line for line in _said(tmp_path))
    assert (tmp_path / "work/last_checkpoint").read_text() == str(tmp_path / "work/iter_8.pth")


def test_only_the_first_rank_writes(tmp_path: Path) -> None:
    assert _await(_start(tmp_path, 2, _fault("none"), TELL_OF_FILES="yes"))[1] == [0, 0]
    written = sorted(path.relative_to(tmp_path / "work").parts[-1] for path in (tmp_path / "work").rglob("*"))
    assert not [name for name in written if name.startswith("rank_")]
    assert len([name for name in written if name.endswith(".log")]) == 1
    assert _said(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_a_random_instant(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    processes = _start(tmp_path, 4, "train_cfg.max_iters=400", "default_hooks.checkpoint.interval=2")
    until = time.monotonic() + 60.0
    while not list((tmp_path / "work").glob("*/*.log")) and time.monotonic() < until:
        time.sleep(0.05)  # who is gone before all have met is waited for, unless a launcher ends the others
    time.sleep(draw.uniform(0.0, 5.0))
    os.kill(processes[draw.randrange(4)], signal.SIGKILL)
    seconds, codes = _await(processes)
    assert seconds < _MOST_SECONDS
    assert 0 not in codes or codes == [0] * 4
    saved = [int(path.stem[5:]) for path in (tmp_path / "work").glob("iter_*.pth")]
    _, codes = _await(_start(tmp_path, 4, "train_cfg.max_iters=400", TORCHELASTIC_RESTART_COUNT="1"))
    assert codes == [0] * 4
    told = "\n".join(_said(tmp_path))
    assert not saved or "restart 1 of 0 by torchrun: goes on" in told

"""Tests how ranks end together; a stand-in for the other ranks records its messages."""

import os
import signal
import sys
from pathlib import Path
from traceback import walk_stack
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import footplate.engine.train_loops
from footplate import Hook, Runner
from footplate.distributed import rank_monitor
from footplate.distributed.failure_report import FailureReport
from footplate.engine import rank_failures as module
from footplate.engine.rank_failures import (
    describe_stack,
    monitor_run,
    report_failure,
    reporting_failures,
    start_rank_monitor,
)
from footplate.engine.signals import EarlyExitError, Interrupted
from footplate.errors import ArgumentError, RankError
from tests.support import Points, ToyModel, settings


class Others:
    """A rank monitor whose failure report is set by the test."""

    def __init__(self, path: str) -> None:
        self.rank, self.path, self.at_work = 1, path, True
        self.told: list[Any] = []
        self.verdict: FailureReport | None = None
        self.iteration: Any = None
        self.warn: Any = None
        self.last_checkpoint: Any = None

    def begin(self) -> None:
        self.told.append("begin")

    def done(self) -> None:
        self.told.append("done")

    def fail(self, error: BaseException, text: str, code: int, *, log: str = "") -> FailureReport:
        self.told.append((text, code, log))
        return self.verdict or FailureReport(text, code, [1], [1])


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    found = Others(str(tmp_path / "log" / "rank_1.log"))
    monkeypatch.setattr(rank_monitor, "current", lambda: found)
    monkeypatch.setattr(module, "_EXIT_DELAY", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    yield found
    signal.signal(signal.SIGTERM, before)


def test_completed_run_is_reported_as_done(others: Others) -> None:
    with reporting_failures():
        assert others.told == ["begin"]
    assert others.told == ["begin", "done"]


@pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM), EarlyExitError()])
def test_agreed_stop_is_not_a_failure(others: Others, error: BaseException) -> None:
    with pytest.raises(type(error)), reporting_failures():
        raise error
    assert others.told == ["begin", "done"]


def test_error_is_reported_with_its_line_and_its_traceback_is_written(others: Others) -> None:
    with pytest.raises(ValueError, match="twelve") as caught, reporting_failures():
        raise ValueError("twelve\nand more")
    number = caught.tb.tb_lineno
    assert others.told[1:] == [(f"ValueError: twelve\n  and more\n  at {_here(number)}", 1, others.path)]
    kept = Path(others.path).read_text()
    assert kept.startswith("Traceback (most recent call last):")
    assert kept.endswith("ValueError: twelve\nand more\n")


def _here(number: int) -> str:
    return f"{os.path.relpath(__file__)}:{number}"


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        (ArgumentError("no such file", key="data"), "no such file\n  key data", 2),
        (KeyboardInterrupt(), "KeyboardInterrupt", 130),
        (SystemExit(7), "SystemExit: 7", 7),
        (SystemExit("words"), "SystemExit: words", 1),
    ],
)
def test_failure_report_of_each_kind_of_error(others: Others, error: BaseException, text: str, code: int) -> None:
    with pytest.raises(type(error)), reporting_failures():
        raise error
    told, asked, log = others.told[1]
    assert told.startswith(text)
    assert asked == code
    assert bool(log) is not isinstance(error, ArgumentError)  # a user error needs no traceback


def test_error_of_another_rank_replaces_an_error_that_follows_from_it(others: Others) -> None:
    others.verdict = FailureReport("rank 0 on a failed\n  at my.py:3", 5, [0], [0])
    with pytest.raises(RankError, match=r"^rank 0 on a failed\n  at my.py:3$") as caught, reporting_failures():
        raise RuntimeError("connection reset")
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert report_failure(caught.value) == 5  # already known, so it is not reported again
    assert len(others.told) == 2


def test_sigterm_of_torchrun_is_ignored_during_the_report(others: Others) -> None:
    with pytest.raises(ValueError, match="twelve"), reporting_failures():
        raise ValueError("twelve")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_idle_monitor_reports_nothing(others: Others) -> None:
    others.at_work = False
    assert report_failure(ValueError("twelve")) is None
    assert others.told == []


def test_single_process_reports_nothing() -> None:
    with pytest.raises(ValueError, match="twelve"), reporting_failures():
        raise ValueError("twelve")
    assert report_failure(ValueError("twelve")) is None
    hook = sys.excepthook
    start_rank_monitor({"timeout": 3})
    assert sys.excepthook is hook


def test_rank_monitor_knows_the_iteration_during_a_run(others: Others, tmp_path: Path) -> None:
    class Run(SimpleNamespace):
        """A runner that supports weak references."""

    run: Any = Run(log_dir=str(tmp_path), rank=1, built={})
    others.last_checkpoint = str
    monitor_run(run)
    assert others.last_checkpoint is str
    assert others.iteration() is None  # before training
    run.train_loop = SimpleNamespace(iter=4, max_iters=5, in_progress=True)
    run.built["train_loop"] = run.train_loop
    assert others.iteration() == 5
    run.train_loop.iter = 5  # the validation after the last iteration
    assert others.iteration() == 5
    run.train_loop.in_progress = False
    assert others.iteration() is None
    del run
    assert others.iteration() is None
    assert others.path == str(tmp_path / "rank_1.log")


def test_first_rank_knows_the_last_checkpoint(others: Others, tmp_path: Path) -> None:
    class Run(SimpleNamespace):
        """A runner that supports weak references."""

    run: Any = Run(log_dir=str(tmp_path), rank=0, saver=SimpleNamespace(last=None))
    monitor_run(run)
    assert others.last_checkpoint() == ""
    run.saver.last = "work/iter_2.pth"
    assert others.last_checkpoint() == "work/iter_2.pth"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (None, "error: rank 0 died\n  the last checkpoint is a.pth; use --resume to continue from it"),
        (40, "error: rank 0 died\n  the last checkpoint is a.pth; use\n      --resume to continue from it"),
    ],
)
def test_failure_report_is_wrapped_for_the_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int | None, shown: str
) -> None:
    found: Any = SimpleNamespace()
    monkeypatch.setattr(rank_monitor, "start", lambda **_: found)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(module, "terminal_width", lambda stream: columns)
    start_rank_monitor(None)
    assert (
        found.wrap_text("error: rank 0 died\n  the last checkpoint is a.pth; use --resume to continue from it") == shown
    )


_HERE = Path(__file__)
_Seen = dict[str, tuple[str, bool, str]]


def _describe_here() -> tuple[str, bool, str]:
    return describe_stack([*walk_stack(sys._getframe(1))][::-1])


class _Looks(Hook):
    """Describes the stack in an event."""

    def __init__(self, seen: _Seen) -> None:
        self.seen = seen

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.seen["hook"] = _describe_here()


class _Looking(torch.autograd.Function):
    """An identity function that describes the stack in its backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, seen: _Seen) -> torch.Tensor:
        ctx.seen = seen
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        ctx.seen["backward"] = _describe_here()
        return gradients[0], None


class _LookingModel(ToyModel):
    def __init__(self, seen: _Seen) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str = "tensor") -> Any:
        self.seen[mode] = _describe_here()
        watched = _Looking.apply(inputs.requires_grad_(mode == "loss"), self.seen)  # type: ignore[no-untyped-call]
        return super().forward(watched, labels, mode)


class _LookingPoints(Points):
    def __init__(self, seen: _Seen) -> None:
        super().__init__()
        self.seen = seen

    def __getitem__(self, index: int) -> Any:
        self.seen["data"] = _describe_here()
        return super().__getitem__(index)


def test_stack_is_described_by_the_phase_and_the_hook(
    others: Others, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: _Seen = {}
    cfg = settings(tmp_path, by_epoch=False, custom_hooks=[_Looks(seen)], model=_LookingModel(seen))
    cfg["train_dataloader"]["dataset"] = _LookingPoints(seen)
    Runner(**cfg).train()
    assert {name: place[:2] for name, place in seen.items()} == {
        "hook": ("_Looks.before_train_iter", False),
        "data": ("data loading", False),
        "loss": ("training step", False),
        "backward": ("backward pass", True),
        "predict": ("evaluation", False),
    }
    assert {Path(place[2].rpartition(":")[0]).resolve() for place in seen.values()} == {_HERE.resolve()}


def _frame(file: str, line: int, name: str = "go") -> Any:
    return SimpleNamespace(f_code=compile("", file, "exec").replace(co_name=name), f_locals={}), line


def test_rank_in_a_collective_waits_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_current_run", None)
    engine, collectives = footplate.engine.train_loops.__file__, torch.distributed.distributed_c10d.__file__
    waiting = [
        _frame(engine, 3),
        _frame("/x/my.py", 7),
        _frame(collectives, 4, "wrapper"),
        _frame(collectives, 5, "all_reduce"),
    ]
    assert describe_stack(waiting) == ("start (all_reduce)", True, "/x/my.py:7")
    assert describe_stack([*waiting, _frame("/x/my.py", 9)]) == ("start", False, "/x/my.py:9")  # called by torch

import gc
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch.utils.data import DataLoader

from footplate import DATASETS, Hook
from footplate.engine.run.boundary import Boundary
from footplate.errors import DataError
from tests.footplate.engine.resumed_runs import assert_same, config, run, state
from tests.footplate.engine.signaled_runs import IDLE, Draw
from tests.support import Points, Witness


@DATASETS.register_module()
class Spoilt(Points):
    """Fails at one of its reads, in one of several ways, while the file that counts the reads exists."""

    def __init__(self, reads: str, at: int, way: str = "raise", **options: Any) -> None:
        super().__init__(**options)
        self.reads, self.at, self.way = Path(reads), at, way

    def __getitem__(self, index: int) -> Any:
        if self.reads.exists():
            with self.reads.open("ab", buffering=0) as file:
                file.write(b".")
                number = file.tell()  # the position after this mark, even if other workers have added marks since
            if number == self.at:
                self._fail()
        return super().__getitem__(index)

    def _fail(self) -> None:
        torch.rand(3)
        if self.way == "raise":
            raise OSError("cut short")
        if self.way == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.way == "leave":
            os._exit(0)
        time.sleep(60)


def spoilt(work_dir: Path, at: int, way: str = "raise", *, of: str = "train", **settings: Any) -> dict[str, Any]:
    """Returns the config of a run in which one read of the dataset fails while the file `reads` exists."""
    cfg = config(work_dir, **{"by_epoch": True, "by_iteration": 3, "accumulate": 2, **settings})
    found = cfg[f"{of}_dataloader"]
    found["dataset"].update(type="Spoilt", reads=str(work_dir.parent / "reads"), at=at, way=way)
    if way != "raise":
        found["num_workers"] = 1
    if way == "hang":
        found["timeout"] = 2
    return cfg


def failed(cfg: dict[str, Any], *hooks: Hook, **changes: Any) -> str:
    """Runs until a read fails, and returns the error message; afterwards reads succeed."""
    reads = Path(cfg["work_dir"]).parent / "reads"
    reads.touch()
    try:
        with pytest.raises(DataError) as caught:
            run(cfg, *hooks, **changes)
        return str(caught.value)
    finally:
        reads.unlink()
        del caught
        gc.collect()  # ends workers that the traceback keeps alive


def assert_goes_on(tmp_path: Path, cfg: dict[str, Any], told: str, done: Sequence[int]) -> None:
    """Asserts that a failed run is saved, reports this, and resumes as if it had never failed.

    Args:
        done: The iterations after which it may be saved.
    """
    path = tmp_path / "part/on_signal.pth"
    at = torch.load(path, weights_only=True)["meta"]["iter"]
    assert at in done
    note = f"  The run was saved after iteration {at}: {path}. Fix the cause and resume with --resume (resume=True)."
    assert note in told.splitlines()
    assert (tmp_path / "part/last_checkpoint").read_text() == str(path)
    whole = run({**cfg, "work_dir": str(tmp_path / "whole")}, Draw())
    witness = Witness()
    resumed = run(cfg, Draw(), witness, resume="auto")
    assert witness.when("before_train_iter")[0][0] == at
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(state(tmp_path / "part/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


READS: list[tuple[bool, int, int, Sequence[int]]] = [(True, 0, 17, [4]), (False, 2, 30, range(3, 8))]


@pytest.mark.parametrize(("by_epoch", "workers", "at", "done"), READS)
def test_run_is_saved_when_a_sample_cannot_be_read(
    tmp_path: Path, by_epoch: bool, workers: int, at: int, done: Sequence[int]
) -> None:
    """Workers prefetch, so they may reach the same sample some reads earlier or later."""
    cfg = spoilt(tmp_path / "part", at, by_epoch=by_epoch)
    cfg["train_dataloader"]["num_workers"] = workers
    told = failed(cfg, Draw())
    assert "of the dataset 'Spoilt' cannot be read: OSError: cut short" in told
    assert_goes_on(tmp_path, cfg, told, done)


def test_error_in_one_of_several_processes_says_that_the_run_was_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.engine.run.boundary.get_world_size", lambda: 2)
    runner = Mock(requests=IDLE)
    Boundary(runner).save_after_data_error(error := DataError("a sample"))
    assert error.notes == ("The run was NOT saved, because it has several processes.",)


class Compute(Hook):
    """Makes a step slow, so that a prefetching worker dies during it, between hooks of the same priority."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self._compute)

    def _compute(self, runner: Any, **arguments: Any) -> None:
        reads = Path(runner.work_dir).parent / "reads"
        until = time.monotonic() + 0.3
        while reads.exists() and time.monotonic() < until:
            sum(range(1000))


@pytest.mark.parametrize(
    ("way", "event"),
    [("die", "after_train_iter"), ("hang", "before_save_checkpoint")],
)
def test_run_is_saved_when_a_worker_dies(tmp_path: Path, way: str, event: str) -> None:
    """The worker may die while the run waits for it, or during an iteration, which is then completed."""
    cfg = spoilt(tmp_path / "part", 25, way)
    told = failed(cfg, Draw(), Compute(event))
    assert "data loader" in told
    assert_goes_on(tmp_path, cfg, told, range(3, 8))


def test_worker_that_dies_is_noticed_although_torch_lost_its_signal_handler(tmp_path: Path) -> None:
    """Torch installs its handler once per process, and other code may have removed it."""
    list(DataLoader(range(2), num_workers=1))  # type: ignore[arg-type]
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        assert "a data loader worker died" in failed(spoilt(tmp_path / "part", 25, "die"))
    finally:
        signal.signal(signal.SIGCHLD, before)


class Raise(Hook):
    """Fails at an event of an iteration."""

    def __init__(self, event: str, at: int, error: type[Exception] = DataError) -> None:
        self.at, self.error = at, error
        setattr(self, event, self._raise)

    def _raise(self, runner: Any, **arguments: Any) -> None:
        if runner.iter == self.at:
            raise self.error("a mistake of a hook")


EVENTS = [("after_train_iter", 6), ("after_val_iter", 4)]


@pytest.mark.parametrize(("event", "at"), EVENTS)
def test_run_is_not_saved_after_an_error_of_a_hook(tmp_path: Path, event: str, at: int) -> None:
    cfg = config(tmp_path, by_epoch=True)
    with pytest.raises(DataError) as caught:
        run(cfg, Raise(event, at))
    assert str(caught.value) == "a mistake of a hook"
    assert not (tmp_path / "on_signal.pth").exists()


def test_run_is_not_saved_after_an_error_in_a_validation(tmp_path: Path) -> None:
    assert "saved" not in failed(spoilt(tmp_path / "part", 11, of="val"))
    assert not (tmp_path / "part/on_signal.pth").exists()

"""Tests the phase of a run: that the loops set each phase, and what depends on it."""

import copy
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint
from footplate.data import data_wait
from footplate.engine import EVENTS, EpochBasedTrainLoop, IterBasedTrainLoop
from footplate.engine.hook import Phase
from footplate.registry import LOOPS
from tests.engine.test_signals import in_process
from tests.engine.test_state import config
from tests.support import PointAccuracy, Points, ToyModel, settings

Seen = dict[str, set[Phase]]


class Recorder:
    """Records the phase of a run at each of several places."""

    def __init__(self) -> None:
        self.seen: Seen = {}
        self.runner: Any = None

    def note(self, place: str) -> None:
        self.seen.setdefault(place, set()).add(self.runner.phase)


class RecordingHook(Hook):
    def __init__(self, recorder: Recorder) -> None:
        for event in EVENTS:
            setattr(self, event, lambda runner, event=event, **_: recorder.note(event))


class RecordingPoints(Points):
    def __init__(self, recorder: Recorder, place: str) -> None:
        super().__init__()
        self.recorder, self.place = recorder, place

    def __getitem__(self, index: int) -> Any:
        self.recorder.note(self.place)
        return super().__getitem__(index)


class RecordingModel(ToyModel):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = [recorder]

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str = "tensor") -> Any:
        self.recorder[0].note(mode)
        return super().forward(inputs, labels, mode)


class RecordingMetric(PointAccuracy):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        self.recorder.note("metric")
        return super().compute_metrics(results)


def recorded(work_dir: Path, *hooks: Hook, **changes: Any) -> Any:
    """Returns a run that records its phases in `runner.recorder.seen`."""
    recorder = Recorder()
    cfg = settings(work_dir, model=RecordingModel(recorder), val_evaluator=RecordingMetric(recorder), **changes)
    cfg["train_dataloader"]["dataset"] = RecordingPoints(recorder, "train data")
    cfg["val_dataloader"]["dataset"] = RecordingPoints(recorder, "validation data")
    runner: Any = Runner(**cfg)
    recorder.runner, runner.recorder = runner, recorder
    for hook in (RecordingHook(recorder), *hooks):
        runner.register_hook(hook)
    return runner


@pytest.mark.parametrize("by_epoch", [True, False])
def test_loops_set_each_phase(tmp_path: Path, by_epoch: bool) -> None:
    checkpoint = {"interval": -1, "save_last": False}
    runner = recorded(tmp_path, by_epoch=by_epoch, default_hooks={"checkpoint": checkpoint, "logger": None})
    runner.train()
    assert runner.phase is Phase.OTHER
    seen = runner.recorder.seen
    assert {place: phases for place, phases in seen.items() if phases != {Phase.OTHER}} == {
        "train data": {Phase.DATA_LOADING},
        "after_train_iter": {Phase.AFTER_STEP},
        "validation data": {Phase.EVALUATION_DATA_LOADING},
        "predict": {Phase.EVALUATION},
        "metric": {Phase.EVALUATION},
        **{event: {Phase.EVALUATION} for event in EVENTS if "_val" in event},
        "after_train_epoch": {Phase.AFTER_EPOCH},
    }


def recorder_of(loop: Any) -> Recorder:
    found: Recorder = loop.runner.recorder
    return found


@LOOPS.register_module()
class OwnIterationForPhases(EpochBasedTrainLoop):
    def run_iter(self, idx: int, data_batch: Any) -> None:
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1


@LOOPS.register_module()
class InheritedIterationForPhases(EpochBasedTrainLoop):
    def run_iter(self, idx: int, data_batch: Any) -> None:
        super().run_iter(idx, data_batch)
        recorder_of(self).note("after the inherited iteration")


@LOOPS.register_module()
class OwnEpochForPhases(EpochBasedTrainLoop):
    def run_epoch(self) -> None:
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
            recorder_of(self).note("in the epoch")
        self._epoch += 1


@LOOPS.register_module()
class OwnRunForPhases(IterBasedTrainLoop):
    def run(self) -> Any:
        self.runner.call_hook("before_train")
        while self._iter < self.max_iters:
            self.run_iter(next(self.dataloader_iterator))
            recorder_of(self).note("in the run")
        return self.runner.model


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("OwnIterationForPhases", {"loss": {Phase.CUSTOM_STEP}}),
        ("InheritedIterationForPhases", {"after the inherited iteration": {Phase.OTHER}}),
        ("OwnEpochForPhases", {"in the epoch": {Phase.OTHER}}),
        ("OwnRunForPhases", {"in the run": {Phase.OTHER}}),
    ],
)
def test_loops_that_override_methods_set_the_phases_of_an_iteration(tmp_path: Path, kind: str, more: Seen) -> None:
    length = {"max_iters": 8} if kind == "OwnRunForPhases" else {"max_epochs": 2}
    runner = recorded(tmp_path, by_epoch="max_epochs" in length, train_cfg={"type": kind, **length})
    runner.train()
    seen = runner.recorder.seen
    expected = {"before_train_iter": {Phase.OTHER}, "after_train_iter": {Phase.AFTER_STEP}, **more}
    assert {place: seen[place] for place in expected} == expected


class SaveAt(Hook):
    """Saves a checkpoint at an event of iteration 5 (counted from 0), or of the second epoch."""

    def __init__(self, event: str) -> None:
        setattr(self, event, self._save)

    def _save(self, runner: Any, **_: Any) -> None:
        if runner.iter in (5, 8) and not (Path(runner.work_dir) / "own.pth").exists():
            runner.save_checkpoint(runner.work_dir, "own.pth")


@pytest.mark.parametrize(
    ("event", "iteration", "epoch"),
    [
        ("before_train_iter", 5, 1),
        ("after_train_iter", 6, 1),
        ("before_train_epoch", 8, 2),
        ("after_train_epoch", 8, 2),
    ],
)
def test_saved_position_counts_the_completed_step_or_epoch(
    tmp_path: Path, event: str, iteration: int, epoch: int
) -> None:
    checkpoint = {"interval": -1, "save_last": False}
    Runner(**settings(tmp_path, default_hooks={"checkpoint": checkpoint}, custom_hooks=[SaveAt(event)])).train()
    loop = load_checkpoint(str(tmp_path / "own.pth"))["run"]["loop"]
    assert (loop["iter"], loop["epoch"]) == (iteration, epoch)


class Blocking(Points):
    """Blocks, or fails, at one of the samples of the main process or of a worker, after it has sent a stop request."""

    def __init__(self, at: int, stops: bool) -> None:
        super().__init__()
        self.at, self.stops = at, stops

    def __getitem__(self, index: int) -> Any:
        if index == self.at and self.stops:
            os.kill(os.getppid() if get_worker_info() else os.getpid(), signal.SIGTERM)
            time.sleep(60)
        if index == self.at:
            raise OSError("cut short")
        return super().__getitem__(index)


class ForeignLoader(DataLoader[Any]):
    """A loader whose batches footplate does not read itself."""


def foreign(work_dir: Path, *, stops: bool, workers: int) -> Runner:
    """Returns a run with torch's own loader, in which reading batch 2 (counted from 0) blocks or fails."""
    sections = settings(work_dir, by_epoch=False)
    sections["train_dataloader"] = ForeignLoader(
        Blocking(9, stops), batch_size=4, num_workers=workers, prefetch_factor=1 if workers else None
    )
    return Runner(**sections)


def test_stop_does_not_wait_for_a_worker_of_a_torch_loader(tmp_path: Path) -> None:
    def train() -> None:
        foreign(tmp_path, stops=True, workers=1).train()

    began = time.monotonic()
    assert in_process(train) == 143
    assert time.monotonic() - began < 20
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] in (1, 2)


@pytest.mark.parametrize("workers", [1])
def test_run_is_saved_when_a_torch_loader_fails(tmp_path: Path, workers: int) -> None:
    with pytest.raises(OSError, match="cut short") as caught:
        foreign(tmp_path, stops=False, workers=workers).train()
    assert getattr(caught.value, "__notes__", [""])[0].startswith("The run was saved after iteration 2: ")


@pytest.mark.parametrize("workers", [0, 1])
def test_waits_are_marked_only_while_data_is_read(tmp_path: Path, workers: int) -> None:
    marks: list[bool] = []

    class Marks(Hook):
        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            marks.append(data_wait.is_interruptible)

    class MarkedPoints(Points):
        def __getitem__(self, index: int) -> Any:
            assert get_worker_info() or data_wait.is_interruptible
            return super().__getitem__(index)

    cfg = copy.deepcopy(config(tmp_path, by_epoch=True, workers=workers))
    cfg["train_dataloader"]["dataset"] = MarkedPoints()
    runner = Runner(**cfg)
    runner.register_hook(Marks())
    runner.train()
    assert marks == [False] * 12

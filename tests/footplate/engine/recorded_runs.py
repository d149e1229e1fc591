"""Runs whose events, checkpoints and results are recorded as data. `python -m tests.footplate.engine.recorded_runs`.

The record shows what a change to the engine's structure must not change: the order of events, the position that hooks
read, the results, and that a checkpoint of the recorded version resumes. Update the record only if a promise changes.
"""

import json
import os
import shutil
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from footplate import LOOPS, Hook, Runner
from footplate.engine import BaseLoop
from footplate.engine.control.requests import Interrupted
from tests.footplate.distributed.processes import on_processes
from tests.footplate.engine.own_loops import BY_EPOCH, BY_ITERATION, iterate
from tests.footplate_openmmlab.first_generation.adapters.support import old_config
from tests.support import Points, Witness, loader, settings

FILE = Path(__file__).resolve().parents[2] / "data" / "recorded-runs.zip"
STOPPED_AT = 7


class StoppedError(Exception):
    """Ends a run within an epoch."""


class StopInStep(Hook):
    """Ends the run before the step of iteration 8, after the checkpoint of iteration 6 has been written."""

    priority = "LOWEST"

    def before_train_iter(self, runner: Any, **arguments: Any) -> None:  # type: ignore[override]
        if runner.iter == STOPPED_AT:
            runner.saver.wait()
            raise StoppedError


class Ask(Hook):
    """Sets an attribute of the training loop after an iteration."""

    def __init__(self, name: str, at: int) -> None:
        self.name, self.at = name, at

    def after_train_iter(self, runner: Any, **arguments: Any) -> None:  # type: ignore[override]
        if runner.iter + 1 == self.at:
            setattr(runner.train_loop, self.name, True)


class Fail(Hook):
    """Fails once, on an event of an iteration."""

    def __init__(self, event: str, at: int) -> None:
        self.at = at
        setattr(self, event, self._fail)

    def _fail(self, runner: Any, **arguments: Any) -> None:
        if runner.iter == self.at:
            self.at = -1
            raise StoppedError


class Send(Hook):
    """Sends a signal to the run, once, in the validation after iteration 4."""

    is_sent = False

    def after_val_iter(self, runner: Any, **arguments: Any) -> None:  # type: ignore[override]
        if runner.iter == 4 and not self.is_sent:
            self.is_sent = True
            os.kill(os.getpid(), signal.SIGTERM)


class LimitTime(Hook):
    """Makes the time limit end training after iteration 10, within an epoch."""

    def after_train_iter(self, runner: Any, **arguments: Any) -> None:  # type: ignore[override]
        runner.requests.local.time_limit = runner.iter == 9


class FailingModel(nn.Linear):
    """Fails once, in the forward pass of a training iteration."""

    passes = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passes += self.training
        if self.training and self.passes == 9:
            raise StoppedError
        return super().forward(inputs)


class Stream(torch.utils.data.IterableDataset[Any]):
    """Points without a length."""

    def __iter__(self) -> Iterator[Any]:
        points = Points(18, form="tuple", noise=0)
        return (points[index] for index in range(len(points)))


class Validate(Hook):
    """Validates by a call."""

    def after_train_epoch(self, runner: Any) -> None:
        runner.val()


@LOOPS.register_module()
class CountingLoop(BaseLoop):
    """Sets its own counters and calls all hooks, as loops of MMRazor do."""

    def __init__(self, runner: Any, dataloader: Any, max_epochs: int, val_interval: int = 1) -> None:
        super().__init__(runner, dataloader)
        self._max_epochs, self.val_interval = max_epochs, val_interval
        self._max_iters = max_epochs * len(self.dataloader)
        self._epoch = self._iter = 0

    @property
    def max_epochs(self) -> int:
        return self._max_epochs

    @property
    def max_iters(self) -> int:
        return self._max_iters

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def iter(self) -> int:
        return self._iter

    def run(self) -> None:
        self.runner.call_hook("before_train")
        while self._epoch < self._max_epochs:
            self.run_epoch()
            if self.runner.val_loop is not None and self._epoch % self.val_interval == 0:
                self.runner.val_loop.run()
        self.runner.call_hook("after_train")

    def run_epoch(self) -> None:
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        for idx, data_batch in enumerate(self.dataloader):
            self.run_iter(idx, data_batch)
        self.runner.call_hook("after_train_epoch")
        self._epoch += 1

    def run_iter(self, idx: int, data_batch: Any) -> None:
        iterate(self, idx, data_batch)


def _config(folder: Path, by_epoch: bool = True, **changes: Any) -> dict[str, Any]:
    checkpoint = {"checkpoint": {"by_epoch": False, "interval": 3, "save_best": "accuracy"}}
    model = {"type": "ToyModel", "dropout": 0.3}
    return {**settings(folder, by_epoch=by_epoch, model=model, default_hooks=checkpoint), **changes}


def _of_config(by_epoch: bool = True, hooks: Callable[[], list[Hook]] = list, **changes: Any) -> Callable[..., Runner]:
    def build(folder: Path, **options: Any) -> Runner:
        runner = Runner.from_cfg({**_config(folder, by_epoch, **changes), **options})
        for hook in hooks():
            runner.register_hook(hook)
        return runner

    return build


def _of_loop(kind: type, by_epoch: bool) -> Callable[..., Runner]:
    length = {"max_epochs": 3, "val_interval": 1} if by_epoch else {"max_iters": 12, "val_interval": 4}
    return _of_config(by_epoch, train_cfg={"type": kind.__name__, **length})


def _plain(head: type[nn.Linear] = nn.Linear, **changes: Any) -> Callable[..., Runner]:
    def build(folder: Path, **options: Any) -> Runner:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), head(8, 2))
        points = [torch.utils.data.DataLoader(Points(size, form="tuple"), batch_size=4) for size in (16, 8)]
        arguments: dict[str, Any] = {
            "train_dataloader": points[0],
            "val_dataloader": points[1],
            "loss": nn.CrossEntropyLoss(),
            "optim_wrapper": torch.optim.AdamW(model.parameters(), lr=0.05),
            "max_epochs": 3,
            "default_hooks": SAVING,
            "randomness": {"seed": 7},
            "log_level": "WARNING",
        }
        return Runner(model, str(folder), **{**arguments, **changes, **options})

    return build


def _of_old_config(**changes: Any) -> Callable[..., Runner]:
    def build(folder: Path, **options: Any) -> Runner:
        saves: dict[str, Any] = {"checkpoint_config": {"interval": 3, "by_epoch": False}}
        return Runner.from_cfg({**old_config(folder, **saves, **changes), **options})

    return build


SAVING = {"checkpoint": {"by_epoch": False, "interval": 3}}
BATCHES = Points(18, form="tuple", noise=0)
EMA = [{"type": "EMAHook", "momentum": 0.1}]
ACCUMULATING = {"optimizer": {"type": "AdamW", "lr": 0.05}, "accumulative_counts": 3, "clip_grad": {"max_norm": 1.0}}
INTERVALS = {"by_epoch": False, "max_iters": 12, "val_interval": 5, "dynamic_intervals": [(7, 2)]}
PLATEAU = {"type": "ReduceOnPlateauLR", "monitor": "accuracy", "rule": "greater", "patience": 1}
STEPS = {"by_epoch": True, "max_epochs": 3, "steps_per_epoch": 5}

RUNS: dict[str, Callable[..., Runner]] = {
    "epochs": _of_config(),
    "iterations": _of_config(False),
    "worker": _of_config(train_dataloader=loader(num_workers=1)),
    "iterations with a worker": _of_config(False, train_dataloader=loader(num_workers=1)),
    "accumulation": _of_config(optim_wrapper=ACCUMULATING),
    "accumulation by iterations": _of_config(False, optim_wrapper=ACCUMULATING),
    "averages": _of_config(custom_hooks=EMA),
    "averages by iterations": _of_config(False, custom_hooks=EMA),
    "dynamic intervals": _of_config(False, train_cfg=INTERVALS),
    "late validation": _of_config(train_cfg={"by_epoch": True, "max_epochs": 3, "val_begin": 2, "val_interval": 2}),
    "no validation": _of_config(val_dataloader=None, val_cfg=None, val_evaluator=None, default_hooks=SAVING),
    "virtual epochs": _of_config(train_cfg=STEPS),
    "endless": _of_config(False, train_dataloader=loader(sampler={"type": "InfiniteSampler", "shuffle": True})),
    "last batch is short": _of_config(train_dataloader=loader(18)),
    "plateau": _of_config(param_scheduler=PLATEAU),
    "losses of validation": _of_config(val_cfg={"loss": True}),
    "stop": _of_config(hooks=lambda: [Ask("stop_training", 9)]),
    "stop by iterations": _of_config(False, hooks=lambda: [Ask("stop_training", 9)]),
    "validation on request": _of_config(hooks=lambda: [Ask("validation_requested", 6)]),
    "validation on request by iterations": _of_config(False, hooks=lambda: [Ask("validation_requested", 6)]),
    "validation by a hook": _of_config(hooks=lambda: [Validate()]),
    "early stopping": _of_config(
        custom_hooks=[{"type": "EarlyStoppingHook", "monitor": "accuracy", "patience": 1}],
        val_evaluator={"type": "Told", "values": {"accuracy": [3.0, 2.0, 1.0, 0.0]}},
    ),
    "plain module": _plain(),
    "plain module by iterations": _plain(max_epochs=None, max_iters=12),
    "failing model": _plain(FailingModel),
    "batches in a list by iterations": _plain(
        max_epochs=None, max_iters=12, train_dataloader=list(torch.utils.data.DataLoader(BATCHES, batch_size=4))
    ),
    "stream": _plain(
        max_epochs=None, max_iters=12, train_dataloader=torch.utils.data.DataLoader(Stream(), batch_size=4)
    ),
    "stop in a validation": _of_config(hooks=lambda: [Send()]),
    "stop in a validation by iterations": _of_config(False, hooks=lambda: [Send()]),
    "time limit": _of_config(hooks=lambda: [LimitTime()]),
    "failing hook of an iteration": _of_config(hooks=lambda: [Fail("after_train_iter", 8)]),
    "failing hook by iterations": _of_config(False, hooks=lambda: [Fail("after_train_iter", 7)]),
    "failing hook of an epoch": _of_config(hooks=lambda: [Fail("after_train_epoch", 8)]),
    "failing hook of an own loop": _of_config(
        train_cfg={"type": "WholeRun", "max_epochs": 3}, hooks=lambda: [Fail("after_train_iter", 9)]
    ),
    "first generation": _of_old_config(evaluation={"interval": 1}),
    "first generation by iterations": _of_old_config(by_epoch=False, evaluation={"interval": 4}),
    "workflow": _of_old_config(workflow=[("train", 1), ("val", 1)]),
    **{kind.__name__: _of_loop(kind, True) for kind in BY_EPOCH},
    **{kind.__name__: _of_loop(kind, False) for kind in BY_ITERATION},
    "own counters": _of_config(train_cfg={"type": "CountingLoop", "max_epochs": 3}),
}


# Runs of two ranks.
RUNS_OF_RANKS: dict[str, Callable[..., Runner]] = {
    "two ranks": _of_config(launcher="pytorch", train_dataloader=loader(batch_size=2)),
    "two ranks by iterations": _of_config(False, launcher="pytorch", train_dataloader=loader(batch_size=2)),
}


class Positions(Witness):
    """Keeps every event with all numbers of the position at that time."""

    def row(self, event: str, runner: Any) -> tuple[Any, ...]:
        return (event, runner.iter, runner.epoch, *runner.completed)


def record(build: Callable[..., Runner], folder: Path, **options: Any) -> dict[str, Any]:
    """Trains a run, again if it fails, and returns its events, with iteration and epoch, and its results."""
    runner = build(folder, **options)
    witness = Positions()
    runner.register_hook(witness)
    try:
        runner.train()
    except (Interrupted, StoppedError):
        witness.seen.append(witness.row("failed", runner))
        runner.train()
    weights = torch.cat([each.detach().flatten() for each in runner.model.parameters()]).tolist()
    rows = [{key: value for key, value in row.items() if "time" not in key} for row in runner.history]
    return {"events": [list(each) for each in witness.seen], "weights": weights, "rows": rows}


def stopped(build: Callable[..., Runner], folder: Path) -> Path:
    """Ends a run within an epoch or in a validation, and returns its newest checkpoint."""
    runner = build(folder)
    runner.register_hook(StopInStep())
    with suppress(StoppedError, Interrupted):
        runner.train()
    path = folder / "on_signal.pth"
    return path if path.exists() else folder / "iter_6.pth"


def whole_and_resumed(build: Callable[..., Runner], folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Records a run, and one that resumes from a checkpoint."""
    whole = record(build, folder / "whole")
    return {"whole": whole, "resumed": record(build, folder / "resumed", resume=True, load_from=str(checkpoint))}


def of_ranks(name: str, folder: Path, checkpoint: Path) -> dict[str, Any]:
    """Records a run of two ranks. Returns what the second one has seen."""
    found: dict[str, Any] = on_processes(2, whole_and_resumed, RUNS_OF_RANKS[name], folder, checkpoint, timeout=300)[1]
    return found


def main() -> None:
    """Writes the record."""
    with zipfile.ZipFile(FILE, "w", zipfile.ZIP_LZMA) as archive:
        for name, build in {**RUNS, **RUNS_OF_RANKS}.items():
            folder = Path(tempfile.mkdtemp())
            if name in RUNS:
                checkpoint = stopped(build, folder / "part")
            else:
                checkpoint = on_processes(2, stopped, build, folder / "part")[0]
            checkpoint = Path(shutil.copy(checkpoint, folder))
            shutil.rmtree(folder / "part")  # the test has no best checkpoint either
            archive.writestr(f"{name}.pth", checkpoint.read_bytes())
            found = whole_and_resumed(build, folder, checkpoint) if name in RUNS else of_ranks(name, folder, checkpoint)
            archive.writestr(f"{name}.json", json.dumps(found))
            shutil.rmtree(folder)
            print(name, checkpoint.name, *(len(part["events"]) for part in found.values()))


if __name__ == "__main__":
    main()

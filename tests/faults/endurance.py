"""The row of a long run: memory and the calls of an iteration stay constant after a warm-up."""

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from torch import nn

from footplate import BaseModel, Hook, Run, Runner
from tests.faults.processes import end, fork
from tests.faults.row import Fault, Finding, Trial

_BATCHES = 64
_MARKS = 100  # per run
_SAVES = 1_000
_WINDOW = 100  # iterations whose calls are counted
_MOST_MB = 2.0
_MOST_KEPT_OBJECTS = 0.5  # per iteration: the slope over all marks; histories buffer up to 1,024 values
_MAXIMUM_MORE_CALLS = 5


class TinyModel(BaseModel):
    """A model with layers 16-16-2."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str = "tensor") -> Any:
        scores = self.layers(inputs)
        return {"loss": nn.functional.cross_entropy(scores, labels)} if mode == "loss" else scores


class Meter(Hook):
    """Records memory, open files, time and calls of an iteration, in the middle of each interval.

    Iterations whose time grows call more and more functions. Unlike times, their number does not depend on what else
    the machine does.

    Args:
        path: The output file, with one line of JSON per mark.
        every: The number of iterations between two marks.
    """

    priority = "HIGHEST"

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self._calls = 0
        self._since = self._time = 0.0

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Times 50 iterations, and then counts the calls of 50 iterations."""
        place = runner.iter % self.every - self.every // 2
        if place == 0:
            self._since = time.thread_time()
        elif place == _WINDOW:
            self._time = (time.thread_time() - self._since) / _WINDOW
            self._calls = 0
            sys.setprofile(self._count)
        elif place == 2 * _WINDOW:
            sys.setprofile(None)
            self._note(runner.iter + 1)

    def _count(self, frame: FrameType, event: str, argument: Any) -> None:
        self._calls += event in ("call", "c_call")

    def _note(self, iteration: int) -> None:
        mark = {
            "process": os.getpid(),
            "iter": iteration,
            "files": len(os.listdir("/proc/self/fd")),
            "MB": psutil.Process().memory_full_info().uss / 1e6,
            "objects": sys.getallocatedblocks(),
            "us": 1e6 * self._time,
            "calls": self._calls / _WINDOW,
        }
        with self.path.open("a") as file:
            file.write(json.dumps(mark) + "\n")


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(4, 16, generator=generator), torch.randint(0, 2, (4,), generator=generator))
        for _ in range(_BATCHES)
    ]


def begin_endurance(folder: Path) -> Trial:
    """Prepares a trial whose seed is the number of iterations; if interrupted, it resumes from its last checkpoint."""

    def trial(seed: int, fault: Fault | None) -> Finding:
        name = f"{seed}-{fault.__name__}" if fault else str(seed)
        place = folder / name
        place.mkdir(exist_ok=True)

        def work() -> int:
            if fault is not None:
                fault()
            _train(place, seed)
            return 0

        code = end(fork(work, place / "log"), patience=3600.0)
        if code:
            return Finding(f"ended with {code}, see {place / 'log'}")
        return judged(place / "marks.jsonl")

    return trial


def _train(place: Path, iterations: int) -> None:
    torch.manual_seed(0)
    # Frequent saves reach their full size, with full histories, before memory is first compared.
    checkpoint = {"by_epoch": False, "interval": _SAVES, "max_keep_ckpts": 2}
    runner = Runner(
        model=TinyModel(),
        work_dir=str(place),
        train_dataloader=_batches(),
        train_cfg={"by_epoch": False, "max_iters": iterations},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 1e-3, "momentum": 0.9}},
        param_scheduler={
            "type": "LinearLR",
            "start_factor": 1.0,
            "end_factor": 0.5,
            "end": iterations,
            "by_epoch": False,
        },
        default_hooks={"checkpoint": checkpoint},
        custom_hooks=[Meter(place / "marks.jsonl", max(iterations // _MARKS, 500))],
        randomness={"seed": 0},
        log_level="WARNING",
        resume=True,
    )
    runner.train()


def judged(path: Path) -> Finding:
    """Compares the first marks after a warm-up with the last ones; memory only within one process."""
    marks = [json.loads(line) for line in path.read_text().splitlines()]
    marks = list({mark["iter"]: mark for mark in marks}.values())  # after a resume some marks are repeated
    warm_up = min(10_000, marks[-1]["iter"] // 2)
    later = [mark for mark in marks if mark["iter"] >= warm_up]
    # Something that happens every 1,000 iterations adds calls to every second mark.
    calls = [statistics.mean(mark["calls"] for mark in part) for part in (later[:4], later[-4:])]
    own = [mark for mark in later if mark["process"] == later[-1]["process"]]
    figures = {
        "count": later[-1]["iter"],
        **{f"MB at {at}": mark["MB"] for at, mark in (("first", own[0]), ("last", own[-1]))},
        "objects kept an iteration": _slope(own, "objects"),
        **{"us at first": later[0]["us"], "us at last": later[-1]["us"]},
        **{"calls at first": calls[0], "calls at last": calls[1]},
        "open files": later[-1]["files"],
    }
    wrong = _kept(own, figures)
    if calls[1] > calls[0] + _MAXIMUM_MORE_CALLS:
        wrong.append(f"an iteration has {calls[1]:.0f} calls instead of {calls[0]:.0f}")
    if later[-1]["files"] > later[0]["files"]:
        wrong.append("more files are open")
    return Finding("; ".join(wrong), figures)


def _kept(own: Sequence[Mapping[str, float]], figures: Mapping[str, float]) -> list[str]:
    """Reports the growth of the memory of the process and of the number of its objects."""
    wrong, grown = [], own[-1]["MB"] - own[0]["MB"]
    if grown > _MOST_MB:
        wrong.append(f"memory grew by {grown:.1f} MB from iteration {own[0]['iter']} to {own[-1]['iter']}")
    kept = figures["objects kept an iteration"]
    if kept > _MOST_KEPT_OBJECTS:
        wrong.append(f"each iteration keeps {kept:.2f} objects")
    return wrong


def _slope(marks: Sequence[Mapping[str, float]], key: str) -> float:
    """Returns the growth per iteration, the slope of a linear fit through all marks."""
    if len(marks) < 2:
        return 0.0
    return statistics.linear_regression([each["iter"] for each in marks], [each[key] for each in marks]).slope


def leak() -> None:
    """Leaks a kilobyte in each iteration."""
    kept: list[bytearray] = []
    whole = Meter.before_train_iter

    def keep(self: Meter, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        kept.append(bytearray(1024))
        whole(self, runner, batch_idx, data_batch)

    Meter.before_train_iter = keep  # type: ignore[method-assign]


def slow_down() -> None:
    """Makes each step slightly slower than the previous one: it looks at a history that grows."""
    from footplate.optim import OptimWrapper

    whole, steps = OptimWrapper.update_params, [0]

    def update(self: Any, *args: Any, **kwargs: Any) -> None:
        steps[0] += 1
        whole(self, *args, **kwargs)
        for _ in range(steps[0] // 100):
            abs(1)

    OptimWrapper.update_params = update  # type: ignore[method-assign]

"""How long a run takes to end after a signal, by what it is doing, and what a resume then gives.

    python -m tests.faults.stops [--seconds 5] [--moments step,metric]

Each moment takes `--seconds`. Prints the table of docs/fault-tests.md.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from footplate import DATASETS, METRICS, MODELS, Hook, Runner
from footplate.checkpoint import saver
from footplate.engine.control.requests import ON_REQUEST
from footplate.interrupts import StopSignal
from tests.faults.processes import end, fork
from tests.faults.runs import first_difference, outcome
from tests.support import PointAccuracy, Points, ToyModel, free_port, loader, settings

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Where the run rings the bell, at which call there, and the changes to its config.
MOMENTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "a training step": ("loss", 6, {}),
    "a step that accumulates gradients": ("loss", 6, {"accumulate": 4}),
    "waiting for data": ("read", 22, {}),
    "a worker reads a sample": ("read in a worker", 6, {"workers": 1}),
    "validation": ("predict", 4, {}),
    "test-time augmentation": ("view", 8, {"views": 3}),
    "a metric": ("compute", 2, {}),
    "compiling the model": ("compile", 1, {"compile": True}),
    "reading the first batch": ("read", 1, {}),
    "preflight": ("predict", 1, {"preflight": True}),
    "a save": ("write", 2, {}),
    "a hook": ("hook", 6, {}),
    "between two epochs": ("epoch", 2, {}),
    "a step of the second rank": ("loss of rank 1", 3, {"ranks": 2}),
    "a worker's imports": ("import", 1, {"workers": 1, "spawned": True}),
}
_calls: dict[str, int] = {}


def ring(place: str) -> None:
    """Counts a call. At the call of the moment, tells the harness, and then takes long, once in all processes."""
    wanted, at, seconds, bell = os.environ["FOOTPLATE_STOPS"].split("|")
    _calls[place] = _calls.get(place, 0) + 1
    if place == wanted and _calls[place] == int(at) and not os.path.exists(bell):
        Path(bell).write_text(str(os.getpid()))
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            time.sleep(0.01)


@DATASETS.register_module()
class StopPoints(Points):
    """Points that ring when they are read, or when a spawned worker receives them."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.process = os.getpid()

    def __getitem__(self, index: int) -> Any:
        is_worker = torch.utils.data.get_worker_info() is not None
        ring("read in a worker" if is_worker else "read")
        return super().__getitem__(index)

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)
        if self.process != os.getpid():
            ring("import")


@MODELS.register_module()
class StopModel(ToyModel):
    """Rings at its passes, of which it may predict on several views."""

    views = 1

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        if not torch.compiler.is_compiling():
            ring(mode if os.environ.get("RANK", "0") == "0" else f"{mode} of rank {os.environ['RANK']}")
            for _ in range(self.views if mode == "predict" else 0):
                ring("view")
        return super().forward(inputs, labels, mode)


@METRICS.register_module()
class StopMetric(PointAccuracy):
    """Rings when it is computed."""

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        ring("compute")
        return super().compute_metrics(results)


class StopHook(Hook):
    """Rings after iterations and epochs, and counts the events of validations, which is its state."""

    def __init__(self) -> None:
        self.count = 0

    def before_val(self, runner: Any) -> None:
        self.count += 1

    def after_val_iter(self, runner: Any, **arguments: Any) -> None:  # type: ignore[override]
        self.count += 1

    def after_train_iter(self, runner: Any, **arguments: Any) -> None:  # type: ignore[override]
        ring("hook")

    def after_train_epoch(self, runner: Any) -> None:
        ring("epoch")

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


def _compile(graph: Any, inputs: Any) -> Any:
    ring("compile")
    return graph.forward


def _train(folder: Path, result: Path, changes: dict[str, Any], start: dict[str, Any]) -> int:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # as the command does
    cfg = settings(folder, log_level="ERROR", **start)
    workers: dict[str, Any] = {"num_workers": changes.get("workers", 0)}
    if "spawned" in changes:
        workers |= {"multiprocessing_context": "spawn", "persistent_workers": True}
    cfg["train_dataloader"] = loader(16, **workers)
    cfg["train_dataloader"]["dataset"]["type"] = "StopPoints"
    cfg["model"] = {"type": "StopModel", "dropout": 0.3}
    cfg["val_evaluator"] = {"type": "StopMetric"}
    cfg["optim_wrapper"]["accumulative_counts"] = changes.get("accumulate", 1)
    cfg["default_hooks"] = {"logger": None, "checkpoint": {"by_epoch": True, "interval": 1}}
    cfg["preflight"] = "preflight" in changes
    cfg["launcher"] = "pytorch" if "ranks" in changes else "none"
    if "compile" in changes:
        cfg["compile"] = {"backend": _compile}
    commit = saver.commit_checkpoint

    def slow_commit(*arguments: Any) -> None:
        ring("write")
        commit(*arguments)

    saver.commit_checkpoint = slow_commit  # type: ignore[assignment]
    StopModel.views = changes.get("views", 1)
    runner = Runner(**cfg)
    runner.register_hook(StopHook())
    try:
        runner.train()
    except StopSignal as error:  # in the preflight check
        return error.exit_code
    if not runner.rank:
        found = outcome(runner)
        found["hooks"] = [hook.state_dict() for hook in runner.hooks if isinstance(hook, StopHook)]
        torch.save(found, result)
    return 0


def _start(folder: Path, result: Path, changes: dict[str, Any], **start: Any) -> list[int]:
    """Starts the ranks of a run and returns their process ids."""
    ranks = changes.get("ranks", 1)
    port = free_port()

    def rank(number: int) -> Callable[[], int]:
        def work() -> int:
            if ranks > 1:
                names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
                values = (number, number, ranks, "127.0.0.1", port)
                os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})
            return _train(folder, result, changes, start)

        return work

    return [fork(rank(number), result.with_suffix(".log")) for number in range(ranks)]


def _end(processes: list[int]) -> int:
    return [end(process) for process in processes][-1]


def measure(name: str, number: int, seconds: float, place: Path, whole: dict[str, Any]) -> tuple[float, int, str]:
    """Sends a signal at a moment. Returns the seconds until the end or the save, the exit code, and the outcome."""
    where, at, changes = MOMENTS[name]
    bell, folder = place / "bell", place / "run"
    os.environ["FOOTPLATE_STOPS"] = f"{where}|{at}|{seconds}|{bell}"
    processes = _start(folder, place / "told.pt", changes)
    until = time.monotonic() + 120
    while not bell.exists() and time.monotonic() < until:
        time.sleep(0.005)
    if not bell.exists():
        raise RuntimeError(f"the run never reaches '{name}'")
    time.sleep(0.3)
    begun = time.monotonic()
    os.kill(processes[-1], number)
    saved = folder / ON_REQUEST
    if number == signal.SIGUSR1:
        while not saved.exists() and os.waitid(os.P_PID, processes[0], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.005)
        took = time.monotonic() - begun
        code = _end(processes)
        if not saved.exists():
            return took, code, "ignored"
    else:
        code = _end(processes)
        took = time.monotonic() - begun
    start = {"work_dir": str(folder), "resume": True}
    if number == signal.SIGUSR1:
        start = {"work_dir": str(place / "again"), "resume": True, "load_from": str(saved)}
    result = place / "resumed.pt"
    if _end(_start(Path(start.pop("work_dir")), result, changes, **start)):  # type: ignore[arg-type]
        return took, code, f"failed, see {result.with_suffix('.log')}"
    return took, code, first_difference(torch.load(result, weights_only=False), whole) or "equal"


def main() -> int:
    """Prints the table, and returns 1 if a resumed run is not equal."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="the duration of each moment")
    parser.add_argument("--moments", default=",".join(MOMENTS), help="some of: %(default)s")
    arguments = parser.parse_args()
    import torch._dynamo  # slow, and not needed in workers

    torch.set_num_threads(1)
    wrong = 0
    print("| the signal arrives during | SIGTERM | SIGINT | SIGUSR1 | resumed |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(arguments.moments.split(",")):
            base = Path(folder) / str(place)
            base.mkdir()
            os.environ["FOOTPLATE_STOPS"] = f"|0|0|{base / 'bell'}"
            if code := _end(_start(base / "whole", base / "whole.pt", MOMENTS[name][2])):
                raise RuntimeError(f"'{name}' does not even run alone: {code}: {(base / 'whole.log').read_text()}")
            whole = torch.load(base / "whole.pt", weights_only=False)
            cells, outcomes = [], []
            for number in SIGNALS:
                (base / str(number)).mkdir()
                took, code, found = measure(name, number, arguments.seconds, base / str(number), whole)
                ended = "" if code in (0, 128 + number, -number) else f", exit code {code}"
                cells.append("-" if found == "ignored" else f"{took:.1f} s{ended}")
                outcomes.append(found)
            wrong += any(found not in ("equal", "ignored") for found in outcomes)
            equal = "equal" if set(outcomes) <= {"equal", "ignored"} else "; ".join(outcomes)
            print(f"| {name} | {' | '.join(cells)} | {equal} |", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Compares the training step of a ResNet-50 on a GPU between footplate, a handwritten loop, mmengine and Lightning.

    python -m benchmarks.engines.gpu [--engines NAME ...] [--rounds N] [--batch N] [--size N] [--environments]
    python -m benchmarks.engines.gpu --device cpu --width 8 --size 64 --batch 8 --iterations 150    (to try it)

Settings: bfloat16 on a GPU, channels_last, fused AdamW, batches in device memory; plain and compiled. Engines
alternate, each measurement in a separate process. Between two log lines, a profiler counts copies to the host. Engines
that are not installed are skipped; `--environments` uses the environments that `make bench` created. The exit code is 1
if footplate runs at less than 0.99 of the speed of the handwritten loop, or copies anything. On a CPU, reads of values
are counted but allowed, as those of the optimizer's step counts and of logged losses.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines import environments
from benchmarks.engines.job import LOG_EVERY, Job, Task
from benchmarks.engines.models import resnet50
from benchmarks.engines.stamps import Stamps
from benchmarks.engines.tables import plain

_GOAL = 0.99
_LEAST = 3 * LOG_EVERY  # iterations: the first block is the warm-up, the last one is profiled
_COPIES = ("aten::item", "aten::_local_scalar_dense", "Memcpy DtoH")
_ENGINES = ("bare", "footplate", "mmengine", "lightning")


class _Watch:
    """Measures the time between two forward passes, and counts copies to the host between two log lines."""

    def __init__(self, iterations: int, device: str) -> None:
        self.stamps = Stamps(iterations)
        self._device = device
        self._marks: list[float] = []
        self._profiler: Any = None
        self.copies = 0
        self._end = (iterations // LOG_EVERY - 1) * LOG_EVERY
        self._begin = LOG_EVERY
        actions: dict[int, Callable[[], None]] = {self._begin: self._mark, self._end: self._mark}
        actions |= {self._end + 5: self._start_profile, self._end + LOG_EVERY - 10: self._stop_profile}
        self.stamps.actions = actions

    @property
    def rate(self) -> float:
        """The number of steps per second."""
        return (self._end - self._begin) / (self._marks[1] - self._marks[0])

    def _mark(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()
        self._marks.append(time.perf_counter())

    def _start_profile(self) -> None:
        kinds = [torch.profiler.ProfilerActivity.CPU]
        if self._device == "cuda":
            kinds.append(torch.profiler.ProfilerActivity.CUDA)
        self._profiler = torch.profiler.profile(activities=kinds)
        self._profiler.start()

    def _stop_profile(self) -> None:
        self._profiler.stop()
        self.copies = sum(1 for event in self._profiler.events() if event.name.startswith(_COPIES))


def measure(engine: str, chosen: argparse.Namespace, *, compiled: bool) -> dict[str, float]:
    """Trains with one engine; returns steps per second and the number of copies in 35 iterations."""
    job = Job(iterations=chosen.iterations, optimizer={"lr": 1e-3, "fused": True}, amp=chosen.device == "cuda")
    watch = _Watch(chosen.iterations, chosen.device)
    made: Any = resnet50(chosen.width)
    network: Any = made.to(chosen.device, memory_format=torch.channels_last)
    if compiled:
        network = torch.compile(network)
    shape = (chosen.batch, 3, chosen.size, chosen.size)
    batches = []
    for _ in range(4):
        images = torch.randn(shape).to(chosen.device, memory_format=torch.channels_last)
        batches.append((images, torch.randint(0, 1000, shape[:1]).to(chosen.device)))
    driver = importlib.import_module(f"benchmarks.engines.drivers.{engine}")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        task = Task(job, Path(folder), watch.stamps, network=network, batches=batches, device=chosen.device)
        driver.train(task)
    return {"rate": watch.rate, "copies": float(watch.copies)}


def _asked(engine: str, chosen: argparse.Namespace, *, compiled: bool) -> dict[str, float] | str:
    """Runs a measurement in a separate process; returns its result or the error message."""
    python = str(environments.python_of(engine)) if chosen.environments else sys.executable
    given = [f"--{name}={getattr(chosen, name)}" for name in ("device", "batch", "size", "width", "iterations")]
    command = [python, "-m", "benchmarks.engines.gpu", "--one", engine, *given, *(["--compiled"] if compiled else [])]
    variables = {
        **environments.variables(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count()),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no word"])[-1]
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(chosen: argparse.Namespace) -> bool:
    """Measures all engines alternately and prints a table; returns whether footplate meets its goals."""
    rows, met = [], True
    for mode in chosen.modes:
        compiled = mode == "compiled"
        found: dict[str, list[dict[str, float]]] = {engine: [] for engine in chosen.engines}
        for _ in range(chosen.rounds):
            for engine in list(found):
                answer = _asked(engine, chosen, compiled=compiled)
                if isinstance(answer, str):
                    print(f"{engine} is left out: {answer}")
                    del found[engine]
                else:
                    found[engine].append(answer)
                    print(f"{mode} {engine}: {answer['rate']:.2f} steps/s", file=sys.stderr, flush=True)
        if "bare" not in found:
            return False
        for engine, answers in found.items():
            pairs = zip(answers, found["bare"], strict=False)
            share = statistics.median(one["rate"] / other["rate"] for one, other in pairs)
            copies = max(each["copies"] for each in answers)
            rate = statistics.median(each["rate"] for each in answers)
            rows.append([mode, engine, f"{rate:.2f}", f"{share:.3f}", f"{copies:.0f}"])
            stays = not copies or chosen.device == "cpu"
            met = met and (engine != "footplate" or (share >= _GOAL and stays))
    print(plain(["", "engine", "steps/s", "of the bare loop", "copies in 35 steps"], rows))
    return met


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=_ENGINES, default=list(_ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--width", type=int, default=64, help="channels of the first layer; 64 is a ResNet-50")
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--modes", nargs="+", choices=("plain", "compiled"), default=["plain", "compiled"])
    parser.add_argument("--environments", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--compiled", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.iterations < _LEAST:
        parser.error(f"--iterations {chosen.iterations}: at least {_LEAST} are needed to warm up, time and profile")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here; --device cpu tries the script")
        return 2
    if chosen.one:
        out = os.fdopen(os.dup(1), "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print(json.dumps(measure(chosen.one, chosen, compiled=chosen.compiled)), file=out, flush=True)
        return 0
    return int(not compare(chosen))


if __name__ == "__main__":
    sys.exit(main())

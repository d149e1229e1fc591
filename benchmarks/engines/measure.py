"""Measures in the environment of one engine. Reads one request per line, and answers with a line of JSON.

Requests: `{"case": NAME, "quick": false, "profile": false, "began": SECONDS}`. The output of the engine is discarded.
"""

import cProfile
import importlib
import importlib.metadata
import io
import itertools
import json
import os
import platform
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.engines import small_config
from benchmarks.engines.case import Case
from benchmarks.engines.cases import CASES
from benchmarks.engines.job import LOG_EVERY, Job, Task
from benchmarks.engines.stamps import Stamps

_MODULES = {"onedl": "mmengine"}
_DISTRIBUTIONS = {
    "ignite": "pytorch-ignite",
    "mmengine": "mmengine",
    "onedl": "onedl-mmengine",
    "lightning": "lightning",
    "transformers": "transformers",
}
_EARLY, _LATE, _LAST = 1_000, 100_000, 1_000_000
_WINDOW = 10_000
_STAMPED = ("train", "long", "validate")
Figures = dict[str, float]


class Request:
    """A measurement: a case, the driver of an engine, and a folder."""

    def __init__(
        self, case: Case, engine: str, folder: Path, *, quick: bool, began: float, profile: cProfile.Profile | None
    ) -> None:
        self.case, self.folder, self.quick, self.began, self.profile = case, folder, quick, began, profile
        self.driver: Any = importlib.import_module(f"benchmarks.engines.drivers.{_MODULES.get(engine, engine)}")
        self.job: Job = case.job_of(engine, quick=quick)

    def task(self, memory_passes: tuple[int, ...] = (), *, runs: int = 1) -> Task:
        stamps = Stamps(runs * self.job.iterations, memory_passes)
        if self.profile is not None:
            stamps.actions[self.warm] = self.profile.enable
            stamps.actions[self.job.iterations - 1] = self.profile.disable
        return Task(self.job, self.folder, stamps)

    @property
    def warm(self) -> int:
        """The number of warm-up passes."""
        return max(LOG_EVERY, self.job.iterations // 10 // LOG_EVERY * LOG_EVERY)


def train(request: Request) -> Figures:
    task = request.task()
    request.driver.train(task)
    return {"us": task.stamps.block_us(request.warm, request.job.iterations, LOG_EVERY)}


def long(request: Request) -> Figures:
    end = request.job.iterations
    early, late = (min(_EARLY, end // 10), min(_LATE, end) - 1)
    window = min(_WINDOW, end // 4)
    task = request.task((early, late))
    request.driver.train(task)
    stamps = task.stamps
    found = {
        "us_start": stamps.block_us(early, early + window, LOG_EVERY),
        "us_100k": stamps.block_us(late - window, late, LOG_EVERY),
        "growth_mb": stamps.memory[late] - stamps.memory[early],
    }
    if end >= _LAST:
        found["us_1m"] = stamps.block_us(end - window, end, LOG_EVERY)
    return found


def validate(request: Request) -> Figures:
    names = {"us": "validate", "us_inference": "validate_in_inference_mode"}
    ways = {figure: getattr(request.driver, name) for figure, name in names.items() if hasattr(request.driver, name)}
    seconds: dict[str, list[float]] = {figure: [] for figure in ways}
    for _ in range(3):
        for figure, way in ways.items():
            seconds[figure].append(way(request.task(runs=2)))
    return {figure: statistics.median(taken) / request.job.iterations * 1e6 for figure, taken in seconds.items()}


def segment(request: Request) -> Figures:
    from benchmarks.engines.segmentation import Scenes

    job = request.job
    interval = 0 if request.case.name == "waiting" else 100
    iterations = request.case.quick if request.quick else job.iterations
    scenes = Scenes(
        request.folder,
        iterations=iterations,
        val_interval=min(interval, iterations),
        workers=job.workers or 0,
        began=request.began,
    )
    request.driver.segment(scenes)
    found = scenes.figures()
    if interval and not request.quick and not scenes.has_reached:
        raise RuntimeError(f"mIoU {found['mIoU']:.1f} after {iterations} iterations")
    return found


def imports(request: Request) -> Figures:
    rounds = 1 if request.quick else 3
    empty = _process_ms(rounds, "-c", "pass")
    package = getattr(request.driver, "PACKAGE_IMPORT", "import torch")
    found = {
        "package_ms": _process_ms(rounds, "-c", package) - empty,
        "names_ms": _process_ms(rounds, "-c", request.driver.IMPORT) - empty,
        "torch_loaded": float(_answer(f"{package}\nimport sys\nprint(int('torch' in sys.modules))")),
    }
    if hasattr(request.driver, "HELP"):
        found["help_ms"] = _process_ms(rounds, *request.driver.HELP)
    return found


def first_iteration(request: Request) -> Figures:
    """Measures the time to the first iteration; the first run of the process, with lazy imports, is separate."""
    own = _without_preflight(request)
    folders = (request.folder / str(number) for number in itertools.count())
    found = {"cold_ms": request.driver.first_iteration(next(folders), **own) * 1e3}
    found["ms"] = statistics.median(request.driver.first_iteration(next(folders), **own) for _ in range(3)) * 1e3
    if own:
        taken = (request.driver.first_iteration(next(folders), preflight=True) for _ in range(3))
        found["preflight_ms"] = statistics.median(taken) * 1e3
    return found


def config_load(request: Request) -> Figures:
    path = small_config.write_large(request.folder)
    taken = []
    for _ in range(11):
        began = time.perf_counter()
        request.driver.load_config(path)
        taken.append(time.perf_counter() - began)
    return {"ms": statistics.median(taken[1:]) * 1e3}


def saving(request: Request) -> Figures:
    """Returns the excess over the median iteration time, summed over iterations and divided by the number of saves."""
    task = request.task()
    request.driver.train(task)
    times, end, every = task.stamps.times, request.job.iterations, request.job.save_every
    steps = [times[at + 1] - times[at] for at in range(every // 2, end - 1)]
    saved = sum(1 for at in range(every // 2, end - 1) if (at + 1) % every == 0)
    return {"ms": (sum(steps) - len(steps) * statistics.median(steps)) / saved * 1e3}


def resume(request: Request) -> Figures:
    found = {}
    for name, iterations in (("ms_100", 100), ("ms_100k", request.job.iterations)):
        folder = request.folder / name
        folder.mkdir()
        ahead = Task(_with(request.job, iterations), folder, Stamps(iterations))
        checkpoint = request.driver.train_and_save(ahead)
        taken = []
        for number in range(3 if request.quick else 6):
            again = folder / str(number)
            again.mkdir()
            task = Task(_with(request.job, iterations + 10), again, Stamps(iterations + 10))
            taken.append(request.driver.resume(task, checkpoint))
        found[name] = statistics.median(taken[1:]) * 1e3
    return found


KINDS: dict[str, Callable[[Request], Figures]] = {
    each.__name__: each
    for each in (train, long, validate, segment, imports, first_iteration, config_load, saving, resume)
}


def _with(job: Job, iterations: int) -> Job:
    import dataclasses

    return dataclasses.replace(job, iterations=iterations, save_every=iterations)


def _without_preflight(request: Request) -> dict[str, bool]:
    return {"preflight": False} if request.driver.__name__.endswith(".footplate") else {}


def _process_ms(rounds: int, *arguments: str) -> float:
    taken = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:]) * 1e3


def _answer(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def versions(engine: str) -> dict[str, str]:
    """Returns the installed versions by name."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    name = _DISTRIBUTIONS.get(engine)
    if name is not None:
        found[engine] = importlib.metadata.version(name)
    return found


def answer(engine: str, request: dict[str, Any]) -> dict[str, Any]:
    """Runs one measurement.

    Returns:
        `figures` and `versions`, or `error`. With `profile` also the functions that took most of the time, limited to
        iterations if the model records them.
    """
    case = CASES[request["case"]]
    profile = cProfile.Profile() if request.get("profile") else None
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            told = {"quick": request["quick"], "began": request["began"], "profile": profile}
            asked = Request(case, engine, Path(folder), **told)
            if profile is not None and case.kind not in _STAMPED:
                profile.enable()
            figures = KINDS[case.kind](asked)
            if profile is not None:
                profile.disable()
    except Exception:
        return {"error": traceback.format_exc()}
    found: dict[str, Any] = {"figures": figures, "versions": versions(engine)}
    if profile is not None:
        found["profile"] = _largest(profile)
    return found


def _largest(profile: cProfile.Profile) -> list[str]:
    text = io.StringIO()
    pstats.Stats(profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(15)
    return [line.rstrip() for line in text.getvalue().splitlines() if line.strip()]


def main() -> None:
    """Answers requests until stdin ends."""
    engine = sys.argv[1]
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line))), file=out, flush=True)


if __name__ == "__main__":
    main()

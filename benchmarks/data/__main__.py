"""Compares the time per sample of six data pipelines in footplate, mmcv and its code bases, and other libraries.

    python -m benchmarks data [--rounds N] [--libraries NAME ...] [--page FILE]

Each library has an environment of its own in ~/.cache/footplate/data. Each round measures every pipeline of every
library once, in a process with one thread. The exit code is 1 if footplate misses a goal.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.data import images
from benchmarks.environments import ROOT, cache, make_environment
from benchmarks.tables import markdown

HOME = cache("footplate/data")
LISTS = Path(__file__).parent / "lists"
LIBRARIES = ("footplate", "mmcv", "torchvision", "albumentations", "ultralytics")
PIPELINES = {
    "segmentation": "segmentation: load, label map, RandomResize, RandomCrop with cat_max_ratio, flip, colors, pack",
    "boxes": "detection: load, boxes, Resize to 1067 x 800, flip, pack",
    "masks": "the same with 8 polygon masks",
    "classification": "classification: load, RandomResizedCrop 224, flip, pack",
    "two-views": "self-supervised: load, two views with RandomResizedCrop 224, flip and blur, pack",
    "prediction": "prediction: load, Resize to 1067 x 800, pack",
}
ALONE = "classification-with-OpenCV-alone"
GOALS = {"mmcv": 1.05, ALONE: 1.15}
_PAGE = Path(__file__).with_name("page.md")


class Worker:
    """A process that measures the pipelines of a library."""

    def __init__(self, library: str, python: Path, folder: Path) -> None:
        command = [str(python), "-m", "benchmarks.data.worker", library, str(folder)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        if library != "footplate":
            del env["PYTHONPATH"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        about: dict[str, Any] = json.loads(self._read())
        self.pipelines: list[str] = about["pipelines"]
        self.versions: dict[str, str] = about["versions"]

    def measure(self, pipeline: str, seed: int) -> float:
        """Returns the milliseconds per sample of one pass over the images."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{pipeline} {seed}\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended with status {self._process.wait()}")
        return line


def measure(workers: dict[str, Worker], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Returns the times by library and pipeline. The first round is a warm-up."""
    times: dict[str, dict[str, list[float]]] = {name: {} for name in workers}
    for seed in range(rounds + 1):
        for pipeline in (*PIPELINES, ALONE):
            for name, worker in workers.items():
                if pipeline in worker.pipelines:
                    taken = worker.measure(pipeline, seed)
                    times[name].setdefault(pipeline, []).extend([taken] if seed else [])
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Returns the median ratio of rounds."""
    return statistics.median(own / other for own, other in zip(ours, theirs, strict=True))


def write_page(times: dict[str, dict[str, list[float]]], versions: dict[str, str], rounds: int) -> str:
    """Returns the page."""

    def cell(library: str, pipeline: str) -> str:
        values = times[library].get(pipeline)
        return f"{statistics.median(values):.1f}" if values else ""

    rows = [[text, *(cell(library, name) for library in times)] for name, text in PIPELINES.items()]
    ratios = _ratios(times)
    return _PAGE.read_text(encoding="utf-8").format(
        rounds=rounds,
        count=images.COUNT,
        width=images.WIDTH,
        height=images.HEIGHT,
        table=markdown(["pipeline", *times], rows),
        alone=f"{cell('mmcv', ALONE)} ms",
        ratios=", ".join(f"{name.replace('-', ' ')} {value:.2f}" for name, (value, _) in ratios.items()),
        versions=", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        python=platform.python_version(),
        processor=_processor(),
    )


def _ratios(times: dict[str, dict[str, list[float]]]) -> dict[str, tuple[float, float]]:
    """Returns footplate's ratio and its goal for each pipeline of mmcv, and for classification with OpenCV alone."""
    ours, theirs = times["footplate"], times["mmcv"]
    found = {name: (ratio(ours[name], theirs[name]), GOALS["mmcv"]) for name in PIPELINES}
    return {**found, ALONE: (ratio(ours["classification"], theirs[ALONE]), GOALS[ALONE])}


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.partition(": ")[2].strip() for line in file if line.startswith("model name")), "")


def main() -> int:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES, metavar="NAME")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "data-pipelines.md")
    parser.add_argument("--here", action="store_true", help="use this Python instead of environments of their own")
    chosen = parser.parse_args()
    images.write(HOME / "images")
    workers = {}
    for name in chosen.libraries:
        python = Path(sys.executable) if chosen.here else make_environment(LISTS / f"{name}.txt", HOME / name)
        workers[name] = Worker(name, python, HOME / "images")
    times = measure(workers, chosen.rounds)
    versions = {package: version for worker in workers.values() for package, version in worker.versions.items()}
    for library, pipelines in times.items():
        print(library, {name: round(statistics.median(values), 1) for name, values in pipelines.items()})
    if not {"footplate", "mmcv"} <= set(workers):
        return 0
    missed = {name: value for name, (value, goal) in _ratios(times).items() if value > goal}
    if set(LIBRARIES) == set(workers):
        chosen.page.write_text(write_page(times, versions, chosen.rounds), encoding="utf-8")
    print("ratios:", {name: round(value, 3) for name, (value, _) in _ratios(times).items()})
    print(f"missed: {missed or 'none'}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
